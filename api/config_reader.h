/*
 * How the configuration's JSON file is read: tables of keys, and readers for the kinds of value
 * that several keys have. Nothing outside api/config*.c includes this.
 *
 * A table names every key that an object may have, how its value is read and where it goes; it ends
 * in END. Readers write to their FIELD only what is good; otherwise they say so at the reader's
 * path and return false, which ends the reading.
 */
#ifndef WEIR_API_CONFIG_READER_H
#define WEIR_API_CONFIG_READER_H

#include "api/config_internal.h"

#include <stddef.h>

struct config_reader {
    const char *file;
    const char *text;
    size_t bytes;
    struct config_draft *draft;
    struct config_path path;
    char **ret_error;
    bool masked; /* no message shows what a string says: it may be secret */
};

struct config_key;

/* Reads VALUE into FIELD, or says at the reader's path what was expected. */
typedef bool config_key_read(struct config_reader *reader, const struct config_key *key,
                             const json_t *value, void *field);

struct config_key {
    const char *name;
    config_key_read *read;
    size_t offset; /* of the field in what the object is read into */
    uint32_t least;
    uint32_t most;
    const char *const *words;
    const struct config_key *members; /* of an object; ends in a key without a name */
};

/* --- what went wrong; all are false --- */

bool config_reader_fail_no_memory(struct config_reader *reader);

/* Says MESSAGE about the value at the reader's path. */
bool config_reader_fail(struct config_reader *reader, const char *message);

/* "expected EXPECTED, found ..." */
bool config_reader_fail_expected(struct config_reader *reader, const char *expected,
                                 const json_t *found);

/* --- readers of one value --- */

config_key_read config_read_count;    /* a whole number, key->least to key->most: uint32_t */
config_key_read config_read_duration; /* at least key->least ms: uint64_t, in ns */
config_key_read config_read_word;     /* one of key->words: unsigned, its index */
config_key_read config_read_flag;     /* true or false: bool */
config_key_read config_read_path;     /* of a file that can be read: char *, owned */

/* --- readers of objects --- */

/* An object whose keys are key->members. */
config_key_read config_read_object;

/* Reads the entry NAME of a map; the reader's path leads to it. */
typedef bool config_entry_read(struct config_reader *reader, const char *name, const json_t *value);

/* An object whose keys are names that the user chose. */
bool config_read_map(struct config_reader *reader, const json_t *map,
                     config_entry_read *read_entry);

/* The members of "tls", and of "tls" in an upstream (config_tls.c); all go into a config_tls. */
extern const struct config_key config_tls_keys[];
config_key_read config_read_host_tls;

/* What hosts say of TLS is complete with what "tls" says for all. */
bool config_tls_settle(struct config_reader *reader);

/* "upstreams" (config_upstreams.c), */
config_key_read config_read_upstreams;

/* and, once the file is read, what they say about their hosts. */
bool config_upstreams_settle(struct config_reader *reader);

/* The members of "egress" (config_egress.c). */
extern const struct config_key config_egress_keys[];

/* --- lines of a table --- */

#define DRAFT(member) offsetof(struct config_draft, member)
#define RULE(member)  offsetof(struct config_rule, member)
#define WHOLE         0 /* members go where the object itself goes */

/* clang-format off */
#define COUNT(name, field, least, most) {name, config_read_count, field, least, most, NULL, NULL}
#define DURATION(name, field, least_ms) {name, config_read_duration, field, least_ms, 0, NULL, NULL}
#define WORD(name, field, words)        {name, config_read_word, field, 0, 0, words, NULL}
#define FLAG(name, field)               {name, config_read_flag, field, 0, 0, NULL, NULL}
#define OBJECT(name, field, members)    {name, config_read_object, field, 0, 0, NULL, members}
#define OTHER(name, read, field)        {name, read, field, 0, 0, NULL, NULL}
#define END                             {NULL, NULL, 0, 0, 0, NULL, NULL}
/* clang-format on */

#endif

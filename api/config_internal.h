/*
 * What the files of the configuration share. Nothing outside api/config*.c includes this, but for
 * the fuzzer.
 *
 *   config.c         flags and environment, and which source wins
 *   config_draft.c   the defaults, and the end product
 *   config_egress.c  "egress": entries and keys
 *   config_file.c    the JSON file: its bytes and its syntax
 *   config_keys.c    tables of its keys
 *   config_reader.c  how an object is read along such a table, and the kinds of value
 *   config_place.c   where in the text of the file a key is, for messages
 *   config_tls.c     "tls": its keys, and whether they go together
 *   config_upstreams.c  "upstreams": what they are, and what they say about their hosts
 *   config_values.c  the values that files, variables and flags have in common
 *
 * A configuration is put together in a draft, one source after the other, the strongest last.
 */
#ifndef WEIR_API_CONFIG_INTERNAL_H
#define WEIR_API_CONFIG_INTERNAL_H

#include "api/config.h"

#include <jansson.h>

#define CONFIG_FILE_BYTES_MAX (1024 * 1024)

/* Bounds are macros of bare digits, so that a message can be put together from them. */
#define CONFIG_LIMIT_MAX  1000000
#define CONFIG_QUEUE_MAX  1000000
#define CONFIG_DIGITS(x)  CONFIG_DIGITS_(x)
#define CONFIG_DIGITS_(x) #x

#define CONFIG_EXPECTED_ADDRESS \
    "an address and port such as 127.0.0.1:8080 or [::1]:8080, or unix:/path/of/a/socket"
#define CONFIG_EXPECTED_HOST \
    "a host such as api.example.com, api.example.com:8443, [::1]:8443 or *.example.org"
#define CONFIG_EXPECTED_LIMIT "a whole number from 1 to " CONFIG_DIGITS(CONFIG_LIMIT_MAX)
#define CONFIG_EXPECTED_QUEUE "a whole number from 0 to " CONFIG_DIGITS(CONFIG_QUEUE_MAX)

enum config_scope { CONFIG_SCOPE_EACH, CONFIG_SCOPE_SHARED };

/* A rule as far as it is known; what a host does not say it takes from the default rule. */
struct config_rule {
    char *name;
    uint32_t limit;
    uint32_t queue;
    uint64_t queue_timeout_ns;
    enum config_scope scope;
    bool has_limit;
    bool has_queue;
    bool has_queue_timeout;
};

/* An upstream as the file has it. */
struct config_upstream {
    char *name;
    struct origin *origin;
    char *base_path;
    struct header *fields; /* with owned strings */
    size_t field_count;
    struct config_rule rule; /* of its host, as far as it is said here; without a name */
    struct config_tls tls;
    bool has_tls;
    bool allow_private;
};

struct config_draft {
    struct config config; /* its rules are NULL until config_draft_finish() */
    struct config_rule fallback;
    struct config_rule *hosts;
    size_t host_count;
    size_t host_room;
    struct rules *names;     /* of hosts: says which are well formed, and which are there already */
    struct rules *tls_names; /* the same of "tls"; NULL: none yet */
    struct config_upstream *upstreams;
    size_t upstream_count;
    char *const *environment; /* borrowed, as environ; NULL: empty */
    bool admin_only;          /* of a file only admin.listen is looked at */
};

enum config_added {
    CONFIG_ADDED,
    CONFIG_ADD_EXISTS,
    CONFIG_ADD_BAD, /* not of the form that is expected */
    CONFIG_ADD_NO_MEMORY,
};

/* config_draft.c */

/* A draft of the defaults. NULL when out of memory. */
struct config_draft *config_draft_create(void);

/* Accepts NULL. */
void config_draft_destroy(struct config_draft *draft);

/*
 * Ends DRAFT, in every case, and makes a configuration of it; false with the reason in *ret_error
 * where its parts contradict each other.
 */
bool config_draft_finish(struct config_draft *draft, struct config **ret_config, char **ret_error);

/* Empties the list of addresses, for a stronger source to fill. */
void config_draft_clear_listen(struct config_draft *draft);

/* Adds the address TEXT. */
enum config_added config_draft_add_listen(struct config_draft *draft, const char *text,
                                          size_t bytes);

/*
 * The rule of the host NAME, whose spelling is made canonical: a new one, or the one there is
 * (CONFIG_ADD_EXISTS). DRAFT owns *ret_rule, which is good until the next call.
 */
enum config_added config_draft_add_host(struct config_draft *draft, const char *name, size_t bytes,
                                        struct config_rule **ret_rule);

/* config_egress.c */

/* Reads one entry of "egress", without the quotes. The caller frees ret_rule->name. */
enum config_added config_egress_parse(const char *text, size_t bytes,
                                      struct config_egress_rule *ret_rule);

/* Adds an entry to LIST; never CONFIG_ADD_EXISTS. */
enum config_added config_egress_add(struct config_egress_list *list, const char *text,
                                    size_t bytes);

/* Empties LIST, and all that EGRESS holds. */
void config_egress_clear(struct config_egress_list *list);
void config_egress_finish(struct config_egress *egress);

/* config_tls.c */

/* Adds SETTINGS, which are taken over, for the host NAME; in other cases they stay the caller's. */
enum config_added config_draft_add_tls(struct config_draft *draft, const char *name, size_t bytes,
                                       struct config_tls *settings);
void config_tls_finish(struct config_tls *settings);

/* config_upstreams.c */

void config_upstream_finish(struct config_upstream *upstream);

/* config_file.c */

/* Reads the file PATH into DRAFT. */
bool config_file_read(const char *path, struct config_draft *draft, char **ret_error);

/* Reads TEXT, which messages call PATH, into DRAFT. */
bool config_file_parse(const char *path, const char *text, size_t bytes, struct config_draft *draft,
                       char **ret_error);

/* config_keys.c */

/* Reads ROOT, which was read from TEXT, into DRAFT. */
bool config_keys_read(const char *file, const char *text, size_t bytes, const json_t *root,
                      struct config_draft *draft, char **ret_error);

/* config_place.c */

#define CONFIG_PATH_SHOWN_MAX 200 /* of a path in a message */

/*
 * The way from the root of a JSON document to a value, as messages write it: `limits.default`,
 * `listen[1]`, `limits.hosts."api.example.com".limit`. No two ways are written alike. All zero is
 * the root; config_path_finish() ends it.
 */
struct config_path {
    char *text; /* NULL before the first step */
    size_t bytes;
    size_t room;
};

/* One step down; false when out of memory. */
bool config_path_push_key(struct config_path *path, const char *key);
bool config_path_push_index(struct config_path *path, size_t index);

/* Back up to where the path was BYTES long. */
void config_path_cut(struct config_path *path, size_t bytes);

void config_path_finish(struct config_path *path);

/* The line, from 1, on which the value at PATH (its key, where it has one) is in the JSON TEXT. */
size_t config_place_line(const char *text, size_t bytes, const char *path);

/*
 * The path to the value that the first OFFSET bytes of TEXT end in. They are JSON as far as they
 * go. Empty where it cannot be told.
 */
void config_place_path(const char *text, size_t offset, struct config_path *ret_path);

/* config_values.c */

/* Writes a message to *ret_error, without control characters; always false. */
bool config_fail(char **ret_error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* TEXT in quotes, as a message shows what was found: no longer than a line bears. */
#define CONFIG_QUOTED_MAX 96
const char *config_quote(const char *text, size_t bytes, char buffer[CONFIG_QUOTED_MAX]);

/* The value of NAME in ENVIRONMENT, or NULL; one that is empty counts as not set. */
const char *config_variable(char *const environment[], const char *name);

/* Digits only, LEAST to MOST. */
bool config_parse_count(const char *text, size_t bytes, uint32_t least, uint32_t most,
                        uint32_t *ret_count);

/* The index of TEXT in WORDS, which end in NULL. */
bool config_parse_word(const char *text, size_t bytes, const char *const words[],
                       unsigned *ret_index);

/*
 * A file mode as chmod(1) takes it, without execute bits: "0660", "600".
 */
bool config_parse_mode(const char *text, size_t bytes, uint32_t *ret_mode);

/*
 * A numeric address with its port, or unix: and an absolute path. *ret_listen is ended with
 * config_listen_finish().
 */
enum config_added config_parse_listen(const char *text, size_t bytes,
                                      struct config_listen *ret_listen);
void config_listen_finish(struct config_listen *listen);

/*
 * A host as limiter/rules.h has it: lower case, no port 80 or 443, no dot at the end, an IPv6
 * address in its shortest form. Whether it is well formed is for rules_add() to say. False where
 * it cannot be a host at all.
 */
bool config_parse_host(const char *text, size_t bytes, char ret_host[RULES_HOST_MAX]);

extern const char *const config_log_words[];   /* enum config_log */
extern const char *const config_level_words[]; /* enum config_level */

#endif

/*
 * The keys of the configuration's JSON file.
 *
 * The tables below name every key there is, how it is read, and where its value goes in the draft:
 * a new key is one line. `read_object` walks a JSON object along its table, the path to the current
 * value is kept on the way, and only a message about it looks for its line in the text
 * (config_place.c). The first thing that is wrong ends the reading.
 */
#include "api/config_internal.h"

#include "api/duration.h"

#include <assert.h>
#include <jansson.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct reader {
    const char *file;
    const char *text;
    size_t bytes;
    struct config_draft *draft;
    struct config_path path;
    char **ret_error;
};

struct key;

/* Reads VALUE into FIELD, or says at the reader's path what was expected. */
typedef bool key_read(struct reader *reader, const struct key *key, const json_t *value,
                      void *field);

struct key {
    const char *name;
    key_read *read;
    size_t offset; /* of the field in what the object is read into */
    uint32_t least;
    uint32_t most;
    const char *const *words;
    const struct key *members; /* of an object; ends in a key without a name */
};

static key_read read_count, read_duration, read_word, read_status, read_path, read_address,
    read_addresses, read_object, read_hosts;

#define DRAFT(member) offsetof(struct config_draft, member)
#define RULE(member)  offsetof(struct config_rule, member)
#define WHOLE         0 /* members go where the object itself goes */

/* clang-format off */
#define COUNT(name, field, least, most) {name, read_count, field, least, most, NULL, NULL}
#define DURATION(name, field, least_ms) {name, read_duration, field, least_ms, 0, NULL, NULL}
#define WORD(name, field, words)        {name, read_word, field, 0, 0, words, NULL}
#define OBJECT(name, field, members)    {name, read_object, field, 0, 0, NULL, members}
#define OTHER(name, read, field)        {name, read, field, 0, 0, NULL, NULL}
#define END                             {NULL, NULL, 0, 0, 0, NULL, NULL}

static const char *const scope_words[] = {
    [CONFIG_SCOPE_EACH] = "each", [CONFIG_SCOPE_SHARED] = "shared", NULL};

static const struct key default_keys[] = {
    COUNT("limit", RULE(limit), 1, CONFIG_LIMIT_MAX),
    COUNT("queue", RULE(queue), 0, CONFIG_QUEUE_MAX),
    DURATION("queue_timeout", RULE(queue_timeout_ns), 0),
    END,
};

static const struct key host_keys[] = {
    COUNT("limit", RULE(limit), 1, CONFIG_LIMIT_MAX),
    COUNT("queue", RULE(queue), 0, CONFIG_QUEUE_MAX),
    DURATION("queue_timeout", RULE(queue_timeout_ns), 0),
    WORD("scope", RULE(scope), scope_words),
    END,
};

static const struct key total_keys[] = {
    COUNT("limit", DRAFT(config.bounds.limit), 1, CONFIG_LIMIT_MAX),
    COUNT("queue", DRAFT(config.bounds.queue), 0, CONFIG_QUEUE_MAX),
    END,
};

static const struct key limits_keys[] = {
    OBJECT("default", DRAFT(fallback), default_keys),
    OBJECT("total", WHOLE, total_keys),
    OTHER("hosts", read_hosts, WHOLE),
    COUNT("hosts_max", DRAFT(config.bounds.hosts_max), 1, 1000000),
    END,
};

static const struct key admin_keys[] = {
    OTHER("listen", read_address, DRAFT(config.admin_listen)),
    END,
};

/* A bound of 0 would end what it bounds before it begins, where it does not say "unbounded". */
static const struct key timeouts_keys[] = {
    DURATION("head", DRAFT(config.timeouts.head_ns), 1),
    DURATION("keepalive", DRAFT(config.timeouts.keepalive_ns), 1),
    DURATION("connect", DRAFT(config.timeouts.connect_ns), 1),
    DURATION("first_byte", DRAFT(config.timeouts.first_byte_ns), 1),
    DURATION("upstream_idle", DRAFT(config.timeouts.upstream_idle_ns), 1),
    DURATION("client_idle", DRAFT(config.timeouts.client_idle_ns), 1),
    DURATION("fetch", DRAFT(config.timeouts.fetch_ns), 0),
    DURATION("upstream_keepalive", DRAFT(config.timeouts.upstream_keepalive_ns), 1),
    DURATION("drain", DRAFT(config.timeouts.drain_ns), 0),
    END,
};

static const struct key log_keys[] = {
    WORD("access", DRAFT(config.access_log), config_log_words),
    WORD("level", DRAFT(config.level), config_level_words),
    END,
};

static const struct key tls_keys[] = {
    OTHER("ca_file", read_path, DRAFT(config.ca_file)),
    END,
};

static const struct key root_keys[] = {
    OTHER("listen", read_addresses, WHOLE),
    OBJECT("admin", WHOLE, admin_keys),
    OBJECT("limits", WHOLE, limits_keys),
    OTHER("overflow_status", read_status, DRAFT(config.overflow_status)),
    COUNT("connections", DRAFT(config.connections_max), 1, 1000000),
    COUNT("header_bytes", DRAFT(config.header_bytes), 4096, 65536),
    OBJECT("timeouts", WHOLE, timeouts_keys),
    OBJECT("log", WHOLE, log_keys),
    OBJECT("tls", WHOLE, tls_keys),
    END,
};

static const struct key whole = OBJECT("", WHOLE, root_keys);
static const struct key host_entry = OBJECT("", WHOLE, host_keys);
/* clang-format on */

_Static_assert(sizeof(enum config_log) == sizeof(unsigned), "read_word writes an unsigned");
_Static_assert(sizeof(enum config_level) == sizeof(unsigned), "read_word writes an unsigned");
_Static_assert(sizeof(enum config_scope) == sizeof(unsigned), "read_word writes an unsigned");

static bool fail_no_memory(struct reader *reader)
{
    return config_fail(reader->ret_error, "%s: out of memory", reader->file);
}

/* Says MESSAGE about the value at the reader's path. */
static bool fail(struct reader *reader, const char *message)
{
    const char *path = reader->path.bytes > 0 ? reader->path.text : "";
    size_t line = config_place_line(reader->text, reader->bytes, path);
    size_t shown = reader->path.bytes;
    const char *more = "";
    if (shown > CONFIG_PATH_SHOWN_MAX) {
        more = "...";
        for (shown = CONFIG_PATH_SHOWN_MAX; ((unsigned char)path[shown] & 0xc0) == 0x80;) {
            shown--;
        }
    }
    return config_fail(reader->ret_error, "%s:%zu: %.*s%s%s%s", reader->file, line, (int)shown,
                       path, more, shown > 0 ? ": " : "", message);
}

/* What VALUE is, as a message shows it. */
static const char *show(const json_t *value, char buffer[CONFIG_QUOTED_MAX])
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return json_array_size(value) > 0 ? "an array" : "an empty array";
    case JSON_STRING:
        return config_quote(json_string_value(value), json_string_length(value), buffer);
    case JSON_INTEGER:
        snprintf(buffer, CONFIG_QUOTED_MAX, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return buffer;
    case JSON_REAL:
        snprintf(buffer, CONFIG_QUOTED_MAX, "%g", json_real_value(value));
        return buffer;
    case JSON_TRUE:
        return "true";
    case JSON_FALSE:
        return "false";
    case JSON_NULL:
        return "null";
    }
    return "something else";
}

static bool fail_expected(struct reader *reader, const char *expected, const json_t *found)
{
    char buffer[CONFIG_QUOTED_MAX];
    char message[512];
    snprintf(message, sizeof message, "expected %s, found %s", expected, show(found, buffer));
    return fail(reader, message);
}

static bool read_count(struct reader *reader, const struct key *key, const json_t *value,
                       void *field)
{
    json_int_t count = json_integer_value(value);
    if (!json_is_integer(value) || count < key->least || count > key->most) {
        char expected[64];
        snprintf(expected, sizeof expected, "a whole number from %u to %u", key->least, key->most);
        return fail_expected(reader, expected, value);
    }
    *(uint32_t *)field = (uint32_t)count;
    return true;
}

static bool read_duration(struct reader *reader, const struct key *key, const json_t *value,
                          void *field)
{
    /* Without quotes 0 is as clear as with them. */
    bool zero = json_is_integer(value) && json_integer_value(value) == 0;
    uint64_t ns = 0;
    bool good = zero || (json_is_string(value) &&
                         duration_parse(json_string_value(value), json_string_length(value), &ns));
    if (!good || ns < key->least * DURATION_MS) {
        return fail_expected(reader,
                             key->least > 0
                                 ? "a duration above 0 such as \"250ms\", \"5s\", \"2m\" or \"1h\""
                                 : "a duration such as \"250ms\", \"5s\", \"2m\" or \"1h\", or 0",
                             value);
    }
    *(uint64_t *)field = ns;
    return true;
}

static bool read_word(struct reader *reader, const struct key *key, const json_t *value,
                      void *field)
{
    unsigned word;
    if (json_is_string(value) &&
        config_parse_word(json_string_value(value), json_string_length(value), key->words, &word)) {
        *(unsigned *)field = word;
        return true;
    }
    char expected[128] = "";
    size_t used = 0;
    for (size_t i = 0; key->words[i] != NULL; i++) {
        const char *before = i == 0 ? "" : key->words[i + 1] != NULL ? ", " : " or ";
        int bytes =
            snprintf(expected + used, sizeof expected - used, "%s\"%s\"", before, key->words[i]);
        used += (size_t)bytes;
        assert(used < sizeof expected);
    }
    return fail_expected(reader, expected, value);
}

static bool read_status(struct reader *reader, const struct key *key, const json_t *value,
                        void *field)
{
    (void)key;
    json_int_t status = json_integer_value(value);
    if (status != 429 && status != 503) {
        return fail_expected(reader, "503 or 429", value);
    }
    *(unsigned *)field = (unsigned)status;
    return true;
}

/* A file that is needed later is better missed now. */
static bool read_path(struct reader *reader, const struct key *key, const json_t *value,
                      void *field)
{
    (void)key;
    struct stat status;
    const char *path = json_is_string(value) ? json_string_value(value) : "";
    if (stat(path, &status) != 0 || S_ISDIR(status.st_mode) || access(path, R_OK) != 0) {
        return fail_expected(reader, "the path of a file that can be read", value);
    }
    char *copy = strdup(path);
    if (copy == NULL) {
        return fail_no_memory(reader);
    }
    free(*(char **)field);
    *(char **)field = copy;
    return true;
}

static bool read_address(struct reader *reader, const struct key *key, const json_t *value,
                         void *field)
{
    (void)key;
    struct config_listen listen;
    enum config_added added = CONFIG_ADD_BAD;
    if (json_is_string(value)) {
        added = config_parse_listen(json_string_value(value), json_string_length(value), &listen);
    }
    if (added == CONFIG_ADD_NO_MEMORY) {
        return fail_no_memory(reader);
    }
    if (added != CONFIG_ADDED) {
        return fail_expected(reader, CONFIG_EXPECTED_ADDRESS, value);
    }
    config_listen_finish(field);
    *(struct config_listen *)field = listen;
    return true;
}

static bool add_address(struct reader *reader, const json_t *value, const char *expected)
{
    enum config_added added = CONFIG_ADD_BAD;
    if (json_is_string(value)) {
        added = config_draft_add_listen(reader->draft, json_string_value(value),
                                        json_string_length(value));
    }
    switch (added) {
    case CONFIG_ADDED:
        return true;
    case CONFIG_ADD_EXISTS:
        return fail_expected(reader, "each address once", value);
    case CONFIG_ADD_NO_MEMORY:
        return fail_no_memory(reader);
    case CONFIG_ADD_BAD:
        break;
    }
    return fail_expected(reader, expected, value);
}

static bool read_addresses(struct reader *reader, const struct key *key, const json_t *value,
                           void *field)
{
    (void)key;
    (void)field;
    config_draft_clear_listen(reader->draft);
    if (json_array_size(value) == 0) {
        return add_address(reader, value, CONFIG_EXPECTED_ADDRESS ", or an array of them");
    }
    size_t before = reader->path.bytes;
    size_t index;
    const json_t *address;
    json_array_foreach(value, index, address)
    {
        if (!config_path_push_index(&reader->path, index)) {
            return fail_no_memory(reader);
        }
        if (!add_address(reader, address, CONFIG_EXPECTED_ADDRESS)) {
            return false;
        }
        config_path_cut(&reader->path, before);
    }
    return true;
}

static bool fail_unknown(struct reader *reader, const struct key *keys)
{
    char message[512];
    int bytes = snprintf(message, sizeof message, "unknown key, expected one of");
    size_t used = (size_t)bytes;
    for (; keys->name != NULL; keys++) {
        bytes = snprintf(message + used, sizeof message - used, " %s%s", keys->name,
                         keys[1].name != NULL ? "," : "");
        used += (size_t)bytes;
        assert(used < sizeof message);
    }
    return fail(reader, message);
}

static bool read_object(struct reader *reader, const struct key *key, const json_t *value,
                        void *field)
{
    if (!json_is_object(value)) {
        return fail_expected(reader, "an object", value);
    }
    size_t before = reader->path.bytes;
    const char *name;
    json_t *member;
    json_object_foreach((json_t *)value, name, member)
    {
        const struct key *known = key->members;
        while (known->name != NULL && strcmp(known->name, name) != 0) {
            known++;
        }
        if (!config_path_push_key(&reader->path, name)) {
            return fail_no_memory(reader);
        }
        if (known->name == NULL) {
            return fail_unknown(reader, key->members);
        }
        if (!known->read(reader, known, member, (char *)field + known->offset)) {
            return false;
        }
        config_path_cut(&reader->path, before);
    }
    return true;
}

/* One entry of limits.hosts. */
static bool read_host(struct reader *reader, const char *name, const json_t *value)
{
    struct config_rule *rule;
    char buffer[CONFIG_QUOTED_MAX];
    char message[256];
    switch (config_draft_add_host(reader->draft, name, strlen(name), &rule)) {
    case CONFIG_ADDED:
        break;
    case CONFIG_ADD_EXISTS:
        snprintf(message, sizeof message, "expected each host once, found %s again",
                 config_quote(rule->name, strlen(rule->name), buffer));
        return fail(reader, message);
    case CONFIG_ADD_BAD:
        return fail(reader, "expected " CONFIG_EXPECTED_HOST);
    case CONFIG_ADD_NO_MEMORY:
        return fail_no_memory(reader);
    }
    if (!read_object(reader, &host_entry, value, rule)) {
        return false;
    }
    rule->has_limit = json_object_get(value, "limit") != NULL;
    rule->has_queue = json_object_get(value, "queue") != NULL;
    rule->has_queue_timeout = json_object_get(value, "queue_timeout") != NULL;
    if (json_object_get(value, "scope") != NULL && rule->name[0] != '*') {
        if (!config_path_push_key(&reader->path, "scope")) {
            return fail_no_memory(reader);
        }
        return fail(reader, "expected only with a pattern such as *.example.org");
    }
    return true;
}

static bool read_hosts(struct reader *reader, const struct key *key, const json_t *value,
                       void *field)
{
    (void)key;
    (void)field;
    if (!json_is_object(value)) {
        return fail_expected(reader, "an object", value);
    }
    size_t before = reader->path.bytes;
    const char *name;
    json_t *host;
    json_object_foreach((json_t *)value, name, host)
    {
        if (!config_path_push_key(&reader->path, name)) {
            return fail_no_memory(reader);
        }
        if (!read_host(reader, name, host)) {
            return false;
        }
        config_path_cut(&reader->path, before);
    }
    return true;
}

bool config_keys_read(const char *file, const char *text, size_t bytes, const json_t *root,
                      struct config_draft *draft, char **ret_error)
{
    assert(file != NULL && text != NULL && root != NULL && draft != NULL);

    struct reader reader = {
        .file = file, .text = text, .bytes = bytes, .draft = draft, .ret_error = ret_error};
    bool good = read_object(&reader, &whole, root, draft);
    config_path_finish(&reader.path);
    return good;
}

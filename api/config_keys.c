/*
 * The keys of the configuration's JSON file.
 *
 * The tables below name every key there is, how it is read, and where its value goes in the draft:
 * a new key is one line. config_reader.c walks a JSON object along its table. The first thing that
 * is wrong ends the reading.
 */
#include "api/config_reader.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static config_key_read read_status, read_mode, read_file_name, read_address, read_addresses,
    read_hosts;

/* clang-format off */
static const char *const scope_words[] = {
    [CONFIG_SCOPE_EACH] = "each", [CONFIG_SCOPE_SHARED] = "shared", NULL};

static const struct config_key default_keys[] = {
    COUNT("limit", RULE(limit), 1, CONFIG_LIMIT_MAX),
    COUNT("queue", RULE(queue), 0, CONFIG_QUEUE_MAX),
    DURATION("queue_timeout", RULE(queue_timeout_ns), 0),
    END,
};

static const struct config_key host_keys[] = {
    COUNT("limit", RULE(limit), 1, CONFIG_LIMIT_MAX),
    COUNT("queue", RULE(queue), 0, CONFIG_QUEUE_MAX),
    DURATION("queue_timeout", RULE(queue_timeout_ns), 0),
    WORD("scope", RULE(scope), scope_words),
    END,
};

static const struct config_key total_keys[] = {
    COUNT("limit", DRAFT(config.bounds.limit), 1, CONFIG_LIMIT_MAX),
    COUNT("queue", DRAFT(config.bounds.queue), 0, CONFIG_QUEUE_MAX),
    END,
};

static const struct config_key limits_keys[] = {
    OBJECT("default", DRAFT(fallback), default_keys),
    OBJECT("total", WHOLE, total_keys),
    OTHER("hosts", read_hosts, WHOLE),
    COUNT("hosts_max", DRAFT(config.bounds.hosts_max), 1, 1000000),
    END,
};

static const struct config_key admin_keys[] = {
    OTHER("listen", read_address, DRAFT(config.admin_listen)),
    OTHER("socket_mode", read_mode, DRAFT(config.admin_socket_mode)),
    END,
};

static const struct config_key auth_admin_keys[] = {
    OTHER("read", read_file_name, DRAFT(config.auth.admin_read)),
    OTHER("operate", read_file_name, DRAFT(config.auth.admin_operate)),
    END,
};

static const struct config_key auth_keys[] = {
    OTHER("clients", read_file_name, DRAFT(config.auth.clients)),
    OBJECT("admin", WHOLE, auth_admin_keys),
    END,
};

/* A bound of 0 would end what it bounds before it begins, where it does not say "unbounded". */
static const struct config_key timeouts_keys[] = {
    DURATION("head", DRAFT(config.timeouts.head_ns), 1),
    DURATION("keepalive", DRAFT(config.timeouts.keepalive_ns), 1),
    DURATION("connect", DRAFT(config.timeouts.connect_ns), 1),
    DURATION("first_byte", DRAFT(config.timeouts.first_byte_ns), 1),
    DURATION("upstream_idle", DRAFT(config.timeouts.upstream_idle_ns), 1),
    DURATION("client_idle", DRAFT(config.timeouts.client_idle_ns), 1),
    DURATION("fetch", DRAFT(config.timeouts.fetch_ns), 0),
    DURATION("upstream_keepalive", DRAFT(config.timeouts.upstream_keepalive_ns), 1),
    DURATION("drain", DRAFT(config.timeouts.drain_ns), 0),
    DURATION("tunnel_idle", DRAFT(config.timeouts.tunnel_idle_ns), 1),
    DURATION("tunnel_max_age", DRAFT(config.timeouts.tunnel_max_age_ns), 0),
    DURATION("tunnel_idle_contended", DRAFT(config.timeouts.tunnel_idle_contended_ns), 1),
    END,
};

static const struct config_key log_keys[] = {
    WORD("access", DRAFT(config.access_log), config_log_words),
    WORD("level", DRAFT(config.level), config_level_words),
    END,
};

static const struct config_key root_keys[] = {
    OTHER("listen", read_addresses, WHOLE),
    OTHER("socket_mode", read_mode, DRAFT(config.socket_mode)),
    OBJECT("admin", WHOLE, admin_keys),
    OBJECT("auth", WHOLE, auth_keys),
    OBJECT("limits", WHOLE, limits_keys),
    OBJECT("egress", WHOLE, config_egress_keys),
    OTHER("overflow_status", read_status, DRAFT(config.overflow_status)),
    COUNT("connections", DRAFT(config.connections_max), 1, 1000000),
    COUNT("connections_per_client", DRAFT(config.connections_per_client), 1, 1000000),
    COUNT("buffer_bytes", DRAFT(config.buffer_bytes), 1048576, UINT32_MAX),
    COUNT("header_bytes", DRAFT(config.header_bytes), 4096, 65536),
    OBJECT("timeouts", WHOLE, timeouts_keys),
    OBJECT("log", WHOLE, log_keys),
    OBJECT("tls", DRAFT(config.tls), config_tls_keys),
    OTHER("upstreams", config_read_upstreams, WHOLE),
    END,
};

static const struct config_key whole = OBJECT("", WHOLE, root_keys);
static const struct config_key host_entry = OBJECT("", WHOLE, host_keys);
/* clang-format on */

_Static_assert(sizeof(enum config_log) == sizeof(unsigned), "config_read_word writes an unsigned");
_Static_assert(sizeof(enum config_level) == sizeof(unsigned),
               "config_read_word writes an unsigned");
_Static_assert(sizeof(enum config_scope) == sizeof(unsigned),
               "config_read_word writes an unsigned");

static bool read_status(struct config_reader *reader, const struct config_key *key,
                        const json_t *value, void *field)
{
    (void)key;
    json_int_t status = json_integer_value(value);
    if (status != 429 && status != 503) {
        return config_reader_fail_expected(reader, "503 or 429", value);
    }
    *(unsigned *)field = (unsigned)status;
    return true;
}

static bool read_mode(struct config_reader *reader, const struct config_key *key,
                      const json_t *value, void *field)
{
    (void)key;
    return (json_is_string(value) &&
            config_parse_mode(json_string_value(value), json_string_length(value), field)) ||
           config_reader_fail_expected(
               reader, "the mode of a file as text, in octal and not executable, such as \"0660\"",
               value);
}

/* A file that is read, and complained about, later. */
static bool read_file_name(struct config_reader *reader, const struct config_key *key,
                           const json_t *value, void *field)
{
    (void)key;
    if (!json_is_string(value) || json_string_length(value) == 0 ||
        strlen(json_string_value(value)) != json_string_length(value)) {
        return config_reader_fail_expected(reader, "the path of a file", value);
    }
    char *copy = strdup(json_string_value(value));
    if (copy == NULL) {
        return config_reader_fail_no_memory(reader);
    }
    free(*(char **)field);
    *(char **)field = copy;
    return true;
}

static bool read_address(struct config_reader *reader, const struct config_key *key,
                         const json_t *value, void *field)
{
    (void)key;
    struct config_listen listen;
    enum config_added added = CONFIG_ADD_BAD;
    if (json_is_string(value)) {
        added = config_parse_listen(json_string_value(value), json_string_length(value), &listen);
    }
    if (added == CONFIG_ADD_NO_MEMORY) {
        return config_reader_fail_no_memory(reader);
    }
    if (added != CONFIG_ADDED) {
        return config_reader_fail_expected(reader, CONFIG_EXPECTED_ADDRESS, value);
    }
    config_listen_finish(field);
    *(struct config_listen *)field = listen;
    return true;
}

static bool add_address(struct config_reader *reader, const json_t *value, const char *expected)
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
        return config_reader_fail_expected(reader, "each address once", value);
    case CONFIG_ADD_NO_MEMORY:
        return config_reader_fail_no_memory(reader);
    case CONFIG_ADD_BAD:
        break;
    }
    return config_reader_fail_expected(reader, expected, value);
}

static bool read_addresses(struct config_reader *reader, const struct config_key *key,
                           const json_t *value, void *field)
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
            return config_reader_fail_no_memory(reader);
        }
        if (!add_address(reader, address, CONFIG_EXPECTED_ADDRESS)) {
            return false;
        }
        config_path_cut(&reader->path, before);
    }
    return true;
}

/* One entry of limits.hosts. */
static bool read_host(struct config_reader *reader, const char *name, const json_t *value)
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
        return config_reader_fail(reader, message);
    case CONFIG_ADD_BAD:
        return config_reader_fail(reader, "expected " CONFIG_EXPECTED_HOST);
    case CONFIG_ADD_NO_MEMORY:
        return config_reader_fail_no_memory(reader);
    }
    if (!config_read_object(reader, &host_entry, value, rule)) {
        return false;
    }
    rule->has_limit = json_object_get(value, "limit") != NULL;
    rule->has_queue = json_object_get(value, "queue") != NULL;
    rule->has_queue_timeout = json_object_get(value, "queue_timeout") != NULL;
    if (json_object_get(value, "scope") != NULL && rule->name[0] != '*') {
        if (!config_path_push_key(&reader->path, "scope")) {
            return config_reader_fail_no_memory(reader);
        }
        return config_reader_fail(reader, "expected only with a pattern such as *.example.org");
    }
    return true;
}

static bool read_hosts(struct config_reader *reader, const struct config_key *key,
                       const json_t *value, void *field)
{
    (void)key;
    (void)field;
    return config_read_map(reader, value, read_host);
}

/* Whatever else ROOT says: a question to a running service needs no more, and may see no more. */
static bool read_admin_only(struct config_reader *reader, const json_t *root)
{
    const json_t *value = json_object_get(json_object_get(root, "admin"), "listen");
    if (value == NULL) {
        return true;
    }
    if (!config_path_push_key(&reader->path, "admin") ||
        !config_path_push_key(&reader->path, "listen")) {
        return config_reader_fail_no_memory(reader);
    }
    return read_address(reader, NULL, value, &reader->draft->config.admin_listen);
}

bool config_keys_read(const char *file, const char *text, size_t bytes, const json_t *root,
                      struct config_draft *draft, char **ret_error)
{
    assert(file != NULL && text != NULL && root != NULL && draft != NULL);

    struct config_reader reader = {
        .file = file, .text = text, .bytes = bytes, .draft = draft, .ret_error = ret_error};
    bool good = draft->admin_only
                    ? read_admin_only(&reader, root)
                    : config_read_object(&reader, &whole, root, draft) &&
                          config_upstreams_settle(&reader) && config_tls_settle(&reader);
    config_path_finish(&reader.path);
    return good;
}

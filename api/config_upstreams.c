/*
 * "upstreams": named routes. What they say about their hosts is settled once the whole file is
 * read:
 *
 *   - "limit", "queue" and "queue_timeout" are the rule of the upstream's host, as if limits.hosts
 *     had them. A host has one budget, whichever way a request comes, so what two upstreams of one
 *     host say, or an upstream and limits.hosts, must not differ.
 *   - "tls" is the same for tls.hosts.
 *
 * Values of header fields and URLs may hold secrets: no message shows them.
 */
#include "api/config_reader.h"
#include "api/file.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UPSTREAM(member) offsetof(struct config_upstream, member)
#define VALUE_BYTES_MAX  8192

#define EXPECTED_NAME "a name of a to z, 0 to 9, \"-\" and \"_\", at most 63 long"
#define EXPECTED_VALUE \
    "a string, or an object with \"file\" or \"env\", and \"prefix\" where there is one"

/* Where the value of a field comes from. */
struct source {
    char *file;
    char *variable;
    char *prefix;
};

static config_key_read read_url, read_fields, read_text;

/* clang-format off */
static const struct config_key upstream_keys[] = {
    OTHER("url", read_url, WHOLE),
    COUNT("limit", UPSTREAM(rule.limit), 1, CONFIG_LIMIT_MAX),
    COUNT("queue", UPSTREAM(rule.queue), 0, CONFIG_QUEUE_MAX),
    DURATION("queue_timeout", UPSTREAM(rule.queue_timeout_ns), 0),
    OTHER("headers", read_fields, WHOLE),
    OTHER("tls", config_read_host_tls, UPSTREAM(tls)),
    FLAG("allow_private", UPSTREAM(allow_private)),
    END,
};

static const struct config_key source_keys[] = {
    OTHER("file", read_text, offsetof(struct source, file)),
    OTHER("env", read_text, offsetof(struct source, variable)),
    OTHER("prefix", read_text, offsetof(struct source, prefix)),
    END,
};

static const struct config_key upstream_entry = OBJECT("", WHOLE, upstream_keys);
static const struct config_key source_entry = OBJECT("", WHOLE, source_keys);
/* clang-format on */

void config_upstream_finish(struct config_upstream *upstream)
{
    for (size_t i = 0; i < upstream->field_count; i++) {
        free((char *)upstream->fields[i].name);
        free((char *)upstream->fields[i].value);
    }
    free(upstream->fields);
    free(upstream->name);
    free(upstream->base_path);
    origin_release(upstream->origin);
    config_tls_finish(&upstream->tls);
    *upstream = (struct config_upstream){0};
}

/* Says MESSAGE about the member NAME of the value at the reader's path. */
static bool fail_member(struct config_reader *reader, const char *name, const char *message)
{
    return config_path_push_key(&reader->path, name) ? config_reader_fail(reader, message)
                                                     : config_reader_fail_no_memory(reader);
}

/* --- the URL --- */

/* Why PATH cannot be a base path, or NULL. */
static const char *check_base_path(const char *path)
{
    for (const char *c = path; *c != '\0'; c++) {
        if (*c == '?') {
            return "expected a URL without a query: the request's own goes behind the path";
        }
        if (*c == '#') {
            return "expected a URL without a fragment";
        }
        if ((unsigned char)*c <= 0x20 || *c == 0x7f) {
            return "expected a URL without spaces and control characters";
        }
    }
    return NULL;
}

static bool read_url(struct config_reader *reader, const struct config_key *key,
                     const json_t *value, void *field)
{
    (void)key;
    struct config_upstream *upstream = field;
    const char *url = json_is_string(value) ? json_string_value(value) : "";
    const char *authority = strstr(url, "://");
    if (authority == NULL) {
        return config_reader_fail(reader, "expected a URL that begins with http:// or https://");
    }
    size_t origin_bytes = (size_t)(authority + 3 - url) + strcspn(authority + 3, "/?#");
    const char *detail = check_base_path(url + origin_bytes);
    if (detail != NULL) {
        return config_reader_fail(reader, detail);
    }
    struct origin_cache *origins = origin_cache_create(0);
    if (origins == NULL) {
        return config_reader_fail_no_memory(reader);
    }
    upstream->origin = origin_parse(origins, url, origin_bytes, &detail);
    origin_cache_destroy(origins);
    if (upstream->origin == NULL) {
        return detail != NULL ? config_reader_fail(reader, detail)
                              : config_reader_fail_no_memory(reader);
    }
    upstream->base_path = strdup(url + origin_bytes);
    return upstream->base_path != NULL || config_reader_fail_no_memory(reader);
}

/* --- header fields --- */

static bool read_text(struct config_reader *reader, const struct config_key *key,
                      const json_t *value, void *field)
{
    (void)key;
    char **text = field;
    if (!json_is_string(value) || json_string_length(value) == 0) {
        return config_reader_fail(reader, "expected a string that is not empty");
    }
    *text = strdup(json_string_value(value));
    return *text != NULL || config_reader_fail_no_memory(reader);
}

/* Cuts the line end off FILE, which must be one line. NULL: good, otherwise the reason. */
static const char *cut_line(struct file *file)
{
    size_t bytes = file->count;
    if (bytes > 0 && file->bytes[bytes - 1] == '\n') { /* editors leave it */
        bytes -= bytes > 1 && file->bytes[bytes - 2] == '\r' ? 2 : 1;
    }
    file->bytes[bytes] = '\0';
    if (strlen(file->bytes) != bytes) {
        return "expected one line without control characters";
    }
    return bytes > 0 ? NULL : "expected one line, found none";
}

static bool is_variable_name(const char *name)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_";
    return strchr(letters, name[0]) != NULL &&
           name[strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789")] ==
               '\0';
}

/* Says REASON about what the member KEY names, WHAT. */
static bool fail_source(struct config_reader *reader, const char *key, const char *what,
                        const char *reason)
{
    char message[512];
    snprintf(message, sizeof message, "%.300s: %s", what, reason);
    return fail_member(reader, key, message);
}

/* PREFIX, which may be NULL, and VALUE in *ret_value, for the caller to free. */
static bool put_together(struct config_reader *reader, const char *prefix, const char *value,
                         char **ret_value)
{
    return asprintf(ret_value, "%s%s", prefix != NULL ? prefix : "", value) >= 0 ||
           config_reader_fail_no_memory(reader);
}

static bool follow_file(struct config_reader *reader, const struct source *source, char **ret_value)
{
    struct file file;
    char reason[FILE_REASON_MAX];
    if (!file_read(source->file, VALUE_BYTES_MAX, &file, reason)) {
        return fail_source(reader, "file", source->file, reason);
    }
    const char *defect = cut_line(&file);
    bool good = defect == NULL ? put_together(reader, source->prefix, file.bytes, ret_value)
                               : fail_source(reader, "file", source->file, defect);
    file_finish(&file);
    return good;
}

static bool follow_variable(struct config_reader *reader, const struct source *source,
                            char **ret_value)
{
    if (!is_variable_name(source->variable)) {
        return fail_member(reader, "env", "expected the name of an environment variable");
    }
    const char *value = config_variable(reader->draft->environment, source->variable);
    return value != NULL ? put_together(reader, source->prefix, value, ret_value)
                         : fail_source(reader, "env", source->variable, "the variable is not set");
}

/* What SOURCE says now, with its prefix, in *ret_value, for the caller to free. */
static bool follow_source(struct config_reader *reader, const struct source *source,
                          char **ret_value)
{
    if ((source->file != NULL) == (source->variable != NULL)) {
        return config_reader_fail(reader, "expected either \"file\" or \"env\"");
    }
    return source->file != NULL ? follow_file(reader, source, ret_value)
                                : follow_variable(reader, source, ret_value);
}

/* The value of a field as VALUE has it, for the caller to free. */
static bool read_value(struct config_reader *reader, const json_t *value, char **ret_value)
{
    if (json_is_string(value)) {
        *ret_value = strdup(json_string_value(value));
        return *ret_value != NULL || config_reader_fail_no_memory(reader);
    }
    if (!json_is_object(value)) {
        return config_reader_fail(reader, "expected " EXPECTED_VALUE);
    }
    struct source source = {0};
    bool good = config_read_object(reader, &source_entry, value, &source) &&
                follow_source(reader, &source, ret_value);
    free(source.file);
    free(source.variable);
    free(source.prefix);
    return good;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Why FIELD cannot be an upstream's, or NULL. */
static const char *check_field(const struct config_upstream *upstream, const struct header *field)
{
    const char *detail = NULL;
    struct headers_request_facts facts = {0};
    struct headers_request request = {
        .method = "GET", .http_1_0 = true, .fields = field, .count = 1};
    for (const char *c = field->value; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f) {
            return "the value holds a control character";
        }
    }
    if (field->value_bytes == 0 || field->value_bytes > VALUE_BYTES_MAX) {
        return "expected a value of 1 to 8192 bytes";
    }
    if (is_blank(field->value[0]) || is_blank(field->value[field->value_bytes - 1])) {
        return "the value begins or ends with a space";
    }
    for (size_t i = 0; i < upstream->field_count; i++) {
        if (headers_is(field, upstream->fields[i].name)) {
            return "expected each field once, in whatever case";
        }
    }
    static const char *const ours[] = {"Host", "Via", "X-Request-Id", "TE", "Content-Length"};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        if (headers_is(field, ours[i])) {
            return "expected another field: this one is written by Weir itself";
        }
    }
    if (headers_check_request(&request, NULL, &facts, &detail) != PROBLEM_NONE) {
        return "expected the name of a header field that may be sent to an upstream";
    }
    return headers_pass_request(&request, &facts, 0)
               ? NULL
               : "expected another field: this one never goes to an upstream";
}

/* Adds the field NAME, whose value is taken over. */
static bool add_field(struct config_reader *reader, struct config_upstream *upstream,
                      const char *name, char *value)
{
    struct header *fields =
        reallocarray(upstream->fields, upstream->field_count + 1, sizeof *fields);
    if (fields != NULL) {
        upstream->fields = fields;
    }
    char *copy = fields != NULL ? strdup(name) : NULL;
    if (copy == NULL) {
        free(value);
        return config_reader_fail_no_memory(reader);
    }
    struct header field = {
        .name = copy,
        .value = value,
        .name_bytes = (uint32_t)strlen(name),
        .value_bytes = (uint32_t)strlen(value),
    };
    const char *detail = check_field(upstream, &field);
    fields[upstream->field_count] = field;
    upstream->field_count++;
    return detail == NULL || config_reader_fail(reader, detail);
}

static bool read_fields(struct config_reader *reader, const struct config_key *key,
                        const json_t *value, void *field)
{
    (void)key;
    struct config_upstream *upstream = field;
    size_t before = reader->path.bytes;
    const char *name;
    json_t *member;
    if (!json_is_object(value)) {
        return config_reader_fail(reader, "expected an object");
    }
    reader->masked = true;
    json_object_foreach((json_t *)value, name, member)
    {
        char *text = NULL;
        if (!config_path_push_key(&reader->path, name)) {
            return config_reader_fail_no_memory(reader);
        }
        if (!read_value(reader, member, &text) || !add_field(reader, upstream, name, text)) {
            return false;
        }
        config_path_cut(&reader->path, before);
    }
    reader->masked = false;
    return true;
}

/* --- one upstream --- */

static bool read_upstream(struct config_reader *reader, const char *name, const json_t *value)
{
    struct config_draft *draft = reader->draft;
    if (!upstreams_is_name(name, strlen(name))) {
        return config_reader_fail(reader, "expected " EXPECTED_NAME);
    }
    if (!json_is_object(value)) {
        return config_reader_fail(reader, "expected an object");
    }
    struct config_upstream *grown =
        reallocarray(draft->upstreams, draft->upstream_count + 1, sizeof *grown);
    if (grown == NULL) {
        return config_reader_fail_no_memory(reader);
    }
    draft->upstreams = grown;
    struct config_upstream *upstream = &grown[draft->upstream_count++];
    *upstream = (struct config_upstream){.name = strdup(name)};
    if (upstream->name == NULL) {
        return config_reader_fail_no_memory(reader);
    }
    if (!config_read_object(reader, &upstream_entry, value, upstream)) {
        return false;
    }
    upstream->rule.has_limit = json_object_get(value, "limit") != NULL;
    upstream->rule.has_queue = json_object_get(value, "queue") != NULL;
    upstream->rule.has_queue_timeout = json_object_get(value, "queue_timeout") != NULL;
    upstream->has_tls = json_object_get(value, "tls") != NULL;
    if (upstream->origin == NULL) {
        return config_reader_fail(reader, "expected the key url");
    }
    if (upstream->has_tls && !upstream->origin->tls) {
        return fail_member(reader, "tls", "expected only with a URL that begins with https://");
    }
    return true;
}

bool config_read_upstreams(struct config_reader *reader, const struct config_key *key,
                           const json_t *value, void *field)
{
    (void)key;
    (void)field;
    return json_is_object(value) ? config_read_map(reader, value, read_upstream)
                                 : config_reader_fail(reader, "expected an object");
}

/* --- what upstreams say about their hosts --- */

/* Which upstream before INDEX has the same host and says of it what HAS tells; or NULL. */
static const char *find_earlier(const struct config_draft *draft, size_t index,
                                bool (*has)(const struct config_upstream *upstream))
{
    const char *host = draft->upstreams[index].origin->host;
    for (size_t i = 0; i < index; i++) {
        if (strcmp(draft->upstreams[i].origin->host, host) == 0 && has(&draft->upstreams[i])) {
            return draft->upstreams[i].name;
        }
    }
    return NULL;
}

static bool has_limit(const struct config_upstream *upstream)
{
    return upstream->rule.has_limit;
}

static bool has_queue(const struct config_upstream *upstream)
{
    return upstream->rule.has_queue;
}

static bool has_queue_timeout(const struct config_upstream *upstream)
{
    return upstream->rule.has_queue_timeout;
}

static bool has_tls(const struct config_upstream *upstream)
{
    return upstream->has_tls;
}

/* The upstream INDEX says in KEY something else than PLACE, or the upstream OTHER, does. */
static bool fail_conflict(struct config_reader *reader, size_t index, const char *key,
                          const char *other, const char *place)
{
    const struct config_upstream *upstream = &reader->draft->upstreams[index];
    char message[512];
    snprintf(message, sizeof message,
             "expected the same as %s%s says of %.260s: a host has one %s, whichever way a request "
             "comes",
             other != NULL ? "upstreams." : place, other != NULL ? other : "",
             upstream->origin->host, strcmp(key, "tls") == 0 ? "TLS" : "budget");
    return config_path_push_key(&reader->path, "upstreams") &&
                   config_path_push_key(&reader->path, upstream->name)
               ? fail_member(reader, key, message)
               : config_reader_fail_no_memory(reader);
}

/* The rule of the host of the upstream INDEX. */
static bool settle_rule(struct config_reader *reader, size_t index)
{
    struct config_draft *draft = reader->draft;
    const struct config_upstream *upstream = &draft->upstreams[index];
    const struct config_rule *said = &upstream->rule;
    const char *host = upstream->origin->host;
    struct config_rule *rule = NULL;
    if (!said->has_limit && !said->has_queue && !said->has_queue_timeout) {
        return true;
    }
    enum config_added added = config_draft_add_host(draft, host, strlen(host), &rule);
    if (added == CONFIG_ADD_NO_MEMORY) {
        return config_reader_fail_no_memory(reader);
    }
    assert(added == CONFIG_ADDED || added == CONFIG_ADD_EXISTS);
    if (said->has_limit && rule->has_limit && said->limit != rule->limit) {
        return fail_conflict(reader, index, "limit", find_earlier(draft, index, has_limit),
                             "limits.hosts");
    }
    if (said->has_queue && rule->has_queue && said->queue != rule->queue) {
        return fail_conflict(reader, index, "queue", find_earlier(draft, index, has_queue),
                             "limits.hosts");
    }
    if (said->has_queue_timeout && rule->has_queue_timeout &&
        said->queue_timeout_ns != rule->queue_timeout_ns) {
        return fail_conflict(reader, index, "queue_timeout",
                             find_earlier(draft, index, has_queue_timeout), "limits.hosts");
    }
    if (said->has_limit) {
        rule->limit = said->limit;
        rule->has_limit = true;
    }
    if (said->has_queue) {
        rule->queue = said->queue;
        rule->has_queue = true;
    }
    if (said->has_queue_timeout) {
        rule->queue_timeout_ns = said->queue_timeout_ns;
        rule->has_queue_timeout = true;
    }
    return true;
}

static bool same_text(const char *one, const char *other)
{
    return one == NULL || other == NULL ? one == other : strcmp(one, other) == 0;
}

static bool same_tls(const struct config_tls *one, const struct config_tls *other)
{
    return same_text(one->ca_file, other->ca_file) &&
           same_text(one->certificate_file, other->certificate_file) &&
           same_text(one->key_file, other->key_file) &&
           one->minimum_version == other->minimum_version && one->insecure == other->insecure;
}

/* How TLS is spoken with the host of the upstream INDEX. */
static bool settle_tls(struct config_reader *reader, size_t index)
{
    struct config_draft *draft = reader->draft;
    struct config_upstream *upstream = &draft->upstreams[index];
    const char *host = upstream->origin->host;
    if (!upstream->has_tls) {
        return true;
    }
    enum config_added added = config_draft_add_tls(draft, host, strlen(host), &upstream->tls);
    if (added == CONFIG_ADD_NO_MEMORY) {
        return config_reader_fail_no_memory(reader);
    }
    assert(added == CONFIG_ADDED || added == CONFIG_ADD_EXISTS);
    for (size_t i = 0; added == CONFIG_ADD_EXISTS && i < draft->config.tls_host_count; i++) {
        const struct config_tls *other = &draft->config.tls_hosts[i];
        if (strcmp(other->host, host) == 0 && !same_tls(other, &upstream->tls)) {
            return fail_conflict(reader, index, "tls", find_earlier(draft, index, has_tls),
                                 "tls.hosts");
        }
    }
    return true;
}

bool config_upstreams_settle(struct config_reader *reader)
{
    struct config_draft *draft = reader->draft;
    for (size_t i = 0; i < draft->upstream_count; i++) {
        if (!settle_rule(reader, i) || !settle_tls(reader, i)) {
            return false;
        }
    }
    draft->config.upstreams = draft->upstream_count > 0 ? upstreams_create() : NULL;
    for (size_t i = 0; i < draft->upstream_count; i++) {
        const struct config_upstream *from = &draft->upstreams[i];
        struct upstream upstream = {
            .name = from->name,
            .origin = from->origin,
            .base_path = from->base_path,
            .fields = from->fields,
            .field_count = from->field_count,
            .allow_private = from->allow_private,
        };
        if (draft->config.upstreams == NULL || !upstreams_add(draft->config.upstreams, &upstream)) {
            return config_reader_fail_no_memory(reader);
        }
    }
    return true;
}

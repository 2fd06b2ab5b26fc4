/*
 * Targets: split by hand where the grammar fixes the places, so that path and query stay as sent.
 *
 * Both forms end in split_url(), which cuts a URL at the end of its authority. What it finds stays
 * where it is: only a URL with escapes (fetch form) and one that begins its query right behind the
 * authority need memory of their own.
 */
#include "api/target.h"

#include "api/connect.h"
#include "api/percent.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define FORMS                                                                          \
    "expected /fetch?url=URL, /to/NAME/PATH, or as a forward proxy http://HOST/PATH, " \
    "https://HOST/PATH or CONNECT HOST:PORT"

static const char *const root = "/";
static const char *const no_form = FORMS;
static const char *const no_memory = "out of memory";
static const char *const bad_byte =
    "the target holds a space, a control character or \"#\": expected them percent-encoded";
static const char *const bad_url_byte =
    "the URL holds a space, a control character or \"#\" once decoded: expected it "
    "percent-encoded twice, and no fragment";
static const char *const bad_escape =
    "a percent sign in the URL is not followed by two hexadecimal digits";
static const char *const bad_query =
    "expected the one query parameter url, as in /fetch?url=URL; an \"&\" inside the URL is "
    "written %26";
static const char *const no_url = "the URL is missing: expected /fetch?url=URL";
static const char *const unknown_upstream =
    "no upstream of this name is configured: expected /to/NAME/PATH";
static const char *const bad_scheme = "expected a URL that begins with http:// or https://";

const char *target_form_word(enum target_form form)
{
    switch (form) {
    case TARGET_NONE:
        return "none";
    case TARGET_FETCH:
        return "fetch";
    case TARGET_ABSOLUTE:
        return "forward";
    case TARGET_TUNNEL:
        return "connect";
    case TARGET_UPSTREAM:
        return "upstream";
    }
    assert(false && "a target form that exists");
    return NULL;
}

/* Whether none of the BYTES at TEXT is a control character, a space or "#". */
static bool is_clean(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c <= 0x20 || c == 0x7f || c == '#') {
            return false;
        }
    }
    return true;
}

/* The length of "scheme://" at the start of TEXT, of any scheme, or 0. */
static size_t measure_scheme(const char *text)
{
    size_t bytes =
        strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.");
    return bytes > 0 && strncmp(text + bytes, "://", 3) == 0 ? bytes + 3 : 0;
}

/* Whether TEXT is meant as a URL, well formed or not. */
static bool is_absolute(const char *text)
{
    return measure_scheme(text) > 0 || strncasecmp(text, "http:", 5) == 0 ||
           strncasecmp(text, "https:", 6) == 0;
}

/*
 * Splits URL into the origin and request path of TARGET; EMPTY is the path where URL has neither
 * path nor query. TARGET holds nothing when it fails.
 */
static enum problem split_url(struct origin_cache *origins, const char *url, const char *empty,
                              struct target *target, const char **ret_detail)
{
    size_t scheme_bytes = measure_scheme(url);
    if (scheme_bytes == 0) {
        *ret_detail = bad_scheme;
        return PROBLEM_BAD_TARGET;
    }
    size_t origin_bytes = scheme_bytes + strcspn(url + scheme_bytes, "/?");
    struct origin *origin = origin_parse(origins, url, origin_bytes, ret_detail);
    if (origin == NULL) {
        if (*ret_detail != NULL) {
            return PROBLEM_BAD_TARGET;
        }
        *ret_detail = no_memory;
        return PROBLEM_INTERNAL;
    }
    const char *rest = url + origin_bytes;
    char *memory = NULL;
    if (rest[0] == '\0') {
        rest = empty;
    } else if (rest[0] == '?') {
        size_t size = strlen(rest) + 1;
        memory = malloc(size + 1);
        if (memory == NULL) {
            origin_release(origin);
            *ret_detail = no_memory;
            return PROBLEM_INTERNAL;
        }
        memory[0] = '/';
        memcpy(memory + 1, rest, size);
        rest = memory;
    }
    target->origin = origin;
    target->request_path = rest;
    target->path_bytes = strcspn(rest, "?");
    target->memory = memory;
    return PROBLEM_NONE;
}

/* Decodes ESCAPED, which holds a percent sign, and splits what comes out. */
static enum problem split_escaped(struct origin_cache *origins, const char *escaped,
                                  struct target *target, const char **ret_detail)
{
    size_t escaped_bytes = strlen(escaped);
    char *url = malloc(escaped_bytes + 1);
    if (url == NULL) {
        *ret_detail = no_memory;
        return PROBLEM_INTERNAL;
    }
    enum problem problem = PROBLEM_BAD_TARGET;
    size_t bytes = 0;
    if (!percent_decode(escaped, escaped_bytes, url, &bytes)) {
        *ret_detail = bad_escape;
    } else if (!is_clean(url, bytes)) {
        *ret_detail = bad_url_byte;
    } else {
        problem = split_url(origins, url, root, target, ret_detail);
    }
    /* The path lies in the URL unless it had to be made up. */
    if (problem == PROBLEM_NONE && target->memory == NULL && target->request_path != root) {
        target->memory = url;
    } else {
        free(url);
    }
    return problem;
}

/* Reads the QUERY of /fetch, without its "?". */
static enum problem parse_fetch(struct origin_cache *origins, const char *query,
                                struct target *target, const char **ret_detail)
{
    bool named = strncmp(query, "url=", 4) == 0;
    if (query[0] == '\0' || strcmp(query, "url") == 0 || strcmp(query, "url=") == 0) {
        *ret_detail = no_url;
        return PROBLEM_BAD_TARGET;
    }
    if (!named || strchr(query, '&') != NULL) {
        *ret_detail = bad_query;
        return PROBLEM_BAD_TARGET;
    }
    const char *url = query + 4;
    if (strchr(url, '%') != NULL) {
        return split_escaped(origins, url, target, ret_detail);
    }
    return split_url(origins, url, root, target, ret_detail);
}

/* Reads what follows "/to/". */
static enum problem parse_upstream(const struct upstreams *upstreams, const char *named,
                                   struct target *target, const char **ret_detail)
{
    size_t name_bytes = strcspn(named, "/?");
    struct upstream *upstream = upstreams_find(upstreams, named, name_bytes);
    if (upstream == NULL) {
        *ret_detail = unknown_upstream;
        return PROBLEM_UNKNOWN_UPSTREAM;
    }
    target->memory = upstream_join(upstream, named + name_bytes);
    if (target->memory == NULL) {
        *ret_detail = no_memory;
        return PROBLEM_INTERNAL;
    }
    target->request_path = target->memory;
    target->path_bytes = strcspn(target->memory, "?");
    target->origin = origin_hold(upstream->origin);
    target->upstream = upstream_hold(upstream);
    return PROBLEM_NONE;
}

enum problem target_parse(struct origin_cache *origins, const struct upstreams *upstreams,
                          const char *method, const char *raw, struct target *ret_target,
                          const char **ret_detail)
{
    assert(origins != NULL && method != NULL && raw != NULL);
    assert(ret_target != NULL && ret_detail != NULL);
    if (!is_clean(raw, strlen(raw))) {
        *ret_detail = bad_byte;
        return PROBLEM_BAD_TARGET;
    }
    if (strcmp(method, "CONNECT") == 0) {
        struct target tunnel = {.form = TARGET_TUNNEL};
        enum problem bad =
            connect_parse_authority(origins, raw, strlen(raw), &tunnel.origin, ret_detail);
        if (bad == PROBLEM_NONE) {
            *ret_target = tunnel;
        }
        return bad;
    }
    struct target target = {.form = TARGET_NONE};
    enum problem problem = PROBLEM_NOT_FOUND;
    if (strncmp(raw, "/fetch", 6) == 0 && (raw[6] == '?' || raw[6] == '\0')) {
        target.form = TARGET_FETCH;
        problem = parse_fetch(origins, raw + (raw[6] == '?' ? 7 : 6), &target, ret_detail);
    } else if (strncmp(raw, "/to/", 4) == 0) {
        target.form = TARGET_UPSTREAM;
        problem = parse_upstream(upstreams, raw + 4, &target, ret_detail);
    } else if (is_absolute(raw)) {
        const char *empty = strcmp(method, "OPTIONS") == 0 ? "*" : root;
        target.form = TARGET_ABSOLUTE;
        problem = split_url(origins, raw, empty, &target, ret_detail);
    } else {
        *ret_detail = no_form;
    }
    if (problem == PROBLEM_NONE) {
        *ret_target = target;
    }
    return problem;
}

void target_finish(struct target *target)
{
    assert(target != NULL);
    origin_release(target->origin);
    upstream_release(target->upstream);
    free(target->memory);
    *target = (struct target){.form = TARGET_NONE};
}

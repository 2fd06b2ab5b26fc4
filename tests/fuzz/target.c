/*
 * Targets: the input is "METHOD TARGET". Whatever parses is canonical: its origin parses to itself,
 * its request path can stand in a request line, and origin and path put together are the same
 * target again.
 */
#include "api/target.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOST_MAX_BYTES 261 /* what fits a limiter's key, limiter/rules.h */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check_same(const struct origin *a, const struct origin *b)
{
    assert(a->tls == b->tls && a->port == b->port);
    assert(a->literal == b->literal && a->ipv6 == b->ipv6);
    assert(strcmp(a->name, b->name) == 0);
    assert(strcmp(a->host, b->host) == 0);
    assert(strcmp(a->url, b->url) == 0);
}

static void check_origin(struct origin_cache *origins, const struct origin *origin)
{
    const char *detail = NULL;
    unsigned char address[sizeof(struct in6_addr)];
    size_t url_bytes = strlen(origin->url);
    assert(origin->port > 0 && origin->name[0] != '\0');
    assert(strlen(origin->host) <= HOST_MAX_BYTES);
    assert(origin->url[url_bytes - 1] == '/');
    for (const char *c = origin->host; *c != '\0'; c++) {
        assert((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') || strchr("-_.:[]", *c));
    }
    for (const char *c = origin->authority; *c != '\0'; c++) {
        assert(*c > 0x20 && *c < 0x7f && strchr("/?#@%\\", *c) == NULL);
    }
    /* No name is left that a resolver would take for an address, and no address with two forms. */
    struct in_addr number;
    assert(origin->literal || inet_aton(origin->name, &number) == 0);
    assert(inet_pton(AF_INET, origin->name, address) == (origin->literal && !origin->ipv6));
    assert(inet_pton(AF_INET6, origin->name, address) == origin->ipv6);
    struct origin *again = origin_parse(origins, origin->url, url_bytes - 1, &detail);
    assert(again != NULL);
    check_same(origin, again);
    origin_release(again);
}

static void check_path(const char *method, const struct target *target)
{
    const char *path = target->request_path;
    if (strcmp(path, "*") == 0) {
        assert(strcmp(method, "OPTIONS") == 0 && target->form == TARGET_ABSOLUTE);
    } else {
        assert(path[0] == '/');
    }
    for (const char *c = path; *c != '\0'; c++) {
        assert((unsigned char)*c > 0x20 && *c != 0x7f && *c != '#');
    }
    assert(target->path_bytes >= 1 && target->path_bytes <= strlen(path));
    assert(memchr(path, '?', target->path_bytes) == NULL);
    assert(path[target->path_bytes] == '\0' || path[target->path_bytes] == '?');
}

/* Behind the name, or a slash of the base path, everything is as it was sent. */
static void check_upstream(const char *raw, const struct target *target)
{
    assert((target->upstream != NULL) == (target->form == TARGET_UPSTREAM));
    if (target->upstream == NULL) {
        return;
    }
    const char *rest = raw + 4 + strlen(target->upstream->name);
    size_t path_bytes = strlen(target->request_path);
    size_t rest_bytes = strlen(rest);
    assert(path_bytes >= rest_bytes);
    assert(strcmp(target->request_path + path_bytes - rest_bytes, rest) == 0);
    size_t base_bytes = strlen(target->upstream->base_path);
    assert(strncmp(target->request_path, target->upstream->base_path,
                   base_bytes > 0 ? base_bytes - 1 : 0) == 0);
}

static struct upstreams *make_upstreams(struct origin_cache *origins)
{
    static const char *const paths[][2] = {{"a", ""}, {"b", "/v1"}, {"c", "/v1/"}};
    const char *detail;
    struct upstreams *upstreams = upstreams_create();
    struct origin *origin = origin_parse(origins, "https://up.test", 15, &detail);
    assert(upstreams != NULL && origin != NULL);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct upstream upstream = {
            .name = paths[i][0], .origin = origin, .base_path = paths[i][1]};
        assert(upstreams_add(upstreams, &upstream));
    }
    origin_release(origin);
    return upstreams;
}

/* TARGET's origin and path as one absolute target are TARGET. */
static void check_again(struct origin_cache *origins, const struct target *target)
{
    struct target again;
    const char *detail = NULL;
    const char *path = strcmp(target->request_path, "*") == 0 ? "/" : target->request_path;
    size_t origin_bytes = strlen(target->origin->url) - 1;
    char *raw = malloc(origin_bytes + strlen(path) + 1);
    assert(raw != NULL);
    memcpy(raw, target->origin->url, origin_bytes);
    memcpy(raw + origin_bytes, path, strlen(path) + 1);
    enum problem problem = target_parse(origins, NULL, "GET", raw, &again, &detail);
    assert(problem == PROBLEM_NONE && again.form == TARGET_ABSOLUTE);
    check_same(target->origin, again.origin);
    assert(again.request_path == raw + origin_bytes && strcmp(again.request_path, path) == 0);
    target_finish(&again);
    free(raw);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char *method = malloc(bytes + 1);
    assert(method != NULL);
    if (bytes > 0) {
        memcpy(method, data, bytes);
    }
    method[bytes] = '\0';
    char *raw = strchr(method, ' ');
    if (raw == NULL) {
        free(method);
        return 0;
    }
    *raw++ = '\0';
    struct origin_cache *origins = origin_cache_create(4);
    assert(origins != NULL);
    struct target target;
    const char *detail = NULL;
    struct upstreams *upstreams = make_upstreams(origins);
    enum problem problem = target_parse(origins, upstreams, method, raw, &target, &detail);
    upstreams_destroy(upstreams); /* a target keeps its own */
    if (problem == PROBLEM_NONE) {
        assert(target.form != TARGET_NONE);
        assert((target.form == TARGET_TUNNEL) == (strcmp(method, "CONNECT") == 0));
        check_origin(origins, target.origin);
        if (target.form != TARGET_TUNNEL) { /* fuzz/connect.c */
            check_path(method, &target);
            check_upstream(raw, &target);
            check_again(origins, &target);
        }
        target_finish(&target);
    } else {
        assert(problem == PROBLEM_BAD_TARGET || problem == PROBLEM_NOT_FOUND ||
               problem == PROBLEM_UNKNOWN_UPSTREAM);
        assert(detail != NULL);
    }
    origin_cache_destroy(origins);
    free(method);
    return 0;
}

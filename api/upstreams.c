#include "api/upstreams.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Out of memory leaves the entry out of its table, which shows in its `in_table.tbl`. */
#define HASH_NONFATAL_OOM          1
#define uthash_nonfatal_oom(entry) ((void)(entry))
#include <uthash.h>

/* An upstream as it is allocated, with its strings behind it. */
struct kept {
    struct upstream upstream; /* first: upstreams are freed as what they are part of */
    struct header *fields;
    UT_hash_handle in_table;
    char text[];
};

struct upstreams {
    struct kept *by_name;
};

struct upstreams *upstreams_create(void)
{
    return calloc(1, sizeof(struct upstreams));
}

void upstreams_destroy(struct upstreams *upstreams)
{
    if (upstreams == NULL) {
        return;
    }
    struct kept *kept;
    struct kept *next;
    HASH_ITER (in_table, upstreams->by_name, kept, next) {
        HASH_DELETE(in_table, upstreams->by_name, kept);
        upstream_release(&kept->upstream);
    }
    free(upstreams);
}

bool upstreams_is_name(const char *name, size_t bytes)
{
    if (bytes == 0 || bytes > UPSTREAMS_NAME_MAX) {
        return false;
    }
    for (size_t i = 0; i < bytes; i++) {
        char c = name[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_')) {
            return false;
        }
    }
    return true;
}

/* Copies BYTES at TEXT and an end behind what *PLACE already holds, and moves *PLACE past them. */
static const char *append(char **place, const char *text, size_t bytes)
{
    char *start = *place;
    memcpy(start, text, bytes);
    start[bytes] = '\0';
    *place += bytes + 1;
    return start;
}

static struct kept *copy(const struct upstream *upstream)
{
    size_t bytes = strlen(upstream->name) + strlen(upstream->base_path) + 2;
    for (size_t i = 0; i < upstream->field_count; i++) {
        bytes += upstream->fields[i].name_bytes + upstream->fields[i].value_bytes + 2;
    }
    struct kept *kept = calloc(1, sizeof *kept + bytes);
    struct header *fields = calloc(upstream->field_count + 1, sizeof *fields);
    if (kept == NULL || fields == NULL) {
        free(kept);
        free(fields);
        return NULL;
    }
    char *place = kept->text;
    kept->fields = fields;
    kept->upstream = *upstream;
    kept->upstream.name = append(&place, upstream->name, strlen(upstream->name));
    kept->upstream.base_path = append(&place, upstream->base_path, strlen(upstream->base_path));
    for (size_t i = 0; i < upstream->field_count; i++) {
        fields[i] = upstream->fields[i];
        fields[i].name = append(&place, fields[i].name, fields[i].name_bytes);
        fields[i].value = append(&place, fields[i].value, fields[i].value_bytes);
    }
    assert(place == kept->text + bytes);
    kept->upstream.fields = fields;
    kept->upstream.origin = origin_hold(upstream->origin);
    kept->upstream.references = 1;
    return kept;
}

bool upstreams_add(struct upstreams *upstreams, const struct upstream *upstream)
{
    assert(upstreams != NULL && upstream != NULL && upstream->origin != NULL);
    size_t bytes = strlen(upstream->name);
    assert(upstreams_is_name(upstream->name, bytes));
    assert(upstreams_find(upstreams, upstream->name, bytes) == NULL);
    assert(upstream->base_path[0] == '\0' || upstream->base_path[0] == '/');
    struct kept *kept = copy(upstream);
    if (kept == NULL) {
        return false;
    }
    HASH_ADD_KEYPTR(in_table, upstreams->by_name, kept->upstream.name, bytes, kept);
    if (kept->in_table.tbl == NULL) {
        upstream_release(&kept->upstream);
        return false;
    }
    return true;
}

struct upstream *upstreams_find(const struct upstreams *upstreams, const char *name, size_t bytes)
{
    struct kept *kept = NULL;
    if (upstreams != NULL) {
        HASH_FIND(in_table, upstreams->by_name, name, bytes, kept);
    }
    return kept != NULL ? &kept->upstream : NULL;
}

size_t upstreams_count(const struct upstreams *upstreams)
{
    return upstreams != NULL ? HASH_CNT(in_table, upstreams->by_name) : 0;
}

struct upstream *upstream_hold(struct upstream *upstream)
{
    assert(upstream != NULL && upstream->references > 0);
    upstream->references++;
    return upstream;
}

void upstream_release(struct upstream *upstream)
{
    if (upstream == NULL) {
        return;
    }
    assert(upstream->references > 0);
    if (--upstream->references == 0) {
        struct kept *kept = (struct kept *)upstream;
        origin_release(upstream->origin);
        free(kept->fields);
        free(kept);
    }
}

bool upstream_replaces(const struct upstream *upstream, const struct header *field)
{
    assert(upstream != NULL && field != NULL);
    for (size_t i = 0; i < upstream->field_count; i++) {
        if (headers_is(field, upstream->fields[i].name)) {
            return true;
        }
    }
    return false;
}

char *upstream_join(const struct upstream *upstream, const char *rest)
{
    assert(upstream != NULL && rest != NULL);
    assert(rest[0] == '\0' || rest[0] == '/' || rest[0] == '?');
    const char *base = upstream->base_path;
    size_t base_bytes = strlen(base);
    if (rest[0] == '/' && base_bytes > 0 && base[base_bytes - 1] == '/') {
        base_bytes--;
    }
    const char *slash = base_bytes == 0 && rest[0] != '/' ? "/" : "";
    size_t slash_bytes = strlen(slash);
    char *path = malloc(base_bytes + slash_bytes + strlen(rest) + 1);
    if (path != NULL) {
        memcpy(path, base, base_bytes);
        memcpy(path + base_bytes, slash, slash_bytes);
        memcpy(path + base_bytes + slash_bytes, rest, strlen(rest) + 1);
    }
    return path;
}

/*
 * Upstreams: named routes, "/to/NAME/rest" -> the base URL of NAME with the rest behind it.
 *
 * The table is made from the configuration and then only read; a reload makes another. An upstream
 * is immutable and counted by reference, so that a request keeps the one that it began with.
 *
 * The values of its fields and its base path may be secret: nothing prints them.
 */
#ifndef WEIR_API_UPSTREAMS_H
#define WEIR_API_UPSTREAMS_H

#include "api/headers.h"
#include "api/origin.h"

#include <stdbool.h>
#include <stddef.h>

#define UPSTREAMS_NAME_MAX 63

struct upstream {
    const char *name;            /* a to z, 0 to 9, "-" and "_" */
    struct origin *origin;       /* held */
    const char *base_path;       /* as configured: "", "/", "/v1", "/v1/" */
    const struct header *fields; /* take the place of those of the same names that a client sent */
    size_t field_count;
    bool allow_private;  /* this way in, its host may have a private address */
    unsigned references; /* the module's business */
};

struct upstreams;

/* An empty table. NULL when out of memory. */
struct upstreams *upstreams_create(void);

/* Upstreams that are still held stay good. Accepts NULL. */
void upstreams_destroy(struct upstreams *upstreams);

/* Whether NAME, BYTES long, may be an upstream's name. */
bool upstreams_is_name(const char *name, size_t bytes);

/*
 * Adds a copy of UPSTREAM, whose name is good and new; its origin is held. False when out of
 * memory.
 */
bool upstreams_add(struct upstreams *upstreams, const struct upstream *upstream);

/* The upstream NAME, or NULL; the table keeps owning it. Accepts a table that is NULL: empty. */
struct upstream *upstreams_find(const struct upstreams *upstreams, const char *name, size_t bytes);

size_t upstreams_count(const struct upstreams *upstreams);

/* Another reference to UPSTREAM. */
struct upstream *upstream_hold(struct upstream *upstream);

/* Gives a reference back. Accepts NULL. */
void upstream_release(struct upstream *upstream);

/* Whether one of UPSTREAM's own fields has the name of FIELD. */
bool upstream_replaces(const struct upstream *upstream, const struct header *field);

/*
 * The request target for REST, which is what a client wrote behind the name: empty, or beginning
 * with "/" or "?". REST goes behind the base path byte for byte; where both have a slash at the
 * seam one of them goes, and an empty path becomes "/":
 *
 *   base path   rest "/a%2Fb?x"   rest "/"   rest ""   rest "?x"
 *   ""          /a%2Fb?x          /          /         /?x
 *   "/v1"       /v1/a%2Fb?x       /v1/       /v1       /v1?x
 *   "/v1/"      /v1/a%2Fb?x       /v1/       /v1/      /v1/?x
 *
 * Dot segments are not resolved, here or in the base path: the base path is where a request begins,
 * and no fence. The caller frees it; NULL when out of memory.
 */
char *upstream_join(const struct upstream *upstream, const char *rest);

#endif

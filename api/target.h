/*
 * Targets: what a request on the data port asks for.
 *
 * The raw request target (RFC 9112 section 3.2) is split by hand at the places that the grammar
 * fixes, and its path and query reach the upstream byte for byte; only its scheme and authority
 * are parsed (origin.h).
 */
#ifndef WEIR_API_TARGET_H
#define WEIR_API_TARGET_H

#include "api/origin.h"
#include "api/problem.h"
#include "api/upstreams.h"

enum target_form {
    TARGET_NONE,     /* of no form: a problem */
    TARGET_FETCH,    /* /fetch?url=URL */
    TARGET_ABSOLUTE, /* http://host/path, https://host/path */
    TARGET_TUNNEL,   /* CONNECT host:port */
    TARGET_UPSTREAM, /* /to/NAME/path */
};

struct target {
    enum target_form form;
    struct origin *origin;     /* held; NULL with TARGET_NONE */
    const char *request_path;  /* path and query to send: "/a%2Fb?c", "*" for OPTIONS */
    size_t path_bytes;         /* length of request_path before the "?": what a log may show */
    struct upstream *upstream; /* held, with TARGET_UPSTREAM */
    char *memory;              /* owned: what request_path points into where it is not RAW */
};

/* The word that logs use for FORM: "fetch", "forward", "connect", "upstream", "none". */
const char *target_form_word(enum target_form form);

/*
 * Reads RAW, which must stay as it is while the target is used. Returns PROBLEM_NONE and a target
 * that the caller ends with target_finish(); or the problem, with a static sentence that says what
 * was wrong and what was expected in *ret_detail and nothing to finish.
 *
 *   - /fetch?url=URL: URL is percent-decoded once ("+" stays "+"); any other query parameter, a
 *     second `url`, none at all and an empty one are PROBLEM_BAD_TARGET (an unescaped "&" in the
 *     URL is the usual cause, and the detail says so).
 *   - absolute form; an empty path becomes "/" ("http://h?q" asks for "/?q"), and "*" when METHOD
 *     is OPTIONS and there is neither path nor query (RFC 9112 3.2.4).
 *   - bytes up to 0x20, 0x7f, and "#" are PROBLEM_BAD_TARGET, in RAW and in the decoded URL.
 *   - METHOD is CONNECT: RAW is read as authority form, connect_parse_authority(); there is no
 *     request path then (NULL).
 *   - /to/NAME, with "/path" or "?query" or nothing behind it: upstream_join(). A name that
 *     UPSTREAMS (NULL: empty) does not have is PROBLEM_UNKNOWN_UPSTREAM.
 *   - every other form is PROBLEM_NOT_FOUND, with a detail that names the forms there are.
 *   - out of memory: PROBLEM_INTERNAL.
 */
enum problem target_parse(struct origin_cache *origins, const struct upstreams *upstreams,
                          const char *method, const char *raw, struct target *ret_target,
                          const char **ret_detail);

/* Gives back what the target holds and makes it all zero. */
void target_finish(struct target *target);

#endif

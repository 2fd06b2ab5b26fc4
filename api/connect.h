/*
 * CONNECT: the head of a request for a tunnel (RFC 9110 section 9.3.6, RFC 9112), as it comes from
 * a client's connection.
 *
 * The reading is strict: lines end in CR LF, no line is folded, there is one space between the
 * parts of the request line. A client that breaks this is either broken or up to something, and
 * whatever stands behind the head goes to somebody else unread.
 */
#ifndef WEIR_API_CONNECT_H
#define WEIR_API_CONNECT_H

#include "api/headers.h"
#include "api/origin.h"
#include "api/problem.h"

#include <stdbool.h>
#include <stddef.h>

/* Looks for the end of a head whose bytes come in pieces; all zero is a new one. */
struct connect_scan {
    size_t seen;       /* bytes that have been looked at */
    size_t line_start; /* where the line begins in which that was */
};

enum connect_found {
    CONNECT_PARTIAL, /* the end has not come */
    CONNECT_WHOLE,   /* *ret_bytes is the head's length, with the empty line at its end */
    CONNECT_BROKEN,  /* a line that does not end in CR LF: it never will be a head */
};

/* Looks on in TEXT, which is what came so far, BYTES long: from its first byte on each time. */
enum connect_found connect_scan(struct connect_scan *scan, const char *text, size_t bytes,
                                size_t *ret_bytes);

struct connect_head {
    const char *target; /* not '\0'-terminated */
    size_t target_bytes;
    struct headers_request request; /* its fields are owned */
};

/*
 * Reads TEXT, a whole head of BYTES that it points into. Returns PROBLEM_NONE and a head that the
 * caller ends with connect_finish(); or PROBLEM_BAD_REQUEST, or PROBLEM_INTERNAL when out of
 * memory, with a static sentence in *ret_detail and nothing to finish. The fields are no more than
 * split: headers_check_request() is still to come.
 */
enum problem connect_parse(const char *text, size_t bytes, struct connect_head *ret_head,
                           const char **ret_detail);

void connect_finish(struct connect_head *head);

/*
 * Reads AUTHORITY, BYTES long: "HOST:PORT" with the port always there, an IPv6 address in brackets.
 * Returns PROBLEM_NONE and the origin, which the caller gives back with origin_release(): the same
 * names, addresses and limiter keys as of a URL with that host and port. Otherwise
 * PROBLEM_BAD_TARGET, or PROBLEM_INTERNAL when out of memory, with a static sentence.
 */
enum problem connect_parse_authority(struct origin_cache *origins, const char *authority,
                                     size_t bytes, struct origin **ret_origin,
                                     const char **ret_detail);

#endif

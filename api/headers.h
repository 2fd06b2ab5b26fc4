/*
 * Header fields: which requests and answers are well formed, and which fields pass, both ways.
 *
 * RFC 9110 section 7.6.1 (hop-by-hop), RFC 9112 sections 6 and 11.2 (message length, smuggling).
 * Field names are compared without regard to case. Nothing here allocates; facts point into the
 * fields that they were read from.
 */
#ifndef WEIR_API_HEADERS_H
#define WEIR_API_HEADERS_H

#include "api/problem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * One field line; VALUE has no white space around it. Neither ends in '\0'. But a Transfer-Encoding
 * of a request must come as libmicrohttpd has it, untrimmed: it takes "chunked " for a body that
 * never ends, and the check then refuses that.
 */
struct header {
    const char *name;
    const char *value;
    uint32_t name_bytes;
    uint32_t value_bytes;
};

#define HEADERS_NEVER     UINT64_MAX
#define HEADERS_NAMED_MAX 8

/* Fields that Connection names and that would pass if it did not. Borrows from its values. */
struct headers_named {
    uint32_t count;
    uint32_t name_bytes[HEADERS_NAMED_MAX];
    const char *names[HEADERS_NAMED_MAX];
};

struct headers_request {
    const char *method;
    bool http_1_0;
    const struct header *fields;
    size_t count;
};

struct headers_request_facts {
    bool has_body; /* a Content-Length (0 too) or chunked */
    bool chunked;
    bool expect_continue;
    bool close;                      /* Connection: close */
    uint64_t content_length;         /* where has_body and not chunked */
    uint64_t queue_timeout_ns;       /* Weir-Queue-Timeout, or HEADERS_NEVER */
    uint64_t fetch_timeout_ns;       /* Weir-Timeout, or HEADERS_NEVER */
    const struct header *request_id; /* X-Request-Id where it is 1 to 128 visible ASCII bytes */
    bool te_trailers;                /* TE: trailers: the client takes trailers */
    struct headers_named named;
};

/*
 * Checks a request, and refuses what two parsers could read differently: names are tokens
 * (method too), values hold no control characters but tab, at most one Content-Length and it is
 * all digits below 2^63, at most one Transfer-Encoding and it is exactly "chunked", not both, no
 * Transfer-Encoding in HTTP/1.0, exactly one Host in HTTP/1.1 and at most one in 1.0 and no bytes
 * in it that a host cannot have, Expect is "100-continue" (else PROBLEM_EXPECTATION_FAILED;
 * HTTP/1.0 cannot ask for it, so it is no fact then), Connection names at most HEADERS_NAMED_MAX
 * fields that matter, Weir-* fields are known, come once and their durations are good (0 is no
 * Weir-Timeout), Via does not hold SELF (else PROBLEM_LOOP; SELF is the comment that Weir puts in
 * its own Via, compared as text; NULL: not checked). Returns PROBLEM_NONE and the facts, or the
 * problem and a static sentence in *ret_detail.
 */
enum problem headers_check_request(const struct headers_request *request, const char *self,
                                   struct headers_request_facts *ret_facts,
                                   const char **ret_detail);

/*
 * Whether field INDEX of a request goes to the upstream. Not: hop-by-hop fields, those that
 * Connection names (never Host, Content-Length, Via...: naming those is ignored), Host
 * (written anew), Content-Length and Transfer-Encoding (set by the fetch), Expect,
 * Proxy-Authorization, Proxy-Connection, Weir-*, X-Request-Id (written anew), Trailer and TE
 * ("TE: trailers" is written anew by the fetch where the client sent it).
 */
bool headers_pass_request(const struct headers_request *request,
                          const struct headers_request_facts *facts, size_t index);

struct headers_response {
    unsigned status;
    const struct header *fields;
    size_t count;
};

struct headers_response_facts {
    bool has_length;
    bool chunked;
    uint64_t content_length;
    struct headers_named named;
};

/*
 * Checks what an upstream answered: Content-Length at most one value (equal repeats are one),
 * all digits below 2^63, not together with Transfer-Encoding; Transfer-Encoding only "chunked";
 * names are tokens, no control characters in values; Connection as above. Returns false with a
 * static sentence in *ret_detail: the answer is PROBLEM_UPSTREAM_PROTOCOL_ERROR.
 */
bool headers_check_response(const struct headers_response *response,
                            struct headers_response_facts *ret_facts, const char **ret_detail);

/*
 * Whether field INDEX of an answer goes to the client. Not: hop-by-hop fields and those that
 * Connection names, Content-Length and Transfer-Encoding (set by the frontend),
 * Proxy-Authenticate (it is not ours), Weir-*, X-Request-Id (ours is echoed), Trailer (written
 * anew).
 */
bool headers_pass_response(const struct headers_response *response,
                           const struct headers_response_facts *facts, size_t index);

/*
 * Whether a trailer field may pass, either way: a well-formed one that does not frame, route,
 * authenticate or say how the body is to be read (RFC 9110 section 6.5.1).
 */
bool headers_pass_trailer(const struct header *trailer);

/* Whether FIELD's name is NAME. */
bool headers_is(const struct header *field, const char *name);

/*
 * Splits "Name: value" (BYTES long, without its line end), as an upstream sent it. False where
 * there is no colon or no token before it: a line folded onto the one before among others.
 */
bool headers_split(const char *line, size_t bytes, struct header *ret_header);

#endif

/*
 * Problems: every refusal and failure that Weir itself answers. One table gives each its word,
 * status, RFC 9209 error and title; nobody writes a status number elsewhere.
 *
 * A problem's body is RFC 9457 JSON (`application/problem+json`), its Proxy-Status field RFC 9209.
 */
#ifndef WEIR_API_PROBLEM_H
#define WEIR_API_PROBLEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum problem {
    PROBLEM_NONE,
    PROBLEM_BAD_REQUEST,
    PROBLEM_BAD_TARGET,
    PROBLEM_EXPECTATION_FAILED, /* 417: an Expect other than 100-continue */
    PROBLEM_AUTH_REQUIRED,      /* data port */
    PROBLEM_ADMIN_AUTH_REQUIRED,
    PROBLEM_ADMIN_DENIED, /* a token that may only read; a web page */
    PROBLEM_AUTH_BUSY,
    PROBLEM_DENIED_NAME, /* by name or port */
    PROBLEM_DENIED_ADDRESS,
    PROBLEM_UNKNOWN_UPSTREAM,
    PROBLEM_NOT_FOUND,
    PROBLEM_METHOD_NOT_ALLOWED, /* admin port */
    PROBLEM_BODY_TOO_LARGE,
    PROBLEM_HEADER_TOO_LARGE,
    PROBLEM_LOOP,
    PROBLEM_QUEUE_FULL,
    PROBLEM_QUEUE_TIMEOUT,
    PROBLEM_HOSTS_FULL,
    PROBLEM_BUFFERS_FULL,
    PROBLEM_CLIENT_FULL, /* one client has all the connections that it may */
    PROBLEM_DRAINING,
    PROBLEM_PAUSED,
    PROBLEM_DNS_ERROR,
    PROBLEM_DNS_TIMEOUT,
    PROBLEM_CONNECTION_REFUSED,
    PROBLEM_CONNECTION_TIMEOUT,
    PROBLEM_TLS_CERTIFICATE_ERROR,
    PROBLEM_TLS_PROTOCOL_ERROR,
    PROBLEM_UPSTREAM_TIMEOUT,
    PROBLEM_UPSTREAM_INCOMPLETE,
    PROBLEM_UPSTREAM_PROTOCOL_ERROR,
    PROBLEM_INTERNAL,
    PROBLEM_COUNT, /* how many there are */
};

struct problem_kind {
    const char *word;         /* "queue_full": type, log word and metric label */
    unsigned status;          /* before overflow_status is applied */
    const char *proxy_status; /* RFC 9209 error, or NULL */
    const char *title;
    bool overflow;               /* status may be 429 instead: overflow_status */
    bool retry;                  /* waiting can help: Retry-After */
    const char *challenge_field; /* asks for credentials (RFC 9110 section 11); or NULL */
    const char *challenge;       /* its value */
};

/* The table's line for PROBLEM, which must not be PROBLEM_NONE nor PROBLEM_COUNT. */
const struct problem_kind *problem_kind(enum problem problem);

/* PROBLEM's status, with OVERFLOW_STATUS (503 or 429) where the table says so. */
unsigned problem_status(enum problem problem, unsigned overflow_status);

/* What a problem tells beyond its kind. Members that do not apply are NULL or negative. */
struct problem_report {
    enum problem problem;
    unsigned overflow_status;
    const char *detail; /* what was wrong and what was expected; any bytes, made safe for JSON */
    const char *host;
    int64_t queued;
    int64_t limit;
};

/*
 * The JSON body: type ("urn:weir:problem:WORD"), title, status, detail, and host, queued, limit
 * where they exist. *ret_bytes is its length without the end. The caller frees it with free().
 * NULL when out of memory.
 */
char *problem_body(const struct problem_report *report, size_t *ret_bytes);

/*
 * The Proxy-Status value: `weir; error=queue_error; details="word: detail"`, an RFC 8941 item;
 * `weir; details=...` where the kind has no RFC 9209 error. Characters that an RFC 8941 string
 * cannot hold become "?". At most 300 bytes. The caller frees it. NULL when out of memory.
 */
char *problem_proxy_status(const struct problem_report *report);

#endif

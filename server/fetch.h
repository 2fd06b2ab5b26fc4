/*
 * Fetches: the upstream half of an exchange. libcurl itself is in transfer.c and fetcher.c.
 *
 * A fetch is started once its ticket holds a slot. It resolves its origin's name, connects to one
 * address after the other until one answers, sends the request with the bytes that come through
 * the upload pipe, and puts the answer's head into itself and its body into the download pipe.
 * What has happened is pulled: fetcher_take_news() names the fetches whose owners should look.
 *
 * The fetcher owns fetches and connections. A fetch borrows its pipes, its origin and the strings
 * of its request until fetch_destroy().
 */
#ifndef WEIR_SERVER_FETCH_H
#define WEIR_SERVER_FETCH_H

#include "api/headers.h"
#include "api/origin.h"
#include "api/problem.h"
#include "limiter/limiter.h"
#include "server/egress.h"
#include "server/pipe.h"
#include "server/resolver.h"
#include "server/sockets.h"
#include "server/tls.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fetcher;
struct fetch;

struct fetch_timeouts {
    uint64_t connect_ns;       /* look-up, TCP and TLS together */
    uint64_t first_byte_ns;    /* from the request's last byte to the answer's first */
    uint64_t upstream_idle_ns; /* between two steps of a body, either way */
    uint64_t total_ns;         /* all of it; 0: unbounded */
};

enum fetch_body { FETCH_BODY_NONE, FETCH_BODY_LENGTH, FETCH_BODY_CHUNKED };

struct fetch_request {
    struct origin *origin;
    struct limiter *limiter;
    struct limiter_host *host; /* whose slot it holds */
    const char *method;
    const char *path;            /* request target: path and query */
    const struct header *fields; /* to be sent as they are, after Host */
    size_t field_count;
    enum fetch_body body;
    uint64_t body_bytes; /* with FETCH_BODY_LENGTH */
    struct pipe *upload; /* the body; its owner closes it at the end */
    struct pipe *download;
    struct fetch_timeouts timeouts;
    unsigned egress_grants; /* EGRESS_GRANT_... */
    void *owner;
};

enum fetch_state {
    FETCH_RUNNING,
    FETCH_DONE,   /* the whole answer has come, its last bytes may still be in the pipe */
    FETCH_FAILED, /* fetch_problem() says why; before or after the head */
};

/* The head of an answer, once it is complete. Good until fetch_destroy(). */
struct fetch_answer {
    unsigned status;
    const struct header *fields;
    size_t field_count;
    struct headers_response_facts facts;
};

struct fetch_times { /* 0: has not happened */
    uint64_t started_ns;
    uint64_t connected_ns;
    uint64_t first_byte_ns;
    uint64_t ended_ns;
};

struct fetcher_options {
    unsigned lanes;        /* curl multis over which hosts are spread */
    unsigned connections;  /* to keep at most, in all: those that idle take descriptors too */
    uint32_t socket_bytes; /* what the kernel may hold each way for one; 0: as it likes */
    uint64_t keepalive_ns; /* how long an idle connection is kept */
};

/* libcurl must have been initialised. NULL when out of memory or descriptors. */
struct fetcher *fetcher_create(uv_loop_t *loop, struct resolver *resolver,
                               const struct fetcher_options *options, uint64_t now_ns);

/*
 * The policy in force from now on, borrowed until the next one is set; before the first fetch.
 * Requests that have been sent go on; an idle connection to where the policy does not lead is
 * closed when somebody would use it.
 */
void fetcher_set_egress(struct fetcher *fetcher, const struct egress *egress);

/*
 * How TLS is spoken from now on, in the same manner. Connections to hosts with which it is spoken
 * otherwise from now on are closed: idle ones at once, others after their present request.
 */
void fetcher_set_tls(struct fetcher *fetcher, const struct tls *tls);

/* Every fetch must be destroyed. Closes all connections; run the loop afterwards. Accepts NULL. */
void fetcher_destroy(struct fetcher *fetcher);

/*
 * Starts a fetch; it takes copies of the fields and borrows the rest. NULL when out of memory.
 */
struct fetch *fetch_start(struct fetcher *fetcher, const struct fetch_request *request,
                          uint64_t now_ns);

/* Ends FETCH in any state: a running one is cancelled and its connection closed. Accepts NULL. */
void fetch_destroy(struct fetch *fetch);

enum fetch_state fetch_state(const struct fetch *fetch);
void *fetch_owner(const struct fetch *fetch);

/* The answer's head, or NULL while it has not come. */
const struct fetch_answer *fetch_answer(const struct fetch *fetch);

/* With FETCH_FAILED: what to answer, and a sentence about it. */
enum problem fetch_problem(const struct fetch *fetch, const char **ret_detail);

/* The answer's trailer fields, complete with FETCH_DONE. */
const struct header *fetch_trailers(const struct fetch *fetch, size_t *ret_count);

struct fetch_times fetch_times(const struct fetch *fetch);

/* Whether all of the request's body has been given to the upstream, or never will be. */
bool fetch_upload_over(const struct fetch *fetch);

/* Trailers of the request, copied; before the upload pipe is closed. False when out of memory. */
bool fetch_set_trailers(struct fetch *fetch, const struct header *trailers, size_t count);

/* The owner has put bytes into the upload pipe, or closed it. */
void fetch_upload_ready(struct fetch *fetch);

/* The owner has taken bytes out of the download pipe. */
void fetch_download_ready(struct fetch *fetch);

/*
 * Does one step of what can be done now: what is due, resolved, resumed or just started, and only
 * where nothing was just started one socket that is ready. Returns true where it did something. One
 * at a time, because a slot that frees is to be used before the next answer is read.
 */
bool fetcher_run(struct fetcher *fetcher, uint64_t now_ns);

/* The next fetch whose state, answer or pipes have changed since it was last taken; or NULL. */
struct fetch *fetcher_take_news(struct fetcher *fetcher);

/* When fetcher_run() should be called again though nothing is ready. UINT64_MAX: no need. */
uint64_t fetcher_next_ns(const struct fetcher *fetcher);

struct sockets *fetcher_sockets(const struct fetcher *fetcher);

#endif

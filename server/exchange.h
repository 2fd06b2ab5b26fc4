/*
 * Exchanges: one client request and its answer, from first byte to last.
 *
 * An exchange is moved by what its client does (told by the frontend), by its ticket (the limiter)
 * and by its fetch. It knows nothing of libmicrohttpd or libcurl. Whenever its client half can go
 * on, it is on the list of those to wake: exchanges_take_awake().
 *
 *   READING --begin--> CHECKING --may--> WAITING --granted--> FETCHING --head--> ANSWERING
 *                                                                  ANSWERING --end--> ENDED
 *
 * and from any of them to REFUSING (a problem is the answer) or ABORTING (the client is cut off).
 *
 * The exchanges own every exchange; the frontend holds one from exchange_create() to
 * exchange_end(), after which it is reaped at the end of the turn.
 */
#ifndef WEIR_SERVER_EXCHANGE_H
#define WEIR_SERVER_EXCHANGE_H

#include "api/config.h"
#include "api/headers.h"
#include "api/problem.h"
#include "api/target.h"
#include "limiter/limiter.h"
#include "server/auth.h"
#include "server/egress.h"
#include "server/fetch.h"
#include "server/identity.h"
#include "server/log.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct exchanges;
struct exchange;
struct admission_place;

/* What it works with; all borrowed. */
struct exchanges_parts {
    struct limiter *limiter;
    struct fetcher *fetcher;
    struct log *log;
    struct identity *identity;
    struct auth *auth;
};

/* From the configuration. */
struct exchanges_settings {
    unsigned overflow_status;
    struct config_timeouts timeouts;
    size_t buffer_bytes;
};

struct exchanges_counts {
    uint32_t open; /* exchanges whose head is here, and that have not ended */
    uint64_t requests_total;
    uint64_t problems_total;
    uint64_t bytes_in_total;
    uint64_t bytes_out_total;
    struct pipe_budget buffers;
    uint64_t buffers_full_total; /* requests that were refused for it */
};

/* NULL when out of memory. */
struct exchanges *exchanges_create(const struct exchanges_parts *parts,
                                   const struct exchanges_settings *settings, uint64_t now_ns);

/* Every exchange must have ended. Accepts NULL. */
void exchanges_destroy(struct exchanges *exchanges);

/* A reload's settings. Fetches that have started keep their timeouts; all else applies at once. */
void exchanges_configure(struct exchanges *exchanges, const struct exchanges_settings *settings);

/* The policy in force from now on, borrowed until the next one is set; before the first request. */
void exchanges_set_egress(struct exchanges *exchanges, const struct egress *egress);

/* The named upstreams from now on, borrowed as the policy is; NULL: none. */
void exchanges_set_upstreams(struct exchanges *exchanges, const struct upstreams *upstreams);

/* From now on requests are refused as draining; those that are under way go on. */
void exchanges_drain(struct exchanges *exchanges);

/* Cuts every exchange off. */
void exchanges_abort_all(struct exchanges *exchanges);

struct exchanges_counts exchanges_counts(const struct exchanges *exchanges);

/*
 * Looks at the fetches that have news, whose slots come back, and at deadlines. Returns true where
 * it did something.
 */
bool exchanges_run(struct exchanges *exchanges, uint64_t now_ns);

/* PLACE, an exchange's, may start or has waited too long: starts its fetch, or answers. */
void exchanges_admit(struct exchanges *exchanges, struct admission_place *place);

/* Frees what has ended; at the end of a turn, outside every library's callback. */
void exchanges_reap(struct exchanges *exchanges);

/* When exchanges_run() should be called again though nothing happened. */
uint64_t exchanges_next_ns(const struct exchanges *exchanges);

/* The next exchange whose client half can go on, or NULL. */
struct exchange *exchanges_take_awake(struct exchanges *exchanges);

/* --- the client half --- */

/*
 * A request line has come: RAW is its target (copied), CLIENT the peer's address ("host:port",
 * borrowed until exchange_end()), CONTEXT the frontend's own. NULL when out of memory.
 */
struct exchange *exchange_create(struct exchanges *exchanges, const char *raw, const char *client,
                                 void *context);

void *exchange_context(const struct exchange *exchange);

/* Whether exchange_begin() has been called. */
bool exchange_begun(const struct exchange *exchange);

/*
 * The request's head is complete. Decides whether it is refused, waits or starts. What the fields
 * and the method point to stays good until exchange_end(), the array itself is copied. DEFECT is
 * what the reader of the head found wrong with it, a static sentence, or NULL.
 */
void exchange_begin(struct exchange *exchange, const struct headers_request *request,
                    const char *defect, uint64_t now_ns);

/* What the frontend should do with the client now. */
enum exchange_step {
    EXCHANGE_WAIT,   /* nothing: read no more, until the exchange is awake */
    EXCHANGE_READ,   /* let the request's body come */
    EXCHANGE_ANSWER, /* send exchange_answer() */
    EXCHANGE_CUT,    /* close the connection */
};

/* The step after the head and before the body (HEAD_ONLY), or after the whole request. */
enum exchange_step exchange_step(const struct exchange *exchange, bool head_only);

/*
 * Bytes of the request's body have come. Returns how many were taken; fewer than BYTES: come again
 * with the rest when the exchange is awake.
 */
size_t exchange_upload(struct exchange *exchange, const char *data, size_t bytes, uint64_t now_ns);

/* The request is complete; its trailers, in order. */
void exchange_upload_end(struct exchange *exchange, const struct header *trailers, size_t count,
                         uint64_t now_ns);

/* A field of an answer; strings that end in '\0'. */
typedef void exchange_field_fn(void *context, const char *name, const char *value);

struct exchange_answer {
    unsigned status;
    bool has_length;
    uint64_t length; /* of the body; for HEAD and 304 what it would be */
    bool no_body;    /* HEAD, 204, 304: nothing follows the head */
    bool close;      /* the connection must not be used again */
    char *body;      /* the whole body, for the taker to free(); NULL: comes by exchange_read() */
};

/* The answer; once, unless exchange_reject_answer() follows. The exchange counts as answered. */
struct exchange_answer exchange_answer(struct exchange *exchange, uint64_t now_ns);

/* Calls WRITE for each header field of the answer, in order; right after exchange_answer(). */
void exchange_answer_fields(const struct exchange *exchange, exchange_field_fn *write,
                            void *context);

/* The answer cannot be sent: PROBLEM takes its place, and exchange_answer() gives that. */
void exchange_reject_answer(struct exchange *exchange, enum problem problem, const char *detail);

enum exchange_read { EXCHANGE_BYTES, EXCHANGE_LATER, EXCHANGE_END, EXCHANGE_BROKEN };

/*
 * The next bytes of the answer's body, at most SIZE; *ret_bytes with EXCHANGE_BYTES. With
 * EXCHANGE_END calls WRITE for each trailer field.
 */
enum exchange_read exchange_read(struct exchange *exchange, char *buffer, size_t size,
                                 size_t *ret_bytes, exchange_field_fn *write, void *context);

enum exchange_end {
    EXCHANGE_SENT,        /* the answer was sent whole */
    EXCHANGE_CLIENT_GONE, /* the client left, or was cut off */
    EXCHANGE_REJECTED,    /* the frontend itself refused it before it began, with STATUS */
};

/*
 * The client has left, or is cut off for the reason OUTCOME (a word for the log): gives the slot
 * back at once. The frontend closes the connection and ends the exchange.
 */
void exchange_abort(struct exchange *exchange, const char *outcome);

/* Whether the client is to be cut off. */
bool exchange_aborted(const struct exchange *exchange);

/* Logs what came from CLIENT and was no request at all. */
void exchanges_log_garbage(struct exchanges *exchanges, const char *client);

/* The client half is over, however: gives everything back and logs. The only way to end one. */
void exchange_end(struct exchange *exchange, enum exchange_end how, unsigned status);

#endif

/*
 * Who may use the data port: the credentials of requests (RFC 9110 section 11.7).
 *
 * A request shows them as `Proxy-Authorization: Basic base64(NAME:PASSWORD)`, or, where that field
 * cannot be set, as `Weir-Token: NAME:PASSWORD`; both are checked against one file (secrets.h).
 *
 * Checking a password is slow by design. It is done on libuv's threads, a few at a time; the
 * request waits meanwhile and the loop does not. What was right is remembered until the file is
 * read again, what was wrong for a short time, so that a client pays once and not for every
 * request. What is remembered is a keyed hash (HMAC-SHA-256) of the credentials, never themselves.
 * The same credentials are checked once, whoever shows them. How many may wait is bounded.
 *
 * It never calls its users: a check that has ended puts its queries on the list that each named.
 */
#ifndef WEIR_SERVER_AUTH_H
#define WEIR_SERVER_AUTH_H

#include "api/headers.h"
#include "api/problem.h"
#include "server/secrets.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uv.h>

#define AUTH_RUNNING_MAX 2 /* checks at once, of libuv's threads; look-ups leave it as many */

struct auth;

TAILQ_HEAD(auth_queries, auth_query);

/* Embedded by the caller; all zero is one that asks for nothing. */
struct auth_query {
    TAILQ_ENTRY(auth_query) link;
    struct auth_check *check;      /* while it waits */
    struct auth_queries *answered; /* where it goes then */
    bool ready;                    /* it is there */
    enum problem problem;          /* when ready: PROBLEM_NONE, it may; or the answer */
    const char *detail;            /* when ready, a static sentence; NULL without a problem */
};

/* Where and how often the bounds were reached. */
struct auth_counts {
    unsigned checking; /* on threads */
    unsigned waiting;  /* checks that have not begun */
    uint64_t checks_total;
    uint64_t refused_total; /* requests: no or wrong credentials */
    uint64_t busy_total;    /* requests: too many checks were waiting */
};

/* SECRETS is borrowed, until auth_replace() or auth_destroy(). NULL when out of memory. */
struct auth *auth_create(uv_loop_t *loop, const struct secrets *secrets);

/*
 * No query may be under way. Checks that are still with libuv are let go; run the loop until they
 * have ended, then nothing is left. Accepts NULL.
 */
void auth_destroy(struct auth *auth);

/* From now on SECRETS, borrowed, is what counts; all that is remembered is forgotten. */
void auth_replace(struct auth *auth, const struct secrets *secrets);

/* Whether credentials are asked for at all. */
bool auth_is_on(const struct auth *auth);

/*
 * Whether a request with FIELDS may use the port. Returns true where that is known at once: with
 * PROBLEM_NONE it may, else *ret_problem is the answer and *ret_detail a static sentence about it.
 * Otherwise QUERY waits, until it is put on ANSWERED (auth_take() takes it from there) or
 * auth_cancel() ends it. FIELDS need not outlive the call; ANSWERED must outlive QUERY's waiting.
 */
bool auth_ask(struct auth *auth, const struct header *fields, size_t count,
              struct auth_query *query, struct auth_queries *answered, uint64_t now_ns,
              enum problem *ret_problem, const char **ret_detail);

/* The next query of ANSWERED, taken off it; or NULL. */
struct auth_query *auth_take(struct auth_queries *answered);

/* Ends QUERY's waiting. Legal in any state. */
void auth_cancel(struct auth_query *query);

/* Answers what was checked and begins what waits; once a turn. True where it did something. */
bool auth_run(struct auth *auth, uint64_t now_ns);

/* Whether a check is on a thread; libuv cannot end one, only wait for it. */
bool auth_is_busy(const struct auth *auth);

struct auth_counts auth_counts(const struct auth *auth);

/* For tests: what is called on a thread for each check that begins from now on. */
typedef bool auth_verify(const char *password, const char *hash);
void auth_set_verify(struct auth *auth, auth_verify *verify);

#endif

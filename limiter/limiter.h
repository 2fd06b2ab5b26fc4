/*
 * The limiter: who may run now.
 *
 * A ticket is one request's place. It asks for its host with limiter_acquire() and either runs at
 * once or waits in its host's queue; limiter_poll() hands out, one at a time, the tickets that may
 * start now and those whose waiting time is over; limiter_release() ends a ticket in any state.
 *
 *   IDLE --acquire--> ACTIVE                       a slot was free and nobody waited
 *   IDLE --acquire--> WAITING --poll--> ACTIVE     granted, in the order of arrival
 *                     WAITING --poll--> EXPIRED    waited as long as it may
 *   any  --release--> IDLE                         the slot or the place is free again
 *
 * Promises (limiter_check() recomputes them):
 *   - a host never has more than `limit` ACTIVE tickets, except right after its limit was lowered,
 *     when those that run finish; all hosts together never more than the total limit;
 *   - per host, tickets become ACTIVE in the order of their acquire, and a newcomer never takes a
 *     slot that a waiter could have: where one of its own host waits it waits too, and so it does
 *     unless the total leaves a slot over when every waiter whose host has room has got one;
 *   - once limiter_poll() has returned NULL no ticket waits for whom a slot is free;
 *   - under the total limit the host whose oldest waiter has waited longest is served first.
 *
 * It has no I/O, no clock, no thread and no callback. Time is an argument, in nanoseconds of any
 * monotonic clock. Acquire, release and poll are O(1) in hosts and waiters, and O(log n) in the
 * hosts with waiters that could start: few, while the total limit is not what holds them back.
 * What grows (a table, the wheel's timers that move down a level) makes single calls longer.
 *
 * Tickets are embedded by the caller, who owns them and keeps them in place until they are IDLE.
 * Hosts belong to the limiter. A host without tickets may be evicted, oldest use first, when the
 * table is full; its counters then live on in limiter_totals().
 */
#ifndef WEIR_LIMITER_LIMITER_H
#define WEIR_LIMITER_LIMITER_H

#include "limiter/histogram.h"
#include "limiter/rules.h"
#include "limiter/wheel.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#define LIMITER_NEVER WHEEL_NEVER

enum limiter_state {
    LIMITER_IDLE,
    LIMITER_WAITING,
    LIMITER_ACTIVE,
    LIMITER_EXPIRED,
};

enum limiter_verdict {
    LIMITER_ADMITTED,         /* ACTIVE: start it */
    LIMITER_QUEUED,           /* WAITING: limiter_poll() will return it */
    LIMITER_QUEUE_FULL,       /* as many wait for this host as may; IDLE */
    LIMITER_TOTAL_QUEUE_FULL, /* as many wait in all as may; IDLE */
    LIMITER_QUEUE_TIMEOUT,    /* would have to wait and may not wait at all; IDLE */
    LIMITER_HOSTS_FULL,       /* the host table is full and every host in it is in use; IDLE */
    LIMITER_NO_MEMORY,        /* IDLE */
};

/* Why requests for a host came to nothing; the limiter counts all but DRAINING and DENIED. */
enum limiter_rejection {
    LIMITER_REJECTED_QUEUE_FULL,
    LIMITER_REJECTED_QUEUE_TIMEOUT,
    LIMITER_REJECTED_CLIENT_GONE, /* released while WAITING */
    LIMITER_REJECTED_DRAINING,
    LIMITER_REJECTED_DENIED,
    LIMITER_REJECTIONS, /* how many there are */
};

struct limiter;
struct limiter_host;

/* All zero is an IDLE ticket. The caller reads, and only the limiter writes. */
struct limiter_ticket {
    enum limiter_state state;
    uint32_t ahead;            /* tickets of its host before it when it arrived, running ones too */
    struct limiter_host *host; /* while not IDLE */
    uint64_t sequence;         /* order of arrival over all hosts, from 1 */
    uint64_t arrived_ns;
    uint64_t started_ns; /* once ACTIVE */
    struct wheel_timer deadline;
    TAILQ_ENTRY(limiter_ticket) link; /* in the host's queue */
};

struct limiter_counters {
    uint64_t admitted_total;  /* tickets that became ACTIVE */
    uint64_t completed_total; /* ACTIVE tickets that were released */
    uint64_t queued_total;    /* tickets that became WAITING */
    uint64_t rejected_total[LIMITER_REJECTIONS];
    struct histogram wait;    /* from acquire to ACTIVE, 0 for those that never waited */
    struct histogram service; /* from ACTIVE to release */
};

/* What limiter_describe() tells of one host; pointers are good until the limiter is changed. */
struct limiter_view {
    const char *host;
    const char *rule; /* the name of the rule that gave the limit */
    uint32_t limit;
    uint32_t queue_limit;
    uint32_t active;
    uint32_t peak_active;
    uint32_t queued;
    uint32_t peak_queued;
    uint64_t queue_timeout_ns;
    uint64_t oldest_wait_ns; /* 0 where none waits */
    const struct limiter_counters *counters;
};

struct limiter_totals {
    uint32_t limit;
    uint32_t queue_limit;
    uint32_t active;
    uint32_t queued;
    uint32_t peak_active;
    uint32_t peak_queued;
    uint32_t hosts;
    uint32_t hosts_max;
    uint64_t oldest_wait_ns;
    uint64_t hosts_full_total; /* requests refused because the table was full */
    uint64_t evicted_total;
    struct limiter_counters counters; /* of all hosts, evicted ones too */
};

struct limiter_bounds {
    uint32_t limit;     /* ACTIVE tickets in all, at least 1 */
    uint32_t queue;     /* WAITING tickets in all */
    uint32_t hosts_max; /* entries in the host table, at least 1 */
};

/*
 * Makes a limiter that stands at NOW_NS. It owns RULES from then on, unless it returns NULL, which
 * it does when out of memory.
 */
struct limiter *limiter_create(struct rules *rules, const struct limiter_bounds *bounds,
                               uint64_t now_ns);

/* Every ticket must be IDLE. Accepts NULL. */
void limiter_destroy(struct limiter *limiter);

/*
 * Asks for a slot of HOST, a key as in rules.h, for TICKET, which must be IDLE. It waits no longer
 * than the host's rule says nor than MAX_WAIT_NS (LIMITER_NEVER: only what the rule says).
 */
enum limiter_verdict limiter_acquire(struct limiter *limiter, const char *host,
                                     uint64_t max_wait_ns, struct limiter_ticket *ticket,
                                     uint64_t now_ns);

/*
 * Ends TICKET: legal in every state, and the only way to give a slot or a place back. An ACTIVE one
 * counts as completed, a WAITING one as rejected because its client is gone.
 */
void limiter_release(struct limiter *limiter, struct limiter_ticket *ticket, uint64_t now_ns);

/*
 * The next ticket that has become ACTIVE or EXPIRED (its state says which), or NULL where there is
 * none. What is expired at NOW_NS comes before what may start. Call it until it returns NULL. A
 * ticket expires up to WHEEL_TICK_NS after its deadline, never before it.
 */
struct limiter_ticket *limiter_poll(struct limiter *limiter, uint64_t now_ns);

/*
 * When to call limiter_poll() again though nothing was released: not later than the next waiter's
 * deadline, at times earlier. LIMITER_NEVER where nobody waits.
 */
uint64_t limiter_next_deadline_ns(const struct limiter *limiter);

/*
 * Takes RULES and BOUNDS in place of those in force and frees the old; every known host gets its
 * new limit, queue bound and (for tickets that come from now on) queue timeout. What runs and
 * waits stays, also where it is more than the new bounds. A host that waits or runs keeps its
 * budget until it is idle, even where `shared` would now give it another; a shared budget that is
 * no longer one keeps its hosts likewise, until it is idle or the rules change once more. Owns
 * RULES, unless it returns false, which it does when out of memory, having changed nothing.
 */
bool limiter_set_rules(struct limiter *limiter, struct rules *rules,
                       const struct limiter_bounds *bounds);

/*
 * The host whose budget HOST draws on, or NULL where the limiter has none yet. Changes nothing:
 * no entry is made or refreshed.
 */
struct limiter_host *limiter_find(const struct limiter *limiter, const char *host);

/* The first host (PREVIOUS is NULL) or the one after; NULL at the end. Idle ones first, the
 * longest unused first; then those with tickets or an attachment. */
struct limiter_host *limiter_next_host(const struct limiter *limiter,
                                       const struct limiter_host *previous);

void limiter_describe(const struct limiter_host *host, uint64_t now_ns,
                      struct limiter_view *ret_view);

void limiter_describe_totals(const struct limiter *limiter, uint64_t now_ns,
                             struct limiter_totals *ret_totals);

/*
 * Whether the rules now give the requests that HOST stands for another budget: it ends with those
 * it has.
 */
bool limiter_host_is_stale(const struct limiter_host *host);

/* What HOST's limit is now; the same as limiter_describe() would say, but cheap. */
uint32_t limiter_host_limit(const struct limiter_host *host);

/* A number that stays with HOST's name, also over evictions: to spread hosts over things. */
uint32_t limiter_host_hash(const struct limiter *limiter, const struct limiter_host *host);

/* How many wait for HOST beyond those for whom it has a slot free. */
uint32_t limiter_host_waiting(const struct limiter_host *host);

/*
 * How long a request for HOST that finds AHEAD others in its queue may expect to wait: the
 * smoothed time that a slot of this host is held x (ahead + 1) / limit. 0 while nothing has
 * finished yet.
 */
uint64_t limiter_expected_wait_ns(const struct limiter_host *host, uint32_t ahead);

/*
 * Counts, for the host whose budget HOST draws on and in all, a request that came to nothing
 * outside the limiter. A host that is not in the table is not put there.
 */
void limiter_count_rejection(struct limiter *limiter, const char *host, enum limiter_rejection why);

/*
 * One pointer of the caller's at a host, such as what it knows of the host's connections. A host
 * with an attachment is not evicted. It must be NULL again before limiter_destroy().
 */
void *limiter_attachment(const struct limiter_host *host);
void limiter_attach(struct limiter *limiter, struct limiter_host *host, void *attachment);

/* Recomputes every invariant, in time linear in hosts and tickets; for tests. */
bool limiter_check(const struct limiter *limiter);

#endif

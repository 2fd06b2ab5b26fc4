/*
 * The hosts that the limiter knows: a bounded hash table, and two lists in order of use.
 *
 * A host without tickets and attachment is in the list `idle`, oldest use first; when the table is
 * full the first of them makes room. All others are in `held`. Only the limiter looks inside.
 */
#ifndef WEIR_LIMITER_HOSTS_H
#define WEIR_LIMITER_HOSTS_H

#include "limiter/limiter.h"
#include "limiter/rules.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#define HOSTS_CACHE_LINE 64
#define HOSTS_SHORT_KEY  86 /* this and the next as long as four cache lines for a host allow */
#define HOSTS_NOTES      6

struct limiter_host {
    _Alignas(HOSTS_CACHE_LINE) uint32_t limit;
    uint32_t active;
    uint32_t queued;
    uint32_t startable; /* min(queued, limit - active), at least 0 */
    uint32_t tickets;   /* that are not IDLE */
    uint32_t ready_at;  /* its place in the heap of ready hosts, while startable is not 0 */
    TAILQ_HEAD(, limiter_ticket) queue;
    struct limiter_counters *counters; /* apart, so that hosts lie close together */
    char *key;                         /* its own: short_key, or allocated where that is short */
    uint32_t index;                    /* what table and lists name it by */
    uint32_t queue_limit;

    uint64_t queue_timeout_ns;
    uint64_t slot_time_ns; /* smoothed: how long a ticket is ACTIVE */
    const struct rule *rule;
    void *attachment;
    uint32_t peak_active;
    uint32_t peak_queued;
    bool held;  /* in the list `held` */
    bool stale; /* the rules give its key another budget; only what it has ends here */
    char short_key[HOSTS_SHORT_KEY];

    /* What is not in the counters yet: see note_move(). */
    uint32_t at_once; /* tickets that became ACTIVE without waiting */
    uint32_t joined;  /* tickets that became WAITING */
    uint32_t notes;
    struct hosts_note {
        uint64_t ran : 1; /* until its release; or else it waited until it was ACTIVE */
        uint64_t spent_ns : 63;
    } note[HOSTS_NOTES];
};

struct hosts {
    struct hosts_entry *table; /* open, linear probing, at most half full */
    uint32_t mask;             /* its size less one */
    uint32_t count;
    uint32_t max;
    uint32_t places; /* for hosts, in chunks; taken or free */
    uint32_t room;   /* how many places links and chunks are long enough for */
    struct hosts_link *links;
    struct hosts_chunk **chunks;
    uint64_t seed;
    uint64_t evicted_total;
};

/* Makes HOSTS an empty table for MAX hosts. SEED is mixed into the hashes of keys. */
void hosts_init(struct hosts *hosts, uint32_t max, uint64_t seed);

/* Frees all hosts, none of which may be held. */
void hosts_finish(struct hosts *hosts);

/* The hash of KEY, whether there is such a host or not. */
uint32_t hosts_hash(const struct hosts *hosts, const char *key);

/* The host with KEY, or NULL. */
struct limiter_host *hosts_find(const struct hosts *hosts, const char *key);

/* Evicts until at most max - MORE hosts are left; false where too many are held for that. */
bool hosts_make_room(struct hosts *hosts, uint32_t more);

/*
 * Adds a host with KEY, which is not in the table and for which there is room. It is idle, and all
 * zero beside its key. NULL when out of memory.
 */
struct limiter_host *hosts_add(struct hosts *hosts, const char *key);

/* Puts HOST, which was just used, at the end of the list in which it belongs. */
void hosts_place(struct hosts *hosts, struct limiter_host *host);

/* The first host (PREVIOUS is NULL) or the one after; NULL at the end. Idle ones come first. */
struct limiter_host *hosts_next(const struct hosts *hosts, const struct limiter_host *previous);

/* The same, of those that are held alone. */
struct limiter_host *hosts_next_held(const struct hosts *hosts,
                                     const struct limiter_host *previous);

/* Whether something keeps HOST from being evicted. */
bool hosts_is_held(const struct limiter_host *host);

/* Recomputes the invariants of table and lists; for tests. */
bool hosts_check(const struct hosts *hosts);

#endif

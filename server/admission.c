#include "server/admission.h"

#include <assert.h>
#include <stddef.h>

enum limiter_verdict admission_ask(struct limiter *limiter, struct sockets *sockets,
                                   const char *host, uint64_t max_wait_ns,
                                   enum admission_owner owner, struct admission_place *place,
                                   uint64_t now_ns)
{
    enum limiter_verdict verdict;
    place->owner = owner;
    do {
        verdict = limiter_acquire(limiter, host, max_wait_ns, &place->ticket, now_ns);
    } while (verdict == LIMITER_HOSTS_FULL && sockets_retire_idle_host(sockets));
    if (verdict == LIMITER_QUEUED) {
        sockets_note_waiter(sockets, place->ticket.host);
    }
    return verdict;
}

struct admission_place *admission_poll(struct limiter *limiter, uint64_t now_ns)
{
    struct limiter_ticket *ticket = limiter_poll(limiter, now_ns);
    if (ticket == NULL) {
        return NULL;
    }
    return (struct admission_place *)((char *)ticket - offsetof(struct admission_place, ticket));
}

enum problem admission_problem(enum limiter_verdict verdict, const char **ret_detail)
{
    switch (verdict) {
    case LIMITER_QUEUE_FULL:
        *ret_detail = "as many requests wait for this host as may";
        return PROBLEM_QUEUE_FULL;
    case LIMITER_TOTAL_QUEUE_FULL:
        *ret_detail = "as many requests wait, for all hosts, as may";
        return PROBLEM_QUEUE_FULL;
    case LIMITER_QUEUE_TIMEOUT:
        *ret_detail = "no slot is free and the request may not wait";
        return PROBLEM_QUEUE_TIMEOUT;
    case LIMITER_HOSTS_FULL:
        *ret_detail = "requests for too many hosts are under way";
        return PROBLEM_HOSTS_FULL;
    case LIMITER_NO_MEMORY:
        *ret_detail = "out of memory for another host";
        return PROBLEM_HOSTS_FULL;
    case LIMITER_ADMITTED:
    case LIMITER_QUEUED:
        break;
    }
    assert(false && "a verdict that keeps the request out");
    *ret_detail = NULL;
    return PROBLEM_INTERNAL;
}

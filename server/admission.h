/*
 * Admission: how fetches and tunnels ask for a slot, and which of them a granted one belongs to.
 *
 * Both wait in the same queue (limiter/limiter.h). Beside its ticket each has a note of who it is,
 * so that one place can hand out what limiter_poll() lets start.
 */
#ifndef WEIR_SERVER_ADMISSION_H
#define WEIR_SERVER_ADMISSION_H

#include "api/problem.h"
#include "limiter/limiter.h"
#include "server/sockets.h"

#include <stdint.h>

enum admission_owner { ADMISSION_EXCHANGE, ADMISSION_TUNNEL };

/* Embedded by the caller; all zero is one that asks for nothing. */
struct admission_place {
    struct limiter_ticket ticket;
    enum admission_owner owner;
};

/*
 * Asks for a slot of HOST for PLACE, which belongs to OWNER; as limiter_acquire(). A host that is
 * known only for its idle connections makes room in a full host table. Where PLACE has to wait,
 * silent tunnels of its host will be asked to make room: sockets_take_contended().
 */
enum limiter_verdict admission_ask(struct limiter *limiter, struct sockets *sockets,
                                   const char *host, uint64_t max_wait_ns,
                                   enum admission_owner owner, struct admission_place *place,
                                   uint64_t now_ns);

/* The next place that may start or has waited too long, as limiter_poll(); or NULL. */
struct admission_place *admission_poll(struct limiter *limiter, uint64_t now_ns);

/* The problem that VERDICT, which does not let the request in, is to its client. */
enum problem admission_problem(enum limiter_verdict verdict, const char **ret_detail);

#endif

/*
 * The hosts that are ready: those with waiters whom their own free slots would take. A heap, whose
 * first is the host with the oldest waiter. It does not own the hosts.
 */
#ifndef WEIR_LIMITER_READY_H
#define WEIR_LIMITER_READY_H

#include "limiter/hosts.h"

#include <stdbool.h>
#include <stdint.h>

struct ready_item {
    uint64_t sequence; /* of the host's oldest waiter */
    struct limiter_host *host;
};

/* All zero is an empty one. */
struct ready {
    struct ready_item *heap;
    uint32_t count;
    uint32_t capacity;
    uint64_t startable; /* the sum over all hosts: how many waiters only the total can hold back */
};

void ready_finish(struct ready *ready);

/* Makes room for HOSTS hosts in all, so that ready_update() cannot fail; false: out of memory. */
bool ready_reserve(struct ready *ready, uint32_t hosts);

/* Brings HOST's `startable` and its place up to date: its queue, slots or limit have changed. */
void ready_update(struct ready *ready, struct limiter_host *host);

/* The host whose oldest waiter has waited longest, or NULL where none is ready. */
struct limiter_host *ready_first(const struct ready *ready);

/* Whether HOST is where it should be. */
bool ready_check_host(const struct ready *ready, const struct limiter_host *host);

/* Recomputes the order of the heap; for tests. */
bool ready_check(const struct ready *ready);

#endif

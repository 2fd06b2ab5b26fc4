#include "limiter/ready.h"

#include <assert.h>
#include <stdlib.h>

#define CAPACITY_MIN 32

void ready_finish(struct ready *ready)
{
    assert(ready);
    free(ready->heap);
}

bool ready_reserve(struct ready *ready, uint32_t hosts)
{
    assert(ready);
    if (hosts <= ready->capacity) {
        return true;
    }
    uint32_t capacity = ready->capacity > 0 ? ready->capacity : CAPACITY_MIN;
    while (capacity < hosts) {
        capacity *= 2;
    }
    struct ready_item *heap = realloc(ready->heap, capacity * sizeof *heap);
    if (!heap) {
        return false;
    }
    ready->heap = heap;
    ready->capacity = capacity;
    return true;
}

static void put(struct ready *ready, uint32_t index, struct ready_item item)
{
    ready->heap[index] = item;
    item.host->ready_at = index;
}

/* Puts ITEM at INDEX, or, where the order wants it, further up or down. INDEX is free. */
static void sift(struct ready *ready, uint32_t index, struct ready_item item)
{
    struct ready_item *heap = ready->heap;
    while (index > 0 && item.sequence < heap[(index - 1) / 2].sequence) {
        put(ready, index, heap[(index - 1) / 2]);
        index = (index - 1) / 2;
    }
    for (;;) {
        uint32_t child = 2 * index + 1;
        if (child + 1 < ready->count && heap[child + 1].sequence < heap[child].sequence) {
            child++;
        }
        if (child >= ready->count || item.sequence < heap[child].sequence) {
            break;
        }
        put(ready, index, heap[child]);
        index = child;
    }
    put(ready, index, item);
}

static uint32_t count_startable(const struct limiter_host *host)
{
    uint32_t slots = host->active < host->limit ? host->limit - host->active : 0;
    return host->queued < slots ? host->queued : slots;
}

void ready_update(struct ready *ready, struct limiter_host *host)
{
    assert(ready && host);
    uint32_t before = host->startable;
    host->startable = count_startable(host);
    ready->startable += host->startable;
    ready->startable -= before;
    if (host->startable > 0) {
        uint64_t sequence = TAILQ_FIRST(&host->queue)->sequence;
        if (before == 0) {
            assert(ready->count < ready->capacity);
            host->ready_at = ready->count++;
        }
        sift(ready, host->ready_at, (struct ready_item){.sequence = sequence, .host = host});
    } else if (before > 0) {
        struct ready_item last = ready->heap[--ready->count];
        if (last.host != host) {
            sift(ready, host->ready_at, last);
        }
    }
}

struct limiter_host *ready_first(const struct ready *ready)
{
    assert(ready);
    return ready->count > 0 ? ready->heap[0].host : NULL;
}

bool ready_check_host(const struct ready *ready, const struct limiter_host *host)
{
    if (host->startable != count_startable(host)) {
        return false;
    }
    if (host->startable == 0) {
        return true;
    }
    const struct ready_item *item = &ready->heap[host->ready_at];
    return host->ready_at < ready->count && item->host == host &&
           item->sequence == TAILQ_FIRST(&host->queue)->sequence;
}

bool ready_check(const struct ready *ready)
{
    assert(ready);
    for (uint32_t i = 1; i < ready->count; i++) {
        if (ready->heap[(i - 1) / 2].sequence >= ready->heap[i].sequence) {
            return false;
        }
    }
    return ready->count <= ready->capacity;
}

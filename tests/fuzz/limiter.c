/*
 * Operations on the limiter, taken from bytes. After each of them its invariants must hold, nobody
 * may have been started above a limit or before an older waiter of the same host, and after a full
 * poll no free slot and waiter that fit each other may be left.
 */
#include "limiter/limiter.h"

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TICKETS 32
#define MS      UINT64_C(1000000)

struct input {
    const uint8_t *data;
    size_t size;
};

struct play {
    struct limiter *limiter;
    struct limiter_bounds bounds;
    struct limiter_ticket tickets[TICKETS];
    uint64_t now_ns;
};

static uint8_t next_byte(struct input *input)
{
    if (input->size == 0) {
        return 0;
    }
    input->size--;
    return *input->data++;
}

/* Two bytes make the rules; every combination of limits, waiting and sharing can come up. */
static struct rules *make_rules(struct input *input)
{
    uint8_t byte = next_byte(input);
    uint8_t more = next_byte(input);
    struct rule rule = {.limit = 1 + byte % 3U, .queue = byte / 4 % 8, .queue_timeout_ns = 40 * MS};
    struct rules *rules = rules_create(&rule);
    assert(rules);
    rule = (struct rule){.name = "*.x", .limit = 1 + more % 4U, .queue = 9, .shared = byte >= 128};
    rule.queue_timeout_ns = more & 64 ? LIMITER_NEVER : 5 * MS;
    enum rules_added added = rules_add(rules, &rule);
    assert(added == RULES_ADDED);
    if (more & 128) {
        rule.name = "a.x";
        rule.queue_timeout_ns = 0;
        added = rules_add(rules, &rule);
        assert(added == RULES_ADDED);
    }
    return rules;
}

static void make_bounds(struct play *play, uint8_t byte)
{
    play->bounds.limit = 1 + byte % 8U;
    play->bounds.queue = 4 + byte / 8 % 8;
    play->bounds.hosts_max = 1 + byte / 64;
}

/* TICKET has just become ACTIVE. */
static void check_start(const struct play *play, const struct limiter_ticket *ticket)
{
    struct limiter_view view;
    struct limiter_totals totals;
    limiter_describe(ticket->host, play->now_ns, &view);
    limiter_describe_totals(play->limiter, play->now_ns, &totals);
    assert(view.active <= view.limit && totals.active <= totals.limit);
    for (int i = 0; i < TICKETS; i++) {
        const struct limiter_ticket *other = &play->tickets[i];
        assert(other->state != LIMITER_WAITING || other->host != ticket->host ||
               other->sequence > ticket->sequence);
    }
}

static void acquire(struct play *play, struct limiter_ticket *ticket, uint8_t byte)
{
    static const char *const names[] = {"a.x", "b.x", "c.x:81", "x", "d", "e", "f:81", "g"};
    uint64_t max_wait_ns = byte & 128 ? byte / 8 % 16 * 2 * MS : LIMITER_NEVER;
    if (ticket->state != LIMITER_IDLE) {
        return;
    }
    enum limiter_verdict verdict =
        limiter_acquire(play->limiter, names[byte % 8], max_wait_ns, ticket, play->now_ns);
    assert((verdict == LIMITER_ADMITTED) == (ticket->state == LIMITER_ACTIVE));
    assert((verdict == LIMITER_QUEUED) == (ticket->state == LIMITER_WAITING));
    if (verdict == LIMITER_ADMITTED) {
        check_start(play, ticket);
    }
}

static void poll_all(struct play *play)
{
    struct limiter_ticket *ticket;
    while ((ticket = limiter_poll(play->limiter, play->now_ns))) {
        assert(ticket->state == LIMITER_ACTIVE || ticket->state == LIMITER_EXPIRED);
        if (ticket->state == LIMITER_ACTIVE) {
            check_start(play, ticket);
        }
        assert(limiter_check(play->limiter));
    }
    struct limiter_totals totals;
    limiter_describe_totals(play->limiter, play->now_ns, &totals);
    struct limiter_host *host = NULL;
    while ((host = limiter_next_host(play->limiter, host))) {
        struct limiter_view view;
        limiter_describe(host, play->now_ns, &view);
        assert(view.queued == 0 || view.active >= view.limit || totals.active >= totals.limit);
    }
}

static void step(struct play *play, struct input *input)
{
    uint8_t byte = next_byte(input);
    struct limiter_ticket *ticket = &play->tickets[byte % TICKETS];
    switch (byte / TICKETS) {
    case 0:
    case 1:
    case 2:
        acquire(play, ticket, next_byte(input));
        break;
    case 3:
    case 4:
        limiter_release(play->limiter, ticket, play->now_ns);
        break;
    case 5:
        poll_all(play);
        break;
    case 6:
        play->now_ns += (byte % TICKETS + UINT64_C(1)) * MS;
        break;
    default:
        if (byte % TICKETS < 28 && ticket->host) {
            struct limiter_host *host = ticket->host;
            limiter_attach(play->limiter, host, limiter_attachment(host) ? NULL : play);
        } else {
            struct rules *rules = make_rules(input);
            make_bounds(play, next_byte(input));
            bool taken = limiter_set_rules(play->limiter, rules, &play->bounds);
            assert(taken);
        }
    }
    assert(limiter_check(play->limiter));
}

static void finish(struct play *play)
{
    for (int i = 0; i < TICKETS; i++) {
        limiter_release(play->limiter, &play->tickets[i], play->now_ns);
        assert(limiter_check(play->limiter));
    }
    struct limiter_host *host = NULL;
    while ((host = limiter_next_host(play->limiter, host))) {
        if (limiter_attachment(host)) {
            limiter_attach(play->limiter, host, NULL); /* which moves it in the order of use */
            host = NULL;
        }
    }
    struct limiter_totals totals;
    limiter_describe_totals(play->limiter, play->now_ns, &totals);
    assert(totals.active == 0 && totals.queued == 0);
    assert(totals.counters.admitted_total == totals.counters.completed_total);
    limiter_destroy(play->limiter);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {.data = data, .size = size};
    struct play play = {.now_ns = UINT64_C(1) << 40};
    make_bounds(&play, next_byte(&input));
    play.limiter = limiter_create(make_rules(&input), &play.bounds, play.now_ns);
    assert(play.limiter);
    while (input.size > 0) {
        step(&play, &input);
    }
    finish(&play);
    return 0;
}

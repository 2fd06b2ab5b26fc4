/*
 * The limiter under test, some tickets and a clock. Each call is followed by limiter_check().
 */
#ifndef WEIR_TESTS_UNIT_LIMITER_FIXTURE_H
#define WEIR_TESTS_UNIT_LIMITER_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "limiter/limiter.h"

#include <stdlib.h>
#include <string.h>

#define MS     UINT64_C(1000000)
#define SECOND (1000 * MS)
#define TICK   WHEEL_TICK_NS
#define START  (UINT64_C(1000) * SECOND)

static struct limiter *limiter;
static struct limiter_ticket tickets[32];
static uint64_t now_ns;

static struct rule rule_of(const char *name, uint32_t limit)
{
    return (struct rule){
        .name = name, .limit = limit, .queue = 100, .queue_timeout_ns = 30 * SECOND};
}

static struct rules *rules_of(struct rule fallback, const struct rule *more, size_t count)
{
    struct rules *rules = rules_create(&fallback);
    assert_non_null(rules);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(rules_add(rules, &more[i]), RULES_ADDED);
    }
    return rules;
}

static const struct limiter_bounds wide = {.limit = 100, .queue = 100, .hosts_max = 10};

static void start_with(struct rules *rules, struct limiter_bounds bounds)
{
    limiter_destroy(limiter);
    now_ns = START;
    limiter = limiter_create(rules, &bounds, now_ns);
    assert_non_null(limiter);
    assert_true(limiter_check(limiter));
}

static void start(uint32_t limit, struct limiter_bounds bounds)
{
    start_with(rules_of(rule_of("default", limit), NULL, 0), bounds);
}

static enum limiter_verdict acquire_within(int ticket, const char *host, uint64_t max_wait_ns)
{
    enum limiter_verdict verdict =
        limiter_acquire(limiter, host, max_wait_ns, &tickets[ticket], now_ns);
    assert_true(limiter_check(limiter));
    assert_int_equal(tickets[ticket].state, verdict == LIMITER_ADMITTED ? LIMITER_ACTIVE
                                            : verdict == LIMITER_QUEUED ? LIMITER_WAITING
                                                                        : LIMITER_IDLE);
    return verdict;
}

static enum limiter_verdict acquire(int ticket, const char *host)
{
    return acquire_within(ticket, host, LIMITER_NEVER);
}

static void release(int ticket)
{
    limiter_release(limiter, &tickets[ticket], now_ns);
    assert_true(limiter_check(limiter));
    assert_int_equal(tickets[ticket].state, LIMITER_IDLE);
    assert_null(tickets[ticket].host);
}

/* The number of the ticket that limiter_poll() returns, or -1. */
static int poll(void)
{
    struct limiter_ticket *ticket = limiter_poll(limiter, now_ns);
    assert_true(limiter_check(limiter));
    return ticket ? (int)(ticket - tickets) : -1;
}

static struct limiter_view view(const char *host)
{
    struct limiter_view ret;
    const struct limiter_host *found = limiter_find(limiter, host);
    assert_non_null(found);
    limiter_describe(found, now_ns, &ret);
    assert_int_equal(ret.limit, limiter_host_limit(found));
    return ret;
}

static struct limiter_totals totals(void)
{
    struct limiter_totals ret;
    limiter_describe_totals(limiter, now_ns, &ret);
    return ret;
}

static int teardown(void **state)
{
    (void)state;
    for (int i = 0; i < 32; i++) {
        limiter_release(limiter, &tickets[i], now_ns);
    }
    struct limiter_totals left = totals();
    limiter_destroy(limiter);
    limiter = NULL;
    memset(tickets, 0, sizeof tickets);
    return left.active == 0 && left.queued == 0 ? 0 : -1;
}

#define TEST(name) cmocka_unit_test_teardown(name, teardown)

#endif

/*
 * The limiter against a naive model of it (reference.h). Both get the same random operations; after
 * each, everything that can be seen must agree.
 *
 * The seed is printed; MODEL_SEED in the environment sets it, to see a failure again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "limiter/limiter.h"
#include "reference.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROUNDS     40
#define OPERATIONS 30000 /* in each round */
#define MS         UINT64_C(1000000)

static const char *const names[] = {"a",   "a:81",   "b",     "x",    "p.x",
                                    "q.x", "q.x:81", "r.y.x", "s.y.x"};
#define NAMES (sizeof names / sizeof *names)

static struct limiter *limiter;
static struct limiter_ticket tickets[TICKETS];
static int attachment;

static uint64_t random_state;

static uint64_t random_below(uint64_t bound)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (random_state >> 11) % bound;
}

/* --- both must agree --- */

static void compare_counters(const struct limiter_counters *counters,
                             const struct model_budget *model)
{
    assert_true(counters->admitted_total == model->admitted);
    assert_true(counters->completed_total == model->completed);
    assert_true(counters->queued_total == model->queued);
    assert_true(counters->wait.sum_ns == model->waited_ns);
    assert_true(counters->service.sum_ns == model->served_ns);
    assert_memory_equal(counters->rejected_total, model->rejected, sizeof model->rejected);
}

static void compare_host(const struct limiter_host *host, int budget)
{
    struct limiter_view view;
    limiter_describe(host, now_ns, &view);
    const struct rule *rule = rule_of(budget);
    uint64_t oldest_ns = now_ns;
    for (int i = 0; i < TICKETS; i++) {
        if (placed[i].state == LIMITER_WAITING && placed[i].budget == budget &&
            placed[i].arrived_ns < oldest_ns) {
            oldest_ns = placed[i].arrived_ns;
        }
    }
    assert_string_equal(view.rule, rule->name);
    assert_true(view.limit == rule->limit);
    assert_true(view.queue_limit == rule->queue);
    assert_true(view.queue_timeout_ns == rule->queue_timeout_ns);
    assert_true(view.active == count_tickets(budget, LIMITER_ACTIVE));
    assert_true(view.queued == count_tickets(budget, LIMITER_WAITING));
    assert_true(view.peak_active == budgets[budget].peak_active);
    assert_true(view.peak_queued == budgets[budget].peak_queued);
    assert_true(view.oldest_wait_ns == now_ns - oldest_ns);
    assert_true((limiter_attachment(host) != NULL) == budgets[budget].attached);
    assert_true(limiter_expected_wait_ns(host, 2) ==
                budgets[budget].slot_time_ns * 3 / rule->limit);
    compare_counters(view.counters, &budgets[budget]);
}

static void compare_hosts(void)
{
    uint32_t hosts = 0;
    uint64_t idle_since = 0;
    bool idle = true;
    struct limiter_host *host = NULL;
    while ((host = limiter_next_host(limiter, host))) {
        struct limiter_view view;
        limiter_describe(host, now_ns, &view);
        int budget = find_key(view.host);
        assert_true(budget >= 0);
        compare_host(host, budget);
        assert_true(idle || !is_idle(budget));
        idle = is_idle(budget);
        assert_true(!idle || budgets[budget].idle_since >= idle_since);
        idle_since = budgets[budget].idle_since;
        hosts++;
    }
    assert_true(hosts == count_known());
}

static void compare_totals(void)
{
    struct limiter_totals totals;
    limiter_describe_totals(limiter, now_ns, &totals);
    assert_true(totals.limit == bounds.limit);
    assert_true(totals.queue_limit == bounds.queue);
    assert_true(totals.hosts_max == bounds.hosts_max);
    assert_true(totals.active == count_tickets(-1, LIMITER_ACTIVE));
    assert_true(totals.queued == count_tickets(-1, LIMITER_WAITING));
    assert_true(totals.peak_active == all.peak_active);
    assert_true(totals.peak_queued == all.peak_queued);
    assert_true(totals.hosts == count_known());
    assert_true(totals.hosts_full_total == hosts_full);
    assert_true(totals.evicted_total == evicted);
    compare_counters(&totals.counters, &all);
}

static void compare(void)
{
    uint64_t due_ns = LIMITER_NEVER;
    for (int i = 0; i < TICKETS; i++) {
        assert_true(tickets[i].state == placed[i].state);
        if (placed[i].state != LIMITER_IDLE) {
            assert_true(tickets[i].sequence == placed[i].sequence);
        }
        uint64_t ticket_due_ns = (placed[i].deadline_ns / WHEEL_TICK_NS + 1) * WHEEL_TICK_NS;
        if (placed[i].state == LIMITER_WAITING && placed[i].deadline_ns != LIMITER_NEVER &&
            ticket_due_ns < due_ns) {
            due_ns = ticket_due_ns;
        }
    }
    uint64_t next_ns = limiter_next_deadline_ns(limiter);
    assert_true(next_ns <= due_ns);
    assert_true(due_ns != LIMITER_NEVER || next_ns == LIMITER_NEVER);
    assert_true(limiter_check(limiter));
    compare_totals();
    if (operation % 4 == 0) {
        compare_hosts();
    }
}

/* --- operations --- */

static struct rule random_rule(const char *name)
{
    static const uint64_t timeouts_ns[] = {0, 3 * MS, 50 * MS, 900 * MS, LIMITER_NEVER};
    return (struct rule){
        .name = name,
        .limit = 1 + (uint32_t)random_below(4),
        .queue = (uint32_t)random_below(8),
        .queue_timeout_ns = timeouts_ns[random_below(5)],
        .shared = random_below(2) == 0,
    };
}

static struct rules *random_rules(void)
{
    static const char *const choices[] = {"a", "a:81", "*.x", "*.x:81", "*.y.x", "r.y.x"};
    current.rules[0] = random_rule("default");
    current.rules[0].shared = false;
    current.count = 1;
    struct rules *rules = rules_create(&current.rules[0]);
    assert_non_null(rules);
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
        if (random_below(2) == 0) {
            current.rules[current.count] = random_rule(choices[i]);
            assert_int_equal(rules_add(rules, &current.rules[current.count]), RULES_ADDED);
            current.count++;
        }
    }
    bounds.limit = 1 + (uint32_t)random_below(12);
    bounds.queue = 2 + (uint32_t)random_below(20);
    bounds.hosts_max = 1 + (uint32_t)random_below(12);
    return rules;
}

static void do_acquire(void)
{
    int i = (int)random_below(TICKETS);
    if (placed[i].state != LIMITER_IDLE) {
        return;
    }
    uint64_t max_wait_ns = LIMITER_NEVER;
    if (random_below(3) == 0) {
        max_wait_ns = random_below(4) == 0 ? 0 : random_below(100 * MS);
    }
    const char *name = names[random_below(NAMES)];
    enum limiter_verdict expected = model_acquire(name, max_wait_ns, &placed[i]);
    uint32_t ahead = 0;
    if (placed[i].state != LIMITER_IDLE) {
        ahead = count_tickets(placed[i].budget, LIMITER_ACTIVE) +
                count_tickets(placed[i].budget, LIMITER_WAITING) - 1;
    }
    assert_int_equal(limiter_acquire(limiter, name, max_wait_ns, &tickets[i], now_ns), expected);
    assert_true(placed[i].state == LIMITER_IDLE || tickets[i].ahead == ahead);
}

static void do_release(void)
{
    int i = (int)random_below(TICKETS);
    model_release(&placed[i]);
    limiter_release(limiter, &tickets[i], now_ns);
}

static bool do_poll(void)
{
    int expected = model_poll();
    struct limiter_ticket *ticket = limiter_poll(limiter, now_ns);
    assert_ptr_equal(ticket, expected < 0 ? NULL : &tickets[expected]);
    return ticket != NULL;
}

static void do_reload(void)
{
    struct model_rules old = current;
    struct rules *rules = random_rules();
    previous = old;
    evict_to(bounds.hosts_max);
    assert_true(limiter_set_rules(limiter, rules, &bounds));
}

static void do_attach(void)
{
    const char *key;
    const char *name = names[random_below(NAMES)];
    int budget = find_budget(name, &key);
    struct limiter_host *host = limiter_find(limiter, name);
    assert_true((host != NULL) == (budget >= 0));
    if (!host) {
        return;
    }
    budgets[budget].attached = random_below(4) == 0;
    if (limiter_attachment(host) && !budgets[budget].attached) {
        budgets[budget].idle_since = operation;
    }
    limiter_attach(limiter, host, budgets[budget].attached ? &attachment : NULL);
}

static void do_count_rejection(void)
{
    const char *key;
    const char *name = names[random_below(NAMES)];
    model_reject(find_budget(name, &key), LIMITER_REJECTED_DENIED);
    limiter_count_rejection(limiter, name, LIMITER_REJECTED_DENIED);
}

static void do_something(void)
{
    uint64_t choice = random_below(1000);
    if (choice < 380) {
        do_acquire();
    } else if (choice < 640) {
        do_release();
    } else if (choice < 750) {
        do_poll();
    } else if (choice < 850) {
        while (do_poll()) {
        }
    } else if (choice < 950) {
        now_ns += random_below(MS << random_below(10));
    } else if (choice < 955) {
        do_reload();
    } else if (choice < 985) {
        do_attach();
    } else {
        do_count_rejection();
    }
}

static void finish_round(void)
{
    for (int i = 0; i < TICKETS; i++) {
        operation++;
        model_release(&placed[i]);
        limiter_release(limiter, &tickets[i], now_ns);
        compare();
    }
    assert_int_equal(count_tickets(-1, LIMITER_IDLE), TICKETS);
    struct limiter_host *host = NULL;
    while ((host = limiter_next_host(limiter, host))) {
        if (limiter_attachment(host)) {
            limiter_attach(limiter, host, NULL); /* which moves it in the order of use */
            host = NULL;
        }
    }
    assert_true(limiter_check(limiter));
    limiter_destroy(limiter);
}

static void play_round(void)
{
    memset(budgets, 0, sizeof budgets);
    memset(placed, 0, sizeof placed);
    memset(tickets, 0, sizeof tickets);
    all = (struct model_budget){0};
    hosts_full = evicted = sequence = operation = 0;
    now_ns = random_below(UINT64_C(1) << 50);
    struct rules *rules = random_rules();
    previous = current;
    limiter = limiter_create(rules, &bounds, now_ns);
    assert_non_null(limiter);
    for (int i = 0; i < OPERATIONS; i++) {
        operation++;
        do_something();
        compare();
    }
    finish_round();
}

static void test_against_the_model(void **state)
{
    (void)state;
    const char *given = getenv("MODEL_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    print_message("MODEL_SEED=%" PRIu64 "\n", seed);
    random_state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (int round = 0; round < ROUNDS; round++) {
        play_round();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_against_the_model)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

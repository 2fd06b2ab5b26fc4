/* Limits, order, queues, deadlines and what is told of them. */
#include "limiter_fixture.h"

/* --- limits and order --- */

static void test_limit_then_first_in_first_out(void **state)
{
    (void)state;
    start(2, wide);
    assert_int_equal(acquire(0, "a"), LIMITER_ADMITTED);
    assert_int_equal(acquire(1, "a"), LIMITER_ADMITTED);
    for (int i = 2; i < 6; i++) {
        assert_int_equal(acquire(i, "a"), LIMITER_QUEUED);
        assert_int_equal(tickets[i].ahead, i);
        assert_int_equal(tickets[i].sequence, i + 1);
    }
    assert_int_equal(poll(), -1);
    release(1);
    assert_int_equal(poll(), 2);
    assert_int_equal(tickets[2].state, LIMITER_ACTIVE);
    assert_int_equal(poll(), -1);
    release(0);
    release(2);
    assert_int_equal(poll(), 3);
    assert_int_equal(poll(), 4);
    assert_int_equal(poll(), -1);
    release(3);
    release(4);
    assert_int_equal(poll(), 5);
    assert_int_equal(view("a").active, 1);
    assert_int_equal(view("a").peak_active, 2);
    assert_int_equal(view("a").peak_queued, 4);
}

static void test_hosts_do_not_share(void **state)
{
    (void)state;
    start(1, wide);
    assert_int_equal(acquire(0, "a"), LIMITER_ADMITTED);
    assert_int_equal(acquire(1, "b"), LIMITER_ADMITTED);
    assert_int_equal(acquire(2, "a:81"), LIMITER_ADMITTED);
    assert_int_equal(acquire(3, "a"), LIMITER_QUEUED);
    assert_int_equal(acquire(4, "b"), LIMITER_QUEUED);
    release(1);
    assert_int_equal(poll(), 4);
    assert_int_equal(poll(), -1);
}

static void test_newcomer_does_not_barge_into_a_freed_slot(void **state)
{
    (void)state;
    start(1, wide);
    assert_int_equal(acquire(0, "a"), LIMITER_ADMITTED);
    assert_int_equal(acquire(1, "a"), LIMITER_QUEUED);
    release(0);
    assert_int_equal(acquire(2, "a"), LIMITER_QUEUED); /* before the poll that grants it */
    assert_int_equal(acquire_within(3, "a", 0), LIMITER_QUEUE_TIMEOUT);
    assert_int_equal(poll(), 1);
    assert_int_equal(poll(), -1);
    release(1);
    assert_int_equal(poll(), 2);
}

static void test_newcomer_does_not_barge_after_raised_limit(void **state)
{
    (void)state;
    start(1, wide);
    assert_int_equal(acquire(0, "a"), LIMITER_ADMITTED);
    assert_int_equal(acquire(1, "a"), LIMITER_QUEUED);
    assert_int_equal(acquire(2, "a"), LIMITER_QUEUED);
    assert_true(limiter_set_rules(limiter, rules_of(rule_of("default", 3), NULL, 0), &wide));
    assert_int_equal(acquire(3, "a"), LIMITER_QUEUED);
    assert_int_equal(poll(), 1);
    assert_int_equal(poll(), 2);
    assert_int_equal(poll(), -1);
    release(0);
    assert_int_equal(poll(), 3);
}

static void test_newcomer_does_not_barge_past_another_host(void **state)
{
    (void)state;
    start(1, (struct limiter_bounds){.limit = 2, .queue = 10, .hosts_max = 10});
    assert_int_equal(acquire(0, "a"), LIMITER_ADMITTED);
    assert_int_equal(acquire(1, "b"), LIMITER_ADMITTED);
    assert_int_equal(acquire(2, "c"), LIMITER_QUEUED); /* the total is full */
    release(0);
    /* One slot in all is free, and it is c's: neither a newcomer for a nor for d gets it. */
    assert_int_equal(acquire(3, "a"), LIMITER_QUEUED);
    assert_int_equal(acquire(4, "d"), LIMITER_QUEUED);
    assert_int_equal(poll(), 2);
    assert_int_equal(poll(), -1);
}

static void test_slot_to_spare_is_not_refused(void **state)
{
    (void)state;
    start(1, (struct limiter_bounds){.limit = 3, .queue = 10, .hosts_max = 10});
    assert_int_equal(acquire(0, "a"), LIMITER_ADMITTED);
    assert_int_equal(acquire(1, "a"), LIMITER_QUEUED);
    assert_int_equal(acquire(2, "a"), LIMITER_QUEUED);
    release(0);
    /* Of three slots one is for the waiter of a, so two are to spare for others. */
    assert_int_equal(acquire_within(3, "b", 0), LIMITER_ADMITTED);
    assert_int_equal(acquire_within(4, "c", 0), LIMITER_ADMITTED);
    assert_int_equal(acquire_within(5, "d", 0), LIMITER_QUEUE_TIMEOUT);
    assert_int_equal(poll(), 1);
    assert_int_equal(poll(), -1);
}

static void test_waiter_that_cannot_start_holds_up_nobody_else(void **state)
{
    (void)state;
    start(1, wide);
    assert_int_equal(acquire(0, "a"), LIMITER_ADMITTED);
    assert_int_equal(acquire(1, "a"), LIMITER_QUEUED);
    assert_int_equal(acquire(2, "b"), LIMITER_ADMITTED);
}

static void test_total_goes_to_the_oldest_waiter(void **state)
{
    (void)state;
    start(2, (struct limiter_bounds){.limit = 2, .queue = 20, .hosts_max = 10});
    assert_int_equal(acquire(0, "a"), LIMITER_ADMITTED);
    assert_int_equal(acquire(1, "a"), LIMITER_ADMITTED);
    assert_int_equal(acquire(2, "c"), LIMITER_QUEUED);
    assert_int_equal(acquire(3, "a"), LIMITER_QUEUED);
    assert_int_equal(acquire(4, "b"), LIMITER_QUEUED);
    assert_int_equal(acquire(5, "c"), LIMITER_QUEUED);
    assert_int_equal(acquire(6, "c"), LIMITER_QUEUED);
    release(0);
    assert_int_equal(poll(), 2);
    assert_int_equal(poll(), -1);
    release(2);
    assert_int_equal(poll(), 3); /* a has one slot of two free again, and its turn */
    release(1);
    release(3);
    assert_int_equal(poll(), 4);
    assert_int_equal(poll(), 5);
    assert_int_equal(poll(), -1);
    release(4);
    assert_int_equal(poll(), 6);
    assert_int_equal(totals().peak_active, 2);
    assert_int_equal(totals().peak_queued, 5);
}

static void test_turn_moves_on_when_the_oldest_leaves(void **state)
{
    (void)state;
    start(2, (struct limiter_bounds){.limit = 1, .queue = 20, .hosts_max = 10});
    assert_int_equal(acquire(0, "a"), LIMITER_ADMITTED);
    assert_int_equal(acquire(1, "b"), LIMITER_QUEUED);
    assert_int_equal(acquire(2, "c"), LIMITER_QUEUED);
    assert_int_equal(acquire(3, "b"), LIMITER_QUEUED);
    assert_int_equal(acquire(4, "d"), LIMITER_QUEUED);
    release(1); /* so that b's turn comes after c's */
    release(4);
    release(0);
    assert_int_equal(poll(), 2);
    release(2);
    assert_int_equal(poll(), 3);
}

/* --- bounds of queues --- */

static void test_queue_bounds(void **state)
{
    (void)state;
    struct rule fallback = rule_of("default", 1);
    struct rule none = rule_of("none", 1);
    fallback.queue = 2;
    none.queue = 0;
    start_with(rules_of(fallback, &none, 1),
               (struct limiter_bounds){.limit = 100, .queue = 3, .hosts_max = 10});
    assert_int_equal(acquire(0, "a"), LIMITER_ADMITTED);
    assert_int_equal(acquire(1, "a"), LIMITER_QUEUED);
    assert_int_equal(acquire(2, "a"), LIMITER_QUEUED);
    assert_int_equal(acquire(3, "a"), LIMITER_QUEUE_FULL);
    assert_int_equal(acquire(4, "none"), LIMITER_ADMITTED);
    assert_int_equal(acquire(5, "none"), LIMITER_QUEUE_FULL);
    assert_int_equal(acquire(6, "b"), LIMITER_ADMITTED);
    assert_int_equal(acquire(7, "b"), LIMITER_QUEUED);
    assert_int_equal(acquire(8, "b"), LIMITER_TOTAL_QUEUE_FULL);
    assert_int_equal(acquire(9, "c"), LIMITER_ADMITTED); /* need not wait */
    release(2);
    assert_int_equal(acquire(8, "b"), LIMITER_QUEUED);
    assert_int_equal(view("a").counters->rejected_total[LIMITER_REJECTED_QUEUE_FULL], 1);
    assert_int_equal(view("b").counters->rejected_total[LIMITER_REJECTED_QUEUE_FULL], 1);
    assert_int_equal(view("none").counters->rejected_total[LIMITER_REJECTED_QUEUE_FULL], 1);
    assert_int_equal(totals().counters.rejected_total[LIMITER_REJECTED_QUEUE_FULL], 3);
    assert_int_equal(totals().counters.queued_total, 4);
}

/* --- deadlines --- */

static void test_waiter_expires(void **state)
{
    (void)state;
    start(1, wide);
    assert_int_equal(limiter_next_deadline_ns(limiter), LIMITER_NEVER);
    assert_int_equal(acquire(0, "a"), LIMITER_ADMITTED);
    assert_int_equal(limiter_next_deadline_ns(limiter), LIMITER_NEVER);
    assert_int_equal(acquire(1, "a"), LIMITER_QUEUED);
    assert_in_range(limiter_next_deadline_ns(limiter), now_ns + 1, now_ns + 30 * SECOND + TICK);
    now_ns = START + 30 * SECOND - 1;
    assert_int_equal(poll(), -1);
    now_ns = START + 30 * SECOND + TICK;
    assert_int_equal(poll(), 1);
    assert_int_equal(tickets[1].state, LIMITER_EXPIRED);
    assert_ptr_equal(tickets[1].host, limiter_find(limiter, "a"));
    assert_int_equal(poll(), -1);
    assert_int_equal(view("a").queued, 0);
    assert_int_equal(limiter_next_deadline_ns(limiter), LIMITER_NEVER);
    release(1);
    release(1);
    const struct limiter_counters *counters = view("a").counters;
    assert_int_equal(counters->rejected_total[LIMITER_REJECTED_QUEUE_TIMEOUT], 1);
    assert_int_equal(counters->rejected_total[LIMITER_REJECTED_CLIENT_GONE], 0);
    assert_int_equal(counters->admitted_total, 1);
    assert_int_equal(counters->completed_total, 0);
}

static void test_max_wait_only_shortens(void **state)
{
    (void)state;
    start(1, wide);
    assert_int_equal(acquire(0, "a"), LIMITER_ADMITTED);
    assert_int_equal(acquire_within(1, "a", 60 * SECOND), LIMITER_QUEUED);
    assert_int_equal(acquire_within(2, "a", 2 * SECOND), LIMITER_QUEUED);
    assert_int_equal(acquire_within(3, "a", 2 * SECOND), LIMITER_QUEUED);
    assert_int_equal(acquire_within(4, "a", 1 * SECOND), LIMITER_QUEUED);
    now_ns = START + 1 * SECOND + TICK;
    assert_int_equal(poll(), 4);
    assert_int_equal(poll(), -1);
    now_ns = START + 2 * SECOND - 1;
    assert_int_equal(poll(), -1);
    now_ns = START + 2 * SECOND + TICK;
    assert_int_equal(poll(), 2);
    assert_int_equal(poll(), 3);
    assert_int_equal(poll(), -1);
    now_ns = START + 30 * SECOND + TICK;
    assert_int_equal(poll(), 1);
    assert_int_equal(poll(), -1);
}

static void test_no_wait_at_all(void **state)
{
    (void)state;
    struct rule impatient = rule_of("impatient", 1);
    impatient.queue_timeout_ns = 0;
    start_with(rules_of(rule_of("default", 1), &impatient, 1), wide);
    assert_int_equal(acquire_within(0, "a", 0), LIMITER_ADMITTED);
    assert_int_equal(acquire_within(1, "a", 0), LIMITER_QUEUE_TIMEOUT);
    assert_int_equal(acquire(2, "impatient"), LIMITER_ADMITTED);
    assert_int_equal(acquire(3, "impatient"), LIMITER_QUEUE_TIMEOUT);
    assert_int_equal(acquire_within(3, "impatient", SECOND), LIMITER_QUEUE_TIMEOUT);
    assert_int_equal(view("a").counters->rejected_total[LIMITER_REJECTED_QUEUE_TIMEOUT], 1);
    assert_int_equal(totals().counters.rejected_total[LIMITER_REJECTED_QUEUE_TIMEOUT], 3);
    assert_int_equal(view("a").counters->queued_total, 0);
}

static void test_wait_without_end(void **state)
{
    (void)state;
    struct rule patient = rule_of("default", 1);
    patient.queue_timeout_ns = LIMITER_NEVER;
    start_with(rules_of(patient, NULL, 0), wide);
    assert_int_equal(acquire(0, "a"), LIMITER_ADMITTED);
    assert_int_equal(acquire(1, "a"), LIMITER_QUEUED);
    assert_int_equal(acquire_within(2, "a", LIMITER_NEVER - START), LIMITER_QUEUED);
    assert_int_equal(limiter_next_deadline_ns(limiter), LIMITER_NEVER);
    now_ns = UINT64_MAX - 1;
    assert_int_equal(poll(), -1);
    release(0);
    assert_int_equal(poll(), 1);
}

static void test_expired_come_before_starts(void **state)
{
    (void)state;
    start(1, wide);
    assert_int_equal(acquire(0, "a"), LIMITER_ADMITTED);
    assert_int_equal(acquire(1, "a"), LIMITER_QUEUED);
    assert_int_equal(acquire_within(2, "a", SECOND), LIMITER_QUEUED);
    assert_int_equal(acquire(3, "b"), LIMITER_ADMITTED);
    assert_int_equal(acquire_within(4, "b", SECOND), LIMITER_QUEUED);
    now_ns += SECOND + TICK;
    release(0);
    release(3);
    assert_int_equal(poll(), 2);
    assert_int_equal(poll(), 4); /* too late, though its slot is free */
    assert_int_equal(tickets[4].state, LIMITER_EXPIRED);
    assert_int_equal(poll(), 1);
    assert_int_equal(tickets[1].state, LIMITER_ACTIVE);
    assert_int_equal(poll(), -1);
}

static void test_sleeping_until_the_deadline_is_enough(void **state)
{
    (void)state;
    start(1, wide);
    assert_int_equal(acquire(0, "a"), LIMITER_ADMITTED);
    assert_int_equal(acquire_within(1, "a", 7 * SECOND + 123), LIMITER_QUEUED);
    int wakes = 0;
    while (poll() == -1) {
        uint64_t next_ns = limiter_next_deadline_ns(limiter);
        assert_true(next_ns > now_ns);
        now_ns = next_ns;
        wakes++;
    }
    assert_in_range(now_ns, START + 7 * SECOND + 123, START + 7 * SECOND + 123 + TICK);
    assert_true(wakes < 5);
}

/* --- release --- */

static void test_release_from_every_state(void **state)
{
    (void)state;
    start(1, wide);
    release(0); /* IDLE */
    assert_int_equal(totals().hosts, 0);
    assert_int_equal(acquire(0, "a"), LIMITER_ADMITTED);
    assert_int_equal(acquire(1, "a"), LIMITER_QUEUED);
    assert_int_equal(acquire(2, "a"), LIMITER_QUEUED);
    release(1); /* WAITING, in the middle */
    release(1);
    assert_int_equal(view("a").counters->rejected_total[LIMITER_REJECTED_CLIENT_GONE], 1);
    assert_int_equal(view("a").queued, 1);
    release(0); /* ACTIVE */
    release(0);
    assert_int_equal(view("a").counters->completed_total, 1);
    assert_int_equal(view("a").active, 0);
    assert_int_equal(poll(), 2);
    assert_int_equal(poll(), -1);
    release(2); /* granted, and its client gone in the same turn */
    assert_int_equal(view("a").counters->completed_total, 2);
    assert_int_equal(view("a").counters->admitted_total, 2);
    assert_int_equal(acquire(0, "a"), LIMITER_ADMITTED); /* the tickets serve again */
    assert_int_equal(acquire(1, "a"), LIMITER_QUEUED);
}

static void test_startable_waiter_leaves_before_the_poll(void **state)
{
    (void)state;
    start(1, wide);
    assert_int_equal(acquire(0, "a"), LIMITER_ADMITTED);
    assert_int_equal(acquire(1, "a"), LIMITER_QUEUED);
    release(0);
    release(1);
    assert_int_equal(poll(), -1);
    assert_int_equal(acquire(2, "a"), LIMITER_ADMITTED);
}

/* --- rules and bounds that change --- */

static void test_lowered_limit_lets_running_ones_finish(void **state)
{
    (void)state;
    start(3, wide);
    for (int i = 0; i < 5; i++) {
        acquire(i, "a");
    }
    assert_true(limiter_set_rules(limiter, rules_of(rule_of("default", 1), NULL, 0), &wide));
    assert_true(limiter_check(limiter));
    assert_int_equal(view("a").active, 3);
    assert_int_equal(view("a").limit, 1);
    release(0);
    assert_int_equal(poll(), -1);
    release(1);
    assert_int_equal(poll(), -1);
    release(2);
    assert_int_equal(poll(), 3);
    assert_int_equal(poll(), -1);
}

static void test_lowered_total(void **state)
{
    (void)state;
    start(2, wide);
    for (int i = 0; i < 6; i++) {
        acquire(i, i % 2 ? "a" : "b");
    }
    assert_int_equal(totals().active, 4);
    struct limiter_bounds narrow = {.limit = 2, .queue = 1, .hosts_max = 10};
    assert_true(limiter_set_rules(limiter, rules_of(rule_of("default", 3), NULL, 0), &narrow));
    assert_int_equal(poll(), -1); /* startable by their hosts, but not in all */
    assert_int_equal(acquire(6, "c"), LIMITER_TOTAL_QUEUE_FULL);
    release(0);
    release(1);
    assert_int_equal(poll(), -1);
    release(2);
    assert_int_equal(poll(), 4);
    assert_int_equal(poll(), -1);
    assert_true(limiter_set_rules(limiter, rules_of(rule_of("default", 3), NULL, 0), &wide));
    assert_int_equal(poll(), 5);
    assert_int_equal(poll(), -1);
}

static void test_reload_gives_every_host_its_rule(void **state)
{
    (void)state;
    start(1, wide);
    acquire(0, "a");
    acquire(1, "b.example.org");
    acquire(2, "idle");
    release(2);
    struct rule more[] = {rule_of("a", 5), rule_of("*.example.org", 6)};
    more[0].queue = 17;
    more[0].queue_timeout_ns = 18;
    assert_true(limiter_set_rules(limiter, rules_of(rule_of("default", 2), more, 2), &wide));
    assert_true(limiter_check(limiter));
    assert_int_equal(view("a").limit, 5);
    assert_int_equal(view("a").queue_limit, 17);
    assert_int_equal(view("a").queue_timeout_ns, 18);
    assert_string_equal(view("a").rule, "a");
    assert_int_equal(view("b.example.org").limit, 6);
    assert_string_equal(view("b.example.org").rule, "*.example.org");
    assert_int_equal(view("idle").limit, 2);
    assert_string_equal(view("idle").rule, "default");
    assert_int_equal(view("a").active, 1);
}

static void test_new_queue_timeout_is_for_newcomers(void **state)
{
    (void)state;
    start(1, wide);
    acquire(0, "a");
    acquire(1, "a");
    struct rule brief = rule_of("default", 1);
    brief.queue_timeout_ns = SECOND;
    assert_true(limiter_set_rules(limiter, rules_of(brief, NULL, 0), &wide));
    acquire(2, "a");
    now_ns += SECOND + TICK;
    assert_int_equal(poll(), 2);
    assert_int_equal(poll(), -1);
    now_ns += 29 * SECOND;
    assert_int_equal(poll(), 1);
}

/* --- what is told --- */

static void test_times(void **state)
{
    (void)state;
    start(1, wide);
    acquire(0, "a");
    now_ns += 40 * MS;
    acquire(1, "a");
    acquire(2, "b");
    acquire(3, "b");
    now_ns += 60 * MS;
    acquire(4, "a");
    assert_int_equal(view("a").oldest_wait_ns, 60 * MS);
    assert_int_equal(totals().oldest_wait_ns, 60 * MS);
    release(0);
    assert_int_equal(poll(), 1);
    assert_int_equal(tickets[1].arrived_ns, START + 40 * MS);
    assert_int_equal(tickets[1].started_ns, START + 100 * MS);
    const struct limiter_counters *counters = view("a").counters;
    assert_int_equal(counters->wait.count, 2);
    assert_int_equal(counters->wait.sum_ns, 60 * MS);
    assert_int_equal(counters->wait.max_ns, 60 * MS);
    assert_int_equal(counters->service.count, 1);
    assert_int_equal(counters->service.sum_ns, 100 * MS);
    assert_int_equal(view("a").oldest_wait_ns, 0);
    release(4);
    release(3);
    assert_int_equal(totals().oldest_wait_ns, 0);
    assert_int_equal(totals().limit, wide.limit);
    assert_int_equal(totals().queue_limit, wide.queue);
}

static void test_expected_wait(void **state)
{
    (void)state;
    start(4, wide);
    acquire(0, "a");
    struct limiter_host *host = tickets[0].host;
    assert_int_equal(limiter_expected_wait_ns(host, 10), 0);
    now_ns += 800 * MS;
    release(0);
    assert_int_equal(limiter_expected_wait_ns(host, 0), 200 * MS);
    assert_int_equal(limiter_expected_wait_ns(host, 3), 800 * MS);
    acquire(0, "a");
    now_ns += 1600 * MS;
    release(0); /* an eighth of the way from 800 to 1600 */
    assert_int_equal(limiter_expected_wait_ns(host, 3), 900 * MS);
    for (int i = 0; i < 200; i++) {
        acquire(0, "a");
        now_ns += 40 * MS;
        release(0);
    }
    assert_in_range(limiter_expected_wait_ns(host, 3), 39 * MS, 41 * MS);
    acquire(0, "a");
    now_ns = UINT64_MAX - 1;
    release(0);
    assert_true(limiter_expected_wait_ns(host, UINT32_MAX) == UINT64_MAX / 4); /* no wrap */
}

static void test_clock_that_went_back(void **state)
{
    (void)state;
    start(1, wide);
    acquire(0, "a");
    acquire(1, "a");
    now_ns -= SECOND;
    assert_int_equal(view("a").oldest_wait_ns, 0);
    release(0);
    assert_int_equal(poll(), 1);
    assert_int_equal(view("a").counters->service.sum_ns, 0);
    assert_int_equal(view("a").counters->wait.sum_ns, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_limit_then_first_in_first_out),
        TEST(test_hosts_do_not_share),
        TEST(test_newcomer_does_not_barge_into_a_freed_slot),
        TEST(test_newcomer_does_not_barge_after_raised_limit),
        TEST(test_newcomer_does_not_barge_past_another_host),
        TEST(test_slot_to_spare_is_not_refused),
        TEST(test_waiter_that_cannot_start_holds_up_nobody_else),
        TEST(test_total_goes_to_the_oldest_waiter),
        TEST(test_turn_moves_on_when_the_oldest_leaves),
        TEST(test_queue_bounds),
        TEST(test_waiter_expires),
        TEST(test_max_wait_only_shortens),
        TEST(test_no_wait_at_all),
        TEST(test_wait_without_end),
        TEST(test_expired_come_before_starts),
        TEST(test_sleeping_until_the_deadline_is_enough),
        TEST(test_release_from_every_state),
        TEST(test_startable_waiter_leaves_before_the_poll),
        TEST(test_lowered_limit_lets_running_ones_finish),
        TEST(test_lowered_total),
        TEST(test_reload_gives_every_host_its_rule),
        TEST(test_new_queue_timeout_is_for_newcomers),
        TEST(test_times),
        TEST(test_expected_wait),
        TEST(test_clock_that_went_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The hosts of the limiter: budgets that are shared, the bounded table, and memory that runs out.
 */
#include "failing_memory.h"
#include "limiter_fixture.h"

#include <stdio.h>

/* --- shared budgets --- */

static struct rules *example_rules(bool shared, uint32_t limit)
{
    struct rule pattern = rule_of("*.example.org", limit);
    pattern.shared = shared;
    return rules_of(rule_of("default", 1), &pattern, 1);
}

static void test_shared_budget(void **state)
{
    (void)state;
    start_with(example_rules(true, 2), wide);
    assert_int_equal(acquire(0, "a.example.org"), LIMITER_ADMITTED);
    assert_int_equal(acquire(1, "b.example.org:8443"), LIMITER_ADMITTED);
    assert_int_equal(acquire(2, "c.example.org"), LIMITER_QUEUED);
    assert_int_equal(acquire(3, "a.example.org"), LIMITER_QUEUED);
    assert_int_equal(acquire(4, "example.org"), LIMITER_ADMITTED);
    assert_string_equal(view("z.example.org").host, "*.example.org");
    assert_ptr_equal(limiter_find(limiter, "z.example.org"), tickets[0].host);
    assert_int_equal(totals().hosts, 2);
    release(1);
    assert_int_equal(poll(), 2);
}

static void test_shared_exact_name_covers_its_ports(void **state)
{
    (void)state;
    struct rule exact = rule_of("a", 1);
    exact.shared = true;
    start_with(rules_of(rule_of("default", 5), &exact, 1), wide);
    assert_int_equal(acquire(0, "a"), LIMITER_ADMITTED);
    assert_int_equal(acquire(1, "a:8443"), LIMITER_QUEUED);
    assert_ptr_equal(limiter_find(limiter, "a:9"), limiter_find(limiter, "a"));
}

static void test_each_becomes_shared(void **state)
{
    (void)state;
    start_with(example_rules(false, 1), wide);
    assert_int_equal(acquire(0, "a.example.org"), LIMITER_ADMITTED);
    assert_int_equal(acquire(1, "a.example.org"), LIMITER_QUEUED);
    assert_int_equal(acquire(2, "b.example.org"), LIMITER_ADMITTED);
    release(2);
    assert_true(limiter_set_rules(limiter, example_rules(true, 1), &wide));
    assert_true(limiter_check(limiter));
    /* a is busy and keeps its own budget, b is idle and has the shared one. */
    assert_int_equal(acquire(3, "a.example.org"), LIMITER_QUEUED);
    assert_string_equal(view("a.example.org").host, "a.example.org");
    assert_int_equal(acquire(4, "b.example.org"), LIMITER_ADMITTED);
    assert_string_equal(view("b.example.org").host, "*.example.org");
    assert_int_equal(acquire(5, "c.example.org"), LIMITER_QUEUED);
    release(0);
    assert_int_equal(poll(), 1);
    release(1);
    assert_int_equal(poll(), 3);
    release(3);
    /* Now a is idle too. */
    assert_string_equal(view("a.example.org").host, "*.example.org");
    assert_int_equal(acquire(6, "a.example.org"), LIMITER_QUEUED);
    release(4);
    assert_int_equal(poll(), 5);
}

static void test_shared_becomes_each(void **state)
{
    (void)state;
    start_with(example_rules(true, 1), wide);
    assert_int_equal(acquire(0, "a.example.org"), LIMITER_ADMITTED);
    assert_int_equal(acquire(1, "b.example.org"), LIMITER_QUEUED);
    assert_true(limiter_set_rules(limiter, example_rules(false, 1), &wide));
    assert_true(limiter_check(limiter));
    assert_int_equal(acquire(2, "b.example.org"), LIMITER_QUEUED); /* behind its older one */
    assert_int_equal(totals().hosts, 1);
    release(0);
    assert_int_equal(poll(), 1);
    release(1);
    assert_int_equal(poll(), 2);
    release(2);
    assert_null(limiter_find(limiter, "b.example.org"));
    assert_int_equal(acquire(3, "a.example.org"), LIMITER_ADMITTED);
    assert_int_equal(acquire(4, "b.example.org"), LIMITER_ADMITTED);
    assert_string_equal(view("b.example.org").host, "b.example.org");
}

static void test_shared_and_back(void **state)
{
    (void)state;
    start_with(example_rules(true, 2), wide);
    assert_int_equal(acquire(0, "a.example.org"), LIMITER_ADMITTED);
    assert_true(limiter_set_rules(limiter, example_rules(false, 2), &wide));
    assert_true(limiter_set_rules(limiter, example_rules(true, 2), &wide));
    assert_int_equal(acquire(1, "b.example.org"), LIMITER_ADMITTED);
    assert_ptr_equal(tickets[0].host, tickets[1].host);
    assert_int_equal(acquire(2, "b.example.org"), LIMITER_QUEUED);
}

/* --- the table of hosts --- */

static void test_oldest_idle_host_is_evicted(void **state)
{
    (void)state;
    start(1, (struct limiter_bounds){.limit = 9, .queue = 9, .hosts_max = 3});
    acquire(0, "a");
    acquire(1, "b");
    acquire(2, "c");
    release(1);
    release(0);
    release(2);
    acquire(0, "b"); /* used again: now a is the oldest */
    release(0);
    assert_int_equal(acquire(0, "d"), LIMITER_ADMITTED);
    assert_null(limiter_find(limiter, "a"));
    assert_non_null(limiter_find(limiter, "b"));
    assert_non_null(limiter_find(limiter, "c"));
    assert_int_equal(acquire(1, "e"), LIMITER_ADMITTED);
    assert_null(limiter_find(limiter, "c"));
    assert_int_equal(totals().hosts, 3);
    assert_int_equal(totals().evicted_total, 2);
    assert_int_equal(totals().hosts_max, 3);
}

static void test_hosts_in_use_stay(void **state)
{
    (void)state;
    start(1, (struct limiter_bounds){.limit = 9, .queue = 9, .hosts_max = 2});
    acquire(0, "a");
    acquire(1, "b");
    acquire_within(2, "b", SECOND);
    assert_int_equal(acquire(3, "c"), LIMITER_HOSTS_FULL);
    assert_int_equal(totals().hosts_full_total, 1);
    release(1);
    now_ns += SECOND + TICK;
    assert_int_equal(poll(), 2);
    assert_int_equal(tickets[2].state, LIMITER_EXPIRED);
    assert_int_equal(acquire(3, "c"), LIMITER_HOSTS_FULL); /* an expired ticket holds on, too */
    release(2);
    assert_int_equal(acquire(3, "c"), LIMITER_ADMITTED);
    assert_null(limiter_find(limiter, "b"));
    assert_int_equal(totals().hosts_full_total, 2);
}

static void test_attachment_keeps_a_host(void **state)
{
    (void)state;
    int mine;
    start(1, (struct limiter_bounds){.limit = 9, .queue = 9, .hosts_max = 1});
    acquire(0, "a");
    struct limiter_host *host = tickets[0].host;
    assert_null(limiter_attachment(host));
    limiter_attach(limiter, host, &mine);
    assert_true(limiter_check(limiter));
    release(0);
    assert_ptr_equal(limiter_attachment(host), &mine);
    assert_int_equal(acquire(1, "b"), LIMITER_HOSTS_FULL);
    limiter_attach(limiter, host, NULL);
    assert_true(limiter_check(limiter));
    assert_int_equal(acquire(1, "b"), LIMITER_ADMITTED);
    assert_null(limiter_find(limiter, "a"));
    host = tickets[1].host;
    release(1);
    limiter_attach(limiter, host, &mine); /* to an idle one */
    assert_true(limiter_check(limiter));
    assert_int_equal(acquire(2, "c"), LIMITER_HOSTS_FULL);
    acquire(2, "b");
    limiter_attach(limiter, host, NULL); /* of one in use */
    assert_true(limiter_check(limiter));
    assert_int_equal(acquire(3, "c"), LIMITER_HOSTS_FULL);
}

static void test_totals_outlive_hosts(void **state)
{
    (void)state;
    start(1, (struct limiter_bounds){.limit = 9, .queue = 9, .hosts_max = 1});
    for (int i = 0; i < 5; i++) {
        char host[] = {(char)('a' + i), '\0'};
        acquire(0, host);
        acquire(1, host);
        acquire(2, host);
        release(2);
        now_ns += SECOND;
        release(0);
        assert_int_equal(poll(), 1);
        now_ns += SECOND;
        release(1);
        limiter_count_rejection(limiter, host, LIMITER_REJECTED_DENIED);
    }
    struct limiter_totals all = totals();
    assert_int_equal(all.evicted_total, 4);
    assert_int_equal(all.counters.admitted_total, 10);
    assert_int_equal(all.counters.completed_total, 10);
    assert_int_equal(all.counters.queued_total, 10);
    assert_int_equal(all.counters.rejected_total[LIMITER_REJECTED_CLIENT_GONE], 5);
    assert_int_equal(all.counters.rejected_total[LIMITER_REJECTED_DENIED], 5);
    assert_int_equal(all.counters.wait.count, 10);
    assert_int_equal(all.counters.wait.sum_ns, 5 * SECOND);
    assert_int_equal(all.counters.service.sum_ns, 10 * SECOND);
    assert_int_equal(view("e").counters->admitted_total, 2);
    acquire(0, "a"); /* known no more: it begins anew */
    assert_int_equal(view("a").counters->admitted_total, 1);
    assert_int_equal(view("a").counters->wait.sum_ns, 0);
    assert_int_equal(view("a").peak_queued, 0);
    assert_int_equal(limiter_expected_wait_ns(tickets[0].host, 0), 0);
}

static void test_lowered_hosts_max(void **state)
{
    (void)state;
    start(1, wide);
    for (int i = 0; i < 6; i++) {
        char host[] = {(char)('a' + i), '\0'};
        acquire(i, host);
    }
    release(2);
    release(3);
    struct limiter_bounds narrow = {.limit = 9, .queue = 9, .hosts_max = 3};
    assert_true(limiter_set_rules(limiter, rules_of(rule_of("default", 1), NULL, 0), &narrow));
    assert_true(limiter_check(limiter));
    assert_int_equal(totals().hosts, 4); /* all in use */
    assert_int_equal(acquire(6, "x"), LIMITER_HOSTS_FULL);
    release(0);
    assert_int_equal(acquire(6, "x"), LIMITER_HOSTS_FULL);
    release(1);
    assert_int_equal(acquire(6, "x"), LIMITER_ADMITTED);
    assert_int_equal(totals().hosts, 3);
}

static void test_hosts_in_order_of_use(void **state)
{
    (void)state;
    start(1, wide);
    assert_null(limiter_next_host(limiter, NULL));
    acquire(0, "a");
    assert_ptr_equal(limiter_next_host(limiter, NULL), tickets[0].host);
    acquire(1, "b");
    acquire(2, "c");
    acquire(3, "d");
    release(2);
    release(0);
    char seen[8] = "";
    struct limiter_host *host = NULL;
    while ((host = limiter_next_host(limiter, host))) {
        struct limiter_view found;
        limiter_describe(host, now_ns, &found);
        strncat(seen, found.host, 1);
    }
    assert_string_equal(seen, "cabd"); /* idle ones by their last use, then those in use */
}

static void test_many_hosts(void **state)
{
    (void)state;
    static struct limiter_ticket many[3000];
    memset(many, 0, sizeof many);
    start(1, (struct limiter_bounds){.limit = 5000, .queue = 9, .hosts_max = 2000});
    char key[RULES_HOST_MAX];
    for (int i = 0; i < 3000; i++) {
        /* Long ones too, as the longest key is stored apart. */
        snprintf(key, sizeof key, "%0*d.example.org", i % 2 ? 1 + i % 200 : 9, i);
        assert_int_equal(limiter_acquire(limiter, key, 0, &many[i], now_ns), LIMITER_ADMITTED);
        if (i >= 1000) {
            limiter_release(limiter, &many[i - 1000], now_ns);
        }
        if (i % 500 == 0) {
            assert_true(limiter_check(limiter));
        }
    }
    assert_int_equal(totals().hosts, 2000);
    assert_int_equal(totals().evicted_total, 1000);
    for (int i = 0; i < 3000; i++) {
        snprintf(key, sizeof key, "%0*d.example.org", i % 2 ? 1 + i % 200 : 9, i);
        assert_true((i >= 1000) == (limiter_find(limiter, key) != NULL));
        limiter_release(limiter, &many[i], now_ns);
    }
    assert_true(limiter_check(limiter));
}

/* So many names that some have the hash of a host that is there. */
static void test_unknown_names_are_not_found(void **state)
{
    (void)state;
    start(1, (struct limiter_bounds){.limit = 1, .queue = 9, .hosts_max = 4000});
    char key[24];
    for (int i = 0; i < 4000; i++) {
        snprintf(key, sizeof key, "host-%d", i);
        limiter_acquire(limiter, key, 0, &tickets[0], now_ns);
        limiter_release(limiter, &tickets[0], now_ns);
    }
    char unknown[] = "aaaaaaaa.x";
    for (int i = 0; i < 5000000; i++) {
        for (int digit = 0; unknown[digit]++ == 'z'; digit++) {
            unknown[digit] = 'a';
        }
        if (limiter_find(limiter, unknown)) {
            fail_msg("%s was found", unknown);
        }
    }
}

static void test_find_changes_nothing(void **state)
{
    (void)state;
    start(1, wide);
    assert_null(limiter_find(limiter, "a"));
    assert_int_equal(totals().hosts, 0);
    acquire(0, "a");
    release(0);
    acquire(0, "b");
    release(0);
    struct limiter_host *first = limiter_next_host(limiter, NULL);
    assert_ptr_equal(limiter_find(limiter, "a"), first);
    assert_ptr_equal(limiter_next_host(limiter, NULL), first);
}

static void test_rejections_from_outside(void **state)
{
    (void)state;
    start_with(example_rules(true, 1), wide);
    acquire(0, "a.example.org");
    limiter_count_rejection(limiter, "b.example.org", LIMITER_REJECTED_DRAINING);
    limiter_count_rejection(limiter, "unknown", LIMITER_REJECTED_DENIED);
    assert_int_equal(view("a.example.org").counters->rejected_total[LIMITER_REJECTED_DRAINING], 1);
    assert_int_equal(totals().counters.rejected_total[LIMITER_REJECTED_DRAINING], 1);
    assert_int_equal(totals().counters.rejected_total[LIMITER_REJECTED_DENIED], 1);
    assert_null(limiter_find(limiter, "unknown"));
}

/* --- memory --- */

static void test_out_of_memory(void **state)
{
    (void)state;
    struct rules *rules = rules_of(rule_of("default", 1), NULL, 0);
    allocations_left = 0;
    assert_null(limiter_create(rules, &wide, START));
    allocations_left = -1;
    limiter_destroy(NULL);
    start_with(rules, (struct limiter_bounds){.limit = 500, .queue = 9, .hosts_max = 500});
    static struct limiter_ticket many[300];
    memset(many, 0, sizeof many);
    int failures = 0;
    for (int i = 0; i < 300; i++) {
        char key[RULES_HOST_MAX];
        snprintf(key, sizeof key, "%0*d", i % 50 ? 5 : 200, i);
        enum limiter_verdict verdict = LIMITER_NO_MEMORY;
        for (int allowed = 0; verdict == LIMITER_NO_MEMORY; allowed++) {
            assert_true(allowed < 10);
            allocations_left = allowed;
            verdict = limiter_acquire(limiter, key, LIMITER_NEVER, &many[i], now_ns);
            allocations_left = -1;
            assert_true(limiter_check(limiter));
            assert_int_equal(totals().active, i + (verdict == LIMITER_ADMITTED ? 1 : 0));
            assert_int_equal(totals().hosts, i + (verdict == LIMITER_ADMITTED ? 1 : 0));
            failures += verdict == LIMITER_NO_MEMORY ? 1 : 0;
        }
        assert_int_equal(verdict, LIMITER_ADMITTED);
    }
    assert_true(failures > 15);
    for (int i = 0; i < 300; i++) {
        limiter_release(limiter, &many[i], now_ns);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_shared_budget),           TEST(test_shared_exact_name_covers_its_ports),
        TEST(test_each_becomes_shared),     TEST(test_shared_becomes_each),
        TEST(test_shared_and_back),         TEST(test_oldest_idle_host_is_evicted),
        TEST(test_hosts_in_use_stay),       TEST(test_attachment_keeps_a_host),
        TEST(test_totals_outlive_hosts),    TEST(test_lowered_hosts_max),
        TEST(test_hosts_in_order_of_use),   TEST(test_many_hosts),
        TEST(test_find_changes_nothing),    TEST(test_unknown_names_are_not_found),
        TEST(test_rejections_from_outside), TEST(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/resolver.h"

#include <arpa/inet.h>
#include <assert.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECOND_NS UINT64_C(1000000000)
#define LOOKUPS   256  /* at once */
#define NAMES     4096 /* kept */
#define THREADS   2    /* of the four that libuv has */

static uv_loop_t loop;
static struct resolver *resolver;
static struct resolver_addresses addresses;

/* The look-up of these tests: counts, waits where it is held, and answers as told. */
static atomic_int calls;
static atomic_bool held;
static atomic_int failure; /* an EAI_ code, or 0 */
static atomic_int copies;  /* of each address */
static atomic_int answers; /* different addresses */
static sem_t gate;
static sem_t begun; /* one for each that is held */

static int look_up(const char *name, const char *service, const struct addrinfo *hints,
                   struct addrinfo **ret_list)
{
    struct addrinfo **end = ret_list;
    struct addrinfo numeric = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};

    assert(service == NULL); /* not cmocka's: this is another thread */
    assert(hints->ai_socktype == SOCK_STREAM);
    assert(hints->ai_flags == AI_ADDRCONFIG);
    assert(name[0] != '\0');
    atomic_fetch_add(&calls, 1);
    if (atomic_load(&held)) {
        sem_post(&begun);
        while (sem_wait(&gate) != 0) {
        }
    }
    *ret_list = NULL;
    if (atomic_load(&failure) != 0) {
        return atomic_load(&failure);
    }
    for (int copy = 0; copy < atomic_load(&copies); copy++) {
        for (int i = 0; i < atomic_load(&answers); i++) {
            char text[INET6_ADDRSTRLEN];

            (void)snprintf(text, sizeof text, i % 2 == 0 ? "10.0.0.%d" : "fd00::%d", i + 1);
            int error = getaddrinfo(text, NULL, &numeric, end);

            assert(error == 0);
            end = &(*end)->ai_next;
        }
    }
    return 0;
}

static void answer_with(int different, int each, int error)
{
    atomic_store(&answers, different);
    atomic_store(&copies, each);
    atomic_store(&failure, error);
}

static int setup(void **state)
{
    (void)state;
    assert_int_equal(uv_loop_init(&loop), 0);
    resolver = resolver_create(&loop, THREADS);
    assert_non_null(resolver);
    resolver_set_lookup(resolver, look_up);
    assert_int_equal(sem_init(&gate, 0, 0), 0);
    assert_int_equal(sem_init(&begun, 0, 0), 0);
    atomic_store(&calls, 0);
    atomic_store(&held, false);
    answer_with(1, 1, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    resolver_destroy(resolver);
    resolver = NULL;
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&loop), 0);
    sem_destroy(&gate);
    sem_destroy(&begun);
    return 0;
}

static void release(int count)
{
    for (int i = 0; i < count; i++) {
        sem_post(&gate);
    }
}

/* The next query that is ready, waiting for it. */
static struct resolver_query *take(void)
{
    struct resolver_query *query;

    while ((query = resolver_take(resolver, &addresses)) == NULL) {
        assert_true(uv_loop_alive(&loop));
        (void)uv_run(&loop, UV_RUN_ONCE);
    }
    assert_null(query->entry);
    assert_false(query->ready);
    return query;
}

/* Lets every look-up that is under way end. */
static void settle(void)
{
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
}

static bool ask(const char *name, struct resolver_query *query, uint64_t now_ns)
{
    memset(&addresses, 0x55, sizeof addresses);
    return resolver_ask(resolver, name, query, now_ns, &addresses);
}

static void literals_need_no_lookup(void **state)
{
    struct resolver_query query = {0};
    char text[INET6_ADDRSTRLEN];

    (void)state;
    assert_true(ask("192.0.2.7", &query, 0));
    assert_int_equal(addresses.count, 1);
    assert_int_equal(addresses.at[0].any.sa_family, AF_INET);
    assert_string_equal(inet_ntop(AF_INET, &addresses.at[0].v4.sin_addr, text, sizeof text),
                        "192.0.2.7");
    assert_int_equal(addresses.at[0].v4.sin_port, 0);
    assert_true(ask("2001:db8::1", &query, 0));
    assert_int_equal(addresses.count, 1);
    assert_int_equal(addresses.at[0].any.sa_family, AF_INET6);
    assert_string_equal(inet_ntop(AF_INET6, &addresses.at[0].v6.sin6_addr, text, sizeof text),
                        "2001:db8::1");
    assert_int_equal(addresses.at[0].v6.sin6_port, 0);
    assert_null(query.entry);
    settle();
    assert_int_equal(atomic_load(&calls), 0);
}

static void system_is_asked(void **state)
{
    /* A label of more than 63 bytes exists nowhere, whatever the network. */
    static const char nowhere[] =
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.test";
    struct resolver_query local = {0};
    struct resolver_query bad = {0};

    (void)state;
    resolver_set_lookup(resolver, getaddrinfo);
    assert_false(ask("localhost", &local, uv_hrtime()));
    assert_ptr_equal(take(), &local);
    assert_true(addresses.count >= 1);
    for (unsigned i = 0; i < addresses.count; i++) {
        assert_true(addresses.at[i].any.sa_family == AF_INET
                        ? ntohl(addresses.at[i].v4.sin_addr.s_addr) == INADDR_LOOPBACK
                        : IN6_IS_ADDR_LOOPBACK(&addresses.at[i].v6.sin6_addr));
    }
    assert_false(ask(nowhere, &bad, uv_hrtime()));
    assert_ptr_equal(take(), &bad);
    assert_int_equal(addresses.count, 0);
    assert_int_not_equal(addresses.error, 0);
}

static void a_name_is_looked_up_once(void **state)
{
    struct resolver_query queries[5] = {0};
    uint64_t now_ns = uv_hrtime();

    (void)state;
    atomic_store(&held, true);
    for (int i = 0; i < 4; i++) {
        assert_false(ask("a.test", &queries[i], now_ns));
        assert_non_null(queries[i].entry);
    }
    assert_null(resolver_take(resolver, &addresses));
    release(1);
    for (int i = 0; i < 4; i++) {
        assert_ptr_equal(take(), &queries[i]); /* in their order */
        assert_int_equal(addresses.count, 1);
    }
    assert_null(resolver_take(resolver, &addresses));
    /* It is known now. */
    assert_true(ask("a.test", &queries[4], uv_hrtime()));
    assert_int_equal(addresses.count, 1);
    settle();
    assert_int_equal(atomic_load(&calls), 1);
    /* Another name is not. */
    release(1);
    assert_false(ask("a.tes", &queries[4], now_ns));
    assert_ptr_equal(take(), &queries[4]);
    assert_int_equal(atomic_load(&calls), 2);
}

static void addresses_are_bounded_and_different(void **state)
{
    struct resolver_query query = {0};
    char text[INET6_ADDRSTRLEN];

    (void)state;
    answer_with(3, 4, 0);
    assert_false(ask("a.test", &query, uv_hrtime()));
    (void)take();
    assert_int_equal(addresses.count, 3);
    assert_int_equal(addresses.error, 0);
    assert_string_equal(inet_ntop(AF_INET, &addresses.at[0].v4.sin_addr, text, sizeof text),
                        "10.0.0.1");
    assert_string_equal(inet_ntop(AF_INET6, &addresses.at[1].v6.sin6_addr, text, sizeof text),
                        "fd00::2");
    assert_string_equal(inet_ntop(AF_INET, &addresses.at[2].v4.sin_addr, text, sizeof text),
                        "10.0.0.3");
    answer_with(RESOLVER_ADDRESSES + 5, 2, 0);
    assert_false(ask("b.test", &query, uv_hrtime()));
    (void)take();
    assert_int_equal(addresses.count, RESOLVER_ADDRESSES);
    /* A success without addresses is none. */
    answer_with(0, 0, 0);
    assert_false(ask("c.test", &query, uv_hrtime()));
    (void)take();
    assert_int_equal(addresses.count, 0);
    assert_int_equal(addresses.error, EAI_NONAME);
}

static void an_answer_is_fresh_then_stale_then_gone(void **state)
{
    struct resolver_query query = {0};
    uint64_t before_ns = uv_hrtime();

    (void)state;
    assert_false(ask("a.test", &query, before_ns));
    (void)take();
    uint64_t after_ns = uv_hrtime();

    assert_true(ask("a.test", &query, before_ns + 29 * SECOND_NS));
    settle();
    assert_int_equal(atomic_load(&calls), 1);
    /* Stale: given at once, and renewed, once. */
    atomic_store(&held, true);
    answer_with(2, 1, 0);
    assert_true(ask("a.test", &query, after_ns + 31 * SECOND_NS));
    assert_int_equal(addresses.count, 1);
    assert_true(ask("a.test", &query, before_ns + 299 * SECOND_NS));
    assert_int_equal(addresses.count, 1);
    /* Gone: waits for the look-up that is under way. */
    assert_false(ask("a.test", &query, after_ns + 301 * SECOND_NS));
    release(1);
    assert_ptr_equal(take(), &query);
    assert_int_equal(addresses.count, 2);
    assert_int_equal(atomic_load(&calls), 2);
    /* And the renewed one is fresh again. */
    assert_true(ask("a.test", &query, uv_hrtime()));
    assert_int_equal(addresses.count, 2);
    settle();
    assert_int_equal(atomic_load(&calls), 2);
}

static void a_failure_is_kept_for_a_moment(void **state)
{
    struct resolver_query query = {0};
    uint64_t before_ns = uv_hrtime();

    (void)state;
    answer_with(0, 0, EAI_AGAIN);
    assert_false(ask("a.test", &query, before_ns));
    (void)take();
    assert_int_equal(addresses.count, 0);
    assert_int_equal(addresses.error, EAI_AGAIN);
    uint64_t after_ns = uv_hrtime();

    assert_true(ask("a.test", &query, before_ns + 2 * SECOND_NS));
    assert_int_equal(addresses.count, 0);
    assert_int_equal(addresses.error, EAI_AGAIN);
    settle();
    assert_int_equal(atomic_load(&calls), 1);
    answer_with(1, 1, 0);
    assert_false(ask("a.test", &query, after_ns + 4 * SECOND_NS));
    (void)take();
    assert_int_equal(addresses.count, 1);
    assert_int_equal(addresses.error, 0);
}

static void a_failed_renewal_keeps_the_answer_unless_the_name_is_gone(void **state)
{
    struct resolver_query query = {0};

    (void)state;
    assert_false(ask("a.test", &query, uv_hrtime()));
    (void)take();
    uint64_t stale_ns = uv_hrtime() + 31 * SECOND_NS;

    answer_with(0, 0, EAI_AGAIN);
    assert_true(ask("a.test", &query, stale_ns));
    settle();
    assert_int_equal(atomic_load(&calls), 2);
    /* Kept, and not asked for again within the time that failures are kept. */
    assert_true(ask("a.test", &query, uv_hrtime()));
    assert_int_equal(addresses.count, 1);
    settle();
    assert_int_equal(atomic_load(&calls), 2);
    answer_with(0, 0, EAI_NONAME);
    assert_true(ask("a.test", &query, stale_ns));
    assert_int_equal(addresses.count, 1);
    settle();
    assert_int_equal(atomic_load(&calls), 3);
    assert_true(ask("a.test", &query, uv_hrtime()));
    assert_int_equal(addresses.count, 0);
    assert_int_equal(addresses.error, EAI_NONAME);
}

static void a_query_can_be_cancelled_in_any_state(void **state)
{
    struct resolver_query waits = {0};
    struct resolver_query stays = {0};
    struct resolver_query ready = {0};

    (void)state;
    resolver_cancel(resolver, &waits);
    atomic_store(&held, true);
    assert_false(ask("a.test", &waits, uv_hrtime()));
    assert_false(ask("a.test", &stays, uv_hrtime()));
    assert_false(ask("a.test", &ready, uv_hrtime()));
    resolver_cancel(resolver, &waits);
    assert_null(waits.entry);
    resolver_cancel(resolver, &waits);
    release(1);
    settle();
    assert_true(stays.ready);
    assert_true(ready.ready);
    resolver_cancel(resolver, &ready);
    assert_false(ready.ready);
    assert_ptr_equal(resolver_take(resolver, &addresses), &stays);
    assert_null(resolver_take(resolver, &addresses));
    /* Where all have gone the answer is kept all the same. */
    assert_false(ask("b.test", &waits, uv_hrtime()));
    resolver_cancel(resolver, &waits);
    release(1);
    settle();
    assert_null(resolver_take(resolver, &addresses));
    assert_true(ask("b.test", &waits, uv_hrtime()));
    assert_int_equal(atomic_load(&calls), 2);
}

static void lookups_under_way_are_bounded(void **state)
{
    static struct resolver_query queries[LOOKUPS];
    struct resolver_query more = {0};
    struct resolver_query same = {0};
    char name[40];

    (void)state;
    memset(queries, 0, sizeof queries);
    atomic_store(&held, true);
    for (int i = 0; i < LOOKUPS; i++) {
        (void)snprintf(name, sizeof name, "n%d.test", i);
        assert_false(ask(name, &queries[i], uv_hrtime()));
    }
    assert_true(ask("more.test", &more, uv_hrtime()));
    assert_int_equal(addresses.count, 0);
    assert_int_equal(addresses.error, 0);
    assert_null(more.entry);
    assert_false(ask("n7.test", &same, uv_hrtime()));
    release(LOOKUPS);
    for (int i = 0; i <= LOOKUPS; i++) {
        (void)take();
        assert_int_equal(addresses.count, 1);
    }
    /* Room again; and what found none was not remembered as a failure. */
    release(1);
    assert_false(ask("more.test", &more, uv_hrtime()));
    assert_ptr_equal(take(), &more);
    assert_int_equal(atomic_load(&calls), LOOKUPS + 1);
}

static void await_begun(void)
{
    while (sem_wait(&begun) != 0) {
    }
}

static void do_nothing(uv_work_t *work)
{
    (void)work;
}

static bool other_is_done;

static void on_other_done(uv_work_t *work, int status)
{
    (void)work;
    other_is_done = status == 0;
}

static void no_more_lookups_run_than_there_are_threads(void **state)
{
    static struct resolver_query queries[5];
    char name[40];

    (void)state;
    memset(queries, 0, sizeof queries);
    atomic_store(&held, true);
    for (int i = 0; i < 5; i++) {
        (void)snprintf(name, sizeof name, "n%d.test", i);
        assert_false(ask(name, &queries[i], uv_hrtime()));
    }
    for (int i = 0; i < THREADS; i++) {
        await_begun();
    }
    uv_work_t other;
    other_is_done = false;
    assert_int_equal(uv_queue_work(&loop, &other, do_nothing, on_other_done), 0);
    while (!other_is_done) { /* others still have threads, and so it is not for want of one */
        (void)uv_run(&loop, UV_RUN_ONCE);
    }
    assert_int_equal(atomic_load(&calls), THREADS);
    for (int i = 0; i < 5; i++) { /* each that ends lets the next begin, in order */
        release(1);
        (void)take();
    }
    assert_int_equal(atomic_load(&calls), 5);
}

/* What has begun cannot be interrupted, but the rest of them need not hold others up. */
static void lookups_that_nobody_waits_for_are_not_begun(void **state)
{
    static struct resolver_query queries[LOOKUPS];
    struct resolver_query wanted = {0};
    char name[40];

    (void)state;
    memset(queries, 0, sizeof queries);
    atomic_store(&held, true);
    for (int i = 0; i < LOOKUPS; i++) {
        (void)snprintf(name, sizeof name, "n%d.test", i);
        assert_false(ask(name, &queries[i], uv_hrtime()));
    }
    for (int i = 0; i < LOOKUPS; i++) {
        resolver_cancel(resolver, &queries[i]);
    }
    assert_false(ask("wanted.test", &wanted, uv_hrtime())); /* there is room */
    release(THREADS + 1);
    assert_ptr_equal(take(), &wanted);
    assert_int_equal(atomic_load(&calls), THREADS + 1);
    assert_false(ask("n7.test", &wanted, uv_hrtime())); /* and none of them counts as failed */
    release(1);
    assert_ptr_equal(take(), &wanted);
    assert_int_equal(addresses.count, 1);
}

/* Asks for name NUMBER and waits; returns whether it was known. */
static bool resolve(int number)
{
    struct resolver_query query = {0};
    char name[40];

    (void)snprintf(name, sizeof name, "n%d.test", number);
    if (ask(name, &query, uv_hrtime())) {
        return true;
    }
    assert_ptr_equal(take(), &query);
    return false;
}

static void names_longest_unused_are_forgotten(void **state)
{
    struct resolver_query busy = {0};

    (void)state;
    /* The oldest of all is waited for and stays, though it is the longest unused. */
    atomic_store(&held, true);
    assert_false(ask("busy.test", &busy, uv_hrtime()));
    await_begun();
    atomic_store(&held, false);
    for (int i = 0; i < NAMES - 1; i++) {
        assert_false(resolve(i));
    }
    assert_true(resolve(0)); /* used again: 1 is now the longest unused */
    assert_false(resolve(NAMES));
    assert_true(resolve(0));
    assert_true(resolve(2));
    assert_true(resolve(NAMES - 2));
    assert_false(resolve(1));
    release(1);
    assert_ptr_equal(take(), &busy);
    assert_int_equal(addresses.count, 1);
}

static void lookups_may_outlive_the_resolver(void **state)
{
    static struct resolver_query queries[20];
    char name[40];

    (void)state;
    memset(queries, 0, sizeof queries);
    atomic_store(&held, true);
    for (int i = 0; i < 20; i++) { /* more than there are threads: some have not begun */
        (void)snprintf(name, sizeof name, "n%d.test", i);
        assert_false(ask(name, &queries[i], uv_hrtime()));
        resolver_cancel(resolver, &queries[i]);
    }
    resolver_destroy(resolver);
    resolver = NULL;
    release(20);
    settle();
    assert_true(atomic_load(&calls) < 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(literals_need_no_lookup, setup, teardown),
        cmocka_unit_test_setup_teardown(system_is_asked, setup, teardown),
        cmocka_unit_test_setup_teardown(a_name_is_looked_up_once, setup, teardown),
        cmocka_unit_test_setup_teardown(addresses_are_bounded_and_different, setup, teardown),
        cmocka_unit_test_setup_teardown(an_answer_is_fresh_then_stale_then_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failure_is_kept_for_a_moment, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failed_renewal_keeps_the_answer_unless_the_name_is_gone,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_query_can_be_cancelled_in_any_state, setup, teardown),
        cmocka_unit_test_setup_teardown(lookups_under_way_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(no_more_lookups_run_than_there_are_threads, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(lookups_that_nobody_waits_for_are_not_begun, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(names_longest_unused_are_forgotten, setup, teardown),
        cmocka_unit_test_setup_teardown(lookups_may_outlive_the_resolver, setup, teardown),
    };

    (void)alarm(120); /* a look-up that never ends ends the test */
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Credentials on threads: what is remembered, who shares a check, what is bounded. The check itself
 * is replaced by one that the test holds and counts; one test uses the real one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/auth.h"
#include "server/auth_cache.h"

#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECOND_NS UINT64_C(1000000000)
#define WAITING   256 /* checks that may wait */
#define RUNNING   2   /* and be on threads */
#define SHA512                                                                                    \
    "$6$rounds=1000$abcdefgh$T4IxfLekGaBeQnTAwBiF44khEyJ0Me902qgy/TUTljtDBGek0yXtln/VLwcluRKTXc0" \
    "yr5n2UBkCl7H2BREdh0" /* wonderland */
#define SHA256 "$5$rounds=1000$qwertyui$mBpP5Xd44yKDJ9o0bcZFN.1VO8R.cts3BOVbkPAxn4." /* hunter2 */

static uv_loop_t loop;
static struct secrets *secrets;
static struct auth *auth;
static struct auth_queries answered;

static atomic_int calls;
static atomic_bool held;
static sem_t gate;
static sem_t begun; /* one for each that is held */

/* The right password is "right". */
static bool verify(const char *password, const char *hash)
{
    (void)hash;
    atomic_fetch_add(&calls, 1);
    if (atomic_load(&held)) {
        sem_post(&begun);
        while (sem_wait(&gate) != 0) {
        }
    }
    return strcmp(password, "right") == 0;
}

static struct secrets *load(const char *text)
{
    char path[] = "/tmp/weir-auth-XXXXXX";
    char *error = NULL;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    struct secrets_paths paths = {.clients = path};
    struct secrets *loaded = secrets_load(&paths, &error);
    (void)unlink(path);
    if (loaded == NULL) {
        print_message("%s\n", error);
    }
    assert_non_null(loaded);
    return loaded;
}

static int setup(void **state)
{
    (void)state;
    atomic_store(&calls, 0);
    atomic_store(&held, false);
    sem_init(&gate, 0, 0);
    sem_init(&begun, 0, 0);
    secrets = load("alice:" SHA512 "\nbob:" SHA256 "\n");
    assert_int_equal(uv_loop_init(&loop), 0);
    auth = auth_create(&loop, secrets);
    assert_non_null(auth);
    auth_set_verify(auth, verify);
    TAILQ_INIT(&answered);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    auth_destroy(auth);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&loop), 0);
    secrets_destroy(secrets);
    return 0;
}

/* Asks with the token TEXT. True where the answer is known, then in *ret_problem. */
static bool ask(const char *text, struct auth_query *query, uint64_t now_ns,
                enum problem *ret_problem)
{
    struct header field = {"Weir-Token", text, 10, (uint32_t)strlen(text)};
    const char *detail = "";
    bool known = auth_ask(auth, &field, 1, query, &answered, now_ns, ret_problem, &detail);
    assert_true(!known || (detail == NULL) == (*ret_problem == PROBLEM_NONE));
    return known;
}

static void turn(uint64_t now_ns)
{
    (void)uv_run(&loop, UV_RUN_ONCE);
    (void)auth_run(auth, now_ns);
}

/* What TEXT leads to, however long that takes. */
static enum problem verdict(const char *text, uint64_t now_ns)
{
    struct auth_query query = {0};
    enum problem problem = PROBLEM_COUNT;
    if (ask(text, &query, now_ns, &problem)) {
        return problem;
    }
    struct auth_query *taken = NULL;
    while ((taken = auth_take(&answered)) == NULL) {
        turn(now_ns);
    }
    assert_ptr_equal(taken, &query);
    assert_null(taken->check);
    assert_null(auth_take(&answered));
    return query.problem;
}

static void test_real_passwords(void **state)
{
    (void)state;
    auth_destroy(auth);
    auth = auth_create(&loop, secrets);
    assert_non_null(auth);
    assert_int_equal(verdict("alice:wonderland", 1), PROBLEM_NONE);
    assert_int_equal(verdict("bob:hunter2", 1), PROBLEM_NONE);
    assert_int_equal(verdict("alice:hunter2", 1), PROBLEM_AUTH_REQUIRED);
    assert_int_equal(verdict("bob:hunter2 ", 1), PROBLEM_AUTH_REQUIRED);
    assert_int_equal(verdict("bob:", 1), PROBLEM_AUTH_REQUIRED);
    /* the first of the file lends its hash to names that are not there: never its rights */
    assert_int_equal(verdict("carol:wonderland", 1), PROBLEM_AUTH_REQUIRED);
    assert_int_equal(verdict(":wonderland", 1), PROBLEM_AUTH_REQUIRED);
}

static void test_right_ones_are_remembered(void **state)
{
    (void)state;
    assert_int_equal(verdict("alice:right", SECOND_NS), PROBLEM_NONE);
    assert_int_equal(verdict("alice:right", 1000000 * SECOND_NS), PROBLEM_NONE);
    assert_int_equal(atomic_load(&calls), 1);
    assert_int_equal(verdict("bob:right", 1000000 * SECOND_NS), PROBLEM_NONE);
    assert_int_equal(atomic_load(&calls), 2);
    assert_int_equal(auth_counts(auth).checks_total, 2);
    assert_int_equal(auth_counts(auth).refused_total, 0);
}

static void test_wrong_ones_are_remembered_for_a_while(void **state)
{
    (void)state;
    assert_int_equal(verdict("alice:wrong", SECOND_NS), PROBLEM_AUTH_REQUIRED);
    assert_int_equal(verdict("alice:wrong", 10 * SECOND_NS), PROBLEM_AUTH_REQUIRED);
    assert_int_equal(atomic_load(&calls), 1);
    assert_int_equal(verdict("alice:wrong", 11 * SECOND_NS), PROBLEM_AUTH_REQUIRED);
    assert_int_equal(atomic_load(&calls), 2);
    assert_int_equal(auth_counts(auth).refused_total, 3);
}

static void test_other_secrets_forget_all(void **state)
{
    (void)state;
    assert_int_equal(verdict("alice:right", 1), PROBLEM_NONE);
    struct secrets *others = load("bob:" SHA256 "\n");
    auth_replace(auth, others);
    secrets_destroy(secrets);
    secrets = others;
    assert_int_equal(verdict("alice:right", 2), PROBLEM_AUTH_REQUIRED);
    assert_int_equal(atomic_load(&calls), 2);
    assert_int_equal(verdict("bob:right", 2), PROBLEM_NONE);
}

static void test_a_check_from_before_is_not_remembered(void **state)
{
    struct auth_query query = {0};
    enum problem problem;
    (void)state;
    atomic_store(&held, true);
    assert_false(ask("alice:right", &query, 1, &problem));
    sem_wait(&begun);
    struct secrets *others = load("bob:" SHA256 "\n");
    auth_replace(auth, others);
    secrets_destroy(secrets);
    secrets = others;
    atomic_store(&held, false);
    sem_post(&gate);
    while (auth_take(&answered) == NULL) {
        turn(2);
    }
    assert_int_equal(verdict("alice:right", 3), PROBLEM_AUTH_REQUIRED);
}

static void test_the_same_are_checked_once(void **state)
{
    struct auth_query queries[5] = {0};
    enum problem problem;
    (void)state;
    atomic_store(&held, true);
    for (int i = 0; i < 5; i++) {
        assert_false(ask("alice:right", &queries[i], 1, &problem));
    }
    auth_cancel(&queries[2]);
    sem_post(&gate);
    for (int i = 0; i < 5; i++) {
        struct auth_query *taken = NULL;
        while (i != 2 && (taken = auth_take(&answered)) == NULL) {
            turn(1);
        }
        assert_true(i == 2 || taken == &queries[i]);
    }
    assert_null(auth_take(&answered));
    assert_int_equal(atomic_load(&calls), 1);
}

static void test_bounds(void **state)
{
    static struct auth_query queries[WAITING + RUNNING + 1];
    enum problem problem = PROBLEM_NONE;
    char text[32];
    (void)state;
    memset(queries, 0, sizeof queries);
    atomic_store(&held, true);
    for (int i = 0; i < WAITING + RUNNING; i++) {
        (void)snprintf(text, sizeof text, "alice:%d", i);
        assert_false(ask(text, &queries[i], 1, &problem));
    }
    assert_int_equal(auth_counts(auth).checking, RUNNING);
    assert_int_equal(auth_counts(auth).waiting, WAITING);
    assert_true(auth_is_busy(auth));
    assert_true(ask("alice:more", &queries[WAITING + RUNNING], 1, &problem));
    assert_int_equal(problem, PROBLEM_AUTH_BUSY);
    assert_int_equal(auth_counts(auth).busy_total, 1);
    /* what is known or waits already is no more work */
    assert_false(ask("alice:7", &queries[WAITING + RUNNING], 1, &problem));
    for (int i = 0; i <= WAITING + RUNNING; i++) {
        auth_cancel(&queries[i]);
    }
    assert_int_equal(auth_counts(auth).waiting, 0);
    atomic_store(&held, false);
    sem_post(&gate);
    sem_post(&gate);
    while (auth_is_busy(auth)) {
        turn(1);
    }
    assert_int_equal(atomic_load(&calls), RUNNING);
    assert_null(auth_take(&answered));
}

static void test_cancel_in_every_state(void **state)
{
    struct auth_query running = {0};
    struct auth_query never = {0};
    enum problem problem;
    (void)state;
    auth_cancel(&never);
    assert_false(ask("alice:right", &running, 1, &problem));
    while (!running.ready) {
        turn(1);
    }
    auth_cancel(&running);
    assert_null(auth_take(&answered));
    auth_cancel(&running);
    assert_true(ask("alice:right", &running, 1, &problem)); /* it was remembered all the same */
    assert_int_equal(problem, PROBLEM_NONE);
}

static void test_ends_while_a_check_runs(void **state)
{
    struct auth_query query = {0};
    enum problem problem;
    (void)state;
    atomic_store(&held, true);
    assert_false(ask("alice:right", &query, 1, &problem));
    sem_wait(&begun);
    auth_cancel(&query);
    auth_destroy(auth);
    auth = NULL;
    sem_post(&gate);
}

static void test_nobody_is_asked(void **state)
{
    struct secrets_paths none = {0};
    struct auth_query query = {0};
    enum problem problem = PROBLEM_COUNT;
    char *error = NULL;
    (void)state;
    struct secrets *open = secrets_load(&none, &error);
    auth_replace(auth, open);
    assert_false(auth_is_on(auth));
    assert_true(ask("garbage", &query, 1, &problem));
    assert_int_equal(problem, PROBLEM_NONE);
    auth_replace(auth, secrets);
    assert_true(auth_is_on(auth));
    assert_true(ask("garbage", &query, 1, &problem));
    assert_int_equal(problem, PROBLEM_AUTH_REQUIRED);
    secrets_destroy(open);
}

/* --- the cache --- */

static struct digest digest_of(uint32_t number, unsigned char set)
{
    struct digest digest = {{set}};
    memcpy(digest.bytes + 1, &number, sizeof number);
    return digest;
}

static void test_cache_keeps_the_last_used(void **state)
{
    static struct auth_cache cache;
    (void)state;
    memset(&cache, 0, sizeof cache);
    for (uint32_t i = 0; i < AUTH_CACHE_WAYS; i++) {
        struct digest digest = digest_of(i, 9);
        assert_false(auth_cache_find(&cache, &digest, 1));
        auth_cache_add(&cache, &digest, UINT64_MAX, 10 + i);
    }
    struct digest first = digest_of(0, 9);
    struct digest second = digest_of(1, 9);
    struct digest more = digest_of(100, 9);
    struct digest elsewhere = digest_of(0, 10);
    assert_true(auth_cache_find(&cache, &first, 20));
    assert_false(auth_cache_find(&cache, &elsewhere, 20));
    auth_cache_add(&cache, &more, UINT64_MAX, 21);
    assert_false(auth_cache_find(&cache, &second, 22)); /* the longest unused */
    assert_true(auth_cache_find(&cache, &first, 22));
    assert_true(auth_cache_find(&cache, &more, 22));
    auth_cache_clear(&cache);
    assert_false(auth_cache_find(&cache, &first, 23));
}

static void test_cache_prefers_what_is_over(void **state)
{
    static struct auth_cache cache;
    (void)state;
    memset(&cache, 0, sizeof cache);
    for (uint32_t i = 0; i < AUTH_CACHE_WAYS; i++) {
        struct digest digest = digest_of(i, 0);
        auth_cache_add(&cache, &digest, i == 2 ? 50 : UINT64_MAX, 10 + i);
    }
    struct digest over = digest_of(2, 0);
    struct digest more = digest_of(100, 0);
    assert_true(auth_cache_find(&cache, &over, 49));
    assert_false(auth_cache_find(&cache, &over, 50));
    auth_cache_add(&cache, &more, UINT64_MAX, 51);
    for (uint32_t i = 0; i < AUTH_CACHE_WAYS; i++) {
        struct digest digest = digest_of(i, 0);
        assert_int_equal(auth_cache_find(&cache, &digest, 52), i != 2);
    }
    auth_cache_add(&cache, &more, 60, 53); /* again: one entry, with the new time */
    assert_false(auth_cache_find(&cache, &more, 60));
    struct digest first = digest_of(0, 0);
    assert_true(auth_cache_find(&cache, &first, 60));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_real_passwords),
        TEST(test_right_ones_are_remembered),
        TEST(test_wrong_ones_are_remembered_for_a_while),
        TEST(test_other_secrets_forget_all),
        TEST(test_a_check_from_before_is_not_remembered),
        TEST(test_the_same_are_checked_once),
        TEST(test_bounds),
        TEST(test_cancel_in_every_state),
        TEST(test_ends_while_a_check_runs),
        TEST(test_nobody_is_asked),
        cmocka_unit_test(test_cache_keeps_the_last_used),
        cmocka_unit_test(test_cache_prefers_what_is_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

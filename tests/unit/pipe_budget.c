/* The memory that pipes share. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/pipe.h"

#include <stdlib.h>
#include <string.h>

#define PIPES 40

static char bytes[PIPE_BYTES];

static void fill(struct pipe *pipe)
{
    while (pipe_room(pipe) > 0) {
        size_t room = pipe_room(pipe);
        assert_true(pipe_write(pipe, bytes, room < 16384 ? room : 16384));
    }
}

static void test_comes_back_to_zero(void **state)
{
    struct pipe_budget budget = {.limit = 1 << 20};
    struct pipe one = {.budget = &budget};
    struct pipe other = {.budget = &budget};
    size_t taken = 0;
    (void)state;
    assert_true(pipe_write(&one, bytes, 10));
    assert_int_equal(budget.bytes, one.capacity);
    fill(&one);
    fill(&other);
    assert_int_equal(budget.bytes, 2 * PIPE_BYTES);
    assert_int_equal(budget.peak_bytes, 2 * PIPE_BYTES);
    while (pipe_read(&one, bytes, 1000) > 0) {
    }
    char *body = pipe_take(&other, &taken);
    assert_int_equal(taken, PIPE_BYTES);
    assert_int_equal(budget.bytes, 2 * PIPE_BYTES); /* what was taken is still in use */
    assert_true(pipe_write(&other, bytes, 10));
    assert_int_equal(budget.bytes, 2 * PIPE_BYTES + other.capacity);
    free(body);
    pipe_finish(&other);
    assert_int_equal(budget.bytes, PIPE_BYTES);
    assert_ptr_equal(other.budget, &budget);
    pipe_finish(&other);
    assert_true(pipe_write(&other, bytes, 10));
    assert_int_equal(budget.bytes, PIPE_BYTES + other.capacity);
    pipe_finish(&other);
    pipe_finish(&one);
    assert_int_equal(budget.bytes, 0);
    assert_int_equal(budget.peak_bytes, 2 * PIPE_BYTES + 4096);
}

/* The last quarter is for small ones; nobody is kept from having PIPE_LEAST_BYTES. */
static void test_growth_ends_when_it_is_scarce(void **state)
{
    struct pipe_budget budget = {.limit = 1 << 20};
    struct pipe pipes[PIPES];
    size_t whole = 0;
    (void)state;
    for (size_t i = 0; i < PIPES; i++) {
        pipes[i] = (struct pipe){.budget = &budget};
        fill(&pipes[i]);
        assert_true(pipes[i].length >= PIPE_LEAST_BYTES);
        whole += pipes[i].length == PIPE_BYTES ? 1 : 0;
    }
    assert_int_equal(whole, 6); /* of 8 that the limit has room for */
    assert_int_equal(budget.scarce_total, 1);
    assert_true(pipe_budget_is_spent(&budget));
    assert_true(budget.bytes <= (1 << 20) + PIPES * PIPE_LEAST_BYTES);
    for (size_t i = 0; i < PIPES; i++) {
        pipe_finish(&pipes[i]);
    }
    assert_int_equal(budget.bytes, 0);
    assert_false(pipe_budget_is_spent(&budget));
}

/* Writers of 16 KiB at a time, which go on when the pipe is low, never stand still. */
static void test_scarce_pipes_still_flow(void **state)
{
    struct pipe_budget budget = {.limit = 4, .bytes = 4};
    struct pipe pipe = {.budget = &budget};
    (void)state;
    assert_true(pipe_write(&pipe, bytes, 16384));
    assert_true(pipe_write(&pipe, bytes, 16384));
    assert_false(pipe_write(&pipe, bytes, 1));
    assert_int_equal(pipe_room(&pipe), 0);
    assert_false(pipe_is_low(&pipe));
    for (size_t passed = 0; passed < 10 * PIPE_BYTES;) {
        passed += pipe_read(&pipe, bytes, 1000);
        if (pipe_is_low(&pipe)) {
            assert_true(pipe_room(&pipe) >= 16384);
            assert_true(pipe_write(&pipe, bytes, 16384));
        }
        assert_true(pipe.length > 0);
    }
    assert_int_equal(pipe.capacity, PIPE_LEAST_BYTES);
    pipe_finish(&pipe);
    assert_int_equal(budget.bytes, 4);
}

/* A pipe that is large when it gets scarce keeps what it has. */
static void test_large_ones_keep_their_size(void **state)
{
    struct pipe_budget budget = {.limit = 1 << 20};
    struct pipe pipe = {.budget = &budget};
    (void)state;
    assert_true(pipe_write(&pipe, bytes, 60000));
    assert_int_equal(pipe.capacity, 65536);
    budget.limit = 1000; /* a reload */
    assert_int_equal(pipe_room(&pipe), 65536 - 60000);
    assert_false(pipe_is_low(&pipe));
    assert_int_equal(pipe_read(&pipe, bytes, 30000), 30000);
    assert_true(pipe_is_low(&pipe));
    assert_true(pipe_write(&pipe, bytes, 35536));
    assert_int_equal(pipe_room(&pipe), 0);
    pipe_finish(&pipe);
    assert_int_equal(pipe_room(&pipe), PIPE_BYTES);
    assert_int_equal(budget.bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_comes_back_to_zero),
        cmocka_unit_test(test_growth_ends_when_it_is_scarce),
        cmocka_unit_test(test_scarce_pipes_still_flow),
        cmocka_unit_test(test_large_ones_keep_their_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/pipe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char pattern[2 * PIPE_BYTES];

static int fill_pattern(void **state)
{
    uint32_t random = 1;

    (void)state;
    for (size_t i = 0; i < sizeof pattern; i++) {
        random = random * 1664525u + 1013904223u;
        pattern[i] = (char)(random >> 24);
    }
    return 0;
}

/* Reads BYTES and expects those of the pattern from AT on. */
static void expect_read(struct pipe *pipe, size_t at, size_t bytes)
{
    char *buffer = malloc(bytes + 1);

    assert_non_null(buffer);
    assert_int_equal(pipe_read(pipe, buffer, bytes), bytes);
    assert_memory_equal(buffer, pattern + at, bytes);
    free(buffer);
}

/* Takes all and expects BYTES of the pattern from AT on. */
static void expect_take(struct pipe *pipe, size_t at, size_t bytes)
{
    size_t taken = 0;
    char *memory = pipe_take(pipe, &taken);

    assert_non_null(memory);
    assert_int_equal(taken, bytes);
    assert_memory_equal(memory, pattern + at, bytes);
    assert_int_equal(pipe->length, 0);
    assert_int_equal(pipe_room(pipe), PIPE_BYTES);
    free(memory);
}

static void all_zero_is_empty(void **state)
{
    struct pipe pipe = {0};
    size_t bytes = 7;
    char byte;

    (void)state;
    assert_int_equal(pipe_room(&pipe), PIPE_BYTES);
    assert_int_equal(pipe_read(&pipe, &byte, 1), 0);
    assert_null(pipe_take(&pipe, &bytes));
    assert_true(pipe_write(&pipe, NULL, 0));
    assert_null(pipe.memory);
    pipe_finish(&pipe);
}

static void takes_all_or_nothing(void **state)
{
    struct pipe pipe = {0};

    (void)state;
    assert_false(pipe_write(&pipe, pattern, PIPE_BYTES + 1));
    assert_int_equal(pipe.length, 0);
    assert_true(pipe_write(&pipe, pattern, PIPE_BYTES - 10));
    assert_int_equal(pipe_room(&pipe), 10);
    assert_false(pipe_write(&pipe, pattern, 11));
    assert_int_equal(pipe.length, PIPE_BYTES - 10);
    assert_true(pipe_write(&pipe, pattern + PIPE_BYTES - 10, 10));
    assert_int_equal(pipe_room(&pipe), 0);
    assert_false(pipe_write(&pipe, pattern, 1));
    assert_true(pipe_write(&pipe, pattern, 0));
    assert_true(pipe.capacity == PIPE_BYTES);
    expect_read(&pipe, 0, PIPE_BYTES);
    pipe_finish(&pipe);
}

static void short_body_is_taken_without_copying(void **state)
{
    struct pipe pipe = {0};
    size_t bytes = 0;

    (void)state;
    /* What was read before does not matter once the pipe was empty. */
    assert_true(pipe_write(&pipe, pattern, 3000));
    expect_read(&pipe, 0, 2000);
    expect_read(&pipe, 2000, 1000);
    assert_int_equal(pipe.start, 0);
    assert_true(pipe_write(&pipe, pattern, 4000));
    const char *memory = pipe.memory;
    char *taken = pipe_take(&pipe, &bytes);

    assert_ptr_equal(taken, memory);
    assert_int_equal(bytes, 4000);
    assert_memory_equal(taken, pattern, 4000);
    free(taken);
    pipe_finish(&pipe);
}

static void memory_starts_small_and_grows(void **state)
{
    struct pipe pipe = {0};

    (void)state;
    assert_true(pipe_write(&pipe, pattern, 1));
    assert_true(pipe.capacity <= 4096);
    for (size_t at = 1; at < PIPE_BYTES; at++) {
        assert_true(pipe_write(&pipe, pattern + at, 1));
        assert_true(pipe.capacity <= 4096 || pipe.capacity <= 2 * pipe.length);
    }
    expect_take(&pipe, 0, PIPE_BYTES);
    pipe_finish(&pipe);
}

static void wrapped_content_stays_in_order(void **state)
{
    struct pipe pipe = {0};

    (void)state;
    /* Taken in one piece. */
    assert_true(pipe_write(&pipe, pattern, 4096));
    expect_read(&pipe, 0, 1001);
    assert_true(pipe_write(&pipe, pattern + 4096, 900));
    assert_int_equal(pipe.capacity, 4096);
    expect_take(&pipe, 1001, 4096 - 1001 + 900);
    /* Read in pieces over the edge. */
    assert_true(pipe_write(&pipe, pattern, 4096));
    expect_read(&pipe, 0, 4000);
    assert_true(pipe_write(&pipe, pattern + 4096, 2000));
    expect_read(&pipe, 4000, 50);
    expect_read(&pipe, 4050, 100);
    expect_read(&pipe, 4150, 1946);
    /* Grown while wrapped. */
    assert_true(pipe_write(&pipe, pattern, 4096));
    expect_read(&pipe, 0, 4000);
    assert_true(pipe_write(&pipe, pattern + 4096, 3000));
    assert_true(pipe_write(&pipe, pattern + 7096, 50000));
    expect_take(&pipe, 4000, 53096);
    /* Taken from the middle. */
    assert_true(pipe_write(&pipe, pattern, 100));
    expect_read(&pipe, 0, 30);
    expect_take(&pipe, 30, 70);
    pipe_finish(&pipe);
}

static void closed_stays_until_finished(void **state)
{
    struct pipe pipe = {0};

    (void)state;
    assert_true(pipe_write(&pipe, pattern, 20));
    pipe.closed = true;
    expect_read(&pipe, 0, 10);
    expect_take(&pipe, 10, 10);
    assert_true(pipe.closed);
    pipe_finish(&pipe);
    assert_false(pipe.closed);
    assert_null(pipe.memory);
}

/* Against the obvious: what went in comes out, in order, and the room is what is left. */
static void random_operations_agree_with_a_stream(void **state)
{
    static char buffer[PIPE_BYTES];
    struct pipe pipe = {0};
    size_t in = 0; /* of the pattern, which repeats */
    size_t out = 0;
    uint32_t random = 20240607;

    (void)state;
    print_message("seed %u\n", random);
    for (int i = 0; i < 200000; i++) {
        random = random * 1664525u + 1013904223u;
        size_t bytes = (random >> 12) % ((random >> 4) % 7 == 0 ? PIPE_BYTES : 3000);
        size_t held = in - out;

        switch (random >> 30) {
        case 0:
        case 1: {
            bool fits = bytes <= PIPE_BYTES - held;

            assert_int_equal(pipe_write(&pipe, pattern + in % PIPE_BYTES, bytes), fits);
            in += fits ? bytes : 0;
            break;
        }
        case 2:
            held = bytes < held ? bytes : held;
            assert_int_equal(pipe_read(&pipe, buffer, bytes), held);
            assert_memory_equal(buffer, pattern + out % PIPE_BYTES, held);
            out += held;
            break;
        default:
            if (random % 64 == 0 && held > 0) {
                expect_take(&pipe, out % PIPE_BYTES, held);
                out = in;
            }
        }
        assert_int_equal(pipe.length, in - out);
        assert_int_equal(pipe_room(&pipe), PIPE_BYTES - (in - out));
    }
    assert_true(out > 1000000);
    pipe_finish(&pipe);
}

static int repeat_pattern(void **state)
{
    (void)fill_pattern(state);
    memcpy(pattern + PIPE_BYTES, pattern, PIPE_BYTES);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_zero_is_empty),
        cmocka_unit_test(takes_all_or_nothing),
        cmocka_unit_test(short_body_is_taken_without_copying),
        cmocka_unit_test(memory_starts_small_and_grows),
        cmocka_unit_test(wrapped_content_stays_in_order),
        cmocka_unit_test(closed_stays_until_finished),
        cmocka_unit_test_setup(random_operations_agree_with_a_stream, repeat_pattern),
    };

    return cmocka_run_group_tests(tests, fill_pattern, NULL);
}

/*
 * See threads.h.
 *
 * libuv starts its threads when they are first needed, and ends the process where one cannot be
 * had: `ulimit -u` and pids.max are bounds that a container meets. So threads of our own find out
 * how many there can be, and libuv is then told to start as many.
 *
 * The kernel may count a thread for a moment after it has been joined. Where twice as many can be
 * had as are wanted that is no matter; elsewhere the moment is waited for.
 */
#include "server/threads.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define WANTED_MAX  64
#define MOMENT_NS   50000000L
#define STACK_BYTES (8U << 20) /* of libuv's own threads, from 1.45 on: whatever the limit says */
#define STACK_SINCE 0x012D00U

static bool has_own_stacks(void)
{
    return uv_version() >= STACK_SINCE;
}

uint64_t threads_address_bytes(unsigned count, uint64_t stack_bytes)
{
    return count * (has_own_stacks() ? STACK_BYTES : stack_bytes);
}

static void wait_for_the_end(void *gate)
{
    uv_sem_wait(gate);
    uv_sem_post(gate);
}

/* How many threads there can be at once, up to MOST. */
static unsigned count_possible(unsigned most)
{
    uv_thread_options_t options = {
        .flags = has_own_stacks() ? UV_THREAD_HAS_STACK_SIZE : UV_THREAD_NO_FLAGS,
        .stack_size = STACK_BYTES,
    };
    uv_thread_t threads[2 * WANTED_MAX];
    uv_sem_t gate;
    unsigned count = 0;
    if (uv_sem_init(&gate, 0) != 0) {
        return 0;
    }
    while (count < most &&
           uv_thread_create_ex(&threads[count], &options, wait_for_the_end, &gate) == 0) {
        count++;
    }
    uv_sem_post(&gate);
    for (unsigned i = 0; i < count; i++) {
        uv_thread_join(&threads[i]);
    }
    uv_sem_destroy(&gate);
    return count;
}

static void do_nothing(uv_work_t *work)
{
    (void)work;
}

static void on_done(uv_work_t *work, int status)
{
    (void)work;
    (void)status;
}

unsigned threads_start(uv_loop_t *loop, unsigned wanted)
{
    static uv_work_t first;
    char number[16];
    assert(wanted > 0 && wanted <= WANTED_MAX);

    unsigned count = count_possible(2 * wanted);
    if (count < 2 * wanted) {
        nanosleep(&(struct timespec){.tv_nsec = MOMENT_NS}, NULL);
    }
    count = count < wanted ? count : wanted;
    if (count == 0) {
        return 0;
    }
    snprintf(number, sizeof number, "%u", count);
    bool good = setenv("UV_THREADPOOL_SIZE", number, 1) == 0;
    return good && uv_queue_work(loop, &first, do_nothing, on_done) == 0 ? count : 0;
}

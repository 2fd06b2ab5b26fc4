/*
 * See threads.h.
 *
 * libuv starts its threads when they are first needed, and ends the process where one cannot be
 * had: `ulimit -u` and pids.max are bounds that a container meets. So threads of our own find out
 * how many there can be, and libuv is then told to start as many. In between it is waited for that
 * the kernel has let go of ours, which is a moment after they have been joined: it forgets their
 * numbers once it no longer counts them.
 */
#include "server/threads.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define WANTED_MAX      64
#define OWN_STACK_BYTES (8U << 20) /* of libuv's threads, from 1.45 on: whatever the limit says */
#define OWN_STACK_SINCE 0x012D00U
#define PATIENCE        1000 /* milliseconds, for the kernel */

static bool has_own_stacks(void)
{
    return uv_version() >= OWN_STACK_SINCE;
}

uint64_t threads_address_bytes(unsigned count, uint64_t stack_bytes)
{
    return count * (has_own_stacks() ? OWN_STACK_BYTES : stack_bytes);
}

struct trial {
    uv_thread_t thread;
    uv_sem_t *gate;
    pid_t number;
};

static void wait_for_the_end(void *context)
{
    struct trial *trial = context;
    trial->number = gettid();
    uv_sem_wait(trial->gate);
    uv_sem_post(trial->gate);
}

static void wait_until_forgotten(pid_t number)
{
    for (int i = 0; i < PATIENCE && syscall(SYS_tgkill, getpid(), number, 0) == 0; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

/* How many threads there can be at once, up to MOST. */
static unsigned count_possible(unsigned most)
{
    uv_thread_options_t options = {
        .flags = has_own_stacks() ? UV_THREAD_HAS_STACK_SIZE : UV_THREAD_NO_FLAGS,
        .stack_size = OWN_STACK_BYTES,
    };
    struct trial trials[WANTED_MAX];
    uv_sem_t gate;
    unsigned count = 0;
    if (uv_sem_init(&gate, 0) != 0) {
        return 0;
    }
    while (count < most) {
        trials[count].gate = &gate;
        if (uv_thread_create_ex(&trials[count].thread, &options, wait_for_the_end,
                                &trials[count]) != 0) {
            break;
        }
        count++;
    }
    uv_sem_post(&gate);
    for (unsigned i = 0; i < count; i++) {
        uv_thread_join(&trials[i].thread);
        wait_until_forgotten(trials[i].number);
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

    unsigned count = count_possible(wanted);
    if (count == 0) {
        return 0;
    }
    snprintf(number, sizeof number, "%u", count);
    bool good = setenv("UV_THREADPOOL_SIZE", number, 1) == 0;
    return good && uv_queue_work(loop, &first, do_nothing, on_done) == 0 ? count : 0;
}

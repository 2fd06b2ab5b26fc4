#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "limiter/wheel.h"

#include <stdlib.h>

#define TICK  WHEEL_TICK_NS
#define START (UINT64_C(123456) * TICK)

static struct wheel wheel;

static int setup(void **state)
{
    (void)state;
    wheel_init(&wheel, START);
    return 0;
}

/* Takes all that is due at NOW_NS and returns how many that were. */
static size_t take_all(uint64_t now_ns)
{
    size_t count = 0;
    while (wheel_take_due(&wheel, now_ns)) {
        count++;
        assert_true(wheel_check(&wheel));
    }
    assert_true(wheel_check(&wheel));
    return count;
}

static void test_empty_has_nothing(void **state)
{
    (void)state;
    assert_true(wheel_check(&wheel));
    assert_null(wheel_take_due(&wheel, START + 1000 * TICK));
    assert_int_equal(wheel_next_ns(&wheel), WHEEL_NEVER);
}

static void test_due_once_its_tick_has_passed(void **state)
{
    (void)state;
    struct wheel_timer timer = {0};
    wheel_arm(&wheel, &timer, START + 5 * TICK + 7);
    assert_true(timer.armed);
    assert_int_equal(wheel_next_ns(&wheel), START + 6 * TICK);
    assert_null(wheel_take_due(&wheel, START + 5 * TICK + 7));
    assert_null(wheel_take_due(&wheel, START + 6 * TICK - 1));
    assert_ptr_equal(wheel_take_due(&wheel, START + 6 * TICK), &timer);
    assert_false(timer.armed);
    assert_null(wheel_take_due(&wheel, START + 6 * TICK));
    assert_int_equal(wheel.count, 0);
}

static void test_past_deadline_is_due_at_once(void **state)
{
    (void)state;
    struct wheel_timer timer = {0};
    wheel_arm(&wheel, &timer, START - 40 * TICK);
    assert_true(wheel_check(&wheel));
    assert_true(wheel_next_ns(&wheel) <= START);
    assert_ptr_equal(wheel_take_due(&wheel, START), &timer);
    /* It comes after those that were found to be due before it was armed. */
    struct wheel_timer earlier[2] = {0};
    wheel_arm(&wheel, &earlier[0], START + 9 * TICK);
    wheel_arm(&wheel, &earlier[1], START + 9 * TICK);
    assert_ptr_equal(wheel_take_due(&wheel, START + 20 * TICK), &earlier[0]);
    wheel_arm(&wheel, &timer, START + 5 * TICK);
    assert_true(wheel_check(&wheel));
    assert_ptr_equal(wheel_take_due(&wheel, START + 20 * TICK), &earlier[1]);
    assert_ptr_equal(wheel_take_due(&wheel, START + 20 * TICK), &timer);
}

static void test_disarm_takes_out(void **state)
{
    (void)state;
    struct wheel_timer timers[3] = {0};
    for (size_t i = 0; i < 3; i++) {
        wheel_arm(&wheel, &timers[i], START + 70 * TICK);
    }
    wheel_disarm(&wheel, &timers[1]);
    wheel_disarm(&wheel, &timers[1]);
    assert_true(wheel_check(&wheel));
    assert_int_equal(wheel.count, 2);
    assert_ptr_equal(wheel_take_due(&wheel, START + 80 * TICK), &timers[0]);
    wheel_disarm(&wheel, &timers[2]); /* out of the due list */
    assert_null(wheel_take_due(&wheel, START + 80 * TICK));
    assert_int_equal(wheel_next_ns(&wheel), WHEEL_NEVER);
}

static void test_arm_again_moves(void **state)
{
    (void)state;
    struct wheel_timer timer = {0};
    wheel_arm(&wheel, &timer, START + 3 * TICK);
    wheel_arm(&wheel, &timer, START + 9000 * TICK);
    assert_int_equal(wheel.count, 1);
    assert_null(wheel_take_due(&wheel, START + 9000 * TICK));
    assert_ptr_equal(wheel_take_due(&wheel, START + 9001 * TICK), &timer);
    wheel_arm(&wheel, &timer, START + 9100 * TICK);
    wheel_arm(&wheel, &timer, WHEEL_NEVER);
    assert_false(timer.armed);
    assert_int_equal(take_all(START + 10000 * TICK), 0);
}

static void test_time_does_not_go_back(void **state)
{
    (void)state;
    struct wheel_timer timer = {0};
    assert_null(wheel_take_due(&wheel, START + 10 * TICK));
    assert_null(wheel_take_due(&wheel, START));
    assert_int_equal(wheel.tick, (START + 10 * TICK) / TICK);
    wheel_arm(&wheel, &timer, START + 5 * TICK);
    assert_ptr_equal(wheel_take_due(&wheel, START), &timer);
}

static void test_same_tick_in_order_of_arming(void **state)
{
    (void)state;
    struct wheel_timer timers[4] = {0};
    uint64_t deadline_ns = START + 5000 * TICK;
    wheel_arm(&wheel, &timers[0], deadline_ns);
    assert_null(wheel_take_due(&wheel, START + 4990 * TICK)); /* moves it down */
    wheel_arm(&wheel, &timers[1], deadline_ns);
    assert_null(wheel_take_due(&wheel, deadline_ns));
    wheel_arm(&wheel, &timers[2], deadline_ns);
    wheel_arm(&wheel, &timers[3], deadline_ns);
    for (size_t i = 0; i < 4; i++) {
        assert_ptr_equal(wheel_take_due(&wheel, deadline_ns + TICK), &timers[i]);
    }
}

static void test_every_level(void **state)
{
    (void)state;
    struct wheel_timer timers[64] = {0};
    for (unsigned bit = 0; bit < 63; bit++) {
        uint64_t deadline_ns = UINT64_C(1) << bit;
        wheel_init(&wheel, 5);
        for (size_t i = 0; i < 64; i++) {
            timers[i].armed = false;
        }
        wheel_arm(&wheel, &timers[0], deadline_ns);
        assert_true(wheel_check(&wheel));
        assert_int_equal(take_all(deadline_ns), 0);
        assert_int_equal(take_all(deadline_ns + TICK), 1);
    }
    wheel_init(&wheel, 5);
    wheel_arm(&wheel, &timers[0], UINT64_MAX - 1); /* its tick never passes wholly */
    assert_true(wheel_check(&wheel));
    assert_null(wheel_take_due(&wheel, UINT64_MAX - TICK));
    assert_null(wheel_take_due(&wheel, UINT64_MAX));
    assert_int_equal(wheel_next_ns(&wheel), WHEEL_NEVER);
    wheel_disarm(&wheel, &timers[0]);
    assert_true(wheel_check(&wheel));
}

/* A program that sleeps until wheel_next_ns() wakes in time, and not too often. */
static void test_next_leads_to_every_deadline(void **state)
{
    (void)state;
    struct wheel_timer timer = {0};
    for (uint64_t ticks = 0; ticks < 300000; ticks = ticks * 3 + 1) {
        uint64_t now_ns = START + 17;
        uint64_t deadline_ns = now_ns + ticks * TICK;
        wheel_init(&wheel, now_ns);
        wheel_arm(&wheel, &timer, deadline_ns);
        int wakes = 0;
        while (!wheel_take_due(&wheel, now_ns)) {
            uint64_t next_ns = wheel_next_ns(&wheel);
            assert_true(next_ns > now_ns);
            assert_true(next_ns <= deadline_ns + TICK);
            now_ns = next_ns;
            wakes++;
        }
        assert_true(now_ns >= deadline_ns && now_ns <= deadline_ns + TICK);
        assert_true(wakes <= 4);
    }
}

#define COUNT 300
static uint64_t random_state = 1;

static uint64_t next_random(uint64_t bound)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (random_state >> 20) % bound;
}

/* Random arming, disarming and waiting, against the deadlines themselves. */
static void test_against_a_list(void **state)
{
    (void)state;
    static struct wheel_timer timers[COUNT];
    static uint64_t deadlines[COUNT];
    uint64_t now_ns = START;
    for (int step = 0; step < 20000; step++) {
        size_t i = next_random(COUNT);
        uint64_t choice = next_random(8);
        if (choice < 4) {
            deadlines[i] = now_ns + next_random(TICK << next_random(22));
            wheel_arm(&wheel, &timers[i], deadlines[i]);
        } else if (choice == 4) {
            wheel_disarm(&wheel, &timers[i]);
        } else {
            now_ns += next_random(TICK << next_random(18));
            uint64_t last_tick = 0;
            struct wheel_timer *timer;
            while ((timer = wheel_take_due(&wheel, now_ns))) {
                assert_true(deadlines[timer - timers] / TICK < now_ns / TICK);
                assert_true(timer->due_tick >= last_tick);
                last_tick = timer->due_tick;
            }
            uint64_t next_ns = wheel_next_ns(&wheel);
            for (i = 0; i < COUNT; i++) {
                assert_true(!timers[i].armed || deadlines[i] / TICK >= now_ns / TICK);
                assert_true(!timers[i].armed || next_ns <= (deadlines[i] / TICK + 1) * TICK);
            }
        }
        if (step % 8 == 0) {
            assert_true(wheel_check(&wheel));
        }
    }
}

static void test_check_finds_damage(void **state)
{
    (void)state;
    struct wheel_timer timer = {0};
    wheel_arm(&wheel, &timer, START + 100 * TICK);
    assert_true(wheel_check(&wheel));
    wheel.count++;
    assert_false(wheel_check(&wheel));
    wheel.count--;
    timer.due_tick += 64;
    assert_false(wheel_check(&wheel));
    timer.due_tick -= 64;
    wheel.occupied[3] ^= 1;
    assert_false(wheel_check(&wheel));
    wheel.occupied[3] ^= 1;
    assert_true(wheel_check(&wheel));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_empty_has_nothing, setup),
        cmocka_unit_test_setup(test_due_once_its_tick_has_passed, setup),
        cmocka_unit_test_setup(test_past_deadline_is_due_at_once, setup),
        cmocka_unit_test_setup(test_disarm_takes_out, setup),
        cmocka_unit_test_setup(test_arm_again_moves, setup),
        cmocka_unit_test_setup(test_time_does_not_go_back, setup),
        cmocka_unit_test_setup(test_same_tick_in_order_of_arming, setup),
        cmocka_unit_test_setup(test_every_level, setup),
        cmocka_unit_test_setup(test_next_leads_to_every_deadline, setup),
        cmocka_unit_test_setup(test_against_a_list, setup),
        cmocka_unit_test_setup(test_check_finds_damage, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

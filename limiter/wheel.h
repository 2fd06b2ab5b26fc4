/*
 * A hierarchical timing wheel: many deadlines, of which most are cancelled before they come.
 *
 * Adding and removing a timer is O(1). Time is an argument: the wheel reads no clock. It counts in
 * ticks of WHEEL_TICK_NS; a timer is due once the tick that holds its deadline has wholly passed,
 * so it is never early and at most one tick late.
 *
 * The timers are embedded in the caller's structures and linked into the wheel; the wheel owns no
 * memory of theirs. It never calls out: the caller takes due timers with wheel_take_due().
 * The idea is that of G. Varghese and T. Lauck, "Hashed and Hierarchical Timing Wheels" (1987).
 */
#ifndef WEIR_LIMITER_WHEEL_H
#define WEIR_LIMITER_WHEEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#define WHEEL_TICK_SHIFT 20 /* 2^20 ns, about a millisecond */
#define WHEEL_TICK_NS    (UINT64_C(1) << WHEEL_TICK_SHIFT)
#define WHEEL_NEVER      UINT64_MAX
#define WHEEL_LEVELS     8 /* 64^8 ticks: every uint64_t of nanoseconds has its slot */
#define WHEEL_SLOTS      64

/* Embedded by the caller; all zero is a timer that is not in any wheel. */
struct wheel_timer {
    TAILQ_ENTRY(wheel_timer) link;
    uint64_t due_tick;
    uint16_t slot; /* level * WHEEL_SLOTS + index, or the due list; the wheel's business */
    bool armed;
};

TAILQ_HEAD(wheel_list, wheel_timer);

struct wheel {
    uint64_t tick;                   /* all before it has passed */
    uint64_t occupied[WHEEL_LEVELS]; /* one bit for each slot that holds a timer */
    struct wheel_list slots[WHEEL_LEVELS][WHEEL_SLOTS];
    struct wheel_list due;
    size_t count;
};

/* Makes WHEEL an empty wheel that stands at NOW_NS. */
void wheel_init(struct wheel *wheel, uint64_t now_ns);

/* Arms TIMER for DEADLINE_NS, moving it where it was armed already. WHEEL_NEVER disarms. */
void wheel_arm(struct wheel *wheel, struct wheel_timer *timer, uint64_t deadline_ns);

/* Takes TIMER out of WHEEL. Does nothing where it is not armed. */
void wheel_disarm(struct wheel *wheel, struct wheel_timer *timer);

/*
 * Takes one timer that is due at NOW_NS out of the wheel and returns it, or NULL where none is.
 * Timers come in the order of their ticks. An older NOW_NS counts as the last: time
 * never goes back.
 */
struct wheel_timer *wheel_take_due(struct wheel *wheel, uint64_t now_ns);

/*
 * The time at which to look again: not later than the moment at which the next timer is due, at
 * times earlier (a far deadline is known only coarsely). WHEEL_NEVER where the wheel is empty.
 */
uint64_t wheel_next_ns(const struct wheel *wheel);

/* Recomputes every invariant; for tests. */
bool wheel_check(const struct wheel *wheel);

#endif

/*
 * A hierarchical timing wheel.
 *
 * A level has 64 slots; a slot of level 0 is one tick wide, one of level 1 is 64 ticks, and so on.
 * A timer lies at the level of the highest group of six bits in which its tick differs from the
 * wheel's, in the slot that this group names. From that follow the invariants all else rests on:
 *
 *   - the slots of a level that hold timers come after the wheel's own place in that level (at
 *     level 0 they may be its place), so nothing ever wraps around;
 *   - every timer of a lower level comes before every timer of a higher one, so the next slot is
 *     the first occupied one of the lowest occupied level: a look at one bit set a level;
 *   - timers of the same tick are always in the same slot, in the order of their arming.
 *
 * When the wheel enters a slot above level 0, its timers move down to where they now belong: a
 * timer moves at most once a level in its life. When it reaches a slot of level 0, its timers move
 * to the due list. Empty stretches are jumped over, however long.
 */
#include "limiter/wheel.h"

#include <assert.h>

#define SLOT_BITS 6
#define SLOT_DUE  (WHEEL_LEVELS * WHEEL_SLOTS)

static uint64_t tick_of(uint64_t time_ns)
{
    return time_ns >> WHEEL_TICK_SHIFT;
}

/* Where a timer of DUE_TICK belongs while the wheel stands at TICK. */
static uint16_t slot_of(uint64_t tick, uint64_t due_tick)
{
    uint64_t differing = tick ^ due_tick;
    unsigned level = 0;
    if (differing != 0) {
        level = (63U - (unsigned)__builtin_clzll(differing)) / SLOT_BITS;
    }
    unsigned index = (due_tick >> (level * SLOT_BITS)) % WHEEL_SLOTS;
    return (uint16_t)(level * WHEEL_SLOTS + index);
}

static struct wheel_list *list_of(struct wheel *wheel, uint16_t slot)
{
    if (slot == SLOT_DUE) {
        return &wheel->due;
    }
    return &wheel->slots[slot / WHEEL_SLOTS][slot % WHEEL_SLOTS];
}

/* Links a timer that is in no list where its tick belongs. */
static void link_timer(struct wheel *wheel, struct wheel_timer *timer, uint16_t slot)
{
    timer->slot = slot;
    TAILQ_INSERT_TAIL(list_of(wheel, slot), timer, link);
    if (slot != SLOT_DUE) {
        wheel->occupied[slot / WHEEL_SLOTS] |= UINT64_C(1) << slot % WHEEL_SLOTS;
    }
}

static void unlink_timer(struct wheel *wheel, struct wheel_timer *timer)
{
    uint16_t slot = timer->slot;
    TAILQ_REMOVE(list_of(wheel, slot), timer, link);
    if (slot != SLOT_DUE && TAILQ_EMPTY(list_of(wheel, slot))) {
        wheel->occupied[slot / WHEEL_SLOTS] &= ~(UINT64_C(1) << slot % WHEEL_SLOTS);
    }
}

void wheel_init(struct wheel *wheel, uint64_t now_ns)
{
    assert(wheel);
    wheel->tick = tick_of(now_ns);
    wheel->count = 0;
    TAILQ_INIT(&wheel->due);
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        wheel->occupied[level] = 0;
        for (unsigned index = 0; index < WHEEL_SLOTS; index++) {
            TAILQ_INIT(&wheel->slots[level][index]);
        }
    }
}

void wheel_arm(struct wheel *wheel, struct wheel_timer *timer, uint64_t deadline_ns)
{
    assert(wheel && timer);
    wheel_disarm(wheel, timer);
    if (deadline_ns == WHEEL_NEVER) {
        return;
    }
    uint64_t due_tick = tick_of(deadline_ns);
    uint16_t slot;
    if (due_tick < wheel->tick) {
        /* Due already. It counts as of now, so that the due list stays in the order of ticks. */
        due_tick = wheel->tick;
        slot = SLOT_DUE;
    } else {
        slot = slot_of(wheel->tick, due_tick);
    }
    timer->due_tick = due_tick;
    timer->armed = true;
    wheel->count++;
    link_timer(wheel, timer, slot);
}

void wheel_disarm(struct wheel *wheel, struct wheel_timer *timer)
{
    assert(wheel && timer);
    if (!timer->armed) {
        return;
    }
    assert(wheel->count > 0);
    unlink_timer(wheel, timer);
    timer->armed = false;
    wheel->count--;
}

/* Finds the next slot that holds timers, and the first tick of it; false where all are empty. */
static bool next_slot(const struct wheel *wheel, uint16_t *ret_slot, uint64_t *ret_tick)
{
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        if (wheel->occupied[level] != 0) {
            unsigned index = (unsigned)__builtin_ctzll(wheel->occupied[level]);
            unsigned shift = level * SLOT_BITS;
            uint64_t above = wheel->tick >> shift >> SLOT_BITS << SLOT_BITS;
            *ret_slot = (uint16_t)(level * WHEEL_SLOTS + index);
            *ret_tick = (above | index) << shift;
            return true;
        }
    }
    return false;
}

/* Moves the timers of SLOT, which the wheel has just come to, to the due list or a level down. */
static void empty_slot(struct wheel *wheel, uint16_t slot)
{
    struct wheel_list *list = list_of(wheel, slot);
    struct wheel_timer *timer;
    while ((timer = TAILQ_FIRST(list))) {
        unlink_timer(wheel, timer);
        link_timer(wheel, timer,
                   slot < WHEEL_SLOTS ? SLOT_DUE : slot_of(wheel->tick, timer->due_tick));
    }
}

struct wheel_timer *wheel_take_due(struct wheel *wheel, uint64_t now_ns)
{
    assert(wheel);
    uint64_t now_tick = tick_of(now_ns);
    uint16_t slot;
    uint64_t first_tick;
    while (TAILQ_EMPTY(&wheel->due)) {
        if (!next_slot(wheel, &slot, &first_tick) || first_tick > now_tick ||
            (first_tick == now_tick && slot < WHEEL_SLOTS)) {
            if (wheel->tick < now_tick) {
                wheel->tick = now_tick;
            }
            return NULL;
        }
        wheel->tick = first_tick;
        empty_slot(wheel, slot);
    }
    struct wheel_timer *timer = TAILQ_FIRST(&wheel->due);
    wheel_disarm(wheel, timer);
    return timer;
}

uint64_t wheel_next_ns(const struct wheel *wheel)
{
    assert(wheel);
    uint16_t slot;
    uint64_t first_tick = wheel->tick;
    if (!TAILQ_EMPTY(&wheel->due)) {
        return first_tick << WHEEL_TICK_SHIFT;
    }
    if (!next_slot(wheel, &slot, &first_tick) || first_tick == tick_of(UINT64_MAX)) {
        return WHEEL_NEVER;
    }
    return (first_tick + 1) << WHEEL_TICK_SHIFT; /* none of its timers is due before */
}

static bool check_list(const struct wheel *wheel, const struct wheel_list *list, uint16_t slot,
                       size_t *count)
{
    const struct wheel_timer *timer;
    uint64_t previous_tick = 0;
    TAILQ_FOREACH (timer, list, link) {
        if (!timer->armed || timer->slot != slot) {
            return false;
        }
        if (slot == SLOT_DUE) {
            if (timer->due_tick > wheel->tick || timer->due_tick < previous_tick) {
                return false;
            }
            previous_tick = timer->due_tick;
        } else if (timer->due_tick < wheel->tick || slot_of(wheel->tick, timer->due_tick) != slot) {
            return false;
        }
        ++*count;
    }
    return true;
}

bool wheel_check(const struct wheel *wheel)
{
    size_t count = 0;
    for (uint16_t slot = 0; slot < SLOT_DUE; slot++) {
        const struct wheel_list *list = &wheel->slots[slot / WHEEL_SLOTS][slot % WHEEL_SLOTS];
        bool occupied = wheel->occupied[slot / WHEEL_SLOTS] >> slot % WHEEL_SLOTS & 1;
        if (occupied == TAILQ_EMPTY(list) || !check_list(wheel, list, slot, &count)) {
            return false;
        }
    }
    return check_list(wheel, &wheel->due, SLOT_DUE, &count) && count == wheel->count;
}

/*
 * A model of the limiter that is too simple to be wrong: a few arrays, searched from end to end
 * for every question. It keeps no count that it can make anew.
 */
#ifndef WEIR_TESTS_MODEL_REFERENCE_H
#define WEIR_TESTS_MODEL_REFERENCE_H

#include "limiter/limiter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TICKETS 48
#define BUDGETS 24 /* more than there can be keys */

struct model_rules {
    struct rule rules[8]; /* the first is the default */
    size_t count;
};

struct model_budget {
    bool known;
    char key[16];
    bool attached;
    uint64_t idle_since; /* the operation that left it idle */
    uint64_t slot_time_ns;
    uint32_t peak_active;
    uint32_t peak_queued;
    uint64_t admitted;
    uint64_t completed;
    uint64_t queued;
    uint64_t waited_ns;
    uint64_t served_ns;
    uint64_t rejected[LIMITER_REJECTIONS];
};

struct model_ticket {
    enum limiter_state state;
    int budget;
    uint64_t sequence;
    uint64_t arrived_ns;
    uint64_t started_ns;
    uint64_t deadline_ns;
};

static struct model_rules current;
static struct model_rules previous;
static struct limiter_bounds bounds;
static struct model_budget budgets[BUDGETS];
static struct model_ticket placed[TICKETS];
static struct model_budget all; /* the totals */
static uint64_t hosts_full;
static uint64_t evicted;
static uint64_t sequence;
static uint64_t operation;
static uint64_t now_ns;

/* Whether RULE holds for NAME, by reading both. */
static bool rule_holds(const char *rule, const char *name)
{
    const char *port = strchr(rule, ':');
    const char *name_port = strchr(name, ':');
    size_t length = port ? (size_t)(port - rule) : strlen(rule);
    size_t name_length = name_port ? (size_t)(name_port - name) : strlen(name);
    if (port && (!name_port || strcmp(port, name_port) != 0)) {
        return false;
    }
    if (rule[0] != '*') {
        return length == name_length && memcmp(rule, name, length) == 0;
    }
    return name_length >= length &&
           memcmp(rule + 1, name + name_length - length + 1, length - 1) == 0;
}

/* How narrowly RULE names its hosts: exact or not, then its length, then its port. */
static size_t rule_rank(const char *rule)
{
    const char *port = strchr(rule, ':');
    size_t length = port ? (size_t)(port - rule) : strlen(rule);
    return (rule[0] == '*' ? 0 : 10000) + 10 * length + (port ? 1 : 0);
}

static const struct rule *match(const struct model_rules *rules, const char *name)
{
    const struct rule *best = &rules->rules[0];
    size_t best_rank = 0;
    for (size_t i = 1; i < rules->count; i++) {
        const char *rule = rules->rules[i].name;
        if (rule_holds(rule, name) && rule_rank(rule) > best_rank) {
            best = &rules->rules[i];
            best_rank = rule_rank(rule);
        }
    }
    return best;
}

static int find_key(const char *key)
{
    for (int i = 0; i < BUDGETS; i++) {
        if (budgets[i].known && strcmp(budgets[i].key, key) == 0) {
            return i;
        }
    }
    return -1;
}

static uint32_t count_tickets(int budget, enum limiter_state state)
{
    uint32_t count = 0;
    for (int i = 0; i < TICKETS; i++) {
        count += placed[i].state == state && (budget < 0 || placed[i].budget == budget) ? 1 : 0;
    }
    return count;
}

static bool has_tickets(int budget)
{
    return count_tickets(budget, LIMITER_ACTIVE) + count_tickets(budget, LIMITER_WAITING) +
               count_tickets(budget, LIMITER_EXPIRED) >
           0;
}

static const struct rule *rule_of(int budget)
{
    return match(&current, budgets[budget].key);
}

/* Whether the rules in force would not make this budget. */
static bool is_stale(int budget)
{
    const struct rule *rule = rule_of(budget);
    if (budgets[budget].key[0] == '*') {
        return !(rule->shared && strcmp(rule->name, budgets[budget].key) == 0);
    }
    return rule->shared && strcmp(rule->name, budgets[budget].key) != 0;
}

/* The budget that NAME draws on, or -1; and the key that it has or would have. */
static int find_budget(const char *name, const char **ret_key)
{
    *ret_key = name;
    int budget = find_key(name);
    if (budget >= 0 && (!is_stale(budget) || has_tickets(budget))) {
        return budget;
    }
    const struct rule *rule = match(&previous, name);
    budget = rule->shared ? find_key(rule->name) : -1;
    if (budget >= 0 && is_stale(budget) && has_tickets(budget)) {
        return budget;
    }
    rule = match(&current, name);
    *ret_key = rule->shared ? rule->name : name;
    return find_key(*ret_key);
}

static uint32_t count_known(void)
{
    uint32_t count = 0;
    for (int i = 0; i < BUDGETS; i++) {
        count += budgets[i].known ? 1 : 0;
    }
    return count;
}

static bool is_idle(int budget)
{
    return budgets[budget].known && !budgets[budget].attached && !has_tickets(budget);
}

/* Evicts until at most MOST are left; false where too many are in use. */
static bool evict_to(uint32_t most)
{
    while (count_known() > most) {
        int oldest = -1;
        for (int i = 0; i < BUDGETS; i++) {
            if (is_idle(i) && (oldest < 0 || budgets[i].idle_since < budgets[oldest].idle_since)) {
                oldest = i;
            }
        }
        if (oldest < 0) {
            return false;
        }
        budgets[oldest].known = false;
        evicted++;
    }
    return true;
}

static int make_budget(const char *key)
{
    for (int i = 0; i < BUDGETS; i++) {
        if (!budgets[i].known) {
            budgets[i] = (struct model_budget){.known = true, .idle_since = operation};
            snprintf(budgets[i].key, sizeof budgets[i].key, "%s", key);
            return i;
        }
    }
    abort(); /* there are more than keys */
}

static uint32_t startable(void)
{
    uint32_t count = 0;
    for (int i = 0; i < BUDGETS; i++) {
        if (budgets[i].known) {
            uint32_t active = count_tickets(i, LIMITER_ACTIVE);
            uint32_t waiting = count_tickets(i, LIMITER_WAITING);
            uint32_t limit = rule_of(i)->limit;
            uint32_t slots = active < limit ? limit - active : 0;
            count += waiting < slots ? waiting : slots;
        }
    }
    return count;
}

static void raise_to(uint32_t *peak, uint32_t value)
{
    *peak = value > *peak ? value : *peak;
}

static void model_start(struct model_ticket *ticket)
{
    struct model_budget *budget = &budgets[ticket->budget];
    ticket->state = LIMITER_ACTIVE;
    ticket->started_ns = now_ns;
    budget->admitted++;
    budget->waited_ns += now_ns - ticket->arrived_ns;
    all.admitted++;
    all.waited_ns += now_ns - ticket->arrived_ns;
    raise_to(&budget->peak_active, count_tickets(ticket->budget, LIMITER_ACTIVE));
    raise_to(&all.peak_active, count_tickets(-1, LIMITER_ACTIVE));
}

static void model_reject(int budget, enum limiter_rejection why)
{
    if (budget >= 0) {
        budgets[budget].rejected[why]++;
    }
    all.rejected[why]++;
}

static enum limiter_verdict model_acquire(const char *name, uint64_t max_wait_ns,
                                          struct model_ticket *ticket)
{
    const char *key;
    int budget = find_budget(name, &key);
    if (budget < 0) {
        if (!evict_to(bounds.hosts_max - 1)) {
            hosts_full++;
            return LIMITER_HOSTS_FULL;
        }
        budget = make_budget(key);
    }
    const struct rule *rule = rule_of(budget);
    uint32_t waiting = count_tickets(budget, LIMITER_WAITING);
    bool starts = waiting == 0 && count_tickets(budget, LIMITER_ACTIVE) < rule->limit &&
                  count_tickets(-1, LIMITER_ACTIVE) + startable() < bounds.limit;
    uint64_t wait_ns = max_wait_ns < rule->queue_timeout_ns ? max_wait_ns : rule->queue_timeout_ns;
    if (!starts && wait_ns == 0) {
        model_reject(budget, LIMITER_REJECTED_QUEUE_TIMEOUT);
        return LIMITER_QUEUE_TIMEOUT;
    }
    if (!starts && waiting >= rule->queue) {
        model_reject(budget, LIMITER_REJECTED_QUEUE_FULL);
        return LIMITER_QUEUE_FULL;
    }
    if (!starts && count_tickets(-1, LIMITER_WAITING) >= bounds.queue) {
        model_reject(budget, LIMITER_REJECTED_QUEUE_FULL);
        return LIMITER_TOTAL_QUEUE_FULL;
    }
    *ticket = (struct model_ticket){.state = LIMITER_WAITING,
                                    .budget = budget,
                                    .sequence = ++sequence,
                                    .arrived_ns = now_ns,
                                    .deadline_ns = LIMITER_NEVER};
    if (starts) {
        model_start(ticket);
        return LIMITER_ADMITTED;
    }
    if (wait_ns < LIMITER_NEVER - now_ns) {
        ticket->deadline_ns = now_ns + wait_ns;
    }
    budgets[budget].queued++;
    all.queued++;
    raise_to(&budgets[budget].peak_queued, count_tickets(budget, LIMITER_WAITING));
    raise_to(&all.peak_queued, count_tickets(-1, LIMITER_WAITING));
    return LIMITER_QUEUED;
}

static void model_release(struct model_ticket *ticket)
{
    struct model_budget *budget = &budgets[ticket->budget];
    if (ticket->state == LIMITER_IDLE) {
        return;
    }
    if (ticket->state == LIMITER_ACTIVE) {
        uint64_t served_ns = now_ns - ticket->started_ns;
        budget->completed++;
        budget->served_ns += served_ns;
        all.completed++;
        all.served_ns += served_ns;
        budget->slot_time_ns =
            budget->slot_time_ns == 0
                ? served_ns
                : budget->slot_time_ns - budget->slot_time_ns / 8 + served_ns / 8;
    } else if (ticket->state == LIMITER_WAITING) {
        model_reject(ticket->budget, LIMITER_REJECTED_CLIENT_GONE);
    }
    ticket->state = LIMITER_IDLE;
    budget->idle_since = operation;
}

/* The ticket that is expired first, or the oldest that may start; -1 where there is none. */
static int model_poll(void)
{
    int first = -1;
    for (int i = 0; i < TICKETS; i++) {
        uint64_t tick = placed[i].deadline_ns / WHEEL_TICK_NS;
        if (placed[i].state != LIMITER_WAITING || tick >= now_ns / WHEEL_TICK_NS) {
            continue;
        }
        uint64_t first_tick = first < 0 ? 0 : placed[first].deadline_ns / WHEEL_TICK_NS;
        if (first < 0 || tick < first_tick ||
            (tick == first_tick && placed[i].sequence < placed[first].sequence)) {
            first = i;
        }
    }
    if (first >= 0) {
        placed[first].state = LIMITER_EXPIRED;
        model_reject(placed[first].budget, LIMITER_REJECTED_QUEUE_TIMEOUT);
        return first;
    }
    if (count_tickets(-1, LIMITER_ACTIVE) >= bounds.limit) {
        return -1;
    }
    for (int i = 0; i < TICKETS; i++) {
        if (placed[i].state == LIMITER_WAITING &&
            count_tickets(placed[i].budget, LIMITER_ACTIVE) < rule_of(placed[i].budget)->limit &&
            (first < 0 || placed[i].sequence < placed[first].sequence)) {
            first = i;
        }
    }
    if (first >= 0) {
        model_start(&placed[first]);
    }
    return first;
}

#endif

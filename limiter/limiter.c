/*
 * The limiter: tickets, budgets, and the one function that moves a ticket.
 *
 * A ticket's state says where it is, and ticket_move() is the only code that changes it:
 *
 *   IDLE       nowhere; it has no host
 *   WAITING    in its host's queue, and in the wheel unless it may wait for ever
 *   ACTIVE     counted in host->active: a slot is an amount, not a thing, so there is no list
 *   EXPIRED    nowhere, but it still holds on to its host until it is released
 *
 * A host's `startable` is how many of its waiters its own free slots would take. Hosts where that
 * is not 0 are ready (ready.h). limiter_poll() starts their waiters, oldest first, until none is
 * left or the total limit stops it; so while that limit does not bind, few hosts are ever ready:
 * those that got a slot back since the last poll. A newcomer starts at once only where none of its
 * own host waits and the total leaves a slot over when all startable waiters have got theirs; so
 * it never takes what a waiter could have.
 *
 * What can fail is done before anything is counted: a host's memory, its place in the table and
 * its room among the ready come with create_host(), and nothing else allocates.
 *
 * Totals are counted along with each host's own counters. They are always in the cache, and in
 * return reading them is cheap, and evicting a host has nothing to save.
 */
#include "limiter/limiter.h"
#include "limiter/hosts.h"
#include "limiter/ready.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define SMOOTHING 8 /* the weight of a new service time is one in this many */

struct limiter {
    struct rules *rules;
    struct rules *previous_rules; /* those before, as long as a stale host may need them */
    struct limiter_bounds bounds;
    struct hosts hosts;
    struct ready ready;
    uint64_t sequence; /* of the last ticket that got a place */
    uint32_t active;
    uint32_t queued;
    uint32_t peak_active;
    uint32_t peak_queued;
    uint64_t hosts_full_total;
    struct limiter_counters counters;
    struct wheel wheel;
};

/* --- hosts and budgets --- */

/* Gives HOST what RULE says. A host is stale where its key is no longer that of a budget. */
static void apply_rule(struct limiter_host *host, const struct rule *rule)
{
    bool pattern = host->key[0] == '*';
    host->rule = rule;
    host->limit = rule->limit;
    host->queue_limit = rule->queue;
    host->queue_timeout_ns = rule->queue_timeout_ns;
    host->stale = rule->shared ? strcmp(rule->name, host->key) != 0 : pattern;
}

/* What a name of a host stands for. */
struct budget {
    const char *key;
    const struct rule *rule;
    struct limiter_host *host; /* NULL: not in the table */
};

static struct budget find_budget(const struct limiter *limiter, const char *name)
{
    struct limiter_host *host = hosts_find(&limiter->hosts, name);
    if (host && (!host->stale || host->tickets > 0)) {
        return (struct budget){.key = name, .rule = host->rule, .host = host};
    }
    if (limiter->previous_rules) {
        const struct rule *rule = rules_match(limiter->previous_rules, name);
        host = rule->shared ? hosts_find(&limiter->hosts, rule->name) : NULL;
        if (host && host->stale && host->tickets > 0) {
            return (struct budget){.key = host->key, .rule = host->rule, .host = host};
        }
    }
    const struct rule *rule = rules_match(limiter->rules, name);
    const char *key = rule->shared ? rule->name : name;
    return (struct budget){.key = key, .rule = rule, .host = hosts_find(&limiter->hosts, key)};
}

/* Makes the host of BUDGET, evicting another where needed; NULL where it cannot: *ret_why. */
static struct limiter_host *create_host(struct limiter *limiter, const struct budget *budget,
                                        enum limiter_verdict *ret_why)
{
    if (!hosts_make_room(&limiter->hosts, 1)) {
        limiter->hosts_full_total++;
        *ret_why = LIMITER_HOSTS_FULL;
        return NULL;
    }
    struct limiter_host *host = NULL;
    if (ready_reserve(&limiter->ready, limiter->hosts.count + 1)) {
        host = hosts_add(&limiter->hosts, budget->key);
    }
    if (!host) {
        *ret_why = LIMITER_NO_MEMORY;
        return NULL;
    }
    apply_rule(host, budget->rule);
    return host;
}

/* --- tickets --- */

static void raise_to(uint32_t *peak, uint32_t value)
{
    *peak = *peak < value ? value : *peak;
}

static uint64_t since(uint64_t then_ns, uint64_t now_ns)
{
    return now_ns > then_ns ? now_ns - then_ns : 0;
}

/* Counts one move in COUNTERS; SPENT_NS is how long the ticket waited or ran until now. */
static void count_move(struct limiter_counters *counters, enum limiter_state from,
                       enum limiter_state to, uint64_t spent_ns)
{
    if (to == LIMITER_ACTIVE) {
        counters->admitted_total++;
        histogram_record(&counters->wait, spent_ns);
    } else if (to == LIMITER_WAITING) {
        counters->queued_total++;
    } else if (to == LIMITER_EXPIRED) {
        counters->rejected_total[LIMITER_REJECTED_QUEUE_TIMEOUT]++;
    } else if (from == LIMITER_ACTIVE) {
        counters->completed_total++;
        histogram_record(&counters->service, spent_ns);
    } else if (from == LIMITER_WAITING) {
        counters->rejected_total[LIMITER_REJECTED_CLIENT_GONE]++;
    }
}

/* Brings HOST's counters up to date. */
static void count_notes(struct limiter_host *host)
{
    struct limiter_counters *counters = host->counters;
    for (uint32_t i = 0; i < host->notes; i++) {
        struct hosts_note note = host->note[i];
        if (note.ran) {
            count_move(counters, LIMITER_ACTIVE, LIMITER_IDLE, note.spent_ns);
        } else {
            count_move(counters, LIMITER_WAITING, LIMITER_ACTIVE, note.spent_ns);
        }
    }
    counters->admitted_total += host->at_once;
    histogram_record_many(&counters->wait, 0, host->at_once);
    counters->queued_total += host->joined;
    host->at_once = host->joined = host->notes = 0;
}

/*
 * Counts for HOST. A host's counters are large and, where there are many hosts, seldom in a cache;
 * so what every request does is noted beside the host's other data, and counted a few at a time.
 */
static void note_move(struct limiter_host *host, enum limiter_state from, enum limiter_state to,
                      uint64_t spent_ns)
{
    if (from == LIMITER_IDLE && to == LIMITER_ACTIVE) {
        host->at_once++;
    } else if (to == LIMITER_WAITING) {
        host->joined++;
    } else if (from == LIMITER_ACTIVE || to == LIMITER_ACTIVE) {
        host->note[host->notes].ran = from == LIMITER_ACTIVE;
        host->note[host->notes++].spent_ns = spent_ns & INT64_MAX;
        if (host->notes == HOSTS_NOTES) {
            count_notes(host);
        }
    } else {
        count_move(host->counters, from, to, spent_ns);
    }
}

static void count_rejection(struct limiter *limiter, struct limiter_host *host,
                            enum limiter_rejection why)
{
    if (host) {
        host->counters->rejected_total[why]++;
    }
    limiter->counters.rejected_total[why]++;
}

static void ticket_leave_state(struct limiter *limiter, struct limiter_ticket *ticket)
{
    struct limiter_host *host = ticket->host;
    switch (ticket->state) {
    case LIMITER_IDLE:
        host->tickets++;
        if (host->tickets == 1) {
            hosts_place(&limiter->hosts, host);
        }
        break;
    case LIMITER_WAITING:
        TAILQ_REMOVE(&host->queue, ticket, link);
        wheel_disarm(&limiter->wheel, &ticket->deadline);
        host->queued--;
        limiter->queued--;
        break;
    case LIMITER_ACTIVE:
        host->active--;
        limiter->active--;
        break;
    case LIMITER_EXPIRED:
        break;
    }
}

static void ticket_enter_state(struct limiter *limiter, struct limiter_ticket *ticket,
                               enum limiter_state state, uint64_t now_ns)
{
    struct limiter_host *host = ticket->host;
    ticket->state = state;
    switch (state) {
    case LIMITER_IDLE:
        ticket->host = NULL;
        host->tickets--;
        if (host->tickets == 0) {
            hosts_place(&limiter->hosts, host);
        }
        break;
    case LIMITER_WAITING:
        TAILQ_INSERT_TAIL(&host->queue, ticket, link);
        raise_to(&host->peak_queued, ++host->queued);
        raise_to(&limiter->peak_queued, ++limiter->queued);
        break;
    case LIMITER_ACTIVE:
        assert(host->active < host->limit && limiter->active < limiter->bounds.limit);
        ticket->started_ns = now_ns;
        raise_to(&host->peak_active, ++host->active);
        raise_to(&limiter->peak_active, ++limiter->active);
        break;
    case LIMITER_EXPIRED:
        break;
    }
}

/* The only way in which a ticket changes its state. */
static void ticket_move(struct limiter *limiter, struct limiter_ticket *ticket,
                        enum limiter_state to, uint64_t now_ns)
{
    struct limiter_host *host = ticket->host;
    enum limiter_state from = ticket->state;
    uint64_t spent_ns =
        since(from == LIMITER_ACTIVE ? ticket->started_ns : ticket->arrived_ns, now_ns);
    assert(host && from != to);
    ticket_leave_state(limiter, ticket);
    ticket_enter_state(limiter, ticket, to, now_ns);
    note_move(host, from, to, spent_ns);
    count_move(&limiter->counters, from, to, spent_ns);
    ready_update(&limiter->ready, host);
}

/* --- what the caller sees --- */

struct limiter *limiter_create(struct rules *rules, const struct limiter_bounds *bounds,
                               uint64_t now_ns)
{
    assert(rules && bounds && bounds->limit > 0 && bounds->hosts_max > 0);
    struct limiter *limiter = calloc(1, sizeof *limiter);
    if (!limiter) {
        return NULL;
    }
    limiter->rules = rules;
    limiter->bounds = *bounds;
    hosts_init(&limiter->hosts, bounds->hosts_max, (uintptr_t)limiter ^ now_ns << 24);
    wheel_init(&limiter->wheel, now_ns);
    return limiter;
}

void limiter_destroy(struct limiter *limiter)
{
    if (!limiter) {
        return;
    }
    hosts_finish(&limiter->hosts);
    ready_finish(&limiter->ready);
    rules_destroy(limiter->rules);
    rules_destroy(limiter->previous_rules);
    free(limiter);
}

/* Whether a newcomer for HOST may start at once without taking a slot that a waiter could have. */
static bool may_start(const struct limiter *limiter, const struct limiter_host *host)
{
    return host->queued == 0 && host->active < host->limit &&
           limiter->active + limiter->ready.startable < limiter->bounds.limit;
}

enum limiter_verdict limiter_acquire(struct limiter *limiter, const char *name,
                                     uint64_t max_wait_ns, struct limiter_ticket *ticket,
                                     uint64_t now_ns)
{
    assert(limiter && name && ticket && ticket->state == LIMITER_IDLE);
    struct budget budget = find_budget(limiter, name);
    struct limiter_host *host = budget.host;
    enum limiter_verdict why;
    if (!host && !(host = create_host(limiter, &budget, &why))) {
        return why;
    }
    ticket->ahead = host->active + host->queued;
    bool starts = may_start(limiter, host);
    uint64_t wait_ns = max_wait_ns < host->queue_timeout_ns ? max_wait_ns : host->queue_timeout_ns;
    if (!starts && wait_ns == 0) {
        count_rejection(limiter, host, LIMITER_REJECTED_QUEUE_TIMEOUT);
        return LIMITER_QUEUE_TIMEOUT;
    }
    if (!starts && host->queued >= host->queue_limit) {
        count_rejection(limiter, host, LIMITER_REJECTED_QUEUE_FULL);
        return LIMITER_QUEUE_FULL;
    }
    if (!starts && limiter->queued >= limiter->bounds.queue) {
        count_rejection(limiter, host, LIMITER_REJECTED_QUEUE_FULL);
        return LIMITER_TOTAL_QUEUE_FULL;
    }
    ticket->host = host;
    ticket->sequence = ++limiter->sequence;
    ticket->arrived_ns = now_ns;
    ticket->started_ns = 0;
    if (starts) {
        ticket_move(limiter, ticket, LIMITER_ACTIVE, now_ns);
        return LIMITER_ADMITTED;
    }
    ticket_move(limiter, ticket, LIMITER_WAITING, now_ns);
    uint64_t room_ns = LIMITER_NEVER - now_ns;
    wheel_arm(&limiter->wheel, &ticket->deadline,
              wait_ns < room_ns ? now_ns + wait_ns : LIMITER_NEVER);
    return LIMITER_QUEUED;
}

void limiter_release(struct limiter *limiter, struct limiter_ticket *ticket, uint64_t now_ns)
{
    assert(limiter && ticket);
    if (ticket->state == LIMITER_IDLE) {
        return;
    }
    if (ticket->state == LIMITER_ACTIVE) {
        struct limiter_host *host = ticket->host;
        uint64_t held_ns = since(ticket->started_ns, now_ns);
        uint64_t old_ns = host->slot_time_ns;
        host->slot_time_ns =
            old_ns == 0 ? held_ns : old_ns - old_ns / SMOOTHING + held_ns / SMOOTHING;
    }
    ticket_move(limiter, ticket, LIMITER_IDLE, now_ns);
}

struct limiter_ticket *limiter_poll(struct limiter *limiter, uint64_t now_ns)
{
    assert(limiter);
    struct limiter_ticket *ticket = NULL;
    struct wheel_timer *timer = wheel_take_due(&limiter->wheel, now_ns);
    if (timer) {
        char *start = (char *)timer - offsetof(struct limiter_ticket, deadline);
        ticket = (struct limiter_ticket *)(void *)start;
        ticket_move(limiter, ticket, LIMITER_EXPIRED, now_ns);
    } else if (ready_first(&limiter->ready) && limiter->active < limiter->bounds.limit) {
        ticket = TAILQ_FIRST(&ready_first(&limiter->ready)->queue);
        ticket_move(limiter, ticket, LIMITER_ACTIVE, now_ns);
    }
    return ticket;
}

uint64_t limiter_next_deadline_ns(const struct limiter *limiter)
{
    assert(limiter);
    return wheel_next_ns(&limiter->wheel);
}

bool limiter_set_rules(struct limiter *limiter, struct rules *rules,
                       const struct limiter_bounds *bounds)
{
    assert(limiter && rules && bounds && bounds->limit > 0 && bounds->hosts_max > 0);
    rules_destroy(limiter->previous_rules);
    limiter->previous_rules = limiter->rules;
    limiter->rules = rules;
    limiter->bounds = *bounds;
    limiter->hosts.max = bounds->hosts_max;
    bool stale_runs = false;
    struct limiter_host *host = NULL;
    while ((host = limiter_next_host(limiter, host))) {
        apply_rule(host, rules_match(rules, host->key));
        ready_update(&limiter->ready, host);
        stale_runs = stale_runs || (host->stale && host->tickets > 0);
    }
    if (!stale_runs) {
        rules_destroy(limiter->previous_rules);
        limiter->previous_rules = NULL;
    }
    hosts_make_room(&limiter->hosts, 0);
    return true;
}

struct limiter_host *limiter_find(const struct limiter *limiter, const char *name)
{
    assert(limiter && name);
    return find_budget(limiter, name).host;
}

struct limiter_host *limiter_next_host(const struct limiter *limiter,
                                       const struct limiter_host *previous)
{
    assert(limiter);
    return hosts_next(&limiter->hosts, previous);
}

static uint64_t oldest_wait_ns(const struct limiter_host *host, uint64_t now_ns)
{
    const struct limiter_ticket *oldest = TAILQ_FIRST(&host->queue);
    return oldest ? since(oldest->arrived_ns, now_ns) : 0;
}

void limiter_describe(const struct limiter_host *host, uint64_t now_ns,
                      struct limiter_view *ret_view)
{
    assert(host && ret_view);
    count_notes((struct limiter_host *)host); /* changes where it is kept, not what is told */
    *ret_view = (struct limiter_view){
        .host = host->key,
        .rule = host->rule->name,
        .limit = host->limit,
        .queue_limit = host->queue_limit,
        .active = host->active,
        .peak_active = host->peak_active,
        .queued = host->queued,
        .peak_queued = host->peak_queued,
        .queue_timeout_ns = host->queue_timeout_ns,
        .oldest_wait_ns = oldest_wait_ns(host, now_ns),
        .counters = host->counters,
    };
}

void limiter_describe_totals(const struct limiter *limiter, uint64_t now_ns,
                             struct limiter_totals *ret_totals)
{
    assert(limiter && ret_totals);
    uint64_t oldest_ns = 0;
    const struct limiter_host *host = NULL;
    while ((host = hosts_next_held(&limiter->hosts, host))) {
        uint64_t wait_ns = oldest_wait_ns(host, now_ns);
        oldest_ns = oldest_ns < wait_ns ? wait_ns : oldest_ns;
    }
    *ret_totals = (struct limiter_totals){
        .limit = limiter->bounds.limit,
        .queue_limit = limiter->bounds.queue,
        .active = limiter->active,
        .queued = limiter->queued,
        .peak_active = limiter->peak_active,
        .peak_queued = limiter->peak_queued,
        .hosts = limiter->hosts.count,
        .hosts_max = limiter->bounds.hosts_max,
        .oldest_wait_ns = oldest_ns,
        .hosts_full_total = limiter->hosts_full_total,
        .evicted_total = limiter->hosts.evicted_total,
        .counters = limiter->counters,
    };
}

bool limiter_host_is_stale(const struct limiter_host *host)
{
    assert(host);
    return host->stale;
}

uint32_t limiter_host_limit(const struct limiter_host *host)
{
    assert(host);
    return host->limit;
}

uint32_t limiter_host_hash(const struct limiter *limiter, const struct limiter_host *host)
{
    assert(limiter && host);
    return hosts_hash(&limiter->hosts, host->key);
}

uint32_t limiter_host_waiting(const struct limiter_host *host)
{
    assert(host);
    return host->queued - host->startable;
}

uint64_t limiter_expected_wait_ns(const struct limiter_host *host, uint32_t ahead)
{
    assert(host);
    uint64_t turns = (uint64_t)ahead + 1;
    if (host->slot_time_ns > UINT64_MAX / turns) {
        return UINT64_MAX / host->limit;
    }
    return host->slot_time_ns * turns / host->limit;
}

void limiter_count_rejection(struct limiter *limiter, const char *name, enum limiter_rejection why)
{
    assert(limiter && name && why < LIMITER_REJECTIONS);
    count_rejection(limiter, find_budget(limiter, name).host, why);
}

void *limiter_attachment(const struct limiter_host *host)
{
    assert(host);
    return host->attachment;
}

void limiter_attach(struct limiter *limiter, struct limiter_host *host, void *attachment)
{
    assert(limiter && host);
    host->attachment = attachment;
    if (host->held != hosts_is_held(host)) {
        hosts_place(&limiter->hosts, host);
    }
}

/* --- the invariants --- */

static bool check_queue(const struct limiter_host *host, size_t *armed)
{
    uint32_t queued = 0;
    uint64_t sequence = 0;
    const struct limiter_ticket *ticket;
    TAILQ_FOREACH (ticket, &host->queue, link) {
        if (ticket->state != LIMITER_WAITING || ticket->host != host ||
            ticket->sequence <= sequence) {
            return false;
        }
        sequence = ticket->sequence;
        queued++;
        *armed += ticket->deadline.armed ? 1 : 0;
    }
    return queued == host->queued;
}

static bool check_host(const struct limiter *limiter, const struct limiter_host *host)
{
    const struct limiter_counters *counters = host->counters;
    uint64_t admitted = counters->admitted_total + host->at_once;
    uint64_t completed = counters->completed_total;
    for (uint32_t i = 0; i < host->notes; i++) {
        admitted += host->note[i].ran ? 0 : 1;
        completed += host->note[i].ran ? 1 : 0;
    }
    return admitted == completed + host->active && host->notes < HOSTS_NOTES &&
           counters->wait.count == counters->admitted_total &&
           counters->service.count == counters->completed_total &&
           host->rule == rules_match(limiter->rules, host->key) &&
           host->limit == host->rule->limit && host->active <= host->peak_active &&
           host->queued <= host->peak_queued && host->tickets >= host->active + host->queued &&
           ready_check_host(&limiter->ready, host);
}

bool limiter_check(const struct limiter *limiter)
{
    assert(limiter);
    uint32_t ready = 0;
    uint64_t active = 0;
    uint64_t queued = 0;
    uint64_t startable = 0;
    size_t armed = 0;
    const struct limiter_host *host = NULL;
    while ((host = limiter_next_host(limiter, host))) {
        if (!check_queue(host, &armed) || !check_host(limiter, host)) {
            return false;
        }
        ready += host->startable > 0 ? 1 : 0;
        active += host->active;
        queued += host->queued;
        startable += host->startable;
    }
    return ready == limiter->ready.count && active == limiter->active &&
           queued == limiter->queued && startable == limiter->ready.startable &&
           armed == limiter->wheel.count &&
           limiter->counters.admitted_total == limiter->counters.completed_total + active &&
           hosts_check(&limiter->hosts) && ready_check(&limiter->ready) &&
           wheel_check(&limiter->wheel);
}

/*
 * What the limiter costs: nanoseconds for one cycle of acquire, poll (until NULL) and release.
 *
 *   waiters   hosts that are full, with so many waiters in all: a slot comes back, the oldest
 *             waiter takes it, and the released ticket queues again at the end
 *   hosts     so many known hosts, all idle: a request starts at once and ends
 *
 * The work is the same at every size, but the memory it touches is not: a million tickets or a
 * hundred thousand hosts do not fit into the caches. So each is measured in the best order, that
 * of memory, and in the worst, at random, where every visit is to memory that was not used for
 * long. A service with that many is between the two. Where the name of the host comes from is not
 * measured: a service has just read it.
 *
 * Each figure is the median of several runs. This reports; it is no test.
 */
#include "limiter/limiter.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RUNS             7
#define CYCLES_MIN       200000
#define BATCH            64 /* cycles between two looks at the clock */
#define SPREAD_HOSTS_MAX 10000
#define CYCLE_NS         1000 /* how far the limiter's own time moves with each cycle */
#define NAME_BYTES       32
#define SIZES_MAX        7

enum order { IN_ORDER, AT_RANDOM };

struct bench {
    struct limiter *limiter;
    uint32_t hosts;
    uint32_t count; /* of tickets */
    struct limiter_ticket *tickets;
    struct limiter_ticket **running; /* of each host */
    char (*names)[NAME_BYTES];
    enum order order;
    uint32_t turn;
    uint64_t now_ns;
    uint64_t random;
};

static uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

static uint32_t random_below(struct bench *bench, uint32_t bound)
{
    bench->random = bench->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((bench->random >> 32) * bound >> 32);
}

static uint32_t next_host(struct bench *bench)
{
    if (bench->order == AT_RANDOM) {
        return random_below(bench, bench->hosts);
    }
    bench->turn = (bench->turn + 1) % bench->hosts;
    return bench->turn;
}

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (!memory) {
        fputs("out of memory\n", stderr);
        exit(1);
    }
    return memory;
}

static void acquire(struct bench *bench, struct limiter_ticket *ticket, const char *name)
{
    enum limiter_verdict verdict =
        limiter_acquire(bench->limiter, name, LIMITER_NEVER, ticket, bench->now_ns);
    if (verdict != LIMITER_ADMITTED && verdict != LIMITER_QUEUED) {
        fputs("a ticket was refused\n", stderr);
        exit(1);
    }
}

static struct bench setup(uint32_t hosts, uint32_t count, enum order order)
{
    struct rule rule = {.limit = 1, .queue = UINT32_MAX, .queue_timeout_ns = UINT64_C(30000000000)};
    struct limiter_bounds bounds = {.limit = 1000000, .queue = UINT32_MAX, .hosts_max = hosts};
    struct bench bench = {
        .hosts = hosts, .count = count, .order = order, .now_ns = UINT64_C(1) << 40, .random = 1};
    struct rules *rules = rules_create(&rule);
    bench.limiter = rules ? limiter_create(rules, &bounds, bench.now_ns) : NULL;
    if (!bench.limiter) {
        fputs("out of memory\n", stderr);
        exit(1);
    }
    bench.tickets = allocate(count, sizeof *bench.tickets);
    bench.running = allocate(hosts, sizeof(struct limiter_ticket *));
    bench.names = allocate(hosts, sizeof *bench.names);
    for (uint32_t i = 0; i < hosts; i++) {
        snprintf(bench.names[i], NAME_BYTES, "host-%" PRIu32 ".example.org", i);
        acquire(&bench, &bench.tickets[0], bench.names[i]); /* makes the host known */
        limiter_release(bench.limiter, &bench.tickets[0], bench.now_ns);
    }
    return bench;
}

static void finish(struct bench *bench)
{
    for (uint32_t i = 0; i < bench->count; i++) {
        limiter_release(bench->limiter, &bench->tickets[i], bench->now_ns);
    }
    limiter_destroy(bench->limiter);
    free(bench->tickets);
    free(bench->running);
    free(bench->names);
}

/* A slot of HOST, which is full, goes to its oldest waiter, and who had it waits again. */
static void cycle_waiting(struct bench *bench, uint32_t host, const char *name)
{
    struct limiter_ticket *ended = bench->running[host];
    struct limiter_ticket *ticket;
    limiter_release(bench->limiter, ended, bench->now_ns);
    while ((ticket = limiter_poll(bench->limiter, bench->now_ns))) {
        bench->running[host] = ticket;
    }
    acquire(bench, ended, name);
}

static void cycle_idle(struct bench *bench, uint32_t host, const char *name)
{
    (void)host;
    acquire(bench, &bench->tickets[0], name);
    while (limiter_poll(bench->limiter, bench->now_ns)) {
    }
    limiter_release(bench->limiter, &bench->tickets[0], bench->now_ns + CYCLE_NS);
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;
    return (left > right) - (left < right);
}

/* The nanoseconds of one CYCLE, over at least SIZE of them. */
static double measure(struct bench *bench, uint32_t size,
                      void (*cycle)(struct bench *bench, uint32_t host, const char *name))
{
    double runs[RUNS];
    uint32_t batches = (size > CYCLES_MIN ? size : CYCLES_MIN) / BATCH;
    for (int run = 0; run < RUNS; run++) {
        uint64_t spent_ns = 0;
        for (uint32_t i = 0; i < batches; i++) {
            uint32_t hosts[BATCH];
            char names[BATCH][NAME_BYTES];
            for (int k = 0; k < BATCH; k++) {
                hosts[k] = next_host(bench);
                memcpy(names[k], bench->names[hosts[k]], NAME_BYTES);
            }
            uint64_t start_ns = clock_ns();
            for (int k = 0; k < BATCH; k++) {
                bench->now_ns += CYCLE_NS;
                cycle(bench, hosts[k], names[k]);
            }
            spent_ns += clock_ns() - start_ns;
        }
        runs[run] = (double)spent_ns / batches / BATCH;
    }
    qsort(runs, RUNS, sizeof *runs, compare);
    return runs[RUNS / 2];
}

/* WAITERS over HOSTS hosts with one slot each, which is taken. */
static double bench_waiters(uint32_t waiters, uint32_t hosts, enum order order)
{
    uint32_t count = waiters + hosts;
    struct bench bench = setup(hosts, count, order);
    uint32_t *permutation = allocate(count, sizeof *permutation);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t other = order == AT_RANDOM ? random_below(&bench, i + 1) : i;
        permutation[i] = permutation[other];
        permutation[other] = i;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct limiter_ticket *ticket = &bench.tickets[permutation[i]];
        acquire(&bench, ticket, bench.names[i % hosts]);
        if (ticket->state == LIMITER_ACTIVE) {
            bench.running[i % hosts] = ticket;
        }
    }
    free(permutation);
    double ns = measure(&bench, waiters, cycle_waiting);
    finish(&bench);
    return ns;
}

static double bench_hosts(uint32_t hosts, enum order order)
{
    struct bench bench = setup(hosts, 1, order);
    double ns = measure(&bench, hosts, cycle_idle);
    finish(&bench);
    return ns;
}

static double spread(const double *ns, int count)
{
    double least = ns[0];
    double most = ns[0];
    for (int i = 1; i < count; i++) {
        least = ns[i] < least ? ns[i] : least;
        most = ns[i] > most ? ns[i] : most;
    }
    return most / least;
}

static void report_waiters(void)
{
    double one[2][SIZES_MAX];
    double many[2][SIZES_MAX];
    uint32_t size = 1;
    puts("              one host               up to 10,000 hosts");
    puts("   waiters    in order  at random    in order  at random");
    for (int i = 0; i < SIZES_MAX; i++, size *= 10) {
        uint32_t hosts = size < SPREAD_HOSTS_MAX ? size : SPREAD_HOSTS_MAX;
        for (enum order order = IN_ORDER; order <= AT_RANDOM; order++) {
            one[order][i] = bench_waiters(size, 1, order);
            many[order][i] = bench_waiters(size, hosts, order);
        }
        printf("%10" PRIu32 "  %10.0f %10.0f  %10.0f %10.0f\n", size, one[0][i], one[1][i],
               many[0][i], many[1][i]);
    }
    printf("most/least  %10.2f %10.2f  %10.2f %10.2f\n\n", spread(one[0], SIZES_MAX),
           spread(one[1], SIZES_MAX), spread(many[0], SIZES_MAX), spread(many[1], SIZES_MAX));
}

static void report_hosts(void)
{
    double hosts[2][SIZES_MAX - 1];
    uint32_t size = 1;
    puts("     hosts    in order  at random");
    for (int i = 0; i < SIZES_MAX - 1; i++, size *= 10) {
        hosts[0][i] = bench_hosts(size, IN_ORDER);
        hosts[1][i] = bench_hosts(size, AT_RANDOM);
        printf("%10" PRIu32 "  %10.0f %10.0f\n", size, hosts[0][i], hosts[1][i]);
    }
    printf("most/least  %10.2f %10.2f\n", spread(hosts[0], SIZES_MAX - 1),
           spread(hosts[1], SIZES_MAX - 1));
}

int main(void)
{
    puts("ns for acquire + poll + release\n");
    report_waiters();
    report_hosts();
    return 0;
}

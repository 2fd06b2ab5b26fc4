/*
 * What the limiter costs: nanoseconds for one cycle of acquire, poll (until NULL) and release.
 *
 *   waiters, one host    a full host with so many waiters: a slot comes back, the oldest waiter
 *                        takes it, and the released ticket queues again at the end
 *   waiters, many hosts  the same, the waiters spread over up to 10,000 hosts with one slot each
 *   hosts                so many known hosts, all idle: a request starts at once and ends
 *
 * Tickets and hosts are visited in an order that has nothing to do with their order in memory, as
 * they are in a service, so the large sizes pay for their cache misses. Each figure is the median
 * of several runs. This reports; it is no test.
 */
#include "limiter/limiter.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define RUNS             7
#define CYCLES_MIN       200000
#define SPREAD_HOSTS_MAX 10000
#define CYCLE_NS         1000 /* how far the limiter's own time moves with each cycle */

struct bench {
    struct limiter *limiter;
    struct limiter_ticket *tickets;
    uint32_t *order; /* a permutation of tickets or of hosts */
    char (*names)[32];
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

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (!memory) {
        fputs("out of memory\n", stderr);
        exit(1);
    }
    return memory;
}

/* A limiter of HOSTS names with LIMIT slots each, and TICKETS tickets; ORDER permutes 0..ORDERED.
 */
static struct bench setup(uint32_t hosts, uint32_t limit, uint32_t tickets, uint32_t ordered)
{
    struct rule rule = {
        .limit = limit, .queue = UINT32_MAX, .queue_timeout_ns = UINT64_C(30000000000)};
    struct limiter_bounds bounds = {.limit = 1000000, .queue = UINT32_MAX, .hosts_max = hosts};
    struct bench bench = {.now_ns = UINT64_C(1000000000000), .random = 1};
    struct rules *rules = rules_create(&rule);
    bench.limiter = rules ? limiter_create(rules, &bounds, bench.now_ns) : NULL;
    if (!bench.limiter) {
        fputs("out of memory\n", stderr);
        exit(1);
    }
    bench.tickets = allocate(tickets, sizeof *bench.tickets);
    bench.names = allocate(hosts, sizeof *bench.names);
    bench.order = allocate(ordered, sizeof *bench.order);
    for (uint32_t i = 0; i < hosts; i++) {
        snprintf(bench.names[i], sizeof bench.names[i], "host-%" PRIu32 ".example.org", i);
    }
    for (uint32_t i = 0; i < ordered; i++) {
        uint32_t other = random_below(&bench, i + 1);
        bench.order[i] = bench.order[other];
        bench.order[other] = i;
    }
    return bench;
}

static void finish(struct bench *bench, uint32_t tickets)
{
    for (uint32_t i = 0; i < tickets; i++) {
        limiter_release(bench->limiter, &bench->tickets[i], bench->now_ns);
    }
    limiter_destroy(bench->limiter);
    free(bench->tickets);
    free(bench->names);
    free(bench->order);
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;
    return (left > right) - (left < right);
}

static double median(double *runs)
{
    qsort(runs, RUNS, sizeof *runs, compare);
    return runs[RUNS / 2];
}

static void acquire(struct bench *bench, struct limiter_ticket *ticket, uint32_t host)
{
    enum limiter_verdict verdict =
        limiter_acquire(bench->limiter, bench->names[host], LIMITER_NEVER, ticket, bench->now_ns);
    if (verdict != LIMITER_ADMITTED && verdict != LIMITER_QUEUED) {
        fputs("a ticket was refused\n", stderr);
        exit(1);
    }
}

/*
 * WAITERS over HOSTS hosts that are full. The ticket that ends is always that of the host whose
 * turn it is, and it comes back to the same host.
 */
static double bench_waiters(uint32_t waiters, uint32_t hosts)
{
    uint32_t count = waiters + hosts;
    struct bench bench = setup(hosts, 1, count, count);
    struct limiter_ticket **running = allocate(hosts, sizeof(struct limiter_ticket *));
    for (uint32_t i = 0; i < count; i++) {
        struct limiter_ticket *ticket = &bench.tickets[bench.order[i]];
        acquire(&bench, ticket, i % hosts);
        if (ticket->state == LIMITER_ACTIVE) {
            running[i % hosts] = ticket;
        }
    }
    uint32_t cycles = waiters > CYCLES_MIN ? waiters : CYCLES_MIN;
    double runs[RUNS];
    for (int run = 0; run < RUNS; run++) {
        uint64_t start_ns = clock_ns();
        for (uint32_t i = 0; i < cycles; i++) {
            uint32_t host = hosts == 1 ? 0 : random_below(&bench, hosts);
            struct limiter_ticket *ended = running[host];
            struct limiter_ticket *ticket;
            bench.now_ns += CYCLE_NS;
            limiter_release(bench.limiter, ended, bench.now_ns);
            while ((ticket = limiter_poll(bench.limiter, bench.now_ns))) {
                running[host] = ticket;
            }
            acquire(&bench, ended, host);
        }
        runs[run] = (double)(clock_ns() - start_ns) / cycles;
    }
    free(running);
    finish(&bench, count);
    return median(runs);
}

/* HOSTS known hosts, each visited in turn by a request that need not wait. */
static double bench_hosts(uint32_t hosts)
{
    struct bench bench = setup(hosts, 1, 1, hosts);
    struct limiter_ticket *ticket = &bench.tickets[0];
    uint32_t cycles = hosts > CYCLES_MIN ? hosts : CYCLES_MIN;
    double runs[RUNS];
    for (int run = -1; run < RUNS; run++) { /* the first makes the hosts */
        uint64_t start_ns = clock_ns();
        for (uint32_t i = 0; i < cycles; i++) {
            bench.now_ns += CYCLE_NS;
            acquire(&bench, ticket, random_below(&bench, hosts));
            while (limiter_poll(bench.limiter, bench.now_ns)) {
            }
            limiter_release(bench.limiter, ticket, bench.now_ns + CYCLE_NS);
        }
        if (run >= 0) {
            runs[run] = (double)(clock_ns() - start_ns) / cycles;
        }
    }
    finish(&bench, 1);
    return median(runs);
}

static void report(const char *what, const double *ns, int count)
{
    double least = ns[0];
    double most = ns[0];
    for (int i = 1; i < count; i++) {
        least = ns[i] < least ? ns[i] : least;
        most = ns[i] > most ? ns[i] : most;
    }
    printf("%-20s largest / smallest: %.2f\n\n", what, most / least);
}

int main(void)
{
    double one[7];
    double many[7];
    double hosts[6];
    uint32_t size = 1;
    puts("ns for acquire + poll + release; waiting requests:");
    puts("   waiters   one host   many hosts");
    for (int i = 0; i < 7; i++, size *= 10) {
        one[i] = bench_waiters(size, 1);
        many[i] = bench_waiters(size, size < SPREAD_HOSTS_MAX ? size : SPREAD_HOSTS_MAX);
        printf("%10" PRIu32 " %10.0f %12.0f\n", size, one[i], many[i]);
    }
    report("waiters, one host", one, 7);
    report("waiters, many hosts", many, 7);
    puts("idle hosts:");
    puts("     hosts         ns");
    size = 1;
    for (int i = 0; i < 6; i++, size *= 10) {
        hosts[i] = bench_hosts(size);
        printf("%10" PRIu32 " %10.0f\n", size, hosts[i]);
    }
    report("hosts", hosts, 6);
    return 0;
}

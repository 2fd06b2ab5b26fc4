#include "server/reply.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define NS_PER_S UINT64_C(1000000000)

static double ms_between(uint64_t from_ns, uint64_t to_ns)
{
    return from_ns == 0 || to_ns < from_ns ? 0.0 : (double)(to_ns - from_ns) / 1e6;
}

void reply_write_own(const struct reply_times *times, const char *request_id, reply_field_fn *write,
                     void *context)
{
    char timing[96];
    int length = snprintf(timing, sizeof timing, "queue;dur=%.3f", (double)times->queue_ns / 1e6);
    if (times->connected_ns > 0) {
        length += snprintf(timing + length, sizeof timing - (size_t)length, ", connect;dur=%.3f",
                           ms_between(times->started_ns, times->connected_ns));
    }
    if (times->first_byte_ns > 0) {
        snprintf(timing + length, sizeof timing - (size_t)length, ", ttfb;dur=%.3f",
                 ms_between(times->started_ns, times->first_byte_ns));
    }
    write(context, "Server-Timing", timing);
    write(context, "Via", "1.1 weir");
    write(context, "X-Request-Id", request_id);
}

void reply_write_problem(const struct problem_report *report, uint64_t retry_ns,
                         reply_field_fn *write, void *context)
{
    write(context, "Content-Type", "application/problem+json");
    char *proxy_status = problem_proxy_status(report);
    if (proxy_status != NULL) {
        write(context, "Proxy-Status", proxy_status);
        free(proxy_status);
    }
    const struct problem_kind *kind = problem_kind(report->problem);
    if (kind->challenge_field != NULL) {
        write(context, kind->challenge_field, kind->challenge);
    }
    if (kind->retry) {
        char seconds[24];
        uint64_t wait_s = (retry_ns + NS_PER_S - 1) / NS_PER_S;
        snprintf(seconds, sizeof seconds, "%" PRIu64, wait_s > 0 ? wait_s : 1);
        write(context, "Retry-After", seconds);
    }
}

/*
 * Replies: the header fields that Weir itself adds to the answers of fetches and of tunnels, and
 * those of a problem.
 */
#ifndef WEIR_SERVER_REPLY_H
#define WEIR_SERVER_REPLY_H

#include "api/problem.h"

#include <stdint.h>

/* A field of an answer; strings that end in '\0'. */
typedef void reply_field_fn(void *context, const char *name, const char *value);

/* Moments of one request, for Server-Timing. 0: has not happened. */
struct reply_times {
    uint64_t queue_ns; /* how long it waited */
    uint64_t started_ns;
    uint64_t connected_ns;
    uint64_t first_byte_ns;
};

/* Calls WRITE for each field that every answer carries. */
void reply_write_own(const struct reply_times *times, const char *request_id, reply_field_fn *write,
                     void *context);

/*
 * Calls WRITE for each field of a problem's answer. RETRY_NS is how long a new request may expect
 * to wait, told where waiting can help.
 */
void reply_write_problem(const struct problem_report *report, uint64_t retry_ns,
                         reply_field_fn *write, void *context);

#endif

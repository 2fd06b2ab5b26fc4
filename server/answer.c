/*
 * The answer of an exchange: the upstream's, as it came, or a problem. See exchange.h.
 */
#include "server/exchange_state.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_S UINT64_C(1000000000)

/* Appends NAME;dur=MS, exact to the microsecond, to the LENGTH bytes in BUFFER. */
static size_t add_timing(char *buffer, size_t size, size_t length, const char *name,
                         uint64_t duration_ns)
{
    int added = snprintf(buffer + length, size - length, "%s%s;dur=%" PRIu64 ".%03u",
                         length > 0 ? ", " : "", name, duration_ns / 1000000,
                         (unsigned)(duration_ns / 1000 % 1000));
    return length + (size_t)added;
}

/* What every answer carries. */
static void write_own_fields(const struct exchange *exchange, exchange_field_fn *write,
                             void *context)
{
    char timing[128];
    size_t length = add_timing(timing, sizeof timing, 0, "queue", exchange->queue_ns);
    if (exchange->fetch != NULL) {
        struct fetch_times times = fetch_times(exchange->fetch);
        if (times.connected_ns > 0) {
            length = add_timing(timing, sizeof timing, length, "connect",
                                times.connected_ns - times.started_ns);
        }
        if (times.first_byte_ns > 0) {
            add_timing(timing, sizeof timing, length, "ttfb",
                       times.first_byte_ns - times.started_ns);
        }
    }
    write(context, "Server-Timing", timing);
    write(context, "Via", "1.1 weir");
    write(context, "X-Request-Id", exchange->request_id);
}

static struct problem_report report_of(const struct exchange *exchange)
{
    struct problem_report report = {
        .problem = exchange->problem,
        .overflow_status = exchange->all->settings.overflow_status,
        .detail = exchange->detail,
        .host = exchange->target.origin != NULL ? exchange->target.origin->host : NULL,
        .queued = exchange->host_queued,
        .limit = exchange->host_limit,
    };
    return report;
}

static void answer_problem(const struct exchange *exchange, struct exchange_answer *answer)
{
    struct problem_report report = report_of(exchange);
    size_t bytes = 0;
    answer->status = problem_status(exchange->problem, report.overflow_status);
    answer->body = problem_body(&report, &bytes);
    answer->length = answer->body != NULL ? bytes : 0;
    answer->has_length = true;
}

static void write_problem_fields(const struct exchange *exchange, exchange_field_fn *write,
                                 void *context)
{
    struct problem_report report = report_of(exchange);
    write(context, "Content-Type", "application/problem+json");
    char *proxy_status = problem_proxy_status(&report);
    if (proxy_status != NULL) {
        write(context, "Proxy-Status", proxy_status);
        free(proxy_status);
    }
    if (problem_kind(exchange->problem)->retry) {
        char seconds[24];
        uint64_t wait_s = (exchange->retry_ns + NS_PER_S - 1) / NS_PER_S;
        snprintf(seconds, sizeof seconds, "%" PRIu64, wait_s > 0 ? wait_s : 1);
        write(context, "Retry-After", seconds);
    }
}

/* Field values come without an end; this lends them one, on the stack where they fit. */
static void write_field(const struct header *field, exchange_field_fn *write, void *context)
{
    char small[512];
    size_t bytes = (size_t)field->name_bytes + field->value_bytes + 2;
    char *text = bytes <= sizeof small ? small : malloc(bytes);
    if (text == NULL) {
        return;
    }
    char *value = text + field->name_bytes + 1;
    memcpy(text, field->name, field->name_bytes);
    text[field->name_bytes] = '\0';
    memcpy(value, field->value, field->value_bytes);
    value[field->value_bytes] = '\0';
    write(context, text, value);
    if (text != small) {
        free(text);
    }
}

static void answer_fetched(struct exchange *exchange, struct exchange_answer *answer)
{
    const struct fetch_answer *from = fetch_answer(exchange->fetch);
    size_t trailers = 0;
    fetch_trailers(exchange->fetch, &trailers);
    answer->status = from->status;
    answer->has_length = from->facts.has_length;
    answer->length = from->facts.content_length;
    answer->no_body =
        strcmp(exchange->request.method, "HEAD") == 0 || from->status == 204 || from->status == 304;
    if (!answer->no_body && fetch_state(exchange->fetch) == FETCH_DONE && trailers == 0) {
        size_t bytes = 0; /* all of it is here: its length is known, whatever the upstream said */
        answer->body = pipe_take(&exchange->download, &bytes);
        answer->has_length = true;
        answer->length = bytes;
        exchange->bytes_out += bytes;
    }
}

static void write_fetched_fields(const struct exchange *exchange, exchange_field_fn *write,
                                 void *context)
{
    const struct fetch_answer *from = fetch_answer(exchange->fetch);
    struct headers_response response = {from->status, from->fields, from->field_count};
    for (size_t i = 0; i < from->field_count; i++) {
        if (headers_pass_response(&response, &from->facts, i)) {
            write_field(&from->fields[i], write, context);
        }
    }
}

struct exchange_answer exchange_answer(struct exchange *exchange, uint64_t now_ns)
{
    struct exchange_answer answer = {.close = exchange->close || exchange->all->draining};
    assert(!exchange->answered);
    exchange->all->now_ns = now_ns;
    exchange->answered = true;
    if (exchange->state == EXCHANGE_REFUSING) {
        answer_problem(exchange, &answer);
    } else {
        answer_fetched(exchange, &answer);
    }
    exchange->status = answer.status;
    exchange_arm(exchange);
    return answer;
}

void exchange_answer_fields(const struct exchange *exchange, exchange_field_fn *write,
                            void *context)
{
    if (exchange->state == EXCHANGE_REFUSING) {
        write_problem_fields(exchange, write, context);
    } else {
        write_fetched_fields(exchange, write, context);
    }
    write_own_fields(exchange, write, context);
}

void exchange_reject_answer(struct exchange *exchange, enum problem problem, const char *detail)
{
    exchange_end_fetch(exchange);
    exchange->answered = false;
    exchange_refuse(exchange, problem, detail);
}

enum exchange_read exchange_read(struct exchange *exchange, char *buffer, size_t size,
                                 size_t *ret_bytes, exchange_field_fn *write, void *context)
{
    if (exchange->state != EXCHANGE_ANSWERING || exchange->fetch == NULL) {
        return EXCHANGE_BROKEN;
    }
    exchange->client_ns = exchange->all->now_ns;
    size_t bytes = pipe_read(&exchange->download, buffer, size);
    if (bytes > 0) {
        exchange->bytes_out += bytes;
        fetch_download_ready(exchange->fetch);
        *ret_bytes = bytes;
        return EXCHANGE_BYTES;
    }
    switch (fetch_state(exchange->fetch)) {
    case FETCH_RUNNING:
        exchange->starved = true;
        return EXCHANGE_LATER;
    case FETCH_FAILED: {
        const char *detail;
        enum problem problem = fetch_problem(exchange->fetch, &detail);
        exchange_cut(exchange, problem == PROBLEM_UPSTREAM_INCOMPLETE
                                   ? "upstream_broke_off"
                                   : problem_kind(problem)->word);
        return EXCHANGE_BROKEN;
    }
    case FETCH_DONE:
        break;
    }
    size_t count;
    const struct header *trailers = fetch_trailers(exchange->fetch, &count);
    for (size_t i = 0; i < count; i++) {
        if (headers_pass_trailer(&trailers[i])) {
            write_field(&trailers[i], write, context);
        }
    }
    return EXCHANGE_END;
}

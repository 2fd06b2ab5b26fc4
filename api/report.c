/*
 * See report.h.
 *
 * There may be ten thousand hosts, and the loop stands still while they are written: so the text is
 * written as it is, number by number. A tree of jansson's would take eight times as long.
 */
#include "api/report.h"

#include <assert.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_BYTES 4096
#define DEPTH_MAX   4
#define NUMBER_MAX  24 /* more digits than 2^64 has */

static const char *const rejection_names[] = {
    [LIMITER_REJECTED_QUEUE_FULL] = "queue_full",
    [LIMITER_REJECTED_QUEUE_TIMEOUT] = "queue_timeout",
    [LIMITER_REJECTED_CLIENT_GONE] = "client_gone",
    [LIMITER_REJECTED_DRAINING] = "draining",
    [LIMITER_REJECTED_DENIED] = "denied",
};

_Static_assert(sizeof rejection_names / sizeof *rejection_names == LIMITER_REJECTIONS,
               "every rejection has its name");

/* --- JSON text --- */

/* A document that is being written; once memory has run out the rest is passed over. */
struct text {
    char *bytes;
    size_t count;
    size_t room;
    bool failed;
    unsigned depth;
    bool on_lines[DEPTH_MAX]; /* whether what is in it has lines of its own, for each level */
    bool empty;               /* nothing is in the innermost yet */
};

static void put(struct text *text, const char *bytes, size_t count)
{
    if (count > text->room - text->count && !text->failed) {
        size_t room = 2 * text->room + count + FIRST_BYTES;
        char *grown = realloc(text->bytes, room);
        text->failed = grown == NULL;
        text->bytes = grown != NULL ? grown : text->bytes;
        text->room = grown != NULL ? room : text->room;
    }
    if (!text->failed) {
        memcpy(text->bytes + text->count, bytes, count);
        text->count += count;
    }
}

static void put_word(struct text *text, const char *word)
{
    put(text, word, strlen(word));
}

static void put_line_end(struct text *text)
{
    static const char spaces[] = "\n        ";
    assert(2 * (size_t)text->depth < sizeof spaces - 1);
    put(text, spaces, 1 + 2 * (size_t)text->depth);
}

/* What comes next is a member, or an element, of the innermost object or list. */
static void begin_next(struct text *text)
{
    bool on_lines = text->depth > 0 && text->on_lines[text->depth - 1];
    if (!text->empty) {
        put(text, ", ", on_lines ? 1 : 2);
    }
    if (on_lines) {
        put_line_end(text);
    }
    text->empty = false;
}

static void put_name(struct text *text, const char *name)
{
    begin_next(text);
    put(text, "\"", 1);
    put_word(text, name);
    put(text, "\": ", 3);
}

static void open_level(struct text *text, const char *bracket, bool on_lines)
{
    assert(text->depth < DEPTH_MAX);
    put_word(text, bracket);
    text->on_lines[text->depth++] = on_lines;
    text->empty = true;
}

static void close_level(struct text *text, const char *bracket)
{
    bool on_lines = text->on_lines[--text->depth];
    if (on_lines && !text->empty) {
        put_line_end(text);
    }
    put_word(text, bracket);
    text->empty = false;
}

/* An object in the one line of its member. */
static void open_member(struct text *text, const char *name)
{
    put_name(text, name);
    open_level(text, "{", false);
}

static void put_digits(struct text *text, uint64_t number, size_t least)
{
    char digits[NUMBER_MAX];
    size_t at = sizeof digits;
    while (number > 0 || sizeof digits - at < least) {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    }
    put(text, digits + at, sizeof digits - at);
}

/* Readers may have signed numbers. */
static void put_count(struct text *text, const char *name, uint64_t count)
{
    put_name(text, name);
    put_digits(text, count <= INT64_MAX ? count : INT64_MAX, 1);
}

/* NS in units of UNIT_NS with the decimals of a thousandth. */
static void put_decimal(struct text *text, const char *name, uint64_t ns, uint64_t unit_ns)
{
    uint64_t thousandth_ns = unit_ns / 1000;
    uint64_t thousandths = ns / thousandth_ns + (ns % thousandth_ns >= thousandth_ns / 2);
    put_name(text, name);
    put_digits(text, thousandths / 1000, 1);
    put(text, ".", 1);
    put_digits(text, thousandths % 1000, 3);
}

static void put_ms(struct text *text, const char *name, uint64_t ns)
{
    put_decimal(text, name, ns, 1000000);
}

static void put_bool(struct text *text, const char *name, bool value)
{
    put_name(text, name);
    put_word(text, value ? "true" : "false");
}

/* What has to be escaped in VALUE jansson knows. */
static void put_string(struct text *text, const char *name, const char *value)
{
    json_t *string = json_string(value);
    char *quoted = string != NULL ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
    put_name(text, name);
    put_word(text, quoted != NULL ? quoted : "");
    text->failed = text->failed || quoted == NULL;
    free(quoted);
    json_decref(string);
}

/* Gives the text, which ends in a newline, up to the caller; NULL where memory has run out. */
static char *end_text(struct text *text, size_t *ret_bytes)
{
    assert(text->depth == 0);
    put(text, "\n", 2); /* with a '\0' */
    if (text->failed) {
        free(text->bytes);
        return NULL;
    }
    *ret_bytes = text->count - 1;
    return text->bytes;
}

/* --- what is told --- */

static void put_durations(struct text *text, const char *name, const struct histogram *histogram)
{
    open_member(text, name);
    put_ms(text, "p50", histogram_quantile_ns(histogram, 0.50));
    put_ms(text, "p95", histogram_quantile_ns(histogram, 0.95));
    put_ms(text, "p99", histogram_quantile_ns(histogram, 0.99));
    put_ms(text, "max", histogram->max_ns);
    close_level(text, "}");
}

/* What a host and all hosts together have alike. */
static void put_counters(struct text *text, const struct limiter_counters *counters)
{
    put_count(text, "admitted_total", counters->admitted_total);
    put_count(text, "completed_total", counters->completed_total);
    open_member(text, "rejected_total");
    for (size_t i = 0; i < LIMITER_REJECTIONS; i++) {
        put_count(text, rejection_names[i], counters->rejected_total[i]);
    }
    close_level(text, "}");
    put_durations(text, "wait_ms", &counters->wait);
    put_durations(text, "service_ms", &counters->service);
}

static const char *host_state(const struct report_service *service, const struct limiter_view *view)
{
    if (service->state == REPORT_DRAINING) {
        return "draining";
    }
    return view->active >= view->limit ? "saturated" : "ok";
}

static void put_host(struct text *text, const struct report_service *service,
                     const struct limiter_host *host, uint64_t now_ns)
{
    struct limiter_view view;
    limiter_describe(host, now_ns, &view);
    uint32_t idle = 0;
    uint32_t tunnels = 0;
    if (service->host_connections != NULL) {
        service->host_connections(host, &idle, &tunnels);
    }
    put_string(text, "host", view.host);
    put_string(text, "rule", view.rule);
    put_count(text, "limit", view.limit);
    put_count(text, "active", view.active);
    put_count(text, "peak_active", view.peak_active);
    put_count(text, "queued", view.queued);
    put_count(text, "peak_queued", view.peak_queued);
    put_count(text, "queue_limit", view.queue_limit);
    put_ms(text, "oldest_wait_ms", view.oldest_wait_ns);
    put_count(text, "idle_connections", idle);
    put_count(text, "tunnels", tunnels);
    put_string(text, "state", host_state(service, &view));
    put_counters(text, view.counters);
}

/* The limiter lists hosts oldest use first. */
static void put_hosts(struct text *text, const struct report_service *service,
                      const struct limiter *limiter, uint64_t now_ns)
{
    size_t count = 0;
    for (const struct limiter_host *host = limiter_next_host(limiter, NULL); host != NULL;
         host = limiter_next_host(limiter, host)) {
        count++;
    }
    const struct limiter_host **hosts = calloc(count + 1, sizeof *hosts);
    if (hosts == NULL) {
        text->failed = true;
        return;
    }
    const struct limiter_host *host = NULL;
    for (size_t i = count; i > 0; i--) {
        host = limiter_next_host(limiter, host);
        hosts[i - 1] = host;
    }
    put_name(text, "hosts");
    open_level(text, "[", true);
    for (size_t i = 0; i < count && !text->failed; i++) {
        begin_next(text);
        open_level(text, "{", false);
        put_host(text, service, hosts[i], now_ns);
        close_level(text, "}");
    }
    close_level(text, "]");
    free(hosts);
}

static void put_connections(struct text *text, const struct report_service *service)
{
    open_member(text, "connections");
    put_count(text, "client", service->client_connections);
    put_count(text, "client_limit", service->client_connections_limit);
    put_count(text, "upstream", service->upstream_connections);
    put_count(text, "clients", service->door.clients);
    put_count(text, "largest_client", service->door.largest);
    put_count(text, "per_client_limit", service->door.client_limit);
    put_count(text, "per_local_client_limit", service->door.local_client_limit);
    put_count(text, "full_total", service->door.full_total);
    put_count(text, "client_full_total", service->door.client_full_total);
    close_level(text, "}");
}

static void put_buffers(struct text *text, const struct report_buffers *buffers)
{
    open_member(text, "buffers");
    put_count(text, "bytes", buffers->bytes);
    put_count(text, "limit_bytes", buffers->limit_bytes);
    put_count(text, "peak_bytes", buffers->peak_bytes);
    put_count(text, "scarce_total", buffers->scarce_total);
    put_count(text, "full_total", buffers->full_total);
    put_count(text, "head_bytes", buffers->head_bytes);
    put_count(text, "head_limit_bytes", buffers->head_limit_bytes);
    close_level(text, "}");
}

static void put_auth(struct text *text, const struct report_auth *auth)
{
    open_member(text, "auth");
    put_bool(text, "clients", auth->clients);
    put_count(text, "checking", auth->checking);
    put_count(text, "waiting", auth->waiting);
    put_count(text, "checks_total", auth->checks_total);
    put_count(text, "refused_total", auth->refused_total);
    put_count(text, "busy_total", auth->busy_total);
    close_level(text, "}");
}

static void put_totals(struct text *text, const struct report_service *service,
                       const struct limiter *limiter, uint64_t now_ns)
{
    struct limiter_totals totals;
    limiter_describe_totals(limiter, now_ns, &totals);
    open_member(text, "totals");
    put_count(text, "limit", totals.limit);
    put_count(text, "active", totals.active);
    put_count(text, "peak_active", totals.peak_active);
    put_count(text, "queued", totals.queued);
    put_count(text, "peak_queued", totals.peak_queued);
    put_count(text, "queue_limit", totals.queue_limit);
    put_ms(text, "oldest_wait_ms", totals.oldest_wait_ns);
    put_count(text, "hosts", totals.hosts);
    put_count(text, "hosts_limit", totals.hosts_max);
    put_count(text, "hosts_evicted_total", totals.evicted_total);
    put_count(text, "hosts_full_total", totals.hosts_full_total);
    put_count(text, "requests_total", service->requests_total);
    put_count(text, "problems_total", service->problems_total);
    put_count(text, "bytes_in_total", service->bytes_in_total);
    put_count(text, "bytes_out_total", service->bytes_out_total);
    put_counters(text, &totals.counters);
    close_level(text, "}");
}

static const char *service_state(enum report_state state)
{
    switch (state) {
    case REPORT_STARTING:
        return "starting";
    case REPORT_OK:
        return "ok";
    case REPORT_DRAINING:
        return "draining";
    }
    abort();
}

char *report_status(const struct report_service *service, const struct limiter *limiter,
                    uint64_t now_ns, size_t *ret_bytes)
{
    assert(service != NULL);
    assert(limiter != NULL);
    assert(ret_bytes != NULL);

    struct text text = {0};
    open_level(&text, "{", true);
    put_string(&text, "version", service->version);
    put_decimal(&text, "uptime_seconds", service->uptime_ns, 1000000000);
    put_string(&text, "state", service_state(service->state));
    put_count(&text, "config_generation", service->config_generation);
    put_connections(&text, service);
    put_buffers(&text, &service->buffers);
    put_auth(&text, &service->auth);
    put_totals(&text, service, limiter, now_ns);
    put_hosts(&text, service, limiter, now_ns);
    close_level(&text, "}");
    return end_text(&text, ret_bytes);
}

char *report_host(const struct report_service *service, const struct limiter_host *host,
                  uint64_t now_ns, size_t *ret_bytes)
{
    assert(service != NULL);
    assert(host != NULL);
    assert(ret_bytes != NULL);

    struct text text = {0};
    open_level(&text, "{", true);
    put_host(&text, service, host, now_ns);
    close_level(&text, "}");
    return end_text(&text, ret_bytes);
}

#include "api/report.h"

#include <assert.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Three decimals of at most 18446744073709 ms are 17 digits; the last two of those are no loss. */
#define REPORT_FORMAT (JSON_INDENT(2) | JSON_REAL_PRECISION(15))

static const char *const rejection_names[] = {
    [LIMITER_REJECTED_QUEUE_FULL] = "queue_full",
    [LIMITER_REJECTED_QUEUE_TIMEOUT] = "queue_timeout",
    [LIMITER_REJECTED_CLIENT_GONE] = "client_gone",
    [LIMITER_REJECTED_DRAINING] = "draining",
    [LIMITER_REJECTED_DENIED] = "denied",
};

_Static_assert(sizeof rejection_names / sizeof *rejection_names == LIMITER_REJECTIONS,
               "every rejection has its name");

/* An object that is being filled; once something has failed the rest is passed over. */
struct document {
    json_t *object;
    bool failed;
};

static struct document document_begin(void)
{
    struct document document = {.object = json_object()};
    document.failed = document.object == NULL;
    return document;
}

/* Takes VALUE over; NULL is what a constructor that ran out of memory returned. */
static void put(struct document *document, const char *name, json_t *value)
{
    if (json_object_set_new(document->object, name, value) != 0) {
        document->failed = true;
    }
}

static void put_count(struct document *document, const char *name, uint64_t count)
{
    put(document, name, json_integer((json_int_t)(count <= INT64_MAX ? count : INT64_MAX)));
}

/* NS in units of UNIT_NS with the decimals of a thousandth. */
static json_t *make_decimal(uint64_t ns, uint64_t unit_ns)
{
    uint64_t thousandth_ns = unit_ns / 1000;
    uint64_t thousandths = ns / thousandth_ns + (ns % thousandth_ns >= thousandth_ns / 2);
    return json_real((double)thousandths / 1000);
}

static void put_ms(struct document *document, const char *name, uint64_t ns)
{
    put(document, name, make_decimal(ns, 1000000));
}

/* Gives the object up to the caller; NULL where anything failed. */
static json_t *document_end(struct document *document)
{
    if (document->failed) {
        json_decref(document->object);
        document->object = NULL;
    }
    return document->object;
}

static json_t *make_durations(const struct histogram *histogram)
{
    struct document document = document_begin();
    put_ms(&document, "p50", histogram_quantile_ns(histogram, 0.50));
    put_ms(&document, "p95", histogram_quantile_ns(histogram, 0.95));
    put_ms(&document, "p99", histogram_quantile_ns(histogram, 0.99));
    put_ms(&document, "max", histogram->max_ns);
    return document_end(&document);
}

static json_t *make_rejections(const struct limiter_counters *counters)
{
    struct document document = document_begin();
    for (size_t i = 0; i < LIMITER_REJECTIONS; i++) {
        put_count(&document, rejection_names[i], counters->rejected_total[i]);
    }
    return document_end(&document);
}

/* What a host and all hosts together have alike. */
static void put_counters(struct document *document, const struct limiter_counters *counters)
{
    put_count(document, "admitted_total", counters->admitted_total);
    put_count(document, "completed_total", counters->completed_total);
    put(document, "rejected_total", make_rejections(counters));
    put(document, "wait_ms", make_durations(&counters->wait));
    put(document, "service_ms", make_durations(&counters->service));
}

static const char *host_state(const struct report_service *service, const struct limiter_view *view)
{
    if (service->state == REPORT_DRAINING) {
        return "draining";
    }
    return view->active >= view->limit ? "saturated" : "ok";
}

static json_t *make_host(const struct report_service *service, const struct limiter_host *host,
                         uint64_t now_ns)
{
    struct limiter_view view;
    limiter_describe(host, now_ns, &view);
    uint32_t idle = 0;
    uint32_t tunnels = 0;
    if (service->host_connections != NULL) {
        service->host_connections(host, &idle, &tunnels);
    }

    struct document document = document_begin();
    put(&document, "host", json_string(view.host));
    put(&document, "rule", json_string(view.rule));
    put_count(&document, "limit", view.limit);
    put_count(&document, "active", view.active);
    put_count(&document, "peak_active", view.peak_active);
    put_count(&document, "queued", view.queued);
    put_count(&document, "peak_queued", view.peak_queued);
    put_count(&document, "queue_limit", view.queue_limit);
    put_ms(&document, "oldest_wait_ms", view.oldest_wait_ns);
    put_count(&document, "idle_connections", idle);
    put_count(&document, "tunnels", tunnels);
    put(&document, "state", json_string(host_state(service, &view)));
    put_counters(&document, view.counters);
    return document_end(&document);
}

/* The limiter lists hosts oldest use first. */
static json_t *make_hosts(const struct report_service *service, const struct limiter *limiter,
                          uint64_t now_ns)
{
    size_t count = 0;
    for (const struct limiter_host *host = limiter_next_host(limiter, NULL); host != NULL;
         host = limiter_next_host(limiter, host)) {
        count++;
    }
    const struct limiter_host **hosts = calloc(count + 1, sizeof *hosts);
    json_t *list = hosts != NULL ? json_array() : NULL;
    if (list == NULL) {
        free(hosts);
        return NULL;
    }
    const struct limiter_host *host = NULL;
    for (size_t i = count; i > 0; i--) {
        host = limiter_next_host(limiter, host);
        hosts[i - 1] = host;
    }
    bool failed = false;
    for (size_t i = 0; i < count && !failed; i++) {
        failed = json_array_append_new(list, make_host(service, hosts[i], now_ns)) != 0;
    }
    free(hosts);
    if (failed) {
        json_decref(list);
        return NULL;
    }
    return list;
}

static json_t *make_connections(const struct report_service *service)
{
    struct document document = document_begin();
    put_count(&document, "client", service->client_connections);
    put_count(&document, "client_limit", service->client_connections_limit);
    put_count(&document, "upstream", service->upstream_connections);
    put_count(&document, "clients", service->door.clients);
    put_count(&document, "largest_client", service->door.largest);
    put_count(&document, "per_client_limit", service->door.client_limit);
    put_count(&document, "per_local_client_limit", service->door.local_client_limit);
    put_count(&document, "full_total", service->door.full_total);
    put_count(&document, "client_full_total", service->door.client_full_total);
    return document_end(&document);
}

static json_t *make_buffers(const struct report_buffers *buffers)
{
    struct document document = document_begin();
    put_count(&document, "bytes", buffers->bytes);
    put_count(&document, "limit_bytes", buffers->limit_bytes);
    put_count(&document, "peak_bytes", buffers->peak_bytes);
    put_count(&document, "scarce_total", buffers->scarce_total);
    put_count(&document, "full_total", buffers->full_total);
    put_count(&document, "head_bytes", buffers->head_bytes);
    put_count(&document, "head_limit_bytes", buffers->head_limit_bytes);
    return document_end(&document);
}

static json_t *make_auth(const struct report_auth *auth)
{
    struct document document = document_begin();
    put(&document, "clients", json_boolean(auth->clients));
    put_count(&document, "checking", auth->checking);
    put_count(&document, "waiting", auth->waiting);
    put_count(&document, "checks_total", auth->checks_total);
    put_count(&document, "refused_total", auth->refused_total);
    put_count(&document, "busy_total", auth->busy_total);
    return document_end(&document);
}

static json_t *make_totals(const struct report_service *service, const struct limiter *limiter,
                           uint64_t now_ns)
{
    struct limiter_totals totals;
    limiter_describe_totals(limiter, now_ns, &totals);

    struct document document = document_begin();
    put_count(&document, "limit", totals.limit);
    put_count(&document, "active", totals.active);
    put_count(&document, "peak_active", totals.peak_active);
    put_count(&document, "queued", totals.queued);
    put_count(&document, "peak_queued", totals.peak_queued);
    put_count(&document, "queue_limit", totals.queue_limit);
    put_ms(&document, "oldest_wait_ms", totals.oldest_wait_ns);
    put_count(&document, "hosts", totals.hosts);
    put_count(&document, "hosts_limit", totals.hosts_max);
    put_count(&document, "hosts_evicted_total", totals.evicted_total);
    put_count(&document, "hosts_full_total", totals.hosts_full_total);
    put_count(&document, "requests_total", service->requests_total);
    put_count(&document, "problems_total", service->problems_total);
    put_count(&document, "bytes_in_total", service->bytes_in_total);
    put_count(&document, "bytes_out_total", service->bytes_out_total);
    put_counters(&document, &totals.counters);
    return document_end(&document);
}

/* DOCUMENT, which it frees, as text that ends in a newline. */
static char *write_document(json_t *document, size_t *ret_bytes)
{
    char *text = document != NULL ? json_dumps(document, REPORT_FORMAT) : NULL;
    json_decref(document);
    if (text == NULL) {
        return NULL;
    }
    size_t bytes = strlen(text);
    char *grown = realloc(text, bytes + 2);
    if (grown == NULL) {
        free(text);
        return NULL;
    }
    memcpy(grown + bytes, "\n", 2);
    *ret_bytes = bytes + 1;
    return grown;
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

    struct document document = document_begin();
    put(&document, "version", json_string(service->version));
    put(&document, "uptime_seconds", make_decimal(service->uptime_ns, 1000000000));
    put(&document, "state", json_string(service_state(service->state)));
    put_count(&document, "config_generation", service->config_generation);
    put(&document, "connections", make_connections(service));
    put(&document, "buffers", make_buffers(&service->buffers));
    put(&document, "auth", make_auth(&service->auth));
    put(&document, "totals", make_totals(service, limiter, now_ns));
    put(&document, "hosts", make_hosts(service, limiter, now_ns));
    return write_document(document_end(&document), ret_bytes);
}

char *report_host(const struct report_service *service, const struct limiter_host *host,
                  uint64_t now_ns, size_t *ret_bytes)
{
    assert(service != NULL);
    assert(host != NULL);
    assert(ret_bytes != NULL);

    return write_document(make_host(service, host, now_ns), ret_bytes);
}

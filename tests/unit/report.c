/* Reports: every member of the documents, from a limiter that something happened in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/report.h"

#include <ctype.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define S  (1000 * MS)

static const char *const host_members[] = {
    "host",           "rule",
    "limit",          "active",
    "peak_active",    "queued",
    "peak_queued",    "queue_limit",
    "oldest_wait_ms", "idle_connections",
    "tunnels",        "state",
    "admitted_total", "completed_total",
    "rejected_total", "wait_ms",
    "service_ms",     NULL,
};

/* A limit of 2 by default, of 5 for x.example and its like together. */
static struct limiter *make_limiter(void)
{
    struct rules *rules =
        rules_create(&(struct rule){.limit = 2, .queue = 1, .queue_timeout_ns = 30 * S});
    assert_non_null(rules);
    const struct rule shared = {.name = "*.example.org",
                                .limit = 5,
                                .queue = 7,
                                .queue_timeout_ns = 30 * S,
                                .shared = true};
    assert_int_equal(rules_add(rules, &shared), RULES_ADDED);
    const struct limiter_bounds bounds = {.limit = 20, .queue = 30, .hosts_max = 40};
    struct limiter *limiter = limiter_create(rules, &bounds, 0);
    assert_non_null(limiter);
    return limiter;
}

static void host_connections(const struct limiter_host *host, uint32_t *ret_idle,
                             uint32_t *ret_tunnels)
{
    assert_non_null(host);
    *ret_idle = 4;
    *ret_tunnels = 6;
}

static struct report_service make_service(void)
{
    return (struct report_service){
        .version = "1.2.3",
        .state = REPORT_OK,
        .uptime_ns = 12345678901,
        .config_generation = 2,
        .client_connections = 3,
        .client_connections_limit = 10000,
        .upstream_connections = 5,
        .door = {2, 9, 1000, 10000, 11, 12},
        .buffers = {21, 22, 23, 24, 25, 26, 27},
        .auth = {true, 32, 33, 34, 35, 36},
        .requests_total = 100,
        .bytes_in_total = 1000,
        .bytes_out_total = 2000,
        .problems_total = 8,
        .host_connections = host_connections,
    };
}

static json_t *parse(char *text, size_t bytes)
{
    assert_non_null(text);
    assert_int_equal(bytes, strlen(text));
    assert_int_equal(text[bytes - 1], '\n');
    assert_int_not_equal(text[bytes - 2], '\n');
    json_t *document = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(document);
    free(text);
    return document;
}

static json_t *status_of(const struct report_service *service, const struct limiter *limiter,
                         uint64_t now_ns)
{
    size_t bytes = 0;
    char *text = report_status(service, limiter, now_ns, &bytes);
    return parse(text, bytes);
}

static json_t *host_of(const struct report_service *service, const struct limiter *limiter,
                       const char *name, uint64_t now_ns)
{
    struct limiter_host *host = limiter_find(limiter, name);
    assert_non_null(host);
    size_t bytes = 0;
    char *text = report_host(service, host, now_ns, &bytes);
    return parse(text, bytes);
}

/* The members of OBJECT are NAMES, in this order. */
static void check_members(const json_t *object, const char *const names[])
{
    assert_true(json_is_object(object));
    size_t i = 0;
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)object, name, value)
    {
        assert_non_null(names[i]);
        assert_string_equal(name, names[i]);
        i++;
    }
    assert_null(names[i]);
}

static void check_count(const json_t *object, const char *name, json_int_t expected)
{
    const json_t *value = json_object_get(object, name);
    assert_true(json_is_integer(value));
    assert_int_equal(json_integer_value(value), expected);
}

static void check_number(const json_t *object, const char *name, double expected)
{
    const json_t *value = json_object_get(object, name);
    assert_true(json_is_real(value));
    assert_true(fabs(json_real_value(value) - expected) < 0.0000001);
}

static void check_text(const json_t *object, const char *name, const char *expected)
{
    const json_t *value = json_object_get(object, name);
    assert_true(json_is_string(value));
    assert_string_equal(json_string_value(value), expected);
}

static void check_durations(const json_t *object, const char *name,
                            const struct histogram *histogram)
{
    static const char *const members[] = {"p50", "p95", "p99", "max", NULL};
    const json_t *durations = json_object_get(object, name);
    check_members(durations, members);
    static const double quantiles[] = {0.5, 0.95, 0.99};
    for (size_t i = 0; i < 3; i++) {
        double ms = (double)histogram_quantile_ns(histogram, quantiles[i]) / 1e6;
        const json_t *value = json_object_get(durations, members[i]);
        assert_true(fabs(json_real_value(value) - ms) <= 0.000501);
    }
    double max_ms = (double)histogram->max_ns / 1e6;
    assert_true(fabs(json_real_value(json_object_get(durations, "max")) - max_ms) <= 0.000501);
}

static void test_host(void **state)
{
    (void)state;
    struct limiter *limiter = make_limiter();
    struct report_service service = make_service();
    struct limiter_ticket tickets[4] = {0};
    uint64_t any = LIMITER_NEVER;
    assert_int_equal(limiter_acquire(limiter, "a.example", any, &tickets[0], 0), LIMITER_ADMITTED);
    assert_int_equal(limiter_acquire(limiter, "a.example", any, &tickets[1], 0), LIMITER_ADMITTED);
    assert_int_equal(limiter_acquire(limiter, "a.example", any, &tickets[2], 10 * MS),
                     LIMITER_QUEUED);
    assert_int_equal(limiter_acquire(limiter, "a.example", any, &tickets[3], 10 * MS),
                     LIMITER_QUEUE_FULL);
    limiter_count_rejection(limiter, "a.example", LIMITER_REJECTED_DENIED);
    limiter_count_rejection(limiter, "a.example", LIMITER_REJECTED_DRAINING);
    limiter_count_rejection(limiter, "a.example", LIMITER_REJECTED_DRAINING);

    json_t *host = host_of(&service, limiter, "a.example", 10 * MS + 1234567);
    check_members(host, host_members);
    check_text(host, "host", "a.example");
    check_text(host, "rule", "default");
    check_count(host, "limit", 2);
    check_count(host, "active", 2);
    check_count(host, "peak_active", 2);
    check_count(host, "queued", 1);
    check_count(host, "peak_queued", 1);
    check_count(host, "queue_limit", 1);
    check_number(host, "oldest_wait_ms", 1.235);
    check_count(host, "idle_connections", 4);
    check_count(host, "tunnels", 6);
    check_text(host, "state", "saturated");
    check_count(host, "admitted_total", 2);
    check_count(host, "completed_total", 0);
    const json_t *rejected = json_object_get(host, "rejected_total");
    static const char *const reasons[] = {"queue_full", "queue_timeout", "client_gone",
                                          "draining",   "denied",        NULL};
    check_members(rejected, reasons);
    check_count(rejected, "queue_full", 1);
    check_count(rejected, "queue_timeout", 0);
    check_count(rejected, "client_gone", 0);
    check_count(rejected, "draining", 2);
    check_count(rejected, "denied", 1);
    json_decref(host);

    limiter_release(limiter, &tickets[0], 100 * MS);
    assert_ptr_equal(limiter_poll(limiter, 100 * MS), &tickets[2]);
    limiter_release(limiter, &tickets[1], 100 * MS);
    limiter_release(limiter, &tickets[2], 103 * MS + 1500);
    host = host_of(&service, limiter, "a.example", 200 * MS);
    check_count(host, "active", 0);
    check_count(host, "peak_active", 2);
    check_count(host, "queued", 0);
    check_number(host, "oldest_wait_ms", 0);
    check_text(host, "state", "ok");
    check_count(host, "admitted_total", 3);
    check_count(host, "completed_total", 3);
    struct limiter_view view;
    limiter_describe(limiter_find(limiter, "a.example"), 200 * MS, &view);
    check_durations(host, "wait_ms", &view.counters->wait);
    check_durations(host, "service_ms", &view.counters->service);
    check_number(json_object_get(host, "wait_ms"), "max", 90);
    check_number(json_object_get(host, "service_ms"), "max", 100);
    json_decref(host);
    limiter_destroy(limiter);
}

static void test_host_states(void **state)
{
    (void)state;
    struct limiter *limiter = make_limiter();
    struct report_service service = make_service();
    struct limiter_ticket tickets[2] = {0};
    assert_int_equal(limiter_acquire(limiter, "a.example", LIMITER_NEVER, &tickets[0], 0),
                     LIMITER_ADMITTED);
    json_t *host = host_of(&service, limiter, "a.example", 0);
    check_text(host, "state", "ok");
    json_decref(host);

    assert_int_equal(limiter_acquire(limiter, "a.example", LIMITER_NEVER, &tickets[1], 0),
                     LIMITER_ADMITTED);
    host = host_of(&service, limiter, "a.example", 0);
    check_text(host, "state", "saturated");
    json_decref(host);

    service.state = REPORT_DRAINING;
    host = host_of(&service, limiter, "a.example", 0);
    check_text(host, "state", "draining");
    json_decref(host);

    service.host_connections = NULL;
    host = host_of(&service, limiter, "a.example", 0);
    check_count(host, "idle_connections", 0);
    check_count(host, "tunnels", 0);
    json_decref(host);

    limiter_release(limiter, &tickets[0], 0);
    limiter_release(limiter, &tickets[1], 0);
    limiter_destroy(limiter);
}

static void test_shared_host_has_the_rule_as_its_name(void **state)
{
    (void)state;
    struct limiter *limiter = make_limiter();
    struct report_service service = make_service();
    struct limiter_ticket ticket = {0};
    assert_int_equal(limiter_acquire(limiter, "a.example.org", LIMITER_NEVER, &ticket, 0),
                     LIMITER_ADMITTED);
    json_t *host = host_of(&service, limiter, "b.example.org", 0);
    check_text(host, "host", "*.example.org");
    check_text(host, "rule", "*.example.org");
    check_count(host, "limit", 5);
    check_count(host, "queue_limit", 7);
    json_decref(host);
    limiter_release(limiter, &ticket, 0);
    limiter_destroy(limiter);
}

static void test_status(void **state)
{
    (void)state;
    struct limiter *limiter = make_limiter();
    struct report_service service = make_service();
    static const char *const names[] = {"a.example", "b.example", "c.example:8443"};
    /* The first is used again, and so is the newest. */
    for (size_t i = 0; i < 4; i++) {
        struct limiter_ticket ticket = {0};
        assert_int_equal(limiter_acquire(limiter, names[i % 3], LIMITER_NEVER, &ticket, i * MS),
                         LIMITER_ADMITTED);
        limiter_release(limiter, &ticket, i * MS);
    }

    json_t *status = status_of(&service, limiter, 4 * MS);
    static const char *const members[] = {
        "version", "uptime_seconds", "state", "config_generation", "connections", "buffers", "auth",
        "totals",  "hosts",          NULL};
    check_members(status, members);
    check_text(status, "version", "1.2.3");
    check_number(status, "uptime_seconds", 12.346);
    check_text(status, "state", "ok");
    check_count(status, "config_generation", 2);
    const json_t *connections = json_object_get(status, "connections");
    check_count(connections, "client", 3);
    check_count(connections, "client_limit", 10000);
    check_count(connections, "upstream", 5);
    check_count(connections, "clients", 2);
    check_count(connections, "largest_client", 9);
    check_count(connections, "per_client_limit", 1000);
    check_count(connections, "per_local_client_limit", 10000);
    check_count(connections, "full_total", 11);
    check_count(connections, "client_full_total", 12);
    const json_t *buffers = json_object_get(status, "buffers");
    static const char *const buffers_members[] = {
        "bytes",      "limit_bytes", "peak_bytes",       "scarce_total",
        "full_total", "head_bytes",  "head_limit_bytes", NULL};
    check_members(buffers, buffers_members);
    for (size_t i = 0; buffers_members[i] != NULL; i++) {
        check_count(buffers, buffers_members[i], (json_int_t)i + 21);
    }
    const json_t *auth = json_object_get(status, "auth");
    static const char *const auth_members[] = {
        "clients", "checking", "waiting", "checks_total", "refused_total", "busy_total", NULL};
    check_members(auth, auth_members);
    assert_true(json_is_true(json_object_get(auth, "clients")));
    for (size_t i = 1; auth_members[i] != NULL; i++) {
        check_count(auth, auth_members[i], (json_int_t)i + 31);
    }

    const json_t *hosts = json_object_get(status, "hosts");
    assert_int_equal(json_array_size(hosts), 3);
    check_text(json_array_get(hosts, 0), "host", "a.example");
    check_text(json_array_get(hosts, 1), "host", "c.example:8443");
    check_text(json_array_get(hosts, 2), "host", "b.example");
    for (size_t i = 0; i < 3; i++) {
        check_members(json_array_get(hosts, i), host_members);
    }
    json_decref(status);
    limiter_destroy(limiter);
}

static void test_totals(void **state)
{
    (void)state;
    struct limiter *limiter = make_limiter();
    struct report_service service = make_service();
    struct limiter_ticket tickets[4] = {0};
    for (size_t i = 0; i < 3; i++) {
        (void)limiter_acquire(limiter, "a.example", LIMITER_NEVER, &tickets[i], 0);
    }
    (void)limiter_acquire(limiter, "b.example", LIMITER_NEVER, &tickets[3], 0);
    limiter_release(limiter, &tickets[2], 2 * MS); /* its client has gone */
    limiter_release(limiter, &tickets[3], 2 * MS);

    json_t *status = status_of(&service, limiter, 4 * MS);
    const json_t *totals = json_object_get(status, "totals");
    static const char *const members[] = {"limit",
                                          "active",
                                          "peak_active",
                                          "queued",
                                          "peak_queued",
                                          "queue_limit",
                                          "oldest_wait_ms",
                                          "hosts",
                                          "hosts_limit",
                                          "hosts_evicted_total",
                                          "hosts_full_total",
                                          "requests_total",
                                          "problems_total",
                                          "bytes_in_total",
                                          "bytes_out_total",
                                          "admitted_total",
                                          "completed_total",
                                          "rejected_total",
                                          "wait_ms",
                                          "service_ms",
                                          NULL};
    check_members(totals, members);
    check_count(totals, "limit", 20);
    check_count(totals, "active", 2);
    check_count(totals, "peak_active", 3);
    check_count(totals, "queued", 0);
    check_count(totals, "peak_queued", 1);
    check_count(totals, "queue_limit", 30);
    check_number(totals, "oldest_wait_ms", 0);
    check_count(totals, "hosts", 2);
    check_count(totals, "hosts_limit", 40);
    check_count(totals, "hosts_evicted_total", 0);
    check_count(totals, "hosts_full_total", 0);
    check_count(totals, "requests_total", 100);
    check_count(totals, "problems_total", 8);
    check_count(totals, "bytes_in_total", 1000);
    check_count(totals, "bytes_out_total", 2000);
    check_count(totals, "admitted_total", 3);
    check_count(totals, "completed_total", 1);
    check_count(json_object_get(totals, "rejected_total"), "client_gone", 1);
    check_number(json_object_get(totals, "service_ms"), "max", 2);
    check_number(json_object_get(totals, "wait_ms"), "max", 0);
    json_decref(status);
    limiter_release(limiter, &tickets[0], 5 * MS);
    limiter_release(limiter, &tickets[1], 5 * MS);
    limiter_destroy(limiter);
}

static void test_status_without_hosts(void **state)
{
    (void)state;
    struct limiter *limiter = make_limiter();
    struct report_service service = make_service();
    static const char *const words[] = {"starting", "ok", "draining"};
    for (unsigned i = 0; i < 3; i++) {
        service.state = (enum report_state)i;
        json_t *status = status_of(&service, limiter, 0);
        check_text(status, "state", words[i]);
        assert_true(json_is_array(json_object_get(status, "hosts")));
        assert_int_equal(json_array_size(json_object_get(status, "hosts")), 0);
        json_decref(status);
    }
    limiter_destroy(limiter);
}

/* Whatever the times are, no number is written with more than three decimals or an exponent. */
static void test_decimals(void **state)
{
    (void)state;
    struct limiter *limiter = make_limiter();
    struct report_service service = make_service();
    uint64_t now_ns = 0;
    for (uint64_t step_ns = 1; step_ns < UINT64_C(1) << 62; step_ns = step_ns * 3 + 7) {
        struct limiter_ticket ticket = {0};
        assert_int_equal(limiter_acquire(limiter, "a.example", LIMITER_NEVER, &ticket, now_ns),
                         LIMITER_ADMITTED);
        now_ns += step_ns;
        limiter_release(limiter, &ticket, now_ns);
        service.uptime_ns = step_ns;
        size_t bytes;
        char *text = report_status(&service, limiter, now_ns, &bytes);
        assert_non_null(text);
        /* Behind ": " a number begins; names and addresses do not come there without quotes. */
        for (const char *at = strstr(text, "\": "); at != NULL; at = strstr(at + 3, "\": ")) {
            const char *number = at + 3;
            if (!isdigit((unsigned char)*number)) {
                continue;
            }
            number += strspn(number, "0123456789");
            if (*number == '.') {
                size_t decimals = strspn(number + 1, "0123456789");
                assert_in_range(decimals, 1, 3);
                number += 1 + decimals;
            }
            assert_true(*number == ',' || *number == '}' || *number == '\n');
        }
        free(text);
    }
    limiter_destroy(limiter);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_host),
        cmocka_unit_test(test_host_states),
        cmocka_unit_test(test_shared_host_has_the_rule_as_its_name),
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_totals),
        cmocka_unit_test(test_status_without_hosts),
        cmocka_unit_test(test_decimals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

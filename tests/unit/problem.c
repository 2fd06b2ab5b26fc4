/* Problems: the table, the JSON body, and the Proxy-Status value. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/problem.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static struct problem_report report_of(enum problem problem)
{
    return (struct problem_report){
        .problem = problem, .overflow_status = 503, .queued = -1, .limit = -1};
}

static json_t *body_of(const struct problem_report *report)
{
    size_t bytes = 0;
    char *text = problem_body(report, &bytes);
    assert_non_null(text);
    assert_int_equal(bytes, strlen(text));
    json_t *body = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(body);
    free(text);
    return body;
}

/* The whole table, line by line. */
static void test_table(void **state)
{
    (void)state;
    static const struct {
        enum problem problem;
        const char *word;
        unsigned status;
        const char *proxy_status;
        bool overflow;
        bool retry;
    } cases[] = {
        {PROBLEM_BAD_REQUEST, "bad_request", 400, "http_request_error", false, false},
        {PROBLEM_BAD_TARGET, "bad_target", 400, "http_request_error", false, false},
        {PROBLEM_EXPECTATION_FAILED, "expectation_failed", 417, "http_request_error", false, false},
        {PROBLEM_AUTH_REQUIRED, "auth_required", 407, "http_request_denied", false, false},
        {PROBLEM_ADMIN_AUTH_REQUIRED, "auth_required", 401, "http_request_denied", false, false},
        {PROBLEM_ADMIN_DENIED, "denied", 403, "http_request_denied", false, false},
        {PROBLEM_AUTH_BUSY, "auth_busy", 503, "connection_limit_reached", true, true},
        {PROBLEM_DENIED_NAME, "denied", 403, "http_request_denied", false, false},
        {PROBLEM_DENIED_ADDRESS, "denied", 403, "destination_ip_prohibited", false, false},
        {PROBLEM_UNKNOWN_UPSTREAM, "unknown_upstream", 404, NULL, false, false},
        {PROBLEM_NOT_FOUND, "not_found", 404, NULL, false, false},
        {PROBLEM_METHOD_NOT_ALLOWED, "method_not_allowed", 405, NULL, false, false},
        {PROBLEM_BODY_TOO_LARGE, "body_too_large", 413, "http_request_error", false, false},
        {PROBLEM_HEADER_TOO_LARGE, "header_too_large", 431, "http_request_error", false, false},
        {PROBLEM_LOOP, "loop", 508, "proxy_loop_detected", false, false},
        {PROBLEM_QUEUE_FULL, "queue_full", 503, "connection_limit_reached", true, true},
        {PROBLEM_QUEUE_TIMEOUT, "queue_timeout", 503, "connection_limit_reached", true, true},
        {PROBLEM_HOSTS_FULL, "hosts_full", 503, "connection_limit_reached", true, true},
        {PROBLEM_BUFFERS_FULL, "buffers_full", 503, "connection_limit_reached", true, true},
        {PROBLEM_CLIENT_FULL, "client_full", 503, "connection_limit_reached", true, true},
        {PROBLEM_DRAINING, "draining", 503, "destination_unavailable", false, true},
        {PROBLEM_PAUSED, "paused", 503, "destination_unavailable", false, true},
        {PROBLEM_DNS_ERROR, "dns_error", 502, "dns_error", false, false},
        {PROBLEM_DNS_TIMEOUT, "dns_timeout", 504, "dns_timeout", false, false},
        {PROBLEM_CONNECTION_REFUSED, "connection_refused", 502, "connection_refused", false, false},
        {PROBLEM_CONNECTION_TIMEOUT, "connection_timeout", 504, "connection_timeout", false, false},
        {PROBLEM_TLS_CERTIFICATE_ERROR, "tls_certificate_error", 502, "tls_certificate_error",
         false, false},
        {PROBLEM_TLS_PROTOCOL_ERROR, "tls_protocol_error", 502, "tls_protocol_error", false, false},
        {PROBLEM_UPSTREAM_TIMEOUT, "upstream_timeout", 504, "http_response_timeout", false, false},
        {PROBLEM_UPSTREAM_INCOMPLETE, "upstream_incomplete", 502, "http_response_incomplete", false,
         false},
        {PROBLEM_UPSTREAM_PROTOCOL_ERROR, "upstream_protocol_error", 502, "http_protocol_error",
         false, false},
        {PROBLEM_INTERNAL, "internal", 500, "proxy_internal_error", false, false},
    };
    assert_int_equal(COUNT_OF(cases), PROBLEM_COUNT - 1);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(cases[i].problem, i + 1);
        const struct problem_kind *kind = problem_kind(cases[i].problem);
        assert_string_equal(kind->word, cases[i].word);
        assert_int_equal(kind->status, cases[i].status);
        if (cases[i].proxy_status == NULL) {
            assert_null(kind->proxy_status);
        } else {
            assert_string_equal(kind->proxy_status, cases[i].proxy_status);
        }
        assert_int_equal(kind->overflow, cases[i].overflow);
        assert_int_equal(kind->retry, cases[i].retry);
        size_t title_bytes = strlen(kind->title);
        assert_in_range(title_bytes, 10, 60);
        assert_int_equal(kind->title[title_bytes - 1], '.');
    }
}

static void test_overflow_status(void **state)
{
    (void)state;
    assert_int_equal(problem_status(PROBLEM_QUEUE_FULL, 503), 503);
    assert_int_equal(problem_status(PROBLEM_QUEUE_FULL, 429), 429);
    assert_int_equal(problem_status(PROBLEM_QUEUE_TIMEOUT, 429), 429);
    assert_int_equal(problem_status(PROBLEM_HOSTS_FULL, 429), 429);
    assert_int_equal(problem_status(PROBLEM_DRAINING, 429), 503);
    assert_int_equal(problem_status(PROBLEM_BAD_REQUEST, 429), 400);
}

static void test_body_with_everything(void **state)
{
    (void)state;
    struct problem_report report = {
        .problem = PROBLEM_QUEUE_FULL,
        .overflow_status = 429,
        .detail = "5 requests wait for a.example, as many as may.",
        .host = "a.example",
        .queued = 5,
        .limit = 3,
    };
    size_t bytes;
    char *text = problem_body(&report, &bytes);
    assert_string_equal(text, "{\"type\": \"urn:weir:problem:queue_full\", "
                              "\"title\": \"The queue is full.\", \"status\": 429, "
                              "\"detail\": \"5 requests wait for a.example, as many as may.\", "
                              "\"host\": \"a.example\", \"queued\": 5, \"limit\": 3}");
    assert_int_equal(bytes, strlen(text));
    free(text);
}

static void test_body_leaves_out_what_there_is_not(void **state)
{
    (void)state;
    struct problem_report report = report_of(PROBLEM_NOT_FOUND);
    size_t bytes;
    char *text = problem_body(&report, &bytes);
    assert_string_equal(text, "{\"type\": \"urn:weir:problem:not_found\", "
                              "\"title\": \"There is nothing here.\", \"status\": 404}");
    free(text);

    report.queued = 0; /* there is a queue, and nobody in it */
    json_t *body = body_of(&report);
    assert_true(json_is_integer(json_object_get(body, "queued")));
    assert_null(json_object_get(body, "limit"));
    json_decref(body);
}

static void test_body_is_utf8_whatever_the_detail(void **state)
{
    (void)state;
    static const struct {
        const char *detail;
        const char *safe;
    } cases[] = {
        {"plain", "plain"},
        {"two\nlines \"quoted\" \x01", "two\nlines \"quoted\" \x01"},
        {"M\xc3\xbcnchen \xe2\x82\xac \xf0\x9f\x98\x80",
         "M\xc3\xbcnchen \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"\xff", "?"},
        {"a\x80z", "a?z"},
        {"a\xc3", "a?"},
        {"a\xc3(", "a?("},
        {"\xc0\xaf", "??"},                       /* overlong */
        {"\xe0\x80\xaf", "???"},                  /* overlong */
        {"\xf0\x80\x80\xaf", "????"},             /* overlong */
        {"\xed\xa0\x80", "???"},                  /* a surrogate */
        {"\xf4\x90\x80\x80", "????"},             /* past the last code point */
        {"\xf5\x80\x80\x80", "????"},             /* past the last code point */
        {"\xe2\x82", "??"},                       /* cut off */
        {"\xf0\x9f\x98", "???"},                  /* cut off */
        {"\xed\x9f\xbf", "\xed\x9f\xbf"},         /* the last before the surrogates */
        {"\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf"}, /* the last there is */
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct problem_report report = report_of(PROBLEM_BAD_REQUEST);
        report.detail = cases[i].detail;
        report.host = cases[i].detail;
        json_t *body = body_of(&report);
        assert_string_equal(json_string_value(json_object_get(body, "detail")), cases[i].safe);
        assert_string_equal(json_string_value(json_object_get(body, "host")), cases[i].safe);
        json_decref(body);
    }
}

/* Every string of four bytes out of those that matter: jansson accepts all that is made. */
static void test_body_of_any_bytes(void **state)
{
    (void)state;
    static const unsigned char bytes[] = {'a',  0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc1,
                                          0xc2, 0xdf, 0xe0, 0xe1, 0xed, 0xef, 0xf0, 0xf4, 0xf5};
    const size_t count = COUNT_OF(bytes);
    for (size_t i = 0; i < count * count * count * count; i++) {
        char detail[5] = {(char)bytes[i % count], (char)bytes[i / count % count],
                          (char)bytes[i / count / count % count],
                          (char)bytes[i / count / count / count], '\0'};
        struct problem_report report = report_of(PROBLEM_BAD_REQUEST);
        report.detail = detail;
        size_t body_bytes;
        char *text = problem_body(&report, &body_bytes);
        assert_non_null(text);
        free(text);
    }
}

static void check_proxy_status(enum problem problem, const char *detail, const char *expected)
{
    struct problem_report report = report_of(problem);
    report.detail = detail;
    char *value = problem_proxy_status(&report);
    assert_non_null(value);
    assert_string_equal(value, expected);
    free(value);
}

static void test_proxy_status(void **state)
{
    (void)state;
    check_proxy_status(PROBLEM_QUEUE_FULL, "5 wait.",
                       "weir; error=connection_limit_reached; details=\"queue_full: 5 wait.\"");
    check_proxy_status(PROBLEM_DNS_ERROR, NULL, "weir; error=dns_error; details=\"dns_error\"");
    check_proxy_status(PROBLEM_NOT_FOUND, "Nothing.", "weir; details=\"not_found: Nothing.\"");
    check_proxy_status(PROBLEM_NOT_FOUND, "a \"b\" c:\\d",
                       "weir; details=\"not_found: a \\\"b\\\" c:\\\\d\"");
    check_proxy_status(PROBLEM_NOT_FOUND, "\r\nSet-Cookie: a=b\x7f M\xc3\xbcnchen",
                       "weir; details=\"not_found: ??Set-Cookie: a=b? M??nchen\"");
}

/* A long detail is cut, never in the middle of an escape, and the value stays closed. */
static void test_proxy_status_is_bounded(void **state)
{
    (void)state;
    for (size_t plain = 200; plain < 400; plain++) {
        char detail[512];
        memset(detail, 'x', plain);
        memset(detail + plain, '"', sizeof detail - plain - 1);
        detail[sizeof detail - 1] = '\0';
        struct problem_report report = report_of(PROBLEM_NOT_FOUND);
        report.detail = detail;
        char *value = problem_proxy_status(&report);
        assert_non_null(value);
        size_t bytes = strlen(value);
        assert_in_range(bytes, 299, 300);
        assert_int_equal(value[bytes - 1], '"');
        size_t backslashes = 0;
        while (value[bytes - 2 - backslashes] == '\\') {
            backslashes++;
        }
        assert_int_equal(backslashes % 2, 0);
        free(value);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_overflow_status),
        cmocka_unit_test(test_body_with_everything),
        cmocka_unit_test(test_body_leaves_out_what_there_is_not),
        cmocka_unit_test(test_body_is_utf8_whatever_the_detail),
        cmocka_unit_test(test_body_of_any_bytes),
        cmocka_unit_test(test_proxy_status),
        cmocka_unit_test(test_proxy_status_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

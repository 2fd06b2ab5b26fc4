/* The head of a CONNECT request: where it ends, what it says, where it leads. */
#include "api/connect.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

static struct origin_cache *origins;

static int set_up(void **state)
{
    (void)state;
    origins = origin_cache_create(8);
    return origins != NULL ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    origin_cache_destroy(origins);
    return 0;
}

/* Wherever the bytes are cut, the end is found at the same place and not before it. */
static void test_scan_in_pieces(void **state)
{
    (void)state;
    static const char text[] = "CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\nearly\r\n\r\n";
    size_t whole = (size_t)(strstr(text, "early") - text);
    for (size_t step = 1; step < sizeof text; step++) {
        struct connect_scan scan = {0};
        for (size_t bytes = step; bytes < whole; bytes += step) {
            size_t found = 0;
            assert_int_equal(connect_scan(&scan, text, bytes, &found), CONNECT_PARTIAL);
        }
        size_t found = 0;
        assert_int_equal(connect_scan(&scan, text, sizeof text - 1, &found), CONNECT_WHOLE);
        assert_int_equal(found, whole);
    }
}

static void test_scan_broken(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "\n",
        "CONNECT h:443 HTTP/1.1\n",
        "CONNECT h:443 HTTP/1.1\n\n",
        "CONNECT h:443 HTTP/1.1\r\n\n",
        "CONNECT h:443 HTTP/1.1\r\nHost: h\n\r\n",
        "CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\n",
    };
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct connect_scan scan = {0};
        size_t found = 0;
        assert_int_equal(connect_scan(&scan, texts[i], strlen(texts[i]), &found), CONNECT_BROKEN);
    }
}

static void test_parse(void **state)
{
    (void)state;
    static const char text[] = "CONNECT Example.com:443 HTTP/1.1\r\nHost: a\r\nEmpty:\r\n"
                               "Weir-Queue-Timeout: \t5s \r\n\r\n";
    struct connect_head head;
    const char *detail = NULL;
    assert_int_equal(connect_parse(text, sizeof text - 1, &head, &detail), PROBLEM_NONE);
    assert_int_equal(head.target_bytes, strlen("Example.com:443"));
    assert_memory_equal(head.target, "Example.com:443", head.target_bytes);
    assert_string_equal(head.request.method, "CONNECT");
    assert_false(head.request.http_1_0);
    assert_int_equal(head.request.count, 3);
    assert_true(headers_is(&head.request.fields[0], "host"));
    assert_int_equal(head.request.fields[1].value_bytes, 0);
    assert_int_equal(head.request.fields[2].value_bytes, 2);
    assert_memory_equal(head.request.fields[2].value, "5s", 2);
    struct headers_request_facts facts;
    assert_int_equal(headers_check_request(&head.request, NULL, &facts, &detail), PROBLEM_NONE);
    assert_int_equal(facts.queue_timeout_ns, UINT64_C(5000000000));
    connect_finish(&head);
}

static void test_parse_http_1_0_without_fields(void **state)
{
    (void)state;
    static const char text[] = "CONNECT h:1 HTTP/1.0\r\n\r\n";
    struct connect_head head;
    const char *detail = NULL;
    assert_int_equal(connect_parse(text, sizeof text - 1, &head, &detail), PROBLEM_NONE);
    assert_true(head.request.http_1_0);
    assert_int_equal(head.request.count, 0);
    connect_finish(&head);
}

static void test_parse_bad(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *reason;
    } bad[] = {
        {"\r\n", "request line"},
        {"CONNECT\r\n\r\n", "request line"},
        {"CONNECT \r\n\r\n", "request line"},
        {"CONNECT h:443\r\n\r\n", "request line"},
        {"CONNECT h:443 \r\n\r\n", "request line"},
        {"CONNECT  h:443 HTTP/1.1\r\n\r\n", "request line"},
        {"CONNECT h:443  HTTP/1.1\r\n\r\n", "request line"},
        {"CONNECT h:443 HTTP/1.1 \r\n\r\n", "request line"},
        {"CONNECT h:443 HTTP/1.2\r\n\r\n", "request line"},
        {"CONNECT h:443 HTTP/2.0\r\n\r\n", "request line"},
        {"CONNECT h:443 http/1.1\r\n\r\n", "request line"},
        {"CONNECT h:443 HTTP/1.1\r\r\n\r\n", "request line"},
        {"CONNECT h:443\tHTTP/1.1\r\n\r\n", "request line"},
        {"CONNECT h\x01:443 HTTP/1.1\r\n\r\n", "request line"},
        {"CONNECT h\r:443 HTTP/1.1\r\n\r\n", "request line"},
        {"connect h:443 HTTP/1.1\r\n\r\n", "request line"},
        {"CONNECT h:443 HTTP/1.1\r\nHost\r\n\r\n", "header field"},
        {"CONNECT h:443 HTTP/1.1\r\nHost : h\r\n\r\n", "header field"},
        {"CONNECT h:443 HTTP/1.1\r\n: h\r\n\r\n", "header field"},
        {"CONNECT h:443 HTTP/1.1\r\n Host: h\r\n\r\n", "header field"},
        {"CONNECT h:443 HTTP/1.1\r\nHost: h\r\n folded: x\r\n\r\n", "header field"},
        {"CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\tfolded\r\n\r\n", "header field"},
        {"CONNECT h:443 HTTP/1.1\r\nHo st: h\r\n\r\n", "header field"},
        {"CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\r\n\r\n", "header field"},
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct connect_head head;
        const char *detail = NULL;
        enum problem problem = connect_parse(bad[i].text, strlen(bad[i].text), &head, &detail);
        if (problem != PROBLEM_BAD_REQUEST || strstr(detail, bad[i].reason) == NULL) {
            fail_msg("%s: expected its %s refused, found problem %d: %s", bad[i].text,
                     bad[i].reason, (int)problem, detail != NULL ? detail : "no detail");
        }
    }
}

static void test_authority(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *name;
        const char *host;
        unsigned port;
    } good[] = {
        {"example.com:443", "example.com", "example.com", 443},
        {"EXAMPLE.com.:443", "example.com", "example.com", 443},
        {"example.com:80", "example.com", "example.com", 80},
        {"example.com:8443", "example.com", "example.com:8443", 8443},
        {"h:1", "h", "h:1", 1},
        {"h:65535", "h", "h:65535", 65535},
        {"127.0.0.1:443", "127.0.0.1", "127.0.0.1", 443},
        {"0x7f.1:9", "127.0.0.1", "127.0.0.1:9", 9},
        {"2130706433:443", "127.0.0.1", "127.0.0.1", 443},
        {"[::1]:443", "::1", "[::1]", 443},
        {"[0:0::1]:8443", "::1", "[::1]:8443", 8443},
    };
    for (size_t i = 0; i < COUNT(good); i++) {
        struct origin *origin = NULL;
        const char *detail = "none";
        enum problem problem =
            connect_parse_authority(origins, good[i].text, strlen(good[i].text), &origin, &detail);
        if (problem != PROBLEM_NONE) {
            fail_msg("%s: %s", good[i].text, detail);
        }
        assert_string_equal(origin->name, good[i].name);
        assert_string_equal(origin->host, good[i].host);
        assert_int_equal(origin->port, good[i].port);
        origin_release(origin);
    }
}

static void check_bad_authority(const char *text, const char *reason)
{
    struct origin *origin = NULL;
    const char *detail = NULL;
    enum problem problem = connect_parse_authority(origins, text, strlen(text), &origin, &detail);
    if (problem != PROBLEM_BAD_TARGET || detail == NULL || strstr(detail, reason) == NULL) {
        fail_msg("%s: expected its %s refused, found problem %d: %s", text, reason, (int)problem,
                 detail != NULL ? detail : "no detail");
    }
    assert_null(origin);
}

static void test_authority_bad(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *reason;
    } bad[] = {
        {"", "HOST:PORT"},
        {"h", "port"},
        {"h:", "port"},
        {":443", "HOST:PORT"},
        {"443", "port"},
        {"h:0", "port"},
        {"h:65536", "port"},
        {"h:65979", "port"}, /* 443 modulo 65536 */
        {"h:4294967739", "port"},
        {"h:18446744073709552059", "port"},
        {"h:-1", "port"},
        {"h:+443", "port"},
        {"h:0x1bb", "port"},
        {"h:https", "port"},
        {"h:443:443", ""},
        {"[::1]", "port"},
        {"[::1]:", "port"},
        {"::1:443", ""},
        {"[::1:443", ""},
        {"[::1%25eth0]:443", "percent"},
        {"[::g]:443", ""},
        {"[]:443", ""},
        {"h%41:443", "percent"},
        {"user@h:443", "HOST:PORT"},
        {"user:pass@h:443", "HOST:PORT"},
        {"http://h:443", "HOST:PORT"},
        {"h:443/", "HOST:PORT"},
        {"/:443", "HOST:PORT"},
        {"h?:443", ""},
        {"h#:443", ""},
        {"a..b:443", "label"},
        {"h\\:443", "character"},
        {"h\xc3\xa4:443", "ASCII"},
        {"1.2.3.256:443", "number"},
        {"*:443", "character"},
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        check_bad_authority(bad[i].text, bad[i].reason);
    }
}

static void test_authority_length(void **state)
{
    (void)state;
    char text[2048];
    struct origin *origin = NULL;
    const char *detail = NULL;
    memset(text, 'a', sizeof text);
    for (size_t i = 63; i < 254; i += 64) {
        text[i] = '.';
    }
    snprintf(text + 253, sizeof text - 253, ":443");
    assert_int_equal(connect_parse_authority(origins, text, strlen(text), &origin, &detail),
                     PROBLEM_NONE);
    assert_int_equal(strlen(origin->name), 253);
    origin_release(origin);
    snprintf(text + 253, sizeof text - 253, "a:443");
    check_bad_authority(text, "253");
    memset(text, 'a', 2000);
    snprintf(text + 2000, sizeof text - 2000, ":443");
    check_bad_authority(text, "253");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scan_in_pieces), cmocka_unit_test(test_scan_broken),
        cmocka_unit_test(test_parse),          cmocka_unit_test(test_parse_http_1_0_without_fields),
        cmocka_unit_test(test_parse_bad),      cmocka_unit_test(test_authority),
        cmocka_unit_test(test_authority_bad),  cmocka_unit_test(test_authority_length),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

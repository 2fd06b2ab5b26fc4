/*
 * The configuration's file: every kind of error word for word, with its line and its key, and where
 * a value is in a text. Texts are read from memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/config_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

#define ADDRESS \
    "expected an address and port such as 127.0.0.1:8080 or [::1]:8080, or unix:/path/of/a/socket"
#define HOST \
    "expected a host such as api.example.com, api.example.com:8443, [::1]:8443 or *.example.org"
#define DURATION "expected a duration such as \"250ms\", \"5s\", \"2m\" or \"1h\", or 0"
#define ABOVE_0  "expected a duration above 0 such as \"250ms\", \"5s\", \"2m\" or \"1h\""

#define ROOT(key)                                                                                  \
    "f:1: " key                                                                                    \
    ": unknown key, expected one of listen, socket_mode, admin, auth, limits, egress, "            \
    "overflow_status, connections, connections_per_client, buffer_bytes, header_bytes, timeouts, " \
    "log, tls, upstreams"

struct bad {
    const char *text;
    const char *error;
};

static void check_bad(const struct bad *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct config_draft *draft = config_draft_create();
        char *error = NULL;
        assert_non_null(draft);
        assert_false(config_file_parse("f", cases[i].text, strlen(cases[i].text), draft, &error));
        assert_non_null(error);
        assert_string_equal(error, cases[i].error);
        free(error);
        config_draft_destroy(draft);
    }
}

static void test_unknown_keys(void **state)
{
    (void)state;
    static const struct bad cases[] = {
        {"{\"limit\": 3}", ROOT("limit")},
        {"{\n\"limits\": {\n\"defalt\":\n{}}}",
         "f:3: limits.defalt: unknown key, expected one of default, total, hosts, hosts_max"},
        {"{\"admin\": {\"port\": 1}}",
         "f:1: admin.port: unknown key, expected one of listen, socket_mode"},
        {"{\"limits\": {\"default\": {\"scope\": \"each\"}}}",
         "f:1: limits.default.scope: unknown key, expected one of limit, queue, queue_timeout"},
        {"{\"limits\": {\"total\": {\"queue_timeout\": 0}}}",
         "f:1: limits.total.queue_timeout: unknown key, expected one of limit, queue"},
        {"{\"limits\": {\"hosts\": {\"a.b\": {\"max\": 0}}}}",
         "f:1: limits.hosts.\"a.b\".max: unknown key, expected one of limit, queue, "
         "queue_timeout, scope"},
        {"{\"timeouts\": {\"queue\": 0}}",
         "f:1: timeouts.queue: unknown key, expected one of head, keepalive, connect, first_byte, "
         "upstream_idle, client_idle, fetch, upstream_keepalive, drain, tunnel_idle, "
         "tunnel_max_age, tunnel_idle_contended"},
        {"{\"log\": {\"format\": 0}}",
         "f:1: log.format: unknown key, expected one of access, level"},
        {"{\"tls\": {\"ca\": 0}}",
         "f:1: tls.ca: unknown key, expected one of ca_file, minimum_version, "
         "hosts"},
        {"{\"\": 1}", ROOT("\"\"")},
    };
    check_bad(cases, COUNT_OF(cases));
}

static void test_counts(void **state)
{
    (void)state;
    static const struct bad cases[] = {
        {"{\"connections\": 0}",
         "f:1: connections: expected a whole number from 1 to 1000000, found 0"},
        {"{\"connections\": 1000001}",
         "f:1: connections: expected a whole number from 1 to 1000000, found 1000001"},
        {"{\"connections\": -5}",
         "f:1: connections: expected a whole number from 1 to 1000000, found -5"},
        {"{\"connections\": 3.5}",
         "f:1: connections: expected a whole number from 1 to 1000000, found 3.5"},
        {"{\"connections\": 1e3}",
         "f:1: connections: expected a whole number from 1 to 1000000, found 1000.0"},
        {"{\"connections\": \"3\"}",
         "f:1: connections: expected a whole number from 1 to 1000000, found \"3\""},
        {"{\"connections\": true}",
         "f:1: connections: expected a whole number from 1 to 1000000, found true"},
        {"{\"connections\": false}",
         "f:1: connections: expected a whole number from 1 to 1000000, found false"},
        {"{\"connections\": null}",
         "f:1: connections: expected a whole number from 1 to 1000000, found null"},
        {"{\"connections\": [1]}",
         "f:1: connections: expected a whole number from 1 to 1000000, found an array"},
        {"{\"connections\": {}}",
         "f:1: connections: expected a whole number from 1 to 1000000, found an object"},
        {"{\"connections\": 4294967297}",
         "f:1: connections: expected a whole number from 1 to 1000000, found 4294967297"},
        {"{\"header_bytes\": 4095}",
         "f:1: header_bytes: expected a whole number from 4096 to 65536, found 4095"},
        {"{\"header_bytes\": 65537}",
         "f:1: header_bytes: expected a whole number from 4096 to 65536, found 65537"},
        {"{\"limits\": {\"hosts_max\": 0}}",
         "f:1: limits.hosts_max: expected a whole number from 1 to 1000000, found 0"},
        {"{\"limits\": {\"total\": {\"limit\": 0}}}",
         "f:1: limits.total.limit: expected a whole number from 1 to 1000000, found 0"},
        {"{\"limits\": {\"total\": {\"queue\": -1}}}",
         "f:1: limits.total.queue: expected a whole number from 0 to 1000000, found -1"},
        {"{\"limits\": {\"default\": {\"limit\": 0}}}",
         "f:1: limits.default.limit: expected a whole number from 1 to 1000000, found 0"},
        {"{\"limits\": {\"default\": {\"queue\": -1}}}",
         "f:1: limits.default.queue: expected a whole number from 0 to 1000000, found -1"},
        {"{\"overflow_status\": 500}", "f:1: overflow_status: expected 503 or 429, found 500"},
        {"{\"overflow_status\": \"503\"}",
         "f:1: overflow_status: expected 503 or 429, found \"503\""},
    };
    check_bad(cases, COUNT_OF(cases));
}

static void test_durations(void **state)
{
    (void)state;
    static const struct bad cases[] = {
        {"{\"limits\": {\"default\": {\"queue_timeout\": 30}}}",
         "f:1: limits.default.queue_timeout: " DURATION ", found 30"},
        {"{\"limits\": {\"default\": {\"queue_timeout\": \"30\"}}}",
         "f:1: limits.default.queue_timeout: " DURATION ", found \"30\""},
        {"{\"timeouts\": {\"head\": 0}}", "f:1: timeouts.head: " ABOVE_0 ", found 0"},
        {"{\"timeouts\": {\"keepalive\": 0}}", "f:1: timeouts.keepalive: " ABOVE_0 ", found 0"},
        {"{\"timeouts\": {\"connect\": \"0s\"}}",
         "f:1: timeouts.connect: " ABOVE_0 ", found \"0s\""},
        {"{\"timeouts\": {\"first_byte\": 0}}", "f:1: timeouts.first_byte: " ABOVE_0 ", found 0"},
        {"{\"timeouts\": {\"upstream_idle\": 0}}",
         "f:1: timeouts.upstream_idle: " ABOVE_0 ", found 0"},
        {"{\"timeouts\": {\"client_idle\": 0}}", "f:1: timeouts.client_idle: " ABOVE_0 ", found 0"},
        {"{\"timeouts\": {\"upstream_keepalive\": 0}}",
         "f:1: timeouts.upstream_keepalive: " ABOVE_0 ", found 0"},
        {"{\"timeouts\": {\"fetch\": \"9999h\"}}",
         "f:1: timeouts.fetch: " DURATION ", found \"9999h\""},
        {"{\"timeouts\": {\"drain\": false}}", "f:1: timeouts.drain: " DURATION ", found false"},
    };
    check_bad(cases, COUNT_OF(cases));
}

static void test_words_and_objects(void **state)
{
    (void)state;
    static const struct bad cases[] = {
        {"{\"log\": {\"access\": \"xml\"}}",
         "f:1: log.access: expected \"json\" or \"none\", found \"xml\""},
        {"{\"log\": {\"level\": 1}}",
         "f:1: log.level: expected \"error\", \"warning\" or \"info\", found 1"},
        {"{\"limits\": {\"hosts\": {\"*.a.b\": {\"scope\": \"all\"}}}}",
         "f:1: limits.hosts.\"*.a.b\".scope: expected \"each\" or \"shared\", found \"all\""},
        {"{\"log\": \"json\"}", "f:1: log: expected an object, found \"json\""},
        {"{\"limits\": 3}", "f:1: limits: expected an object, found 3"},
        {"{\"limits\": {\"default\": 3}}", "f:1: limits.default: expected an object, found 3"},
        {"{\"limits\": {\"hosts\": []}}",
         "f:1: limits.hosts: expected an object, found an empty array"},
        {"{\"limits\": {\"hosts\": {\"a\": 3}}}",
         "f:1: limits.hosts.a: expected an object, found 3"},
        {"[]", "f:1: expected an object, found an empty array"},
        {"{\"tls\": {\"ca_file\": \"/nowhere/ca.pem\"}}",
         "f:1: tls.ca_file: expected the path of a file that can be read, found "
         "\"/nowhere/ca.pem\": No such file or directory"},
        {"{\"tls\": {\"ca_file\": \"/\"}}",
         "f:1: tls.ca_file: expected the path of a file that can be read, found \"/\": "
         "Is a directory"},
        {"{\"tls\": {\"ca_file\": null}}",
         "f:1: tls.ca_file: expected the path of a file that can be read, found null"},
    };
    check_bad(cases, COUNT_OF(cases));
}

static void test_addresses(void **state)
{
    (void)state;
    static const struct bad cases[] = {
        {"{\"listen\": \":8080\"}",
         "f:1: listen: " ADDRESS ", or an array of them, found \":8080\""},
        {"{\"listen\": 8080}", "f:1: listen: " ADDRESS ", or an array of them, found 8080"},
        {"{\"listen\": []}", "f:1: listen: " ADDRESS ", or an array of them, found an empty array"},
        {"{\"listen\": \"unix:run/x\"}",
         "f:1: listen: " ADDRESS ", or an array of them, found \"unix:run/x\""},
        {"{\"listen\": [\n\"127.0.0.1:1\",\n\"x\"]}", "f:3: listen[1]: " ADDRESS ", found \"x\""},
        {"{\"listen\": [\n\"127.0.0.1:1\",\n[\"127.0.0.1:2\"]]}",
         "f:3: listen[1]: " ADDRESS ", found an array"},
        {"{\"listen\": [\"127.0.0.1:1\",\n\"localhost:1\"]}",
         "f:2: listen[1]: expected each address once, found \"localhost:1\""},
        {"{\"admin\": {\"listen\": [\"127.0.0.1:1\"]}}",
         "f:1: admin.listen: " ADDRESS ", found an array"},
        {"{\"admin\": {\"listen\": \"a.example:1\"}}",
         "f:1: admin.listen: " ADDRESS ", found \"a.example:1\""},
    };
    check_bad(cases, COUNT_OF(cases));
}

static void test_hosts(void **state)
{
    (void)state;
    static const struct bad cases[] = {
        {"{\"limits\": {\"hosts\": {\n\"http://a.b/\": {}}}}",
         "f:2: limits.hosts.\"http://a.b/\": " HOST},
        {"{\"limits\": {\"hosts\": {\n\"\": {}}}}", "f:2: limits.hosts.\"\": " HOST},
        {"{\"limits\": {\"hosts\": {\"a.b\": {},\n\"A.B:80\": {}}}}",
         "f:2: limits.hosts.\"A.B:80\": expected each host once, found \"a.b\" again"},
        {"{\"limits\": {\"hosts\": {\"a.b\": {\"limit\": 1,\n\"scope\": \"each\"}}}}",
         "f:2: limits.hosts.\"a.b\".scope: expected only with a pattern such as *.example.org"},
        {"{\"limits\": {\"hosts\": {\"a.b\": {\"limit\": 1},\n\"c.d\": {\"limit\": 0}}}}",
         "f:2: limits.hosts.\"c.d\".limit: expected a whole number from 1 to 1000000, found 0"},
    };
    check_bad(cases, COUNT_OF(cases));
}

static void test_host_names_become_canonical(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"a.example", "a.example"},
        {"API.Example.COM", "api.example.com"},
        {"a.example:80", "a.example"},
        {"a.example:443", "a.example"},
        {"a.example.", "a.example"},
        {"a.example.:8443", "a.example:8443"},
        {"*.A.example:443", "*.a.example"},
        {"127.0.0.1:9000", "127.0.0.1:9000"},
        {"[::1]", "[::1]"},
        {"[0:0:0:0:0:0:0:1]:443", "[::1]"},
        {"[2001:DB8::A]:8443", "[2001:db8::a]:8443"},
        {"localhost", "localhost"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct config_draft *draft = config_draft_create();
        struct config_rule *rule;
        size_t bytes = strlen(cases[i][0]);
        assert_int_equal(config_draft_add_host(draft, cases[i][0], bytes, &rule), CONFIG_ADDED);
        assert_string_equal(rule->name, cases[i][1]);
        struct config_rule *again;
        bytes = strlen(cases[i][1]);
        assert_int_equal(config_draft_add_host(draft, cases[i][1], bytes, &again),
                         CONFIG_ADD_EXISTS);
        assert_string_equal(again->name, cases[i][1]);
        assert_int_equal(draft->host_count, 1);
        config_draft_destroy(draft);
    }
}

static void test_host_names_that_are_none(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "",
        "http://a.example",
        "a.example/",
        "a..example",
        ".a.example",
        "a.example..",
        "a.example:0",
        "a.example:65536",
        "a.example:",
        "a.example:08443",
        "*",
        "*.",
        "a.*.example",
        "*a.example",
        "::1",
        "[::1",
        "[::g]",
        "[::1]x",
        "[]",
        "[",
        "]",
        ":",
        ".",
        "a_b!",
        "M\xc3\xbcnchen.example",
        "user@a.example",
        "a:b:8443",
        "a b",
        " a",
        "a\n",
    };
    struct config_draft *draft = config_draft_create();
    struct config_rule *rule;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(config_draft_add_host(draft, cases[i], strlen(cases[i]), &rule),
                         CONFIG_ADD_BAD);
    }
    char name[300];
    memset(name, 'a', sizeof name);
    for (size_t bytes = 256; bytes < sizeof name; bytes++) {
        assert_int_equal(config_draft_add_host(draft, name, bytes, &rule), CONFIG_ADD_BAD);
    }
    assert_int_equal(config_draft_add_host(draft, "a\0b", 3, &rule), CONFIG_ADD_BAD);
    assert_int_equal(draft->host_count, 0);
    config_draft_destroy(draft);
}

/* A path that is too long is cut, so that the message behind it is seen. */
static void test_long_keys(void **state)
{
    (void)state;
    char name[300] = "";
    for (size_t i = 0; i < 99; i++) {
        strncat(name, "\xe2\x82\xac", 4);
    }
    char text[400];
    int bytes = snprintf(text, sizeof text, "{\"limits\": {\"hosts\": {\n\"%s\": {}}}}", name);
    struct config_draft *draft = config_draft_create();
    char *error = NULL;
    assert_false(config_file_parse("f", text, (size_t)bytes, draft, &error));
    const char *start = "f:2: limits.hosts.\"\xe2\x82\xac";
    assert_int_equal(strncmp(error, start, strlen(start)), 0);
    assert_non_null(strstr(error, "\xe2\x82\xac...: " HOST));
    free(error);
    config_draft_destroy(draft);
}

static void test_syntax(void **state)
{
    (void)state;
    static const struct bad cases[] = {
        {"{\n\"limits\": {\n\"default\": {\"limit\": 1,\n\"limit\": 2}}}",
         "f:4: limits.default.limit: expected each key once, found it again"},
        {"{\"listen\": \"x\",\n\"a\\u0041\": 1, \"aA\": 2}",
         "f:2: aA: expected each key once, found it again"},
        {"{\"timeouts\": {\n\"connect\": 5s}}",
         "f:2: timeouts.connect: expected JSON: '}' expected near 's'"},
        {"{\n\"log\": {},\n}", "f:3: expected JSON: string or '}' expected near '}'"},
        {"{\"listen\": [1,\n2,,]}", "f:2: listen: expected JSON: unexpected token near ','"},
        {"3", "f:1: expected JSON: '[' or '{' expected near '3'"},
        {"{}\n{}", "f:2: expected JSON: end of file expected near '{'"},
        {"{\"connections\":\n 99999999999999999999}",
         "f:2: connections: expected JSON: too big integer near '99999999999999999999'"},
        {"{\"a\": \"\\u0000\"}", "f:1: a: expected JSON: \\u0000 is not allowed without "
                                 "JSON_ALLOW_NUL near '\"\\u0000\"'"},
        {"{\"a\": \"b\nc\"}", "f:1: a: expected JSON: unexpected newline near '\"b'"},
        {"{\"a\": \"\xff\"}", "f:1: a: expected JSON: unable to decode byte 0xff near '\"'"},
    };
    check_bad(cases, COUNT_OF(cases));
}

/* Deeper than jansson reads, and deeper than the scanner keeps count of. */
static void test_depth(void **state)
{
    (void)state;
    enum { DEPTH = 5000 };
    char text[6 + DEPTH];
    memcpy(text, "{\"a\": ", 6);
    memset(text + 6, '[', DEPTH);
    struct config_draft *draft = config_draft_create();
    char *error = NULL;
    assert_false(config_file_parse("f", text, sizeof text, draft, &error));
    assert_int_equal(strncmp(error, "f:1: ", 5), 0);
    assert_non_null(strstr(error, "expected JSON: maximum parsing depth reached"));
    free(error);
    config_draft_destroy(draft);

    struct config_path path;
    config_place_path(text, sizeof text, &path);
    assert_int_equal(strncmp(path.text, "a[0][0]", 7), 0);
    config_path_finish(&path);
}

static void test_paths(void **state)
{
    (void)state;
    struct config_path path = {0};
    assert_true(config_path_push_key(&path, "limits"));
    size_t limits = path.bytes;
    assert_true(config_path_push_key(&path, "a_B-9"));
    assert_string_equal(path.text, "limits.a_B-9");
    config_path_cut(&path, limits);
    assert_true(config_path_push_key(&path, "*.a\"b"));
    assert_true(config_path_push_index(&path, 12));
    assert_string_equal(path.text, "limits.\"*.a\\\"b\"[12]");
    config_path_cut(&path, 0);
    assert_string_equal(path.text, "");
    assert_true(config_path_push_index(&path, 0));
    assert_true(config_path_push_key(&path, ""));
    assert_string_equal(path.text, "[0].\"\"");
    config_path_finish(&path);
    assert_null(path.text);
}

static void test_lines(void **state)
{
    (void)state;
    static const char text[] = "{ \"a\": {\n"                               /* 1 */
                               "  \"b\": \"} \\\" { \\\\\",\n"              /* 2 */
                               "  \"c\": [1, [2,\n"                         /* 3 */
                               "     {\"d\": null}], -1.5e3,\n"             /* 4 */
                               "     \"x\", true ]\n"                       /* 5 */
                               "  }, \"e\\u002ef\": \"a\",\n"               /* 6 */
                               "  \"a.c\":\n"                               /* 7 */
                               "     {\"d\": {}, \"\\ud83d\\ude00\": []}\n" /* 8 */
                               "}\n";
    static const struct {
        const char *path;
        size_t line;
    } cases[] = {
        {"a", 1},
        {"a.b", 2},
        {"a.c", 3},
        {"a.c[0]", 3},
        {"a.c[1][0]", 3},
        {"a.c[1][1]", 4},
        {"a.c[1][1].d", 4},
        {"a.c[2]", 4},
        {"a.c[3]", 5},
        {"a.c[4]", 5},
        {"\"e.f\"", 6},
        {"\"a.c\"", 7},
        {"\"a.c\".d", 8},
        {"\"a.c\".\"\xf0\x9f\x98\x80\"", 8},
        {"", 1},
        {"nowhere", 1},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(config_place_line(text, strlen(text), cases[i].path), cases[i].line);
    }
}

static void test_path_at_an_offset(void **state)
{
    (void)state;
    static const struct {
        const char *text; /* up to the offset */
        const char *path;
    } cases[] = {
        {"", ""},
        {"{", ""},
        {"{\"a\"", "a"},
        {"{\"a\": {\"b\": 1", "a.b"},
        {"{\"a\": {\"b\": 1,", "a"},
        {"{\"a\": {\"b\": 1}", "a"},
        {"{\"a\": [1, 2", "a[1]"},
        {"{\"a\": [1, 2]", "a"},
        {"{\"a\": {}, \"b", ""},
        {"}", ""},
        {",", ""},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct config_path path;
        config_place_path(cases[i].text, strlen(cases[i].text), &path);
        assert_string_equal(path.text != NULL ? path.text : "", cases[i].path);
        config_path_finish(&path);
    }
}

/* What was found is shown whole as long as it is short, and never too long. */
static void test_quotes(void **state)
{
    (void)state;
    char buffer[CONFIG_QUOTED_MAX];
    for (size_t bytes = 0; bytes < 300; bytes++) {
        char text[300];
        memset(text, bytes % 2 == 0 ? 'a' : '"', sizeof text);
        const char *quoted = config_quote(text, bytes, buffer);
        size_t length = strlen(quoted);
        assert_in_range(length, 2, CONFIG_QUOTED_MAX - 1);
        assert_int_equal(quoted[0], '"');
        assert_int_equal(quoted[length - 1], '"');
        if (bytes % 2 == 0 && bytes < 80) {
            assert_int_equal(length, bytes + 2);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unknown_keys),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_words_and_objects),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_host_names_become_canonical),
        cmocka_unit_test(test_host_names_that_are_none),
        cmocka_unit_test(test_long_keys),
        cmocka_unit_test(test_syntax),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_path_at_an_offset),
        cmocka_unit_test(test_quotes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * "upstreams" and "tls" of the configuration's file: what they become, what they say about their
 * hosts, and every error word for word. No message may show a value that may be secret.
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
#include <unistd.h>

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
#define SECRET          "s3cr3t"

static char *const environment[] = {"TOKEN=" SECRET, "EMPTY=", "SPACED= x", "LINE=a\nb", NULL};

/* Reads TEXT. A configuration that the caller destroys, or NULL and the error. */
static struct config *parse(const char *text, char **ret_error)
{
    struct config_draft *draft = config_draft_create();
    struct config *config = NULL;
    assert_non_null(draft);
    draft->environment = environment;
    *ret_error = NULL;
    if (!config_file_parse("f", text, strlen(text), draft, ret_error)) {
        config_draft_destroy(draft);
        return NULL;
    }
    assert_true(config_draft_finish(draft, &config, ret_error));
    return config;
}

static struct config *parse_good(const char *text)
{
    char *error;
    struct config *config = parse(text, &error);
    if (config == NULL) {
        print_error("%s\n", error);
    }
    assert_non_null(config);
    return config;
}

struct bad {
    const char *text;
    const char *error;
};

static void check_bad(const struct bad *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char *error;
        assert_null(parse(cases[i].text, &error));
        assert_non_null(error);
        assert_string_equal(error, cases[i].error);
        assert_null(strstr(error, SECRET));
        free(error);
    }
}

/* Writes CONTENT, BYTES of it, to a new file; its path in PATH. */
static void write_file(const char *content, size_t bytes, char path[64])
{
    snprintf(path, 64, "/tmp/weir-unit-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, content, bytes), bytes);
    close(fd);
}

static const struct upstream *find(const struct config *config, const char *name)
{
    return upstreams_find(config->upstreams, name, strlen(name));
}

static void test_an_upstream(void **state)
{
    (void)state;
    struct config *config = parse_good(
        "{\"upstreams\": {\"stripe\": {\"url\": \"https://API.stripe.com/v1\", \"limit\": 10, "
        "\"queue\": 7, \"queue_timeout\": \"5s\", \"allow_private\": true, \"headers\": "
        "{\"Authorization\": {\"env\": \"TOKEN\", \"prefix\": \"Bearer \"}, \"X-A\": \"b c\"}}, "
        "\"plain\": {\"url\": \"http://127.1:9000\"}}}");
    const struct upstream *stripe = find(config, "stripe");
    assert_string_equal(stripe->origin->host, "api.stripe.com");
    assert_string_equal(stripe->origin->authority, "API.stripe.com");
    assert_string_equal(stripe->base_path, "/v1");
    assert_int_equal(stripe->field_count, 2);
    assert_string_equal(stripe->fields[0].name, "Authorization");
    assert_string_equal(stripe->fields[0].value, "Bearer " SECRET);
    assert_string_equal(stripe->fields[1].value, "b c");
    assert_true(stripe->allow_private);
    const struct rule *rule = rules_match(config->rules, "api.stripe.com");
    assert_string_equal(rule->name, "api.stripe.com");
    assert_int_equal(rule->limit, 10);
    assert_int_equal(rule->queue, 7);
    assert_int_equal(rule->queue_timeout_ns, UINT64_C(5000000000));
    const struct upstream *plain = find(config, "plain");
    assert_string_equal(plain->origin->host, "127.0.0.1:9000");
    assert_string_equal(plain->base_path, "");
    assert_int_equal(plain->field_count, 0);
    assert_false(plain->allow_private);
    assert_ptr_equal(rules_match(config->rules, "127.0.0.1:9000"), rules_default(config->rules));

    struct upstreams *upstreams = config_take_upstreams(config);
    assert_int_equal(upstreams_count(upstreams), 2);
    assert_null(config_take_upstreams(config));
    upstreams_destroy(upstreams);
    config_destroy(config);
}

static void test_no_upstreams(void **state)
{
    (void)state;
    struct config *config = parse_good("{\"upstreams\": {}}");
    assert_null(config->upstreams);
    config_destroy(config);
}

/* What upstreams and limits.hosts say of one host comes together, whichever is written first. */
static void test_one_budget_a_host(void **state)
{
    (void)state;
    struct config *config = parse_good(
        "{\"upstreams\": {\"a\": {\"url\": \"http://h.test/a\", \"limit\": 5}, "
        "\"b\": {\"url\": \"https://h.test/b\", \"limit\": 5, \"queue\": 2}, "
        "\"c\": {\"url\": \"http://h.test/c\"}, "
        "\"d\": {\"url\": \"http://h.test:81\", \"limit\": 9}, "
        "\"e\": {\"url\": \"http://x.pattern.test\", \"queue\": 3}}, "
        "\"limits\": {\"default\": {\"limit\": 4}, \"hosts\": {\"H.test\": {\"queue_timeout\": 0, "
        "\"limit\": 5}, \"*.pattern.test\": {\"limit\": 8, \"scope\": \"shared\"}}}}");
    const struct rule *rule = rules_match(config->rules, "h.test");
    assert_int_equal(rule->limit, 5);
    assert_int_equal(rule->queue, 2);
    assert_int_equal(rule->queue_timeout_ns, 0);
    assert_int_equal(rules_match(config->rules, "h.test:81")->limit, 9);
    /* An exact name beats a pattern, here as in limits.hosts. */
    assert_int_equal(rules_match(config->rules, "x.pattern.test")->limit, 4);
    assert_int_equal(rules_match(config->rules, "x.pattern.test")->queue, 3);
    assert_false(rules_match(config->rules, "x.pattern.test")->shared);
    assert_int_equal(rules_match(config->rules, "y.pattern.test")->limit, 8);
    config_destroy(config);
}

static void test_a_flag_is_stronger_than_an_upstream(void **state)
{
    (void)state;
    char path[64];
    const char *text = "{\"upstreams\": {\"a\": {\"url\": \"http://h.test\", \"limit\": 5}}}";
    struct config *config = NULL;
    char *error = NULL;
    write_file(text, strlen(text), path);
    char *const argv[] = {"weir", "--config", path, "--limit", "h.test=6", NULL};
    assert_int_equal(config_read(5, argv, environment, &config, &error), CONFIG_RUN);
    assert_int_equal(rules_match(config->rules, "h.test")->limit, 6);
    config_destroy(config);
    unlink(path);
}

static void test_conflicts(void **state)
{
    (void)state;
    static const struct bad cases[] = {
        {"{\"upstreams\": {\"a\": {\"url\": \"http://h.test\", \"limit\": 5},\n"
         "\"b\": {\"url\": \"https://h.test\",\n\"limit\": 6}}}",
         "f:3: upstreams.b.limit: expected the same as upstreams.a says of h.test: a host has one "
         "budget, whichever way a request comes"},
        {"{\"upstreams\": {\"a\": {\"url\": \"http://h.test:81\", \"limit\": 5}},\n"
         "\"limits\": {\"hosts\": {\"h.test:81\": {\"limit\": 6}}}}",
         "f:1: upstreams.a.limit: expected the same as limits.hosts says of h.test:81: a host has "
         "one budget, whichever way a request comes"},
        {"{\"upstreams\": {\"a\": {\"url\": \"http://h.test\", \"queue\": 5}, \"b\": {\"url\": "
         "\"http://h.test\", \"queue\": 0}}}",
         "f:1: upstreams.b.queue: expected the same as upstreams.a says of h.test: a host has one "
         "budget, whichever way a request comes"},
        {"{\"upstreams\": {\"a\": {\"url\": \"http://h.test\", \"queue_timeout\": 0}},\n"
         "\"limits\": {\"hosts\": {\"h.test\": {\"queue_timeout\": \"1s\"}}}}",
         "f:1: upstreams.a.queue_timeout: expected the same as limits.hosts says of h.test: a host "
         "has one budget, whichever way a request comes"},
        {"{\"upstreams\": {\"a\": {\"url\": \"https://h.test\", \"tls\": {\"insecure\": true}}, "
         "\"b\": {\"url\": \"https://h.test\", \"tls\": {}}}}",
         "f:1: upstreams.b.tls: expected the same as upstreams.a says of h.test: a host has one "
         "TLS, whichever way a request comes"},
        {"{\"upstreams\": {\"a\": {\"url\": \"https://h.test\", \"tls\": {\"insecure\": true}}},\n"
         "\"tls\": {\"hosts\": {\"h.test\": {\"minimum_version\": \"1.3\"}}}}",
         "f:1: upstreams.a.tls: expected the same as tls.hosts says of h.test: a host has one "
         "TLS, whichever way a request comes"},
    };
    check_bad(cases, COUNT_OF(cases));
}

#define UPSTREAM(member) "{\"upstreams\": {\"a\": {" member "}}}"
#define URL(url)         UPSTREAM("\"url\": \"" url "\"")

static void test_bad_upstreams(void **state)
{
    (void)state;
    static const struct bad cases[] = {
        {"{\"upstreams\": \"" SECRET "\"}", "f:1: upstreams: expected an object"},
        {"{\"upstreams\": {\"a\": \"https://u:" SECRET "@h\"}}",
         "f:1: upstreams.a: expected an object"},
        {"{\"upstreams\": {\"A\": {}}}", "f:1: upstreams.A: expected a name of a to z, 0 to 9, "
                                         "\"-\" and \"_\", at most 63 long"},
        {"{\"upstreams\": {\"\": {}}}", "f:1: upstreams.\"\": expected a name of a to z, 0 to 9, "
                                        "\"-\" and \"_\", at most 63 long"},
        {UPSTREAM(""), "f:1: upstreams.a: expected the key url"},
        {UPSTREAM("\"link\": 1"),
         "f:1: upstreams.a.link: unknown key, expected one of url, limit, queue, queue_timeout, "
         "headers, tls, allow_private"},
        {UPSTREAM("\"url\": 1"),
         "f:1: upstreams.a.url: expected a URL that begins with http:// or https://"},
        {URL("api.stripe.com"),
         "f:1: upstreams.a.url: expected a URL that begins with http:// or https://"},
        {URL("ftp://h/" SECRET),
         "f:1: upstreams.a.url: the URL must begin with http:// or https://"},
        {URL("https://u:" SECRET "@h/"), "f:1: upstreams.a.url: the URL holds user information: "
                                         "send an Authorization field instead"},
        {URL("https:///x"),
         "f:1: upstreams.a.url: the URL has no host: expected http://HOST/ or https://HOST/"},
        {URL("https://h:0/"), "f:1: upstreams.a.url: the port must be a number from 1 to 65535"},
        {URL("https://h/x?key=" SECRET), "f:1: upstreams.a.url: expected a URL without a query: "
                                         "the request's own goes behind the path"},
        {URL("https://h?key=" SECRET), "f:1: upstreams.a.url: expected a URL without a query: the "
                                       "request's own goes behind the path"},
        {URL("https://h/#" SECRET), "f:1: upstreams.a.url: expected a URL without a fragment"},
        {URL("https://h/a " SECRET),
         "f:1: upstreams.a.url: expected a URL without spaces and control characters"},
        {URL("https://h/a\\n" SECRET),
         "f:1: upstreams.a.url: expected a URL without spaces and control characters"},
        {UPSTREAM("\"limit\": 0"),
         "f:1: upstreams.a.limit: expected a whole number from 1 to 1000000, found 0"},
        {UPSTREAM("\"allow_private\": \"yes\""),
         "f:1: upstreams.a.allow_private: expected true or false, found \"yes\""},
        {UPSTREAM("\"url\": \"http://h\", \"tls\": {}"),
         "f:1: upstreams.a.tls: expected only with a URL that begins with https://"},
    };
    check_bad(cases, COUNT_OF(cases));
}

#define FIELD(name, value) \
    UPSTREAM("\"url\": \"http://h\",\n\"headers\": {\"" name "\": " value "}")

static void test_bad_fields(void **state)
{
    (void)state;
    static const struct bad cases[] = {
        {UPSTREAM("\"headers\": \"" SECRET "\""), "f:1: upstreams.a.headers: expected an object"},
        {FIELD("X", "1"), "f:2: upstreams.a.headers.X: expected a string, or an object with "
                          "\"file\" or \"env\", and \"prefix\" where there is one"},
        {FIELD("X", "[\"" SECRET "\"]"),
         "f:2: upstreams.a.headers.X: expected a string, or an object with \"file\" or \"env\", "
         "and \"prefix\" where there is one"},
        {FIELD("X", "{\"file\": [\"" SECRET "\"]}"),
         "f:2: upstreams.a.headers.X.file: expected a string that is not empty"},
        {FIELD("X", "{\"value\": \"" SECRET "\"}"),
         "f:2: upstreams.a.headers.X.value: unknown key, expected one of file, env, prefix"},
        {FIELD("X", "{}"), "f:2: upstreams.a.headers.X: expected either \"file\" or \"env\""},
        {FIELD("X", "{\"prefix\": \"" SECRET "\"}"),
         "f:2: upstreams.a.headers.X: expected either \"file\" or \"env\""},
        {FIELD("X", "{\"env\": \"TOKEN\", \"file\": \"/x\"}"),
         "f:2: upstreams.a.headers.X: expected either \"file\" or \"env\""},
        {FIELD("X", "{\"env\": \"MISSING\"}"),
         "f:2: upstreams.a.headers.X.env: MISSING: the variable is not set"},
        {FIELD("X", "{\"env\": \"EMPTY\"}"),
         "f:2: upstreams.a.headers.X.env: EMPTY: the variable is not set"},
        {FIELD("X", "{\"env\": \"Bearer " SECRET "\"}"),
         "f:2: upstreams.a.headers.X.env: expected the name of an environment variable"},
        {FIELD("X", "{\"env\": \"SPACED\"}"),
         "f:2: upstreams.a.headers.X: the value begins or ends with a space"},
        {FIELD("X", "{\"env\": \"LINE\"}"),
         "f:2: upstreams.a.headers.X: the value holds a control character"},
        {FIELD("X", "{\"file\": \"/nowhere/token\"}"),
         "f:2: upstreams.a.headers.X.file: /nowhere/token: expected a file that can "
         "be read: No such file or directory"},
        {FIELD("X", "{\"file\": \"/\"}"), "f:2: upstreams.a.headers.X.file: /: expected a regular "
                                          "file, found a directory (a container "
                                          "engine makes one where the file to mount is missing)"},
        {FIELD("X", "\"" SECRET "\\r\\nX-Evil: 1\""),
         "f:2: upstreams.a.headers.X: the value holds a control character"},
        {FIELD("X", "\"" SECRET " \""),
         "f:2: upstreams.a.headers.X: the value begins or ends with a space"},
        {FIELD("X", "\"\""), "f:2: upstreams.a.headers.X: expected a value of 1 to 8192 bytes"},
        {FIELD("a b", "\"" SECRET "\""),
         "f:2: upstreams.a.headers.\"a b\": expected the name of a header field that may be sent "
         "to an upstream"},
        {FIELD("", "\"" SECRET "\""), "f:2: upstreams.a.headers.\"\": expected the name of a "
                                      "header field that may be sent to an upstream"},
        {FIELD("host", "\"h\""), "f:2: upstreams.a.headers.host: expected another field: this one "
                                 "is written by Weir itself"},
        {FIELD("Via", "\"1.1 x\""), "f:2: upstreams.a.headers.Via: expected another field: this "
                                    "one is written by Weir itself"},
        {FIELD("Content-Length", "\"3\""), "f:2: upstreams.a.headers.Content-Length: expected "
                                           "another field: this one is written by Weir itself"},
        {FIELD("Connection", "\"close\""), "f:2: upstreams.a.headers.Connection: expected another "
                                           "field: this one never goes to an upstream"},
        {FIELD("Proxy-Authorization", "\"" SECRET "\""),
         "f:2: upstreams.a.headers.Proxy-Authorization: expected another field: this one never "
         "goes to an upstream"},
        {FIELD("X", "\"1\", \"x\": \"2\""),
         "f:2: upstreams.a.headers.x: expected each field once, in whatever case"},
        /* A broken file: jansson would show what is near the fault. */
        {FIELD("X", "\"a\" \"" SECRET "\""),
         "f:2: upstreams.a.headers.X: expected JSON: '}' expected"},
        {FIELD("X", "\"" SECRET),
         "f:2: upstreams.a.headers.X: expected JSON: premature end of input"},
    };
    for (size_t i = 0; i + 1 < COUNT_OF(cases); i++) {
        check_bad(&cases[i], 1);
    }
    char *error;
    assert_null(parse(cases[COUNT_OF(cases) - 1].text, &error));
    assert_null(strstr(error, SECRET));
    free(error);
}

/* A field whose value is CONTENT of a file. */
static char *read_field(const char *content, size_t bytes, char **ret_error)
{
    char path[64];
    char text[256];
    write_file(content, bytes, path);
    snprintf(text, sizeof text,
             "{\"upstreams\": {\"a\": {\"url\": \"http://h\", \"headers\": {\"X\": {\"file\": "
             "\"%s\"}}}}}",
             path);
    struct config *config = parse(text, ret_error);
    char *value = config != NULL ? strdup(find(config, "a")->fields[0].value) : NULL;
    config_destroy(config);
    unlink(path);
    return value;
}

static void test_files(void **state)
{
    (void)state;
    static const struct {
        const char *content;
        size_t bytes;
        const char *value, *error;
    } cases[] = {
        {"abc", 3, "abc", NULL},
        {"abc\n", 4, "abc", NULL},
        {"abc\r\n", 5, "abc", NULL},
        {"a b\tc", 5, NULL, "the value holds a control character"},
        {"abc\n\n", 5, NULL, "the value holds a control character"},
        {"abc\rd", 5, NULL, "the value holds a control character"},
        {"a\nb\n", 4, NULL, "the value holds a control character"},
        {"a\0b", 3, NULL, "expected one line without control characters"},
        {"", 0, NULL, "expected one line, found none"},
        {"\n", 1, NULL, "expected one line, found none"},
        {" abc\n", 5, NULL, "the value begins or ends with a space"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char *error = NULL;
        char *value = read_field(cases[i].content, cases[i].bytes, &error);
        if (cases[i].value != NULL) {
            assert_string_equal(value, cases[i].value);
        } else {
            assert_null(value);
            assert_non_null(strstr(error, cases[i].error));
            assert_null(strstr(error, "abc"));
        }
        free(value);
        free(error);
    }
}

static void test_long_files(void **state)
{
    (void)state;
    char *error = NULL;
    char *content = malloc(8193);
    memset(content, 'x', 8193);
    char *value = read_field(content, 8192, &error);
    assert_int_equal(strlen(value), 8192);
    free(value);
    assert_null(read_field(content, 8193, &error));
    assert_non_null(strstr(error, "expected a file of at most 8192 bytes"));
    free(error);
    free(content);
}

/* --- "tls" --- */

static const struct config_tls *find_tls(const struct config *config, const char *host)
{
    for (size_t i = 0; i < config->tls_host_count; i++) {
        if (strcmp(config->tls_hosts[i].host, host) == 0) {
            return &config->tls_hosts[i];
        }
    }
    fail_msg("no TLS settings for %s", host);
    return NULL;
}

static void test_tls(void **state)
{
    (void)state;
    struct config *config = parse_good(
        "{\"tls\": {\"hosts\": {\"A.test:443\": {\"certificate_file\": \"/dev/null\"}, "
        "\"*.b.test\": {\"insecure\": true}, \"[::0001]:8443\": {\"ca_file\": \"/dev/zero\", "
        "\"minimum_version\": \"1.2\"}}, \"ca_file\": \"/dev/null\", \"minimum_version\": "
        "\"1.3\"}, \"upstreams\": {\"u\": {\"url\": \"https://u.test:1\", \"tls\": {\"key_file\": "
        "\"/dev/zero\", \"certificate_file\": \"/dev/null\"}}, \"same\": {\"url\": "
        "\"https://u.test:1/x\", \"tls\": {\"certificate_file\": \"/dev/null\", \"key_file\": "
        "\"/dev/zero\"}}}}");
    assert_string_equal(config->tls.ca_file, "/dev/null");
    assert_int_equal(config->tls.minimum_version, CONFIG_TLS_1_3);
    assert_int_equal(config->tls_host_count, 4);
    const struct config_tls *a = find_tls(config, "a.test");
    assert_string_equal(a->where, "tls.hosts.\"A.test:443\"");
    assert_string_equal(a->ca_file, "/dev/null");
    assert_string_equal(a->key_file, "/dev/null"); /* in the certificate's file */
    assert_int_equal(a->minimum_version, CONFIG_TLS_1_3);
    const struct config_tls *b = find_tls(config, "*.b.test");
    assert_true(b->insecure);
    assert_null(b->ca_file);
    const struct config_tls *c = find_tls(config, "[::1]:8443");
    assert_string_equal(c->ca_file, "/dev/zero");
    assert_int_equal(c->minimum_version, CONFIG_TLS_1_2);
    const struct config_tls *u = find_tls(config, "u.test:1");
    assert_string_equal(u->where, "upstreams.u.tls");
    assert_string_equal(u->key_file, "/dev/zero");
    assert_string_equal(u->certificate_file, "/dev/null");
    config_destroy(config);

    config = parse_good("{}");
    assert_null(config->tls.ca_file);
    assert_int_equal(config->tls.minimum_version, CONFIG_TLS_1_2);
    assert_int_equal(config->tls_host_count, 0);
    config_destroy(config);
}

static void test_bad_tls(void **state)
{
    (void)state;
    static const struct bad cases[] = {
        {"{\"tls\": {\"minimum_version\": 1.2}}",
         "f:1: tls.minimum_version: expected \"1.2\" or \"1.3\", found 1.2"},
        {"{\"tls\": {\"minimum_version\": \"1.1\"}}",
         "f:1: tls.minimum_version: expected \"1.2\" or \"1.3\", found \"1.1\""},
        {"{\"tls\": {\"insecure\": true}}",
         "f:1: tls.insecure: unknown key, expected one of ca_file, minimum_version, hosts"},
        {"{\"tls\": {\"hosts\": {\"h\": {\"insecure\": 1}}}}",
         "f:1: tls.hosts.h.insecure: expected true or false, found 1"},
        {"{\"tls\": {\"hosts\": {\"h\": {\"verify\": false}}}}",
         "f:1: tls.hosts.h.verify: unknown key, expected one of ca_file, certificate_file, "
         "key_file, minimum_version, insecure"},
        {"{\"tls\": {\"hosts\": {\"h\": {\"key_file\": \"/dev/null\"}}}}",
         "f:1: tls.hosts.h.key_file: expected certificate_file beside it"},
        {"{\"tls\": {\"hosts\": {\"h\": {\"insecure\": true, \"ca_file\": \"/dev/null\"}}}}",
         "f:1: tls.hosts.h.insecure: expected no ca_file beside it: nothing would be checked with "
         "that"},
        {"{\"tls\": {\"hosts\": {\"h\": {}, \"H.\": {}}}}",
         "f:1: tls.hosts.\"H.\": expected each host once, found it again"},
        {"{\"tls\": {\"hosts\": {\"https://h\": {}}}}",
         "f:1: tls.hosts.\"https://h\": expected a host such as api.example.com, "
         "api.example.com:8443, [::1]:8443 or *.example.org"},
        {"{\"tls\": {\"hosts\": {\"h\": {\"ca_file\": \"/nowhere/ca.pem\"}}}}",
         "f:1: tls.hosts.h.ca_file: expected the path of a file that can be read, found "
         "\"/nowhere/ca.pem\": No such file or directory"},
        {UPSTREAM("\"url\": \"https://h\", \"tls\": {\"certificate_file\": \"/\"}"),
         "f:1: upstreams.a.tls.certificate_file: expected the path of a file that can be read, "
         "found \"/\": Is a directory"},
    };
    check_bad(cases, COUNT_OF(cases));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_upstream),
        cmocka_unit_test(test_no_upstreams),
        cmocka_unit_test(test_one_budget_a_host),
        cmocka_unit_test(test_a_flag_is_stronger_than_an_upstream),
        cmocka_unit_test(test_conflicts),
        cmocka_unit_test(test_bad_upstreams),
        cmocka_unit_test(test_bad_fields),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_long_files),
        cmocka_unit_test(test_tls),
        cmocka_unit_test(test_bad_tls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

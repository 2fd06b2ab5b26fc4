/*
 * "egress": its entries in every form, its keys with their errors word for word, and its flag.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/config_internal.h"

#include <stdlib.h>
#include <string.h>

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static void test_ranges(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *first;
        unsigned bits;
        uint16_t port;
    } known[] = {
        {"10.1.0.0/16", "10.1.0.0", 16, 0},
        {"10.1.0.0/16:9000", "10.1.0.0", 16, 9000},
        {"10.1.2.3", "10.1.2.3", 32, 0},
        {"10.1.2.3:1", "10.1.2.3", 32, 1},
        {"10.1.2.3/32", "10.1.2.3", 32, 0},
        {"0.0.0.0/0", "0.0.0.0", 0, 0},
        {"::/0", "::", 0, 0},
        {"::1", "::1", 128, 0},
        {"fd00::/8", "fd00::", 8, 0},
        {"FD00::/8", "fd00::", 8, 0},
        {"[fd00::/8]", "fd00::", 8, 0},
        {"[fd00::/8]:65535", "fd00::", 8, 65535},
        {"[::1]", "::1", 128, 0},
        {"[::1]:8443", "::1", 128, 8443},
        {"::ffff:10.0.0.1", "10.0.0.1", 32, 0},
        {"::ffff:10.0.0.0/104", "10.0.0.0", 8, 0},
        {"::ffff:0.0.0.0/96", "0.0.0.0", 0, 0},
    };
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        struct config_egress_rule rule;
        struct address first;
        if (config_egress_parse(known[i].text, strlen(known[i].text), &rule) != CONFIG_ADDED) {
            fail_msg("%s", known[i].text);
        }
        assert_int_equal(rule.kind, CONFIG_EGRESS_RANGE);
        assert_true(address_parse(known[i].first, &first));
        if (!address_equals(&rule.first, &first) || rule.prefix_bits != known[i].bits ||
            rule.port != known[i].port) {
            fail_msg("%s", known[i].text);
        }
        assert_null(rule.name);
    }
}

static void test_names(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *name;
        uint16_t port;
    } known[] = {
        {"api.internal", "api.internal", 0}, {"API.internal.", "api.internal", 0},
        {"localhost", "localhost", 0},       {"*.Internal", "*.internal", 0},
        {"*.internal:80", "*.internal", 80}, {"api.internal:443", "api.internal", 443},
        {"a_b.c-d", "a_b.c-d", 0},           {"1.2.3.x4", "1.2.3.x4", 0},
    };
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        struct config_egress_rule rule;
        if (config_egress_parse(known[i].text, strlen(known[i].text), &rule) != CONFIG_ADDED) {
            fail_msg("%s", known[i].text);
        }
        assert_int_equal(rule.kind, CONFIG_EGRESS_NAME);
        assert_string_equal(rule.name, known[i].name);
        assert_int_equal(rule.port, known[i].port);
        free(rule.name);
    }
}

static void test_bad_entries(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        " ",
        "*",
        "*.",
        "a.*",
        "a*b.c",
        "a b",
        "a..b",
        ".a",
        "a/8",
        "http://a/",
        "a:0",
        "a:65536",
        "a:",
        "a:b",
        ":",
        ":0",
        ":65536",
        ":x",
        "10.0.0.1/8",
        "10.0.0.0/33",
        "10.0.0.0/",
        "10.0.0.0/-1",
        "10.0.0.0/8/8",
        "10.0.0",
        "127.1",
        "0x7f.1",
        "2130706433",
        "256.0.0.1",
        "1.2.3.4.5",
        "10.0.0.0/8:0",
        "10.0.0.0/8:",
        "fd00::1/8",
        "fd00::/129",
        "fd00::/",
        "fd00:::",
        "[fd00::",
        "fd00::]",
        "[fd00::]x",
        "[fd00::]:",
        "[fd00::]:0",
        "[]",
        "[]:80",
        "[fd00::]/8",
        "[fd00::]/8:80",
        "[a]",
        "::1%lo",
        "::ffff:10.0.0.0/95",
        "::ffff:10.0.0.1/104",
        "\xef\xbc\x91.1.1.1",
        "[::1]:80:80",
        "a:80:80",
        "10.0.0.0/8:80:80",
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct config_egress_rule rule = {.name = NULL};
        if (config_egress_parse(bad[i], strlen(bad[i]), &rule) != CONFIG_ADD_BAD) {
            fail_msg("\"%s\"", bad[i]);
        }
        assert_null(rule.name);
    }
    struct config_egress_rule rule;
    assert_int_equal(config_egress_parse("a\0b", 3, &rule), CONFIG_ADD_BAD);
    assert_int_equal(config_egress_parse("::1\0", 4, &rule), CONFIG_ADD_BAD);
    assert_int_equal(config_egress_parse(":25", 3, &rule), CONFIG_ADDED);
    assert_int_equal(rule.kind, CONFIG_EGRESS_PORT);
    assert_int_equal(rule.port, 25);
}

static struct config *read_text(const char *text)
{
    struct config *config = NULL;
    char *error = NULL;
    struct config_draft *draft = config_draft_create();
    assert_non_null(draft);
    if (!config_file_parse("f", text, strlen(text), draft, &error)) {
        fail_msg("%s", error);
    }
    assert_true(config_draft_finish(draft, &config, &error));
    return config;
}

static void test_keys(void **state)
{
    (void)state;
    struct config *config = read_text("{}");
    assert_false(config->egress.open_private);
    assert_int_equal(config->egress.ports_rule, CONFIG_PORTS_DEFAULT);
    assert_int_equal(config->egress.allow.count + config->egress.deny.count, 0);
    assert_int_equal(config->egress.named.count, 0);
    config_destroy(config);

    config = read_text("{\"egress\": {\"private\": true, \"allow\": [\"10.0.0.0/8\", \"a.b\"],"
                       "\"deny\": [\"*.c\", \":25\"], \"ports\": [443, 8443]}}");
    assert_true(config->egress.open_private);
    assert_int_equal(config->egress.allow.count, 2);
    assert_string_equal(config->egress.allow.at[1].name, "a.b");
    assert_int_equal(config->egress.deny.count, 2);
    assert_int_equal(config->egress.deny.at[1].kind, CONFIG_EGRESS_PORT);
    assert_int_equal(config->egress.ports_rule, CONFIG_PORTS_LISTED);
    assert_int_equal(config->egress.port_count, 2);
    assert_int_equal(config->egress.ports[1], 8443);
    config_destroy(config);

    config = read_text("{\"egress\": {\"ports\": \"any\", \"allow\": []}}");
    assert_int_equal(config->egress.ports_rule, CONFIG_PORTS_ANY);
    config_destroy(config);
}

/* Hosts that are written with a port elsewhere. */
static void test_named(void **state)
{
    (void)state;
    struct config *config = read_text(
        "{\"limits\": {\"hosts\": {\"a.b\": {}, \"a.b:9000\": {}, \"*.c:9001\": {}, \"[::1]\": {},"
        "\"[::1]:9002\": {}, \"d.e:443\": {}}},"
        "\"upstreams\": {\"x\": {\"url\": \"http://f.g:9003/v1\"}, \"y\": {\"url\": "
        "\"https://h.i\"}}}");
    const struct config_egress_list *named = &config->egress.named;
    assert_int_equal(named->count, 4);
    assert_string_equal(named->at[0].name, "a.b");
    assert_int_equal(named->at[0].port, 9000);
    assert_string_equal(named->at[1].name, "*.c");
    assert_int_equal(named->at[1].port, 9001);
    assert_int_equal(named->at[2].kind, CONFIG_EGRESS_RANGE);
    assert_int_equal(named->at[2].port, 9002);
    assert_string_equal(named->at[3].name, "f.g");
    assert_int_equal(named->at[3].port, 9003);
    config_destroy(config);
}

#define ENTRY                                                                                \
    "expected an address (10.0.0.5, fd00::5), a range by its first address and length "      \
    "(10.1.0.0/16), a host (api.internal) or a pattern (*.internal), with \":PORT\" behind " \
    "it or without"

static void test_bad_keys(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *error;
    } cases[] = {
        {"{\"egress\": 1}", "f:1: egress: expected an object, found 1"},
        {"{\"egress\": {\"open\": 1}}",
         "f:1: egress.open: unknown key, expected one of private, allow, deny, ports"},
        {"{\"egress\": {\"private\": \"yes\"}}",
         "f:1: egress.private: expected true or false, found \"yes\""},
        {"{\"egress\": {\"allow\": \"10.0.0.0/8\"}}",
         "f:1: egress.allow: expected an array of addresses, ranges and hosts, found "
         "\"10.0.0.0/8\""},
        {"{\"egress\": {\"allow\": [\"a.b\",\n\"10.1.2.3/16\"]}}",
         "f:2: egress.allow[1]: " ENTRY ", found \"10.1.2.3/16\""},
        {"{\"egress\": {\"allow\": [\":25\"]}}", "f:1: egress.allow[0]: " ENTRY ", found \":25\""},
        {"{\"egress\": {\"allow\": [25]}}", "f:1: egress.allow[0]: " ENTRY ", found 25"},
        {"{\"egress\": {\"deny\": [\"127.1\"]}}",
         "f:1: egress.deny[0]: " ENTRY ", or \":PORT\" alone, found \"127.1\""},
        {"{\"egress\": {\"ports\": 80}}",
         "f:1: egress.ports: expected \"any\" or an array of ports from 1 to 65535, found 80"},
        {"{\"egress\": {\"ports\": \"all\"}}",
         "f:1: egress.ports: expected \"any\" or an array of ports from 1 to 65535, found "
         "\"all\""},
        {"{\"egress\": {\"ports\": [80, 0]}}",
         "f:1: egress.ports[1]: expected a port from 1 to 65535, found 0"},
        {"{\"egress\": {\"ports\": [65616]}}",
         "f:1: egress.ports[0]: expected a port from 1 to 65535, found 65616"},
        {"{\"egress\": {\"ports\": [\"80\"]}}",
         "f:1: egress.ports[0]: expected a port from 1 to 65535, found \"80\""},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct config_draft *draft = config_draft_create();
        char *error = NULL;
        assert_non_null(draft);
        assert_false(config_file_parse("f", cases[i].text, strlen(cases[i].text), draft, &error));
        assert_string_equal(error, cases[i].error);
        free(error);
        config_draft_destroy(draft);
    }
}

static enum config_action run(const char *flag, const char *variable, struct config **ret_config,
                              char **ret_error)
{
    char *argv[] = {"weir", (char *)flag, NULL};
    char *environment[] = {(char *)variable, NULL};
    return config_read(flag != NULL ? 2 : 1, argv, environment, ret_config, ret_error);
}

static void test_flag(void **state)
{
    (void)state;
    static const struct {
        const char *flag;
        const char *variable;
        bool open;
    } good[] = {
        {NULL, NULL, false},
        {"--allow-private", NULL, true},
        {"--allow-private", "WEIR_ALLOW_PRIVATE=false", true},
        {NULL, "WEIR_ALLOW_PRIVATE=true", true},
        {NULL, "WEIR_ALLOW_PRIVATE=1", true},
        {NULL, "WEIR_ALLOW_PRIVATE=yes", true},
        {NULL, "WEIR_ALLOW_PRIVATE=on", true},
        {NULL, "WEIR_ALLOW_PRIVATE=0", false},
        {NULL, "WEIR_ALLOW_PRIVATE=false", false},
        {NULL, "WEIR_ALLOW_PRIVATE=", false},
    };
    struct config *config = NULL;
    char *error = NULL;
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        assert_int_equal(run(good[i].flag, good[i].variable, &config, &error), CONFIG_RUN);
        assert_int_equal(config->egress.open_private, good[i].open);
        assert_int_equal(config->egress.ports_rule,
                         good[i].open ? CONFIG_PORTS_ANY : CONFIG_PORTS_DEFAULT);
        config_destroy(config);
    }
    assert_int_equal(run("--allow-private=no", NULL, &config, &error), CONFIG_BAD_USAGE);
    assert_string_equal(error, "command line: expected no value, found \"--allow-private=no\"");
    free(error);
    assert_int_equal(run(NULL, "WEIR_ALLOW_PRIVATE=maybe", &config, &error), CONFIG_BAD);
    assert_string_equal(error, "WEIR_ALLOW_PRIVATE: expected true or false, found \"maybe\"");
    free(error);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranges),      cmocka_unit_test(test_names),
        cmocka_unit_test(test_bad_entries), cmocka_unit_test(test_keys),
        cmocka_unit_test(test_named),       cmocka_unit_test(test_bad_keys),
        cmocka_unit_test(test_flag),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

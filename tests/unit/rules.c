#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "failing_memory.h"
#include "limiter/rules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct rules *rules;

static enum rules_added add(const char *name)
{
    struct rule rule = {.name = name, .limit = 7, .queue = 8, .queue_timeout_ns = 9};
    return rules_add(rules, &rule);
}

static int setup(void **state)
{
    (void)state;
    struct rule fallback = {.name = "ignored", .limit = 3, .queue = 1000, .queue_timeout_ns = 30};
    rules = rules_create(&fallback);
    assert_non_null(rules);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rules_destroy(rules);
    return 0;
}

static void assert_match(const char *host, const char *name)
{
    assert_string_equal(rules_match(rules, host)->name, name);
}

static void test_only_the_default(void **state)
{
    (void)state;
    const struct rule *rule = rules_match(rules, "api.example.com");
    assert_ptr_equal(rule, rules_default(rules));
    assert_string_equal(rule->name, "default");
    assert_int_equal(rule->limit, 3);
    assert_int_equal(rule->queue, 1000);
    assert_int_equal(rule->queue_timeout_ns, 30);
    assert_int_equal(rules_count(rules), 0);
}

static void test_rule_is_copied(void **state)
{
    (void)state;
    char name[] = "api.example.com";
    struct rule rule = {
        .name = name, .limit = 4, .queue = 5, .queue_timeout_ns = 6, .shared = true};
    assert_int_equal(rules_add(rules, &rule), RULES_ADDED);
    memset(name, 'x', sizeof name - 1);
    const struct rule *found = rules_match(rules, "api.example.com");
    assert_string_equal(found->name, "api.example.com");
    assert_int_equal(found->limit, 4);
    assert_int_equal(found->queue, 5);
    assert_int_equal(found->queue_timeout_ns, 6);
    assert_true(found->shared);
}

static void test_exact_names_and_ports(void **state)
{
    (void)state;
    assert_int_equal(add("api.example.com"), RULES_ADDED);
    assert_int_equal(add("api.example.com:8443"), RULES_ADDED);
    assert_int_equal(add("other.example.com:8443"), RULES_ADDED);
    assert_match("api.example.com", "api.example.com");
    assert_match("api.example.com:8443", "api.example.com:8443");
    assert_match("api.example.com:9", "api.example.com");
    assert_match("other.example.com:8443", "other.example.com:8443");
    assert_match("other.example.com", "default");
    assert_match("other.example.com:844", "default");
    assert_match("xapi.example.com", "default");
    assert_match("api.example.com.x", "default");
    assert_match("pi.example.com", "default");
}

static void test_addresses(void **state)
{
    (void)state;
    assert_int_equal(add("127.0.0.1"), RULES_ADDED);
    assert_int_equal(add("127.0.0.1:9000"), RULES_ADDED);
    assert_int_equal(add("[::1]"), RULES_ADDED);
    assert_int_equal(add("[2001:db8::1]:8443"), RULES_ADDED);
    assert_match("127.0.0.1", "127.0.0.1");
    assert_match("127.0.0.1:9000", "127.0.0.1:9000");
    assert_match("127.0.0.1:9001", "127.0.0.1");
    assert_match("[::1]", "[::1]");
    assert_match("[::1]:8443", "[::1]");
    assert_match("[2001:db8::1]:8443", "[2001:db8::1]:8443");
    assert_match("[2001:db8::1]", "default");
}

static void test_patterns(void **state)
{
    (void)state;
    assert_int_equal(add("*.example.org"), RULES_ADDED);
    assert_match("a.example.org", "*.example.org");
    assert_match("a.b.c.example.org", "*.example.org");
    assert_match("a.example.org:8443", "*.example.org");
    assert_match("example.org", "default");
    assert_match(".example.org", "default");
    assert_match("aexample.org", "default");
    assert_match("a.example.org.x", "default");
    assert_match("a.example.or", "default");
}

static void test_longest_pattern_wins(void **state)
{
    (void)state;
    /* Not in the order of their length: the order of adding plays no part. */
    assert_int_equal(add("*.a.example.org"), RULES_ADDED);
    assert_int_equal(add("*.org"), RULES_ADDED);
    assert_int_equal(add("*.b.a.example.org"), RULES_ADDED);
    assert_int_equal(add("*.example.org"), RULES_ADDED);
    assert_match("x.b.a.example.org", "*.b.a.example.org");
    assert_match("b.a.example.org", "*.a.example.org");
    assert_match("a.example.org", "*.example.org");
    assert_match("example.org", "*.org");
    assert_match("org", "default");
}

static void test_patterns_with_ports(void **state)
{
    (void)state;
    assert_int_equal(add("*.example.org"), RULES_ADDED);
    assert_int_equal(add("*.example.org:8443"), RULES_ADDED);
    assert_int_equal(add("*.a.example.org"), RULES_ADDED);
    assert_int_equal(add("*.b.example.org:8443"), RULES_ADDED);
    assert_match("x.example.org", "*.example.org");
    assert_match("x.example.org:8443", "*.example.org:8443");
    assert_match("x.example.org:8444", "*.example.org");
    assert_match("x.a.example.org:8443", "*.a.example.org"); /* longer beats the port */
    assert_match("x.b.example.org:8443", "*.b.example.org:8443");
    assert_match("x.b.example.org:1", "*.example.org");
    assert_match("x.b.example.org", "*.example.org");
}

static void test_exact_beats_patterns(void **state)
{
    (void)state;
    assert_int_equal(add("*.example.org:8443"), RULES_ADDED);
    assert_int_equal(add("*.example.org"), RULES_ADDED);
    assert_int_equal(add("a.example.org"), RULES_ADDED);
    assert_match("a.example.org:8443", "a.example.org");
    assert_match("a.example.org", "a.example.org");
    assert_match("b.example.org:8443", "*.example.org:8443");
}

/* The key of a shared budget finds the rule it is named after. */
static void test_pattern_finds_itself(void **state)
{
    (void)state;
    assert_int_equal(add("*.example.org"), RULES_ADDED);
    assert_int_equal(add("*.org:99"), RULES_ADDED);
    assert_match("*.example.org", "*.example.org");
    assert_match("*.org:99", "*.org:99");
}

static void test_bad_names(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",        ".",        "*",       "*.",          "*example.org", "a.*.org", "**.org",
        "*.*.org", "API.org",  "a..b",    ".a",          "a.",           "*..org",  "*.org.",
        "a b",     "a/b",      "a:",      "a:0",         "a:80",         "a:443",   "a:65536",
        "a:99999", "a:123456", "a:08080", "a:+1",        "a:1x",         "a:1:2",   "*.org:80",
        "[::1",    "[]",       "[::1]x",  "[::1]:",      "[::1]:443",    "[::G]",   "[abcd]",
        "::1",     "*.[::1]",  "user@a",  "caf\xc3\xa9", "a\n",          "*.org:",  "a.b-.:1 ",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (add(bad[i]) != RULES_BAD_NAME) {
            fail_msg("\"%s\" was taken for a name", bad[i]);
        }
    }
    char longest[RULES_HOST_MAX + 10];
    memset(longest, 'a', sizeof longest);
    snprintf(longest + 255, sizeof longest - 255, ":65535");
    assert_int_equal(strlen(longest) + 1, RULES_HOST_MAX);
    assert_int_equal(add(longest), RULES_ADDED);
    snprintf(longest + 255, sizeof longest - 255, "a");
    assert_int_equal(add(longest), RULES_BAD_NAME);
    longest[0] = '*';
    longest[1] = '.';
    assert_int_equal(add(longest), RULES_BAD_NAME);
    assert_int_equal(rules_count(rules), 1);
    assert_int_equal(add("a_b-c.0"), RULES_ADDED);
    assert_int_equal(add("a:1"), RULES_ADDED);
}

static void test_duplicates(void **state)
{
    (void)state;
    assert_int_equal(add("example.org"), RULES_ADDED);
    assert_int_equal(add("*.example.org"), RULES_ADDED);
    assert_int_equal(add("example.org:81"), RULES_ADDED);
    assert_int_equal(add("example.org"), RULES_DUPLICATE);
    assert_int_equal(add("*.example.org"), RULES_DUPLICATE);
    assert_int_equal(add("example.org:81"), RULES_DUPLICATE);
    assert_int_equal(rules_count(rules), 3);
}

static void test_many_in_order(void **state)
{
    (void)state;
    char name[64];
    for (int i = 0; i < 2000; i++) {
        snprintf(name, sizeof name, "%sh%d.example.org", i % 2 ? "*." : "", i);
        assert_int_equal(add(name), RULES_ADDED);
    }
    assert_int_equal(rules_count(rules), 2000);
    for (int i = 0; i < 2000; i++) {
        snprintf(name, sizeof name, "%sh%d.example.org", i % 2 ? "*." : "", i);
        assert_string_equal(rules_at(rules, (size_t)i)->name, name);
        char host[70];
        snprintf(host, sizeof host, "%sh%d.example.org", i % 2 ? "x." : "", i);
        assert_match(host, name);
    }
}

/* Every allocation fails in turn, and what was there stays as it was. */
static void test_out_of_memory(void **state)
{
    (void)state;
    struct rule fallback = {.limit = 1};
    allocations_left = 0;
    assert_null(rules_create(&fallback));
    rules_destroy(NULL);
    for (int i = 0; i < 40; i++) {
        char name[64];
        snprintf(name, sizeof name, "%sh%d.example.org", i % 2 ? "*." : "", i);
        enum rules_added added = RULES_NO_MEMORY;
        for (int allowed = 0; added == RULES_NO_MEMORY; allowed++) {
            assert_true(allowed < 10);
            allocations_left = allowed;
            added = add(name);
            assert_true(added == RULES_ADDED || rules_count(rules) == (size_t)i);
            assert_true(added == RULES_ADDED || rules_match(rules, name) == rules_default(rules));
        }
        allocations_left = -1;
        assert_int_equal(added, RULES_ADDED);
        assert_match(name, name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_only_the_default, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rule_is_copied, setup, teardown),
        cmocka_unit_test_setup_teardown(test_exact_names_and_ports, setup, teardown),
        cmocka_unit_test_setup_teardown(test_addresses, setup, teardown),
        cmocka_unit_test_setup_teardown(test_patterns, setup, teardown),
        cmocka_unit_test_setup_teardown(test_longest_pattern_wins, setup, teardown),
        cmocka_unit_test_setup_teardown(test_patterns_with_ports, setup, teardown),
        cmocka_unit_test_setup_teardown(test_exact_beats_patterns, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pattern_finds_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_names, setup, teardown),
        cmocka_unit_test_setup_teardown(test_duplicates, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_out_of_memory, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

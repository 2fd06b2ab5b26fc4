/* Upstreams: the table, how a rest is put behind a base path, and which fields replace others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/target.h"
#include "api/upstreams.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct origin_cache *origins;

static int set_up(void **state)
{
    (void)state;
    origins = origin_cache_create(4);
    return origins != NULL ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    origin_cache_destroy(origins);
    return 0;
}

static struct header field_of(const char *name, const char *value)
{
    return (struct header){
        .name = name,
        .value = value,
        .name_bytes = (uint32_t)strlen(name),
        .value_bytes = (uint32_t)strlen(value),
    };
}

/* A table with the one upstream NAME. */
static struct upstreams *table_of(const char *name, const char *url, const char *base_path)
{
    const char *detail;
    struct origin *origin = origin_parse(origins, url, strlen(url), &detail);
    struct header fields[] = {field_of("Authorization", "Bearer x"), field_of("X-Key", "k")};
    struct upstreams *upstreams = upstreams_create();
    assert_non_null(origin);
    assert_non_null(upstreams);
    assert_true(upstreams_add(upstreams, &(struct upstream){.name = name,
                                                            .origin = origin,
                                                            .base_path = base_path,
                                                            .fields = fields,
                                                            .field_count = COUNT(fields),
                                                            .allow_private = true}));
    origin_release(origin);
    return upstreams;
}

static void test_join(void **state)
{
    (void)state;
    static const struct {
        const char *base_path, *rest, *path;
    } cases[] = {
        {"", "", "/"},
        {"", "/", "/"},
        {"", "?", "/?"},
        {"", "?x=1", "/?x=1"},
        {"", "/a%2Fb?x", "/a%2Fb?x"},
        {"/", "", "/"},
        {"/", "/", "/"},
        {"/", "?x", "/?x"},
        {"/", "/a", "/a"},
        {"/", "//a", "//a"},
        {"/v1", "", "/v1"},
        {"/v1", "/", "/v1/"},
        {"/v1", "?x", "/v1?x"},
        {"/v1", "/?x", "/v1/?x"},
        {"/v1", "/a%2Fb?x", "/v1/a%2Fb?x"},
        {"/v1", "//a", "/v1//a"},
        {"/v1", "/../admin", "/v1/../admin"},
        {"/v1", "/%2e%2e/x", "/v1/%2e%2e/x"},
        {"/v1", "/a?b?c/d", "/v1/a?b?c/d"},
        {"/v1", "/\xc3\xbc%zz;\\", "/v1/\xc3\xbc%zz;\\"},
        {"/v1/", "", "/v1/"},
        {"/v1/", "/", "/v1/"},
        {"/v1/", "?x", "/v1/?x"},
        {"/v1/", "/a", "/v1/a"},
        {"/v1//", "/a", "/v1//a"},
        {"/a/../b", "/c", "/a/../b/c"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct upstreams *upstreams = table_of("u", "http://h", cases[i].base_path);
        char *path = upstream_join(upstreams_find(upstreams, "u", 1), cases[i].rest);
        assert_string_equal(path, cases[i].path);
        free(path);
        upstreams_destroy(upstreams);
    }
}

static void test_names(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "0", "-", "_", "stripe", "api-v2_b"};
    static const char *const bad[] = {"", "A", "a.b", "a/b", "a b", "a%41", "\xc3\xa4", "a:"};
    char longest[UPSTREAMS_NAME_MAX + 2];
    for (size_t i = 0; i < COUNT(good); i++) {
        assert_true(upstreams_is_name(good[i], strlen(good[i])));
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_false(upstreams_is_name(bad[i], strlen(bad[i])));
    }
    memset(longest, 'a', sizeof longest);
    assert_true(upstreams_is_name(longest, UPSTREAMS_NAME_MAX));
    assert_false(upstreams_is_name(longest, UPSTREAMS_NAME_MAX + 1));
}

static void test_table(void **state)
{
    (void)state;
    struct upstreams *upstreams = table_of("one", "https://one.test", "/v1");
    const char *detail;
    struct origin *origin = origin_parse(origins, "http://two.test", 15, &detail);
    assert_true(upstreams_add(
        upstreams, &(struct upstream){.name = "two", .origin = origin, .base_path = ""}));
    origin_release(origin);
    assert_int_equal(upstreams_count(upstreams), 2);
    assert_int_equal(upstreams_count(NULL), 0);
    const struct upstream *one = upstreams_find(upstreams, "one/rest", 3);
    assert_string_equal(one->name, "one");
    assert_string_equal(one->origin->url, "https://one.test/");
    assert_true(one->allow_private);
    assert_string_equal(upstreams_find(upstreams, "two", 3)->origin->host, "two.test");
    assert_null(upstreams_find(upstreams, "on", 2));
    assert_null(upstreams_find(upstreams, "ones", 4));
    assert_null(upstreams_find(upstreams, "One", 3));
    assert_null(upstreams_find(upstreams, "", 0));
    assert_null(upstreams_find(NULL, "one", 3));
    upstreams_destroy(upstreams);
    upstreams_destroy(NULL);
}

static void test_an_upstream_outlives_its_table(void **state)
{
    (void)state;
    struct upstreams *upstreams = table_of("one", "https://one.test", "/v1");
    struct upstream *one = upstream_hold(upstreams_find(upstreams, "one", 3));
    upstreams_destroy(upstreams);
    assert_string_equal(one->origin->name, "one.test");
    assert_string_equal(one->fields[0].value, "Bearer x");
    upstream_release(one);
    upstream_release(NULL);
}

static void test_which_fields_are_replaced(void **state)
{
    (void)state;
    struct upstreams *upstreams = table_of("one", "https://one.test", "");
    const struct upstream *one = upstreams_find(upstreams, "one", 3);
    static const char *const replaced[] = {"Authorization", "authorization", "x-key", "X-KEY"};
    static const char *const kept[] = {"Author", "Authorization2", "X_Key", "Accept"};
    for (size_t i = 0; i < COUNT(replaced); i++) {
        struct header field = field_of(replaced[i], "theirs");
        assert_true(upstream_replaces(one, &field));
    }
    for (size_t i = 0; i < COUNT(kept); i++) {
        struct header field = field_of(kept[i], "theirs");
        assert_false(upstream_replaces(one, &field));
    }
    upstreams_destroy(upstreams);
}

static void test_targets(void **state)
{
    (void)state;
    struct upstreams *upstreams = table_of("one", "https://One.test:8443", "/v1");
    static const struct {
        const char *raw, *path;
        size_t path_bytes;
    } good[] = {
        {"/to/one", "/v1", 3},
        {"/to/one?q", "/v1?q", 3},
        {"/to/one/", "/v1/", 4},
        {"/to/one/a%2Fb?x#", NULL, 0},
        {"/to/one/a%2Fb?x", "/v1/a%2Fb?x", 9},
        {"/to/one/to/one", "/v1/to/one", 10},
    };
    struct target target;
    const char *detail;
    for (size_t i = 0; i < COUNT(good); i++) {
        enum problem problem =
            target_parse(origins, upstreams, "GET", good[i].raw, &target, &detail);
        if (good[i].path == NULL) {
            assert_int_equal(problem, PROBLEM_BAD_TARGET);
            continue;
        }
        assert_int_equal(problem, PROBLEM_NONE);
        assert_int_equal(target.form, TARGET_UPSTREAM);
        assert_string_equal(target_form_word(target.form), "upstream");
        assert_string_equal(target.request_path, good[i].path);
        assert_int_equal(target.path_bytes, good[i].path_bytes);
        assert_string_equal(target.origin->host, "one.test:8443");
        assert_ptr_equal(target.upstream, upstreams_find(upstreams, "one", 3));
        target_finish(&target);
        assert_null(target.upstream);
    }
    static const char *const unknown[] = {"/to/two",    "/to/",       "/to//one", "/to/One/",
                                          "/to/on%65/", "/to/one;/x", "/to/?one"};
    for (size_t i = 0; i < COUNT(unknown); i++) {
        assert_int_equal(target_parse(origins, upstreams, "GET", unknown[i], &target, &detail),
                         PROBLEM_UNKNOWN_UPSTREAM);
        assert_string_equal(detail,
                            "no upstream of this name is configured: expected /to/NAME/PATH");
        assert_int_equal(target_parse(origins, NULL, "GET", unknown[i], &target, &detail),
                         PROBLEM_UNKNOWN_UPSTREAM);
    }
    static const char *const other[] = {"/to", "/to?one", "/tone/x", "/TO/one"};
    for (size_t i = 0; i < COUNT(other); i++) {
        assert_int_equal(target_parse(origins, upstreams, "GET", other[i], &target, &detail),
                         PROBLEM_NOT_FOUND);
    }
    upstreams_destroy(upstreams);
}

static void test_a_target_keeps_its_upstream(void **state)
{
    (void)state;
    struct upstreams *upstreams = table_of("one", "https://one.test", "/v1");
    struct target target;
    const char *detail;
    assert_int_equal(target_parse(origins, upstreams, "GET", "/to/one/a", &target, &detail),
                     PROBLEM_NONE);
    upstreams_destroy(upstreams);
    assert_string_equal(target.upstream->name, "one");
    assert_string_equal(target.request_path, "/v1/a");
    target_finish(&target);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_join),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_an_upstream_outlives_its_table),
        cmocka_unit_test(test_which_fields_are_replaced),
        cmocka_unit_test(test_targets),
        cmocka_unit_test(test_a_target_keeps_its_upstream),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

/* Targets: which forms there are, and that path and query stay byte for byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/target.h"

#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct origin_cache *origins;

static int set_up(void **state)
{
    (void)state;
    origins = origin_cache_create(16);
    return origins != NULL ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    origin_cache_destroy(origins);
    return 0;
}

struct good {
    const char *raw;
    enum target_form form;
    const char *url; /* the origin's */
    const char *request_path;
    size_t path_bytes;
    bool memory;
    const char *method; /* NULL: GET */
};

static const struct good good[] = {
    /* The absolute form. */
    {"http://h/", TARGET_ABSOLUTE, "http://h/", "/", 1, false, NULL},
    {"http://h", TARGET_ABSOLUTE, "http://h/", "/", 1, false, NULL},
    {"https://h/a", TARGET_ABSOLUTE, "https://h/", "/a", 2, false, NULL},
    {"HTTP://H:8080/A", TARGET_ABSOLUTE, "http://h:8080/", "/A", 2, false, NULL},
    {"hTTpS://h/", TARGET_ABSOLUTE, "https://h/", "/", 1, false, NULL},
    {"http://[::0001]:81/a", TARGET_ABSOLUTE, "http://[::1]:81/", "/a", 2, false, NULL},
    {"http://h?q", TARGET_ABSOLUTE, "http://h/", "/?q", 1, true, NULL},
    {"http://h?", TARGET_ABSOLUTE, "http://h/", "/?", 1, true, NULL},
    {"http://h?/a@b", TARGET_ABSOLUTE, "http://h/", "/?/a@b", 1, true, NULL},
    {"http://h/?", TARGET_ABSOLUTE, "http://h/", "/?", 1, false, NULL},
    {"http://h/a%2Fb%2e?x=%41+b&&k=", TARGET_ABSOLUTE, "http://h/", "/a%2Fb%2e?x=%41+b&&k=", 9,
     false, NULL},
    {"http://h//a/../b/./;c?d?e", TARGET_ABSOLUTE, "http://h/", "//a/../b/./;c?d?e", 13, false,
     NULL},
    {"http://h/%zz%", TARGET_ABSOLUTE, "http://h/", "/%zz%", 5, false, NULL},
    {"http://h/a@b:c", TARGET_ABSOLUTE, "http://h/", "/a@b:c", 6, false, NULL},
    {"http://h/a\\b", TARGET_ABSOLUTE, "http://h/", "/a\\b", 4, false, NULL},
    {"http://h/http://i/", TARGET_ABSOLUTE, "http://h/", "/http://i/", 10, false, NULL},
    {"http://h/\xc3\xbc", TARGET_ABSOLUTE, "http://h/", "/\xc3\xbc", 3, false, NULL},
    {"http://h/fetch?url=http://i/", TARGET_ABSOLUTE, "http://h/", "/fetch?url=http://i/", 6, false,
     NULL},
    {"http://h", TARGET_ABSOLUTE, "http://h/", "*", 1, false, "OPTIONS"},
    {"http://h/", TARGET_ABSOLUTE, "http://h/", "/", 1, false, "OPTIONS"},
    {"http://h?", TARGET_ABSOLUTE, "http://h/", "/?", 1, true, "OPTIONS"},
    {"http://h", TARGET_ABSOLUTE, "http://h/", "/", 1, false, "options"},
    {"http://h/a", TARGET_ABSOLUTE, "http://h/", "/a", 2, false, "PROPFIND"},
    /* The fetch form, without escapes: nothing is copied. */
    {"/fetch?url=http://h/a/b", TARGET_FETCH, "http://h/", "/a/b", 4, false, NULL},
    {"/fetch?url=https://h", TARGET_FETCH, "https://h/", "/", 1, false, NULL},
    {"/fetch?url=http://h", TARGET_FETCH, "http://h/", "/", 1, false, "OPTIONS"},
    {"/fetch?url=http://h/a?b=c", TARGET_FETCH, "http://h/", "/a?b=c", 2, false, NULL},
    {"/fetch?url=http://h/a+b", TARGET_FETCH, "http://h/", "/a+b", 4, false, NULL},
    {"/fetch?url=http://h?b", TARGET_FETCH, "http://h/", "/?b", 1, true, NULL},
    /* With escapes: decoded once, and once only. */
    {"/fetch?url=http%3A%2F%2Fh%2Fa%3Fb%3Dc%26d", TARGET_FETCH, "http://h/", "/a?b=c&d", 2, true,
     NULL},
    {"/fetch?url=http%3a%2f%2fh%3a81", TARGET_FETCH, "http://h:81/", "/", 1, false, NULL},
    {"/fetch?url=http://h%3Fb", TARGET_FETCH, "http://h/", "/?b", 1, true, NULL},
    {"/fetch?url=http://h/a%252Fb", TARGET_FETCH, "http://h/", "/a%2Fb", 6, true, NULL},
    {"/fetch?url=http://h/%2B+%26", TARGET_FETCH, "http://h/", "/++&", 4, true, NULL},
    {"/fetch?url=http://h/%C3%bc", TARGET_FETCH, "http://h/", "/\xc3\xbc", 3, true, NULL},
    {"/fetch?url=http://h/%2520%2523", TARGET_FETCH, "http://h/", "/%20%23", 7, true, NULL},
    {"/fetch?url=http://%68", TARGET_FETCH, "http://h/", "/", 1, false, NULL},
};

static void test_good(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(good); i++) {
        const struct good *line = &good[i];
        struct target target;
        memset(&target, 0xa5, sizeof target);
        const char *detail = "untouched";
        const char *method = line->method != NULL ? line->method : "GET";
        enum problem problem = target_parse(origins, NULL, method, line->raw, &target, &detail);
        if (problem != PROBLEM_NONE) {
            fail_msg("%s: expected to be taken, found: %s", line->raw, detail);
        }
        assert_string_equal(detail, "untouched");
        assert_int_equal(target.form, line->form);
        assert_string_equal(target.origin->url, line->url);
        assert_string_equal(target.request_path, line->request_path);
        assert_int_equal(target.path_bytes, line->path_bytes);
        assert_int_equal(target.memory != NULL, line->memory);
        target_finish(&target);
        assert_int_equal(target.form, TARGET_NONE);
        assert_null(target.origin);
        assert_null(target.request_path);
        assert_null(target.memory);
        target_finish(&target);
    }
}

/* The usual target costs no memory: its path is the raw target's. */
static void test_path_points_into_raw(void **state)
{
    static const char *const raws[] = {"http://h/a?b", "/fetch?url=http://h/a?b"};
    (void)state;
    for (size_t i = 0; i < COUNT(raws); i++) {
        struct target target;
        const char *detail = NULL;
        assert_int_equal(target_parse(origins, NULL, "GET", raws[i], &target, &detail),
                         PROBLEM_NONE);
        assert_ptr_equal(target.request_path, strstr(raws[i], "/a?b"));
        target_finish(&target);
    }
}

static void test_origin_is_held(void **state)
{
    (void)state;
    struct target target;
    const char *detail = NULL;
    assert_int_equal(target_parse(origins, NULL, "GET", "http://held/", &target, &detail),
                     PROBLEM_NONE);
    struct origin *origin = origin_hold(target.origin);
    assert_int_equal(origin->references, 3); /* ours, the target's, the cache's */
    target_finish(&target);
    assert_int_equal(origin->references, 2);
    /* A target that fails behind its origin holds nothing. */
    assert_int_equal(
        target_parse(origins, NULL, "GET", "/fetch?url=http://held/%00", &target, &detail),
        PROBLEM_BAD_TARGET);
    assert_int_equal(origin->references, 2);
    origin_release(origin);
}

static const struct {
    const char *raw;
    enum problem problem;
    const char *reason; /* part of the detail */
    const char *method; /* NULL: GET */
} bad[] = {
    /* No form. */
    {"", PROBLEM_NOT_FOUND, "/fetch?url=URL", NULL},
    {"/", PROBLEM_NOT_FOUND, "http://HOST/PATH", NULL},
    {"*", PROBLEM_NOT_FOUND, "/fetch?url=URL", "OPTIONS"},
    {"/fetch/", PROBLEM_NOT_FOUND, "/fetch?url=URL", NULL},
    {"/fetch/?url=http://h/", PROBLEM_NOT_FOUND, "/fetch?url=URL", NULL},
    {"/Fetch?url=http://h/", PROBLEM_NOT_FOUND, "/fetch?url=URL", NULL},
    {"/fetchx?url=http://h/", PROBLEM_NOT_FOUND, "/fetch?url=URL", NULL},
    {"/f%65tch?url=http://h/", PROBLEM_NOT_FOUND, "/fetch?url=URL", NULL},
    {"//fetch?url=http://h/", PROBLEM_NOT_FOUND, "/fetch?url=URL", NULL},
    {"fetch?url=http://h/", PROBLEM_NOT_FOUND, "/fetch?url=URL", NULL},
    {"/to/name/path", PROBLEM_UNKNOWN_UPSTREAM, "/to/NAME/PATH", NULL},
    {"/to", PROBLEM_NOT_FOUND, "/to/NAME/PATH", NULL},
    {"/batch", PROBLEM_NOT_FOUND, "/fetch?url=URL", "POST"},
    {"h:80", PROBLEM_NOT_FOUND, "/fetch?url=URL", NULL},
    {"://h/", PROBLEM_NOT_FOUND, "/fetch?url=URL", NULL},
    {"http://h/", PROBLEM_BAD_TARGET, "HOST:PORT", "CONNECT"},
    {"/fetch?url=http://h/", PROBLEM_BAD_TARGET, "HOST:PORT", "CONNECT"},
    {"h", PROBLEM_BAD_TARGET, "HOST:PORT", "CONNECT"},
    /* Bytes that are in no target. */
    {"http://h/a b", PROBLEM_BAD_TARGET, "space", NULL},
    {"http://h/\ta", PROBLEM_BAD_TARGET, "space", NULL},
    {"http://h/a\r\nX:1", PROBLEM_BAD_TARGET, "control", NULL},
    {"http://h/\x7f", PROBLEM_BAD_TARGET, "control", NULL},
    {"http://h/a#b", PROBLEM_BAD_TARGET, "#", NULL},
    {"/ a", PROBLEM_BAD_TARGET, "space", NULL},
    {"h:443 ", PROBLEM_BAD_TARGET, "space", "CONNECT"},
    /* Bad URLs in the absolute form. */
    {"ftp://h/", PROBLEM_BAD_TARGET, "http:// or https://", NULL},
    {"ws://h/", PROBLEM_BAD_TARGET, "http:// or https://", NULL},
    {"http:/h/", PROBLEM_BAD_TARGET, "http:// or https://", NULL},
    {"https:h", PROBLEM_BAD_TARGET, "http:// or https://", NULL},
    {"http:", PROBLEM_BAD_TARGET, "http:// or https://", NULL},
    {"http://", PROBLEM_BAD_TARGET, "no host", NULL},
    {"http:///h", PROBLEM_BAD_TARGET, "no host", NULL},
    {"http://?q", PROBLEM_BAD_TARGET, "no host", NULL},
    {"http://u@h/", PROBLEM_BAD_TARGET, "user information", NULL},
    {"http://h:/", PROBLEM_BAD_TARGET, "port", NULL},
    {"http://h:0/", PROBLEM_BAD_TARGET, "port", NULL},
    {"http://h\\@i/", PROBLEM_BAD_TARGET, "user information", NULL},
    {"http://h\\/", PROBLEM_BAD_TARGET, "character", NULL},
    {"http://h%2fa/", PROBLEM_BAD_TARGET, "percent", NULL},
    /* Bad queries and URLs in the fetch form. */
    {"/fetch", PROBLEM_BAD_TARGET, "missing", NULL},
    {"/fetch?", PROBLEM_BAD_TARGET, "missing", NULL},
    {"/fetch?url", PROBLEM_BAD_TARGET, "missing", NULL},
    {"/fetch?url=", PROBLEM_BAD_TARGET, "missing", NULL},
    {"/fetch?x=1", PROBLEM_BAD_TARGET, "%26", NULL},
    {"/fetch?URL=http://h/", PROBLEM_BAD_TARGET, "%26", NULL},
    {"/fetch?u%72l=http://h/", PROBLEM_BAD_TARGET, "%26", NULL},
    {"/fetch?http://h/", PROBLEM_BAD_TARGET, "%26", NULL},
    {"/fetch?url=http://h/?a&b", PROBLEM_BAD_TARGET, "%26", NULL},
    {"/fetch?url=http://h/&", PROBLEM_BAD_TARGET, "%26", NULL},
    {"/fetch?&url=http://h/", PROBLEM_BAD_TARGET, "%26", NULL},
    {"/fetch?url=http://h/&url=http://i/", PROBLEM_BAD_TARGET, "%26", NULL},
    {"/fetch?url=h/a", PROBLEM_BAD_TARGET, "http:// or https://", NULL},
    {"/fetch?url=//h/a", PROBLEM_BAD_TARGET, "http:// or https://", NULL},
    {"/fetch?url=/fetch", PROBLEM_BAD_TARGET, "http:// or https://", NULL},
    {"/fetch?url=http:/h/a", PROBLEM_BAD_TARGET, "http:// or https://", NULL},
    {"/fetch?url=ftp%3A%2F%2Fh", PROBLEM_BAD_TARGET, "http:// or https://", NULL},
    {"/fetch?url=file:///etc/passwd", PROBLEM_BAD_TARGET, "http:// or https://", NULL},
    {"/fetch?url=http://u%40h/", PROBLEM_BAD_TARGET, "user information", NULL},
    {"/fetch?url=http%3A%2F%2F", PROBLEM_BAD_TARGET, "no host", NULL},
    {"/fetch?url=http://h/%", PROBLEM_BAD_TARGET, "hexadecimal", NULL},
    {"/fetch?url=http://h/%2", PROBLEM_BAD_TARGET, "hexadecimal", NULL},
    {"/fetch?url=http://h/%2g", PROBLEM_BAD_TARGET, "hexadecimal", NULL},
    {"/fetch?url=http://h/%g2", PROBLEM_BAD_TARGET, "hexadecimal", NULL},
    {"/fetch?url=http://h/%%41", PROBLEM_BAD_TARGET, "hexadecimal", NULL},
    {"/fetch?url=http://h/%20", PROBLEM_BAD_TARGET, "once decoded", NULL},
    {"/fetch?url=http://h/%00", PROBLEM_BAD_TARGET, "once decoded", NULL},
    {"/fetch?url=http://h%00.example/", PROBLEM_BAD_TARGET, "once decoded", NULL},
    {"/fetch?url=http://h/%0d%0aX:1", PROBLEM_BAD_TARGET, "once decoded", NULL},
    {"/fetch?url=http://h/%7F", PROBLEM_BAD_TARGET, "once decoded", NULL},
    {"/fetch?url=http://h/%23a", PROBLEM_BAD_TARGET, "once decoded", NULL},
    {"/fetch?url=http://%2568/", PROBLEM_BAD_TARGET, "percent", NULL},
};

static void test_bad(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct target target = {.path_bytes = 77};
        const char *detail = NULL;
        const char *method = bad[i].method != NULL ? bad[i].method : "GET";
        enum problem problem = target_parse(origins, NULL, method, bad[i].raw, &target, &detail);
        if (problem != bad[i].problem || detail == NULL || strstr(detail, bad[i].reason) == NULL) {
            fail_msg("%s: expected problem %d for its %s, found %d: %s", bad[i].raw,
                     (int)bad[i].problem, bad[i].reason, (int)problem,
                     detail != NULL ? detail : "no detail");
        }
        assert_int_equal(target.path_bytes, 77); /* nothing is written */
    }
}

/* The rest about it is in connect.c. */
static void test_tunnel(void **state)
{
    (void)state;
    struct target target;
    const char *detail = NULL;
    assert_int_equal(target_parse(origins, NULL, "CONNECT", "H:443", &target, &detail),
                     PROBLEM_NONE);
    assert_int_equal(target.form, TARGET_TUNNEL);
    assert_string_equal(target.origin->host, "h");
    assert_null(target.request_path);
    assert_int_equal(target.path_bytes, 0);
    target_finish(&target);
}

static void test_words(void **state)
{
    (void)state;
    assert_string_equal(target_form_word(TARGET_NONE), "none");
    assert_string_equal(target_form_word(TARGET_FETCH), "fetch");
    assert_string_equal(target_form_word(TARGET_ABSOLUTE), "forward");
    assert_string_equal(target_form_word(TARGET_TUNNEL), "connect");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),  cmocka_unit_test(test_path_points_into_raw),
        cmocka_unit_test(test_bad),   cmocka_unit_test(test_origin_is_held),
        cmocka_unit_test(test_words), cmocka_unit_test(test_tunnel),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

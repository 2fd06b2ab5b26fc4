#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/percent.h"

#include <stdlib.h>
#include <string.h>

/* Decodes the BYTES at TEXT in memory that ends where it has to. */
static bool decode(const char *text, size_t bytes, char **ret_decoded, size_t *ret_bytes)
{
    char *exact = malloc(bytes + (bytes == 0));
    *ret_decoded = malloc(bytes + 1);
    assert_non_null(exact);
    assert_non_null(*ret_decoded);
    memcpy(exact, text, bytes);
    bool good = percent_decode(exact, bytes, *ret_decoded, ret_bytes);
    free(exact);
    return good;
}

static void test_decodes_once(void **state)
{
    static const struct {
        const char *text;
        const char *decoded;
        size_t bytes;
    } cases[] = {
        {"", "", 0},         {"a", "a", 1},       {"%41%7a", "Az", 2},
        {"%2F%2f", "//", 2}, {"%2541", "%41", 3}, {"a+b", "a+b", 3},
        {"%00x", "\0x", 2},  {"%ff", "\xff", 1},  {"%aB%Cd", "\xab\xcd", 2},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *decoded;
        size_t bytes;
        assert_true(decode(cases[i].text, strlen(cases[i].text), &decoded, &bytes));
        assert_int_equal(bytes, cases[i].bytes);
        assert_memory_equal(decoded, cases[i].decoded, bytes + 1);
        free(decoded);
    }
}

static void test_broken_escapes(void **state)
{
    static const char *const cases[] = {"%",    "a%",  "%4",  "%g0", "%0g",
                                        "%%41", "% 1", "%-1", "%4\0"};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *decoded;
        size_t bytes;
        assert_false(decode(cases[i], strlen(cases[i]), &decoded, &bytes));
        free(decoded);
    }
    char *decoded;
    size_t bytes;
    assert_false(decode("%414", 2, &decoded, &bytes)); /* what lies behind is not its */
    free(decoded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decodes_once),
        cmocka_unit_test(test_broken_escapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

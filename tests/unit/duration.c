/* Durations: what is read, what is not, and that what is printed is read again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/duration.h"

#include <string.h>

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static void test_reads_every_unit(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t ns;
    } cases[] = {
        {"0", 0},
        {"0ms", 0},
        {"0h", 0},
        {"00", 0},
        {"1ms", DURATION_MS},
        {"250ms", 250 * DURATION_MS},
        {"5s", 5 * DURATION_S},
        {"05s", 5 * DURATION_S},
        {"2m", 120 * DURATION_S},
        {"1h", 3600 * DURATION_S},
        {"8760h", UINT64_C(8760) * 3600 * DURATION_S},
        {"525600m", UINT64_C(8760) * 3600 * DURATION_S},
        {"31536000s", UINT64_C(8760) * 3600 * DURATION_S},
        {"31536000000ms", UINT64_C(8760) * 3600 * DURATION_S},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        uint64_t ns = 7;
        assert_true(duration_parse(cases[i].text, strlen(cases[i].text), &ns));
        assert_int_equal(ns, cases[i].ns);
    }
}

static void test_refuses_anything_else(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "",
        "5",
        "ms",
        "s",
        "5x",
        "5S",
        "5sec",
        "5 s",
        " 5s",
        "5s ",
        "-5s",
        "+5s",
        "1.5s",
        "5s5s",
        "0x5s",
        "8761h",
        "525601m",
        "31536001s",
        "31536000001ms",
        "18446744073709551616s",
        "99999999999999999999999999999999999999ms",
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        uint64_t ns = 7;
        assert_false(duration_parse(cases[i], strlen(cases[i]), &ns));
        assert_int_equal(ns, 7);
    }
}

static void test_reads_no_further_than_told(void **state)
{
    (void)state;
    uint64_t ns = 7;
    assert_true(duration_parse("5sx", 2, &ns));
    assert_int_equal(ns, 5 * DURATION_S);
    assert_true(duration_parse("5ms", 3, &ns));
    assert_int_equal(ns, 5 * DURATION_MS);
    assert_false(duration_parse("5s\0", 3, &ns));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_every_unit),
        cmocka_unit_test(test_refuses_anything_else),
        cmocka_unit_test(test_reads_no_further_than_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

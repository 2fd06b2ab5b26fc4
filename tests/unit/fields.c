#include "api/fields.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static enum fields_added add(struct fields *fields, const char *line)
{
    return fields_add(fields, line, strlen(line));
}

static void assert_field(const struct header *field, const char *name, const char *value)
{
    assert_int_equal(field->name_bytes, strlen(name));
    assert_memory_equal(field->name, name, strlen(name));
    assert_int_equal(field->value_bytes, strlen(value));
    assert_memory_equal(field->value, value, strlen(value));
}

static void test_lines_become_fields_in_order(void **state)
{
    (void)state;
    struct fields fields = {0};
    assert_int_equal(add(&fields, "Set-Cookie: a=1"), FIELDS_ADDED);
    assert_int_equal(add(&fields, "X-Empty:"), FIELDS_ADDED);
    assert_int_equal(add(&fields, "Set-Cookie:  b=2 "), FIELDS_ADDED);
    fields_settle(&fields);
    assert_int_equal(fields.count, 3);
    assert_field(&fields.at[0], "Set-Cookie", "a=1");
    assert_field(&fields.at[1], "X-Empty", "");
    assert_field(&fields.at[2], "Set-Cookie", "b=2");
    fields_finish(&fields);
}

static void test_a_folded_line_goes_on_after_one_space(void **state)
{
    (void)state;
    struct fields fields = {0};
    assert_int_equal(add(&fields, "X-Long: one"), FIELDS_ADDED);
    assert_int_equal(add(&fields, "\t  two"), FIELDS_ADDED);
    assert_int_equal(add(&fields, "X-Next: three"), FIELDS_ADDED);
    fields_settle(&fields);
    assert_int_equal(fields.count, 2);
    assert_field(&fields.at[0], "X-Long", "one two");
    assert_field(&fields.at[1], "X-Next", "three");
    fields_finish(&fields);
}

static void test_malformed_lines_are_refused(void **state)
{
    (void)state;
    struct fields fields = {0};
    assert_int_equal(add(&fields, " folded onto nothing"), FIELDS_MALFORMED);
    assert_int_equal(add(&fields, "no colon"), FIELDS_MALFORMED);
    assert_int_equal(add(&fields, "bad name: x"), FIELDS_MALFORMED);
    assert_int_equal(fields.count, 0);
    fields_finish(&fields);
}

static void test_many_fields_stay_good_while_the_text_moves(void **state)
{
    (void)state;
    struct fields fields = {0};
    char line[64];
    for (int i = 0; i < 1000; i++) {
        snprintf(line, sizeof line, "X-%d: value %d", i, i * 7);
        assert_int_equal(add(&fields, line), FIELDS_ADDED);
    }
    fields_settle(&fields);
    assert_int_equal(fields.count, 1000);
    assert_field(&fields.at[0], "X-0", "value 0");
    assert_field(&fields.at[999], "X-999", "value 6993");
    fields_finish(&fields);
}

static void test_a_section_is_used_again(void **state)
{
    (void)state;
    struct fields fields = {0};
    assert_int_equal(add(&fields, "X-Old: 1"), FIELDS_ADDED);
    fields_settle(&fields);
    fields_reset(&fields);
    assert_int_equal(fields.count, 0);
    assert_int_equal(add(&fields, "X-New: 2"), FIELDS_ADDED);
    fields_settle(&fields);
    assert_int_equal(fields.count, 1);
    assert_field(&fields.at[0], "X-New", "2");
    fields_finish(&fields);
    assert_null(fields.at);
    assert_null(fields.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_become_fields_in_order),
        cmocka_unit_test(test_a_folded_line_goes_on_after_one_space),
        cmocka_unit_test(test_malformed_lines_are_refused),
        cmocka_unit_test(test_many_fields_stay_good_while_the_text_moves),
        cmocka_unit_test(test_a_section_is_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

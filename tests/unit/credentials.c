/* Credentials in header fields: which are read, and which are not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/credentials.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static struct header field(const char *name, const char *value)
{
    return (struct header){name, value, (uint32_t)strlen(name), (uint32_t)strlen(value)};
}

static enum credentials_found read_one(const char *name, const char *value,
                                       struct credentials *ret_credentials)
{
    struct header fields[] = {field("Host", "h"), field(name, value), field("Accept", "x")};
    const char *detail = NULL;
    enum credentials_found found =
        credentials_read(fields, COUNT_OF(fields), ret_credentials, &detail);
    assert_int_equal(found == CREDENTIALS_FOUND, detail == NULL);
    return found;
}

static void expect(const char *name, const char *value, const char *user, const char *password)
{
    struct credentials credentials;
    assert_int_equal(read_one(name, value, &credentials), CREDENTIALS_FOUND);
    assert_int_equal(credentials.name_bytes, strlen(user));
    assert_memory_equal(credentials.text, user, strlen(user));
    assert_int_equal(credentials.text[credentials.name_bytes], ':');
    assert_string_equal(credentials.text + credentials.name_bytes + 1, password);
    credentials_wipe(&credentials);
}

static void test_good_ones(void **state)
{
    (void)state;
    expect("Proxy-Authorization", "Basic YTpi", "a", "b");
    expect("proxy-authorization", "bAsIc   YTpi", "a", "b");
    expect("Proxy-Authorization", "Basic YWxhZGRpbjpvcGVuc2VzYW1l", "aladdin", "opensesame");
    expect("Proxy-Authorization", "Basic YTo=", "a", "");
    expect("Proxy-Authorization", "Basic YTo", "a", "");
    expect("Proxy-Authorization", "Basic YTpiOmM=", "a", "b:c");
    expect("Proxy-Authorization", "Basic Ojo6", "", "::");
    expect("Proxy-Authorization", "Basic YTrDqS8/", "a", "\xc3\xa9/?");
    expect("Weir-Token", "ci:s3cret", "ci", "s3cret");
    expect("WEIR-TOKEN", "ci:a b:c", "ci", "a b:c");
}

static void test_malformed_ones(void **state)
{
    static const struct {
        const char *name;
        const char *value;
    } cases[] = {
        {"Proxy-Authorization", ""},
        {"Proxy-Authorization", "Basic"},
        {"Proxy-Authorization", "Basic "},
        {"Proxy-Authorization", "Basic YTpi YTpi"},
        {"Proxy-Authorization", "Basic YTpi,"},
        {"Proxy-Authorization", "Basic Y"},
        {"Proxy-Authorization", "Basic YTpiY"},
        {"Proxy-Authorization", "Basic YT==pi"},
        {"Proxy-Authorization", "Basic YTpi===="},
        {"Proxy-Authorization", "Basic YTp="},     /* bits behind the last byte */
        {"Proxy-Authorization", "Basic YWI="},     /* no colon */
        {"Proxy-Authorization", "Basic YToAYg=="}, /* a byte 0 */
        {"Proxy-Authorization", "Basic Y-p_"},
        {"Proxy-Authorization", "Bearer YTpi"},
        {"Proxy-Authorization", "Basicx YTpi"},
        {"Proxy-Authorization", "BasicYTpi"},
        {"Weir-Token", ""},
        {"Weir-Token", "secret"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct credentials credentials;
        assert_int_equal(read_one(cases[i].name, cases[i].value, &credentials),
                         CREDENTIALS_MALFORMED);
        for (size_t byte = 0; byte < sizeof credentials; byte++) {
            assert_int_equal(((char *)&credentials)[byte], 0); /* wiped */
        }
    }
}

static void test_length(void **state)
{
    char value[2 * CREDENTIALS_MAX];
    struct credentials credentials;
    (void)state;
    memset(value, 'A', sizeof value); /* base64 of bytes 0, which is malformed, but not too long */
    memcpy(value, "Basic ", 6);
    (void)memset(value + 6, 'O', sizeof value - 6); /* "8s" and so on: no colon, no 0 */
    value[sizeof value - 1] = '\0';
    assert_int_equal(read_one("Proxy-Authorization", value, &credentials), CREDENTIALS_MALFORMED);
    memset(value, 'x', CREDENTIALS_MAX);
    value[1] = ':';
    value[CREDENTIALS_MAX] = '\0';
    assert_int_equal(read_one("Weir-Token", value, &credentials), CREDENTIALS_FOUND);
    assert_int_equal(credentials.bytes, CREDENTIALS_MAX);
    value[CREDENTIALS_MAX] = 'x';
    value[CREDENTIALS_MAX + 1] = '\0';
    assert_int_equal(read_one("Weir-Token", value, &credentials), CREDENTIALS_MALFORMED);
}

static void test_missing_and_twice(void **state)
{
    struct header none[] = {field("Authorization", "Basic YTpi"), field("Cookie", "a=b")};
    struct header twice[] = {field("Proxy-Authorization", "Basic YTpi"),
                             field("Proxy-Authorization", "Basic YTpi")};
    struct header both[] = {field("Weir-Token", "a:b"), field("Proxy-Authorization", "Basic YTpi")};
    struct credentials credentials;
    const char *detail = NULL;
    (void)state;
    assert_int_equal(credentials_read(none, 2, &credentials, &detail), CREDENTIALS_MISSING);
    assert_non_null(detail);
    assert_int_equal(credentials_read(NULL, 0, &credentials, &detail), CREDENTIALS_MISSING);
    assert_int_equal(credentials_read(twice, 2, &credentials, &detail), CREDENTIALS_TWICE);
    assert_int_equal(credentials_read(both, 2, &credentials, &detail), CREDENTIALS_TWICE);
}

static void test_bearer(void **state)
{
    struct header good[] = {field("Host", "h"), field("authorization", "BEARER  abc")};
    struct header bad[] = {field("Authorization", "Basic abc"), field("Authorization", "Bearer a"),
                           field("Authorization", "Bearer"),
                           field("Proxy-Authorization", "Bearer a")};
    size_t bytes = 0;
    (void)state;
    const char *token = credentials_bearer(good, 2, &bytes);
    assert_non_null(token);
    assert_int_equal(bytes, 3);
    assert_memory_equal(token, "abc", 3);
    assert_null(credentials_bearer(bad, 1, &bytes));
    assert_null(credentials_bearer(bad, 2, &bytes)); /* two */
    assert_null(credentials_bearer(bad + 2, 2, &bytes));
    assert_null(credentials_bearer(NULL, 0, &bytes));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_ones), cmocka_unit_test(test_malformed_ones),
        cmocka_unit_test(test_length),    cmocka_unit_test(test_missing_and_twice),
        cmocka_unit_test(test_bearer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

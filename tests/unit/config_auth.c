/* The keys of who may use it, of unix: sockets and of fair share. */
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

#define MODE \
    "expected the mode of a file as text, in octal and not executable, such as \"0660\", found "

static struct config *read_text(const char *text)
{
    struct config_draft *draft = config_draft_create();
    struct config *config = NULL;
    char *error = NULL;
    assert_non_null(draft);
    if (!config_file_parse("f", text, strlen(text), draft, &error)) {
        fail_msg("%s", error);
    }
    assert_true(config_draft_finish(draft, &config, &error));
    return config;
}

static void test_defaults(void **state)
{
    (void)state;
    struct config *config = read_text("{}");
    assert_null(config->auth.clients);
    assert_null(config->auth.admin_read);
    assert_null(config->auth.admin_operate);
    assert_int_equal(config->socket_mode, 0660);
    assert_int_equal(config->admin_socket_mode, 0600);
    assert_int_equal(config->connections_per_client, 0);
    assert_int_equal(config->buffer_bytes, 268435456);
    assert_null(config->listen[0].path);
    config_destroy(config);
}

static void test_all_keys(void **state)
{
    (void)state;
    struct config *config = read_text(
        "{\"listen\": [\"unix:/run/a b/c:1\", \"127.0.0.1:1\"], \"socket_mode\": \"0666\","
        " \"admin\": {\"listen\": \"unix:/x\", \"socket_mode\": \"640\"},"
        " \"auth\": {\"clients\": \"/not/there\", \"admin\": {\"read\": \"r\", \"operate\": "
        "\"o\"}},"
        " \"connections_per_client\": 7, \"buffer_bytes\": 1048576}");
    assert_int_equal(config->listen_count, 2);
    assert_string_equal(config->listen[0].text, "unix:/run/a b/c:1");
    assert_string_equal(config->listen[0].path, "/run/a b/c:1");
    assert_string_equal(config->listen[0].address, "");
    assert_int_equal(config->listen[0].port, 0);
    assert_null(config->listen[1].path);
    assert_string_equal(config->admin_listen.path, "/x");
    assert_int_equal(config->socket_mode, 0666);
    assert_int_equal(config->admin_socket_mode, 0640);
    assert_string_equal(config->auth.clients, "/not/there");
    assert_string_equal(config->auth.admin_read, "r");
    assert_string_equal(config->auth.admin_operate, "o");
    assert_int_equal(config->connections_per_client, 7);
    assert_int_equal(config->buffer_bytes, 1048576);
    config_destroy(config);
}

static void test_bad_values(void **state)
{
    static const struct {
        const char *text;
        const char *error;
    } cases[] = {
        {"{\"socket_mode\": 660}", "f:1: socket_mode: " MODE "660"},
        {"{\"socket_mode\": \"0770\"}", "f:1: socket_mode: " MODE "\"0770\""},
        {"{\"socket_mode\": \"0680\"}", "f:1: socket_mode: " MODE "\"0680\""},
        {"{\"socket_mode\": \"1660\"}", "f:1: socket_mode: " MODE "\"1660\""},
        {"{\"socket_mode\": \"60\"}", "f:1: socket_mode: " MODE "\"60\""},
        {"{\"socket_mode\": \"\"}", "f:1: socket_mode: " MODE "\"\""},
        {"{\"socket_mode\": \"u=rw\"}", "f:1: socket_mode: " MODE "\"u=rw\""},
        {"{\"admin\": {\"socket_mode\": null}}", "f:1: admin.socket_mode: " MODE "null"},
        {"{\"auth\": {\"clients\": \"\"}}",
         "f:1: auth.clients: expected the path of a file, found \"\""},
        {"{\"auth\": {\"admin\": \"x\"}}", "f:1: auth.admin: expected an object, found \"x\""},
        {"{\"auth\": {\"admin\": {\"write\": \"x\"}}}",
         "f:1: auth.admin.write: unknown key, expected one of read, operate"},
        {"{\"auth\": {\"users\": \"x\"}}",
         "f:1: auth.users: unknown key, expected one of clients, admin"},
        {"{\"connections_per_client\": 0}",
         "f:1: connections_per_client: expected a whole number from 1 to 1000000, found 0"},
        {"{\"buffer_bytes\": 1048575}",
         "f:1: buffer_bytes: expected a whole number from 1048576 to 4294967295, found 1048575"},
        {"{\"listen\": [\"unix:/x\", \"unix:/x\"]}",
         "f:1: listen[1]: expected each address once, found \"unix:/x\""},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
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

static void test_unix_addresses(void **state)
{
    static const char *const bad[] = {"unix:",          "unix:/",   "unix:x",
                                      "unix:x/y",       "unix:/x/", "unix:/a\nb",
                                      "unix:@abstract", "unix",     "UNIX:/x"};
    char text[CONFIG_SOCKET_PATH_MAX + 16];
    struct config_listen listen;
    (void)state;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_int_equal(config_parse_listen(bad[i], strlen(bad[i]), &listen), CONFIG_ADD_BAD);
    }
    assert_int_equal(config_parse_listen("unix:/a\0b", 9, &listen), CONFIG_ADD_BAD);
    memset(text, 'x', sizeof text);
    memcpy(text, "unix:/", 6);
    size_t longest = strlen("unix:") + CONFIG_SOCKET_PATH_MAX - 1;
    assert_int_equal(config_parse_listen(text, longest + 1, &listen), CONFIG_ADD_BAD);
    assert_int_equal(config_parse_listen(text, longest, &listen), CONFIG_ADDED);
    assert_int_equal(strlen(listen.path), CONFIG_SOCKET_PATH_MAX - 1);
    config_listen_finish(&listen);
    assert_null(listen.path);
}

static void test_data_and_admin_on_one_socket(void **state)
{
    static const char text[] = "{\"listen\": \"unix:/x\", \"admin\": {\"listen\": \"unix:/x\"}}";
    struct config_draft *draft = config_draft_create();
    struct config *config = NULL;
    char *error = NULL;
    (void)state;
    assert_true(config_file_parse("f", text, strlen(text), draft, &error));
    assert_false(config_draft_finish(draft, &config, &error));
    assert_string_equal(error,
                        "listen, admin: expected different addresses, found unix:/x in both");
    free(error);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_all_keys),
        cmocka_unit_test(test_bad_values),
        cmocka_unit_test(test_unix_addresses),
        cmocka_unit_test(test_data_and_admin_on_one_socket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

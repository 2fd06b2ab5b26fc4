/* Secrets from files: what is read, and every reason why one is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/secrets.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

#define SHA512                                                                                    \
    "$6$rounds=1000$abcdefgh$T4IxfLekGaBeQnTAwBiF44khEyJ0Me902qgy/TUTljtDBGek0yXtln/VLwcluRKTXc0" \
    "yr5n2UBkCl7H2BREdh0"
#define SHA256   "$5$rounds=1000$qwertyui$mBpP5Xd44yKDJ9o0bcZFN.1VO8R.cts3BOVbkPAxn4."
#define BCRYPT   "$2b$04$abcdefghijklmnopqrstuuwoxBKLAPTpYmOCraVPmN0lNh6KVWefO"
#define YESCRYPT "$y$j75$abcdefghijkl$Ni6YAln6Uaif70x1WKWwiuo/LUf96t0/ZFkWikmeGE5"
#define TOKEN    "0123456789abcdef-reader"
#define OTHER    "0123456789abcdef-operator"

static char directory[] = "/tmp/weir-secrets-XXXXXX";
static char path[64];
static char second[64];

static void write_file(const char *name, const char *text, size_t bytes, mode_t mode)
{
    (void)unlink(name);
    int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, bytes), bytes);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static struct secrets *load_clients(const char *text)
{
    struct secrets_paths paths = {.clients = path};
    char *error = NULL;
    write_file(path, text, strlen(text), 0600);
    struct secrets *secrets = secrets_load(&paths, &error);
    if (secrets == NULL) {
        print_message("%s\n", error);
    }
    assert_non_null(secrets);
    return secrets;
}

static void expect_error(const struct secrets_paths *paths, const char *expected)
{
    char *error = NULL;
    assert_null(secrets_load(paths, &error));
    assert_non_null(error);
    assert_string_equal(error, expected);
    free(error);
}

/* The file of clients TEXT is refused for REASON; REASON begins behind the path. */
static void expect_bad_clients(const char *text, const char *reason)
{
    char expected[512];
    struct secrets_paths paths = {.clients = path};
    write_file(path, text, strlen(text), 0600);
    (void)snprintf(expected, sizeof expected, "auth.clients: %s%s", path, reason);
    expect_error(&paths, expected);
}

static void test_clients_are_found(void **state)
{
    const char *hash = NULL;
    (void)state;
    struct secrets *secrets = load_clients("# people\n\n  \t\r\nbob:" SHA256 "\r\n \tal ice:" SHA512
                                           "  \n#x:y\nci:" BCRYPT "\nzoe:" YESCRYPT);
    assert_true(secrets_ask_clients(secrets));
    assert_false(secrets_ask_readers(secrets));
    assert_false(secrets_ask_operators(secrets));
    assert_true(secrets_find_client(secrets, "bob", 3, &hash));
    assert_string_equal(hash, SHA256);
    assert_true(secrets_find_client(secrets, "al ice", 6, &hash));
    assert_string_equal(hash, SHA512);
    assert_true(secrets_find_client(secrets, "ci", 2, &hash));
    assert_string_equal(hash, BCRYPT);
    assert_true(secrets_find_client(secrets, "zoe", 3, &hash));
    assert_string_equal(hash, YESCRYPT);
    secrets_destroy(secrets);
}

static void test_unknown_name_still_has_a_hash(void **state)
{
    static const char *const names[] = {"bo", "bobb", "", "alice", "#x", "zoe", "Bob"};
    (void)state;
    struct secrets *secrets = load_clients("bob:" SHA256 "\n");
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        const char *hash = NULL;
        assert_false(secrets_find_client(secrets, names[i], strlen(names[i]), &hash));
        assert_string_equal(hash, SHA256);
    }
    secrets_destroy(secrets);
}

static void test_bad_lines(void **state)
{
    static const char methods[] =
        "expected a hash of bcrypt ($2b$), SHA-256 ($5$), SHA-512 ($6$), scrypt ($7$) or "
        "yescrypt ($y$), as mkpasswd, htpasswd -B or openssl passwd -6 write it";
    static const struct {
        const char *line;
        const char *reason;
    } cases[] = {
        {"bob", "expected NAME:HASH"},
        {":" SHA256, "expected NAME:HASH, found no name"},
        {"bob:", "expected NAME:HASH, found no hash"},
        {"bob:!", "the hash is locked (it begins with ! or *): take the line out instead"},
        {"bob:!" SHA256, "the hash is locked (it begins with ! or *): take the line out instead"},
        {"bob:*", "the hash is locked (it begins with ! or *): take the line out instead"},
        {"bob:secret", methods},
        {"bob:$1$wKIJ9hOv$hhzUYTVtssGn9IPOs1W2c0", methods},
        {"bob:$apr1$wKIJ9hOv$hhzUYTVtssGn9IPOs1W2c0", methods},
        {"bob:sJMJmEF0rXLh2", methods},
        {"bob:{SHA}0DPiKuNIrrVmD8IUCuw1hQxNqZc=", methods},
        {"bob:$6$abcdefgh$short", "the hash is not complete"},
        {"bob:$5$rounds=1000$qwertyui$mBpP5Xd44yKDJ9o0bcZFN.1VO8R.cts3BOVbkPAxn4",
         "the hash is not complete"},
        {"bob:" SHA256 ":more", "the hash is not complete"},
        {"bob:$2b$99$abcdefghijklmnopqrstuuwoxBKLAPTpYmOCraVPmN0lNh6KVWefO",
         "the hash is malformed: expected one as crypt(5) describes it"},
        {"bob:$2b$x4$abcdefghijklmnopqrstuuwoxBKLAPTpYmOCraVPmN0lNh6KVWefO",
         "the hash is malformed: expected one as crypt(5) describes it"},
        {"bob:$5$rounds=999$qwertyui$mBpP5Xd44yKDJ9o0bcZFN.1VO8R.cts3BOVbkPAxn4.",
         "the hash is malformed: expected one as crypt(5) describes it"},
        {"b\001b:" SHA256, "expected a name without control characters"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char text[512];
        char reason[512];
        (void)snprintf(text, sizeof text, "# one\nal:" SHA256 "\n\n%s\n", cases[i].line);
        (void)snprintf(reason, sizeof reason, ":4: %s", cases[i].reason);
        expect_bad_clients(text, reason);
        assert_null(strstr(reason, "wKIJ9hOv"));
    }
}

static void test_names_have_a_bound_and_come_once(void **state)
{
    char text[512];
    (void)state;
    memset(text, 'n', SECRETS_NAME_MAX + 1);
    (void)snprintf(text + SECRETS_NAME_MAX + 1, 200, ":" SHA256);
    expect_bad_clients(text, ":1: expected a name of at most 128 bytes");
    secrets_destroy(load_clients(text + 1));
    expect_bad_clients("b:" SHA256 "\na:" SHA256 "\nb:" SHA512 "\n",
                       ": the name \"b\" is there twice");
}

static void test_bad_files(void **state)
{
    char expected[256];
    struct secrets_paths paths = {.clients = "/nowhere/at/all"};
    (void)state;
    expect_error(&paths, "auth.clients: /nowhere/at/all: expected a file that can be read: No such "
                         "file or directory");
    paths.clients = directory;
    (void)snprintf(expected, sizeof expected,
                   "auth.clients: %s: expected a regular file, found a directory (a container "
                   "engine makes one where the file to mount is missing)",
                   directory);
    expect_error(&paths, expected);
    expect_bad_clients("", ": the file is empty");
    expect_bad_clients("# nobody\n\n",
                       ": there is no NAME:HASH in it, so that nobody could come in");
    write_file(path, "a\0b", 3, 0600);
    paths.clients = path;
    (void)snprintf(expected, sizeof expected, "auth.clients: %s: expected text, found a byte 0",
                   path);
    expect_error(&paths, expected);
    char *large = malloc(SECRETS_FILE_BYTES_MAX + 2);
    assert_non_null(large);
    memset(large, '\n', SECRETS_FILE_BYTES_MAX + 1);
    large[SECRETS_FILE_BYTES_MAX + 1] = '\0';
    expect_bad_clients(large, ": expected a file of at most 1 MiB, found more");
    free(large);
    if (geteuid() != 0) {
        write_file(path, "a:" SHA256, 10, 0);
        (void)snprintf(expected, sizeof expected,
                       "auth.clients: %s: expected a file that can be read: Permission denied",
                       path);
        expect_error(&paths, expected);
    }
}

static void test_a_pipe_is_not_waited_for(void **state)
{
    char expected[256];
    struct secrets_paths paths = {.admin_read = path};
    (void)state;
    (void)unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    (void)snprintf(expected, sizeof expected,
                   "auth.admin.read: %s: expected a regular file, found a pipe", path);
    expect_error(&paths, expected);
}

static void test_tokens(void **state)
{
    struct secrets_paths paths = {.admin_read = path, .admin_operate = second};
    char *error = NULL;
    (void)state;
    write_file(path, TOKEN "\n", sizeof TOKEN, 0600);
    write_file(second, OTHER "\r\n", sizeof OTHER + 1, 0600);
    struct secrets *secrets = secrets_load(&paths, &error);
    assert_non_null(secrets);
    assert_false(secrets_ask_clients(secrets));
    assert_true(secrets_ask_readers(secrets));
    assert_true(secrets_ask_operators(secrets));
    assert_int_equal(secrets_role(secrets, TOKEN, strlen(TOKEN)), SECRETS_READER);
    assert_int_equal(secrets_role(secrets, OTHER, strlen(OTHER)), SECRETS_OPERATOR);
    assert_int_equal(secrets_role(secrets, TOKEN, strlen(TOKEN) - 1), SECRETS_NOBODY);
    assert_int_equal(secrets_role(secrets, TOKEN "\n", strlen(TOKEN) + 1), SECRETS_NOBODY);
    assert_int_equal(secrets_role(secrets, "", 0), SECRETS_NOBODY);
    secrets_destroy(secrets);

    paths.admin_read = NULL;
    secrets = secrets_load(&paths, &error);
    assert_non_null(secrets);
    assert_false(secrets_ask_readers(secrets));
    assert_true(secrets_ask_operators(secrets));
    assert_int_equal(secrets_role(secrets, TOKEN, strlen(TOKEN)), SECRETS_NOBODY);
    secrets_destroy(secrets);

    struct secrets_paths none = {0};
    secrets = secrets_load(&none, &error);
    assert_non_null(secrets);
    assert_false(secrets_ask_readers(secrets) || secrets_ask_operators(secrets) ||
                 secrets_ask_clients(secrets));
    assert_int_equal(secrets_role(secrets, "", 0), SECRETS_NOBODY);
    secrets_destroy(secrets);
}

static void test_bad_tokens(void **state)
{
    static const struct {
        const char *text;
        const char *reason;
    } cases[] = {
        {"", "the file is empty"},
        {" \n", "the file is empty"},
        {"0123456789abcde\n", "expected a token of 16 to 1024 characters"},
        {"0123456789 abcdef\n", "expected one line of visible ASCII characters, without spaces"},
        {"0123456789abcdef\n0123456789abcdef\n",
         "expected one line of visible ASCII characters, without spaces"},
        {"0123456789abcdef\xc3\xa9\n",
         "expected one line of visible ASCII characters, without spaces"},
    };
    struct secrets_paths paths = {.admin_operate = path};
    char expected[512];
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        write_file(path, cases[i].text, strlen(cases[i].text), 0600);
        (void)snprintf(expected, sizeof expected, "auth.admin.operate: %s: %s", path,
                       cases[i].reason);
        expect_error(&paths, expected);
    }
    write_file(path, TOKEN, strlen(TOKEN), 0600);
    write_file(second, TOKEN "\n", strlen(TOKEN) + 1, 0600);
    paths.admin_read = second;
    (void)snprintf(expected, sizeof expected,
                   "auth.admin.operate: %s: expected another token than that of auth.admin.read",
                   path);
    expect_error(&paths, expected);
}

static void test_files_that_all_may_read_are_told(void **state)
{
    struct secrets_paths paths = {.clients = path, .admin_read = second};
    char *error = NULL;
    (void)state;
    write_file(path, "a:" SHA256, strlen("a:" SHA256), 0644);
    write_file(second, TOKEN, strlen(TOKEN), 0640);
    struct secrets *secrets = secrets_load(&paths, &error);
    assert_non_null(secrets);
    assert_string_equal(secrets_exposed(secrets, 0), path);
    assert_null(secrets_exposed(secrets, 1));
    secrets_destroy(secrets);
}

static int make_directory(void **state)
{
    (void)state;
    if (mkdtemp(directory) == NULL) {
        return -1;
    }
    (void)snprintf(path, sizeof path, "%s/one", directory);
    (void)snprintf(second, sizeof second, "%s/two", directory);
    return 0;
}

static int remove_directory(void **state)
{
    (void)state;
    (void)unlink(path);
    (void)unlink(second);
    return rmdir(directory);
}

static void test_memory_of_a_check(void **state)
{
    static const struct {
        const char *line;
        uint64_t bytes;
    } cases[] = {
        {"a:" BCRYPT "\nb:" SHA512 "\nc:" SHA256 "\n", 0},
        {"a:" BCRYPT "\nb:" YESCRYPT "\n", 1 << 20},
        /* what mkpasswd chooses: 2^12 x 32 x 128 */
        {"a:$y$j9T$abcdefghijkl$Ni6YAln6Uaif70x1WKWwiuo/LUf96t0/ZFkWikmeGE5\nb:" YESCRYPT "\n",
         16 << 20},
        {"a:$7$CU..../....abcdefghijkl$Ni6YAln6Uaif70x1WKWwiuo/LUf96t0/ZFkWikmeGE5\n", 64 << 20},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct secrets_paths paths = {.clients = path};
        char *error = NULL;
        write_file(path, cases[i].line, strlen(cases[i].line), 0600);
        struct secrets *secrets = secrets_load(&paths, &error);
        assert_non_null(secrets);
        assert_int_equal(secrets_check_bytes(secrets), cases[i].bytes);
        secrets_destroy(secrets);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clients_are_found),
        cmocka_unit_test(test_memory_of_a_check),
        cmocka_unit_test(test_unknown_name_still_has_a_hash),
        cmocka_unit_test(test_bad_lines),
        cmocka_unit_test(test_names_have_a_bound_and_come_once),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_a_pipe_is_not_waited_for),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_bad_tokens),
        cmocka_unit_test(test_files_that_all_may_read_are_told),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}

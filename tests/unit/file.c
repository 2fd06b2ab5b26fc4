/* What is read of a file, and every kind of file that is not read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static char directory[] = "/tmp/weir-file-XXXXXX";
static char path[64];

static void write_file(const char *text, size_t bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, bytes), bytes);
    close(fd);
}

static void expect_reason(const char *name, size_t bytes_max, const char *expected)
{
    struct file file = {.count = 77};
    char reason[FILE_REASON_MAX];
    assert_false(file_read(name, bytes_max, &file, reason));
    assert_string_equal(reason, expected);
    assert_int_equal(file.count, 77); /* untouched */
}

static void test_reads_all_bytes(void **state)
{
    static const char text[] = "one\0two\n";
    struct file file;
    char reason[FILE_REASON_MAX];
    (void)state;
    for (size_t bytes = 0; bytes < sizeof text; bytes++) {
        write_file(text, bytes);
        assert_true(file_read(path, 1 + bytes, &file, reason));
        assert_int_equal(file.count, bytes);
        assert_memory_equal(file.bytes, text, bytes);
        assert_int_equal(file.bytes[bytes], '\0');
        file_finish(&file);
        assert_null(file.bytes);
        assert_int_equal(unlink(path), 0);
    }
}

/* The kernel's own files have no size. */
static void test_reads_a_file_without_a_size(void **state)
{
    struct file file;
    struct stat status;
    char reason[FILE_REASON_MAX];
    (void)state;
    assert_int_equal(stat("/proc/self/status", &status), 0);
    assert_int_equal(status.st_size, 0);
    assert_true(file_read("/proc/self/status", MIB, &file, reason));
    assert_true(file.count > 100);
    assert_int_equal(strlen(file.bytes), file.count);
    assert_non_null(strstr(file.bytes, "\nPid:"));
    assert_non_null(strstr(file.bytes, "\nnonvoluntary_ctxt_switches:"));
    file_finish(&file);
    expect_reason("/proc/self/status", 100, "expected a file of at most 100 bytes, found more");
}

static void test_a_bound_is_a_bound(void **state)
{
    struct file file;
    char reason[FILE_REASON_MAX];
    (void)state;
    write_file("123456789", 9);
    expect_reason(path, 8, "expected a file of at most 8 bytes, found more");
    assert_true(file_read(path, 9, &file, reason));
    file_finish(&file);
    assert_int_equal(truncate(path, (off_t)(2 * MIB)), 0);
    expect_reason(path, MIB, "expected a file of at most 1 MiB, found more");
    assert_true(file_read(path, 2 * MIB, &file, reason));
    assert_int_equal(file.count, 2 * MIB);
    file_finish(&file);
}

static void test_says_who_may_read(void **state)
{
    struct file file;
    char reason[FILE_REASON_MAX];
    (void)state;
    write_file("x", 1);
    for (unsigned other = 0; other < 8; other++) {
        assert_int_equal(chmod(path, 0640 | other), 0);
        assert_true(file_read(path, 1, &file, reason));
        assert_int_equal(file.exposed, (other & 4) != 0);
        file_finish(&file);
    }
}

static void test_what_cannot_be_opened(void **state)
{
    (void)state;
    expect_reason(path, MIB, "expected a file that can be read: No such file or directory");
    assert_int_equal(symlink(path, path), 0);
    expect_reason(path, MIB, "expected a file that can be read: Too many levels of symbolic links");
    if (geteuid() != 0) {
        assert_int_equal(unlink(path), 0);
        write_file("x", 1);
        assert_int_equal(chmod(path, 0), 0);
        expect_reason(path, MIB, "expected a file that can be read: Permission denied");
    }
}

/* Each of them would be waited for, or would never end. */
static void test_only_regular_files(void **state)
{
    (void)state;
    expect_reason(directory, MIB,
                  "expected a regular file, found a directory (a container engine makes one where "
                  "the file to mount is missing)");
    expect_reason("/dev/zero", MIB, "expected a regular file, found a device");
    assert_int_equal(mkfifo(path, 0600), 0);
    expect_reason(path, MIB, "expected a regular file, found a pipe");
    int writer = open(path, O_RDWR);
    assert_true(writer >= 0);
    expect_reason(path, MIB, "expected a regular file, found a pipe");
    close(writer);
}

static int make_directory(void **state)
{
    (void)state;
    if (mkdtemp(directory) == NULL) {
        return -1;
    }
    (void)snprintf(path, sizeof path, "%s/file", directory);
    return 0;
}

static int remove_file(void **state)
{
    (void)state;
    (void)unlink(path);
    return 0;
}

static int remove_directory(void **state)
{
    (void)state;
    return rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_reads_all_bytes, remove_file),
        cmocka_unit_test(test_reads_a_file_without_a_size),
        cmocka_unit_test_teardown(test_a_bound_is_a_bound, remove_file),
        cmocka_unit_test_teardown(test_says_who_may_read, remove_file),
        cmocka_unit_test_teardown(test_what_cannot_be_opened, remove_file),
        cmocka_unit_test_teardown(test_only_regular_files, remove_file),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}

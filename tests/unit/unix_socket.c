/* Sockets in the file system: their mode, what they replace, and what they leave. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/unix_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static char directory[] = "/tmp/weir-unix-XXXXXX";
static char path[64];

static int bind_path(struct unix_socket *ret_socket, const char **ret_step)
{
    return unix_socket_bind(path, 0640, ret_socket, ret_step);
}

static void test_mode_whatever_the_mask(void **state)
{
    static const mode_t masks[] = {0, 022, 0777};
    struct unix_socket socket;
    const char *step;
    (void)state;
    for (size_t i = 0; i < sizeof masks / sizeof *masks; i++) {
        struct stat status;
        mode_t before = umask(masks[i]);
        int fd = bind_path(&socket, &step);
        assert_int_equal(umask(before), masks[i]); /* given back */
        assert_true(fd >= 0);
        assert_int_equal(stat(path, &status), 0);
        assert_true(S_ISSOCK(status.st_mode));
        assert_int_equal(status.st_mode & 07777, 0640);
        unix_socket_remove(path, &socket);
        assert_int_equal(access(path, F_OK), -1);
        close(fd);
    }
}

static void test_stale_one_is_replaced(void **state)
{
    struct unix_socket first;
    struct unix_socket second;
    const char *step;
    (void)state;
    int fd = bind_path(&first, &step);
    assert_true(fd >= 0);
    assert_int_equal(listen(fd, 1), 0);
    close(fd); /* as a process that was killed */
    assert_int_equal(access(path, F_OK), 0);
    fd = bind_path(&second, &step);
    assert_true(fd >= 0);
    unix_socket_remove(path, &second);
    close(fd);
}

static void test_live_one_stays(void **state)
{
    struct unix_socket first;
    struct unix_socket second;
    const char *step = NULL;
    (void)state;
    int fd = bind_path(&first, &step);
    assert_true(fd >= 0);
    assert_int_equal(listen(fd, 1), 0);
    for (int i = 0; i < 5; i++) { /* with its backlog full too */
        assert_int_equal(bind_path(&second, &step), -1);
        assert_int_equal(errno, EADDRINUSE);
        assert_string_equal(step, "cannot listen");
    }
    assert_int_equal(access(path, F_OK), 0);
    unix_socket_remove(path, &first);
    close(fd);
}

static void test_other_files_stay(void **state)
{
    struct unix_socket socket;
    const char *step = NULL;
    (void)state;
    int file = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(file >= 0);
    close(file);
    assert_int_equal(bind_path(&socket, &step), -1);
    assert_string_equal(step, "there is a file that is not a socket");
    assert_int_equal(unlink(path), 0);

    assert_int_equal(symlink("/nowhere/at/all", path), 0);
    assert_int_equal(bind_path(&socket, &step), -1);
    assert_string_equal(step, "there is a file that is not a socket");
    assert_int_equal(unlink(path), 0);

    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(bind_path(&socket, &step), -1);
    assert_int_equal(rmdir(path), 0);
}

static void test_missing_directory(void **state)
{
    struct unix_socket socket;
    const char *step = NULL;
    (void)state;
    assert_int_equal(unix_socket_bind("/nowhere/at/all", 0600, &socket, &step), -1);
    assert_int_equal(errno, ENOENT);
    assert_string_equal(step, "cannot listen");
}

/* Another process has put its own there meanwhile. */
static void test_removes_only_its_own(void **state)
{
    struct unix_socket first;
    struct unix_socket second;
    const char *step;
    (void)state;
    int fd = bind_path(&first, &step);
    assert_true(fd >= 0);
    char aside[80];
    (void)snprintf(aside, sizeof aside, "%s.old", path);
    assert_int_equal(rename(path, aside), 0); /* so that the number is not used again */
    int other = bind_path(&second, &step);
    assert_true(other >= 0);
    unix_socket_remove(path, &first);
    assert_int_equal(access(path, F_OK), 0);
    unix_socket_remove(path, &second);
    assert_int_equal(access(path, F_OK), -1);
    unix_socket_remove(path, &second); /* nothing there: nothing happens */
    assert_int_equal(unlink(aside), 0);
    close(fd);
    close(other);
}

static int make_directory(void **state)
{
    (void)state;
    if (mkdtemp(directory) == NULL) {
        return -1;
    }
    (void)snprintf(path, sizeof path, "%s/socket", directory);
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
        cmocka_unit_test(test_mode_whatever_the_mask), cmocka_unit_test(test_stale_one_is_replaced),
        cmocka_unit_test(test_live_one_stays),         cmocka_unit_test(test_other_files_stay),
        cmocka_unit_test(test_missing_directory),      cmocka_unit_test(test_removes_only_its_own),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}

/* Bounds: which one holds, and what fits into it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/bounds.h"

#include <ftw.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)

static char root[] = "/tmp/weir-bounds-XXXXXX";

static int on_file(const char *path, const struct stat *status, int kind, struct FTW *place)
{
    (void)status, (void)kind, (void)place;
    return remove(path);
}

static int make_root(void **state)
{
    (void)state;
    memcpy(root + sizeof root - 7, "XXXXXX", 6);
    return mkdtemp(root) == NULL;
}

static int drop_root(void **state)
{
    (void)state;
    return nftw(root, on_file, 8, FTW_DEPTH | FTW_PHYS);
}

/* Writes TEXT into PATH below the root, and makes the directories above it. */
static void put(const char *path, const char *text)
{
    char whole[512];
    snprintf(whole, sizeof whole, "%s%s", root, path);
    for (char *at = whole + strlen(root) + 1; (at = strchr(at, '/')) != NULL; at++) {
        *at = '\0';
        (void)mkdir(whole, 0700);
        *at = '/';
    }
    FILE *file = fopen(whole, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static struct bounds_memory find(uint64_t address_space_bytes)
{
    struct bounds_memory memory;
    bounds_find_memory(root, address_space_bytes, 8 * MIB, &memory);
    return memory;
}

static void expect(uint64_t bytes, const char *source)
{
    struct bounds_memory memory = find(UINT64_MAX);
    assert_int_equal(memory.bytes, bytes);
    assert_string_equal(memory.source, source);
}

static void nothing_to_read_is_no_bound(void **state)
{
    (void)state;
    expect(0, "");
    put("/proc/self/cgroup", "0::/\n");
    expect(0, "");
    put("/proc/self/cgroup", "");
    expect(0, "");
    put("/proc/self/cgroup", "garbage\n:\n4:memory\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "1000000\n");
    expect(0, "");
}

static void a_container_sees_its_bound_at_the_mount_point(void **state)
{
    (void)state;
    put("/sys/fs/cgroup/memory.max", "33554432\n");
    put("/proc/self/cgroup", "0::/\n");
    expect(32 * MIB, "/sys/fs/cgroup/memory.max");
    put("/proc/self/cgroup", "0::/kubepods/pod1/c2\n"); /* without a namespace of its own */
    expect(32 * MIB, "/sys/fs/cgroup/memory.max");
    put("/proc/self/cgroup", "0::/../../elsewhere\n");
    expect(32 * MIB, "/sys/fs/cgroup/memory.max");
}

static void the_lowest_of_all_above_holds(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "0::/a/b/c\n");
    put("/sys/fs/cgroup/a/b/c/memory.max", "max\n");
    put("/sys/fs/cgroup/a/b/memory.max", "67108864\n");
    put("/sys/fs/cgroup/a/memory.max", "134217728\n");
    put("/sys/fs/cgroup/a/b/d/memory.max", "1000000\n"); /* another's */
    expect(64 * MIB, "/sys/fs/cgroup/a/b/memory.max");
    put("/sys/fs/cgroup/a/b/c/memory.high", "50331648\n");
    expect(48 * MIB, "/sys/fs/cgroup/a/b/c/memory.high");
}

static void version_1_and_both_versions(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/docker/1\n3:memoryless:/x\n0::/u\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    expect(0, "");
    put("/sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes", "67108864\n");
    expect(64 * MIB, "/sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes");
    put("/sys/fs/cgroup/unified/u/memory.max", "33554432\n");
    expect(32 * MIB, "/sys/fs/cgroup/unified/u/memory.max");
}

static void an_address_space_is_a_bound_too(void **state)
{
    (void)state;
    struct bounds_memory memory = find(96 * MIB);
    assert_int_equal(memory.bytes, 64 * MIB);
    assert_int_equal(memory.said_bytes, 96 * MIB);
    assert_int_equal(memory.lost_bytes, 32 * MIB); /* the stacks' 8, and the libraries' */
    assert_string_equal(memory.source, "ulimit -v");
    memory = find(8 * MIB);
    assert_int_equal(memory.bytes, 1); /* none would be 0 */
    assert_int_equal(memory.said_bytes, 8 * MIB);
    put("/proc/self/cgroup", "0::/\n");
    put("/sys/fs/cgroup/memory.max", "33554432\n");
    assert_int_equal(find(96 * MIB).bytes, 32 * MIB);
}

static void a_bound_of_nothing_is_one(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "0::/\n");
    put("/sys/fs/cgroup/memory.max", "0\n");
    expect(1, "/sys/fs/cgroup/memory.max");
}

/* --- what fits --- */

static const struct bounds_load defaults = {
    .connections = 10000, .requests = 512, .hosts = 10000, .buffer_bytes = 256 << 20};

/* What LOAD may take at the most, as bounds.c has it. */
static uint64_t cost(const struct bounds_load *load, uint32_t header_bytes)
{
    return load->connections * (12288 + header_bytes + 2 * (uint64_t)load->client_socket_bytes) +
           load->requests * (180224 + 2 * (uint64_t)load->upstream_socket_bytes) +
           load->buffer_bytes + load->hosts * UINT64_C(12288);
}

static void what_fits_is_within_the_bound_and_grows_with_it(void **state)
{
    (void)state;
    struct bounds_load before = {0};
    for (uint64_t bytes = BOUNDS_MEMORY_LEAST; bytes < 2048 * MIB; bytes += MIB) {
        struct bounds_load load = defaults;
        assert_true(bounds_fit_memory(bytes, 0, 16384, &load));
        assert_true(load.connections >= before.connections && load.requests >= before.requests);
        assert_true(load.hosts >= before.hosts && load.buffer_bytes >= before.buffer_bytes);
        assert_true(load.buffer_bytes >= MIB);
        assert_true(load.client_socket_bytes >= 16384);
        assert_true(cost(&load, 16384) + 8 * MIB <= bytes);
        before = load;
    }
}

static void much_memory_lowers_nothing(void **state)
{
    (void)state;
    struct bounds_load load = defaults;
    assert_true(bounds_fit_memory(8192 * MIB, 0, 16384, &load));
    assert_int_equal(load.connections, defaults.connections);
    assert_int_equal(load.requests, defaults.requests);
    assert_int_equal(load.hosts, defaults.hosts);
    assert_int_equal(load.buffer_bytes, defaults.buffer_bytes);
    assert_int_equal(load.upstream_socket_bytes, 0);
}

static void little_that_is_wanted_stays(void **state)
{
    (void)state;
    struct bounds_load load = {
        .connections = 4, .requests = 3, .hosts = 2, .buffer_bytes = 1 << 20};
    assert_true(bounds_fit_memory(BOUNDS_MEMORY_LEAST, 0, 65536, &load));
    assert_int_equal(load.connections, 4);
    assert_int_equal(load.requests, 3);
    assert_int_equal(load.hosts, 2);
}

static void too_little_is_refused(void **state)
{
    (void)state;
    struct bounds_load load = defaults;
    assert_false(bounds_fit_memory(BOUNDS_MEMORY_LEAST - 1, 0, 16384, &load));
    assert_false(bounds_fit_memory(32 * MIB, 32 * MIB, 16384, &load));
    assert_false(bounds_fit_memory(32 * MIB, 64 * MIB, 16384, &load));
    assert_true(bounds_fit_memory(32 * MIB, 16 * MIB, 16384, &load));
    load = defaults;
    assert_true(bounds_fit_memory(BOUNDS_MEMORY_LEAST, 0, 65536, &load));
    assert_true(load.connections >= 16 && load.requests >= 4 && load.hosts >= 16);
}

static void sockets_that_are_open_already_are_counted_as_they_are(void **state)
{
    (void)state;
    struct bounds_load few = {
        .connections = 10, .requests = 4, .hosts = 10, .buffer_bytes = 1 << 20};
    assert_true(bounds_fit_memory(64 * MIB, 0, 16384, &few));
    struct bounds_load many = defaults; /* a reload allows more */
    many.client_socket_bytes = 262144;
    many.upstream_socket_bytes = 262144;
    assert_true(bounds_fit_memory(64 * MIB, 0, 16384, &many));
    assert_int_equal(many.client_socket_bytes, 262144);
    assert_int_equal(many.upstream_socket_bytes, 262144);
    assert_true(cost(&many, 16384) + 8 * MIB <= 64 * MIB);
}

static int option(int fd, int level, int name)
{
    int value = 0;
    socklen_t bytes = sizeof value;
    assert_int_equal(getsockopt(fd, level, name, &value, &bytes), 0);
    return value;
}

static void sockets_hold_several_segments(void **state)
{
    (void)state;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int likes = option(fd, SOL_SOCKET, SO_RCVBUF);
    bounds_set_socket(fd, 0);
    assert_int_equal(option(fd, SOL_SOCKET, SO_RCVBUF), likes);
    bounds_set_socket(fd, 16384);
    assert_int_equal(option(fd, SOL_SOCKET, SO_RCVBUF), 2 * 16384);
    assert_int_equal(option(fd, SOL_SOCKET, SO_SNDBUF), 2 * 16384);
    assert_int_equal(option(fd, IPPROTO_TCP, TCP_MAXSEG), 4096);
    close(fd);
}

/* --- open files --- */

static void files_are_divided(void **state)
{
    (void)state;
    unsigned before = 0;
    for (unsigned files = 0; files < 70000; files++) {
        struct bounds_files divided = {0};
        unsigned needed = bounds_divide_files(files, 3, &divided);
        if (files < needed) {
            assert_int_equal(divided.connections, 0);
            continue;
        }
        assert_true(divided.connections >= 1 && divided.rooms >= 1 && divided.lanes >= 1);
        assert_true(divided.admin_connections >= 2 && divided.lingering >= 1);
        assert_true(2 * divided.connections + divided.rooms + 2 * divided.lanes +
                        2 * divided.threads + divided.admin_connections + divided.lingering <
                    files);
        assert_true(divided.connections + 64 > before); /* a step is where a part gets more */
        before = divided.connections;
    }
    assert_true(before > 30000);
}

static void files_for_each_listener(void **state)
{
    (void)state;
    struct bounds_files divided;
    unsigned one = bounds_divide_files(0, 1, &divided);
    assert_true(one > 16 && one <= 64);
    assert_int_equal(bounds_divide_files(0, 11, &divided), one + 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_to_read_is_no_bound, make_root, drop_root),
        cmocka_unit_test_setup_teardown(a_container_sees_its_bound_at_the_mount_point, make_root,
                                        drop_root),
        cmocka_unit_test_setup_teardown(the_lowest_of_all_above_holds, make_root, drop_root),
        cmocka_unit_test_setup_teardown(version_1_and_both_versions, make_root, drop_root),
        cmocka_unit_test_setup_teardown(an_address_space_is_a_bound_too, make_root, drop_root),
        cmocka_unit_test_setup_teardown(a_bound_of_nothing_is_one, make_root, drop_root),
        cmocka_unit_test(what_fits_is_within_the_bound_and_grows_with_it),
        cmocka_unit_test(much_memory_lowers_nothing),
        cmocka_unit_test(little_that_is_wanted_stays),
        cmocka_unit_test(too_little_is_refused),
        cmocka_unit_test(sockets_that_are_open_already_are_counted_as_they_are),
        cmocka_unit_test(sockets_hold_several_segments),
        cmocka_unit_test(files_are_divided),
        cmocka_unit_test(files_for_each_listener),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

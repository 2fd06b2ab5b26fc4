/* The door: connections in all and of each client. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/door.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>

static union {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un local;
} peer;

static const struct sockaddr *at(const char *address)
{
    memset(&peer, 0, sizeof peer);
    if (strcmp(address, "unix:") == 0) {
        peer.local.sun_family = AF_UNIX;
    } else if (strchr(address, ':') != NULL) {
        peer.v6.sin6_family = AF_INET6;
        peer.v6.sin6_port = htons(1234);
        assert_int_equal(inet_pton(AF_INET6, address, &peer.v6.sin6_addr), 1);
    } else {
        peer.v4.sin_family = AF_INET;
        peer.v4.sin_port = htons(1234);
        assert_int_equal(inet_pton(AF_INET, address, &peer.v4.sin_addr), 1);
    }
    return &peer.any;
}

static struct door *make(unsigned connections, unsigned per_client)
{
    struct door_settings settings = {connections, per_client};
    struct door *door = door_create(&settings);
    assert_non_null(door);
    return door;
}

static void test_in_all(void **state)
{
    struct door *door = make(2, 0);
    (void)state;
    assert_false(door_is_full(door));
    assert_int_equal(door_enter(door, 7, at("10.0.0.1")), DOOR_ENTERED);
    assert_int_equal(door_enter(door, 5000, at("unix:")), DOOR_ENTERED);
    assert_true(door_is_full(door));
    assert_true(door_is_full(door));
    struct door_counts counts = door_counts(door);
    assert_int_equal(counts.connections, 2);
    assert_int_equal(counts.connections_limit, 2);
    assert_int_equal(counts.clients, 2);
    assert_int_equal(counts.full_total, 1); /* once, however often it is asked */
    door_leave(door, 7);
    assert_false(door_is_full(door));
    assert_int_equal(door_enter(door, 7, at("10.0.0.9")), DOOR_ENTERED);
    assert_true(door_is_full(door));
    assert_int_equal(door_counts(door).full_total, 2);
    door_leave(door, 5000);
    door_leave(door, 7);
    assert_int_equal(door_counts(door).connections, 0);
    assert_int_equal(door_counts(door).clients, 0);
    door_destroy(door);
}

static void expect_share(struct door *door, const char *address, int connections)
{
    for (int fd = 0; fd < connections; fd++) {
        assert_int_equal(door_enter(door, fd, at(address)), DOOR_ENTERED);
    }
    assert_int_equal(door_counts(door).largest, connections);
    uint64_t refused = door_counts(door).refused_total;
    assert_int_equal(door_enter(door, connections, at(address)), DOOR_CLIENT_FULL);
    assert_int_equal(door_counts(door).refused_total, refused + 1);
    assert_int_equal(door_enter(door, connections, at("192.0.2.77")), DOOR_ENTERED);
    door_leave(door, connections);
    door_leave(door, 0);
    assert_int_equal(door_enter(door, 0, at(address)), DOOR_ENTERED);
    for (int fd = 0; fd < connections; fd++) {
        door_leave(door, fd);
    }
    assert_int_equal(door_counts(door).clients, 0);
}

static void test_each_client(void **state)
{
    struct door *door = make(1000000, 3);
    (void)state;
    expect_share(door, "10.0.0.1", 3);
    expect_share(door, "2001:db8::1", 3);
    expect_share(door, "127.0.0.1", 3);
    expect_share(door, "unix:", 3);
    assert_int_equal(door_counts(door).client_limit, 3);
    assert_int_equal(door_counts(door).local_client_limit, 3);
    door_destroy(door);
}

static void test_without_a_setting(void **state)
{
    static const char *const local[] = {"127.0.0.1", "127.9.9.9", "::1", "unix:"};
    struct door *door = make(5000, 0);
    (void)state;
    expect_share(door, "10.0.0.1", (int)DOOR_REMOTE_CLIENT_LIMIT);
    assert_int_equal(door_counts(door).client_limit, DOOR_REMOTE_CLIENT_LIMIT);
    assert_int_equal(door_counts(door).local_client_limit, 5000);
    for (size_t i = 0; i < sizeof local / sizeof *local; i++) {
        expect_share(door, local[i], 5000);
    }
    door_destroy(door);
}

static void test_ipv6_counts_by_network(void **state)
{
    struct door *door = make(100, 2);
    (void)state;
    assert_int_equal(door_enter(door, 1, at("2001:db8:0:7::1")), DOOR_ENTERED);
    assert_int_equal(door_enter(door, 2, at("2001:db8:0:7:ffff::2")), DOOR_ENTERED);
    assert_int_equal(door_enter(door, 3, at("2001:db8:0:7:1:2:3:4")), DOOR_CLIENT_FULL);
    assert_int_equal(door_enter(door, 3, at("2001:db8:0:8::1")), DOOR_ENTERED);
    assert_int_equal(door_counts(door).clients, 2);
    for (int fd = 1; fd <= 3; fd++) {
        door_leave(door, fd);
    }
    door_destroy(door);
}

static void test_a_reload_keeps_who_is_in(void **state)
{
    struct door_settings less = {10, 1};
    struct door *door = make(10, 2);
    (void)state;
    assert_int_equal(door_enter(door, 1, at("10.0.0.1")), DOOR_ENTERED);
    assert_int_equal(door_enter(door, 2, at("10.0.0.1")), DOOR_ENTERED);
    door_configure(door, &less);
    door_leave(door, 1);
    assert_int_equal(door_enter(door, 1, at("10.0.0.1")), DOOR_CLIENT_FULL);
    door_leave(door, 2);
    assert_int_equal(door_enter(door, 1, at("10.0.0.1")), DOOR_ENTERED);
    door_leave(door, 1);
    door_destroy(door);
}

static void test_addresses_as_text(void **state)
{
    char text[DOOR_ADDRESS_MAX];
    (void)state;
    door_print_address(at("10.0.0.1"), sizeof(struct sockaddr_in), text);
    assert_string_equal(text, "10.0.0.1:1234");
    door_print_address(at("::1"), sizeof(struct sockaddr_in6), text);
    assert_string_equal(text, "[::1]:1234");
    door_print_address(at("unix:"), sizeof(sa_family_t), text);
    assert_string_equal(text, "unix:");
    door_print_address(at("unix:"), 0, text);
    assert_string_equal(text, "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_all),
        cmocka_unit_test(test_each_client),
        cmocka_unit_test(test_without_a_setting),
        cmocka_unit_test(test_ipv6_counts_by_network),
        cmocka_unit_test(test_a_reload_keeps_who_is_in),
        cmocka_unit_test(test_addresses_as_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

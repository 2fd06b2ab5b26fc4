/* Connections that linger: how long, for whom, and how many. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/lingering.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define S     UINT64_C(1000000000)
#define START (77 * S)

struct fixture {
    uv_loop_t loop;
    struct lingering *lingering;
    int client; /* the other end of the one that lingers */
};

/* A connection that is closed at NOW_NS; its other end. */
static int close_one(struct fixture *fixture, uint64_t now_ns)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    lingering_close(fixture->lingering, ends[0], now_ns);
    return ends[1];
}

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    if (fixture == NULL || uv_loop_init(&fixture->loop) != 0) {
        return -1;
    }
    fixture->lingering = lingering_create(&fixture->loop, 2);
    fixture->client = close_one(fixture, START);
    *state = fixture;
    return fixture->lingering != NULL ? 0 : -1;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    lingering_destroy(fixture->lingering);
    uv_run(&fixture->loop, UV_RUN_DEFAULT);
    int open = uv_loop_close(&fixture->loop);
    close(fixture->client);
    free(fixture);
    return open;
}

/* One turn at NOW_NS. */
static bool turn(struct fixture *fixture, uint64_t now_ns)
{
    uv_run(&fixture->loop, UV_RUN_NOWAIT);
    return lingering_run(fixture->lingering, now_ns);
}

/* Whether the other end may still send. */
static bool is_taken(int client)
{
    return send(client, "more", 4, MSG_NOSIGNAL) == 4;
}

static void test_the_client_sees_the_end_at_once_and_may_go_on(void **state)
{
    struct fixture *fixture = *state;
    char byte;
    assert_int_equal(recv(fixture->client, &byte, 1, 0), 0);
    for (int i = 0; i < 5; i++) {
        assert_true(is_taken(fixture->client));
        assert_false(turn(fixture, START));
    }
}

/* From when it was closed, however long nothing had happened before. */
static void test_it_lingers_for_a_second(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(lingering_next_ns(fixture->lingering), START + S);
    assert_false(turn(fixture, START + S - 1));
    assert_true(is_taken(fixture->client));
    assert_true(turn(fixture, START + S));
    assert_false(is_taken(fixture->client));
    assert_int_equal(lingering_next_ns(fixture->lingering), UINT64_MAX);
    close(close_one(fixture, START + 100 * S));
    assert_int_equal(lingering_next_ns(fixture->lingering), START + 101 * S);
}

static void test_it_ends_with_its_client(void **state)
{
    struct fixture *fixture = *state;
    assert_true(is_taken(fixture->client));
    assert_int_equal(shutdown(fixture->client, SHUT_WR), 0);
    assert_true(turn(fixture, START));
    assert_int_equal(lingering_next_ns(fixture->lingering), UINT64_MAX);
}

static void test_a_client_that_sends_without_end_is_cut_off(void **state)
{
    struct fixture *fixture = *state;
    static char piece[65536];
    bool over = false;
    for (int i = 0; i < 100 && !over; i++) {
        assert_true(send(fixture->client, piece, sizeof piece, MSG_NOSIGNAL | MSG_DONTWAIT) > 0);
        over = turn(fixture, START);
    }
    assert_true(over);
    assert_false(is_taken(fixture->client));
}

static void test_no_more_than_so_many_linger(void **state)
{
    struct fixture *fixture = *state;
    int second = close_one(fixture, START);
    int third = close_one(fixture, START);
    assert_true(is_taken(second));
    assert_false(is_taken(third));
    close(second);
    assert_true(turn(fixture, START));
    int fourth = close_one(fixture, START);
    assert_true(is_taken(fourth));
    close(third);
    close(fourth);
}

/* Who owns the socket may close it at once: another of its kind lingers. */
static void test_a_socket_that_somebody_else_closes(void **state)
{
    struct fixture *fixture = *state;
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    lingering_close_soon(fixture->lingering, ends[0], START);
    close(ends[0]);
    assert_true(is_taken(ends[1]));
    assert_true(turn(fixture, START + S));
    assert_false(is_taken(ends[1]));
    close(ends[1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_the_client_sees_the_end_at_once_and_may_go_on),
        TEST(test_it_lingers_for_a_second),
        TEST(test_it_ends_with_its_client),
        TEST(test_a_client_that_sends_without_end_is_cut_off),
        TEST(test_no_more_than_so_many_linger),
        TEST(test_a_socket_that_somebody_else_closes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

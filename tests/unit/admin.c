#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/admin.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_MAX      131072
#define CONNECTIONS_MAX 3
#define HOST            "Host: 127.0.0.1:9901\r\n"
#define GET(path)       "GET " path " HTTP/1.1\r\n" HOST "\r\n"
#define QUIT            "POST /quitquitquit HTTP/1.1\r\n" HOST
#define SECOND_NS       UINT64_C(1000000000)

static uv_loop_t loop;
static struct admin *admin;
static struct limiter *limiter;
static struct report_service told; /* what the source says */
static unsigned asked;             /* how often the source was */
static uint64_t now_ns;            /* only the tests move it */
static bool more;                  /* the admin port has more to do at once */

/* The client's end of a connection; its poll wakes the loop as a far client would not. */
struct client {
    int fd;
    int far_fd; /* the admin port's end, which it owns */
    uv_poll_t poll;
    bool ended;
    char answer[ANSWER_MAX + 1];
    size_t bytes;
};

static void describe(void *context, struct report_service *ret_service,
                     const struct limiter **ret_limiter, uint64_t *ret_now_ns)
{
    assert_ptr_equal(context, &told);
    *ret_service = told;
    *ret_limiter = limiter;
    *ret_now_ns = 5000000000;
    asked++;
}

static void no_connections(const struct limiter_host *host, uint32_t *ret_idle,
                           uint32_t *ret_tunnels)
{
    (void)host;
    *ret_idle = 1;
    *ret_tunnels = 0;
}

/* One request for HOST that has come and gone. */
static void use_host(const char *host)
{
    struct limiter_ticket ticket = {0};

    assert_int_equal(limiter_acquire(limiter, host, LIMITER_NEVER, &ticket, 1000000000),
                     LIMITER_ADMITTED);
    limiter_release(limiter, &ticket, 2000000000);
}

static int setup(void **state)
{
    struct rule rule = {.limit = 3, .queue = 10, .queue_timeout_ns = 1000000000};
    struct rule shared = {
        .name = "*.example.org", .limit = 4, .queue = 10, .queue_timeout_ns = 1, .shared = true};
    struct limiter_bounds bounds = {.limit = 10, .queue = 100, .hosts_max = 10};
    struct rules *rules = rules_create(&rule);

    (void)state;
    assert_non_null(rules);
    assert_int_equal(rules_add(rules, &shared), RULES_ADDED);
    limiter = limiter_create(rules, &bounds, 0);
    assert_non_null(limiter);
    told = (struct report_service){
        .version = "1.2.3", .state = REPORT_OK, .host_connections = no_connections};
    struct admin_source source = {.describe = describe, .context = &told};

    assert_int_equal(uv_loop_init(&loop), 0);
    now_ns = 1000 * SECOND_NS;
    asked = 0;
    more = false;
    admin = admin_create(&loop, &source, CONNECTIONS_MAX, now_ns);
    assert_non_null(admin);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    admin_destroy(admin);
    admin = NULL;
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&loop), 0);
    limiter_destroy(limiter);
    return 0;
}

/* --- The client --- */

static void on_client(uv_poll_t *poll, int status, int events)
{
    struct client *client = poll->data;

    assert_int_equal(status, 0);
    (void)events;
    ssize_t bytes =
        recv(client->fd, client->answer + client->bytes, ANSWER_MAX - client->bytes, MSG_DONTWAIT);

    if (bytes > 0) {
        client->bytes += (size_t)bytes;
        client->answer[client->bytes] = '\0';
    } else if (bytes == 0 || errno == ECONNRESET) {
        client->ended = true;
        uv_poll_stop(poll);
    }
}

static void turn(void)
{
    (void)uv_run(&loop, more ? UV_RUN_NOWAIT : UV_RUN_ONCE);
    more = admin_run(admin, now_ns);
}

static struct client *connect_client(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct client *client = calloc(1, sizeof *client);
    int pair[2];

    assert_non_null(client);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    client->fd = pair[0];
    client->far_fd = pair[1];
    client->poll.data = client;
    assert_int_equal(uv_poll_init(&loop, &client->poll, client->fd), 0);
    assert_int_equal(uv_poll_start(&client->poll, UV_READABLE, on_client), 0);
    admin_add(admin, pair[1], (const struct sockaddr *)&address, sizeof address, now_ns);
    more = true;
    return client;
}

static void on_client_close(uv_handle_t *handle)
{
    free(handle->data);
}

static void close_client(struct client *client)
{
    uv_close((uv_handle_t *)&client->poll, on_client_close);
    close(client->fd);
    more = true;
    turn();
}

static void send_text(struct client *client, const char *text)
{
    assert_int_equal(send(client->fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Takes turns until COUNT whole answers are there, which have bodies. Returns the last one's. */
static const char *await_answers(struct client *client, int count)
{
    char *at = client->answer;

    for (;;) {
        char *body = strstr(at, "\r\n\r\n");
        char *length = strstr(at, "Content-Length: ");

        if (body != NULL) {
            assert_non_null(length);
            size_t bytes = strtoul(length + strlen("Content-Length: "), NULL, 10);

            if (strlen(body + 4) >= bytes) {
                at = body + 4 + bytes;
                if (--count == 0) {
                    return body + 4;
                }
                continue;
            }
        }
        assert_false(client->ended);
        turn();
    }
}

static void await_end(struct client *client)
{
    while (!client->ended) {
        turn();
    }
}

/* Sends REQUEST on a connection of its own and expects STATUS and the fields that all have. */
static struct client *ask(const char *request, unsigned status)
{
    struct client *client = connect_client();
    char expected[40];

    send_text(client, request);
    (void)await_answers(client, 1);
    (void)snprintf(expected, sizeof expected, "HTTP/1.1 %u ", status);
    if (strncmp(client->answer, expected, strlen(expected)) != 0) {
        print_error("%s\n%s\n", request, client->answer);
    }
    assert_memory_equal(client->answer, expected, strlen(expected));
    assert_non_null(strstr(client->answer, "\r\nCache-Control: no-store\r\n"));
    assert_non_null(strstr(client->answer, status >= 400 && status != 503
                                               ? "\r\nContent-Type: application/problem+json\r\n"
                                               : "\r\nContent-Type: application/json\r\n"));
    return client;
}

static json_t *ask_json(const char *request, unsigned status)
{
    struct client *client = ask(request, status);
    json_error_t error;
    json_t *value = json_loads(await_answers(client, 1), JSON_REJECT_DUPLICATES, &error);

    assert_non_null(value);
    close_client(client);
    return value;
}

static const char *text_of(const json_t *value, const char *member)
{
    const char *text = json_string_value(json_object_get(value, member));

    assert_non_null(text);
    return text;
}

/* Expects a problem of TYPE whose detail has DETAIL in it. */
static void expect_problem(const char *request, unsigned status, const char *word,
                           const char *detail)
{
    char type[80];
    json_t *value = ask_json(request, status);

    (void)snprintf(type, sizeof type, "urn:weir:problem:%s", word);
    assert_string_equal(text_of(value, "type"), type);
    assert_int_equal(json_integer_value(json_object_get(value, "status")), status);
    if (strstr(text_of(value, "detail"), detail) == NULL) {
        print_error("%s\n", text_of(value, "detail"));
        fail();
    }
    json_decref(value);
}

static void expect_word(const char *request, unsigned status, const char *word)
{
    json_t *value = ask_json(request, status);

    assert_string_equal(text_of(value, "status"), word);
    assert_int_equal(json_object_size(value), 1);
    json_decref(value);
}

static void expect_host(const char *request, const char *host)
{
    json_t *value = ask_json(request, 200);

    assert_string_equal(text_of(value, "host"), host);
    assert_int_equal(json_integer_value(json_object_get(value, "admitted_total")), 1);
    json_decref(value);
}

/* --- Tests --- */

static void health_and_readiness(void **state)
{
    (void)state;
    expect_word(GET("/healthz"), 200, "ok");
    expect_word(GET("/readyz"), 200, "ready");
    told.state = REPORT_STARTING;
    expect_word(GET("/readyz"), 503, "starting");
    told.state = REPORT_DRAINING;
    expect_word(GET("/readyz"), 503, "draining");
    expect_word(GET("/healthz"), 200, "ok");
    expect_word(GET("/healthz?verbose=1&a=%zz&&"), 200, "ok"); /* a query is nobody's */
}

static void status_tells_of_the_service(void **state)
{
    (void)state;
    use_host("a.test");
    json_t *value = ask_json(GET("/status"), 200);

    assert_string_equal(text_of(value, "version"), "1.2.3");
    assert_int_equal(json_array_size(json_object_get(value, "hosts")), 1);
    assert_string_equal(text_of(json_array_get(json_object_get(value, "hosts"), 0), "host"),
                        "a.test");
    json_decref(value);
}

/* Asks for /status, on a connection of its own; returns how often the source has been asked. */
static unsigned asked_for_status(void)
{
    struct client *client = connect_client();

    send_text(client, GET("/status"));
    assert_non_null(strstr(await_answers(client, 1), "\"uptime_seconds\""));
    close_client(client);
    return asked;
}

static void a_small_report_is_always_a_new_one(void **state)
{
    (void)state;
    for (unsigned i = 1; i <= 3; i++) {
        assert_int_equal(asked_for_status(), i);
        assert_int_equal(admin_next_ns(admin), UINT64_MAX);
    }
}

/* Making it takes time, and having it memory. */
static void a_large_report_is_made_once_a_second(void **state)
{
    static char version[70000];

    (void)state;
    memset(version, '1', sizeof version - 1);
    told.version = version;
    assert_int_equal(asked_for_status(), 1);
    now_ns += SECOND_NS - 1;
    assert_int_equal(asked_for_status(), 1);
    assert_int_equal(admin_next_ns(admin), now_ns + 1);
    now_ns += 1;
    assert_int_equal(asked_for_status(), 2);
    now_ns += SECOND_NS;
    more = true;
    turn();
    assert_int_equal(admin_next_ns(admin), UINT64_MAX); /* nothing is kept */
}

/* What probes ask for is not about everything. */
static void a_probe_costs_no_report(void **state)
{
    (void)state;
    expect_word(GET("/healthz"), 200, "ok");
    assert_int_equal(asked, 0);
}

static void a_host_can_be_asked_for(void **state)
{
    (void)state;
    use_host("a.test");
    use_host("127.0.0.1:9000");
    use_host("[::1]:8443");
    use_host("x.example.org");
    expect_host(GET("/hosts/a.test"), "a.test");
    expect_host(GET("/hosts/A.Test?x"), "a.test");
    expect_host(GET("/hosts/%61%2etest"), "a.test");
    expect_host(GET("/hosts/127.0.0.1:9000"), "127.0.0.1:9000");
    expect_host(GET("/hosts/127.0.0.1%3A9000"), "127.0.0.1:9000");
    expect_host(GET("/hosts/[::1]:8443"), "[::1]:8443");
    expect_host(GET("/hosts/%5B::1%5d:8443"), "[::1]:8443");
    expect_host(GET("/hosts/y.example.org"), "*.example.org");
}

static void an_unknown_host_is_named(void **state)
{
    char request[600];

    (void)state;
    expect_problem(GET("/hosts/b.test"), 404, "not_found", "\"b.test\"");
    expect_problem(GET("/hosts/b%22%ff%0a"), 404, "not_found", "\"b\"");
    expect_problem(GET("/hosts/%2561"), 404, "not_found", "\"%61\""); /* decoded once */
    expect_problem(GET("/hosts/a%00"), 400, "bad_target", "HOST");
    expect_problem(GET("/hosts/a%"), 400, "bad_target", "HOST");
    expect_problem(GET("/hosts/a%6"), 400, "bad_target", "HOST");
    expect_problem(GET("/hosts/a%g0"), 400, "bad_target", "HOST");
    (void)snprintf(request, sizeof request, "GET /hosts/%0*d HTTP/1.1\r\n" HOST "\r\n",
                   RULES_HOST_MAX - 1, 7);
    expect_problem(request, 404, "not_found", "0007\"");
    (void)snprintf(request, sizeof request, "GET /hosts/%0*d HTTP/1.1\r\n" HOST "\r\n",
                   RULES_HOST_MAX, 7);
    expect_problem(request, 400, "bad_target", "HOST");
}

static void unknown_routes_name_those_there_are(void **state)
{
    static const char *const requests[] = {
        GET("/"),        GET("/status/"), GET("/statu"),
        GET("/Status"),  GET("//status"), GET("/%73tatus"),
        GET("/hosts"),   GET("/hosts/"),  GET("/hosts/a.test/limit"),
        GET("?/status"), GET("*"),        GET("healthz"),
    };

    (void)state;
    use_host("a.test");
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        expect_problem(requests[i], 404, "not_found", "GET /hosts/HOST");
    }
}

static void other_methods_are_refused_at_once(void **state)
{
    static const char *const requests[] = {
        "POST /status HTTP/1.1\r\n" HOST "Content-Length: 1000\r\n\r\n",
        "POST /status HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n",
        "POST /drain HTTP/1.1\r\n" HOST "\r\n",
        "DELETE /hosts/a.test HTTP/1.1\r\n" HOST "\r\n",
        "OPTIONS * HTTP/1.1\r\n" HOST "\r\n",
        "get /status HTTP/1.1\r\n" HOST "\r\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        struct client *client = ask(requests[i], 405);

        assert_non_null(strstr(client->answer, "\r\nAllow: GET, HEAD\r\n"));
        assert_non_null(strstr(client->answer, "method_not_allowed"));
        await_end(client);
        close_client(client);
    }
}

static void head_is_get_without_the_body(void **state)
{
    struct client *get = ask(GET("/hosts/none.test"), 404);
    struct client *head = connect_client();

    (void)state;
    /* A request behind it shows that no byte of a body came. */
    send_text(head, "HEAD /hosts/none.test HTTP/1.1\r\n" HOST "\r\n" GET("/healthz"));
    while (strstr(head->answer, "{\"status\":\"ok\"}") == NULL) {
        turn();
    }
    char *length = strstr(get->answer, "Content-Length: ");

    assert_non_null(length);
    *strchr(length, '\r') = '\0';
    assert_non_null(strstr(head->answer, length));
    assert_memory_equal(head->answer, "HTTP/1.1 404 ", 13);
    assert_memory_equal(strstr(head->answer, "\r\n\r\n") + 4, "HTTP/1.1 200 ", 13);
    close_client(get);
    close_client(head);
}

static void connections_stay_open(void **state)
{
    struct client *client = connect_client();

    (void)state;
    send_text(client, GET("/healthz"));
    (void)await_answers(client, 1);
    send_text(client, GET("/readyz") GET("/nothing") GET("/healthz"));
    assert_string_equal(await_answers(client, 4), "{\"status\":\"ok\"}\n");
    assert_non_null(strstr(client->answer, "no such route"));
    assert_false(client->ended);
    close_client(client);
}

static void a_request_may_come_in_pieces(void **state)
{
    static const char request[] = GET("/healthz");
    struct client *client = connect_client();

    (void)state;
    for (size_t i = 0; i < sizeof request - 1; i++) {
        send_text(client, (char[]){request[i], '\0'});
        turn();
    }
    assert_string_equal(await_answers(client, 1), "{\"status\":\"ok\"}\n");
    close_client(client);
}

static void a_body_is_not_waited_for(void **state)
{
    struct client *client =
        ask("GET /healthz HTTP/1.1\r\n" HOST "Content-Length: 100000\r\n\r\nabc", 200);

    (void)state;
    await_end(client);
    close_client(client);
}

/* By us or, where it looks at this itself, by libmicrohttpd, which says so in its own words. */
static void malformed_requests_are_refused(void **state)
{
    static const char *const requests[] = {
        "GET /status HTTP/1.1\r\n" HOST HOST "\r\n",
        "GET /status HTTP/1.1\r\n\r\n",
        "GET /status HTTP/1.1\r\n" HOST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET /status HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n",
        "GET /status HTTP/1.1\r\n" HOST "X-A: a\001b\r\n\r\n",
    };

    (void)state;
    use_host("a.test");
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        struct client *client = connect_client();

        send_text(client, requests[i]);
        await_end(client);
        assert_memory_equal(client->answer, "HTTP/1.1 400 ", 13);
        assert_null(strstr(client->answer, "a.test"));
        close_client(client);
    }
}

static void many_fields_are_refused(void **state)
{
    char many[4096] = "GET /status HTTP/1.1\r\n" HOST;

    (void)state;
    for (size_t i = 0, at = strlen(many); i < 101; i++, at += 6) {
        memcpy(many + at, i < 100 ? "A: b\r\n" : "\r\n", i < 100 ? 7 : 3);
    }
    expect_problem(many, 431, "header_too_large", "100");
}

static void only_local_names_may_ask(void **state)
{
    static const struct {
        const char *host;
        unsigned status;
    } cases[] = {
        {"localhost", 200},
        {"LocalHost:9901", 200},
        {"127.0.0.1", 200},
        {"10.1.2.3:80", 200},
        {"localhost \t", 200},
        {"[::1]", 200},
        {"[2001:db8::1]:9901", 200},
        {"", 200},
        {"evil.test", 403},
        {"evil.test:9901", 403},
        {"localhost.evil.test", 403},
        {"127.0.0.1.evil.test", 403},
        {"127.0.0.1@evil.test", 400},
        {"[evil.test]", 403},
        {"[::1", 403},
        {"[::1]evil.test", 403},
        {"[::1]:evil", 403},
        {"localhost:evil", 403},
        {"localhost:", 200},
        {"::1", 403},
        {"2130706433", 403},
        {"xlocalhost", 403},
        {"a-name-that-is-longer-than-any-address-could-ever-be-written.test", 403},
    };
    char request[300];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        (void)snprintf(request, sizeof request, "GET /healthz HTTP/1.1\r\nHost: %s\r\n\r\n",
                       cases[i].host);
        close_client(ask(request, cases[i].status));
    }
    expect_problem("GET /status HTTP/1.1\r\nHost: evil.test\r\n\r\n", 403, "denied",
                   "DNS rebinding");
    expect_word("GET /healthz HTTP/1.0\r\n\r\n", 200, "ok");
    /* In absolute form the authority counts, and not the field. */
    expect_word("GET http://127.0.0.1:9901/healthz HTTP/1.1\r\n" HOST "\r\n", 200, "ok");
    expect_word("GET HTTP://localhost/healthz HTTP/1.1\r\nHost: evil.test\r\n\r\n", 200, "ok");
    expect_problem("GET http://evil.test/healthz HTTP/1.1\r\n" HOST "\r\n", 403, "denied",
                   "DNS rebinding");
    expect_problem("GET http://localhost:1@evil.test/healthz HTTP/1.1\r\n" HOST "\r\n", 403,
                   "denied", "DNS rebinding");
    expect_problem("GET http://localhost HTTP/1.1\r\n" HOST "\r\n", 404, "not_found",
                   "GET /status");
}

static void garbage_ends_the_connection(void **state)
{
    static const char *const requests[] = {"\r\n\r\n\r\nx\r\n\r\n", "GET\r\n\r\n",
                                           "GET /status HTTP/9.9\r\n\r\n",
                                           "GET /status HTTP/1.1\r\nno colon\r\n\r\n"};

    (void)state;
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        struct client *client = connect_client();

        send_text(client, requests[i]);
        shutdown(client->fd, SHUT_WR);
        await_end(client);
        assert_null(strstr(client->answer, "HTTP/1.1 200"));
        close_client(client);
    }
    expect_word(GET("/healthz"), 200, "ok");
}

static void the_oldest_gives_way_to_a_newcomer(void **state)
{
    struct client *clients[CONNECTIONS_MAX];

    (void)state;
    for (int i = 0; i < CONNECTIONS_MAX; i++) {
        clients[i] = connect_client();
        send_text(clients[i], "GET /healthz HTTP/1.1\r\nHost: ");
        turn();
    }
    expect_word(GET("/healthz"), 200, "ok");
    await_end(clients[0]);
    assert_false(clients[1]->ended);
    /* One that has been answered is no longer the oldest. */
    struct client *fourth = connect_client();

    send_text(clients[1], "localhost\r\n\r\n");
    assert_string_equal(await_answers(clients[1], 1), "{\"status\":\"ok\"}\n");
    expect_word(GET("/readyz"), 200, "ready");
    await_end(clients[2]);
    assert_false(clients[1]->ended || fourth->ended);
    for (int i = 0; i < 10 * CONNECTIONS_MAX; i++) {
        expect_word(GET("/healthz"), 200, "ok");
    }
    assert_false(clients[1]->ended || fourth->ended); /* there was room for those */
    close_client(fourth);
    for (int i = 0; i < CONNECTIONS_MAX; i++) {
        close_client(clients[i]);
    }
}

static void what_is_open_is_closed_with_the_port(void **state)
{
    struct client *idle = ask(GET("/healthz"), 200);
    struct client *half = connect_client();
    struct client *quit = connect_client();

    (void)state;
    send_text(half, "GET /hea");
    send_text(quit, QUIT "Content-Length: 5\r\n\r\nab");
    turn();
    admin_destroy(admin);
    admin = NULL;
    while (!idle->ended || !half->ended || !quit->ended) {
        (void)uv_run(&loop, UV_RUN_ONCE);
    }
    struct client *clients[] = {idle, half, quit};
    for (size_t i = 0; i < sizeof clients / sizeof clients[0]; i++) {
        uv_close((uv_handle_t *)&clients[i]->poll, on_client_close);
        close(clients[i]->fd);
    }
}

static void a_request_has_ten_seconds(void **state)
{
    static const char drip[] = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nA:";
    struct client *client = connect_client();
    uint64_t start_ns = now_ns;

    (void)state;
    turn();
    assert_int_equal(admin_next_ns(admin), start_ns + 10 * SECOND_NS);
    for (size_t i = 0; i < 20; i++) { /* one that is never idle */
        assert_false(client->ended);
        send_text(client, (char[]){drip[i], '\0'});
        now_ns += SECOND_NS / 2 - 1;
        turn();
    }
    assert_false(client->ended);
    assert_int_equal(admin_next_ns(admin), start_ns + 10 * SECOND_NS);
    now_ns = start_ns + 10 * SECOND_NS;
    more = admin_run(admin, now_ns);
    await_end(client);
    assert_int_equal(client->bytes, 0);
    assert_int_equal(admin_next_ns(admin), UINT64_MAX);
    close_client(client);
}

static void time_begins_anew_with_each_request(void **state)
{
    struct client *client = connect_client();

    (void)state;
    for (int i = 1; i < 5; i++) {
        uint64_t start_ns = now_ns;

        now_ns += 9 * SECOND_NS;
        send_text(client, GET("/healthz"));
        assert_string_equal(await_answers(client, i), "{\"status\":\"ok\"}\n");
        assert_int_equal(admin_next_ns(admin), start_ns + 19 * SECOND_NS);
    }
    now_ns += 10 * SECOND_NS;
    more = admin_run(admin, now_ns); /* idle for that long */
    await_end(client);
    close_client(client);
}

/* --- the end --- */

static void the_end_may_be_asked_for(void **state)
{
    (void)state;
    assert_false(admin_asked_to_quit(admin));
    expect_word(QUIT "\r\n", 200, "draining");
    assert_true(admin_asked_to_quit(admin));
    while (admin_owes_answer(admin)) {
        turn();
    }
    expect_word(QUIT "Content-Length: 0\r\n\r\n", 200, "draining");
    assert_true(admin_asked_to_quit(admin));
}

static void the_end_comes_after_the_answer(void **state)
{
    struct client *client = connect_client();

    (void)state;
    send_text(client, QUIT "Content-Length: 6\r\n\r\nabc");
    for (int i = 0; i < 3; i++) {
        turn();
        more = true;
    }
    assert_false(admin_asked_to_quit(admin) || admin_owes_answer(admin));
    send_text(client, "def" GET("/healthz"));
    (void)await_answers(client, 1);
    assert_true(admin_asked_to_quit(admin));
    assert_string_equal(await_answers(client, 2), "{\"status\":\"ok\"}\n");
    assert_false(admin_owes_answer(admin));
    close_client(client);
}

/* What was sent before is still in the way of the answer. */
static void an_answer_is_owed_until_it_is_sent(void **state)
{
    static const char junk[4096];
    struct client *client = connect_client();
    char sink[4096];

    (void)state;
    turn();
    uv_poll_stop(&client->poll); /* it reads nothing */
    while (send(client->far_fd, junk, sizeof junk, MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {
    }
    send_text(client, QUIT "\r\n");
    while (!admin_asked_to_quit(admin)) {
        turn();
    }
    for (int i = 0; i < 10; i++) {
        (void)uv_run(&loop, UV_RUN_NOWAIT);
        more = admin_run(admin, now_ns);
        assert_true(admin_owes_answer(admin));
    }
    while (admin_owes_answer(admin)) {
        (void)recv(client->fd, sink, sizeof sink, MSG_DONTWAIT);
        (void)uv_run(&loop, UV_RUN_NOWAIT);
        more = admin_run(admin, now_ns);
    }
    close_client(client);
}

static void a_client_that_does_not_read_is_cut(void **state)
{
    struct client *client = connect_client();
    char request[4096] = "";

    (void)state;
    while (strlen(request) + sizeof GET("/status") < sizeof request) {
        strcat(request, GET("/status"));
    }
    uv_poll_stop(&client->poll); /* it reads nothing */
    for (bool full = false; !full;) {
        full = send(client->fd, request, strlen(request), MSG_DONTWAIT | MSG_NOSIGNAL) < 0;
        for (int i = 0; i < 1000 && admin_run(admin, now_ns); i++) {
            (void)uv_run(&loop, UV_RUN_NOWAIT);
        }
    }
    now_ns += 10 * SECOND_NS;
    while (admin_next_ns(admin) != UINT64_MAX) {
        (void)admin_run(admin, now_ns);
    }
    close_client(client);
}

static void a_web_page_may_not_end_it(void **state)
{
    static const char *const fields[] = {
        "Origin: http://evil.test\r\n",      "Origin: null\r\n",
        "origin: http://127.0.0.1:9901\r\n", "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-origin\r\n",
    };
    char request[300];

    (void)state;
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        (void)snprintf(request, sizeof request, QUIT "%s\r\n", fields[i]);
        expect_problem(request, 403, "denied", "web page");
    }
    expect_problem("POST /quitquitquit HTTP/1.1\r\nHost: evil.test\r\n\r\n", 403, "denied",
                   "DNS rebinding");
    assert_false(admin_asked_to_quit(admin));
    expect_word("GET /healthz HTTP/1.1\r\n" HOST "Origin: http://evil.test\r\n\r\n", 200, "ok");
}

static void only_a_post_ends_it(void **state)
{
    static const char *const requests[] = {
        GET("/quitquitquit"),
        GET("/quitquitquit?x"),
        "OPTIONS /quitquitquit HTTP/1.1\r\n" HOST "\r\n",
        "PUT /quitquitquit HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc",
    };

    (void)state;
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        struct client *client = ask(requests[i], 405);

        assert_non_null(strstr(client->answer, "\r\nAllow: POST\r\n"));
        close_client(client);
    }
    expect_problem(GET("/quitquitquit/"), 404, "not_found", "POST /quitquitquit");
    expect_problem(QUIT "Content-Length: 65537\r\n\r\n", 413, "body_too_large", "64 KiB");
    assert_false(admin_asked_to_quit(admin));
}

static void a_body_without_end_is_cut(void **state)
{
    static char chunk[70000];
    struct client *client = connect_client();
    size_t sent = 0;

    (void)state;
    send_text(client, QUIT "Transfer-Encoding: chunked\r\n\r\n11000\r\n");
    memset(chunk, 'x', sizeof chunk);
    while (!client->ended) {
        ssize_t bytes =
            send(client->fd, chunk + sent, sizeof chunk - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        sent += bytes > 0 ? (size_t)bytes : 0;
        more = true;
        turn();
    }
    assert_false(admin_asked_to_quit(admin));
    close_client(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(health_and_readiness, setup, teardown),
        cmocka_unit_test_setup_teardown(status_tells_of_the_service, setup, teardown),
        cmocka_unit_test_setup_teardown(a_small_report_is_always_a_new_one, setup, teardown),
        cmocka_unit_test_setup_teardown(a_large_report_is_made_once_a_second, setup, teardown),
        cmocka_unit_test_setup_teardown(a_probe_costs_no_report, setup, teardown),
        cmocka_unit_test_setup_teardown(a_host_can_be_asked_for, setup, teardown),
        cmocka_unit_test_setup_teardown(an_unknown_host_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(unknown_routes_name_those_there_are, setup, teardown),
        cmocka_unit_test_setup_teardown(other_methods_are_refused_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(head_is_get_without_the_body, setup, teardown),
        cmocka_unit_test_setup_teardown(connections_stay_open, setup, teardown),
        cmocka_unit_test_setup_teardown(a_request_may_come_in_pieces, setup, teardown),
        cmocka_unit_test_setup_teardown(a_body_is_not_waited_for, setup, teardown),
        cmocka_unit_test_setup_teardown(malformed_requests_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(many_fields_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(only_local_names_may_ask, setup, teardown),
        cmocka_unit_test_setup_teardown(garbage_ends_the_connection, setup, teardown),
        cmocka_unit_test_setup_teardown(the_oldest_gives_way_to_a_newcomer, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_open_is_closed_with_the_port, setup, teardown),
        cmocka_unit_test_setup_teardown(a_request_has_ten_seconds, setup, teardown),
        cmocka_unit_test_setup_teardown(time_begins_anew_with_each_request, setup, teardown),
        cmocka_unit_test_setup_teardown(the_end_may_be_asked_for, setup, teardown),
        cmocka_unit_test_setup_teardown(the_end_comes_after_the_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(an_answer_is_owed_until_it_is_sent, setup, teardown),
        cmocka_unit_test_setup_teardown(a_client_that_does_not_read_is_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(a_web_page_may_not_end_it, setup, teardown),
        cmocka_unit_test_setup_teardown(only_a_post_ends_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_body_without_end_is_cut, setup, teardown),
    };

    (void)alarm(60); /* an answer that never comes ends the test */
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * The upstream of tests/bench/slots, as cheap as it can be, so that what is measured is the proxy
 * before it. It prints the port that it listens on, answers GET [http://...]/DELAY_US/BODY_BYTES
 * after that delay, and ends with the process that started it.
 *
 * One thread, one epoll. The delay is a timerfd on the monotonic clock, because the timeout of
 * epoll_wait() is in whole milliseconds, as long as what is to be measured.
 *
 * It counts requests in flight and open connections, so that a run can say whether a limit was
 * kept: GET /stats answers with the peaks since the last such request.
 */
#include "tests/bench/common.h"

#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/queue.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

static char chunk[CHUNK_BYTES]; /* every body is made of it */

struct connection {
    int fd;
    bool counted; /* has asked for something else than /stats */
    bool busy;    /* a request is in flight */
    size_t head_bytes;
    uint64_t due_ns;
    uint64_t body_left; /* still to send */
    uint64_t body_bytes;
    TAILQ_ENTRY(connection) link; /* in `delayed`, while its answer waits */
    char head[HEAD_BYTES];
};

TAILQ_HEAD(connection_list, connection);

struct upstream {
    int epoll, listener, timer;
    struct connection_list delayed; /* by due_ns */
    unsigned in_flight, in_flight_peak;
    unsigned connections, connections_peak;
};

static void arm_timer(struct upstream *upstream)
{
    const struct connection *first = TAILQ_FIRST(&upstream->delayed);
    struct itimerspec when = {0};

    if (first != NULL) {
        when.it_value.tv_sec = (time_t)(first->due_ns / NS_PER_S);
        when.it_value.tv_nsec = (long)(first->due_ns % NS_PER_S);
    }
    if (timerfd_settime(upstream->timer, TFD_TIMER_ABSTIME, &when, NULL) != 0) {
        die("timerfd_settime");
    }
}

/* Nearly always at the tail: delays are mostly all the same. */
static void delay_answer(struct upstream *upstream, struct connection *connection)
{
    struct connection *before = TAILQ_LAST(&upstream->delayed, connection_list);

    while (before != NULL && before->due_ns > connection->due_ns) {
        before = TAILQ_PREV(before, connection_list, link);
    }
    if (before != NULL) {
        TAILQ_INSERT_AFTER(&upstream->delayed, before, connection, link);
    } else {
        TAILQ_INSERT_HEAD(&upstream->delayed, connection, link);
        arm_timer(upstream);
    }
}

static void close_connection(struct upstream *upstream, struct connection *connection)
{
    if (connection->due_ns != 0) {
        TAILQ_REMOVE(&upstream->delayed, connection, link);
    }
    upstream->in_flight -= connection->busy;
    upstream->connections -= connection->counted;
    close(connection->fd);
    free(connection);
}

static void end_answer(struct upstream *upstream, struct connection *connection)
{
    connection->busy = false;
    connection->head_bytes = 0;
    upstream->in_flight--;
}

/* Sends the body on; the first part of it went out with the head. False: the client is gone. */
static bool send_body(struct upstream *upstream, struct connection *connection)
{
    while (connection->body_left > 0) {
        size_t want = connection->body_left < CHUNK_BYTES ? (size_t)connection->body_left
                                                          : (size_t)CHUNK_BYTES;
        ssize_t sent = send(connection->fd, chunk, want, MSG_NOSIGNAL);

        if (sent < 0 && errno == EAGAIN) {
            watch(upstream->epoll, EPOLL_CTL_MOD, connection->fd, EPOLLOUT, connection);
            return true;
        }
        if (sent < 0) {
            return false;
        }
        connection->body_left -= (uint64_t)sent;
    }
    end_answer(upstream, connection);
    return true;
}

static bool start_answer(struct upstream *upstream, struct connection *connection)
{
    char head[160];
    int head_bytes = snprintf(head, sizeof(head),
                              "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
                              "Content-Length: %" PRIu64 "\r\n\r\n",
                              connection->body_bytes);
    uint64_t first = connection->body_bytes < CHUNK_BYTES ? connection->body_bytes : CHUNK_BYTES;
    struct iovec parts[2] = {{.iov_base = head, .iov_len = (size_t)head_bytes},
                             {.iov_base = chunk, .iov_len = (size_t)first}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t sent = sendmsg(connection->fd, &message, MSG_NOSIGNAL);

    if (sent < head_bytes) { /* an empty socket buffer always takes a head */
        return false;
    }
    connection->body_left = connection->body_bytes - (uint64_t)(sent - head_bytes);
    return send_body(upstream, connection);
}

static bool answer_stats(struct upstream *upstream, struct connection *connection)
{
    char body[96], answer[256];
    int bytes = snprintf(body, sizeof(body), "{\"in_flight_peak\": %u, \"connections_peak\": %u}\n",
                         upstream->in_flight_peak, upstream->connections_peak);

    bytes = snprintf(answer, sizeof(answer),
                     "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                     "Content-Length: %d\r\n\r\n%s",
                     bytes, body);
    upstream->in_flight_peak = upstream->in_flight;
    upstream->connections_peak = upstream->connections;
    connection->head_bytes = 0;
    return send(connection->fd, answer, (size_t)bytes, MSG_NOSIGNAL) == bytes;
}

static bool start_request(struct upstream *upstream, struct connection *connection)
{
    uint64_t delay_us;
    const char *path = strchr(connection->head, ' ');

    if (path != NULL && strncmp(path, " http://", 8) == 0) {
        path = strchr(path + 8, '/');
    } else if (path != NULL) {
        path++;
    }
    if (path != NULL && strncmp(path, "/stats ", 7) == 0) {
        return answer_stats(upstream, connection);
    }
    if (path == NULL ||
        sscanf(path, "/%" SCNu64 "/%" SCNu64, &delay_us, &connection->body_bytes) != 2) {
        return false;
    }
    if (!connection->counted) {
        connection->counted = true;
        if (++upstream->connections > upstream->connections_peak) {
            upstream->connections_peak = upstream->connections;
        }
    }
    connection->busy = true;
    if (++upstream->in_flight > upstream->in_flight_peak) {
        upstream->in_flight_peak = upstream->in_flight;
    }
    if (delay_us == 0) {
        return start_answer(upstream, connection);
    }
    connection->due_ns = clock_ns(CLOCK_MONOTONIC) + delay_us * NS_PER_US;
    delay_answer(upstream, connection);
    return true;
}

static bool on_readable(struct upstream *upstream, struct connection *connection)
{
    size_t room = sizeof(connection->head) - 1 - connection->head_bytes;
    ssize_t got = recv(connection->fd, connection->head + connection->head_bytes, room, 0);

    if (got < 0 && errno == EAGAIN) {
        return true;
    }
    if (got <= 0 || connection->busy) { /* gone, oversize, or pipelined, which nobody does here */
        return false;
    }
    connection->head_bytes += (size_t)got;
    connection->head[connection->head_bytes] = '\0';
    if (strstr(connection->head, "\r\n\r\n") == NULL) {
        return true;
    }
    return start_request(upstream, connection);
}

static void accept_all(struct upstream *upstream)
{
    int fd;

    while ((fd = accept4(upstream->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct connection *connection = calloc(1, sizeof(*connection));

        if (connection == NULL) {
            die("memory");
        }
        connection->fd = fd;
        set_nodelay(fd);
        watch(upstream->epoll, EPOLL_CTL_ADD, fd, EPOLLIN, connection);
    }
    if (errno != EAGAIN) {
        die("accept");
    }
}

static void answer_due(struct upstream *upstream)
{
    uint64_t now_ns = clock_ns(CLOCK_MONOTONIC), ticks;
    struct connection *connection;

    (void)!read(upstream->timer, &ticks, sizeof(ticks));
    while ((connection = TAILQ_FIRST(&upstream->delayed)) != NULL && connection->due_ns <= now_ns) {
        TAILQ_REMOVE(&upstream->delayed, connection, link);
        connection->due_ns = 0;
        if (!start_answer(upstream, connection)) {
            /* Left while it waited: its own event, where there is one, is in the next turn. */
            close_connection(upstream, connection);
        }
    }
    arm_timer(upstream);
}

static void start_listening(struct upstream *upstream)
{
    int on = 1;
    struct sockaddr_in address = loopback(0);
    socklen_t bytes = sizeof(address);

    TAILQ_INIT(&upstream->delayed);
    upstream->epoll = epoll_create1(EPOLL_CLOEXEC);
    upstream->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    upstream->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (upstream->epoll < 0 || upstream->timer < 0 || upstream->listener < 0) {
        die("upstream");
    }
    (void)setsockopt(upstream->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(upstream->listener, (struct sockaddr *)&address, bytes) != 0 ||
        listen(upstream->listener, SOMAXCONN) != 0 ||
        getsockname(upstream->listener, (struct sockaddr *)&address, &bytes) != 0) {
        die("listen");
    }
    watch(upstream->epoll, EPOLL_CTL_ADD, upstream->listener, EPOLLIN, &upstream->listener);
    watch(upstream->epoll, EPOLL_CTL_ADD, upstream->timer, EPOLLIN, &upstream->timer);
    printf("%u\n", ntohs(address.sin_port));
    fflush(stdout);
}

static void on_event(struct upstream *upstream, const struct epoll_event *event)
{
    struct connection *connection = event->data.ptr;
    bool alive = true;

    if ((event->events & EPOLLOUT) != 0) {
        alive = send_body(upstream, connection);
        if (alive && !connection->busy) {
            watch(upstream->epoll, EPOLL_CTL_MOD, connection->fd, EPOLLIN, connection);
        }
    } else {
        alive = on_readable(upstream, connection);
    }
    if (!alive) {
        close_connection(upstream, connection);
    }
}

int main(void)
{
    static struct upstream upstream;
    struct epoll_event events[EVENTS];

    prctl(PR_SET_PDEATHSIG, SIGTERM); /* it has no other end */
    memset(chunk, 'w', sizeof(chunk));
    start_listening(&upstream);
    for (;;) {
        int count = epoll_wait(upstream.epoll, events, EVENTS, -1);
        bool due = false;

        if (count < 0 && errno != EINTR) {
            die("epoll_wait");
        }
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == &upstream.listener) {
                accept_all(&upstream);
            } else if (events[i].data.ptr == &upstream.timer) {
                due = true;
            } else {
                on_event(&upstream, &events[i]);
            }
        }
        if (due) { /* last: it may free connections that this turn's events point at */
            answer_due(&upstream);
        }
    }
}

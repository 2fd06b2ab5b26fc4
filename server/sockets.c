/*
 * See sockets.h.
 *
 * A socket is found by its descriptor, in an array. Five facts about libcurl shape this file:
 *   - It calls the close callback for connections, but closes a socket that never became one (a
 *     refused or timed-out connect, a cancelled one) behind our back: hence sockets_set_idle()
 *     forgets CONNECTING sockets, and opening a descriptor that is still in the array drops the
 *     old entry.
 *   - It asks for no events at a connection that goes idle, and for the same events again when it
 *     is reused. The poll is left as it is in between, which saves two system calls a request, and
 *     narrowed only when an event comes that nobody asked for.
 *   - Since 8.10 it may keep one with TLS that it will not use again, has said farewell, and waits
 *     for the upstream to do so. Here that is an idle connection; it counts like any other.
 *   - It notices that an idle connection is dead only when it looks at it. An idle connection that
 *     becomes readable was closed by its upstream (or is out of step with it): it is retired.
 */
#include "server/sockets.h"

#include "server/bounds.h"

#include <assert.h>
#include <curl/curl.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORT_BUCKETS 1024

enum socket_state { SOCKET_CONNECTING, SOCKET_BUSY, SOCKET_IDLE, SOCKET_RETIRED, SOCKET_GONE };

struct socket {
    uv_poll_t poll;
    struct sockets *owner;
    struct socket_pool *pool; /* NULL once retired or gone: it is not counted any more */
    TAILQ_ENTRY(socket) in_pool;
    TAILQ_ENTRY(socket) in_idle;
    TAILQ_ENTRY(socket) in_ready;
    TAILQ_ENTRY(socket) in_port;
    enum socket_state state;
    unsigned lane;
    int fd;
    int wanted; /* uv events that libcurl asked for */
    int polled; /* uv events that are watched */
    int ready;  /* uv events that came */
    bool is_ready;
    int *holder; /* the fetch's note of the descriptor, or NULL */
    int port;
    int local_port; /* 0 until it is connected */
    char address[INET6_ADDRSTRLEN];
    char local_address[INET6_ADDRSTRLEN];
    uint64_t idle_since_ns;
    struct origin *origin; /* held, with TLS; NULL without */
    uint64_t tls_number;
    bool doomed; /* retired as soon as it is idle */
};

TAILQ_HEAD(socket_list, socket);

struct sockets {
    uv_loop_t *loop;
    unsigned lanes;
    uint32_t socket_bytes;
    struct socket **by_fd;
    int capacity;
    uint32_t count;
    struct socket_list idle; /* of all pools, longest idle first */
    struct socket_list ready;
    TAILQ_HEAD(, socket_pool) contended;
    struct socket_list by_port[PORT_BUCKETS]; /* connected ones, by their local port */
};

struct sockets *sockets_create(uv_loop_t *loop, unsigned lanes, uint32_t socket_bytes)
{
    assert(loop != NULL && lanes > 0);
    struct sockets *sockets = calloc(1, sizeof *sockets);
    if (sockets == NULL) {
        return NULL;
    }
    sockets->loop = loop;
    sockets->lanes = lanes;
    sockets->socket_bytes = socket_bytes;
    TAILQ_INIT(&sockets->idle);
    TAILQ_INIT(&sockets->ready);
    TAILQ_INIT(&sockets->contended);
    for (size_t i = 0; i < PORT_BUCKETS; i++) {
        TAILQ_INIT(&sockets->by_port[i]);
    }
    return sockets;
}

static struct socket *find(const struct sockets *sockets, int fd)
{
    return fd >= 0 && fd < sockets->capacity ? sockets->by_fd[fd] : NULL;
}

struct socket_pool *sockets_pool(const struct limiter_host *host)
{
    return limiter_attachment(host);
}

struct socket_pool *sockets_hold_pool(struct sockets *sockets, struct limiter *limiter,
                                      struct limiter_host *host)
{
    struct socket_pool *pool = limiter_attachment(host);
    if (pool == NULL) {
        pool = calloc(1, sizeof *pool);
        if (pool == NULL) {
            return NULL;
        }
        pool->owner = sockets;
        pool->host = host;
        pool->limiter = limiter;
        pool->lane = limiter_host_hash(limiter, host) % sockets->lanes;
        TAILQ_INIT(&pool->idle_list);
        TAILQ_INIT(&pool->quiet);
        limiter_attach(limiter, host, pool);
    }
    pool->fetches++;
    return pool;
}

static void free_unused_pool(struct socket_pool *pool)
{
    if (pool->fetches == 0 && pool->open == 0) {
        assert(pool->tunnels == 0 && !pool->contention.armed);
        if (pool->is_contended) {
            TAILQ_REMOVE(&pool->owner->contended, pool, in_contended);
        }
        limiter_attach(pool->limiter, pool->host, NULL);
        free(pool);
    }
}

void sockets_release_pool(struct socket_pool *pool)
{
    assert(pool->fetches > 0);
    pool->fetches--;
    free_unused_pool(pool);
}

/* The one place that moves a socket between states and lists, and counts. */
static void move(struct socket *socket, enum socket_state state)
{
    struct sockets *sockets = socket->owner;
    struct socket_pool *pool = socket->pool;
    bool was_idle = socket->state == SOCKET_IDLE;
    bool is_idle = state == SOCKET_IDLE;
    bool is_open = state != SOCKET_RETIRED && state != SOCKET_GONE;

    if (was_idle && !is_idle) {
        TAILQ_REMOVE(&pool->idle_list, socket, in_pool);
        TAILQ_REMOVE(&sockets->idle, socket, in_idle);
        pool->idle--;
    }
    if (!was_idle && is_idle) {
        TAILQ_INSERT_TAIL(&pool->idle_list, socket, in_pool);
        TAILQ_INSERT_TAIL(&sockets->idle, socket, in_idle);
        pool->idle++;
    }
    socket->state = state;
    if (!is_open && pool != NULL) {
        socket->pool = NULL;
        sockets->count--;
        pool->open--;
        free_unused_pool(pool);
    }
}

static void poll_only(struct socket *socket, int events);

/*
 * Ends an idle connection: the upstream sees its end now; libcurl finds it dead when it next looks.
 */
static void retire(struct socket *socket)
{
    assert(socket->state == SOCKET_IDLE);
    move(socket, SOCKET_RETIRED);
    poll_only(socket, 0);
    (void)shutdown(socket->fd, SHUT_RDWR);
}

void sockets_trim(struct socket_pool *pool, uint32_t limit)
{
    while (pool->open > limit && pool->idle > 0) {
        bool last = pool->open == 1 && pool->fetches == 0; /* the pool goes with it */
        retire(TAILQ_FIRST(&pool->idle_list));
        if (last) {
            return;
        }
    }
}

void sockets_retire_idle(struct sockets *sockets, uint64_t before_ns)
{
    struct socket *socket;
    while ((socket = TAILQ_FIRST(&sockets->idle)) != NULL && socket->idle_since_ns <= before_ns) {
        retire(socket);
    }
}

bool sockets_retire_idle_host(struct sockets *sockets)
{
    struct socket *socket;
    TAILQ_FOREACH (socket, &sockets->idle, in_idle) {
        if (socket->pool->fetches == 0) {
            sockets_trim(socket->pool, 0);
            return true;
        }
    }
    return false;
}

uint64_t sockets_oldest_idle_ns(const struct sockets *sockets)
{
    const struct socket *socket = TAILQ_FIRST(&sockets->idle);
    return socket != NULL ? socket->idle_since_ns : UINT64_MAX;
}

static void on_closed(uv_handle_t *handle)
{
    struct socket *socket = handle->data;
    origin_release(socket->origin);
    free(socket);
}

static struct socket_list *bucket_of(struct sockets *sockets, int local_port)
{
    return &sockets->by_port[(unsigned)local_port % PORT_BUCKETS];
}

/* Takes SOCKET out of everything; its memory goes when libuv has let go of it. */
static void forget(struct socket *socket)
{
    struct sockets *sockets = socket->owner;
    sockets->by_fd[socket->fd] = NULL;
    if (socket->holder != NULL) {
        *socket->holder = -1;
    }
    if (socket->is_ready) {
        TAILQ_REMOVE(&sockets->ready, socket, in_ready);
        socket->is_ready = false;
    }
    if (socket->local_port != 0) {
        TAILQ_REMOVE(bucket_of(sockets, socket->local_port), socket, in_port);
    }
    move(socket, SOCKET_GONE);
    uv_close((uv_handle_t *)&socket->poll, on_closed);
}

void sockets_destroy(struct sockets *sockets)
{
    if (sockets == NULL) {
        return;
    }
    for (int fd = 0; fd < sockets->capacity; fd++) {
        if (sockets->by_fd[fd] != NULL) {
            forget(sockets->by_fd[fd]); /* a connect that libcurl closed without a word */
        }
    }
    free(sockets->by_fd);
    free(sockets);
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
    struct socket *socket = poll->data;
    socket->ready |= status < 0 ? UV_READABLE | UV_WRITABLE : events;
    if (!socket->is_ready) {
        socket->is_ready = true;
        TAILQ_INSERT_TAIL(&socket->owner->ready, socket, in_ready);
    }
}

static void poll_only(struct socket *socket, int events)
{
    if (socket->polled == events) {
        return;
    }
    socket->polled = events;
    if (events == 0) {
        uv_poll_stop(&socket->poll);
    } else {
        uv_poll_start(&socket->poll, events, on_ready);
    }
}

static bool grow(struct sockets *sockets, int fd)
{
    if (fd < sockets->capacity) {
        return true;
    }
    int capacity = sockets->capacity > 0 ? sockets->capacity : 64;
    while (capacity <= fd) {
        capacity *= 2;
    }
    struct socket **by_fd = realloc(sockets->by_fd, (size_t)capacity * sizeof *by_fd);
    if (by_fd == NULL) {
        return false;
    }
    for (int i = sockets->capacity; i < capacity; i++) {
        by_fd[i] = NULL;
    }
    sockets->by_fd = by_fd;
    sockets->capacity = capacity;
    return true;
}

/* HOLDER's fetch opens another connection: with the one that it has, if any, it is over. */
static void let_go(struct sockets *sockets, int *holder)
{
    struct socket *socket = find(sockets, *holder);
    if (socket == NULL) {
        return;
    }
    if (socket->state == SOCKET_CONNECTING) {
        forget(socket);
        return;
    }
    *holder = -1;
    socket->holder = NULL;
    if (socket->state == SOCKET_BUSY) {
        move(socket, SOCKET_IDLE);
        retire(socket);
    }
}

static int open_socket(const struct sockets *sockets, int family)
{
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    if (fd >= 0) {
        bounds_set_socket(fd, sockets->socket_bytes);
    }
    return fd;
}

/* Makes room for one more connection of POOL's host, and opens a socket for it. */
static int open_within_limit(struct sockets *sockets, struct socket_pool *pool, int family)
{
    sockets_trim(pool, limiter_host_limit(pool->host) - 1);
    int fd = open_socket(sockets, family);
    if (fd >= 0 && find(sockets, fd) != NULL) {
        forget(find(sockets, fd)); /* libcurl closed it without a word */
    }
    return fd;
}

int sockets_open(struct sockets *sockets, struct socket_pool *pool, int family, int *holder)
{
    let_go(sockets, holder);
    int fd = open_within_limit(sockets, pool, family);
    if (fd < 0) {
        return -1;
    }
    struct socket *socket = calloc(1, sizeof *socket);
    if (socket == NULL || !grow(sockets, fd) ||
        uv_poll_init(sockets->loop, &socket->poll, fd) < 0) {
        free(socket);
        close(fd);
        errno = ENOMEM;
        return -1;
    }
    socket->poll.data = socket;
    socket->owner = sockets;
    socket->pool = pool;
    socket->lane = pool->lane;
    socket->fd = fd;
    socket->state = SOCKET_CONNECTING;
    pool->open++;
    sockets->count++;
    sockets->by_fd[fd] = socket;
    socket->holder = holder;
    *holder = fd;
    return fd;
}

/*
 * With bytes under way a plain close would leave the connection open at the upstream until it has
 * read them, beside the one that takes its place.
 */
static void drop_unsent(int fd)
{
    int unsent = 0;
    if (ioctl(fd, SIOCOUTQ, &unsent) == 0 && unsent > 0) {
        struct linger now = {1, 0};
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
}

int sockets_open_tunnel(struct sockets *sockets, struct socket_pool *pool, int family)
{
    int fd = open_within_limit(sockets, pool, family);
    if (fd < 0) {
        return -1;
    }
    pool->open++;
    sockets->count++;
    return fd;
}

void sockets_close_tunnel(struct sockets *sockets, struct socket_pool *pool, int fd, bool finished)
{
    assert(pool->open > 0 && pool->fetches > 0);
    if (!finished) {
        drop_unsent(fd);
    }
    pool->open--;
    sockets->count--;
    close(fd);
}

void sockets_note_waiter(struct sockets *sockets, const struct limiter_host *host)
{
    struct socket_pool *pool = sockets_pool(host);
    if (pool != NULL && pool->tunnels > 0 && !pool->is_contended) {
        pool->is_contended = true;
        TAILQ_INSERT_TAIL(&sockets->contended, pool, in_contended);
    }
}

struct socket_pool *sockets_take_contended(struct sockets *sockets)
{
    struct socket_pool *pool = TAILQ_FIRST(&sockets->contended);
    if (pool != NULL) {
        TAILQ_REMOVE(&sockets->contended, pool, in_contended);
        pool->is_contended = false;
    }
    return pool;
}

void sockets_watch(struct sockets *sockets, int fd, int events)
{
    struct socket *socket = find(sockets, fd);
    if (socket == NULL) {
        return;
    }
    socket->wanted =
        ((events & CURL_POLL_IN) ? UV_READABLE : 0) | ((events & CURL_POLL_OUT) ? UV_WRITABLE : 0);
    if (events == CURL_POLL_REMOVE) {
        socket->wanted = 0;
    }
    if (socket->state == SOCKET_CONNECTING && socket->wanted == 0) {
        poll_only(socket, 0); /* it may be closed the next moment without a word */
    } else {
        poll_only(socket, socket->wanted | (socket->polled & UV_READABLE));
    }
}

void sockets_set_tls(struct sockets *sockets, int fd, struct origin *origin, uint64_t number)
{
    struct socket *socket = find(sockets, fd);
    assert(socket != NULL && socket->origin == NULL);
    socket->origin = origin_hold(origin);
    socket->tls_number = number;
}

int sockets_next_tls(const struct sockets *sockets, int fd, const struct origin **ret_origin,
                     uint64_t *ret_number)
{
    for (fd++; fd < sockets->capacity; fd++) {
        const struct socket *socket = sockets->by_fd[fd];
        if (socket != NULL && socket->origin != NULL && socket->state != SOCKET_RETIRED) {
            *ret_origin = socket->origin;
            *ret_number = socket->tls_number;
            return fd;
        }
    }
    return -1;
}

void sockets_retire(struct sockets *sockets, int fd)
{
    struct socket *socket = find(sockets, fd);
    assert(socket != NULL);
    socket->doomed = true;
    if (socket->state == SOCKET_IDLE) {
        retire(socket);
    }
}

static void note_ends(struct socket *socket, const struct socket_ends *ends)
{
    socket->port = ends->port;
    socket->local_port = ends->local_port;
    snprintf(socket->address, sizeof socket->address, "%s", ends->address);
    snprintf(socket->local_address, sizeof socket->local_address, "%s", ends->local_address);
    TAILQ_INSERT_TAIL(bucket_of(socket->owner, ends->local_port), socket, in_port);
}

static struct socket *find_by_ends(struct sockets *sockets, const struct socket_ends *ends)
{
    struct socket *socket;
    TAILQ_FOREACH (socket, bucket_of(sockets, ends->local_port), in_port) {
        if (socket->pool != NULL && socket->local_port == ends->local_port &&
            socket->port == ends->port && strcmp(socket->address, ends->address) == 0 &&
            strcmp(socket->local_address, ends->local_address) == 0) {
            return socket;
        }
    }
    return NULL;
}

void sockets_set_busy(struct sockets *sockets, const struct socket_ends *ends, int *holder)
{
    struct socket *socket = find(sockets, *holder);
    if (socket != NULL && socket->local_port == 0) {
        note_ends(socket, ends); /* just opened for this fetch */
    } else {
        socket = find_by_ends(sockets, ends);
    }
    if (socket == NULL || socket->pool == NULL) {
        return;
    }
    if (socket->holder != NULL && socket->holder != holder) {
        *socket->holder = -1; /* its transfer is over, only not collected yet */
    }
    socket->holder = holder;
    *holder = socket->fd;
    if (socket->state != SOCKET_BUSY) {
        move(socket, SOCKET_BUSY);
    }
}

void sockets_set_idle(struct sockets *sockets, int fd, uint64_t now_ns)
{
    struct socket *socket = find(sockets, fd);
    if (socket == NULL) {
        return;
    }
    if (socket->holder != NULL) {
        *socket->holder = -1;
        socket->holder = NULL;
    }
    if (socket->state == SOCKET_CONNECTING) {
        forget(socket);
    } else if (socket->state == SOCKET_BUSY) {
        socket->idle_since_ns = now_ns;
        move(socket, SOCKET_IDLE);
        if (socket->is_ready) { /* read by now, ahead of its turn; what is left comes again */
            TAILQ_REMOVE(&sockets->ready, socket, in_ready);
            socket->is_ready = false;
            socket->ready = 0;
        }
        struct socket_pool *pool = socket->pool;
        if (socket->doomed) {
            retire(socket);
        } else {
            sockets_trim(pool, pool->superseded ? 0 : limiter_host_limit(pool->host));
        }
    }
}

void sockets_close(struct sockets *sockets, int fd)
{
    struct socket *socket = find(sockets, fd);
    drop_unsent(fd);
    if (socket != NULL) {
        forget(socket);
    }
    close(fd);
}

bool sockets_take_ready(struct sockets *sockets, int *ret_fd, unsigned *ret_lane, int *ret_events)
{
    struct socket *socket;
    while ((socket = TAILQ_FIRST(&sockets->ready)) != NULL) {
        TAILQ_REMOVE(&sockets->ready, socket, in_ready);
        socket->is_ready = false;
        int events = socket->ready & socket->wanted;
        bool unwanted = (socket->ready & ~socket->wanted) != 0;
        socket->ready = 0;
        if (socket->state == SOCKET_IDLE) {
            retire(socket);
        } else if (unwanted) {
            poll_only(socket, socket->wanted);
        }
        if (events != 0) {
            *ret_fd = socket->fd;
            *ret_lane = socket->lane;
            *ret_events = ((events & UV_READABLE) ? CURL_CSELECT_IN : 0) |
                          ((events & UV_WRITABLE) ? CURL_CSELECT_OUT : 0);
            return true;
        }
    }
    return false;
}

uint32_t sockets_count(const struct sockets *sockets)
{
    return sockets->count;
}

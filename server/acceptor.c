#include "server/acceptor.h"

#include "server/bounds.h"
#include "server/unix_socket.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BACKLOG  4096
#define RETRY_NS (UINT64_C(100) * 1000000) /* after descriptors ran out */

struct acceptor {
    uv_poll_t poll;
    struct log *log;
    int fd;
    uint32_t socket_bytes;
    bool ready;
    bool paused;
    bool exhausted;    /* out of descriptors or memory, and said so */
    uint64_t retry_ns; /* when to try again; 0: at once */
    char *path;        /* of a unix: socket, else NULL */
    struct unix_socket file;
    char address[CONFIG_SOCKET_PATH_MAX + 8];
};

static void on_ready(uv_poll_t *poll, int status, int events)
{
    struct acceptor *acceptor = poll->data;
    (void)status, (void)events;
    acceptor->ready = true;
}

static void watch(struct acceptor *acceptor)
{
    if (acceptor->paused || acceptor->retry_ns > 0) {
        uv_poll_stop(&acceptor->poll);
    } else {
        uv_poll_start(&acceptor->poll, UV_READABLE, on_ready);
    }
}

static int open_unix(struct acceptor *acceptor, const char *path, uint32_t mode,
                     const char **ret_step)
{
    *ret_step = "out of memory";
    errno = 0;
    acceptor->path = strdup(path);
    if (acceptor->path == NULL) {
        return -1;
    }
    int fd = unix_socket_bind(path, mode, &acceptor->file, ret_step);
    if (fd >= 0 && listen(fd, BACKLOG) < 0) {
        int error = errno;
        unix_socket_remove(path, &acceptor->file);
        close(fd);
        errno = error;
        fd = -1;
    }
    return fd;
}

static int open_listener(const struct config_listen *where, uint32_t socket_bytes,
                         const char **ret_step)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
    struct addrinfo *found = NULL;
    char port[8];
    int on = 1;
    snprintf(port, sizeof port, "%u", (unsigned)where->port);
    *ret_step = "not a numeric address";
    errno = 0;
    if (getaddrinfo(where->address, port, &hints, &found) != 0) {
        return -1;
    }
    *ret_step = "cannot open a socket";
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        *ret_step = "cannot listen";
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        bounds_set_socket(fd, socket_bytes);
        if (found->ai_family == AF_INET6) {
            (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
        }
        if (bind(fd, found->ai_addr, found->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
            int error = errno;
            close(fd);
            errno = error;
            fd = -1;
        }
    }
    int error = errno;
    freeaddrinfo(found);
    errno = error;
    return fd;
}

static void note_address(struct acceptor *acceptor)
{
    if (acceptor->path != NULL) {
        snprintf(acceptor->address, sizeof acceptor->address, "unix:%s", acceptor->path);
        return;
    }
    struct sockaddr_storage own;
    socklen_t bytes = sizeof own;
    char host[64];
    char port[8];
    if (getsockname(acceptor->fd, (struct sockaddr *)&own, &bytes) == 0 &&
        getnameinfo((struct sockaddr *)&own, bytes, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) == 0) {
        snprintf(acceptor->address, sizeof acceptor->address,
                 own.ss_family == AF_INET6 ? "[%.50s]:%s" : "%.50s:%s", host, port);
    }
}

struct acceptor *acceptor_create(uv_loop_t *loop, const struct config_listen *where,
                                 uint32_t socket_mode, uint32_t socket_bytes, struct log *log,
                                 char *error, size_t size)
{
    const char *step = "out of memory";
    struct acceptor *acceptor = calloc(1, sizeof *acceptor);
    int fd = acceptor == NULL      ? -1
             : where->path != NULL ? open_unix(acceptor, where->path, socket_mode, &step)
                                   : open_listener(where, socket_bytes, &step);
    int reason = errno;
    int polls = fd >= 0 ? uv_poll_init(loop, &acceptor->poll, fd) : 0;
    if (fd < 0 || polls < 0) {
        if (polls < 0) {
            step = "cannot be polled";
            reason = -polls; /* on Unix libuv's errors are the system's */
        }
        snprintf(error, size, "%s: %s%s%s", where->text, step, reason != 0 ? ": " : "",
                 reason != 0 ? strerror(reason) : "");
        if (fd >= 0) {
            acceptor_remove_file(acceptor);
            close(fd);
        }
        if (acceptor != NULL) {
            free(acceptor->path);
        }
        free(acceptor);
        return NULL;
    }
    acceptor->log = log;
    acceptor->fd = fd;
    acceptor->socket_bytes = socket_bytes;
    acceptor->poll.data = acceptor;
    note_address(acceptor);
    watch(acceptor);
    return acceptor;
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void acceptor_remove_file(struct acceptor *acceptor)
{
    if (acceptor->path != NULL) {
        unix_socket_remove(acceptor->path, &acceptor->file);
        free(acceptor->path);
        acceptor->path = NULL;
    }
}

void acceptor_destroy(struct acceptor *acceptor)
{
    if (acceptor == NULL) {
        return;
    }
    uv_poll_stop(&acceptor->poll);
    acceptor_remove_file(acceptor);
    close(acceptor->fd);
    uv_close((uv_handle_t *)&acceptor->poll, on_closed);
}

const char *acceptor_address(const struct acceptor *acceptor)
{
    return acceptor->address;
}

bool acceptor_place(const struct acceptor *acceptor, struct sockaddr_storage *ret_place)
{
    socklen_t bytes = sizeof *ret_place;
    return getsockname(acceptor->fd, (struct sockaddr *)ret_place, &bytes) == 0;
}

static void set_exhausted(struct acceptor *acceptor, const char *reason)
{
    if (!acceptor->exhausted) {
        log_event(acceptor->log, CONFIG_LEVEL_WARNING, "accept_paused", "address",
                  acceptor->address, "reason", reason, NULL);
    }
    acceptor->exhausted = true;
}

/* Nobody waits in the kernel any more. */
static void note_recovery(struct acceptor *acceptor)
{
    if (acceptor->exhausted) {
        log_event(acceptor->log, CONFIG_LEVEL_INFO, "accept_resumed", "address", acceptor->address,
                  NULL);
    }
    acceptor->exhausted = false;
}

void acceptor_wake(struct acceptor *acceptor, uint64_t now_ns)
{
    if (acceptor->retry_ns > 0 && now_ns >= acceptor->retry_ns) {
        acceptor->retry_ns = 0;
        acceptor->ready = true;
        watch(acceptor);
    }
}

int acceptor_take(struct acceptor *acceptor, struct sockaddr_storage *ret_peer,
                  socklen_t *ret_peer_bytes, uint64_t now_ns)
{
    while (acceptor->ready && !acceptor->paused && acceptor->retry_ns == 0) {
        int on = 1;
        *ret_peer_bytes = sizeof *ret_peer;
        int fd = accept4(acceptor->fd, (struct sockaddr *)ret_peer, ret_peer_bytes,
                         SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            if (acceptor->path != NULL) { /* it has nothing of its listener */
                bounds_set_socket(fd, acceptor->socket_bytes);
            }
            return fd;
        }
        if (errno == EAGAIN) {
            acceptor->ready = false;
            note_recovery(acceptor);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            set_exhausted(acceptor, strerror(errno));
            acceptor->retry_ns = now_ns + RETRY_NS;
            watch(acceptor);
        } /* else the connection has gone again: the next one */
    }
    return -1;
}

bool acceptor_is_wanted(const struct acceptor *acceptor)
{
    struct pollfd waiting = {.fd = acceptor->fd, .events = POLLIN};
    return poll(&waiting, 1, 0) > 0;
}

void acceptor_pause(struct acceptor *acceptor, bool paused)
{
    if (acceptor->paused != paused) {
        acceptor->paused = paused;
        acceptor->ready = true; /* who knows what has come meanwhile */
        watch(acceptor);
    }
}

uint64_t acceptor_next_ns(const struct acceptor *acceptor)
{
    return acceptor->retry_ns > 0 ? acceptor->retry_ns : UINT64_MAX;
}

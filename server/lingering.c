#include "server/lingering.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINGER_NS    (UINT64_C(1000) * 1000000)
#define LINGER_BYTES (1 << 20) /* read of one connection; what comes faster is cut off */
#define PIECE_BYTES  16384
#define PIECES       8 /* of one connection in one turn */

struct stay {
    uv_poll_t poll;
    TAILQ_ENTRY(stay) link; /* all have the same time: the first is over first */
    uint64_t until_ns;
    int fd;
    int bytes;
    bool ready;
};

struct lingering {
    uv_loop_t *loop;
    TAILQ_HEAD(, stay) stays;
    unsigned count;
    unsigned most;
};

struct lingering *lingering_create(uv_loop_t *loop, unsigned most)
{
    struct lingering *lingering = calloc(1, sizeof *lingering);
    if (lingering != NULL) {
        lingering->loop = loop;
        lingering->most = most;
        TAILQ_INIT(&lingering->stays);
    }
    return lingering;
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void end_stay(struct lingering *lingering, struct stay *stay)
{
    TAILQ_REMOVE(&lingering->stays, stay, link);
    lingering->count--;
    uv_close((uv_handle_t *)&stay->poll, on_closed);
    close(stay->fd);
}

void lingering_destroy(struct lingering *lingering)
{
    if (lingering == NULL) {
        return;
    }
    struct stay *stay;
    while ((stay = TAILQ_FIRST(&lingering->stays)) != NULL) {
        end_stay(lingering, stay);
    }
    free(lingering);
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
    struct stay *stay = poll->data;
    (void)status, (void)events;
    stay->ready = true;
}

void lingering_close(struct lingering *lingering, int fd, uint64_t now_ns)
{
    struct stay *stay = lingering->count < lingering->most ? calloc(1, sizeof *stay) : NULL;
    if (stay == NULL || shutdown(fd, SHUT_WR) < 0 ||
        uv_poll_init(lingering->loop, &stay->poll, fd) < 0) {
        free(stay);
        close(fd);
        return;
    }
    stay->fd = fd;
    stay->until_ns = now_ns + LINGER_NS;
    stay->poll.data = stay;
    uv_poll_start(&stay->poll, UV_READABLE | UV_DISCONNECT, on_ready);
    TAILQ_INSERT_TAIL(&lingering->stays, stay, link);
    lingering->count++;
}

void lingering_close_soon(struct lingering *lingering, int fd, uint64_t now_ns)
{
    int own = lingering->count < lingering->most ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
    if (own >= 0) {
        lingering_close(lingering, own, now_ns);
    }
}

/* Whether STAY is over. */
static bool is_over(struct stay *stay, uint64_t now_ns)
{
    char piece[PIECE_BYTES];
    if (stay->until_ns <= now_ns) {
        return true;
    }
    for (int i = 0; stay->ready && i < PIECES; i++) {
        ssize_t bytes = recv(stay->fd, piece, sizeof piece, MSG_DONTWAIT);
        if (bytes < 0) {
            stay->ready = false;
            return errno != EAGAIN && errno != EINTR;
        }
        stay->bytes += (int)bytes;
        if (bytes == 0 || stay->bytes > LINGER_BYTES) {
            return true;
        }
    }
    stay->ready = false; /* if more is there the poll says so again */
    return false;
}

bool lingering_run(struct lingering *lingering, uint64_t now_ns)
{
    bool worked = false;
    struct stay *next;
    for (struct stay *stay = TAILQ_FIRST(&lingering->stays); stay != NULL; stay = next) {
        next = TAILQ_NEXT(stay, link);
        if (is_over(stay, now_ns)) {
            end_stay(lingering, stay);
            worked = true;
        }
    }
    return worked;
}

uint64_t lingering_next_ns(const struct lingering *lingering)
{
    const struct stay *first = TAILQ_FIRST(&lingering->stays);
    return first != NULL ? first->until_ns : UINT64_MAX;
}

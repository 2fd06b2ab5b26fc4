/*
 * Wires: sockets that Weir reads and writes itself, watched by libuv.
 *
 * libuv's callback only notes what is ready; wires_take_ready() hands that out in the turn. What is
 * watched is level-triggered: what was left undone comes again with the next poll.
 */
#ifndef WEIR_SERVER_WIRE_H
#define WEIR_SERVER_WIRE_H

#include <stdbool.h>
#include <sys/queue.h>
#include <uv.h>

/* Those of one module. */
struct wires {
    uv_loop_t *loop;
    TAILQ_HEAD(, wire) ready;
};

/* Others read fd, owner, ready and broken; the rest is wire.c's. */
struct wire {
    uv_poll_t poll;
    struct wires *wires;
    void *owner;
    TAILQ_ENTRY(wire) in_ready;
    int fd;
    int watched;
    int ready;   /* UV_READABLE ...: what came since it was last taken */
    bool broken; /* reset, or otherwise in error */
    bool is_ready;
};

void wires_init(struct wires *wires, uv_loop_t *loop);

/* Watches nothing of FD yet, a non-blocking socket that stays the caller's. NULL without memory. */
struct wire *wire_create(struct wires *wires, int fd, void *owner);

/*
 * Lets go of the descriptor, which stays open and may be given away at once; the memory goes when
 * libuv has let go of it too. Accepts NULL.
 */
void wire_destroy(struct wire *wire);

/* From now on EVENTS (UV_READABLE, UV_WRITABLE, UV_DISCONNECT) are watched, and no others. */
void wire_watch(struct wire *wire, int events);

/* The next wire at which something has happened, or NULL; its `ready` is the taker's to clear. */
struct wire *wires_take_ready(struct wires *wires);

#endif

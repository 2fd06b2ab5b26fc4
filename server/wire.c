#include "server/wire.h"

#include <assert.h>
#include <stdlib.h>

void wires_init(struct wires *wires, uv_loop_t *loop)
{
    wires->loop = loop;
    TAILQ_INIT(&wires->ready);
}

struct wire *wire_create(struct wires *wires, int fd, void *owner)
{
    assert(fd >= 0);
    struct wire *wire = calloc(1, sizeof *wire);
    if (wire == NULL || uv_poll_init(wires->loop, &wire->poll, fd) < 0) {
        free(wire);
        return NULL;
    }
    wire->poll.data = wire;
    wire->wires = wires;
    wire->owner = owner;
    wire->fd = fd;
    return wire;
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void wire_destroy(struct wire *wire)
{
    if (wire == NULL) {
        return;
    }
    if (wire->is_ready) {
        TAILQ_REMOVE(&wire->wires->ready, wire, in_ready);
        wire->is_ready = false;
    }
    uv_close((uv_handle_t *)&wire->poll, on_closed);
}

/* An error stops libuv's poll: it is told once. */
static void on_ready(uv_poll_t *poll, int status, int events)
{
    struct wire *wire = poll->data;
    if (status < 0) {
        wire->broken = true;
        wire->watched = 0;
    } else {
        wire->ready |= events;
    }
    if (!wire->is_ready) {
        wire->is_ready = true;
        TAILQ_INSERT_TAIL(&wire->wires->ready, wire, in_ready);
    }
}

void wire_watch(struct wire *wire, int events)
{
    if (wire->watched == events || wire->broken) {
        return;
    }
    wire->watched = events;
    if (events == 0) {
        uv_poll_stop(&wire->poll);
    } else {
        uv_poll_start(&wire->poll, events, on_ready);
    }
}

struct wire *wires_take_ready(struct wires *wires)
{
    struct wire *wire = TAILQ_FIRST(&wires->ready);
    if (wire != NULL) {
        TAILQ_REMOVE(&wires->ready, wire, in_ready);
        wire->is_ready = false;
    }
    return wire;
}

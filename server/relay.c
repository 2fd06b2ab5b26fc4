#include "server/relay.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define PIECES_MAX 8 /* one way, before others get their turn */

/* How one step of a flow went. */
enum step { STEP_MOVED, STEP_WAIT, STEP_FROM_BROKEN, STEP_TO_BROKEN, STEP_NO_MEMORY };

static bool would_block(void)
{
    return errno == EAGAIN || errno == EINTR;
}

static bool keep(struct relay_flow *flow, const char *data, size_t bytes)
{
    assert(flow->kept == NULL && bytes > 0 && bytes <= RELAY_BYTES);
    flow->kept = malloc(bytes);
    if (flow->kept == NULL) {
        return false;
    }
    memcpy(flow->kept, data, bytes);
    flow->kept_at = 0;
    flow->kept_bytes = bytes;
    return true;
}

static void drop_kept(struct relay_flow *flow)
{
    free(flow->kept);
    flow->kept = NULL;
    flow->kept_bytes = 0;
}

bool relay_prepend(struct relay *relay, enum relay_side side, const char *data, size_t bytes)
{
    return keep(&relay->flows[side], data, bytes);
}

/* Writes to TO what FLOW keeps. */
static enum step write_kept(struct relay_flow *flow, struct wire *to)
{
    to->ready &= ~UV_WRITABLE;
    ssize_t sent = send(to->fd, flow->kept + flow->kept_at, flow->kept_bytes, MSG_NOSIGNAL);
    if (sent < 0) {
        return would_block() ? STEP_WAIT : STEP_TO_BROKEN;
    }
    flow->bytes += (size_t)sent;
    flow->kept_at += (size_t)sent;
    flow->kept_bytes -= (size_t)sent;
    if (flow->kept_bytes > 0) {
        return STEP_WAIT;
    }
    drop_kept(flow);
    return STEP_MOVED;
}

/* Reads a piece from FROM, of which nothing is kept, and writes it to TO. */
static enum step copy_piece(struct relay_flow *flow, struct wire *from, const struct wire *to,
                            char *buffer)
{
    ssize_t got = recv(from->fd, buffer, RELAY_BYTES, 0);
    if (got <= 0) {
        if (got < 0) {
            from->ready &= ~UV_READABLE;
            return would_block() ? STEP_WAIT : STEP_FROM_BROKEN;
        }
        flow->ended = true;
        return STEP_MOVED;
    }
    if (got < RELAY_BYTES) {
        from->ready &= ~UV_READABLE; /* most likely that was all; else the poll says so again */
    }
    ssize_t sent = send(to->fd, buffer, (size_t)got, MSG_NOSIGNAL);
    if (sent < 0) {
        if (!would_block()) {
            return STEP_TO_BROKEN;
        }
        sent = 0;
    }
    flow->bytes += (size_t)sent;
    if (sent < got && !keep(flow, buffer + sent, (size_t)(got - sent))) {
        return STEP_NO_MEMORY;
    }
    return STEP_MOVED;
}

static enum step run_flow(struct relay_flow *flow, struct wire *from, struct wire *to,
                          char *buffer, bool *moved)
{
    for (int piece = 0; piece < PIECES_MAX && !flow->passed_on; piece++) {
        enum step step = STEP_WAIT;
        if (flow->kept != NULL && (to->ready & UV_WRITABLE) != 0) {
            step = write_kept(flow, to);
        } else if (flow->kept != NULL) {
            return STEP_WAIT;
        } else if (flow->ended) {
            (void)shutdown(to->fd, SHUT_WR);
            flow->passed_on = true;
            step = STEP_MOVED;
        } else if ((from->ready & UV_READABLE) != 0 || from->broken) {
            step = copy_piece(flow, from, to, buffer);
        }
        if (step != STEP_MOVED) {
            return step;
        }
        *moved = true;
    }
    return STEP_MOVED;
}

/*
 * A side that is not read is still watched for its end: libuv does not tell of a reset at a socket
 * for which it watches nothing. The FIN itself is waited for by reading.
 */
static void watch(struct relay *relay, enum relay_side side)
{
    const struct relay_flow *sends = &relay->flows[side];
    const struct relay_flow *takes = &relay->flows[1 - side];
    int events = 0;
    if (!sends->ended) {
        if (sends->kept == NULL) {
            events |= UV_READABLE;
        } else if ((relay->wires[side]->ready & UV_DISCONNECT) == 0) {
            events |= UV_DISCONNECT;
        }
    }
    if (takes->kept != NULL) {
        events |= UV_WRITABLE;
    }
    wire_watch(relay->wires[side], events);
}

/* What STEP of what SIDE sends means for the whole. */
static enum relay_state judge(enum relay_side side, enum step step)
{
    switch (step) {
    case STEP_FROM_BROKEN:
        return side == RELAY_CLIENT ? RELAY_CLIENT_BROKEN : RELAY_UPSTREAM_BROKEN;
    case STEP_TO_BROKEN:
        return side == RELAY_CLIENT ? RELAY_UPSTREAM_BROKEN : RELAY_CLIENT_BROKEN;
    case STEP_NO_MEMORY:
        return RELAY_NO_MEMORY;
    case STEP_MOVED:
    case STEP_WAIT:
        break;
    }
    return RELAY_OPEN;
}

enum relay_state relay_run(struct relay *relay, char *buffer, bool *ret_moved)
{
    enum relay_state state = RELAY_OPEN;
    *ret_moved = false;
    /* Both ways in any case: what a side said before it broke off still reaches the other. */
    for (int side = RELAY_CLIENT; side <= RELAY_UPSTREAM; side++) {
        struct wire *from = relay->wires[side];
        enum relay_state found = judge(
            side, run_flow(&relay->flows[side], from, relay->wires[1 - side], buffer, ret_moved));
        if (found == RELAY_OPEN && from->broken) {
            found = judge(side, STEP_FROM_BROKEN);
        }
        state = state == RELAY_OPEN ? found : state;
    }
    if (relay->flows[RELAY_CLIENT].passed_on && relay->flows[RELAY_UPSTREAM].passed_on) {
        return RELAY_DONE;
    }
    if (state == RELAY_OPEN) {
        watch(relay, RELAY_CLIENT);
        watch(relay, RELAY_UPSTREAM);
    }
    return state;
}

bool relay_is_blocked(const struct relay *relay)
{
    return relay->flows[RELAY_CLIENT].kept != NULL || relay->flows[RELAY_UPSTREAM].kept != NULL;
}

void relay_finish(struct relay *relay)
{
    drop_kept(&relay->flows[RELAY_CLIENT]);
    drop_kept(&relay->flows[RELAY_UPSTREAM]);
}

#include "server/relay.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#define PIECES_MAX 8 /* one way, before others get their turn */

/* How one step of a flow went. */
enum step { STEP_MOVED, STEP_WAIT, STEP_FROM_BROKEN, STEP_TO_BROKEN };

static bool would_block(void)
{
    return errno == EAGAIN || errno == EINTR;
}

void relay_prepend(struct relay *relay, char *data, size_t bytes)
{
    struct relay_flow *flow = &relay->flows[RELAY_CLIENT];
    assert(flow->early == NULL && flow->bytes == 0);
    flow->early = data;
    flow->early_bytes = bytes;
}

static void drop_early(struct relay_flow *flow)
{
    free(flow->early);
    flow->early = NULL;
}

/* Writes BYTES of FLOW to TO. Returns how many it took, or -1: the connection is broken. */
static ssize_t write_some(struct relay_flow *flow, struct wire *to, const char *data, size_t bytes)
{
    ssize_t sent = send(to->fd, data, bytes, MSG_NOSIGNAL);
    if (sent < 0 && !would_block()) {
        return -1;
    }
    sent = sent < 0 ? 0 : sent;
    flow->bytes += (size_t)sent;
    if ((size_t)sent < bytes) {
        flow->blocked = true;
        to->ready &= ~UV_WRITABLE;
    }
    return sent;
}

static enum step write_early(struct relay_flow *flow, struct wire *to)
{
    ssize_t sent = write_some(flow, to, flow->early + flow->early_at, flow->early_bytes);
    if (sent < 0) {
        return STEP_TO_BROKEN;
    }
    flow->early_at += (size_t)sent;
    flow->early_bytes -= (size_t)sent;
    if (flow->early_bytes == 0) {
        drop_early(flow);
    }
    return sent > 0 ? STEP_MOVED : STEP_WAIT;
}

/*
 * Writes to TO what FROM has sent, a piece of it, and takes out of FROM's socket what TO took.
 * MSG_TRUNC makes TCP drop those bytes without copying them again.
 */
static enum step copy_piece(struct relay_flow *flow, struct wire *from, struct wire *to,
                            char *buffer)
{
    ssize_t got = recv(from->fd, buffer, RELAY_BYTES, MSG_PEEK);
    if (got < 0) {
        from->ready &= ~UV_READABLE;
        return would_block() ? STEP_WAIT : STEP_FROM_BROKEN;
    }
    if (got == 0) {
        flow->ended = true;
        return STEP_MOVED;
    }
    if (got < RELAY_BYTES) {
        from->ready &= ~UV_READABLE; /* most likely that was all; else the poll says so again */
    }
    ssize_t sent = write_some(flow, to, buffer, (size_t)got);
    if (sent < 0) {
        return STEP_TO_BROKEN;
    }
    if (sent > 0 && recv(from->fd, buffer, (size_t)sent, MSG_TRUNC) != sent) {
        return STEP_FROM_BROKEN; /* what was there is gone: never seen, and not to be sent twice */
    }
    return sent > 0 ? STEP_MOVED : STEP_WAIT;
}

static enum step run_flow(struct relay_flow *flow, struct wire *from, struct wire *to, char *buffer,
                          bool *moved)
{
    for (int piece = 0; piece < PIECES_MAX && !flow->passed_on; piece++) {
        enum step step = STEP_WAIT;
        if (flow->blocked) {
            if ((to->ready & UV_WRITABLE) == 0) {
                return STEP_WAIT;
            }
            flow->blocked = false;
            from->ready |= UV_READABLE; /* of what was left there */
        }
        if (flow->early != NULL) {
            step = write_early(flow, to);
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
        if (!sends->blocked) {
            events |= UV_READABLE;
        } else if ((relay->wires[side]->ready & UV_DISCONNECT) == 0) {
            events |= UV_DISCONNECT;
        }
    }
    if (takes->blocked) {
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
    for (unsigned side = RELAY_CLIENT; side <= RELAY_UPSTREAM; side++) {
        struct wire *from = relay->wires[side];
        enum relay_state found = judge(
            side, run_flow(&relay->flows[side], from, relay->wires[1 - side], buffer, ret_moved));
        if (found == RELAY_OPEN && from->broken) {
            found = judge(side, STEP_FROM_BROKEN);
        }
        state = state == RELAY_OPEN ? found : state;
    }
    if (relay_is_done(relay)) {
        return RELAY_DONE;
    }
    if (state == RELAY_OPEN) {
        watch(relay, RELAY_CLIENT);
        watch(relay, RELAY_UPSTREAM);
    }
    return state;
}

bool relay_is_done(const struct relay *relay)
{
    return relay->flows[RELAY_CLIENT].passed_on && relay->flows[RELAY_UPSTREAM].passed_on;
}

bool relay_is_blocked(const struct relay *relay)
{
    return relay->flows[RELAY_CLIENT].blocked || relay->flows[RELAY_UPSTREAM].blocked;
}

void relay_finish(struct relay *relay)
{
    drop_early(&relay->flows[RELAY_CLIENT]);
}

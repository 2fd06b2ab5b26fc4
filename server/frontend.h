/*
 * The frontend: the clients of the data port. libmicrohttpd is in frontend.c and client.c.
 *
 * It moves bytes between client connections and exchanges (exchange.h) and decides nothing. It
 * closes connections that keep it waiting for a request's head, and sees clients leave while their
 * request waits.
 */
#ifndef WEIR_SERVER_FRONTEND_H
#define WEIR_SERVER_FRONTEND_H

#include "server/door.h"
#include "server/exchange.h"
#include "server/lingering.h"
#include "server/lobby.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct frontend;

struct frontend_settings {
    unsigned rooms;           /* libmicrohttpd daemons over which connections are spread */
    unsigned connections_max; /* in all */
    uint32_t header_bytes;    /* memory for the head of one request and of its answer */
    uint64_t head_ns;         /* how long a request's head may take */
    uint64_t keepalive_ns;    /* how long a connection may be idle between requests */
};

/* What it works with; all borrowed. */
struct frontend_parts {
    struct exchanges *exchanges;
    struct door *door;
    struct lingering *lingering;
};

/* NULL when out of memory or descriptors. */
struct frontend *frontend_create(uv_loop_t *loop, const struct frontend_parts *parts,
                                 const struct frontend_settings *settings, uint64_t now_ns);

/* A reload's deadlines; the other settings stay as they were. */
void frontend_configure(struct frontend *frontend, const struct frontend_settings *settings);

/*
 * Ends every exchange and closes every connection; run the loop afterwards until its handles are
 * gone. Accepts NULL.
 */
void frontend_destroy(struct frontend *frontend);

/*
 * Takes over GUEST's connection, which entered by the door, whatever comes of it. The time for its
 * first head began when it arrived.
 */
void frontend_add(struct frontend *frontend, const struct lobby_guest *guest, uint64_t now_ns);

/* Does what can be done now. Returns true where it did something. */
bool frontend_run(struct frontend *frontend, uint64_t now_ns);

/* Whether connections are idle between requests. */
bool frontend_has_idle(const struct frontend *frontend);

/*
 * Where it is CROWDED (somebody waits to come in and there is no room) the connection that has been
 * idle the longest is closed, and those that are answered close afterwards. Returns whether one is
 * being closed for that.
 */
bool frontend_make_room(struct frontend *frontend, bool crowded, uint64_t now_ns);

/*
 * Closes the connections that are idle between requests; the others close after their present one,
 * because the exchanges are draining too.
 */
void frontend_drain(struct frontend *frontend);

/* When frontend_run() should be called again though nothing is ready. */
uint64_t frontend_next_ns(const struct frontend *frontend);

#endif

/*
 * The lobby: connections that have been accepted and have not shown yet what they want.
 *
 * A connection that begins with "CONNECT " wants a tunnel, any other is for the frontend. Nothing
 * is read: the bytes stay where they are for whoever takes the connection. Most have sent their
 * first bytes by the time they are accepted, and never wait here.
 */
#ifndef WEIR_SERVER_LOBBY_H
#define WEIR_SERVER_LOBBY_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <uv.h>

struct lobby;

struct lobby_guest {
    int fd;
    struct sockaddr_storage peer;
    socklen_t peer_bytes;
    uint64_t arrived_ns;
};

enum lobby_wish {
    LOBBY_HTTP,
    LOBBY_TUNNEL,
    LOBBY_NOTHING, /* left, or said nothing in time: to be closed */
};

/* NULL when out of memory. */
struct lobby *lobby_create(uv_loop_t *loop, uint64_t head_ns, uint64_t now_ns);

/* A reload's deadline: how long a connection may take to say what it wants. */
void lobby_configure(struct lobby *lobby, uint64_t head_ns);

/* Nobody may be in it. Accepts NULL. */
void lobby_destroy(struct lobby *lobby);

/*
 * GUEST comes in. Returns true where it goes straight on, as *ret_wish says; else it is the lobby's
 * until lobby_take() gives it back.
 */
bool lobby_enter(struct lobby *lobby, const struct lobby_guest *guest, enum lobby_wish *ret_wish);

/* The next guest that goes on. False where there is none. */
bool lobby_take(struct lobby *lobby, uint64_t now_ns, struct lobby_guest *ret_guest,
                enum lobby_wish *ret_wish);

/* Any guest, whatever it wants. False where there is none. */
bool lobby_take_any(struct lobby *lobby, struct lobby_guest *ret_guest);

/* Whether there is anybody who has sent nothing, and so could make room. */
bool lobby_has_silent(const struct lobby *lobby);

/*
 * CROWDED: others want to come in, and cannot. True with the guest that has been there longest
 * without a byte, if that is two seconds: it is to be closed. That is more patience than with those
 * that are idle between two requests, because few clients try a first request again.
 */
bool lobby_make_room(struct lobby *lobby, bool crowded, uint64_t now_ns,
                     struct lobby_guest *ret_guest);

/* When that, or lobby_take(), should be called again though nothing is ready; UINT64_MAX: no need.
 */
uint64_t lobby_next_ns(const struct lobby *lobby);

#endif

/*
 * Upstream sockets: every TCP connection that fetches use, counted by the host that it belongs to.
 *
 * libcurl opens, uses, keeps and closes connections; this module is told of each step and holds
 * what libcurl does not promise: that a host never has more open connections than its limit, idle
 * ones included. Where a new connection would be one too many, the host's longest idle one is shut
 * down first.
 *
 *   CONNECTING --connected--> BUSY --fetch ended--> IDLE --reused--> BUSY ...
 *   any state  --closed or forgotten--> gone
 *   IDLE --retired--> RETIRED: shut down by us or closed by the upstream; not counted any more, its
 *                     descriptor is libcurl's until that finds it dead
 *
 * Readiness is gathered while libuv dispatches and handed to libcurl in the turn.
 */
#ifndef WEIR_SERVER_SOCKETS_H
#define WEIR_SERVER_SOCKETS_H

#include "api/origin.h"
#include "limiter/limiter.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uv.h>

struct sockets;
struct socket;
struct tunnel;

/* What a host's connections and fetches have in common; lives while it has either. */
struct socket_pool {
    struct sockets *owner;
    struct limiter_host *host;
    struct limiter *limiter;
    unsigned lane;    /* the curl multi of all its connections and, since libcurl 8.12, sessions */
    uint32_t fetches; /* that hold the pool */
    uint32_t open;    /* connections, without retired ones; those of tunnels too */
    uint32_t idle;
    bool superseded;                /* new requests draw on another budget: nothing is kept here */
    TAILQ_HEAD(, socket) idle_list; /* longest idle first */

    /* What tunnels keep here, of those of this host (server/tunnel.h). */
    uint32_t tunnels;              /* that hold a slot */
    TAILQ_HEAD(, tunnel) quiet;    /* open ones with nothing on its way, longest silent first */
    struct wheel_timer contention; /* when to look for silent ones, while somebody waits */
    TAILQ_ENTRY(socket_pool) in_contended;
    bool is_contended;
};

/* The kernel holds about SOCKET_BYTES each way for a connection; 0: as much as it likes. */
struct sockets *sockets_create(uv_loop_t *loop, unsigned lanes, uint32_t socket_bytes);

/* Every socket must be closed. Run the loop afterwards. Accepts NULL. */
void sockets_destroy(struct sockets *sockets);

/* The pool of HOST, held for one fetch; NULL when out of memory. */
struct socket_pool *sockets_hold_pool(struct sockets *sockets, struct limiter *limiter,
                                      struct limiter_host *host);

/* Gives back what sockets_hold_pool() gave. */
void sockets_release_pool(struct socket_pool *pool);

/* The pool of HOST, or NULL where it has neither connections nor fetches. */
struct socket_pool *sockets_pool(const struct limiter_host *host);

/*
 * Opens a socket of FAMILY for POOL, CONNECTING, after making room for it under the host's limit.
 * Returns the descriptor or -1 with errno set. *HOLDER, the fetch's own note of its descriptor, is
 * set to it, and to -1 when the socket goes.
 */
int sockets_open(struct sockets *sockets, struct socket_pool *pool, int family, int *holder);

/*
 * Opens a socket of FAMILY for a tunnel that holds POOL, after making room for it. It counts as one
 * of the host's connections until sockets_close_tunnel(); all else about it is the tunnel's.
 * Returns -1 with errno set. FINISHED: both sides have said all they had to say.
 */
int sockets_open_tunnel(struct sockets *sockets, struct socket_pool *pool, int family);
void sockets_close_tunnel(struct sockets *sockets, struct socket_pool *pool, int fd, bool finished);

/* Somebody waits for a slot of HOST: remembered where HOST has tunnels. */
void sockets_note_waiter(struct sockets *sockets, const struct limiter_host *host);

/* The next pool of a host with tunnels for which somebody has come to wait; or NULL. */
struct socket_pool *sockets_take_contended(struct sockets *sockets);

/* libcurl wants to know of EVENTS (CURL_POLL_IN ...) at FD. */
void sockets_watch(struct sockets *sockets, int fd, int events);

/* Both ends of a connection, which tell it from all others. */
struct socket_ends {
    const char *address;
    const char *local_address;
    int port;
    int local_port;
};

/*
 * The connection with these ENDS serves the fetch that has HOLDER from now on: it was opened for
 * it, or is used again. Of a reused one sockets_watch() may not be told, where its transfer ends or
 * pauses in its first step.
 */
void sockets_set_busy(struct sockets *sockets, const struct socket_ends *ends, int *holder);

/* FD, just opened, will speak TLS with ORIGIN, which is held, in the manner that has NUMBER. */
void sockets_set_tls(struct sockets *sockets, int fd, struct origin *origin, uint64_t number);

/*
 * The next descriptor after FD (-1: the first) that speaks TLS, its origin and manner; -1: there is
 * none. Any may be retired on the way.
 */
int sockets_next_tls(const struct sockets *sockets, int fd, const struct origin **ret_origin,
                     uint64_t *ret_number);

/* Shuts FD down: at once where it is idle, otherwise as soon as it is. */
void sockets_retire(struct sockets *sockets, int fd);

/*
 * The fetch that used FD has ended and its HOLDER goes: what is connected is idle from now on, what
 * never was is forgotten (libcurl closes such sockets without a word).
 */
void sockets_set_idle(struct sockets *sockets, int fd, uint64_t now_ns);

/* Closes FD, which libcurl has given up. */
void sockets_close(struct sockets *sockets, int fd);

/* Shuts idle connections of POOL down until no more than LIMIT are open, or none is idle. */
void sockets_trim(struct socket_pool *pool, uint32_t limit);

/* Shuts every connection down that has been idle since BEFORE_NS or longer. */
void sockets_retire_idle(struct sockets *sockets, uint64_t before_ns);

/*
 * Makes a host that has nothing but idle connections free of them, the one that has been idle
 * longest. Returns false where there is no such host.
 */
bool sockets_retire_idle_host(struct sockets *sockets);

/* When the longest idle connection became idle; UINT64_MAX where none is. */
uint64_t sockets_oldest_idle_ns(const struct sockets *sockets);

/*
 * The next descriptor at which something that libcurl asked for has happened; its lane and the
 * events as CURL_CSELECT_... Returns false where there is none.
 */
bool sockets_take_ready(struct sockets *sockets, int *ret_fd, unsigned *ret_lane, int *ret_events);

/* Connections that are open, idle ones too. */
uint32_t sockets_count(const struct sockets *sockets);

#endif

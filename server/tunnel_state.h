/*
 * What tunnel.c (a tunnel's life), tunnel_head.c (its request), tunnel_answer.c (what its client is
 * told) and tunnels.c (all of them) share; nobody else includes it.
 */
#ifndef WEIR_SERVER_TUNNEL_STATE_H
#define WEIR_SERVER_TUNNEL_STATE_H

#include "api/connect.h"
#include "api/headers.h"
#include "server/relay.h"
#include "server/tunnel.h"

#include <sys/queue.h>

enum tunnel_state {
    TUNNEL_READING,  /* the head is not complete */
    TUNNEL_CHECKING, /* its credentials are */
    TUNNEL_WAITING,  /* for a slot */
    TUNNEL_RESOLVING,
    TUNNEL_CONNECTING,
    TUNNEL_OPEN,
    TUNNEL_ENDED,
};

struct tunnel {
    struct tunnels *all;
    TAILQ_ENTRY(tunnel) in_all; /* or in the list of ended ones */
    TAILQ_ENTRY(tunnel) in_quiet;
    struct wheel_timer timer;
    enum tunnel_state state;
    bool is_quiet; /* in its pool's list */
    bool refused;  /* a problem was the answer */

    char client[DOOR_ADDRESS_MAX];
    char id[IDENTITY_ID_SIZE];
    const char *request_id; /* as the client sent it, or `id` */
    char *own_request_id;   /* owned: a copy of the client's */

    struct connect_scan scan;
    char *come; /* what has come: of the head, later of what stood behind it. Owned */
    size_t come_bytes;
    struct origin *origin;
    uint64_t queue_timeout_ns;
    uint64_t total_ns; /* Weir-Timeout; 0: none */
    struct auth_query credentials;

    struct admission_place place;
    struct socket_pool *pool; /* while it holds a slot */
    struct resolver_query query;
    struct resolver_addresses addresses;
    unsigned next_address;
    struct relay relay; /* its wires are the tunnel's, the upstream's from CONNECTING on */

    uint64_t arrived_ns;
    uint64_t queue_ns;
    uint64_t started_ns;
    uint64_t attempt_deadline_ns;
    uint64_t connected_ns;
    uint64_t activity_ns; /* when it last carried something */
    uint32_t ahead;
    unsigned status;

    const char *detail;  /* with a problem */
    int64_t host_queued; /* -1: does not apply */
    int64_t host_limit;
    uint64_t retry_ns;
};

TAILQ_HEAD(tunnel_list, tunnel);

struct tunnels {
    struct tunnels_parts parts;
    struct tunnels_settings settings;
    const struct egress *egress;
    struct origin_cache *origins;
    struct wires wires;
    struct wheel wheel;
    struct wheel contentions; /* of the hosts for which somebody waits */
    struct tunnel_list all;
    struct tunnel_list ended;
    struct auth_queries answered;
    struct tunnels_counts counts;
    uint64_t now_ns;
    bool draining;
    char buffer[RELAY_BYTES];
};

/* --- tunnel.c --- */

/* Something has happened at one of its wires. */
void tunnel_on_wire(struct tunnel *tunnel, struct wire *wire);

/* Its deadline may have come. */
void tunnel_on_due(struct tunnel *tunnel);

/* Its name's addresses are here. */
void tunnel_on_addresses(struct tunnel *tunnel, const struct resolver_addresses *addresses);

/* It may start, or has waited too long. */
void tunnel_on_admission(struct tunnel *tunnel);

/* The one place that changes the state. */
void tunnel_move(struct tunnel *tunnel, enum tunnel_state state);

/* Where it leads, as egress rules see it. */
struct egress_target tunnel_target(const struct tunnel *tunnel);

/* Arms its timer for what it waits for now. */
void tunnel_arm(struct tunnel *tunnel);

/* PROBLEM is the answer, and the end. */
void tunnel_refuse(struct tunnel *tunnel, enum problem problem, const char *detail);

/* The same for one that egress rules do not let out. */
void tunnel_deny(struct tunnel *tunnel, enum problem problem, const char *detail);

/* How the two connections end. */
enum tunnel_close {
    TUNNEL_CLOSE,
    TUNNEL_CLOSE_ANSWERED, /* the client's has an answer in it that must not be lost */
    TUNNEL_RESET,          /* broken off: the other side shall see that too */
};

/*
 * The end, from any state: gives everything back, and logs OUTCOME. The tunnel itself is reaped at
 * the end of the turn.
 */
void tunnel_end(struct tunnel *tunnel, const char *outcome, enum tunnel_close how);

/* --- tunnel_head.c --- */

/* Reads of the head what has come. */
void tunnel_read_head(struct tunnel *tunnel);

/* Its credentials have been checked. */
void tunnel_on_checked(struct tunnel *tunnel, enum problem problem, const char *detail);

/* --- tunnel_answer.c --- */

/* Sends the answer that the tunnel is open. False: the client's connection does not take it. */
bool tunnel_send_opened(struct tunnel *tunnel);

/* Sends PROBLEM as the answer. */
void tunnel_send_problem(struct tunnel *tunnel, enum problem problem);

#endif

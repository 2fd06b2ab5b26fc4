/*
 * Tunnels: CONNECT, from the first byte of its request to the last that it carries.
 *
 *   READING --head--> CHECKING --may--> WAITING --granted--> RESOLVING --> CONNECTING --> OPEN
 *
 * and from each of them to ENDED. A tunnel waits in the same queue as fetches and holds its slot to
 * its end. Until it is open it answers what is wrong with the same problems; then it carries bytes
 * (relay.h) and knows nothing of them.
 *
 * An open tunnel ends when both sides have closed, when one of them breaks it off, when it has
 * carried nothing for timeouts.tunnel_idle, or at the age of timeouts.tunnel_max_age. Programs keep
 * finished tunnels for later: while somebody waits for a host, a tunnel to it that has been silent
 * for timeouts.tunnel_idle_contended makes room, the longest silent first and one for each who
 * waits.
 */
#ifndef WEIR_SERVER_TUNNEL_H
#define WEIR_SERVER_TUNNEL_H

#include "api/config.h"
#include "limiter/limiter.h"
#include "server/admission.h"
#include "server/auth.h"
#include "server/door.h"
#include "server/egress.h"
#include "server/identity.h"
#include "server/lingering.h"
#include "server/lobby.h"
#include "server/log.h"
#include "server/resolver.h"
#include "server/sockets.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct tunnels;

/* What they work with; all borrowed. */
struct tunnels_parts {
    struct limiter *limiter;
    struct sockets *sockets;
    struct resolver *resolver;
    struct auth *auth;
    struct door *door;
    struct lingering *lingering;
    struct log *log;
    struct identity *identity;
};

/* From the configuration. */
struct tunnels_settings {
    unsigned overflow_status;
    uint32_t header_bytes; /* the most a request's head may have */
    struct config_timeouts timeouts;
};

struct tunnels_counts {
    uint32_t open; /* whose head is here, and that have not ended */
    uint64_t requests_total;
    uint64_t problems_total;
    uint64_t bytes_in_total; /* from clients */
    uint64_t bytes_out_total;
};

/* NULL when out of memory. */
struct tunnels *tunnels_create(uv_loop_t *loop, const struct tunnels_parts *parts,
                               const struct tunnels_settings *settings, uint64_t now_ns);

/* Ends all that are left; run the loop afterwards. Accepts NULL. */
void tunnels_destroy(struct tunnels *tunnels);

/* A reload's settings, for what is done from now on. */
void tunnels_configure(struct tunnels *tunnels, const struct tunnels_settings *settings);

/* The policy in force from now on, borrowed until the next; before the first tunnel. */
void tunnels_set_egress(struct tunnels *tunnels, const struct egress *egress);

/* From now on requests are refused as draining; those that are under way go on. */
void tunnels_drain(struct tunnels *tunnels);

struct tunnels_counts tunnels_counts(const struct tunnels *tunnels);

/* Takes over GUEST's connection, which has entered by the door, whatever comes of it. */
void tunnels_add(struct tunnels *tunnels, const struct lobby_guest *guest, uint64_t now_ns);

/* PLACE, a tunnel's, may start or has waited too long. */
void tunnels_admit(struct tunnels *tunnels, struct admission_place *place);

/* Does what can be done now. Returns true where it did something. */
bool tunnels_run(struct tunnels *tunnels, uint64_t now_ns);

/* Frees what has ended; at the end of a turn. */
void tunnels_reap(struct tunnels *tunnels);

/* When tunnels_run() should be called again though nothing is ready. */
uint64_t tunnels_next_ns(const struct tunnels *tunnels);

#endif

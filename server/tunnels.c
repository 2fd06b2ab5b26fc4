/*
 * All tunnels: their part of the turn, and who of them makes room while others wait. See tunnel.h.
 *
 * Each host's pool (sockets.h) holds its open tunnels that have nothing on its way, ordered by when
 * they last carried something. Nobody looks at that list while nobody waits for the host. Whoever
 * comes to wait puts the pool on the list of contended ones (once); from then on it has a timer for
 * the moment at which its longest silent tunnel has been silent for long enough.
 */
#include "server/tunnel_state.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#define ORIGINS 256 /* that are remembered */

struct tunnels *tunnels_create(uv_loop_t *loop, const struct tunnels_parts *parts,
                               const struct tunnels_settings *settings, uint64_t now_ns)
{
    struct tunnels *tunnels = calloc(1, sizeof *tunnels);
    if (tunnels == NULL) {
        return NULL;
    }
    tunnels->origins = origin_cache_create(ORIGINS);
    if (tunnels->origins == NULL) {
        free(tunnels);
        return NULL;
    }
    tunnels->parts = *parts;
    tunnels->settings = *settings;
    tunnels->now_ns = now_ns;
    wires_init(&tunnels->wires, loop);
    wheel_init(&tunnels->wheel, now_ns);
    wheel_init(&tunnels->contentions, now_ns);
    TAILQ_INIT(&tunnels->all);
    TAILQ_INIT(&tunnels->ended);
    TAILQ_INIT(&tunnels->answered);
    return tunnels;
}

void tunnels_destroy(struct tunnels *tunnels)
{
    if (tunnels == NULL) {
        return;
    }
    struct tunnel *tunnel;
    while ((tunnel = TAILQ_FIRST(&tunnels->all)) != NULL) {
        tunnel_end(tunnel, "draining", TUNNEL_CLOSE);
    }
    tunnels_reap(tunnels);
    origin_cache_destroy(tunnels->origins);
    free(tunnels);
}

void tunnels_configure(struct tunnels *tunnels, const struct tunnels_settings *settings)
{
    tunnels->settings = *settings;
    struct tunnel *tunnel;
    TAILQ_FOREACH (tunnel, &tunnels->all, in_all) {
        tunnel_arm(tunnel);
    }
}

void tunnels_set_egress(struct tunnels *tunnels, const struct egress *egress)
{
    tunnels->egress = egress;
}

void tunnels_drain(struct tunnels *tunnels)
{
    tunnels->draining = true;
}

struct tunnels_counts tunnels_counts(const struct tunnels *tunnels)
{
    return tunnels->counts;
}

void tunnels_add(struct tunnels *tunnels, const struct lobby_guest *guest, uint64_t now_ns)
{
    tunnels->now_ns = now_ns;
    struct tunnel *tunnel = calloc(1, sizeof *tunnel);
    struct wire *wire = NULL;
    if (tunnel != NULL) {
        wire = wire_create(&tunnels->wires, guest->fd, tunnel);
    }
    if (wire == NULL) {
        free(tunnel);
        door_leave(tunnels->parts.door, guest->fd);
        close(guest->fd);
        return;
    }
    tunnel->all = tunnels;
    tunnel->relay.wires[RELAY_CLIENT] = wire;
    tunnel->arrived_ns = guest->arrived_ns;
    tunnel->host_queued = -1;
    tunnel->host_limit = -1;
    door_print_address((const struct sockaddr *)&guest->peer, guest->peer_bytes, tunnel->client);
    identity_make_id(tunnels->parts.identity, tunnel->id, sizeof tunnel->id);
    tunnel->request_id = tunnel->id;
    TAILQ_INSERT_TAIL(&tunnels->all, tunnel, in_all);
    tunnels->counts.requests_total++;
    wire_watch(wire, UV_READABLE);
    tunnel_arm(tunnel);
    tunnel_read_head(tunnel);
}

void tunnels_admit(struct tunnels *tunnels, struct admission_place *place)
{
    (void)tunnels;
    assert(place->owner == ADMISSION_TUNNEL);
    tunnel_on_admission((struct tunnel *)((char *)place - offsetof(struct tunnel, place)));
}

/* --- who makes room --- */

/*
 * Closes as many silent tunnels of POOL's host as there are who wait for it without a slot to come,
 * and sees to it that the next is looked at when it has been silent for long enough.
 */
static void contend(struct tunnels *tunnels, struct socket_pool *pool)
{
    uint64_t now_ns = tunnels->now_ns;
    uint64_t silence_ns = tunnels->settings.timeouts.tunnel_idle_contended_ns;
    uint64_t next_ns = WHEEL_NEVER;
    struct tunnel *tunnel;

    pool = sockets_hold_pool(tunnels->parts.sockets, pool->limiter, pool->host);
    while (limiter_host_waiting(pool->host) > 0 && (tunnel = TAILQ_FIRST(&pool->quiet)) != NULL) {
        next_ns = tunnel->activity_ns + silence_ns;
        if (next_ns > now_ns) {
            break;
        }
        next_ns = WHEEL_NEVER;
        tunnel_end(tunnel, "tunnel_idle_contended", TUNNEL_CLOSE);
    }
    wheel_arm(&tunnels->contentions, &pool->contention, next_ns);
    sockets_release_pool(pool);
}

/* --- the turn --- */

static bool run_contentions(struct tunnels *tunnels)
{
    bool worked = false;
    struct socket_pool *pool;
    struct wheel_timer *timer;
    while ((pool = sockets_take_contended(tunnels->parts.sockets)) != NULL) {
        contend(tunnels, pool);
        worked = true;
    }
    while ((timer = wheel_take_due(&tunnels->contentions, tunnels->now_ns)) != NULL) {
        contend(tunnels,
                (struct socket_pool *)((char *)timer - offsetof(struct socket_pool, contention)));
        worked = true;
    }
    return worked;
}

bool tunnels_run(struct tunnels *tunnels, uint64_t now_ns)
{
    bool worked = false;
    struct resolver_addresses addresses;
    struct resolver_query *query;
    struct auth_query *credentials;
    struct wheel_timer *timer;
    struct wire *wire;

    tunnels->now_ns = now_ns;
    while ((wire = wires_take_ready(&tunnels->wires)) != NULL) {
        tunnel_on_wire(wire->owner, wire);
        worked = true;
    }
    while ((query = resolver_take_from(tunnels->parts.resolver, RESOLVER_TUNNELS, &addresses)) !=
           NULL) {
        tunnel_on_addresses((struct tunnel *)((char *)query - offsetof(struct tunnel, query)),
                            &addresses);
        worked = true;
    }
    while ((credentials = auth_take(&tunnels->answered)) != NULL) {
        tunnel_on_checked(
            (struct tunnel *)((char *)credentials - offsetof(struct tunnel, credentials)),
            credentials->problem, credentials->detail);
        worked = true;
    }
    while ((timer = wheel_take_due(&tunnels->wheel, now_ns)) != NULL) {
        tunnel_on_due((struct tunnel *)((char *)timer - offsetof(struct tunnel, timer)));
        worked = true;
    }
    return run_contentions(tunnels) || worked;
}

uint64_t tunnels_next_ns(const struct tunnels *tunnels)
{
    uint64_t next_ns = wheel_next_ns(&tunnels->wheel);
    uint64_t contention_ns = wheel_next_ns(&tunnels->contentions);
    return next_ns < contention_ns ? next_ns : contention_ns;
}

void tunnels_reap(struct tunnels *tunnels)
{
    struct tunnel *tunnel;
    while ((tunnel = TAILQ_FIRST(&tunnels->ended)) != NULL) {
        TAILQ_REMOVE(&tunnels->ended, tunnel, in_all);
        free(tunnel);
    }
}

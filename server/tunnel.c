/*
 * One tunnel's life. See tunnel.h; how its head is read is in tunnel_head.c, what its client is
 * told in tunnel_answer.c, what all have in common in tunnels.c.
 *
 * Who holds what: the tunnel owns both descriptors, their wires and its origin. Its slot, its hold
 * on the host's pool and its upstream connection are given back together, by give_back(). While it
 * waits for a slot, a name or a connection its client is watched for leaving and not read: what the
 * client sends early stays in the kernel, but for what came in one piece with the head.
 *
 * The timer is not moved with every byte: when it fires, the deadline is computed anew.
 */
#include "server/tunnel_state.h"

#include "api/target.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A connect attempt is never given less, however many addresses are left to try. */
#define LEAST_ATTEMPT_NS (UINT64_C(250) * 1000000)

static void begin_attempt(struct tunnel *tunnel);
static void try_next_address(struct tunnel *tunnel);

struct egress_target tunnel_target(const struct tunnel *tunnel)
{
    return (struct egress_target){tunnel->origin->name, tunnel->origin->port, EGRESS_GRANT_NONE};
}

/* --- deadlines --- */

/* When it ends whatever it does, or UINT64_MAX; once it has started. */
static uint64_t oldest_ns(const struct tunnel *tunnel)
{
    uint64_t age_ns = tunnel->all->settings.timeouts.tunnel_max_age_ns;
    uint64_t asked_ns = tunnel->total_ns;
    if (asked_ns > 0 && (age_ns == 0 || asked_ns < age_ns)) {
        age_ns = asked_ns;
    }
    return age_ns > 0 ? tunnel->started_ns + age_ns : UINT64_MAX;
}

/* When what it waits for now has taken too long; UINT64_MAX: somebody else sees to that. */
static uint64_t deadline_of(const struct tunnel *tunnel)
{
    const struct config_timeouts *timeouts = &tunnel->all->settings.timeouts;
    uint64_t deadline_ns = UINT64_MAX;
    switch (tunnel->state) {
    case TUNNEL_READING:
        return tunnel->arrived_ns + timeouts->head_ns;
    case TUNNEL_RESOLVING:
        deadline_ns = tunnel->started_ns + timeouts->connect_ns;
        break;
    case TUNNEL_CONNECTING:
        deadline_ns = tunnel->attempt_deadline_ns;
        break;
    case TUNNEL_OPEN:
        deadline_ns = tunnel->activity_ns + timeouts->tunnel_idle_ns;
        break;
    case TUNNEL_CHECKING:
    case TUNNEL_WAITING:
    case TUNNEL_ENDED:
        return UINT64_MAX;
    }
    return oldest_ns(tunnel) < deadline_ns ? oldest_ns(tunnel) : deadline_ns;
}

void tunnel_arm(struct tunnel *tunnel)
{
    wheel_arm(&tunnel->all->wheel, &tunnel->timer, deadline_of(tunnel));
}

static bool is_open(enum tunnel_state state)
{
    return state != TUNNEL_READING && state != TUNNEL_ENDED;
}

void tunnel_move(struct tunnel *tunnel, enum tunnel_state state)
{
    assert(tunnel->state != TUNNEL_ENDED);
    tunnel->all->counts.open -= is_open(tunnel->state);
    tunnel->all->counts.open += is_open(state);
    tunnel->state = state;
    tunnel_arm(tunnel);
}

/* --- the end --- */

static void close_upstream(struct tunnel *tunnel)
{
    struct wire *wire = tunnel->relay.wires[RELAY_UPSTREAM];
    if (wire != NULL) {
        int fd = wire->fd;
        wire_destroy(wire);
        tunnel->relay.wires[RELAY_UPSTREAM] = NULL;
        sockets_close_tunnel(tunnel->all->parts.sockets, tunnel->pool, fd,
                             relay_is_done(&tunnel->relay));
    }
}

static void set_quiet(struct tunnel *tunnel, bool quiet)
{
    struct socket_pool *pool = tunnel->pool;
    if (tunnel->is_quiet) {
        TAILQ_REMOVE(&pool->quiet, tunnel, in_quiet);
    }
    if (quiet) {
        TAILQ_INSERT_TAIL(&pool->quiet, tunnel, in_quiet);
        if (!tunnel->is_quiet && limiter_host_waiting(pool->host) > 0) {
            sockets_note_waiter(tunnel->all->parts.sockets, pool->host);
        }
    }
    tunnel->is_quiet = quiet;
}

/* The slot, or the place in the queue, and all that it was for. */
static void give_back(struct tunnel *tunnel)
{
    struct tunnels *all = tunnel->all;
    struct socket_pool *pool = tunnel->pool;
    resolver_cancel(all->parts.resolver, &tunnel->query);
    if (pool != NULL) {
        set_quiet(tunnel, false);
        close_upstream(tunnel);
        pool->tunnels--;
        if (pool->tunnels == 0) {
            wheel_disarm(&all->contentions, &pool->contention);
        }
        sockets_release_pool(pool);
        tunnel->pool = NULL;
    }
    if (tunnel->place.ticket.state == LIMITER_WAITING) {
        tunnel->queue_ns = all->now_ns - tunnel->place.ticket.arrived_ns;
    }
    limiter_release(all->parts.limiter, &tunnel->place.ticket, all->now_ns);
}

/* The next close() of FD resets its connection. */
static void make_reset(const struct wire *wire)
{
    struct linger at_once = {.l_onoff = 1};
    if (wire != NULL) {
        (void)setsockopt(wire->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    }
}

static void close_client(struct tunnel *tunnel, enum tunnel_close how)
{
    struct wire *wire = tunnel->relay.wires[RELAY_CLIENT];
    int fd = wire->fd;
    wire_destroy(wire);
    tunnel->relay.wires[RELAY_CLIENT] = NULL;
    door_leave(tunnel->all->parts.door, fd);
    if (how == TUNNEL_CLOSE_ANSWERED) {
        lingering_close(tunnel->all->parts.lingering, fd, tunnel->all->now_ns);
    } else {
        close(fd);
    }
}

static void write_log(const struct tunnel *tunnel, const char *outcome)
{
    struct log_request line = {
        .id = tunnel->request_id,
        .client = tunnel->client,
        .form = target_form_word(TARGET_TUNNEL),
        .method = "CONNECT",
        .host = tunnel->origin != NULL ? tunnel->origin->host : NULL,
        .status = tunnel->status,
        .bytes_in = tunnel->relay.flows[RELAY_CLIENT].bytes,
        .bytes_out = tunnel->relay.flows[RELAY_UPSTREAM].bytes,
        .queue_ns = tunnel->queue_ns,
        .fetch_ns = tunnel->started_ns > 0 ? tunnel->all->now_ns - tunnel->started_ns : 0,
        .ahead = tunnel->ahead,
        .outcome = outcome,
    };
    log_write_request(tunnel->all->parts.log, &line);
}

void tunnel_end(struct tunnel *tunnel, const char *outcome, enum tunnel_close how)
{
    struct tunnels *all = tunnel->all;
    if (how == TUNNEL_RESET) {
        make_reset(tunnel->relay.wires[RELAY_CLIENT]);
        make_reset(tunnel->relay.wires[RELAY_UPSTREAM]);
    }
    give_back(tunnel);
    auth_cancel(&tunnel->credentials);
    close_client(tunnel, how);
    write_log(tunnel, outcome);
    tunnel_move(tunnel, TUNNEL_ENDED);
    all->counts.bytes_in_total += tunnel->relay.flows[RELAY_CLIENT].bytes;
    all->counts.bytes_out_total += tunnel->relay.flows[RELAY_UPSTREAM].bytes;
    TAILQ_REMOVE(&all->all, tunnel, in_all);
    TAILQ_INSERT_TAIL(&all->ended, tunnel, in_all);
    relay_finish(&tunnel->relay);
    origin_release(tunnel->origin);
    tunnel->origin = NULL;
    free(tunnel->come);
    tunnel->come = NULL;
    free(tunnel->own_request_id);
    tunnel->own_request_id = NULL;
}

void tunnel_refuse(struct tunnel *tunnel, enum problem problem, const char *detail)
{
    struct tunnels *all = tunnel->all;
    const struct limiter_host *host = NULL;
    if (tunnel->origin != NULL && problem != PROBLEM_DRAINING) {
        host = limiter_find(all->parts.limiter, tunnel->origin->host);
    }
    if (host != NULL) {
        struct limiter_view view;
        limiter_describe(host, all->now_ns, &view);
        tunnel->host_queued = view.queued;
        tunnel->host_limit = view.limit;
        tunnel->retry_ns = limiter_expected_wait_ns(host, view.queued);
    }
    give_back(tunnel);
    all->counts.problems_total++;
    tunnel->detail = detail;
    tunnel_send_problem(tunnel, problem);
    tunnel_end(tunnel, problem_kind(problem)->word, TUNNEL_CLOSE_ANSWERED);
}

void tunnel_deny(struct tunnel *tunnel, enum problem problem, const char *detail)
{
    limiter_count_rejection(tunnel->all->parts.limiter, tunnel->origin->host,
                            LIMITER_REJECTED_DENIED);
    tunnel_refuse(tunnel, problem, detail);
}

/* --- the connection --- */

void tunnel_on_admission(struct tunnel *tunnel)
{
    struct tunnels *all = tunnel->all;
    const struct limiter_ticket *ticket = &tunnel->place.ticket;
    struct resolver_addresses addresses;
    if (ticket->state == LIMITER_EXPIRED) {
        tunnel->queue_ns = all->now_ns - ticket->arrived_ns;
        tunnel_refuse(tunnel, PROBLEM_QUEUE_TIMEOUT, "waited for a slot as long as it may");
        return;
    }
    assert(ticket->state == LIMITER_ACTIVE);
    tunnel->queue_ns = ticket->started_ns - ticket->arrived_ns;
    tunnel->started_ns = all->now_ns;
    tunnel->pool = sockets_hold_pool(all->parts.sockets, all->parts.limiter, ticket->host);
    if (tunnel->pool == NULL) {
        tunnel_refuse(tunnel, PROBLEM_INTERNAL, "out of memory for the connection");
        return;
    }
    tunnel->pool->tunnels++;
    tunnel_move(tunnel, TUNNEL_RESOLVING);
    tunnel->query.mailbox = RESOLVER_TUNNELS;
    if (resolver_ask(all->parts.resolver, tunnel->origin->name, &tunnel->query, all->now_ns,
                     &addresses)) {
        tunnel_on_addresses(tunnel, &addresses);
    }
}

void tunnel_on_addresses(struct tunnel *tunnel, const struct resolver_addresses *addresses)
{
    struct egress_target target = tunnel_target(tunnel);
    const char *detail;
    tunnel->addresses = *addresses;
    tunnel->next_address = 0;
    if (addresses->count == 0) {
        tunnel_refuse(tunnel, PROBLEM_DNS_ERROR,
                      addresses->error == 0 ? "too many names are being looked up at this moment"
                                            : gai_strerror(addresses->error));
        return;
    }
    enum problem problem = egress_filter(tunnel->all->egress, &target, &tunnel->addresses, &detail);
    if (problem != PROBLEM_NONE) {
        tunnel_deny(tunnel, problem, detail);
        return;
    }
    begin_attempt(tunnel);
}

/*
 * Opens a socket and begins to connect it to ADDRESS. 0, or an errno: where *ret_opened, of the
 * connection.
 */
static int dial(struct tunnel *tunnel, const struct sockaddr *address, bool *ret_opened)
{
    struct tunnels *all = tunnel->all;
    struct sockaddr_storage place;
    int on = 1;
    socklen_t bytes =
        address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    *ret_opened = false;
    memcpy(&place, address, bytes);
    if (address->sa_family == AF_INET6) {
        ((struct sockaddr_in6 *)&place)->sin6_port = htons(tunnel->origin->port);
    } else {
        ((struct sockaddr_in *)&place)->sin_port = htons(tunnel->origin->port);
    }
    int fd = sockets_open_tunnel(all->parts.sockets, tunnel->pool, address->sa_family);
    if (fd < 0) {
        return errno;
    }
    struct wire *wire = wire_create(&all->wires, fd, tunnel);
    if (wire == NULL) {
        sockets_close_tunnel(all->parts.sockets, tunnel->pool, fd, false);
        return ENOMEM;
    }
    tunnel->relay.wires[RELAY_UPSTREAM] = wire;
    *ret_opened = true;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, (const struct sockaddr *)&place, bytes) < 0 && errno != EINPROGRESS) {
        return errno;
    }
    wire_watch(wire, UV_WRITABLE);
    return 0;
}

/* Tries the next address with its share of the time that is left to connect. */
static void begin_attempt(struct tunnel *tunnel)
{
    struct tunnels *all = tunnel->all;
    struct egress_target target = tunnel_target(tunnel);
    const struct sockaddr *address = &tunnel->addresses.at[tunnel->next_address].any;
    const char *detail;
    uint64_t end_ns = tunnel->started_ns + all->settings.timeouts.connect_ns;
    uint64_t left_ns = end_ns > all->now_ns ? end_ns - all->now_ns : 0;
    uint64_t share_ns = left_ns / (tunnel->addresses.count - tunnel->next_address);
    if (share_ns < LEAST_ATTEMPT_NS) {
        share_ns = left_ns < LEAST_ATTEMPT_NS ? left_ns : LEAST_ATTEMPT_NS;
    }
    enum problem problem = egress_check_address(all->egress, &target, address, &detail);
    if (problem != PROBLEM_NONE) { /* the rules have changed since the addresses were sifted */
        tunnel_deny(tunnel, problem, detail);
        return;
    }
    bool opened;
    int error = dial(tunnel, address, &opened);
    if (error != 0 && !opened) {
        tunnel_refuse(tunnel, PROBLEM_INTERNAL, strerror(error));
        return;
    }
    tunnel->attempt_deadline_ns = all->now_ns + share_ns;
    tunnel_move(tunnel, TUNNEL_CONNECTING);
    if (error != 0) {
        try_next_address(tunnel);
    }
}

/* The present address did not answer. */
static void try_next_address(struct tunnel *tunnel)
{
    struct tunnels *all = tunnel->all;
    bool late = all->now_ns >= tunnel->attempt_deadline_ns;
    close_upstream(tunnel);
    tunnel->next_address++;
    if (tunnel->next_address < tunnel->addresses.count &&
        all->now_ns < tunnel->started_ns + all->settings.timeouts.connect_ns) {
        begin_attempt(tunnel);
    } else if (late) {
        tunnel_refuse(tunnel, PROBLEM_CONNECTION_TIMEOUT,
                      "no connection was established within timeouts.connect");
    } else {
        tunnel_refuse(tunnel, PROBLEM_CONNECTION_REFUSED,
                      "no address of the host accepted the connection");
    }
}

/* --- open --- */

static void run_relay(struct tunnel *tunnel)
{
    struct tunnels *all = tunnel->all;
    bool moved;
    switch (relay_run(&tunnel->relay, all->buffer, &moved)) {
    case RELAY_OPEN:
        break;
    case RELAY_DONE:
        tunnel_end(tunnel, "ok", TUNNEL_CLOSE);
        return;
    case RELAY_CLIENT_BROKEN:
        tunnel_end(tunnel, "client_gone", TUNNEL_RESET);
        return;
    case RELAY_UPSTREAM_BROKEN:
        tunnel_end(tunnel, "upstream_broke_off", TUNNEL_RESET);
        return;
    }
    if (moved) {
        tunnel->activity_ns = all->now_ns;
    }
    bool quiet = !relay_is_blocked(&tunnel->relay);
    if (moved || quiet != tunnel->is_quiet) {
        set_quiet(tunnel, quiet);
    }
}

static void open_tunnel(struct tunnel *tunnel)
{
    struct relay *relay = &tunnel->relay;
    tunnel->connected_ns = tunnel->activity_ns = tunnel->all->now_ns;
    if (tunnel->come != NULL) {
        relay_prepend(relay, tunnel->come, tunnel->come_bytes);
        tunnel->come = NULL;
    }
    if (!tunnel_send_opened(tunnel)) {
        tunnel_end(tunnel, "client_gone", TUNNEL_RESET);
    } else {
        tunnel_move(tunnel, TUNNEL_OPEN);
        relay->wires[RELAY_CLIENT]->ready = UV_READABLE | UV_WRITABLE;
        relay->wires[RELAY_UPSTREAM]->ready = UV_READABLE | UV_WRITABLE;
        run_relay(tunnel);
    }
}

static void on_connect_result(struct tunnel *tunnel)
{
    int error = 0;
    socklen_t bytes = sizeof error;
    int fd = tunnel->relay.wires[RELAY_UPSTREAM]->fd;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &bytes) < 0 || error != 0 ||
        tunnel->relay.wires[RELAY_UPSTREAM]->broken) {
        try_next_address(tunnel);
    } else {
        open_tunnel(tunnel);
    }
}

/* --- what happens to it --- */

void tunnel_on_wire(struct tunnel *tunnel, struct wire *wire)
{
    bool of_client = wire == tunnel->relay.wires[RELAY_CLIENT];
    switch (tunnel->state) {
    case TUNNEL_READING:
        tunnel_read_head(tunnel);
        return;
    case TUNNEL_CHECKING:
    case TUNNEL_WAITING:
    case TUNNEL_RESOLVING:
    case TUNNEL_CONNECTING:
        if (of_client) { /* all that is watched is its leaving */
            tunnel_end(tunnel, "client_gone", TUNNEL_CLOSE);
        } else {
            on_connect_result(tunnel);
        }
        return;
    case TUNNEL_OPEN:
        run_relay(tunnel);
        return;
    case TUNNEL_ENDED:
        break;
    }
    assert(false && "a wire of a tunnel that has ended");
}

void tunnel_on_due(struct tunnel *tunnel)
{
    if (deadline_of(tunnel) > tunnel->all->now_ns) {
        tunnel_arm(tunnel);
        return;
    }
    bool old = tunnel->all->now_ns >= oldest_ns(tunnel);
    switch (tunnel->state) {
    case TUNNEL_READING:
        tunnel_end(tunnel, "head_timeout", TUNNEL_CLOSE);
        return;
    case TUNNEL_RESOLVING:
        tunnel_refuse(tunnel, PROBLEM_DNS_TIMEOUT,
                      "the name was not resolved within timeouts.connect");
        return;
    case TUNNEL_CONNECTING:
        if (old) {
            tunnel_refuse(
                tunnel, PROBLEM_CONNECTION_TIMEOUT,
                "no connection was established within Weir-Timeout or timeouts.tunnel_max_age");
        } else {
            try_next_address(tunnel);
        }
        return;
    case TUNNEL_OPEN:
        tunnel_end(tunnel, old ? "tunnel_max_age" : "tunnel_idle", TUNNEL_CLOSE);
        return;
    case TUNNEL_CHECKING:
    case TUNNEL_WAITING:
    case TUNNEL_ENDED:
        break;
    }
    assert(false && "a tunnel that waits for nothing has no deadline");
}

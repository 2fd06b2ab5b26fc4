/*
 * See server.h.
 *
 * One thread owns everything, so nothing needs a lock. libuv's callbacks only note what is ready;
 * the turn then does the work, in a fixed order and with one reading of the clock:
 *
 *   0. guard_run()      checked credentials
 *   1. fetcher_run()    one upstream socket, resolved names, deadlines; ended fetches become news
 *   2. exchanges_run()  news: slots come back
 *   3. admit()          whoever may start does, at once
 *   4. tunnels_run()    bytes both ways, new tunnels; slots of ended ones come back
 *   5. frontend_run()   clients: those that left, those that can go on, new requests
 *   6. reap
 *
 * 1 to 3 alternate while they find work, so that the request that takes a freed slot is on its way
 * before anything else is done; 0 to 5 are repeated while they find work; both a bounded number of
 * times, so that new events get their turn.
 */
#include "server/server_state.h"

#include "server/notify.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define STEPS        4096 /* through steps 1 to 3 in one round */
#define ROUNDS       4    /* through steps 0 to 5 in one turn */
#define ACCEPTS      256  /* connections taken from one listener in one turn */
#define LOG_RETRY_NS (UINT64_C(100) * 1000000)
#define STOP_NS      (UINT64_C(5) * 1000000000) /* for what is left to do after the drain */

/* --- the service manager --- */

static void tell_manager(struct server *server, const char *state)
{
    if (!notify_send(state)) {
        log_event(server->log, CONFIG_LEVEL_WARNING, "notify_failed", "reason", strerror(errno),
                  NULL);
    }
}

/* It must not end us before the drain does. */
static void tell_manager_of_drain(struct server *server)
{
    char state[64];
    snprintf(state, sizeof state, "STOPPING=1\nEXTEND_TIMEOUT_USEC=%" PRIu64,
             (server->config->timeouts.drain_ns + STOP_NS) / 1000);
    tell_manager(server, state);
}

static void reload(struct server *server)
{
    char state[64];
    if (server->drain_ns > 0) { /* to the manager it is stopping, and nothing else */
        server_reload_config(server);
        return;
    }
    snprintf(state, sizeof state, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, server->now_ns / 1000);
    tell_manager(server, state);
    server_reload_config(server);
    tell_manager(server, "READY=1");
}

/* --- signals --- */

static void on_signal(uv_signal_t *signal, int number)
{
    struct server *server = signal->data;
    if (number == SIGHUP) {
        server->asked_to_reload = true;
    } else {
        server->asked_to_stop++;
    }
}

bool server_watch_signals(struct server *server)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* the log may be a file, and ulimit -f bound it */
    signal(SIGCHLD, SIG_IGN); /* process 1 of a container inherits others' children */
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (uv_signal_init(&server->loop, &server->signals[i]) < 0) {
            return false;
        }
        server->signals[i].data = server;
        uv_signal_start(&server->signals[i], on_signal, numbers[i]);
    }
    return true;
}

static void begin_drain(struct server *server, const char *asked_by)
{
    uint64_t drain_ns = server->config->timeouts.drain_ns;
    server->drain_ns = server->now_ns + (drain_ns > 0 ? drain_ns : 1);
    exchanges_drain(server->exchanges);
    frontend_drain(server->frontend);
    tunnels_drain(server->tunnels);
    log_event(server->log, CONFIG_LEVEL_INFO, "draining", "asked_by", asked_by, NULL);
    tell_manager_of_drain(server);
}

static void stop(struct server *server, int exit_status, const char *how)
{
    server->is_running = false;
    server->exit_status = exit_status;
    log_event(server->log, CONFIG_LEVEL_INFO, "stopped", "how", how, NULL);
}

/* A drain waits for whoever has sent a request, not for those that have not yet done so. */
static void obey_stop(struct server *server)
{
    if (server->drain_ns == 0 && server->asked_to_stop > 0) {
        begin_drain(server, "signal");
    } else if (server->drain_ns == 0 && admin_asked_to_quit(server->admin)) {
        begin_drain(server, "quitquitquit");
    }
    if (server->drain_ns == 0) {
        return;
    }
    if (exchanges_counts(server->exchanges).open == 0 &&
        tunnels_counts(server->tunnels).open == 0 && !admin_owes_answer(server->admin)) {
        stop(server, 0, "drained");
    } else if (server->asked_to_stop > 1) {
        stop(server, 3, "told twice");
    } else if (server->now_ns >= server->drain_ns) {
        stop(server, 3, "timeouts.drain ran out");
    }
}

/* --- the turn --- */

/* GUEST goes where it wants. */
void server_let_in(struct server *server, const struct lobby_guest *guest, enum lobby_wish wish)
{
    switch (wish) {
    case LOBBY_HTTP:
        frontend_add(server->frontend, guest, server->now_ns);
        return;
    case LOBBY_TUNNEL:
        tunnels_add(server->tunnels, guest, server->now_ns);
        return;
    case LOBBY_NOTHING:
        break;
    }
    door_leave(guard_door(server->guard), guest->fd);
    close(guest->fd);
}

/* Takes who comes to the listener INDEX. Returns whether there is somebody who has to stay out. */
static bool accept_at(struct server *server, size_t index)
{
    struct acceptor *acceptor = server->acceptors[index];
    struct lobby_guest guest;
    enum lobby_wish wish;
    acceptor_wake(acceptor, server->now_ns);
    for (int taken = 0; taken < ACCEPTS; taken++) {
        guest.fd =
            guard_take(server->guard, acceptor, &guest.peer, &guest.peer_bytes, server->now_ns);
        if (guest.fd < 0) {
            break;
        }
        guest.arrived_ns = server->now_ns;
        server->next_acceptor = (index + 1) % server->config->listen_count;
        if (lobby_enter(server->lobby, &guest, &wish)) {
            server_let_in(server, &guest, wish);
        }
    }
    bool full = door_is_full(guard_door(server->guard));
    bool wanted = full && acceptor_is_wanted(acceptor);
    /* Who comes is of interest while somebody could make room, until that is known. */
    bool room = frontend_has_idle(server->frontend) || lobby_has_silent(server->lobby);
    acceptor_pause(acceptor, full && (wanted || !room));
    return wanted;
}

static void accept_clients(struct server *server)
{
    struct lobby_guest guest;
    enum lobby_wish wish;
    size_t first = server->next_acceptor; /* in turns: a crowd at one keeps nobody else out */
    bool crowded = false;
    while (lobby_take(server->lobby, server->now_ns, &guest, &wish)) {
        server_let_in(server, &guest, wish);
    }
    for (size_t i = 0; i < server->config->listen_count; i++) {
        crowded = accept_at(server, (first + i) % server->config->listen_count) || crowded;
    }
    bool makes_room = frontend_make_room(server->frontend, crowded, server->now_ns);
    if (lobby_make_room(server->lobby, crowded && !makes_room, server->now_ns, &guest)) {
        server_let_in(server, &guest, LOBBY_NOTHING);
    }
}

static void accept_admins(struct server *server)
{
    struct sockaddr_storage peer;
    socklen_t bytes;
    int fd;
    acceptor_wake(server->admin_acceptor, server->now_ns);
    for (int taken = 0; taken < ACCEPTS; taken++) {
        fd = acceptor_take(server->admin_acceptor, &peer, &bytes, server->now_ns);
        if (fd < 0) {
            break;
        }
        admin_add(server->admin, fd, (struct sockaddr *)&peer, bytes, server->now_ns);
    }
}

/* The only place that starts queued work. */
static bool admit(struct server *server)
{
    struct admission_place *place;
    bool worked = false;
    while ((place = admission_poll(server->limiter, server->now_ns)) != NULL) {
        switch (place->owner) {
        case ADMISSION_EXCHANGE:
            exchanges_admit(server->exchanges, place);
            break;
        case ADMISSION_TUNNEL:
            tunnels_admit(server->tunnels, place);
            break;
        }
        worked = true;
    }
    return worked;
}

static bool run_upstream_half(struct server *server)
{
    bool worked = true;
    int step = 0;
    while (worked && step < STEPS) {
        worked = fetcher_run(server->fetcher, server->now_ns);
        worked = exchanges_run(server->exchanges, server->now_ns) || worked;
        worked = admit(server) || worked;
        step++;
    }
    return worked || step > 1;
}

/* Returns true where there is more to do at once. */
static bool turn(struct server *server)
{
    bool worked = true;
    server->now_ns = uv_hrtime();
    accept_clients(server);
    accept_admins(server);
    if (server->asked_to_reload) {
        server->asked_to_reload = false;
        reload(server); /* before the rounds: a raised limit starts who waits */
    }
    for (int round = 0; worked && round < ROUNDS; round++) {
        worked = guard_run(server->guard, server->now_ns);
        worked = run_upstream_half(server) || worked;
        if (tunnels_run(server->tunnels, server->now_ns)) {
            worked = true;
            admit(server); /* slots of tunnels that have ended */
        }
        worked = frontend_run(server->frontend, server->now_ns) || worked;
    }
    worked = admin_run(server->admin, server->now_ns) || worked;
    exchanges_reap(server->exchanges);
    tunnels_reap(server->tunnels);
    obey_stop(server);
    server->log_waits = log_flush(server->log);
    return worked;
}

static void on_timer(uv_timer_t *timer)
{
    uv_stop(timer->loop); /* timers also run before the poll, which must not block then */
}

static uint64_t earlier(uint64_t a_ns, uint64_t b_ns)
{
    return a_ns < b_ns ? a_ns : b_ns;
}

/* Sees to it that the next poll ends when something is due. */
static void arm_timer(struct server *server)
{
    uint64_t next_ns = server->drain_ns > 0 ? server->drain_ns : UINT64_MAX;
    next_ns = earlier(next_ns, fetcher_next_ns(server->fetcher));
    next_ns = earlier(next_ns, exchanges_next_ns(server->exchanges));
    next_ns = earlier(next_ns, tunnels_next_ns(server->tunnels));
    next_ns = earlier(next_ns, lobby_next_ns(server->lobby));
    next_ns = earlier(next_ns, limiter_next_deadline_ns(server->limiter));
    next_ns = earlier(next_ns, frontend_next_ns(server->frontend));
    next_ns = earlier(next_ns, guard_next_ns(server->guard));
    next_ns = earlier(next_ns, admin_next_ns(server->admin));
    next_ns = earlier(next_ns, acceptor_next_ns(server->admin_acceptor));
    for (size_t i = 0; i < server->config->listen_count; i++) {
        next_ns = earlier(next_ns, acceptor_next_ns(server->acceptors[i]));
    }
    if (server->log_waits) {
        next_ns = earlier(next_ns, server->now_ns + LOG_RETRY_NS);
    }
    if (next_ns == UINT64_MAX) {
        uv_timer_stop(&server->timer);
        return;
    }
    uint64_t now_ns = uv_hrtime();
    uint64_t wait_ms = next_ns > now_ns ? (next_ns - now_ns + 999999) / 1000000 : 0;
    uv_timer_start(&server->timer, on_timer, wait_ms, 0);
}

int server_run(struct server *server)
{
    bool more = true;
    server->is_running = true;
    log_event(server->log, CONFIG_LEVEL_INFO, "ready", "version", WEIR_VERSION, NULL);
    tell_manager(server, "READY=1");
    while (server->is_running) {
        if (!more) {
            arm_timer(server);
        }
        uv_run(&server->loop, more ? UV_RUN_NOWAIT : UV_RUN_ONCE);
        more = turn(server);
    }
    if (resolver_is_busy(server->resolver) || guard_is_busy(server->guard)) {
        /* they would have to be waited for; what still runs is logged */
        frontend_destroy(server->frontend);
        tunnels_destroy(server->tunnels);
        server_remove_socket_files(server);
        log_destroy(server->log);
        _exit(server->exit_status);
    }
    return server->exit_status;
}

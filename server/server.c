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
#include "server/server.h"

#include "server/acceptor.h"
#include "server/admin.h"
#include "server/admission.h"
#include "server/egress.h"
#include "server/exchange.h"
#include "server/fetch.h"
#include "server/frontend.h"
#include "server/guard.h"
#include "server/log.h"
#include "server/lobby.h"
#include "server/resolver.h"
#include "server/tunnel.h"
#include "server/tls.h"

#include <assert.h>
#include <curl/curl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define STEPS             4096 /* through steps 1 to 3 in one round */
#define ROUNDS            4    /* through steps 0 to 5 in one turn */
#define ACCEPTS           256  /* connections taken from one listener in one turn */
#define LOG_RETRY_NS      (UINT64_C(100) * 1000000)
#define ADMIN_CONNECTIONS 64U
#define DEFAULT_ROOMS     64U
#define DEFAULT_LANES     16U
#define RESOLVER_THREADS  "8"
#define BASE_DESCRIPTORS  24U /* libuv, standard streams, signals, resolver, admin */

struct server {
    uv_loop_t loop;
    bool loop_open;
    struct config *config;
    struct server_reload reload;
    struct identity identity;
    struct log *log;
    struct guard *guard;
    struct limiter *limiter;
    struct resolver *resolver;
    struct fetcher *fetcher;
    struct egress *egress;
    struct tls *tls;
    struct upstreams *upstreams;
    struct exchanges *exchanges;
    struct frontend *frontend;
    struct tunnels *tunnels;
    struct lobby *lobby;
    struct admin *admin;
    struct acceptor **acceptors; /* config->listen_count of them */
    struct acceptor *admin_acceptor;
    uv_signal_t signals[3];
    uv_timer_t timer; /* ends the poll when something is due */
    unsigned connections_max;
    unsigned rooms;
    unsigned lanes;
    uint64_t started_ns;
    uint64_t now_ns;
    uint64_t generation;
    uint64_t drain_ns; /* when draining must be over; 0: not draining */
    bool log_waits;    /* for whoever reads the log */
    bool asked_to_reload;
    unsigned asked_to_stop; /* how often */
    bool is_running;
    int exit_status;
};

/* --- what the admin port asks --- */

static void host_connections(const struct limiter_host *host, uint32_t *ret_idle,
                             uint32_t *ret_tunnels)
{
    const struct socket_pool *pool = sockets_pool(host);
    *ret_idle = pool != NULL ? pool->idle : 0;
    *ret_tunnels = pool != NULL ? pool->tunnels : 0;
}

static void describe(void *context, struct report_service *ret_service,
                     const struct limiter **ret_limiter, uint64_t *ret_now_ns)
{
    struct server *server = context;
    struct exchanges_counts counts = exchanges_counts(server->exchanges);
    struct tunnels_counts tunnels = tunnels_counts(server->tunnels);
    struct door_counts door = door_counts(guard_door(server->guard));
    struct auth_counts auth = auth_counts(guard_auth(server->guard));
    *ret_service = (struct report_service){
        .version = WEIR_VERSION,
        .state = server->drain_ns > 0 ? REPORT_DRAINING
                 : server->is_running ? REPORT_OK
                                      : REPORT_STARTING,
        .uptime_ns = server->now_ns - server->started_ns,
        .config_generation = server->generation,
        .client_connections = door.connections,
        .client_connections_limit = door.connections_limit,
        .door = {door.clients, door.largest, door.client_limit, door.local_client_limit,
                 door.full_total, door.refused_total},
        .buffers = {counts.buffers.bytes, counts.buffers.limit, counts.buffers.peak_bytes,
                    counts.buffers.scarce_total, counts.buffers_full_total,
                    (uint64_t)door.connections * server->config->header_bytes,
                    (uint64_t)door.connections_limit * server->config->header_bytes},
        .auth = {auth_is_on(guard_auth(server->guard)), auth.checking, auth.waiting,
                 auth.checks_total, auth.refused_total, auth.busy_total},
        .upstream_connections = sockets_count(fetcher_sockets(server->fetcher)),
        .requests_total = counts.requests_total + tunnels.requests_total,
        .bytes_in_total = counts.bytes_in_total + tunnels.bytes_in_total,
        .bytes_out_total = counts.bytes_out_total + tunnels.bytes_out_total,
        .problems_total = counts.problems_total + tunnels.problems_total,
        .host_connections = host_connections,
    };
    *ret_limiter = server->limiter;
    *ret_now_ns = server->now_ns;
}

static const struct secrets *admin_secrets(void *context)
{
    const struct server *server = context;
    return guard_secrets(server->guard);
}

/* --- settings from the configuration --- */

static struct exchanges_settings exchanges_settings_of(const struct config *config)
{
    return (struct exchanges_settings){config->overflow_status, config->timeouts,
                                       config->buffer_bytes};
}

static struct tunnels_settings tunnels_settings_of(const struct config *config)
{
    return (struct tunnels_settings){config->overflow_status, config->header_bytes,
                                     config->timeouts};
}

static struct frontend_settings frontend_settings_of(const struct server *server,
                                                     const struct config *config)
{
    return (struct frontend_settings){
        .rooms = server->rooms,
        .connections_max = server->connections_max,
        .header_bytes = config->header_bytes,
        .head_ns = config->timeouts.head_ns,
        .keepalive_ns = config->timeouts.keepalive_ns,
    };
}

/*
 * Raises the limit of descriptors and divides them: each room takes one, each lane two, and each
 * client connection may need another toward its upstream.
 */
static void divide_descriptors(struct server *server)
{
    struct rlimit limit = {0, 0};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    getrlimit(RLIMIT_NOFILE, &limit);

    unsigned descriptors = limit.rlim_cur < 1048576 ? (unsigned)limit.rlim_cur : 1048576;
    unsigned share = descriptors / 64;
    server->rooms = share < 1 ? 1 : share < DEFAULT_ROOMS ? share : DEFAULT_ROOMS;
    server->lanes = share < 4 ? 1 : share / 4 < DEFAULT_LANES ? share / 4 : DEFAULT_LANES;
    unsigned fixed = BASE_DESCRIPTORS + server->rooms + 2 * server->lanes;
    unsigned most = descriptors > fixed + 2 ? (descriptors - fixed) / 2 : 1;
    server->connections_max = server->config->connections_max;
    if (server->connections_max > most) {
        char number[16];
        snprintf(number, sizeof number, "%u", most);
        log_event(server->log, CONFIG_LEVEL_INFO, "connections_lowered", "connections", number,
                  "reason", "the limit of open files (ulimit -n) has room for no more", NULL);
        server->connections_max = most;
    }
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

static bool watch_signals(struct server *server)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (uv_signal_init(&server->loop, &server->signals[i]) < 0) {
            return false;
        }
        server->signals[i].data = server;
        uv_signal_start(&server->signals[i], on_signal, numbers[i]);
    }
    return true;
}

/* Whether new requests for what HOST stands for draw on another budget since the rules changed. */
static bool is_superseded(const struct server *server, const struct limiter_host *host)
{
    struct limiter_view view;
    limiter_describe(host, server->now_ns, &view);
    if (view.host[0] == '*') {
        return strcmp(view.host, view.rule) != 0;
    }
    return limiter_find(server->limiter, view.host) != host;
}

/* Idle connections beyond a host's new limit go. */
static void trim_connections(struct server *server)
{
    struct limiter_host *host = NULL;
    while ((host = limiter_next_host(server->limiter, host)) != NULL) {
        struct socket_pool *pool = sockets_pool(host);
        if (pool != NULL) {
            uint32_t limit = is_superseded(server, host) ? 0 : limiter_host_limit(host);
            sockets_trim(fetcher_sockets(server->fetcher), pool, limit);
        }
    }
}

/* The policy that CONFIG asks for. NULL when out of memory. */
static struct egress *make_egress(const struct server *server, const struct config_egress *config)
{
    size_t count = 0;
    struct sockaddr_storage *own = calloc(server->config->listen_count + 1, sizeof *own);
    if (own == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < server->config->listen_count; i++) {
        count += acceptor_place(server->acceptors[i], &own[count]) ? 1 : 0;
    }
    count += acceptor_place(server->admin_acceptor, &own[count]) ? 1 : 0;
    struct egress *egress = egress_create(config, own, count);
    free(own);
    return egress;
}

/* TLS and the upstreams of CONFIG take the place of those in force. */
static void use_upstreams(struct server *server, struct tls *tls, struct config *config)
{
    struct upstreams *upstreams = config_take_upstreams(config);
    exchanges_set_upstreams(server->exchanges, upstreams);
    fetcher_set_tls(server->fetcher, tls);
    upstreams_destroy(server->upstreams);
    if (server->tls != tls) {
        tls_destroy(server->tls);
    }
    server->upstreams = upstreams;
    server->tls = tls;
    tls_warn(tls, config, server->log);
}

/* EGRESS takes the place of the policy in force. */
static void use_egress(struct server *server, struct egress *egress)
{
    exchanges_set_egress(server->exchanges, egress);
    fetcher_set_egress(server->fetcher, egress);
    tunnels_set_egress(server->tunnels, egress);
    egress_destroy(server->egress);
    server->egress = egress;
}

/* Warns of those that everybody may use. */
static void look_at_listeners(struct server *server)
{
    for (size_t i = 0; i < server->config->listen_count; i++) {
        guard_look_at(server->guard, server->acceptors[i], false);
    }
    guard_look_at(server->guard, server->admin_acceptor, true);
}

/* All or nothing: limits, timeouts and logging change, queues and slots stay. */
static void reload(struct server *server)
{
    struct config *config = NULL;
    char *error = NULL;
    enum config_action action = config_read(server->reload.argument_count, server->reload.arguments,
                                            server->reload.environment, &config, &error);
    if (action != CONFIG_RUN) {
        log_event(server->log, CONFIG_LEVEL_ERROR, "reload_failed", "reason", error, NULL);
        free(error);
        config_destroy(config);
        return;
    }
    struct secrets *secrets = guard_read_secrets(config, &error);
    struct tls *tls = secrets != NULL ? tls_load(config, server->tls, &error) : NULL;
    if (tls == NULL) {
        log_event(server->log, CONFIG_LEVEL_ERROR, "reload_failed", "reason",
                  error != NULL ? error : "out of memory", NULL);
        free(error);
        secrets_destroy(secrets);
        config_destroy(config);
        return;
    }
    struct rules *rules = config_take_rules(config);
    struct egress *egress = make_egress(server, &config->egress);
    if (egress == NULL || !limiter_set_rules(server->limiter, rules, &config->bounds)) {
        log_event(server->log, CONFIG_LEVEL_ERROR, "reload_failed", "reason", "out of memory",
                  NULL);
        egress_destroy(egress);
        tls_destroy(tls);
        secrets_destroy(secrets);
        rules_destroy(rules);
        config_destroy(config);
        return;
    }
    struct exchanges_settings exchanges = exchanges_settings_of(config);
    struct tunnels_settings tunnels = tunnels_settings_of(config);
    struct frontend_settings frontend = frontend_settings_of(server, config);
    use_egress(server, egress);
    use_upstreams(server, tls, config);
    guard_configure(server->guard, config, secrets, server->connections_max);
    look_at_listeners(server);
    exchanges_configure(server->exchanges, &exchanges);
    frontend_configure(server->frontend, &frontend);
    tunnels_configure(server->tunnels, &tunnels);
    lobby_configure(server->lobby, config->timeouts.head_ns);
    log_configure(server->log, config->access_log == CONFIG_LOG_JSON, config->level);
    trim_connections(server);
    server->config->timeouts = config->timeouts;
    config_destroy(config);
    server->generation++;
    log_event(server->log, CONFIG_LEVEL_INFO, "reloaded", NULL);
}

static void begin_drain(struct server *server)
{
    uint64_t drain_ns = server->config->timeouts.drain_ns;
    server->drain_ns = server->now_ns + (drain_ns > 0 ? drain_ns : 1);
    exchanges_drain(server->exchanges);
    frontend_drain(server->frontend);
    tunnels_drain(server->tunnels);
    log_event(server->log, CONFIG_LEVEL_INFO, "draining", NULL);
}

static void stop(struct server *server, int exit_status, const char *how)
{
    server->is_running = false;
    server->exit_status = exit_status;
    log_event(server->log, CONFIG_LEVEL_INFO, "stopped", "how", how, NULL);
}

static void obey_stop(struct server *server)
{
    if (server->asked_to_stop > 0 && server->drain_ns == 0) {
        begin_drain(server);
    }
    if (server->drain_ns == 0) {
        return;
    }
    if (exchanges_counts(server->exchanges).open == 0 &&
        tunnels_counts(server->tunnels).open == 0) {
        stop(server, 0, "drained");
    } else if (server->asked_to_stop > 1) {
        stop(server, 3, "told twice");
    } else if (server->now_ns >= server->drain_ns) {
        stop(server, 3, "timeouts.drain ran out");
    }
}

/* --- the turn --- */

/* GUEST goes where it wants. */
static void let_in(struct server *server, const struct lobby_guest *guest, enum lobby_wish wish)
{
    switch (wish) {
    case LOBBY_HTTP:
        frontend_add(server->frontend, guest->fd, (const struct sockaddr *)&guest->peer,
                     guest->peer_bytes);
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

static void accept_clients(struct server *server)
{
    struct sockaddr_storage peer;
    struct lobby_guest waited;
    enum lobby_wish wish;
    socklen_t bytes;
    int fd;
    while (lobby_take(server->lobby, server->now_ns, &waited, &wish)) {
        let_in(server, &waited, wish);
    }
    for (size_t i = 0; i < server->config->listen_count; i++) {
        struct acceptor *acceptor = server->acceptors[i];
        for (int taken = 0; taken < ACCEPTS; taken++) {
            fd = guard_take(server->guard, acceptor, &peer, &bytes, server->now_ns);
            if (fd < 0) {
                break;
            }
            struct lobby_guest guest = {fd, peer, bytes, server->now_ns};
            if (lobby_enter(server->lobby, &guest, &wish)) {
                let_in(server, &guest, wish);
            }
        }
    }
    while ((fd = acceptor_take(server->admin_acceptor, &peer, &bytes, server->now_ns)) >= 0) {
        admin_add(server->admin, fd, (struct sockaddr *)&peer, bytes);
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
    worked = admin_run(server->admin) || worked;
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

static void remove_socket_files(struct server *server)
{
    for (size_t i = 0; i < server->config->listen_count; i++) {
        acceptor_remove_file(server->acceptors[i]);
    }
    acceptor_remove_file(server->admin_acceptor);
}

int server_run(struct server *server)
{
    bool more = true;
    server->is_running = true;
    log_event(server->log, CONFIG_LEVEL_INFO, "ready", "version", WEIR_VERSION, NULL);
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
        remove_socket_files(server);
        log_destroy(server->log);
        _exit(server->exit_status);
    }
    return server->exit_status;
}

/* --- start and stop --- */

/*
 * Buffers of 64 kB come and go with every request; the C library would give their memory back to
 * the kernel and ask for it again each time.
 */
static void keep_memory(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, 1 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 8 << 20);
    (void)mallopt(M_TOP_PAD, 1 << 20);
}

static bool listen_all(struct server *server)
{
    const struct config *config = server->config;
    char error[256];
    server->acceptors = calloc(config->listen_count, sizeof *server->acceptors);
    if (server->acceptors == NULL) {
        return false;
    }
    for (size_t i = 0; i < config->listen_count; i++) {
        server->acceptors[i] =
            acceptor_create(&server->loop, &config->listen[i], config->socket_mode, server->log,
                            error, sizeof error);
        if (server->acceptors[i] == NULL) {
            fprintf(stderr, "weir: %s\n", error);
            return false;
        }
        log_event(server->log, CONFIG_LEVEL_INFO, "listening", "address",
                  acceptor_address(server->acceptors[i]), "for", "data", NULL);
    }
    server->admin_acceptor =
        acceptor_create(&server->loop, &config->admin_listen, config->admin_socket_mode,
                        server->log, error, sizeof error);
    if (server->admin_acceptor == NULL) {
        fprintf(stderr, "weir: %s\n", error);
        return false;
    }
    log_event(server->log, CONFIG_LEVEL_INFO, "listening", "address",
              acceptor_address(server->admin_acceptor), "for", "admin", NULL);
    look_at_listeners(server);
    return true;
}

static bool create_limiter(struct server *server)
{
    struct rules *rules = config_take_rules(server->config);
    server->limiter = limiter_create(rules, &server->config->bounds, server->now_ns);
    if (server->limiter == NULL) {
        rules_destroy(rules);
    }
    return server->limiter != NULL;
}

static bool create_tunnels(struct server *server)
{
    struct tunnels_settings settings = tunnels_settings_of(server->config);
    struct tunnels_parts parts = {
        .limiter = server->limiter,
        .sockets = fetcher_sockets(server->fetcher),
        .resolver = server->resolver,
        .auth = guard_auth(server->guard),
        .door = guard_door(server->guard),
        .lingering = guard_lingering(server->guard),
        .log = server->log,
        .identity = &server->identity,
    };
    server->tunnels = tunnels_create(&server->loop, &parts, &settings, server->now_ns);
    server->lobby =
        lobby_create(&server->loop, server->config->timeouts.head_ns, server->now_ns);
    return server->tunnels != NULL && server->lobby != NULL;
}

static bool create_parts(struct server *server)
{
    const struct config *config = server->config;
    struct fetcher_options options = {server->lanes, server->connections_max,
                                      config->timeouts.upstream_keepalive_ns};
    struct admin_source source = {describe, admin_secrets, server};
    struct exchanges_settings exchanges = exchanges_settings_of(config);
    struct frontend_settings frontend = frontend_settings_of(server, config);

    if (!create_limiter(server)) {
        return false;
    }
    server->resolver = resolver_create(&server->loop);
    if (server->resolver == NULL) {
        return false;
    }
    server->fetcher = fetcher_create(&server->loop, server->resolver, &options, server->now_ns);
    if (server->fetcher == NULL) {
        return false;
    }
    struct exchanges_parts parts = {server->limiter, server->fetcher, server->log,
                                    &server->identity, guard_auth(server->guard)};
    server->exchanges = exchanges_create(&parts, &exchanges, server->now_ns);
    if (server->exchanges == NULL) {
        return false;
    }
    struct frontend_parts frontend_parts = {server->exchanges, guard_door(server->guard),
                                            guard_lingering(server->guard)};
    server->frontend = frontend_create(&server->loop, &frontend_parts, &frontend, server->now_ns);
    if (server->frontend == NULL || !create_tunnels(server)) {
        return false;
    }
    server->admin = admin_create(&server->loop, &source, ADMIN_CONNECTIONS);
    return server->admin != NULL;
}

/* NULL after one clear line on stderr. */
static struct secrets *read_secrets(const struct config *config)
{
    char *error = NULL;
    struct secrets *secrets = guard_read_secrets(config, &error);
    if (secrets == NULL) {
        fprintf(stderr, "weir: %s\n", error != NULL ? error : "out of memory");
        free(error);
    }
    return secrets;
}

/* NULL after one clear line on stderr. */
static struct tls *load_tls(const struct config *config)
{
    char *error = NULL;
    struct tls *tls = tls_load(config, NULL, &error);
    if (tls == NULL) {
        fprintf(stderr, "weir: %s\n", error != NULL ? error : "out of memory");
        free(error);
    }
    return tls;
}

bool server_check(const struct config *config)
{
    struct secrets *secrets = read_secrets(config);
    struct tls *tls = secrets != NULL ? load_tls(config) : NULL;
    bool good = tls != NULL;
    tls_destroy(tls);
    secrets_destroy(secrets);
    return good;
}

struct server *server_create(struct config *config, const struct server_reload *reload_from)
{
    struct server *server = calloc(1, sizeof *server);
    if (server == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        goto fail;
    }
    keep_memory();
    (void)setenv("UV_THREADPOOL_SIZE", RESOLVER_THREADS, 0);
    server->config = config;
    server->reload = *reload_from;
    server->started_ns = server->now_ns = uv_hrtime();
    server->generation = 1;
    identity_init(&server->identity, server->now_ns);
    server->log = log_create(STDOUT_FILENO, STDERR_FILENO, config->access_log == CONFIG_LOG_JSON,
                             config->level);
    if (server->log == NULL || uv_loop_init(&server->loop) < 0) {
        goto fail;
    }
    server->loop_open = true;
    divide_descriptors(server);
    server->tls = load_tls(config);
    struct secrets *secrets = server->tls != NULL ? read_secrets(config) : NULL;
    if (secrets == NULL) {
        server_destroy(server);
        return NULL;
    }
    server->guard = guard_create(&server->loop, server->log, config, secrets,
                                 server->connections_max, server->now_ns);
    if (server->guard == NULL || uv_timer_init(&server->loop, &server->timer) < 0 || !watch_signals(server) ||
        !create_parts(server)) {
        goto fail;
    }
    if (!listen_all(server)) {
        server_destroy(server);
        return NULL;
    }
    struct egress *egress = make_egress(server, &config->egress);
    if (egress == NULL) {
        goto fail;
    }
    use_egress(server, egress);
    use_upstreams(server, server->tls, config);
    return server;

fail:
    fprintf(stderr, "weir: out of memory or file descriptors at the start\n");
    if (server == NULL) {
        config_destroy(config);
    } else {
        server->config = config;
        server_destroy(server);
    }
    return NULL;
}

static void close_handle(uv_handle_t *handle, void *unused)
{
    (void)unused;
    if (!uv_is_closing(handle)) {
        uv_close(handle, NULL);
    }
}

static void empty_lobby(struct server *server)
{
    struct lobby_guest guest;
    while (server->lobby != NULL && lobby_take_any(server->lobby, &guest)) {
        let_in(server, &guest, LOBBY_NOTHING);
    }
    lobby_destroy(server->lobby);
}

void server_destroy(struct server *server)
{
    if (server == NULL) {
        return;
    }
    for (size_t i = 0; server->acceptors != NULL && i < server->config->listen_count; i++) {
        acceptor_destroy(server->acceptors[i]);
    }
    free(server->acceptors);
    acceptor_destroy(server->admin_acceptor);
    admin_destroy(server->admin);
    empty_lobby(server);
    frontend_destroy(server->frontend);
    tunnels_destroy(server->tunnels);
    exchanges_destroy(server->exchanges);
    fetcher_destroy(server->fetcher);
    resolver_destroy(server->resolver);
    guard_destroy(server->guard);
    egress_destroy(server->egress);
    upstreams_destroy(server->upstreams);
    tls_destroy(server->tls);
    limiter_destroy(server->limiter);
    if (server->loop_open) {
        uv_walk(&server->loop, close_handle, NULL); /* the timer and the signals */
        uv_run(&server->loop, UV_RUN_DEFAULT);
        uv_loop_close(&server->loop);
    }
    log_destroy(server->log);
    config_destroy(server->config);
    curl_global_cleanup();
    free(server);
}

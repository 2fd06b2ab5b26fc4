/*
 * See server.h.
 *
 * One thread owns everything, so nothing needs a lock. libuv's callbacks only note what is ready;
 * the turn then does the work, in a fixed order and with one reading of the clock:
 *
 *   1. fetcher_run()    one upstream socket, resolved names, deadlines; ended fetches become news
 *   2. exchanges_run()  news: slots come back; then whoever may start does, at once
 *   3. frontend_run()   clients: those that left, those that can go on, new requests
 *   4. reap
 *
 * 1 and 2 alternate while they find work, so that the request that takes a freed slot is on its way
 * before anything else is done; all three are repeated while they find work; both a bounded number
 * of times, so that new events get their turn.
 */
#include "server/server.h"

#include "server/acceptor.h"
#include "server/admin.h"
#include "server/exchange.h"
#include "server/fetch.h"
#include "server/frontend.h"
#include "server/log.h"
#include "server/resolver.h"

#include <assert.h>
#include <curl/curl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define STEPS             4096 /* through steps 1 and 2 in one round */
#define ROUNDS            4    /* through steps 1 to 3 in one turn */
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
    struct log *log;
    struct limiter *limiter;
    struct resolver *resolver;
    struct fetcher *fetcher;
    struct exchanges *exchanges;
    struct frontend *frontend;
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
    *ret_tunnels = 0;
}

static void describe(void *context, struct report_service *ret_service,
                     const struct limiter **ret_limiter, uint64_t *ret_now_ns)
{
    struct server *server = context;
    struct exchanges_counts counts = exchanges_counts(server->exchanges);
    *ret_service = (struct report_service){
        .version = WEIR_VERSION,
        .state = server->drain_ns > 0 ? REPORT_DRAINING
                 : server->is_running ? REPORT_OK
                                      : REPORT_STARTING,
        .uptime_ns = server->now_ns - server->started_ns,
        .config_generation = server->generation,
        .client_connections = frontend_connections(server->frontend),
        .client_connections_limit = server->connections_max,
        .upstream_connections = sockets_count(fetcher_sockets(server->fetcher)),
        .requests_total = counts.requests_total,
        .bytes_in_total = counts.bytes_in_total,
        .bytes_out_total = counts.bytes_out_total,
        .problems_total = counts.problems_total,
        .host_connections = host_connections,
    };
    *ret_limiter = server->limiter;
    *ret_now_ns = server->now_ns;
}

/* --- settings from the configuration --- */

static struct exchanges_settings exchanges_settings_of(const struct config *config)
{
    return (struct exchanges_settings){config->overflow_status, config->timeouts};
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

/* Idle connections beyond a host's new limit go. */
static void trim_connections(struct server *server)
{
    struct limiter_host *host = NULL;
    while ((host = limiter_next_host(server->limiter, host)) != NULL) {
        struct socket_pool *pool = sockets_pool(host);
        if (pool != NULL) {
            sockets_trim(fetcher_sockets(server->fetcher), pool, limiter_host_limit(host));
        }
    }
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
    struct rules *rules = config_take_rules(config);
    if (!limiter_set_rules(server->limiter, rules, &config->bounds)) {
        log_event(server->log, CONFIG_LEVEL_ERROR, "reload_failed", "reason", "out of memory",
                  NULL);
        rules_destroy(rules);
        config_destroy(config);
        return;
    }
    struct exchanges_settings exchanges = exchanges_settings_of(config);
    struct frontend_settings frontend = frontend_settings_of(server, config);
    exchanges_configure(server->exchanges, &exchanges);
    frontend_configure(server->frontend, &frontend);
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
    log_event(server->log, CONFIG_LEVEL_INFO, "draining", NULL);
}

static void stop(struct server *server, int exit_status, const char *how)
{
    server->is_running = false;
    server->exit_status = exit_status;
    log_event(server->log, CONFIG_LEVEL_INFO, "stopped", "how", how, NULL);
}

static void obey_signals(struct server *server)
{
    if (server->asked_to_reload) {
        server->asked_to_reload = false;
        reload(server);
    }
    if (server->asked_to_stop > 0 && server->drain_ns == 0) {
        begin_drain(server);
    }
    if (server->drain_ns == 0) {
        return;
    }
    if (exchanges_counts(server->exchanges).open == 0) {
        stop(server, 0, "drained");
    } else if (server->asked_to_stop > 1) {
        stop(server, 3, "told twice");
    } else if (server->now_ns >= server->drain_ns) {
        stop(server, 3, "timeouts.drain ran out");
    }
}

/* --- the turn --- */

static void accept_clients(struct server *server)
{
    struct sockaddr_storage peer;
    socklen_t bytes;
    int fd;
    for (size_t i = 0; i < server->config->listen_count; i++) {
        struct acceptor *acceptor = server->acceptors[i];
        for (int taken = 0; taken < ACCEPTS; taken++) {
            bool full = frontend_connections(server->frontend) >= server->connections_max;
            acceptor_pause(acceptor, full);
            fd = acceptor_take(acceptor, &peer, &bytes, server->now_ns);
            if (fd < 0) {
                break;
            }
            frontend_add(server->frontend, fd, (struct sockaddr *)&peer, bytes);
        }
    }
    while ((fd = acceptor_take(server->admin_acceptor, &peer, &bytes, server->now_ns)) >= 0) {
        admin_add(server->admin, fd, (struct sockaddr *)&peer, bytes);
    }
}

static bool run_upstream_half(struct server *server)
{
    bool worked = true;
    int step = 0;
    while (worked && step < STEPS) {
        worked = fetcher_run(server->fetcher, server->now_ns);
        worked = exchanges_run(server->exchanges, server->now_ns) || worked;
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
    for (int round = 0; worked && round < ROUNDS; round++) {
        worked = run_upstream_half(server);
        worked = frontend_run(server->frontend, server->now_ns) || worked;
    }
    worked = admin_run(server->admin) || worked;
    exchanges_reap(server->exchanges);
    obey_signals(server);
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
    next_ns = earlier(next_ns, frontend_next_ns(server->frontend));
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
    while (server->is_running) {
        if (!more) {
            arm_timer(server);
        }
        uv_run(&server->loop, more ? UV_RUN_NOWAIT : UV_RUN_ONCE);
        more = turn(server);
    }
    if (resolver_is_busy(server->resolver)) { /* it would have to be waited for */
        frontend_destroy(server->frontend); /* what still runs is logged */
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
            acceptor_create(&server->loop, &config->listen[i], server->log, error, sizeof error);
        if (server->acceptors[i] == NULL) {
            fprintf(stderr, "weir: %s\n", error);
            return false;
        }
        log_event(server->log, CONFIG_LEVEL_INFO, "listening", "address",
                  acceptor_address(server->acceptors[i]), "for", "data", NULL);
    }
    server->admin_acceptor =
        acceptor_create(&server->loop, &config->admin_listen, server->log, error, sizeof error);
    if (server->admin_acceptor == NULL) {
        fprintf(stderr, "weir: %s\n", error);
        return false;
    }
    log_event(server->log, CONFIG_LEVEL_INFO, "listening", "address",
              acceptor_address(server->admin_acceptor), "for", "admin", NULL);
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

static bool create_parts(struct server *server)
{
    const struct config *config = server->config;
    struct fetcher_options options = {server->lanes, config->timeouts.upstream_keepalive_ns,
                                      config->ca_file};
    struct admin_source source = {describe, server};
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
    struct exchanges_parts parts = {server->limiter, server->fetcher, server->log};
    server->exchanges = exchanges_create(&parts, &exchanges, server->now_ns);
    if (server->exchanges == NULL) {
        return false;
    }
    server->frontend = frontend_create(&server->loop, server->exchanges, &frontend, server->now_ns);
    if (server->frontend == NULL) {
        return false;
    }
    server->admin = admin_create(&server->loop, &source, ADMIN_CONNECTIONS);
    return server->admin != NULL;
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
    server->log = log_create(STDOUT_FILENO, STDERR_FILENO, config->access_log == CONFIG_LOG_JSON,
                             config->level);
    if (server->log == NULL || uv_loop_init(&server->loop) < 0) {
        goto fail;
    }
    server->loop_open = true;
    divide_descriptors(server);
    if (uv_timer_init(&server->loop, &server->timer) < 0 || !watch_signals(server) ||
        !create_parts(server)) {
        goto fail;
    }
    if (!listen_all(server)) {
        server_destroy(server);
        return NULL;
    }
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
    frontend_destroy(server->frontend);
    exchanges_destroy(server->exchanges);
    fetcher_destroy(server->fetcher);
    resolver_destroy(server->resolver);
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

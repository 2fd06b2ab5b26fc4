/*
 * Start and stop: makes the parts in the order in which they need each other, and ends them in the
 * reverse. See server.h.
 */
#include "server/server_state.h"

#include "server/threads.h"

#include <curl/curl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define FILES_MAX     1048576U /* more are not looked at */
#define STACK_BYTES   (1U << 20)
#define MEMORY_PLENTY (UINT64_C(512) << 20)

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
    uint64_t head_bytes = server->config->header_bytes;
    *ret_service = (struct report_service){
        .version = WEIR_VERSION,
        .state = server->drain_ns > 0 ? REPORT_DRAINING
                 : server->is_running ? REPORT_OK
                                      : REPORT_STARTING,
        .uptime_ns = server->now_ns - server->started_ns,
        .config_generation = server->generation,
        .client_connections = door.connections,
        .client_connections_limit = door.connections_limit,
        .door = {.clients = door.clients,
                 .largest = door.largest,
                 .client_limit = door.client_limit,
                 .local_client_limit = door.local_client_limit,
                 .full_total = door.full_total,
                 .client_full_total = door.refused_total},
        .buffers = {.bytes = counts.buffers.bytes,
                    .limit_bytes = counts.buffers.limit,
                    .peak_bytes = counts.buffers.peak_bytes,
                    .scarce_total = counts.buffers.scarce_total,
                    .full_total = counts.buffers_full_total,
                    .head_bytes = door.connections * head_bytes,
                    .head_limit_bytes = door.connections_limit * head_bytes},
        .auth = {.clients = auth_is_on(guard_auth(server->guard)),
                 .checking = auth.checking,
                 .waiting = auth.waiting,
                 .checks_total = auth.checks_total,
                 .refused_total = auth.refused_total,
                 .busy_total = auth.busy_total},
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

/* --- start --- */

/*
 * Buffers of 64 kB come and go with every request; the C library would give their memory back to
 * the kernel and ask for it again each time. Where memory is bounded it keeps less, and threads
 * have none of their own, nor stacks that take more addresses than they need.
 */
static void keep_memory(uint64_t bound_bytes)
{
    struct rlimit stack;
    bool tight = bound_bytes > 0 && bound_bytes < MEMORY_PLENTY;
    (void)mallopt(M_MMAP_THRESHOLD, 1 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, tight ? (int)(bound_bytes / 64) : 8 << 20);
    (void)mallopt(M_TOP_PAD, tight ? (int)(bound_bytes / 512) : 1 << 20);
    if (bound_bytes == 0) {
        return;
    }
    (void)mallopt(M_ARENA_MAX, 1);
    if (getrlimit(RLIMIT_STACK, &stack) == 0 && stack.rlim_cur > STACK_BYTES) {
        stack.rlim_cur = STACK_BYTES;
        (void)setrlimit(RLIMIT_STACK, &stack);
    }
}

/*
 * Raises the limit of open files and divides them. False after one clear line on stderr.
 */
static bool divide_files(struct server *server)
{
    struct rlimit limit = {0, 0};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    getrlimit(RLIMIT_NOFILE, &limit);

    unsigned files = limit.rlim_cur < FILES_MAX ? (unsigned)limit.rlim_cur : FILES_MAX;
    unsigned needed =
        bounds_divide_files(files, (unsigned)server->config->listen_count, &server->files);
    if (files < needed) {
        fprintf(stderr, "weir: ulimit -n: expected at least %u open files, found %u\n", needed,
                files);
        return false;
    }
    return true;
}

/* Finds the bound on memory and keeps below it. False after one clear line on stderr. */
static bool divide_memory(struct server *server, const struct secrets *secrets)
{
    struct rlimit space = {RLIM_INFINITY, RLIM_INFINITY};
    getrlimit(RLIMIT_AS, &space);
    uint64_t stacks_bytes = threads_address_bytes(server->files.threads, STACK_BYTES);
    bounds_find_memory("", space.rlim_cur == RLIM_INFINITY ? UINT64_MAX : space.rlim_cur,
                       stacks_bytes, &server->memory);
    keep_memory(server->memory.bytes);
    if (!server_fit_memory(server, server->config, secrets)) {
        uint64_t reserved_bytes = server_reserved_bytes(secrets);
        uint64_t needed_bytes = BOUNDS_MEMORY_LEAST + reserved_bytes + server->memory.lost_bytes;
        fprintf(stderr, "weir: %s: expected at least %llu KiB of memory%s, found %llu\n",
                server->memory.source, (unsigned long long)(needed_bytes >> 10),
                reserved_bytes > 0 ? " (the checks of the hashes in auth.clients take much of it)"
                                   : "",
                (unsigned long long)(server->memory.said_bytes >> 10));
        return false;
    }
    return true;
}

/* Starts the threads. False after one clear line on stderr. */
static bool start_threads(struct server *server)
{
    unsigned count = threads_start(&server->loop, server->files.threads);
    if (count == 0) {
        fprintf(stderr,
                "weir: ulimit -u, pids.max: expected room for at least 1 more thread, found "
                "none\n");
        return false;
    }
    if (count < server->files.threads) {
        char number[16];
        snprintf(number, sizeof number, "%u", count);
        log_event(server->log, CONFIG_LEVEL_INFO, "threads_lowered", "threads", number, "reason",
                  "there may be no more (ulimit -u, pids.max)", NULL);
        server->files.threads = count;
    }
    return true;
}

/* What the memory has room for, the open files may not. */
static void choose_connections(struct server *server)
{
    server->connections_max = server->config->connections_max;
    if (server->connections_max > server->files.connections) {
        char number[16];
        snprintf(number, sizeof number, "%u", server->files.connections);
        log_event(server->log, CONFIG_LEVEL_INFO, "connections_lowered", "connections", number,
                  "reason", "the limit of open files (ulimit -n) has room for no more", NULL);
        server->connections_max = server->files.connections;
    }
}

void server_remove_socket_files(struct server *server)
{
    for (size_t i = 0; i < server->config->listen_count; i++) {
        acceptor_remove_file(server->acceptors[i]);
    }
    acceptor_remove_file(server->admin_acceptor);
}

static bool listen_all(struct server *server)
{
    const struct config *config = server->config;
    char error[256];
    server->acceptors = calloc(config->listen_count, sizeof *server->acceptors);
    if (server->acceptors == NULL) {
        fprintf(stderr, "weir: out of memory\n");
        return false;
    }
    for (size_t i = 0; i < config->listen_count; i++) {
        server->acceptors[i] =
            acceptor_create(&server->loop, &config->listen[i], config->socket_mode,
                            server->client_socket_bytes, server->log, error, sizeof error);
        if (server->acceptors[i] == NULL) {
            fprintf(stderr, "weir: %s\n", error);
            return false;
        }
        log_event(server->log, CONFIG_LEVEL_INFO, "listening", "address",
                  acceptor_address(server->acceptors[i]), "for", "data", NULL);
    }
    server->admin_acceptor =
        acceptor_create(&server->loop, &config->admin_listen, config->admin_socket_mode,
                        server->client_socket_bytes, server->log, error, sizeof error);
    if (server->admin_acceptor == NULL) {
        fprintf(stderr, "weir: %s\n", error);
        return false;
    }
    log_event(server->log, CONFIG_LEVEL_INFO, "listening", "address",
              acceptor_address(server->admin_acceptor), "for", "admin", NULL);
    server_look_at_listeners(server);
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
    struct tunnels_settings settings = server_tunnels_settings(server->config);
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
    server->lobby = lobby_create(&server->loop, server->config->timeouts.head_ns, server->now_ns);
    return server->tunnels != NULL && server->lobby != NULL;
}

static struct fetcher_options fetcher_options_of(const struct server *server)
{
    struct fetcher_options options = {
        .lanes = server->files.lanes,
        .connections = server->connections_max,
        .socket_bytes = server->upstream_socket_bytes,
        .keepalive_ns = server->config->timeouts.upstream_keepalive_ns,
    };
    uint32_t requests = server->config->bounds.limit;
    if (server->memory.bytes > 0 && requests < options.connections) {
        options.connections = requests; /* idle ones take memory too */
        options.lanes = options.lanes < 1 + requests / 8 ? options.lanes : 1 + requests / 8;
    }
    return options;
}

/* The checks of passwords have their own, as far as there are so many. */
static unsigned lookup_threads(const struct server *server)
{
    unsigned threads = server->files.threads;
    return threads > AUTH_RUNNING_MAX ? threads - AUTH_RUNNING_MAX : 1;
}

static bool create_parts(struct server *server)
{
    const struct config *config = server->config;
    struct fetcher_options options = fetcher_options_of(server);
    struct admin_source source = {describe, admin_secrets, server};
    struct exchanges_settings exchanges = server_exchanges_settings(config);
    struct frontend_settings frontend = server_frontend_settings(server, config);

    if (!create_limiter(server)) {
        return false;
    }
    server->resolver = resolver_create(&server->loop, lookup_threads(server));
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
    server->admin =
        admin_create(&server->loop, &source, server->files.admin_connections, server->now_ns);
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

/*
 * Reads the files that the configuration names and settles what there is room for. Returns the
 * secrets; NULL after one clear line on stderr.
 */
static struct secrets *settle(struct server *server)
{
    struct secrets *secrets = read_secrets(server->config);
    if (secrets == NULL) {
        return NULL;
    }
    if (!divide_memory(server, secrets) || (server->tls = load_tls(server->config)) == NULL ||
        !start_threads(server)) {
        secrets_destroy(secrets);
        return NULL;
    }
    choose_connections(server);
    return secrets;
}

struct server *server_create(struct config *config, const struct server_reload *reload_from)
{
    struct server *server = calloc(1, sizeof *server);
    if (server == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        goto fail;
    }
    server->config = config;
    server->reload = *reload_from;
    server->started_ns = server->now_ns = uv_hrtime();
    server->generation = 1;
    identity_init(&server->identity, server->now_ns);
    server->log = log_create(STDOUT_FILENO, STDERR_FILENO, config->access_log == CONFIG_LOG_JSON,
                             config->level);
    if (server->log == NULL) {
        goto fail;
    }
    if (!divide_files(server)) {
        goto told;
    }
    if (uv_loop_init(&server->loop) < 0) {
        goto fail;
    }
    server->loop_open = true;
    /* Early: as process 1 of a container it is not sent what it does not watch. */
    if (!server_watch_signals(server)) {
        goto fail;
    }
    struct secrets *secrets = settle(server);
    if (secrets == NULL) {
        goto told;
    }
    server->guard = guard_create(&server->loop, server->log, config, secrets,
                                 server->connections_max, server->files.lingering);
    if (server->guard == NULL || uv_timer_init(&server->loop, &server->timer) < 0 ||
        !create_parts(server)) {
        goto fail;
    }
    if (!listen_all(server)) {
        goto told;
    }
    struct egress *egress = server_make_egress(server, &config->egress);
    if (egress == NULL) {
        goto fail;
    }
    server_use_egress(server, egress);
    server_use_upstreams(server, server->tls, config);
    return server;

fail:
    fprintf(stderr, "weir: out of memory or open files at the start\n");
told:
    if (server == NULL) {
        config_destroy(config);
    } else {
        server->config = config;
        if (server->log != NULL) {
            log_forget(server->log);
        }
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
        server_let_in(server, &guest, LOBBY_NOTHING);
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

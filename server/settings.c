/*
 * The configuration in force: what each part takes from it, and how a reload puts another in its
 * place, all or nothing. See server_state.h.
 */
#include "server/server_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct exchanges_settings server_exchanges_settings(const struct config *config)
{
    return (struct exchanges_settings){config->overflow_status, config->timeouts,
                                       config->buffer_bytes};
}

struct tunnels_settings server_tunnels_settings(const struct config *config)
{
    return (struct tunnels_settings){config->overflow_status, config->header_bytes,
                                     config->timeouts};
}

struct frontend_settings server_frontend_settings(const struct server *server,
                                                  const struct config *config)
{
    return (struct frontend_settings){
        .rooms = server->files.rooms,
        .connections_max = server->connections_max,
        .header_bytes = config->header_bytes,
        .head_ns = config->timeouts.head_ns,
        .keepalive_ns = config->timeouts.keepalive_ns,
    };
}

static const char *number_of(char number[static 16], uint32_t before, uint32_t now)
{
    (void)snprintf(number, 16, "%u", (unsigned)now);
    return now < before ? number : NULL;
}

uint64_t server_reserved_bytes(const struct secrets *secrets)
{
    return AUTH_RUNNING_MAX * secrets_check_bytes(secrets);
}

/*
 * What is read at the start only stays as it was fitted then. The event names what was lowered, as
 * the configuration does.
 */
bool server_fit_memory(struct server *server, struct config *config, const struct secrets *secrets)
{
    bool starting = server->connections_max == 0;
    uint64_t reserved_bytes = server_reserved_bytes(secrets);
    struct bounds_load load = {
        .connections = starting ? config->connections_max : server->connections_max,
        .requests = config->bounds.limit,
        .hosts = config->bounds.hosts_max,
        .buffer_bytes = config->buffer_bytes,
        .client_socket_bytes = server->client_socket_bytes,
        .upstream_socket_bytes = server->upstream_socket_bytes,
    };
    if (server->memory.bytes == 0) {
        return true;
    }
    if (!bounds_fit_memory(server->memory.bytes, reserved_bytes, config->header_bytes, &load)) {
        return false;
    }
    char bound[24];
    char connections[16];
    char requests[16];
    char hosts[16];
    char buffers[16];
    const char *lowered[] = {
        starting ? number_of(connections, config->connections_max, load.connections) : NULL,
        number_of(requests, config->bounds.limit, load.requests),
        number_of(hosts, config->bounds.hosts_max, load.hosts),
        number_of(buffers, config->buffer_bytes, load.buffer_bytes),
    };
    (void)snprintf(bound, sizeof bound, "%llu", (unsigned long long)server->memory.bytes);
    if (lowered[0] != NULL || lowered[1] != NULL || lowered[2] != NULL || lowered[3] != NULL) {
        log_event(server->log, CONFIG_LEVEL_INFO, "memory_bounded", "bytes", bound, "source",
                  server->memory.source, "connections", lowered[0], "limits.total.limit",
                  lowered[1], "limits.hosts_max", lowered[2], "buffer_bytes", lowered[3], "reason",
                  "the memory has room for no more", NULL);
    }
    config->connections_max = load.connections;
    config->bounds.limit = load.requests;
    config->bounds.hosts_max = load.hosts;
    config->buffer_bytes = load.buffer_bytes;
    server->client_socket_bytes = load.client_socket_bytes;
    server->upstream_socket_bytes = load.upstream_socket_bytes;
    return true;
}

/* Idle connections beyond a host's new limit go. */
static void trim_connections(struct server *server)
{
    struct limiter_host *host = NULL;
    while ((host = limiter_next_host(server->limiter, host)) != NULL) {
        struct socket_pool *pool = sockets_pool(host);
        if (pool != NULL) {
            pool->superseded = limiter_host_is_stale(host);
            uint32_t limit = pool->superseded ? 0 : limiter_host_limit(host);
            sockets_trim(pool, limit);
        }
    }
}

/* The policy that CONFIG asks for. NULL when out of memory. */
struct egress *server_make_egress(const struct server *server, const struct config_egress *config)
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
void server_use_upstreams(struct server *server, struct tls *tls, struct config *config)
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
void server_use_egress(struct server *server, struct egress *egress)
{
    exchanges_set_egress(server->exchanges, egress);
    fetcher_set_egress(server->fetcher, egress);
    tunnels_set_egress(server->tunnels, egress);
    egress_destroy(server->egress);
    server->egress = egress;
}

/* Warns of those that everybody may use. */
void server_look_at_listeners(struct server *server)
{
    for (size_t i = 0; i < server->config->listen_count; i++) {
        guard_look_at(server->guard, server->acceptors[i], false);
    }
    guard_look_at(server->guard, server->admin_acceptor, true);
}

/* What a reload puts in the place of what is in force; all zero is nothing. */
struct candidate {
    struct config *config;
    struct secrets *secrets;
    struct tls *tls;
    struct egress *egress;
    struct rules *rules;
};

/* What has been taken out of it is NULL. */
static void candidate_finish(struct candidate *candidate)
{
    rules_destroy(candidate->rules);
    egress_destroy(candidate->egress);
    tls_destroy(candidate->tls);
    secrets_destroy(candidate->secrets);
    config_destroy(candidate->config);
}

/* Makes all that can fail. False with the reason, which the caller frees; NULL: out of memory. */
static bool candidate_make(struct server *server, struct candidate *candidate, char **ret_error)
{
    struct config *config = NULL;
    enum config_action action = config_read(server->reload.argument_count, server->reload.arguments,
                                            server->reload.environment, &config, ret_error);
    candidate->config = config;
    if (action != CONFIG_RUN) {
        return false;
    }
    config->header_bytes = server->config->header_bytes; /* only a restart changes it */
    candidate->secrets = guard_read_secrets(config, ret_error);
    if (candidate->secrets == NULL) {
        return false;
    }
    candidate->tls = tls_load(config, server->tls, ret_error);
    if (candidate->tls == NULL) {
        return false;
    }
    if (!server_fit_memory(server, config, candidate->secrets)) {
        *ret_error = strdup("the memory has no room for what the passwords' checks would take");
        return false;
    }
    candidate->egress = server_make_egress(server, &config->egress);
    candidate->rules = config_take_rules(config);
    return candidate->egress != NULL &&
           limiter_set_rules(server->limiter, candidate->rules, &config->bounds);
}

/* The limiter has its rules already. */
static void adopt(struct server *server, struct candidate *candidate)
{
    const struct config *config = candidate->config;
    struct exchanges_settings exchanges = server_exchanges_settings(config);
    struct tunnels_settings tunnels = server_tunnels_settings(config);
    struct frontend_settings frontend = server_frontend_settings(server, config);
    candidate->rules = NULL;
    server_use_egress(server, candidate->egress);
    candidate->egress = NULL;
    server_use_upstreams(server, candidate->tls, candidate->config);
    candidate->tls = NULL;
    guard_configure(server->guard, config, candidate->secrets, server->connections_max);
    candidate->secrets = NULL;
    server_look_at_listeners(server);
    exchanges_configure(server->exchanges, &exchanges);
    frontend_configure(server->frontend, &frontend);
    tunnels_configure(server->tunnels, &tunnels);
    lobby_configure(server->lobby, config->timeouts.head_ns);
    log_configure(server->log, config->access_log == CONFIG_LOG_JSON, config->level);
    trim_connections(server);
    server->config->timeouts = config->timeouts;
    server->generation++;
}

void server_reload_config(struct server *server)
{
    struct candidate candidate = {0};
    char *error = NULL;
    if (candidate_make(server, &candidate, &error)) {
        adopt(server, &candidate);
        log_event(server->log, CONFIG_LEVEL_INFO, "reloaded", NULL);
    } else {
        log_event(server->log, CONFIG_LEVEL_ERROR, "reload_failed", "reason",
                  error != NULL ? error : "out of memory", NULL);
        free(error);
    }
    candidate_finish(&candidate);
}

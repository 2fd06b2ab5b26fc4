/*
 * The configuration in force: what each part takes from it, and how a reload puts another in its
 * place, all or nothing. See server_state.h.
 */
#include "server/server_state.h"

#include <stdlib.h>

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
        .rooms = server->rooms,
        .connections_max = server->connections_max,
        .header_bytes = config->header_bytes,
        .head_ns = config->timeouts.head_ns,
        .keepalive_ns = config->timeouts.keepalive_ns,
    };
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

/* All or nothing: limits, timeouts and logging change, queues and slots stay. */
void server_reload_config(struct server *server)
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
    struct egress *egress = server_make_egress(server, &config->egress);
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
    struct exchanges_settings exchanges = server_exchanges_settings(config);
    struct tunnels_settings tunnels = server_tunnels_settings(config);
    struct frontend_settings frontend = server_frontend_settings(server, config);
    server_use_egress(server, egress);
    server_use_upstreams(server, tls, config);
    guard_configure(server->guard, config, secrets, server->connections_max);
    server_look_at_listeners(server);
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

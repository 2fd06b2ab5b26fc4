/*
 * What server.c (the turn), settings.c (the configuration in force) and start.c (start and stop)
 * share; nobody else includes it.
 */
#ifndef WEIR_SERVER_SERVER_STATE_H
#define WEIR_SERVER_SERVER_STATE_H

#include "server/server.h"

#include "server/acceptor.h"
#include "server/admin.h"
#include "server/admission.h"
#include "server/bounds.h"
#include "server/egress.h"
#include "server/exchange.h"
#include "server/fetch.h"
#include "server/frontend.h"
#include "server/guard.h"
#include "server/lobby.h"
#include "server/log.h"
#include "server/resolver.h"
#include "server/tls.h"
#include "server/tunnel.h"

#include <uv.h>

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
    size_t next_acceptor;        /* the one after that which took a connection last */
    struct acceptor *admin_acceptor;
    uv_signal_t signals[3];
    uv_timer_t timer; /* ends the poll when something is due */
    struct bounds_memory memory;
    struct bounds_files files;
    uint32_t client_socket_bytes;
    uint32_t upstream_socket_bytes;
    unsigned connections_max;
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

/* server.c */

bool server_watch_signals(struct server *server);

/* A connection whose wish is known goes to whom it is for. */
void server_let_in(struct server *server, const struct lobby_guest *guest, enum lobby_wish wish);

/* settings.c */

/* What the parts take from CONFIG. */
struct exchanges_settings server_exchanges_settings(const struct config *config);
struct tunnels_settings server_tunnels_settings(const struct config *config);
struct frontend_settings server_frontend_settings(const struct server *server,
                                                  const struct config *config);

/* The policy that CONFIG asks for. NULL when out of memory. */
struct egress *server_make_egress(const struct server *server, const struct config_egress *config);

/* What is set aside of the memory for checks of the passwords in SECRETS. */
uint64_t server_reserved_bytes(const struct secrets *secrets);

/* Lowers what CONFIG allows to what then fits into the memory. False where nothing does. */
bool server_fit_memory(struct server *server, struct config *config, const struct secrets *secrets);

/* EGRESS takes the place of the policy in force. */
void server_use_egress(struct server *server, struct egress *egress);

/* TLS and the upstreams of CONFIG take the place of those in force. */
void server_use_upstreams(struct server *server, struct tls *tls, struct config *config);

/* Warns of listeners that everybody may use. */
void server_look_at_listeners(struct server *server);

/* Reads the configuration again, all or nothing: queues and slots stay. */
void server_reload_config(struct server *server);

/* start.c */

/* The files of unix: listeners go; for an exit that does not tidy up otherwise. */
void server_remove_socket_files(struct server *server);

#endif

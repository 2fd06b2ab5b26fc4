/*
 * The server: owns the parts, runs the turn, starts and stops them in order.
 */
#ifndef WEIR_SERVER_SERVER_H
#define WEIR_SERVER_SERVER_H

#include "api/config.h"

/* How to read the configuration again: as main() was called. */
struct server_reload {
    int argument_count;
    char *const *arguments;
    char *const *environment;
};

struct server;

/*
 * Whether the files that CONFIG names (secrets, certificates, keys) are good. False after one clear
 * line on stderr.
 */
bool server_check(const struct config *config);

/*
 * Makes a server that listens. It owns CONFIG from then on, in any case. NULL after one clear line
 * on stderr.
 */
struct server *server_create(struct config *config, const struct server_reload *reload);

/*
 * Serves until it is told to stop, by a signal or at the admin port, and has drained. Returns the
 * exit status: 0, or 3 where the time to drain ran out or a second signal came.
 */
int server_run(struct server *server);

/* Accepts NULL. */
void server_destroy(struct server *server);

#endif

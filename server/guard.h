/*
 * The guard: who may come in, how many of them, and what they must show.
 *
 * Owns the secrets that files hold, the checking of clients' credentials (auth.h), the count of
 * their connections (door.h) and those that are being closed gently (lingering.h).
 */
#ifndef WEIR_SERVER_GUARD_H
#define WEIR_SERVER_GUARD_H

#include "api/config.h"
#include "server/acceptor.h"
#include "server/auth.h"
#include "server/door.h"
#include "server/lingering.h"
#include "server/log.h"
#include "server/secrets.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <uv.h>

struct guard;

/*
 * Reads the files that CONFIG names. NULL with a line in *ret_error, as secrets_load(). The caller
 * owns the secrets.
 */
struct secrets *guard_read_secrets(const struct config *config, char **ret_error);

/*
 * Owns SECRETS from then on, in any case; LOG is borrowed. CONNECTIONS is how many clients may have
 * in all, the rest is CONFIG's. NULL when out of memory.
 */
struct guard *guard_create(uv_loop_t *loop, struct log *log, const struct config *config,
                           struct secrets *secrets, unsigned connections, unsigned lingering);

/* Nobody may be inside. Run the loop afterwards until its handles are gone. Accepts NULL. */
void guard_destroy(struct guard *guard);

/* A reload's settings and secrets, which it owns. */
void guard_configure(struct guard *guard, const struct config *config, struct secrets *secrets,
                     unsigned connections);

/*
 * Says so, as a warning, where everybody who reaches ACCEPTOR may use it: it is not on a loopback
 * address and nobody is asked for credentials. FOR_ADMIN: it is the admin port's.
 */
void guard_look_at(struct guard *guard, const struct acceptor *acceptor, bool for_admin);

/*
 * The next connection of the data port at ACCEPTOR, which has entered by the door; -1 where none
 * waits or the door is full. A connection beyond its
 * client's share is answered and closed here.
 */
int guard_take(struct guard *guard, struct acceptor *acceptor, struct sockaddr_storage *ret_peer,
               socklen_t *ret_peer_bytes, uint64_t now_ns);

/* Goes on with what the threads have checked, and closes what is to be closed. */
bool guard_run(struct guard *guard, uint64_t now_ns);

/* When guard_run() should be called again though nothing is ready; UINT64_MAX: no need. */
uint64_t guard_next_ns(const struct guard *guard);

/* Whether a check is on a thread, for which the end of the loop would have to wait. */
bool guard_is_busy(const struct guard *guard);

/* Its parts, all borrowed. The secrets are good until guard_configure(). */
struct auth *guard_auth(const struct guard *guard);
struct door *guard_door(const struct guard *guard);
struct lingering *guard_lingering(const struct guard *guard);
const struct secrets *guard_secrets(const struct guard *guard);

#endif

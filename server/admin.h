/*
 * The admin port: GET and HEAD of /status, /hosts/HOST, /healthz and /readyz, and
 * POST /quitquitquit, which asks for the end. All libmicrohttpd of that port is in admin.c; who may
 * ask is in admin_gate.h.
 *
 * Where there are tokens for it (auth.admin) they are asked for as `Authorization: Bearer TOKEN`
 * (RFC 6750), but not by /healthz and /readyz.
 *
 * Its answers are small and made at once, so nothing is ever suspended. JSON has
 * `Cache-Control: no-store`; a wrong method is 405 with Allow; errors are problems (api/problem.h).
 * A request has ten seconds, from the connection's beginning or the request before it until its
 * answer is sent.
 */
#ifndef WEIR_SERVER_ADMIN_H
#define WEIR_SERVER_ADMIN_H

#include "api/report.h"
#include "server/log.h"
#include "server/secrets.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <uv.h>

struct admin;

/* What the admin port tells of; asked anew for each request. */
struct admin_source {
    void (*describe)(void *context, struct report_service *ret_service,
                     const struct limiter **ret_limiter, uint64_t *ret_now_ns);
    const struct secrets *(*secrets)(void *context); /* whose tokens count; NULL: nobody is asked */
    void *context;
};

/*
 * Copies SOURCE. At most CONNECTIONS_MAX connections at once; beyond, the one whose request has
 * been waited for longest is closed. NULL when out of memory or descriptors.
 */
struct admin *admin_create(uv_loop_t *loop, const struct admin_source *source,
                           unsigned connections_max, uint64_t now_ns);

/* Closes every connection. Run the loop afterwards until its handle is gone. Accepts NULL. */
void admin_destroy(struct admin *admin);

/* Takes over the connected FD, whatever comes of it. */
void admin_add(struct admin *admin, int fd, const struct sockaddr *address, socklen_t bytes,
               uint64_t now_ns);

/* Runs what is ready; once a turn. Returns true where it did something: there may be more. */
bool admin_run(struct admin *admin, uint64_t now_ns);

/* When admin_run() should be called again though nothing is ready; UINT64_MAX: no need. */
uint64_t admin_next_ns(const struct admin *admin);

/* Whether somebody has asked for the end; once true it stays so. */
bool admin_asked_to_quit(const struct admin *admin);

/* Whether an answer to that is still to be sent. */
bool admin_owes_answer(const struct admin *admin);

#endif

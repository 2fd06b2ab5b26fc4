/*
 * The admin port: GET and HEAD of /status, /hosts/HOST, /healthz and /readyz. All libmicrohttpd of
 * that port is in admin.c.
 *
 * Where there are tokens for it (auth.admin) they are asked for as `Authorization: Bearer TOKEN`
 * (RFC 6750), but not by /healthz and /readyz.
 *
 * Its answers are small and made at once, so nothing is ever suspended. JSON has
 * `Cache-Control: no-store`; a wrong method is 405 with Allow; errors are problems (api/problem.h).
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

/* Copies SOURCE. At most CONNECTIONS_MAX connections at once. NULL when out of memory or
 * descriptors. */
struct admin *admin_create(uv_loop_t *loop, const struct admin_source *source,
                           unsigned connections_max);

/* Closes every connection. Run the loop afterwards until its handles are gone. Accepts NULL. */
void admin_destroy(struct admin *admin);

/* Takes over the connected FD, whatever comes of it. */
void admin_add(struct admin *admin, int fd, const struct sockaddr *address, socklen_t bytes);

/* Runs what is ready; once a turn. Returns true where it did something. */
bool admin_run(struct admin *admin);

#endif

/*
 * Egress: which names, ports and addresses may be reached.
 *
 * A policy is made from the configuration and never changes; a reload makes another, which takes
 * its place everywhere before the old one is destroyed. Whoever asks borrows it for the call only.
 *
 * A target is asked about twice: by its name before anything is done for it (egress_check_name),
 * and with each address that its name has (egress_check_address). The second answer is the one
 * that counts, and it is about the very address that is dialled: it is asked for again right before
 * a connection is opened, and before one that was opened for another request is used. So nothing
 * that a name server says between check and connect can make a difference.
 *
 * The rules, the first that applies:
 *   1. Weir's own listeners, by any address of this machine: a loop. Nothing opens them.
 *   2. What egress.deny names, by host, range or port: denied. Nothing opens it.
 *   3. A port is open where egress.ports lists it (80 and 443 where that says nothing; any with
 *      "any", or where `private` is set and egress.ports says nothing), for a host that "limits"
 *      names with that port, for what an entry of egress.allow names with that port, and for an
 *      upstream's own port (EGRESS_GRANT_PORT).
 *   4. A metadata service (api/address.h) is open only where egress.allow holds its very address;
 *      neither a range nor a name nor `private` opens it.
 *   5. Public addresses are open.
 *   6. egress.allow opens addresses by range, and every address of a host by its name.
 *   7. `private` (egress.private, --allow-private) opens loopback, private and unique-local
 *      addresses, and so does EGRESS_GRANT_PRIVATE for one target.
 *   8. All else is denied.
 *
 * An address that carries an IPv4 address (6to4, Teredo, NAT64, IPv4-compatible) is open only where
 * both are, by 2 and by 4 to 8; an IPv4-mapped one is the IPv4 address.
 *
 * A limit is not a permission: that "limits" or "upstreams" name a host opens its port, but no
 * address that is not public. That takes an entry in egress.allow, or for an upstream its own key.
 *
 * Names match as those of limits do (limiter/rules.h): "api.example.com" is that name alone,
 * "*.example.com" every name below it; without a port an entry holds for every port.
 */
#ifndef WEIR_SERVER_EGRESS_H
#define WEIR_SERVER_EGRESS_H

#include "api/config.h"
#include "api/problem.h"
#include "server/resolver.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct egress;

/* What the operator's own words about a target open: for named upstreams, never for a URL. */
enum {
    EGRESS_GRANT_NONE = 0,
    EGRESS_GRANT_PORT = 1,    /* its port, which the upstream's base URL has */
    EGRESS_GRANT_PRIVATE = 2, /* what `private` opens, which the upstream says plainly */
};

struct egress_target {
    const char *name; /* as an origin's: lower case, no dot at the end; an address, no brackets */
    uint16_t port;
    unsigned grants; /* EGRESS_GRANT_... */
};

/*
 * A policy from CONFIG; OWN are the COUNT addresses at which this process listens, with the ports
 * that were really taken (those of other families than IPv4 and IPv6 are passed over). It keeps
 * nothing of either. NULL when out of memory.
 */
struct egress *egress_create(const struct config_egress *config, const struct sockaddr_storage *own,
                             size_t count);

/* Accepts NULL. */
void egress_destroy(struct egress *egress);

/*
 * Whether TARGET may be asked for at all, before it is resolved and before it waits for a slot. A
 * numeric host is judged in full. PROBLEM_NONE, or PROBLEM_DENIED_NAME (a name or a port),
 * PROBLEM_DENIED_ADDRESS or PROBLEM_LOOP with a static sentence in *ret_detail.
 *
 * Where the address may decide about the port (an entry of egress.allow such as
 * "10.1.0.0/16:9000", or the port of one of our listeners) the port is left to
 * egress_check_address().
 */
enum problem egress_check_name(const struct egress *egress, const struct egress_target *target,
                               const char **ret_detail);

/* Whether TARGET may be reached at ADDRESS, whose own port is not read. As above. */
enum problem egress_check_address(const struct egress *egress, const struct egress_target *target,
                                  const struct sockaddr *address, const char **ret_detail);

/*
 * Leaves in *ADDRESSES, in their order, those at which TARGET may be reached. PROBLEM_NONE where
 * any is left, or none was there; else the problem of the first. A single address that is one of
 * our own listeners is PROBLEM_LOOP for all: the name is one of this machine.
 */
enum problem egress_filter(const struct egress *egress, const struct egress_target *target,
                           struct resolver_addresses *addresses, const char **ret_detail);

#endif

/*
 * The JSON documents of the admin port. Field names are those of DESIGN.md section 3.3: no
 * abbreviations, the unit in the name, so that they read without a manual.
 */
#ifndef WEIR_API_REPORT_H
#define WEIR_API_REPORT_H

#include "limiter/limiter.h"

#include <stddef.h>
#include <stdint.h>

enum report_state { REPORT_STARTING, REPORT_OK, REPORT_DRAINING };

/* What the service knows beside the limiter. */
struct report_service {
    const char *version;
    enum report_state state;
    uint64_t uptime_ns;
    uint64_t config_generation;
    uint32_t client_connections;
    uint32_t client_connections_limit;
    uint32_t upstream_connections; /* open, idle ones too */
    uint64_t requests_total;
    uint64_t bytes_in_total;  /* request bodies read from clients */
    uint64_t bytes_out_total; /* answer bodies sent to clients */
    uint64_t problems_total;
    /* How many idle upstream connections and tunnels the host has; NULL: none. */
    void (*host_connections)(const struct limiter_host *host, uint32_t *ret_idle,
                             uint32_t *ret_tunnels);
};

/*
 * The whole service: {"version", "uptime_seconds", "state", "config_generation", "connections": {...}, "totals":
 * {...}, "hosts": [...]}, hosts in the order of their last use, newest first. Ends in a newline. *ret_bytes is the length; the
 * caller frees it with free(). NULL when out of memory.
 */
char *report_status(const struct report_service *service, const struct limiter *limiter,
                    uint64_t now_ns, size_t *ret_bytes);

/* One host, as in the list of report_status(). */
char *report_host(const struct report_service *service, const struct limiter_host *host,
                  uint64_t now_ns, size_t *ret_bytes);

#endif

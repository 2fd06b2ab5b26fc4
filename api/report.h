/*
 * The JSON documents of the admin port. Field names have no abbreviations and the unit in the name,
 * so that they read without a manual.
 */
#ifndef WEIR_API_REPORT_H
#define WEIR_API_REPORT_H

#include "limiter/limiter.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum report_state { REPORT_STARTING, REPORT_OK, REPORT_DRAINING };

/* Clients and their connections. */
struct report_door {
    uint32_t clients;            /* addresses that have a connection */
    uint32_t largest;            /* connections of the one that has most */
    uint32_t client_limit;       /* of each client of another machine */
    uint32_t local_client_limit; /* of each client of this one */
    uint64_t full_total;         /* how often all connections were taken */
    uint64_t client_full_total;  /* connections refused beyond a client's limit */
};

/* Bytes on their way. */
struct report_buffers {
    uint64_t bytes; /* of bodies */
    uint64_t limit_bytes;
    uint64_t peak_bytes;
    uint64_t scarce_total; /* how often most of it was in use, and buffers stayed small */
    uint64_t full_total;   /* requests refused for it */
    uint64_t head_bytes;   /* for heads, of the connections there are */
    uint64_t head_limit_bytes;
};

/* The checking of clients' credentials. */
struct report_auth {
    bool clients; /* whether they have to show any */
    uint32_t checking;
    uint32_t waiting;
    uint64_t checks_total;
    uint64_t refused_total; /* requests without, or with wrong ones */
    uint64_t busy_total;    /* requests refused because too many waited for their check */
};

/* What the service knows beside the limiter. */
struct report_service {
    const char *version;
    enum report_state state;
    uint64_t uptime_ns;
    uint64_t config_generation;
    uint32_t client_connections;
    uint32_t client_connections_limit;
    uint32_t upstream_connections; /* open, idle ones too */
    struct report_door door;
    struct report_buffers buffers;
    struct report_auth auth;
    uint64_t requests_total;
    uint64_t bytes_in_total;  /* request bodies read from clients */
    uint64_t bytes_out_total; /* answer bodies sent to clients */
    uint64_t problems_total;
    /* How many idle upstream connections and tunnels the host has; NULL: none. */
    void (*host_connections)(const struct limiter_host *host, uint32_t *ret_idle,
                             uint32_t *ret_tunnels);
};

/*
 * The whole service: {"version", "uptime_seconds", "state", "config_generation", "connections":
 * {...}, "buffers": {...}, "auth": {...}, "totals": {...}, "hosts": [...]}, hosts that are in use
 * or connected first. Ends in a newline. *ret_bytes is the length; the caller frees it with free().
 * NULL when out of memory.
 */
char *report_status(const struct report_service *service, const struct limiter *limiter,
                    uint64_t now_ns, size_t *ret_bytes);

/* One host, as in the list of report_status(). */
char *report_host(const struct report_service *service, const struct limiter_host *host,
                  uint64_t now_ns, size_t *ret_bytes);

#endif

/*
 * The configuration: command-line flag > WEIR_* environment variable > JSON file > default.
 *
 * It is read once into a struct that nobody changes; a reload reads another.
 */
#ifndef WEIR_API_CONFIG_H
#define WEIR_API_CONFIG_H

#include "limiter/limiter.h"
#include "limiter/rules.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum config_log { CONFIG_LOG_JSON, CONFIG_LOG_NONE }; /* log.access */
enum config_level { CONFIG_LEVEL_ERROR, CONFIG_LEVEL_WARNING, CONFIG_LEVEL_INFO, CONFIG_LEVEL_DEBUG };

/* A place to listen: a numeric address and a port (0: any free one). */
struct config_listen {
    char *text; /* "127.0.0.1:8080", "[::1]:8080" */
    char *address; /* without brackets */
    uint16_t port;
};

struct config_timeouts {          /* key in "timeouts"      default */
    uint64_t head_ns;             /* head: request head     10s */
    uint64_t keepalive_ns;        /* keepalive: client idle between requests  75s */
    uint64_t connect_ns;          /* connect: look-up, TCP and TLS  5s */
    uint64_t first_byte_ns;       /* first_byte             60s */
    uint64_t upstream_idle_ns;    /* upstream_idle          60s */
    uint64_t client_idle_ns;      /* client_idle            60s */
    uint64_t fetch_ns;            /* fetch: the whole fetch, 0: unbounded   0 */
    uint64_t upstream_keepalive_ns; /* upstream_keepalive: idle upstream connections  30s */
    uint64_t drain_ns;            /* drain                  25s */
};

struct config {
    struct config_listen *listen; /* "listen": a string or an array of them; 127.0.0.1:8080 */
    size_t listen_count;
    struct config_listen admin_listen; /* "admin": {"listen"}; 127.0.0.1:9901 */
    struct rules *rules;          /* "limits": "default" {limit 3, queue 1000, queue_timeout 30s} and
                                     "hosts"; config_take_rules() hands it over */
    struct limiter_bounds bounds; /* "limits": "total" {limit 512, queue 10000}, "hosts_max" 10000 */
    unsigned overflow_status;     /* "overflow_status": 503 or 429; 503 */
    uint32_t connections_max;     /* "connections": client connections at once; 10000 */
    uint32_t header_bytes;        /* "header_bytes": room for a request's head, 4096 to 65536; 16384 */
    struct config_timeouts timeouts;
    enum config_log access_log;   /* "log": {"access": "json"|"none"} */
    enum config_level level;      /* "log": {"level": "error"|"warning"|"info"|"debug"}; info */
    char *ca_file;                /* "tls": {"ca_file"}; NULL: the system's roots */
};

enum config_action {
    CONFIG_RUN,
    CONFIG_CHECK,   /* --check-config: good; the caller says so and exits 0 */
    CONFIG_HELP,    /* --help */
    CONFIG_VERSION, /* --version */
    CONFIG_BAD_USAGE, /* a bad command line: exit 2 */
    CONFIG_BAD,     /* a bad file or environment: exit 1 */
};

/*
 * Reads flags (ARGV, as main() has it), environment (ENVIRON, as environ) and the file that they
 * name. With CONFIG_RUN and CONFIG_CHECK *ret_config is a configuration that the caller ends with
 * config_destroy(). With CONFIG_BAD_USAGE and CONFIG_BAD *ret_error is one line for stderr, without
 * its end: "FILE:LINE: limits.default.limit: expected a whole number from 1 to 1000000, found
 * \"three\"", "--limit: expected ...", "WEIR_LIMIT: expected ..."; the caller frees it. It is NULL
 * where memory ran out even for that. A variable that is empty counts as not set.
 */
enum config_action config_read(int argc, char *const argv[], char *const environment[],
                               struct config **ret_config, char **ret_error);

/* Hands the rules over: the caller owns them, and config->rules is NULL. */
struct rules *config_take_rules(struct config *config);

/* Accepts NULL. */
void config_destroy(struct config *config);

/* What --help prints. */
const char *config_help(void);

#endif

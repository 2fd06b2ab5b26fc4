/*
 * The configuration: command-line flag > WEIR_* environment variable > JSON file > default.
 *
 * It is read once into a struct that nobody changes; a reload reads another.
 */
#ifndef WEIR_API_CONFIG_H
#define WEIR_API_CONFIG_H

#include "api/address.h"
#include "api/upstreams.h"
#include "limiter/limiter.h"
#include "limiter/rules.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_SOCKET_PATH_MAX 108 /* with its end: sun_path of unix(7) */

enum config_log { CONFIG_LOG_JSON, CONFIG_LOG_NONE }; /* log.access */
enum config_level { CONFIG_LEVEL_ERROR, CONFIG_LEVEL_WARNING, CONFIG_LEVEL_INFO };

/* Where to listen: a numeric address and a port (0: any free one), or a socket's file. */
struct config_listen {
    char *text;    /* "127.0.0.1:8080", "[::1]:8080", "unix:/run/weir.sock" */
    char *address; /* without brackets; "" for a unix: socket */
    char *path;    /* of a unix: socket, else NULL */
    uint16_t port;
};

/* "auth": paths of files with secrets, which server/secrets.h reads; NULL: nobody is asked. */
struct config_auth {
    char *clients;       /* "clients": lines NAME:HASH */
    char *admin_read;    /* "admin": {"read"}: a token */
    char *admin_operate; /* "admin": {"operate"}: a token, which may read too */
};

/* What an entry of "egress" is about; each with a port, 0: every one. */
enum config_egress_kind {
    CONFIG_EGRESS_RANGE, /* "10.1.0.0/16", "fd00::/8", "10.0.0.5:9000", "[fd00::5]:9000" */
    CONFIG_EGRESS_NAME,  /* "api.internal", "*.internal:8443" */
    CONFIG_EGRESS_PORT,  /* ":25" */
};

struct config_egress_rule {
    enum config_egress_kind kind;
    struct address first; /* of a range */
    unsigned prefix_bits;
    char *name; /* lower case, without port; NULL but with CONFIG_EGRESS_NAME */
    uint16_t port;
};

struct config_egress_list {
    struct config_egress_rule *at;
    size_t count;
};

enum config_ports { CONFIG_PORTS_DEFAULT, CONFIG_PORTS_LISTED, CONFIG_PORTS_ANY };

/* "egress"; what it means is in server/egress.h. */
struct config_egress {
    bool open_private; /* "private", --allow-private */
    struct config_egress_list allow;
    struct config_egress_list deny;
    struct config_egress_list named; /* hosts that are written with a port elsewhere: "limits" */
    enum config_ports ports_rule;    /* "ports": an array, or "any"; default 80 and 443 */
    uint16_t *ports;                 /* with CONFIG_PORTS_LISTED */
    size_t port_count;
};

enum config_tls_version { CONFIG_TLS_UNSAID, CONFIG_TLS_1_2, CONFIG_TLS_1_3 };

/* How TLS is spoken with a host. What an entry of a host leaves out it has from "tls". */
struct config_tls {
    char *host;             /* as limits.hosts writes it, a pattern too; NULL in "tls" itself */
    char *where;            /* the key, for messages: "tls", "upstreams.stripe.tls" */
    char *ca_file;          /* NULL: the system's roots */
    char *certificate_file; /* what Weir shows of itself; NULL: nothing */
    char *key_file;         /* may be the same file */
    enum config_tls_version minimum_version; /* "1.2" */
    bool insecure;                           /* whoever answers is believed */
};

struct config_timeouts {               /* key in "timeouts"      default */
    uint64_t head_ns;                  /* head: request head     10s */
    uint64_t keepalive_ns;             /* keepalive: client idle between requests  75s */
    uint64_t connect_ns;               /* connect: look-up, TCP and TLS  5s */
    uint64_t first_byte_ns;            /* first_byte             60s */
    uint64_t upstream_idle_ns;         /* upstream_idle          60s */
    uint64_t client_idle_ns;           /* client_idle            60s */
    uint64_t fetch_ns;                 /* fetch: the whole fetch, 0: unbounded   0 */
    uint64_t upstream_keepalive_ns;    /* upstream_keepalive: idle upstream connections  30s */
    uint64_t drain_ns;                 /* drain                  25s */
    uint64_t tunnel_idle_ns;           /* tunnel_idle: nothing carried  10m */
    uint64_t tunnel_max_age_ns;        /* tunnel_max_age: 0: unbounded  0 */
    uint64_t tunnel_idle_contended_ns; /* tunnel_idle_contended: the same while others wait  2s */
};

struct config {
    struct config_listen *listen; /* "listen": a string or an array of them; 127.0.0.1:8080 */
    size_t listen_count;
    uint32_t socket_mode; /* "socket_mode": of the files of unix: sockets, octal; "0660" */
    struct config_listen admin_listen; /* "admin": {"listen"}; 127.0.0.1:9901 */
    uint32_t admin_socket_mode;        /* "admin": {"socket_mode"}; "0600" */
    struct config_auth auth;
    /* "limits": "default" {limit 3, queue 1000, queue_timeout 30s}, "hosts"; config_take_rules()
       hands it over */
    struct rules *rules;
    /* "limits": "total" {limit 512, queue 10000}, "hosts_max" 10000 */
    struct limiter_bounds bounds;
    struct config_egress egress;
    unsigned overflow_status;        /* "overflow_status": 503 or 429; 503 */
    uint32_t connections_max;        /* "connections": client connections at once; 10000 */
    uint32_t connections_per_client; /* "connections_per_client": of one client address; 0: not
                                        given, see server/door.h */
    uint32_t buffer_bytes; /* "buffer_bytes": bytes of bodies under way, in all; 256 MiB */
    uint32_t header_bytes; /* "header_bytes": room for a request's head, 4096 to 65536; 16384 */
    struct config_timeouts timeouts;
    enum config_log access_log;   /* "log": {"access": "json"|"none"} */
    enum config_level level;      /* "log": {"level": "error"|"warning"|"info"}; info */
    struct config_tls tls;        /* "tls": {"ca_file", "minimum_version"} */
    struct config_tls *tls_hosts; /* "tls": {"hosts"}, and "tls" of "upstreams" */
    size_t tls_host_count;
    struct upstreams *upstreams; /* "upstreams"; NULL: none; see config_take_upstreams() */
};

enum config_action {
    CONFIG_RUN,
    CONFIG_CHECK,     /* --check-config: good; the caller says so and exits 0 */
    CONFIG_HELP,      /* --help */
    CONFIG_VERSION,   /* --version */
    CONFIG_BAD_USAGE, /* a bad command line: exit 2 */
    CONFIG_BAD,       /* a bad file or environment: exit 1 */
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

/*
 * Reads the command line of a question to the running service: the flags of config_read() and then
 * at most one word, which *ret_word borrows (NULL: none). Without a word, and with CONFIG_RUN,
 * *ret_config->admin_listen is where the admin port is; nothing else in it was read, and nothing
 * else in the file matters, right or wrong. Otherwise as config_read(); never CONFIG_CHECK.
 */
enum config_action config_read_admin(int argc, char *const argv[], char *const environment[],
                                     const char **ret_word, struct config **ret_config,
                                     char **ret_error);

/* Hands the rules over: the caller owns them, and config->rules is NULL. */
struct rules *config_take_rules(struct config *config);

/* The same with the upstreams; NULL where there are none. */
struct upstreams *config_take_upstreams(struct config *config);

/* Accepts NULL. */
void config_destroy(struct config *config);

/* What --help prints. */
const char *config_help(void);

#endif

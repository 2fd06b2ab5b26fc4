/*
 * What fetch.c (a fetch's life), transfer.c (one libcurl transfer) and fetcher.c (all of them)
 * share; nobody else includes it.
 */
#ifndef WEIR_SERVER_TRANSFER_H
#define WEIR_SERVER_TRANSFER_H

#include "api/fields.h"
#include "server/fetch.h"
#include "server/field_list.h"
#include "server/tls.h"

#include <curl/curl.h>

enum fetch_phase {
    FETCH_RESOLVING,
    FETCH_CONNECTING, /* TCP and TLS */
    FETCH_WAITING,    /* the request is on its way, the answer's head is not complete */
    FETCH_RECEIVING,
    FETCH_ENDED,
};

struct fetch {
    struct fetcher *fetcher;
    TAILQ_ENTRY(fetch) in_news;
    TAILQ_ENTRY(fetch) in_resumed;
    TAILQ_ENTRY(fetch) in_spares;
    struct wheel_timer timer;
    struct resolver_query query;
    enum fetch_phase phase;

    void *owner;
    struct origin *origin;
    struct socket_pool *pool;
    struct pipe *upload;
    struct pipe *download;
    struct fetch_timeouts timeouts;
    struct fetch_times times;
    uint64_t activity_ns;
    uint64_t upload_left; /* of a body whose length is known */
    uint64_t taken_bytes; /* of the answer's body, out of libcurl's hands */
    uint64_t attempt_deadline_ns;
    struct resolver_addresses addresses;
    unsigned next_address;
    unsigned egress_grants;
    struct tls_profile *tls; /* held; of the present attempt, NULL without TLS */

    bool has_news;
    bool is_resumed;
    bool upload_over;
    bool upload_paused;
    bool upload_held; /* paused because the answer is, and has grown too large for that */
    bool download_paused;
    bool has_answer;
    bool is_added;    /* the easy handle is in its lane's multi */
    bool was_sent;    /* the request may have reached the upstream */
    bool resendable;  /* nothing happens twice if the request is sent twice */
    bool opened;      /* the connection was opened for this attempt */
    bool barred;      /* the connection that was to be reused leads where this fetch may not */
    bool knows_ports; /* the easy handle looks for the lane's stand-in addresses */
    bool is_spent;    /* the easy handle must not be used again */
    int fd;           /* of the connection in use, or -1 */

    enum problem problem;
    const char *detail;
    struct fetch_answer answer;
    struct fields head;
    struct fields tail; /* the answer's trailers */

    CURL *easy;
    struct field_list request_fields;
    struct curl_slist *request_trailers;
    struct curl_slist stand_in;
    char stand_in_text[40];
    char error[CURL_ERROR_SIZE];
};

#define LANE_PORTS_BYTES (65536 / 8)

struct lane {
    CURLM *multi;
    struct fetcher *fetcher;
    uint64_t due_ns;      /* when libcurl wants to be called; UINT64_MAX: not */
    unsigned char *ports; /* a bit for each that has a stand-in address in the multi */
};

struct fetcher {
    struct wheel wheel;
    struct resolver *resolver;
    struct sockets *sockets;
    const struct egress *egress; /* borrowed */
    uint64_t keepalive_ns;
    uint64_t now_ns;
    const struct tls *tls; /* borrowed */
    TAILQ_HEAD(, fetch) news;
    TAILQ_HEAD(, fetch) resumed;
    TAILQ_HEAD(, fetch) spares;
    unsigned spare_count;
    unsigned lane_count;
    struct lane lanes[];
};

/* fetch.c: a fetch's life */
void fetch_news(struct fetch *fetch);
void fetch_move(struct fetch *fetch, enum fetch_phase phase);
void fetch_fail(struct fetch *fetch, enum problem problem, const char *detail);
void fetch_arm(struct fetch *fetch);
void fetch_due(struct fetch *fetch);
void fetch_try_addresses(struct fetch *fetch, const struct resolver_addresses *addresses);

/* The present address did not answer. Returns true where another is now being tried. */
bool fetch_next_address(struct fetch *fetch);

/* The same address once more. */
void fetch_same_address(struct fetch *fetch);

/* Where it goes, as egress rules see it. */
struct egress_target fetch_target(const struct fetch *fetch);

/* transfer.c: one transfer */

/* Sets the options that are the same for every request. */
bool transfer_set_template(struct fetch *fetch);

/* Sets the easy handle up for REQUEST. False when out of memory. */
bool transfer_prepare(struct fetch *fetch, const struct fetch_request *request);

/* Gives the easy handle to libcurl, to connect to the present address. */
bool transfer_start(struct fetch *fetch);

/* Takes it back; a transfer that has not ended loses its connection. */
void transfer_stop(struct fetch *fetch);

/* libcurl is done with it. */
void transfer_ended(struct fetch *fetch, CURLcode code);

/* fetcher.c: lanes and spare fetches */

/* A fetch with an easy handle, new or used before, everything else as new; NULL without memory. */
struct fetch *fetcher_take_spare(struct fetcher *fetcher);
void fetcher_put_spare(struct fetch *fetch);

#endif

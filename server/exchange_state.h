/*
 * What exchange.c (from request to fetch), answer.c (the answer) and exchanges.c (all of them)
 * share; nobody else includes it.
 */
#ifndef WEIR_SERVER_EXCHANGE_STATE_H
#define WEIR_SERVER_EXCHANGE_STATE_H

#include "server/admission.h"
#include "server/auth.h"
#include "server/exchange.h"

#include <sys/queue.h>

enum exchange_state {
    EXCHANGE_READING,   /* the head is not complete */
    EXCHANGE_CHECKING,  /* the client's credentials are being checked */
    EXCHANGE_WAITING,   /* for a slot */
    EXCHANGE_FETCHING,  /* holds a slot; the upstream's head has not come */
    EXCHANGE_ANSWERING, /* the upstream's answer is the answer */
    EXCHANGE_REFUSING,  /* `problem` is the answer */
    EXCHANGE_ABORTING,  /* the client is to be cut off, or has left */
    EXCHANGE_ENDED,
};

struct exchange {
    struct exchanges *all;
    TAILQ_ENTRY(exchange) in_all; /* or in the list of ended ones */
    TAILQ_ENTRY(exchange) in_awake;
    struct wheel_timer timer;
    enum exchange_state state;
    bool is_awake;
    bool answered;       /* exchange_answer() was called */
    bool upload_done;    /* nothing of the request is left to read */
    bool upload_blocked; /* the client half holds bytes that did not fit */
    bool starved;        /* the client half has asked for bytes that had not come */
    bool close;          /* the connection is not to be used again */
    bool head_answer;    /* refused before its body is read */

    void *context;
    const char *client;
    char *raw;
    struct target target;
    struct headers_request request;
    struct headers_request_facts facts;
    struct header *fields; /* owned, with room for ours; until the fetch has copied them */

    struct admission_place place;
    struct auth_query credentials;
    struct fetch *fetch;
    struct pipe upload;
    struct pipe download;

    enum problem problem;
    const char *detail;
    int64_t host_queued; /* for the problem; -1: does not apply */
    int64_t host_limit;
    uint64_t retry_ns;

    const char *outcome; /* of one that is ABORTING */
    uint64_t fetch_ns;
    uint64_t client_ns;
    uint64_t queue_ns;
    uint64_t discarded_bytes;
    uint64_t bytes_in;
    uint64_t bytes_out;
    unsigned status;
    char id[IDENTITY_ID_SIZE];
    const char *request_id; /* as the client sent it, or `id`; ends in '\0' */
    char *own_request_id;   /* owned: a copy of the client's */
};

TAILQ_HEAD(exchange_list, exchange);

struct exchanges {
    struct exchanges_parts parts;
    struct exchanges_settings settings;
    struct origin_cache *origins;
    const struct egress *egress;       /* borrowed */
    const struct upstreams *upstreams; /* borrowed */
    struct wheel wheel;
    struct exchange_list all;
    struct exchange_list awake;
    struct exchange_list ended;
    struct auth_queries checked;
    struct pipe_budget budget;
    struct exchanges_counts counts;
    uint64_t now_ns;
    bool draining;
};

/* exchange.c */

/* The one place that changes the state. */
void exchange_move(struct exchange *exchange, enum exchange_state state);

/* The client half can go on. */
void exchange_wake(struct exchange *exchange);

/* It is the client's turn from now on. */
void exchange_arm(struct exchange *exchange);

/* The upstream half is over: the slot, or the place in the queue, is free again. */
void exchange_give_back(struct exchange *exchange);

/* The same, and the fetch itself goes. */
void exchange_end_fetch(struct exchange *exchange);

/* The client is to be cut off; OUTCOME is the word for the log. */
void exchange_cut(struct exchange *exchange, const char *outcome);

/* PROBLEM is the answer. */
void exchange_refuse(struct exchange *exchange, enum problem problem, const char *detail);

/* Counts a request that the egress rules have ended; PROBLEM may be any. */
void exchange_count_denial(struct exchange *exchange, enum problem problem);

/* Adds to a problem what is known of its host. */
void exchange_tell_of_host(struct exchange *exchange, const struct limiter_host *host);

/* Who asks is known: goes on, or PROBLEM is the answer. */
void exchange_go_on(struct exchange *exchange, enum problem problem, const char *detail);

/* The ticket holds a slot: the fetch begins. */
void exchange_start_fetch(struct exchange *exchange);

#endif

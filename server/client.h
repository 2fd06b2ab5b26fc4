/*
 * What frontend.c (rooms and connections) and client.c (requests) share; nobody else includes it.
 */
#ifndef WEIR_SERVER_CLIENT_H
#define WEIR_SERVER_CLIENT_H

#include "server/frontend.h"

#include <microhttpd.h>
#include <sys/queue.h>

struct room {
    struct frontend *frontend;
    struct MHD_Daemon *daemon;
    uv_poll_t poll;
    TAILQ_ENTRY(room) in_dirty;
    bool is_dirty;
    struct client *adding; /* whose connection is just being added */
};

struct client {
    struct frontend *frontend;
    struct room *room;
    struct MHD_Connection *connection;
    struct MHD_Response *response; /* of the exchange, while it is being sent */
    struct exchange *exchange;
    uv_poll_t hangup;
    struct wheel_timer timer;
    TAILQ_ENTRY(client) in_all;
    TAILQ_ENTRY(client) in_gone;
    TAILQ_ENTRY(client) in_idle;
    int fd;
    bool is_gone;    /* in the list of those that have left */
    bool is_idle;    /* in the list of those that are between two requests */
    bool makes_room; /* cut so that another may come in */
    uint64_t idle_since_ns;
    bool suspended;
    bool head_only; /* the request's body has not been let in yet */
    bool is_cut;
    unsigned requests;
    size_t target_bytes;    /* of the present one, as it came */
    bool is_last;           /* no other may follow it: see server/daemon.h */
    const char *last_field; /* of its head */
    bool is_unread;         /* answered before all of the request had been read */
    char address[DOOR_ADDRESS_MAX];
};

struct frontend {
    uv_loop_t *loop;
    struct exchanges *exchanges;
    struct door *door;
    struct lingering *lingering;
    struct frontend_settings settings;
    struct wheel wheel;
    TAILQ_HEAD(, room) dirty;
    TAILQ_HEAD(, client) all;
    TAILQ_HEAD(, client) gone;
    TAILQ_HEAD(, client) idle; /* the longest idle first */
    bool is_crowded;
    unsigned making_room;
    unsigned clients;
    unsigned suspended;
    unsigned room;     /* of those who come in this turn */
    bool room_is_used; /* somebody has come */
    uint64_t now_ns;
    unsigned room_count;
    struct room rooms[];
};

/* The client has closed its side, rather than libmicrohttpd having given up on what it sent. */
bool frontend_has_left(const struct client *client);

/* ROOM is run again in this turn or the next. */
void frontend_mark_dirty(struct room *room);

/* CLIENT is between two requests, or no longer. */
void frontend_set_idle(struct client *client, bool idle);

/* libmicrohttpd's callbacks; CONTEXT is the frontend, but NULL for client_on_unescape(). */
void *client_on_target(void *context, const char *target, struct MHD_Connection *connection);
size_t client_on_unescape(void *context, struct MHD_Connection *connection, char *text);
enum MHD_Result client_on_request(void *context, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *data_bytes, void **state);
void client_on_completed(void *context, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode code);

#endif

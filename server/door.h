/*
 * The door: how many connections clients have, in all and each client.
 *
 * A client is an IPv4 address or, with IPv6, the 64 bits of its network; all that come through
 * unix: sockets are one. Every connection of the data port enters when it is accepted and leaves
 * just before its descriptor is closed, whoever holds it then.
 */
#ifndef WEIR_SERVER_DOOR_H
#define WEIR_SERVER_DOOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define DOOR_REMOTE_CLIENT_LIMIT 1000U /* where nothing is configured */
#define DOOR_ADDRESS_MAX         64    /* of door_print_address() */

struct door;

struct door_settings {
    unsigned connections;
    /*
     * 0: not configured, which is DOOR_REMOTE_CLIENT_LIMIT for clients of other machines and no
     * bound of their own for those of this one, behind whose address there may be many.
     */
    unsigned connections_per_client;
};

struct door_counts {
    unsigned connections;
    unsigned connections_limit;
    unsigned client_limit;       /* in force for each client of another machine */
    unsigned local_client_limit; /* and for each of this one */
    unsigned clients;            /* that have a connection */
    unsigned largest;            /* connections of the client that has most */
    uint64_t full_total;         /* how often all connections were taken */
    uint64_t refused_total;      /* connections beyond one client's share */
};

/* NULL when out of memory. */
struct door *door_create(const struct door_settings *settings);

/* Everybody must have left. Accepts NULL. */
void door_destroy(struct door *door);

/* A reload's bounds; connections that are there stay. */
void door_configure(struct door *door, const struct door_settings *settings);

/* Whether no more connections may be accepted; counts how often that comes about. */
bool door_is_full(struct door *door);

enum door_entry { DOOR_ENTERED, DOOR_CLIENT_FULL, DOOR_NO_MEMORY };

/* The connection FD, whose peer is at ADDRESS, comes in. Only with DOOR_ENTERED must it leave. */
enum door_entry door_enter(struct door *door, int fd, const struct sockaddr *address);

/* FD, which entered, is about to be closed. */
void door_leave(struct door *door, int fd);

struct door_counts door_counts(const struct door *door);

/* The peer's address as logs show it: "127.0.0.1:51234", "[::1]:51234", "unix:". */
void door_print_address(const struct sockaddr *address, socklen_t bytes,
                        char buffer[DOOR_ADDRESS_MAX]);

#endif

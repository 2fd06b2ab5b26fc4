#include "server/door.h"

#include <assert.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1 /* else uthash ends the process; an element not added has no hh.tbl */
#include <uthash.h>

/* Who a client is: everything that is not used is 0. */
struct client_key {
    sa_family_t family;
    unsigned char address[8];
};

struct door_client {
    UT_hash_handle hh;
    struct client_key key;
    unsigned connections;
};

struct door {
    struct door_settings settings;
    struct door_client *clients;
    struct door_client **by_fd; /* whose connection each descriptor is; NULL: nobody's */
    size_t fd_room;
    unsigned connections;
    bool full; /* and counted */
    uint64_t full_total;
    uint64_t refused_total;
};

struct door *door_create(const struct door_settings *settings)
{
    struct door *door = calloc(1, sizeof *door);
    if (door != NULL) {
        door->settings = *settings;
    }
    return door;
}

void door_destroy(struct door *door)
{
    if (door == NULL) {
        return;
    }
    assert(door->connections == 0 && door->clients == NULL);
    free(door->by_fd);
    free(door);
}

void door_configure(struct door *door, const struct door_settings *settings)
{
    door->settings = *settings;
}

bool door_is_full(struct door *door)
{
    bool full = door->connections >= door->settings.connections;
    door->full_total += full && !door->full ? 1 : 0;
    door->full = full;
    return full;
}

/* --- clients --- */

/* The key of ADDRESS, and whether it is of this machine. */
static struct client_key key_of(const struct sockaddr *address, bool *ret_local)
{
    struct client_key key;
    memset(&key, 0, sizeof key); /* the gaps too: keys are compared as bytes */
    key.family = address->sa_family;
    *ret_local = address->sa_family == AF_UNIX;
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
        memcpy(key.address, &v4->sin_addr, 4);
        *ret_local = key.address[0] == 127;
    } else if (address->sa_family == AF_INET6) {
        const struct in6_addr *v6 = &((const struct sockaddr_in6 *)address)->sin6_addr;
        memcpy(key.address, v6, 8);
        *ret_local = IN6_IS_ADDR_LOOPBACK(v6);
    }
    return key;
}

static struct door_client *find_client(struct door *door, const struct client_key *key)
{
    struct door_client *client = NULL;
    HASH_FIND(hh, door->clients, key, sizeof *key, client);
    return client;
}

/* Whoever has no connection left is forgotten, so the table is as bounded as the connections. */
static struct door_client *add_client(struct door *door, const struct client_key *key)
{
    struct door_client *client = calloc(1, sizeof *client);
    if (client == NULL) {
        return NULL;
    }
    client->key = *key;
    HASH_ADD(hh, door->clients, key, sizeof client->key, client);
    if (client->hh.tbl == NULL) {
        free(client);
        return NULL;
    }
    return client;
}

static bool make_room(struct door *door, int fd)
{
    size_t needed = (size_t)fd + 1;
    if (needed <= door->fd_room) {
        return true;
    }
    size_t room = 2 * needed;
    struct door_client **grown = reallocarray(door->by_fd, room, sizeof(struct door_client *));
    if (grown == NULL) {
        return false;
    }
    memset(grown + door->fd_room, 0, (room - door->fd_room) * sizeof(struct door_client *));
    door->by_fd = grown;
    door->fd_room = room;
    return true;
}

static unsigned share_of(const struct door *door, bool local)
{
    if (door->settings.connections_per_client > 0) {
        return door->settings.connections_per_client;
    }
    return local ? door->settings.connections : DOOR_REMOTE_CLIENT_LIMIT;
}

enum door_entry door_enter(struct door *door, int fd, const struct sockaddr *address)
{
    bool local;
    struct client_key key = key_of(address, &local);
    struct door_client *client = find_client(door, &key);
    if (client != NULL && client->connections >= share_of(door, local)) {
        door->refused_total++;
        return DOOR_CLIENT_FULL;
    }
    if (!make_room(door, fd)) {
        return DOOR_NO_MEMORY;
    }
    client = client != NULL ? client : add_client(door, &key);
    if (client == NULL) {
        return DOOR_NO_MEMORY;
    }
    assert(door->by_fd[fd] == NULL);
    door->by_fd[fd] = client;
    client->connections++;
    door->connections++;
    return DOOR_ENTERED;
}

void door_leave(struct door *door, int fd)
{
    assert(fd >= 0 && (size_t)fd < door->fd_room && door->by_fd[fd] != NULL);
    struct door_client *client = door->by_fd[fd];
    door->by_fd[fd] = NULL;
    door->connections--;
    client->connections--;
    if (client->connections == 0) {
        HASH_DEL(door->clients, client);
        free(client);
    }
}

struct door_counts door_counts(const struct door *door)
{
    struct door_counts counts = {
        .connections = door->connections,
        .connections_limit = door->settings.connections,
        .client_limit = share_of(door, false),
        .local_client_limit = share_of(door, true),
        .clients = HASH_COUNT(door->clients),
        .full_total = door->full_total,
        .refused_total = door->refused_total,
    };
    for (const struct door_client *client = door->clients; client != NULL;
         client = client->hh.next) {
        if (client->connections > counts.largest) {
            counts.largest = client->connections;
        }
    }
    return counts;
}

void door_print_address(const struct sockaddr *address, socklen_t bytes,
                        char buffer[DOOR_ADDRESS_MAX])
{
    char host[INET6_ADDRSTRLEN + 1];
    char port[8];
    if (bytes >= sizeof address->sa_family && address->sa_family == AF_UNIX) {
        (void)snprintf(buffer, DOOR_ADDRESS_MAX, "unix:");
    } else if (getnameinfo(address, bytes, host, sizeof host, port, sizeof port,
                           NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        (void)snprintf(buffer, DOOR_ADDRESS_MAX, "?");
    } else {
        (void)snprintf(buffer, DOOR_ADDRESS_MAX,
                       address->sa_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
    }
}

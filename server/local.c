/*
 * The kernel knows: it binds a socket to an address of its own and to no other. It can be told to
 * bind to any (net.ipv4.ip_nonlocal_bind); then, which an address that nobody has shows, the list
 * of interfaces must do, though it lacks what is only in the routing table. It binds to broadcast
 * addresses as well, which does no harm: nothing can be connected to those.
 */
#include "server/local.h"

#include <ifaddrs.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static bool can_bind(const struct address *address)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } place = {.v6 = {.sin6_family = AF_INET6}};
    socklen_t bytes = sizeof place.v6;
    if (address->ipv6) {
        memcpy(&place.v6.sin6_addr, address->bytes, 16);
    } else {
        place.v4 = (struct sockaddr_in){.sin_family = AF_INET};
        memcpy(&place.v4.sin_addr, address->bytes, 4);
        bytes = sizeof place.v4;
    }
    int fd = socket(place.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return false;
    }
    bool good = bind(fd, &place.any, bytes) == 0;
    close(fd);
    return good;
}

static bool is_listed(const struct address *address)
{
    struct ifaddrs *list = NULL;
    struct address own;
    bool found = false;
    if (getifaddrs(&list) != 0) {
        return false;
    }
    for (const struct ifaddrs *entry = list; entry != NULL && !found; entry = entry->ifa_next) {
        found = entry->ifa_addr != NULL && address_from_socket(entry->ifa_addr, &own) &&
                address_equals(&own, address);
    }
    freeifaddrs(list);
    return found;
}

bool local_has(const struct address *address)
{
    static const struct address nobodys[2] = {
        {.ipv6 = false, .bytes = {192, 0, 2, 1}},
        {.ipv6 = true, .bytes = {0x20, 0x01, 0x0d, 0xb8, [15] = 1}},
    };
    enum address_class class = address_classify(address);
    if (class == ADDRESS_LOOPBACK) {
        return true;
    }
    if (class == ADDRESS_MULTICAST) {
        return false; /* anybody can bind to it */
    }
    if (address->ipv6 && class == ADDRESS_LINK_LOCAL) {
        return is_listed(address); /* one cannot bind to it without the name of its interface */
    }
    return can_bind(address) && (!can_bind(&nobodys[address->ipv6 ? 1 : 0]) || is_listed(address));
}

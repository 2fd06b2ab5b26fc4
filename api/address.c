/*
 * Addresses: two tables, read from the top; the first range that holds an address is its class.
 */
#include "api/address.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <string.h>

#define IPV4_BITS 32U
#define IPV6_BITS 128U

struct range {
    unsigned char first[16];
    unsigned char bits;
    enum address_class class;
};

/* clang-format off */
static const struct range ipv4_ranges[] = {
    /* Metadata services and their like: link-local ones, and those at other addresses. */
    {{169, 254, 169, 254}, 32, ADDRESS_METADATA}, /* most clouds */
    {{169, 254, 170,   2}, 32, ADDRESS_METADATA}, /* credentials of containers */
    {{169, 254, 170,  23}, 32, ADDRESS_METADATA}, /* credentials of pods */
    {{169, 254,   0,  23}, 32, ADDRESS_METADATA},
    {{169, 254,  42,  42}, 32, ADDRESS_METADATA},
    {{100, 100, 100, 200}, 32, ADDRESS_METADATA},
    {{168,  63, 129,  16}, 32, ADDRESS_METADATA},
    {{192,   0,   0, 192}, 32, ADDRESS_METADATA},

    {{  0}, 8, ADDRESS_THIS_NETWORK},
    {{ 10}, 8, ADDRESS_PRIVATE},
    {{100,  64}, 10, ADDRESS_SHARED},
    {{127}, 8, ADDRESS_LOOPBACK},
    {{169, 254}, 16, ADDRESS_LINK_LOCAL},
    {{172,  16}, 12, ADDRESS_PRIVATE},
    {{192,   0, 0}, 24, ADDRESS_RESERVED},
    {{192,   0, 2}, 24, ADDRESS_DOCUMENTATION},
    {{192,  88, 99}, 24, ADDRESS_6TO4},
    {{192, 168}, 16, ADDRESS_PRIVATE},
    {{198,  18}, 15, ADDRESS_BENCHMARKING},
    {{198,  51, 100}, 24, ADDRESS_DOCUMENTATION},
    {{203,   0, 113}, 24, ADDRESS_DOCUMENTATION},
    {{224}, 4, ADDRESS_MULTICAST},
    {{240}, 4, ADDRESS_RESERVED},
};

static const struct range ipv6_ranges[] = {
    {{0xfd, 0, 0x0e, 0xc2, [14] = 0x02, [15] = 0x54}, 128, ADDRESS_METADATA},
    {{0xfd, 0, 0x0e, 0xc2, [15] = 0x23}, 128, ADDRESS_METADATA},
    {{0xfd, 0x20, 0, 0xce, [14] = 0x02, [15] = 0x54}, 128, ADDRESS_METADATA},
    {{0xfd, 0, 0, 0xc1, [12] = 0xa9, 0xfe, 0xa9, 0xfe}, 128, ADDRESS_METADATA},
    {{0xfd, 0, 0, 0x42, [15] = 0x42}, 128, ADDRESS_METADATA},

    {{[15] = 0}, 128, ADDRESS_THIS_NETWORK},
    {{[15] = 1}, 128, ADDRESS_LOOPBACK},
    {{0}, 96, ADDRESS_COMPATIBLE},
    {{[8] = 0xff, 0xff}, 96, ADDRESS_COMPATIBLE},
    {{0, 0x64, 0xff, 0x9b}, 96, ADDRESS_NAT64},
    {{0, 0x64, 0xff, 0x9b, 0, 1}, 48, ADDRESS_NAT64},
    {{1}, 64, ADDRESS_DISCARD},
    {{1, [7] = 1}, 64, ADDRESS_DISCARD},
    {{0x20, 0x01, 0, 0}, 32, ADDRESS_TEREDO},
    {{0x20, 0x01, 0, 2}, 48, ADDRESS_BENCHMARKING},
    {{0x20, 0x01}, 23, ADDRESS_RESERVED}, /* IETF protocol assignments, ORCHID */
    {{0x20, 0x01, 0x0d, 0xb8}, 32, ADDRESS_DOCUMENTATION},
    {{0x20, 0x02}, 16, ADDRESS_6TO4},
    {{0x3f, 0xff}, 20, ADDRESS_DOCUMENTATION},
    {{0x20}, 3, ADDRESS_PUBLIC},
    {{0xfc}, 7, ADDRESS_UNIQUE_LOCAL},
    {{0xfe, 0x80}, 10, ADDRESS_LINK_LOCAL},
    {{0xfe, 0xc0}, 10, ADDRESS_SITE_LOCAL},
    {{0xff}, 8, ADDRESS_MULTICAST},
    {{0}, 0, ADDRESS_RESERVED}, /* 5f00::/16 and all that nobody has been given */
};
/* clang-format on */

static const unsigned char mapped_prefix[12] = {[10] = 0xff, [11] = 0xff};

static struct address from_ipv4(const unsigned char bytes[4])
{
    struct address address = {.ipv6 = false};
    memcpy(address.bytes, bytes, 4);
    return address;
}

static struct address from_ipv6(const unsigned char bytes[16])
{
    if (memcmp(bytes, mapped_prefix, sizeof mapped_prefix) == 0) {
        return from_ipv4(bytes + 12);
    }
    struct address address = {.ipv6 = true};
    memcpy(address.bytes, bytes, 16);
    return address;
}

bool address_from_socket(const struct sockaddr *sockaddr, struct address *ret_address)
{
    assert(sockaddr != NULL && ret_address != NULL);
    if (sockaddr->sa_family == AF_INET) {
        struct sockaddr_in v4;
        unsigned char bytes[4];
        memcpy(&v4, sockaddr, sizeof v4);
        memcpy(bytes, &v4.sin_addr, sizeof bytes);
        *ret_address = from_ipv4(bytes);
        return true;
    }
    if (sockaddr->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, sockaddr, sizeof v6);
        *ret_address = from_ipv6(v6.sin6_addr.s6_addr);
        return true;
    }
    return false;
}

bool address_parse(const char *text, struct address *ret_address)
{
    assert(text != NULL && ret_address != NULL);
    unsigned char bytes[16];
    if (inet_pton(AF_INET, text, bytes) == 1) {
        *ret_address = from_ipv4(bytes);
        return true;
    }
    if (inet_pton(AF_INET6, text, bytes) == 1) {
        *ret_address = from_ipv6(bytes);
        return true;
    }
    return false;
}

unsigned address_bits(const struct address *address)
{
    return address->ipv6 ? IPV6_BITS : IPV4_BITS;
}

bool address_equals(const struct address *one, const struct address *other)
{
    return address_in_range(one, other, address_bits(other));
}

static bool begins_alike(const unsigned char *one, const unsigned char *other, unsigned bits)
{
    unsigned whole = bits / 8;
    unsigned mask = 0xffU << (8 - bits % 8) & 0xffU; /* 0 where no bits are left over */
    return memcmp(one, other, whole) == 0 &&
           (mask == 0 || ((one[whole] ^ other[whole]) & mask) == 0);
}

bool address_in_range(const struct address *address, const struct address *first,
                      unsigned prefix_bits)
{
    assert(prefix_bits <= address_bits(first));
    return address->ipv6 == first->ipv6 && begins_alike(address->bytes, first->bytes, prefix_bits);
}

enum address_class address_classify(const struct address *address)
{
    const struct range *ranges = address->ipv6 ? ipv6_ranges : ipv4_ranges;
    size_t count = address->ipv6 ? sizeof ipv6_ranges / sizeof *ipv6_ranges
                                 : sizeof ipv4_ranges / sizeof *ipv4_ranges;
    for (size_t i = 0; i < count; i++) {
        if (begins_alike(address->bytes, ranges[i].first, ranges[i].bits)) {
            return ranges[i].class;
        }
    }
    return ADDRESS_PUBLIC;
}

bool address_carried(const struct address *address, struct address *ret_inner)
{
    static const unsigned char nothing[4];
    const unsigned char *bytes = address->bytes;
    unsigned char client[4];
    enum address_class class = address->ipv6 ? address_classify(address) : ADDRESS_PUBLIC;
    if (class == ADDRESS_6TO4) {
        *ret_inner = from_ipv4(bytes + 2);
    } else if (class == ADDRESS_TEREDO) {
        for (size_t i = 0; i < sizeof client; i++) {
            client[i] = (unsigned char)~bytes[12 + i]; /* RFC 4380 section 4 */
        }
        *ret_inner = from_ipv4(client);
    } else if (class == ADDRESS_COMPATIBLE || class == ADDRESS_NAT64) {
        /* In a prefix of one's own (64:ff9b:1::/48) it may lie further to the front, with zeros
         * behind it (RFC 6052 section 2.2); then it cannot be told where. */
        bool own_prefix = class == ADDRESS_NAT64 && bytes[5] == 1;
        if (own_prefix && memcmp(bytes + 12, nothing, sizeof nothing) == 0) {
            return false;
        }
        *ret_inner = from_ipv4(bytes + 12);
    } else {
        return false;
    }
    return true;
}

bool address_print_ipv6(const struct in6_addr *address, char ret_text[INET6_ADDRSTRLEN])
{
    bool mapped = memcmp(address->s6_addr, mapped_prefix, sizeof mapped_prefix) == 0;
    const void *bytes = mapped ? address->s6_addr + sizeof mapped_prefix : address->s6_addr;
    const char *text = inet_ntop(mapped ? AF_INET : AF_INET6, bytes, ret_text, INET6_ADDRSTRLEN);
    assert(text != NULL); /* there is room for any */
    return mapped;
}

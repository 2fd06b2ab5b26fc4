/*
 * IP addresses: what kind one is, whether it carries another, and ranges of them.
 *
 * An IPv4-mapped IPv6 address (::ffff:10.0.0.1) is dialled as IPv4 and is therefore the IPv4
 * address, everywhere.
 */
#ifndef WEIR_API_ADDRESS_H
#define WEIR_API_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

struct address {
    bool ipv6;
    unsigned char bytes[16]; /* an IPv4 address is the first four, the others are 0 */
};

/*
 * The kinds of the special-purpose registries (RFC 6890 and what has been registered since), and
 * one of our own: metadata services. Everything else is public.
 */
enum address_class {
    ADDRESS_PUBLIC,
    ADDRESS_METADATA,      /* where clouds hand credentials to their machines; a list */
    ADDRESS_LOOPBACK,      /* 127.0.0.0/8, ::1 */
    ADDRESS_PRIVATE,       /* 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 */
    ADDRESS_UNIQUE_LOCAL,  /* fc00::/7 */
    ADDRESS_LINK_LOCAL,    /* 169.254.0.0/16, fe80::/10 */
    ADDRESS_SITE_LOCAL,    /* fec0::/10 */
    ADDRESS_SHARED,        /* 100.64.0.0/10: carrier-grade NAT */
    ADDRESS_THIS_NETWORK,  /* 0.0.0.0/8, :: */
    ADDRESS_MULTICAST,     /* 224.0.0.0/4, ff00::/8 */
    ADDRESS_DOCUMENTATION, /* 192.0.2.0/24, 2001:db8::/32 ... */
    ADDRESS_BENCHMARKING,  /* 198.18.0.0/15, 2001:2::/48 */
    ADDRESS_DISCARD,       /* 100::/64, 100:0:0:1::/64 */
    ADDRESS_6TO4,          /* 2002::/16, and its relays 192.88.99.0/24 */
    ADDRESS_TEREDO,        /* 2001::/32 */
    ADDRESS_NAT64,         /* 64:ff9b::/96, 64:ff9b:1::/48 */
    ADDRESS_COMPATIBLE,    /* ::/96 and ::ffff:0:0:0/96: IPv4 in IPv6 as nobody does any more */
    ADDRESS_RESERVED, /* 192.0.0.0/24, 240.0.0.0/4, 2001::/23, 5f00::/16, all but 2000::/3 ... */
    ADDRESS_CLASS_COUNT,
};

/* The address in SOCKADDR. False where it is of another family than IPv4 and IPv6. */
bool address_from_socket(const struct sockaddr *sockaddr, struct address *ret_address);

/* TEXT as inet_pton() has it, IPv4 or IPv6 without brackets and zone. */
bool address_parse(const char *text, struct address *ret_address);

/* The class of ADDRESS as it is written, whatever it carries. */
enum address_class address_classify(const struct address *address);

/*
 * Whether ADDRESS carries an IPv4 address to which a translator or relay would take the packets:
 * 6to4, Teredo, NAT64, IPv4-compatible and IPv4-translated addresses.
 */
bool address_carried(const struct address *address, struct address *ret_inner);

/* How many bits ADDRESS has: 32 or 128. */
unsigned address_bits(const struct address *address);

bool address_equals(const struct address *one, const struct address *other);

/* Whether ADDRESS begins with the first PREFIX_BITS of FIRST; never of another family. */
bool address_in_range(const struct address *address, const struct address *first,
                      unsigned prefix_bits);

/*
 * Writes ADDRESS as text in its shortest form. An IPv4-mapped one (::ffff:a.b.c.d) is that IPv4
 * address, and written as such: true.
 */
bool address_print_ipv6(const struct in6_addr *address, char ret_text[INET6_ADDRSTRLEN]);

#endif

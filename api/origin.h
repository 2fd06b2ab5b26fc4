/*
 * Origins: where a fetch goes (scheme, host, port), parsed and made canonical by libcurl's URL
 * parser, so that what is checked is what is fetched.
 *
 * An origin is immutable and counted by reference. Origins are remembered by the text they were
 * parsed from, so that a program that asks for the same host again costs no parsing.
 */
#ifndef WEIR_API_ORIGIN_H
#define WEIR_API_ORIGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct origin {
    bool tls;
    bool literal; /* `name` is an IP address */
    bool ipv6;    /* `name` is an IPv6 address */
    uint16_t port;
    const char *url;       /* "https://example.com:8443/", canonical: for CURLOPT_URL */
    const char *name;      /* lower case, no trailing dot, no brackets: for the resolver */
    const char *host;      /* the limiter's key (limiter/rules.h) */
    const char *authority; /* as it was written: the Host field */
    unsigned references;   /* the module's business */
};

struct origin_cache;

/* Remembers up to ENTRIES origins. NULL when out of memory. */
struct origin_cache *origin_cache_create(size_t entries);

/* Origins that are still held stay good. Accepts NULL. */
void origin_cache_destroy(struct origin_cache *cache);

/*
 * Parses TEXT, BYTES long: "http://" or "https://" and an authority, nothing behind it. Returns
 * the origin, which the caller gives back with origin_release(), or NULL and in *ret_detail a
 * static sentence that says what is wrong and what was expected: another scheme, user
 * information, no host, a port that is not 1 to 65535, a name over 253 bytes, an empty label,
 * bytes that a name cannot hold (non-ASCII: the xn-- form is asked for; percent signs), a name
 * that ends in a number but is no IPv4 address. When out of memory *ret_detail is NULL.
 *
 * Every spelling of an address (127.1, 2130706433, 0x7f.1, 127.0.0.1., [::0001]) gives the same
 * `name` and `host`.
 */
struct origin *origin_parse(struct origin_cache *cache, const char *text, size_t bytes,
                            const char **ret_detail);

/* Another reference to ORIGIN. */
struct origin *origin_hold(struct origin *origin);

/* Gives a reference back. Accepts NULL. */
void origin_release(struct origin *origin);

#endif

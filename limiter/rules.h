/*
 * Rules: which limit a host has. A set of rules has a default and, beside it, exact names and
 * patterns. It is built once, then only read; a reload builds another.
 *
 * A host is written as its key: a lower-case name, an IPv4 address or an IPv6 address in brackets,
 * then ":port" where the port is neither 80 nor 443.
 *
 * A rule's name is "api.example.com", "api.example.com:8443", "*.example.org" or
 * "*.example.org:8443". "*.example.org" matches every name below example.org, not itself. A rule
 * without a port holds for the name on every port. The first of these that exists is the one:
 *   1. the exact name with the port       2. the exact name without it
 *   3. the longest pattern that matches; of two of the same length the one with the port
 *   4. the default.
 *
 * A host that matches has a budget of its own, whose key is the host's; where the rule says
 * `shared` all the hosts that match it have one budget together, whose key is the rule's name.
 */
#ifndef WEIR_LIMITER_RULES_H
#define WEIR_LIMITER_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RULES_HOST_MAX 262 /* the longest key: a name of 255 bytes, ":65535", and the end */

struct rule {
    const char *name;          /* as above; "default" in the default rule */
    uint32_t limit;            /* fetches at once, at least 1 */
    uint32_t queue;            /* how many may wait; 0 lets none */
    uint64_t queue_timeout_ns; /* how long one may wait; 0: not at all */
    bool shared;
};

struct rules;

/* Copies FALLBACK as the default rule (its name is not read). NULL when out of memory. */
struct rules *rules_create(const struct rule *fallback);

void rules_destroy(struct rules *rules);

enum rules_added {
    RULES_ADDED,
    RULES_BAD_NAME,  /* not of a form above, upper case, too long, or a port no key has */
    RULES_DUPLICATE, /* a rule of that name exists */
    RULES_NO_MEMORY,
};

/* Adds a copy of RULE. */
enum rules_added rules_add(struct rules *rules, const struct rule *rule);

/*
 * The rule for HOST; never NULL. RULES keeps owning it. Takes time in the length of HOST and not
 * in the number of rules.
 */
const struct rule *rules_match(const struct rules *rules, const char *host);

/* The number of rules beside the default, and each of them in the order of their adding. */
size_t rules_count(const struct rules *rules);
const struct rule *rules_at(const struct rules *rules, size_t index);
const struct rule *rules_default(const struct rules *rules);

#endif

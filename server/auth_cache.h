/*
 * A bounded memory of credentials that were checked, as keyed hashes (digest.h).
 *
 * It has a fixed size: of those that fall into the same small set the longest unused gives way. All
 * zero is an empty one.
 */
#ifndef WEIR_SERVER_AUTH_CACHE_H
#define WEIR_SERVER_AUTH_CACHE_H

#include "server/digest.h"

#include <stdbool.h>
#include <stdint.h>

#define AUTH_CACHE_SETS 256
#define AUTH_CACHE_WAYS 4

struct auth_cache_entry {
    struct digest digest;
    uint64_t used_ns; /* 0: empty */
    uint64_t until_ns;
};

struct auth_cache {
    struct auth_cache_entry entries[AUTH_CACHE_SETS][AUTH_CACHE_WAYS];
};

/* Whether DIGEST is remembered; that counts as a use. NOW_NS is above 0. */
bool auth_cache_find(struct auth_cache *cache, const struct digest *digest, uint64_t now_ns);

/* Remembers DIGEST until UNTIL_NS, which it no longer is. */
void auth_cache_add(struct auth_cache *cache, const struct digest *digest, uint64_t until_ns,
                    uint64_t now_ns);

/* Forgets all. */
void auth_cache_clear(struct auth_cache *cache);

#endif

#include "server/auth_cache.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

/* A keyed hash is spread evenly, and nobody outside can choose where it falls. */
static struct auth_cache_entry *set_of(struct auth_cache *cache, const struct digest *digest)
{
    _Static_assert(AUTH_CACHE_SETS == 256, "one byte chooses the set");
    return cache->entries[digest->bytes[0]];
}

static bool is_live(const struct auth_cache_entry *entry, uint64_t now_ns)
{
    return entry->used_ns > 0 && entry->until_ns > now_ns;
}

bool auth_cache_find(struct auth_cache *cache, const struct digest *digest, uint64_t now_ns)
{
    assert(now_ns > 0);
    struct auth_cache_entry *set = set_of(cache, digest);
    for (size_t i = 0; i < AUTH_CACHE_WAYS; i++) {
        if (is_live(&set[i], now_ns) && digest_equals(&set[i].digest, digest)) {
            set[i].used_ns = now_ns;
            return true;
        }
    }
    return false;
}

void auth_cache_add(struct auth_cache *cache, const struct digest *digest, uint64_t until_ns,
                    uint64_t now_ns)
{
    assert(now_ns > 0 && until_ns > now_ns);
    struct auth_cache_entry *set = set_of(cache, digest);
    struct auth_cache_entry *chosen = NULL;
    for (size_t i = 0; i < AUTH_CACHE_WAYS; i++) {
        if (set[i].used_ns > 0 && digest_equals(&set[i].digest, digest)) {
            chosen = &set[i];
            break;
        }
        uint64_t used_ns = is_live(&set[i], now_ns) ? set[i].used_ns : 0;
        if (chosen == NULL || used_ns < (is_live(chosen, now_ns) ? chosen->used_ns : 0)) {
            chosen = &set[i];
        }
    }
    *chosen = (struct auth_cache_entry){*digest, now_ns, until_ns};
}

void auth_cache_clear(struct auth_cache *cache)
{
    explicit_bzero(cache, sizeof *cache);
}

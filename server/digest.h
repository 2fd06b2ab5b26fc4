/*
 * Keyed hashes (HMAC-SHA-256) of secrets: what is kept of them in memory, and how they are compared
 * without telling by the time it takes how much of them is right.
 */
#ifndef WEIR_SERVER_DIGEST_H
#define WEIR_SERVER_DIGEST_H

#include <stdbool.h>
#include <stddef.h>

#define DIGEST_BYTES 32

struct digest_key {
    unsigned char bytes[DIGEST_BYTES];
};

struct digest {
    unsigned char bytes[DIGEST_BYTES];
};

/* A random key. False where the kernel gives none. */
bool digest_key_init(struct digest_key *ret_key);

/* False when out of memory. */
bool digest_compute(const struct digest_key *key, const void *data, size_t bytes,
                    struct digest *ret_digest);

/* In constant time. */
bool digest_equals(const struct digest *one, const struct digest *other);

#endif

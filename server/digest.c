#include "server/digest.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/random.h>

bool digest_key_init(struct digest_key *ret_key)
{
    return getrandom(ret_key->bytes, sizeof ret_key->bytes, 0) == (ssize_t)sizeof ret_key->bytes;
}

bool digest_compute(const struct digest_key *key, const void *data, size_t bytes,
                    struct digest *ret_digest)
{
    unsigned length = 0;
    return HMAC(EVP_sha256(), key->bytes, sizeof key->bytes, data, bytes, ret_digest->bytes,
                &length) != NULL &&
           length == sizeof ret_digest->bytes;
}

bool digest_equals(const struct digest *one, const struct digest *other)
{
    return CRYPTO_memcmp(one->bytes, other->bytes, sizeof one->bytes) == 0;
}

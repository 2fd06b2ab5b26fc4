#include "server/identity.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>

/* splitmix64: spreads a counter over all 64 bits. */
static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

void identity_init(struct identity *identity, uint64_t now_ns)
{
    if (getrandom(&identity->seed, sizeof identity->seed, GRND_NONBLOCK) < 0) {
        identity->seed = now_ns;
    }
    identity->ids = 0;
    snprintf(identity->self, sizeof identity->self, "(%016" PRIx64 ")", mix(identity->seed ^ 1));
    snprintf(identity->via, sizeof identity->via, "1.1 weir %s", identity->self);
}

void identity_make_id(struct identity *identity, char *buffer, size_t size)
{
    snprintf(buffer, size, "%016" PRIx64, mix(identity->seed + ++identity->ids));
}

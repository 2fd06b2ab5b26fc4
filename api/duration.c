#include "api/duration.h"

#include <assert.h>
#include <string.h>

#define MS_MAX (UINT64_C(8760) * 3600 * 1000)

static const struct unit {
    const char *name;
    uint64_t ms;
} units[] = {{"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};

#define UNITS (sizeof units / sizeof *units)

bool duration_parse(const char *text, size_t bytes, uint64_t *ret_ns)
{
    assert(text != NULL);
    assert(ret_ns != NULL);

    uint64_t value = 0;
    size_t digits = 0;
    for (; digits < bytes && text[digits] >= '0' && text[digits] <= '9'; digits++) {
        value = value * 10 + (uint64_t)(text[digits] - '0');
        if (value > MS_MAX) {
            return false;
        }
    }
    if (digits == 0) {
        return false;
    }
    if (digits == bytes) {
        if (value != 0) {
            return false;
        }
        *ret_ns = 0;
        return true;
    }
    for (size_t i = 0; i < UNITS; i++) {
        size_t unit_bytes = strlen(units[i].name);
        if (bytes - digits == unit_bytes && memcmp(text + digits, units[i].name, unit_bytes) == 0) {
            if (value > MS_MAX / units[i].ms) {
                return false;
            }
            *ret_ns = value * units[i].ms * DURATION_MS;
            return true;
        }
    }
    return false;
}

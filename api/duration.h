/*
 * Durations as users write them: "250ms", "5s", "2m", "1h", and "0".
 */
#ifndef WEIR_API_DURATION_H
#define WEIR_API_DURATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DURATION_MS       UINT64_C(1000000)
#define DURATION_S        UINT64_C(1000000000)
#define DURATION_EXPECTED "a duration such as 250ms, 5s, 2m or 1h, or 0"

/*
 * Reads TEXT, BYTES long: digits, then ms, s, m or h; 0 needs no unit. At most 8760h. Returns
 * false where it is anything else.
 */
bool duration_parse(const char *text, size_t bytes, uint64_t *ret_ns);

#endif

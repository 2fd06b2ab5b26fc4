/* Percent-encoding (RFC 3986 section 2.1), the way back. */
#ifndef WEIR_API_PERCENT_H
#define WEIR_API_PERCENT_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Decodes the BYTES at TEXT, once, into DECODED, which has room for as many and one more for the
 * '\0' that ends it. What is decoded may hold a '\0' too. False where a percent sign is not
 * followed by two hexadecimal digits.
 */
bool percent_decode(const char *text, size_t bytes, char *decoded, size_t *ret_bytes);

#endif

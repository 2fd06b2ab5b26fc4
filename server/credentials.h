/*
 * The credentials in a request's header fields, read into memory that is wiped afterwards.
 */
#ifndef WEIR_SERVER_CREDENTIALS_H
#define WEIR_SERVER_CREDENTIALS_H

#include "api/headers.h"

#include <stdbool.h>
#include <stddef.h>

#define CREDENTIALS_MAX 640 /* bytes of NAME:PASSWORD; crypt(3) takes passwords of up to 511 */

struct credentials {
    size_t bytes;
    size_t name_bytes;
    char text[CREDENTIALS_MAX + 1]; /* NAME:PASSWORD, no '\0' in it but behind it */
};

enum credentials_found {
    CREDENTIALS_FOUND,
    CREDENTIALS_MISSING,   /* there are none */
    CREDENTIALS_MALFORMED, /* they cannot be right: another scheme, no base64, no colon, too long */
    CREDENTIALS_TWICE,     /* there are several, and which of them counts is in doubt */
};

/*
 * Those of FIELDS: Proxy-Authorization with the Basic scheme (RFC 7617), or Weir-Token, which is
 * NAME:PASSWORD as it is. Only with CREDENTIALS_FOUND must *ret_credentials be wiped; *ret_detail
 * is a static sentence with the others.
 */
enum credentials_found credentials_read(const struct header *fields, size_t count,
                                        struct credentials *ret_credentials,
                                        const char **ret_detail);

/*
 * The token of `Authorization: Bearer TOKEN` (RFC 6750), borrowed from FIELDS; NULL where there is
 * not exactly one.
 */
const char *credentials_bearer(const struct header *fields, size_t count, size_t *ret_bytes);

void credentials_wipe(struct credentials *credentials);

#endif

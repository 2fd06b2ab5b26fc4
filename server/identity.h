/*
 * Who this process is to the requests that pass through it: the comment in its Via, by which it
 * knows its own requests when they come back, and the ids that it gives to requests.
 */
#ifndef WEIR_SERVER_IDENTITY_H
#define WEIR_SERVER_IDENTITY_H

#include <stddef.h>
#include <stdint.h>

#define IDENTITY_ID_SIZE 17 /* of a request's id, with its end */

struct identity {
    uint64_t seed;
    uint64_t ids;
    char self[20]; /* the comment in our Via: headers_check_request() looks for it */
    char via[48];  /* what is added to a request */
};

/* NOW_NS serves as the seed where the system has no better one. */
void identity_init(struct identity *identity, uint64_t now_ns);

/* A request's own id: 16 hexadecimal digits that no other of this process has. */
void identity_make_id(struct identity *identity, char *buffer, size_t size);

#endif

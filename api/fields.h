/*
 * Fields: the header section of a message, gathered line by line as it comes in.
 */
#ifndef WEIR_API_FIELDS_H
#define WEIR_API_FIELDS_H

#include "api/headers.h"

#include <stddef.h>

/* All zero is an empty section. */
struct fields {
    struct header *at; /* COUNT of them, good after fields_settle() */
    size_t count;
    size_t capacity;
    char *text; /* names and values */
    size_t text_bytes;
    size_t text_capacity;
};

enum fields_added { FIELDS_ADDED, FIELDS_MALFORMED, FIELDS_NO_MEMORY };

/*
 * Adds a line, BYTES long and without its end. One that begins with white space goes on the field
 * before it, after a single space (RFC 9112 section 5.2).
 */
enum fields_added fields_add(struct fields *fields, const char *line, size_t bytes);

/* No more lines come: makes the fields readable. Once, before fields_reset(). */
void fields_settle(struct fields *fields);

/* Empties the section; memory of an ordinary size is kept for the next one. */
void fields_reset(struct fields *fields);

/* Frees the memory. */
void fields_finish(struct fields *fields);

#endif

/*
 * What our two kinds of libmicrohttpd daemon, the data port's rooms and the admin port's, have in
 * common: what they are told, so that all its versions serve us alike, and how a request's header
 * fields are read.
 *
 * Version 1.0 mends at will what it takes for a slip: it unfolds header lines, and answers a target
 * with a space in it by a redirect to one without. Told to be strict it refuses them, as we do
 * where an older version, which has no such option, lets them through (api/headers.h). What it
 * refuses itself gets a plain 400 and the end of the connection.
 */
#ifndef WEIR_SERVER_DAEMON_H
#define WEIR_SERVER_DAEMON_H

#include "api/headers.h"

#include <microhttpd.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#if MHD_VERSION >= 0x00097707
/* Without it a connection that is added is put aside, for another thread to take. */
#define DAEMON_ONE_THREAD MHD_USE_NO_THREAD_SAFETY
#define DAEMON_STRICTNESS MHD_OPTION_CLIENT_DISCIPLINE_LVL, 1
#define DAEMON_IS_LAX     false
#else
#define DAEMON_ONE_THREAD 0
#define DAEMON_STRICTNESS MHD_OPTION_STRICT_FOR_CLIENT, 0
#define DAEMON_IS_LAX     true
#endif

/* For MHD_OPTION_EXTERNAL_LOGGER: says nothing, since every client that leaves is a message. */
void daemon_on_message(void *context, const char *format, va_list arguments);

/* What MHD_OPTION_NOTIFY_CONNECTION has left with CONNECTION. */
void *daemon_client(struct MHD_Connection *connection);

/* Fields of a request as they came, in their order; libmicrohttpd's, as long as that lasts. */
struct daemon_fields {
    struct header *at; /* the caller's */
    size_t room;
    size_t count;
    bool overflow;      /* there were more than there was room for */
    bool is_last;       /* nobody can say where the request ends: no other may follow it */
    const char *defect; /* a sentence, static: why no request can be made of them; or NULL */
    const char *last;   /* the name of the last one, where it lies; NULL: there was none */
};

/* A request's first line, where it lies in libmicrohttpd's memory. */
struct daemon_line {
    const char *method;
    const char *target;
    size_t target_bytes; /* before anything in it was decoded or cut off */
    const char *version;
};

/*
 * Reads the header fields of the request that begins with LINE into *fields, of which the caller
 * has set `at` and `room`; the rest is all zero.
 */
void daemon_read_head(struct MHD_Connection *connection, const struct daemon_line *line,
                      struct daemon_fields *fields);

/* The same for the fields behind a chunked body; LAST is the last of the request's head. */
void daemon_read_trailers(struct MHD_Connection *connection, const char *last,
                          struct daemon_fields *fields);

#endif

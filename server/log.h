/*
 * What Weir writes: the access log on stdout, one JSON line a request, and events on stderr, one
 * JSON line each.
 *
 * Lines are gathered and written once a turn. A reader that does not read never holds the service
 * up: what does not fit into a bounded buffer (1 MiB) is dropped, in whole lines, and a later event
 * (`log_dropped`) says how many; where no line can be written, or lines are dropped, the other
 * stream is told at once (`log_blocked`). A stream that cannot be written at all is given up after
 * one event on the other (`log_lost`).
 *
 * Strings may hold any bytes: what JSON cannot hold, what moves a terminal's cursor and each byte
 * that is not part of UTF-8 is written as \u00XX of that byte.
 */
#ifndef WEIR_SERVER_LOG_H
#define WEIR_SERVER_LOG_H

#include "api/config.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct log;

/*
 * Writes to the two descriptors, which it borrows; -1: nowhere. Their flags stay as they are. Both
 * may be the same file; lines then stay whole. NULL when out of memory.
 */
struct log *log_create(int access_fd, int event_fd, bool access, enum config_level level);

/* Drops what has not been written: for a start that failed, of which one line on stderr tells. */
void log_forget(struct log *log);

/* Writes what it can of the rest, without waiting. Accepts NULL. */
void log_destroy(struct log *log);

/* A reload's settings. */
void log_configure(struct log *log, bool access, enum config_level level);

/* One request. Strings may hold any bytes; NULL ones are left out. */
struct log_request {
    const char *id;
    const char *client; /* "127.0.0.1:51234" */
    const char *form;   /* "fetch", "forward", "connect", "upstream", "none" */
    const char *method;
    const char *host;
    const char *path; /* PATH_BYTES of it: without the query */
    size_t path_bytes;
    unsigned status;   /* 0: none was sent */
    uint64_t bytes_in; /* of bodies */
    uint64_t bytes_out;
    uint64_t queue_ns;
    uint64_t fetch_ns;
    uint32_t ahead;      /* in front of it when it arrived */
    const char *outcome; /* "ok", a problem's word, or another of those in README.md, "Logs" */
};

/* One line, as README.md describes it: {"time": RFC 3339 UTC with ms, "id", "client", ...}. */
void log_write_request(struct log *log, const struct log_request *request);

/*
 * One event: {"time", "level", "event": EVENT, and the pairs that follow}: names and values of
 * strings in turn, ended by NULL; a NULL value is left out.
 */
void log_event(struct log *log, enum config_level level, const char *event, ...)
    __attribute__((sentinel));

/* Writes what was gathered; once a turn. Returns true while something is left unwritten. */
bool log_flush(struct log *log);

#endif

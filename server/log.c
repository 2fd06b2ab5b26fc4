/*
 * Lines are built in place at the end of their stream's buffer and leave it when the turn ends, so
 * that a busy turn costs one write.
 *
 * A stream is `open` (fd >= 0) or given up. While open it is `blocked` from a write that was not
 * taken until the next flush, so that a reader that has stopped costs one attempt a turn. Past
 * PENDING_MAX whole lines are dropped and counted; the count is told when there is room again.
 *
 * Never blocking is harder than O_NONBLOCK: that flag belongs to the open file, which a standard
 * stream shares with whoever started us and with our siblings, so setting it would break them. A
 * pipe or terminal is therefore opened a second time, for a file of our own. Where that is not
 * allowed (the file belongs to another user, no /proc) poll() is asked before each write, which is
 * then no longer than what a writable pipe takes at once. A socket has MSG_DONTWAIT. A regular
 * file never blocks in that sense.
 *
 * Where both descriptors are the same file there is one stream: two would cut each other's lines
 * in half whenever one of them is taken only in part.
 */
#include "server/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FIRST_CAPACITY 8192
#define PENDING_MAX    1048576 /* the most that waits to be written */
#define WRITE_EARLY    65536   /* a turn that gathers more than this writes before its end */
#define KEEP_CAPACITY  262144  /* a buffer that grew past this is given back once it is empty */
#define NUMBER_MAX     40

enum way {
    WAY_WRITE,   /* never blocks, or has O_NONBLOCK */
    WAY_SEND,    /* a socket */
    WAY_CAREFUL, /* may block: poll() first, and only PIPE_BUF at once */
};

struct stream {
    const char *name;
    int fd; /* -1: nowhere, or given up */
    bool owned;
    bool blocked;
    enum way way;
    char *memory;
    size_t capacity;
    size_t start; /* of what is not yet written */
    size_t end;
    size_t line;      /* where the line that is being built begins */
    bool overflow;    /* it does not fit */
    uint64_t dropped; /* lines */
    bool told;        /* that it is blocked */
};

struct log {
    struct stream access_stream;
    struct stream event_stream;
    struct stream *events; /* event_stream; access_stream where they are the same file */
    bool access;
    enum config_level level;
    time_t second; /* what `clock` says */
    char clock[sizeof "2000-01-01T00:00:00"];
};

static bool drain(struct log *log, struct stream *stream);

/* --- Bytes --- */

static bool reserve(struct stream *stream, size_t bytes)
{
    size_t pending = stream->end - stream->start;

    if (bytes > PENDING_MAX - pending) {
        return false;
    }
    if (bytes <= stream->capacity - stream->end) {
        return true;
    }
    if (stream->start > 0) {
        memmove(stream->memory, stream->memory + stream->start, pending);
        stream->line -= stream->start;
        stream->start = 0;
        stream->end = pending;
    }
    size_t capacity = stream->capacity == 0 ? FIRST_CAPACITY : stream->capacity;

    while (capacity - pending < bytes) {
        capacity *= 2;
    }
    if (capacity > stream->capacity) {
        char *memory = realloc(stream->memory, capacity);

        if (memory == NULL) {
            return false;
        }
        stream->memory = memory;
        stream->capacity = capacity;
    }
    return true;
}

static void put(struct stream *stream, const char *bytes, size_t count)
{
    if (stream->overflow || !reserve(stream, count)) {
        stream->overflow = true;
        return;
    }
    memcpy(stream->memory + stream->end, bytes, count);
    stream->end += count;
}

static void put_text(struct stream *stream, const char *text)
{
    put(stream, text, strlen(text));
}

/* How many bytes the UTF-8 character at TEXT has; 0 where it is none, or one to be escaped. */
static size_t plain_bytes(const unsigned char *text, size_t bytes)
{
    static const uint32_t first[] = {0, 0, 0x80, 0x800, 0x10000}; /* shorter forms exist below */
    size_t length = text[0] < 0x80 ? 1 : text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : 4;

    if (length == 1) {
        return text[0] >= 0x20 && text[0] != 0x7f && text[0] != '"' && text[0] != '\\';
    }
    if (text[0] < 0xc2 || text[0] > 0xf4 || length > bytes) {
        return 0;
    }
    uint32_t character = text[0] & (0xffu >> (length + 1));

    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            return 0;
        }
        character = character << 6 | (text[i] & 0x3fu);
    }
    bool surrogate = character >= 0xd800 && character <= 0xdfff;
    bool control = character < 0xa0; /* U+0080 to U+009F move a terminal's cursor too */

    return character < first[length] || character > 0x10ffff || surrogate || control ? 0 : length;
}

static void put_escaped(struct stream *stream, unsigned char byte)
{
    static const char digits[] = "0123456789abcdef";
    char text[] = {'\\', 'u', '0', '0', digits[byte >> 4], digits[byte & 15]};

    if (byte == '"' || byte == '\\') {
        put(stream, (char[]){'\\', (char)byte}, 2);
    } else {
        put(stream, text, sizeof text);
    }
}

static void put_string(struct stream *stream, const char *text, size_t bytes)
{
    const unsigned char *at = (const unsigned char *)text;
    size_t plain = 0; /* how many bytes before AT can be copied as they are */

    put(stream, "\"", 1);
    while (bytes > 0) {
        size_t length = plain_bytes(at, bytes);

        if (length == 0) {
            put(stream, (const char *)at - plain, plain);
            put_escaped(stream, *at);
            plain = 0;
            length = 1;
        } else {
            plain += length;
        }
        at += length;
        bytes -= length;
    }
    put(stream, (const char *)at - plain, plain);
    put(stream, "\"", 1);
}

static void put_member(struct stream *stream, const char *name, const char *value, size_t bytes)
{
    if (value != NULL) {
        put(stream, ",", 1);
        put_string(stream, name, strlen(name));
        put(stream, ":", 1);
        put_string(stream, value, bytes);
    }
}

static void put_text_member(struct stream *stream, const char *name, const char *value)
{
    put_member(stream, name, value, value == NULL ? 0 : strlen(value));
}

/* NAME comes with its comma, quotes and colon: these names are known. */
static void put_number(struct stream *stream, const char *name, uint64_t number)
{
    char text[NUMBER_MAX];
    size_t at = sizeof text;

    do {
        text[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    put_text(stream, name);
    put(stream, text + at, sizeof text - at);
}

static void put_ms(struct stream *stream, const char *name, uint64_t ns)
{
    unsigned us = (unsigned)(ns / 1000 % 1000);

    put_number(stream, name, ns / 1000000);
    put(stream,
        (char[]){'.', (char)('0' + us / 100), (char)('0' + us / 10 % 10), (char)('0' + us % 10)},
        4);
}

/* --- Lines --- */

/* False where the line goes nowhere. */
static bool begin_line(struct log *log, struct stream *stream)
{
    struct timespec now;

    if (stream->end - stream->start > WRITE_EARLY && !stream->blocked) {
        (void)drain(log, stream);
    }
    if (stream->fd < 0) {
        return false;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    if (now.tv_sec != log->second) {
        struct tm utc;

        if (gmtime_r(&now.tv_sec, &utc) == NULL ||
            strftime(log->clock, sizeof log->clock, "%Y-%m-%dT%H:%M:%S", &utc) == 0) {
            memset(log->clock, '?', sizeof log->clock - 1); /* past the year 9999 */
        }
        log->second = now.tv_sec;
    }
    unsigned ms = (unsigned)(now.tv_nsec / 1000000);
    char rest[] = {
        '.', (char)('0' + ms / 100), (char)('0' + ms / 10 % 10), (char)('0' + ms % 10), 'Z', '"'};

    stream->line = stream->end;
    stream->overflow = false;
    put_text(stream, "{\"time\":\"");
    put(stream, log->clock, sizeof log->clock - 1);
    put(stream, rest, sizeof rest);
    return true;
}

static void end_line(struct stream *stream)
{
    put(stream, "}\n", 2);
    if (stream->overflow) {
        stream->end = stream->line;
        stream->dropped++;
    }
}

static const char *level_word(enum config_level level)
{
    switch (level) {
    case CONFIG_LEVEL_ERROR:
        return "error";
    case CONFIG_LEVEL_WARNING:
        return "warning";
    case CONFIG_LEVEL_INFO:
        return "info";
    }
    assert(false);
    return "";
}

static void begin_event(struct stream *stream, enum config_level level, const char *event)
{
    put_text_member(stream, "level", level_word(level));
    put_text_member(stream, "event", event);
}

/* --- Streams --- */

static bool can_be_written(int fd, struct stat *ret_status)
{
    int flags = fcntl(fd, F_GETFL);

    return flags >= 0 && (flags & O_PATH) == 0 && (flags & O_ACCMODE) != O_RDONLY &&
           fstat(fd, ret_status) == 0;
}

static enum way find_way(struct stream *stream, const struct stat *status)
{
    char path[sizeof "/proc/self/fd/" + NUMBER_MAX];
    int flags = fcntl(stream->fd, F_GETFL);

    if (S_ISSOCK(status->st_mode)) {
        return WAY_SEND;
    }
    if (S_ISREG(status->st_mode) || (flags >= 0 && (flags & O_NONBLOCK) != 0)) {
        return WAY_WRITE;
    }
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", stream->fd);
    int fd = open(path, O_WRONLY | O_NONBLOCK | O_APPEND | O_CLOEXEC | O_NOCTTY);

    if (fd < 0) {
        return WAY_CAREFUL;
    }
    stream->fd = fd;
    stream->owned = true;
    return WAY_WRITE;
}

static void open_stream(struct stream *stream, const char *name, int fd, const struct stat *status)
{
    stream->name = name;
    stream->fd = fd;
    stream->way = fd >= 0 ? find_way(stream, status) : WAY_WRITE;
}

static void close_stream(struct stream *stream)
{
    if (stream->owned) {
        close(stream->fd);
    }
    free(stream->memory);
    *stream = (struct stream){.name = stream->name, .fd = -1};
}

/* Tells what has become of STREAM on the other one. */
static void give_up(struct log *log, struct stream *stream, int error)
{
    struct stream *other = stream == &log->access_stream ? log->events : &log->access_stream;

    close_stream(stream);
    if (other != stream && begin_line(log, other)) {
        begin_event(other, CONFIG_LEVEL_ERROR, "log_lost");
        put_text_member(other, "stream", stream->name);
        put_text_member(other, "error", strerror(error));
        end_line(other);
    }
}

static ssize_t write_some(const struct stream *stream, const char *bytes, size_t count)
{
    struct pollfd room = {.fd = stream->fd, .events = POLLOUT};

    switch (stream->way) {
    case WAY_SEND:
        return send(stream->fd, bytes, count, MSG_DONTWAIT | MSG_NOSIGNAL);
    case WAY_CAREFUL:
        if (poll(&room, 1, 0) <= 0) {
            errno = EAGAIN;
            return -1;
        }
        return write(stream->fd, bytes, count < PIPE_BUF ? count : PIPE_BUF);
    case WAY_WRITE:
        return write(stream->fd, bytes, count);
    }
    assert(false);
    return -1;
}

/* Tells on the other one, once, why nothing can be written to STREAM. */
static void tell_of_block(struct log *log, struct stream *stream, int error)
{
    struct stream *other = stream == &log->access_stream ? log->events : &log->access_stream;

    if (stream->told) {
        return;
    }
    stream->told = true;
    if (other != stream && begin_line(log, other)) {
        begin_event(other, CONFIG_LEVEL_WARNING, "log_blocked");
        put_text_member(other, "stream", stream->name);
        put_text_member(other, "error", strerror(error));
        end_line(other);
    }
}

/* Whether what failed with ERROR may work later: a full reader, a full disk, or file. */
static bool passes(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == ENOSPC || error == EDQUOT ||
           error == EFBIG || error == ENOBUFS || error == ENOMEM;
}

/* Writes what is taken without waiting. Returns true while something is left. */
static bool drain(struct log *log, struct stream *stream)
{
    stream->blocked = false;
    while (stream->start < stream->end) {
        ssize_t written =
            write_some(stream, stream->memory + stream->start, stream->end - stream->start);

        if (written > 0) {
            stream->start += (size_t)written;
        } else if (written == 0 || passes(errno)) {
            int error = written == 0 ? EAGAIN : errno;

            stream->blocked = true;
            if (error != EAGAIN || stream->dropped > 0) { /* a reader may only be slow */
                tell_of_block(log, stream, error);
            }
            return true;
        } else if (errno != EINTR) {
            give_up(log, stream, errno);
            return false;
        }
    }
    stream->start = 0;
    stream->end = 0;
    stream->told = false;
    if (stream->capacity > KEEP_CAPACITY) {
        free(stream->memory);
        stream->memory = NULL;
        stream->capacity = 0;
    }
    return false;
}

/* Tells how many lines STREAM lost, once it flows again. */
static void report_dropped(struct log *log, struct stream *stream)
{
    char lines[NUMBER_MAX];

    if (stream->dropped == 0 || stream->fd < 0 || stream->end - stream->start > PENDING_MAX / 2) {
        return;
    }
    (void)snprintf(lines, sizeof lines, "%llu", (unsigned long long)stream->dropped);
    stream->dropped = 0;
    log_event(log, CONFIG_LEVEL_WARNING, "log_dropped", "stream", stream->name, "lines", lines,
              (char *)NULL);
}

/* --- The interface --- */

struct log *log_create(int access_fd, int event_fd, bool access, enum config_level level)
{
    struct log *log = calloc(1, sizeof *log);
    struct stat a = {0};
    struct stat e = {0};

    if (log == NULL) {
        return NULL;
    }
    /* Found out before anything is opened: a closed descriptor's number would be taken again. */
    bool access_bad = access_fd >= 0 && !can_be_written(access_fd, &a);
    bool event_bad = event_fd >= 0 && !can_be_written(event_fd, &e);
    bool same = access_fd >= 0 && event_fd >= 0 && !access_bad && !event_bad &&
                a.st_dev == e.st_dev && a.st_ino == e.st_ino;

    open_stream(&log->access_stream, "access", access_bad ? -1 : access_fd, &a);
    open_stream(&log->event_stream, "event", event_bad || same ? -1 : event_fd, &e);
    log->events = same ? &log->access_stream : &log->event_stream;
    log->second = -1;
    log_configure(log, access, level);
    if (access_bad) {
        give_up(log, &log->access_stream, EBADF);
    }
    if (event_bad) {
        give_up(log, &log->event_stream, EBADF);
    }
    return log;
}

void log_forget(struct log *log)
{
    log->access_stream.start = log->access_stream.end = 0;
    log->event_stream.start = log->event_stream.end = 0;
}

void log_destroy(struct log *log)
{
    if (log == NULL) {
        return;
    }
    (void)log_flush(log);
    close_stream(&log->access_stream);
    close_stream(&log->event_stream);
    free(log);
}

void log_configure(struct log *log, bool access, enum config_level level)
{
    log->access = access;
    log->level = level;
}

void log_write_request(struct log *log, const struct log_request *request)
{
    struct stream *stream = &log->access_stream;

    if (!log->access || !begin_line(log, stream)) {
        return;
    }
    put_text_member(stream, "id", request->id);
    put_text_member(stream, "client", request->client);
    put_text_member(stream, "form", request->form);
    put_text_member(stream, "method", request->method);
    put_text_member(stream, "host", request->host);
    put_member(stream, "path", request->path, request->path_bytes);
    put_number(stream, ",\"status\":", request->status);
    put_number(stream, ",\"bytes_in\":", request->bytes_in);
    put_number(stream, ",\"bytes_out\":", request->bytes_out);
    put_ms(stream, ",\"queue_ms\":", request->queue_ns);
    put_ms(stream, ",\"fetch_ms\":", request->fetch_ns);
    put_number(stream, ",\"ahead\":", request->ahead);
    put_text_member(stream, "outcome", request->outcome);
    end_line(stream);
}

void log_event(struct log *log, enum config_level level, const char *event, ...)
{
    struct stream *stream = log->events;
    const char *name;
    va_list pairs;

    if (level > log->level || !begin_line(log, stream)) {
        return;
    }
    begin_event(stream, level, event);
    va_start(pairs, event);
    while ((name = va_arg(pairs, const char *)) != NULL) {
        put_text_member(stream, name, va_arg(pairs, const char *));
    }
    va_end(pairs);
    end_line(stream);
}

bool log_flush(struct log *log)
{
    struct stream *access = &log->access_stream;
    struct stream *events = &log->event_stream;

    (void)drain(log, access);
    (void)drain(log, events);
    report_dropped(log, access);
    report_dropped(log, events);
    /* What these have told of each other should not wait for another turn. */
    bool left_access = access->blocked || drain(log, access);
    bool left_events = events->blocked || drain(log, events);

    return left_access || left_events;
}

#include "server/reply.h"
#include "server/tunnel_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

static void write_field(void *context, const char *name, const char *value)
{
    FILE *stream = context;
    fprintf(stream, "%s: %s\r\n", name, value);
}

static void write_own_fields(const struct tunnel *tunnel, FILE *stream)
{
    struct reply_times times = {
        .queue_ns = tunnel->queue_ns,
        .started_ns = tunnel->started_ns,
        .connected_ns = tunnel->connected_ns,
    };
    reply_write_own(&times, tunnel->request_id, write_field, stream);
}

static void write_date(FILE *stream)
{
    static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t now = time(NULL);
    struct tm date;
    if (gmtime_r(&now, &date) != NULL) { /* strftime() would ask the locale for the names */
        fprintf(stream, "Date: %s, %02d %s %d %02d:%02d:%02d GMT\r\n", days[date.tm_wday],
                date.tm_mday, months[date.tm_mon], date.tm_year + 1900, date.tm_hour, date.tm_min,
                date.tm_sec);
    }
}

/*
 * The first bytes on a connection, few enough for its empty buffer: a client that makes even that
 * fail does not read.
 */
static bool send_all(const struct tunnel *tunnel, const char *text, size_t bytes)
{
    int fd = tunnel->relay.wires[RELAY_CLIENT]->fd;
    return send(fd, text, bytes, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)bytes;
}

/* Ends STREAM, which was writing *TEXT, and sends that. */
static bool send_stream(const struct tunnel *tunnel, FILE *stream, char **text, size_t *bytes)
{
    bool good = fclose(stream) == 0 && send_all(tunnel, *text, *bytes);
    free(*text);
    return good;
}

bool tunnel_send_opened(struct tunnel *tunnel)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *stream = open_memstream(&text, &bytes);
    if (stream == NULL) {
        return false;
    }
    tunnel->status = 200;
    fputs("HTTP/1.1 200 Connection established\r\n", stream);
    write_own_fields(tunnel, stream);
    fputs("\r\n", stream);
    return send_stream(tunnel, stream, &text, &bytes);
}

void tunnel_send_problem(struct tunnel *tunnel, enum problem problem)
{
    struct problem_report report = {
        .problem = problem,
        .overflow_status = tunnel->all->settings.overflow_status,
        .detail = tunnel->detail,
        .host = tunnel->origin != NULL ? tunnel->origin->host : NULL,
        .queued = tunnel->host_queued,
        .limit = tunnel->host_limit,
    };
    char *text = NULL;
    size_t bytes = 0;
    size_t body_bytes = 0;
    char *body = problem_body(&report, &body_bytes);
    FILE *stream = open_memstream(&text, &bytes);
    tunnel->status = problem_status(problem, report.overflow_status);
    if (body != NULL && stream != NULL) {
        fprintf(stream, "HTTP/1.1 %u %s\r\n", tunnel->status, problem_kind(problem)->title);
        write_date(stream);
        reply_write_problem(&report, tunnel->retry_ns, write_field, stream);
        write_own_fields(tunnel, stream);
        fprintf(stream, "Content-Length: %zu\r\nConnection: close\r\n\r\n", body_bytes);
        fwrite(body, 1, body_bytes, stream);
    }
    if (stream != NULL) {
        (void)send_stream(tunnel, stream, &text, &bytes);
    }
    free(body);
}

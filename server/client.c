/*
 * One client's requests, in libmicrohttpd's terms: its callbacks, which hand everything to the
 * exchange and ask it what to do next. See client.h and exchange.h.
 *
 * libmicrohttpd calls client_on_request() when the head is there, for each piece of the body, and
 * when the request is complete. A call that neither takes anything nor answers must suspend the
 * connection, or it is repeated at once, for ever. An answer given at the first call closes the
 * connection afterwards; during the body none can be given.
 */
#include "server/client.h"

#include "server/daemon.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES      65536 /* of an answer whose length is known, at a time */
#define FEW_FIELDS       48    /* a request's fields are gathered on the stack up to this many */
#define HEAD_SLACK       512   /* of header_bytes: status line and what libmicrohttpd adds */
#define POOL_ENTRY_BYTES 64    /* what libmicrohttpd keeps for each field of a request */

static void suspend(struct client *client)
{
    assert(!client->suspended);
    client->suspended = true;
    client->frontend->suspended++;
    MHD_suspend_connection(client->connection);
}

/* --- the request --- */

void *client_on_target(void *context, const char *target, struct MHD_Connection *connection)
{
    struct frontend *frontend = context;
    struct client *client = daemon_client(connection);
    client->exchange = exchange_create(frontend->exchanges, target, client->address, client);
    client->requests++;
    client->target_bytes = strlen(target);
    frontend_set_idle(client, false);
    client->head_only = true;
    if (client->requests > 1) { /* the first one's time began with the connection */
        wheel_arm(&frontend->wheel, &client->timer, frontend->now_ns + frontend->settings.head_ns);
    }

    /* The copy is what counts from here on; libmicrohttpd need not take the query apart. */
    char *query = strchr((char *)(uintptr_t)target, '?');
    if (query != NULL) {
        query[1] = '\0';
    }
    return client->exchange;
}

size_t client_on_unescape(void *context, struct MHD_Connection *connection, char *text)
{
    (void)context, (void)connection;
    return strlen(text);
}

/*
 * Room for the fields of KIND: FEW where they fit, else memory that the caller frees. Returns false
 * when out of memory.
 */
static bool make_room(const struct client *client, enum MHD_ValueKind kind, struct header *few,
                      struct daemon_fields *ret_fields)
{
    int count = MHD_get_connection_values(client->connection, kind, NULL, NULL);
    struct daemon_fields fields = {.at = few, .room = count > 0 ? (size_t)count : 0};
    if (fields.room > FEW_FIELDS) {
        fields.at = malloc(fields.room * sizeof *few);
        if (fields.at == NULL) {
            return false;
        }
    }
    *ret_fields = fields;
    return true;
}

static bool begin(struct client *client, const struct daemon_line *line)
{
    struct frontend *frontend = client->frontend;
    struct header few[FEW_FIELDS];
    struct daemon_fields fields;
    wheel_disarm(&frontend->wheel, &client->timer);
    if (!make_room(client, MHD_HEADER_KIND, few, &fields)) {
        return false;
    }
    daemon_read_head(client->connection, line, &fields);
    client->is_last = fields.is_last;
    client->last_field = fields.last;
    struct headers_request request = {
        .method = line->method,
        .http_1_0 = strcmp(line->version, MHD_HTTP_VERSION_1_0) == 0,
        .fields = fields.at,
        .count = fields.count,
    };
    exchange_begin(client->exchange, &request, fields.defect, frontend->now_ns);
    if (fields.at != few) {
        free(fields.at);
    }
    return true;
}

static bool end_upload(struct client *client)
{
    struct header few[FEW_FIELDS];
    struct daemon_fields fields;
    if (!make_room(client, MHD_FOOTER_KIND, few, &fields)) {
        return false;
    }
    daemon_read_trailers(client->connection, client->last_field, &fields);
    if (fields.defect != NULL) {
        exchange_abort(client->exchange, problem_kind(PROBLEM_BAD_REQUEST)->word);
    }
    exchange_upload_end(client->exchange, fields.at, fields.count, client->frontend->now_ns);
    if (fields.at != few) {
        free(fields.at);
    }
    return true;
}

/* --- the answer --- */

static void on_footer(void *context, const char *name, const char *value)
{
    struct client *client = context;
    (void)MHD_add_response_footer(client->response, name, *value != '\0' ? value : " ");
}

static ssize_t on_read(void *context, uint64_t position, char *buffer, size_t size)
{
    struct client *client = context;
    size_t bytes = 0;
    (void)position;
    switch (exchange_read(client->exchange, buffer, size, &bytes, on_footer, client)) {
    case EXCHANGE_BYTES:
        return (ssize_t)bytes;
    case EXCHANGE_LATER:
        suspend(client);
        return 0;
    case EXCHANGE_END:
        return MHD_CONTENT_READER_END_OF_STREAM;
    case EXCHANGE_BROKEN:
        break;
    }
    return MHD_CONTENT_READER_END_WITH_ERROR;
}

struct head_writer {
    struct MHD_Response *response;
    size_t bytes;
};

static void on_answer_field(void *context, const char *name, const char *value)
{
    struct head_writer *writer = context;
    writer->bytes += strlen(name) + strlen(value) + 5;
    /* libmicrohttpd takes no empty value; a blank one is the same on the wire (RFC 9110 5.5) */
    (void)MHD_add_response_header(writer->response, name, *value != '\0' ? value : " ");
}

static struct MHD_Response *create_response(struct client *client,
                                            const struct exchange_answer *answer)
{
    if (answer->body != NULL) {
        return MHD_create_response_from_buffer_with_free_callback(answer->length, answer->body,
                                                                  free);
    }
    if (answer->status == 204 || (!answer->no_body && answer->has_length && answer->length == 0)) {
        return MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    }
    struct MHD_Response *response = MHD_create_response_from_callback(
        answer->has_length ? answer->length : MHD_SIZE_UNKNOWN, BLOCK_BYTES, on_read, client, NULL);
    if (response != NULL && answer->no_body && !answer->has_length) {
        /* without this 0.9.75 sends the end of a chunked body that never began */
        (void)MHD_set_response_options(response, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END);
    }
    return response;
}

/* How large the answer's head may be: it shares its memory with the request's. */
static size_t head_room(struct client *client)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(client->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    int fields = MHD_get_connection_values(client->connection, MHD_HEADER_KIND, NULL, NULL);
    size_t used = info->header_size + (size_t)(fields > 0 ? fields : 0) * POOL_ENTRY_BYTES;
    size_t room = client->frontend->settings.header_bytes;
    return room > used + HEAD_SLACK ? room - used - HEAD_SLACK : 0;
}

static enum MHD_Result send_answer(struct client *client)
{
    struct frontend *frontend = client->frontend;
    for (int attempt = 0; attempt < 2; attempt++) {
        struct exchange_answer answer = exchange_answer(client->exchange, frontend->now_ns);
        struct head_writer writer = {create_response(client, &answer), 0};
        if (writer.response == NULL) {
            free(answer.body);
            return MHD_NO;
        }
        exchange_answer_fields(client->exchange, on_answer_field, &writer);
        if (answer.close || frontend->is_crowded || client->is_last) {
            (void)MHD_add_response_header(writer.response, "Connection", "close");
        }
        if (attempt == 0 && writer.bytes > head_room(client)) {
            MHD_destroy_response(writer.response);
            exchange_reject_answer(client->exchange, PROBLEM_UPSTREAM_PROTOCOL_ERROR,
                                   "the answer's header does not fit into header_bytes");
            continue;
        }
        client->response = writer.response;
        enum MHD_Result result =
            MHD_queue_response(client->connection, answer.status, writer.response);
        MHD_destroy_response(writer.response);
        return result;
    }
    return MHD_NO;
}

enum MHD_Result client_on_request(void *context, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *data_bytes, void **state)
{
    struct frontend *frontend = context;
    struct client *client = daemon_client(connection);
    struct exchange *exchange = *state;
    if (exchange == NULL) {
        return MHD_NO; /* there was no memory for it */
    }
    struct daemon_line line = {method, url, client->target_bytes, version};
    if (!exchange_begun(exchange) && !begin(client, &line)) {
        return MHD_NO;
    }
    if (*data_bytes > 0) {
        *data_bytes -= exchange_upload(exchange, data, *data_bytes, frontend->now_ns);
        if (exchange_aborted(exchange)) {
            return MHD_NO;
        }
        if (*data_bytes > 0) {
            suspend(client);
        }
        return MHD_YES;
    }
    bool head_only = client->head_only;
    if (!head_only && !end_upload(client)) {
        return MHD_NO;
    }
    switch (exchange_step(exchange, head_only)) {
    case EXCHANGE_WAIT:
        suspend(client);
        return MHD_YES;
    case EXCHANGE_READ:
        client->head_only = false;
        return MHD_YES;
    case EXCHANGE_ANSWER:
        client->is_unread = head_only; /* libmicrohttpd then closes the connection */
        return send_answer(client);
    case EXCHANGE_CUT:
        break;
    }
    return MHD_NO;
}

/* Whether it was libmicrohttpd that ended the request, because of what the client sent. */
static bool was_refused(const struct client *client, const struct exchange *exchange,
                        enum MHD_RequestTerminationCode code)
{
    if (client->is_cut || client->is_gone || exchange_aborted(exchange)) {
        return false;
    }
    return !exchange_begun(exchange) || (code == MHD_REQUEST_TERMINATED_WITH_ERROR &&
                                         client->response == NULL && !frontend_has_left(client));
}

void client_on_completed(void *context, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode code)
{
    struct frontend *frontend = context;
    struct client *client = daemon_client(connection);
    struct exchange *exchange = *state;
    *state = NULL;
    if (exchange != NULL) {
        enum exchange_end how = was_refused(client, exchange, code) ? EXCHANGE_REJECTED
                                : code == MHD_REQUEST_TERMINATED_COMPLETED_OK
                                    ? EXCHANGE_SENT
                                    : EXCHANGE_CLIENT_GONE;
        exchange_end(exchange, how, MHD_HTTP_BAD_REQUEST);
    }
    client->exchange = NULL;
    client->response = NULL;
    if (code != MHD_REQUEST_TERMINATED_COMPLETED_OK) {
        /* It is closed only when the room runs once more and looks at it: which libmicrohttpd does
         * for sure with connections that have a timeout of their own. */
        (void)MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, 1U);
        frontend_mark_dirty(client->room);
    } else {
        frontend_set_idle(client, true);
    }
    wheel_arm(&frontend->wheel, &client->timer, frontend->now_ns + frontend->settings.keepalive_ns);
}

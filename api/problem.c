#include "api/problem.h"

#include <assert.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROXY_STATUS_MAX 300

static const struct problem_kind kinds[] = {
    [PROBLEM_BAD_REQUEST] = {.word = "bad_request",
                             .status = 400,
                             .proxy_status = "http_request_error",
                             .title = "The request is malformed."},
    [PROBLEM_BAD_TARGET] = {.word = "bad_target",
                            .status = 400,
                            .proxy_status = "http_request_error",
                            .title = "The address to fetch is malformed."},
    [PROBLEM_EXPECTATION_FAILED] = {.word = "expectation_failed",
                                    .status = 417,
                                    .proxy_status = "http_request_error",
                                    .title = "The request expects something unknown."},
    [PROBLEM_AUTH_REQUIRED] = {.word = "auth_required",
                               .status = 407,
                               .proxy_status = "http_request_denied",
                               .title = "This proxy asks for credentials.",
                               .challenge_field = "Proxy-Authenticate",
                               .challenge = "Basic realm=\"weir\""},
    [PROBLEM_ADMIN_AUTH_REQUIRED] = {.word = "auth_required",
                                     .status = 401,
                                     .proxy_status = "http_request_denied",
                                     .title = "The admin port asks for credentials.",
                                     .challenge_field = "WWW-Authenticate",
                                     .challenge = "Bearer realm=\"weir\""},
    [PROBLEM_ADMIN_DENIED] = {.word = "denied",
                              .status = 403,
                              .proxy_status = "http_request_denied",
                              .title = "The admin port does not allow this."},
    [PROBLEM_AUTH_BUSY] = {.word = "auth_busy",
                           .status = 503,
                           .proxy_status = "connection_limit_reached",
                           .title = "Too many credentials are being checked.",
                           .overflow = true,
                           .retry = true},
    [PROBLEM_DENIED_NAME] = {.word = "denied",
                             .status = 403,
                             .proxy_status = "http_request_denied",
                             .title = "This host or port may not be reached."},
    [PROBLEM_DENIED_ADDRESS] = {.word = "denied",
                                .status = 403,
                                .proxy_status = "destination_ip_prohibited",
                                .title = "The address of this host may not be reached."},
    [PROBLEM_UNKNOWN_UPSTREAM] = {.word = "unknown_upstream",
                                  .status = 404,
                                  .title = "No upstream has this name."},
    [PROBLEM_NOT_FOUND] = {.word = "not_found", .status = 404, .title = "There is nothing here."},
    [PROBLEM_METHOD_NOT_ALLOWED] = {.word = "method_not_allowed",
                                    .status = 405,
                                    .title = "This method is not for this resource."},
    [PROBLEM_BODY_TOO_LARGE] = {.word = "body_too_large",
                                .status = 413,
                                .proxy_status = "http_request_error",
                                .title = "The request body is too large."},
    [PROBLEM_HEADER_TOO_LARGE] = {.word = "header_too_large",
                                  .status = 431,
                                  .proxy_status = "http_request_error",
                                  .title = "The request header section is too large."},
    [PROBLEM_LOOP] = {.word = "loop",
                      .status = 508,
                      .proxy_status = "proxy_loop_detected",
                      .title = "The request came back to this proxy through itself."},
    [PROBLEM_QUEUE_FULL] = {.word = "queue_full",
                            .status = 503,
                            .proxy_status = "connection_limit_reached",
                            .title = "The queue is full.",
                            .overflow = true,
                            .retry = true},
    [PROBLEM_QUEUE_TIMEOUT] = {.word = "queue_timeout",
                               .status = 503,
                               .proxy_status = "connection_limit_reached",
                               .title = "The request waited in the queue as long as it may.",
                               .overflow = true,
                               .retry = true},
    [PROBLEM_HOSTS_FULL] = {.word = "hosts_full",
                            .status = 503,
                            .proxy_status = "connection_limit_reached",
                            .title = "Too many hosts are in use at once.",
                            .overflow = true,
                            .retry = true},
    [PROBLEM_BUFFERS_FULL] = {.word = "buffers_full",
                              .status = 503,
                              .proxy_status = "connection_limit_reached",
                              .title = "Too many bytes are on their way at once.",
                              .overflow = true,
                              .retry = true},
    [PROBLEM_CLIENT_FULL] = {.word = "client_full",
                             .status = 503,
                             .proxy_status = "connection_limit_reached",
                             .title = "This client has too many connections at once.",
                             .overflow = true,
                             .retry = true},
    [PROBLEM_DRAINING] = {.word = "draining",
                          .status = 503,
                          .proxy_status = "destination_unavailable",
                          .title = "The proxy is shutting down.",
                          .retry = true},
    [PROBLEM_PAUSED] = {.word = "paused",
                        .status = 503,
                        .proxy_status = "destination_unavailable",
                        .title = "Requests for this host are paused.",
                        .retry = true},
    [PROBLEM_DNS_ERROR] = {.word = "dns_error",
                           .status = 502,
                           .proxy_status = "dns_error",
                           .title = "The host name could not be resolved."},
    [PROBLEM_DNS_TIMEOUT] = {.word = "dns_timeout",
                             .status = 504,
                             .proxy_status = "dns_timeout",
                             .title = "Resolving the host name took too long."},
    [PROBLEM_CONNECTION_REFUSED] = {.word = "connection_refused",
                                    .status = 502,
                                    .proxy_status = "connection_refused",
                                    .title = "The upstream did not accept a connection."},
    [PROBLEM_CONNECTION_TIMEOUT] = {.word = "connection_timeout",
                                    .status = 504,
                                    .proxy_status = "connection_timeout",
                                    .title = "Connecting to the upstream took too long."},
    [PROBLEM_TLS_CERTIFICATE_ERROR] = {.word = "tls_certificate_error",
                                       .status = 502,
                                       .proxy_status = "tls_certificate_error",
                                       .title = "The certificate of the upstream is not valid."},
    [PROBLEM_TLS_PROTOCOL_ERROR] = {.word = "tls_protocol_error",
                                    .status = 502,
                                    .proxy_status = "tls_protocol_error",
                                    .title = "TLS with the upstream failed."},
    [PROBLEM_UPSTREAM_TIMEOUT] = {.word = "upstream_timeout",
                                  .status = 504,
                                  .proxy_status = "http_response_timeout",
                                  .title = "The upstream took too long to answer."},
    [PROBLEM_UPSTREAM_INCOMPLETE] = {.word = "upstream_incomplete",
                                     .status = 502,
                                     .proxy_status = "http_response_incomplete",
                                     .title = "The upstream broke off before it had answered."},
    [PROBLEM_UPSTREAM_PROTOCOL_ERROR] = {.word = "upstream_protocol_error",
                                         .status = 502,
                                         .proxy_status = "http_protocol_error",
                                         .title = "The answer of the upstream is not valid HTTP."},
    [PROBLEM_INTERNAL] = {.word = "internal",
                          .status = 500,
                          .proxy_status = "proxy_internal_error",
                          .title = "The proxy failed."},
};

_Static_assert(sizeof kinds / sizeof *kinds == PROBLEM_COUNT, "every problem has its line");

const struct problem_kind *problem_kind(enum problem problem)
{
    assert(problem > PROBLEM_NONE && problem < PROBLEM_COUNT);
    assert(kinds[problem].word != NULL);
    return &kinds[problem];
}

unsigned problem_status(enum problem problem, unsigned overflow_status)
{
    const struct problem_kind *kind = problem_kind(problem);
    if (!kind->overflow) {
        return kind->status;
    }
    assert(overflow_status == 503 || overflow_status == 429);
    return overflow_status;
}

/*
 * The length of the UTF-8 sequence at TEXT, which ends in '\0', or 0 where there is none: what
 * json_string() would refuse.
 */
static size_t utf8_sequence(const unsigned char *text)
{
    unsigned char lead = text[0];
    if (lead < 0x80) {
        return 1;
    }
    if (lead < 0xc2 || lead > 0xf4) {
        return 0;
    }
    size_t bytes = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    for (size_t i = 1; i < bytes; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    bool overlong = (lead == 0xe0 && text[1] < 0xa0) || (lead == 0xf0 && text[1] < 0x90);
    bool surrogate = lead == 0xed && text[1] >= 0xa0;
    bool too_large = lead == 0xf4 && text[1] >= 0x90;
    return overlong || surrogate || too_large ? 0 : bytes;
}

/* TEXT as a JSON string, its bytes that are not UTF-8 as "?". NULL when out of memory. */
static json_t *safe_string(const char *text)
{
    char *safe = strdup(text);
    if (safe == NULL) {
        return NULL;
    }
    for (char *at = safe; *at != '\0';) {
        size_t bytes = utf8_sequence((const unsigned char *)at);
        if (bytes == 0) {
            *at = '?';
            bytes = 1;
        }
        at += bytes;
    }
    json_t *string = json_string(safe);
    free(safe);
    return string;
}

char *problem_body(const struct problem_report *report, size_t *ret_bytes)
{
    assert(report != NULL);
    assert(ret_bytes != NULL);

    const struct problem_kind *kind = problem_kind(report->problem);
    json_t *body = json_object();
    char *text = NULL;
    unsigned status = problem_status(report->problem, report->overflow_status);
    int failed = json_object_set_new(body, "type", json_sprintf("urn:weir:problem:%s", kind->word));
    failed |= json_object_set_new(body, "title", json_string(kind->title));
    failed |= json_object_set_new(body, "status", json_integer((json_int_t)status));
    if (report->detail != NULL) {
        failed |= json_object_set_new(body, "detail", safe_string(report->detail));
    }
    if (report->host != NULL) {
        failed |= json_object_set_new(body, "host", safe_string(report->host));
    }
    if (report->queued >= 0) {
        failed |= json_object_set_new(body, "queued", json_integer(report->queued));
    }
    if (report->limit >= 0) {
        failed |= json_object_set_new(body, "limit", json_integer(report->limit));
    }
    if (failed == 0) {
        text = json_dumps(body, JSON_PRESERVE_ORDER);
    }
    json_decref(body);
    if (text != NULL) {
        *ret_bytes = strlen(text);
    }
    return text;
}

/* Appends TEXT as the inside of an RFC 8941 string, as much of it as fits before ROOM bytes. */
static size_t append_escaped(char *value, size_t bytes, size_t room, const char *text)
{
    for (; *text != '\0'; text++) {
        bool escaped = *text == '"' || *text == '\\';
        if (bytes + (escaped ? 2 : 1) > room) {
            break;
        }
        if (escaped) {
            value[bytes++] = '\\';
        }
        value[bytes++] = *text >= 0x20 && *text <= 0x7e ? *text : '?';
    }
    return bytes;
}

char *problem_proxy_status(const struct problem_report *report)
{
    assert(report != NULL);

    const struct problem_kind *kind = problem_kind(report->problem);
    char value[PROXY_STATUS_MAX + 1];
    int head =
        kind->proxy_status == NULL
            ? snprintf(value, sizeof value, "weir; details=\"")
            : snprintf(value, sizeof value, "weir; error=%s; details=\"", kind->proxy_status);
    assert(head > 0 && head < PROXY_STATUS_MAX);

    size_t room = PROXY_STATUS_MAX - 1; /* of 300 bytes one is the closing quote */
    size_t bytes = append_escaped(value, (size_t)head, room, kind->word);
    if (report->detail != NULL) {
        bytes = append_escaped(value, bytes, room, ": ");
        bytes = append_escaped(value, bytes, room, report->detail);
    }
    value[bytes++] = '"';
    value[bytes] = '\0';
    return strdup(value);
}

/*
 * One transfer: how libcurl's easy handle is set up and listened to. See transfer.h and fetch.h.
 *
 * Easy handles are used again with the fetch that holds them; every option that differs between
 * requests is set for every request.
 *
 * Names are resolved by us. libcurl still insists on an address before it opens a socket, so each
 * lane is given a stand-in address for each port in use (CURLOPT_RESOLVE with a wildcard), and the
 * open-socket callback puts the real one in its place, which libcurl allows for and then dials. The
 * name stays in the URL, where TLS and the reuse of connections need it.
 *
 * Callbacks never add or remove handles: they take notes, and fetcher_run() acts on them.
 */
#include "server/transfer.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOT_HTTP       "what the upstream sent is not HTTP/1"
#define TRAILERS_BYTES 102400
#define READ_BYTES     61440L
#define KEPT_BYTES     1048576 /* of an answer that libcurl may keep before the upload stops */

/* --- callbacks of one transfer --- */

static size_t refuse(struct fetch *fetch, enum problem problem, const char *detail)
{
    fetch->problem = problem;
    fetch->detail = detail;
    return 0;
}

static bool on_head_complete(struct fetch *fetch)
{
    struct fetch_answer *answer = &fetch->answer;
    const char *detail = NULL;
    if (answer->status == 101) {
        refuse(fetch, PROBLEM_UPSTREAM_PROTOCOL_ERROR,
               "the upstream switched protocols, which nobody asked for");
        return false;
    }
    if (answer->status < 200) {
        return true; /* an interim answer; the next head takes its place */
    }
    fields_settle(&fetch->head);
    answer->fields = fetch->head.at;
    answer->field_count = fetch->head.count;
    struct headers_response response = {answer->status, answer->fields, answer->field_count};
    if (!headers_check_response(&response, &answer->facts, &detail)) {
        refuse(fetch, PROBLEM_UPSTREAM_PROTOCOL_ERROR, detail);
        return false;
    }
    fetch->has_answer = true;
    fetch->times.first_byte_ns = fetch->fetcher->now_ns;
    fetch_move(fetch, FETCH_RECEIVING);
    return true;
}

static size_t on_line(char *line, size_t size, size_t count, void *data)
{
    struct fetch *fetch = data;
    size_t bytes = size * count;
    size_t length = bytes;
    while (length > 0 && (line[length - 1] == '\n' || line[length - 1] == '\r')) {
        length--;
    }
    if (fetch->has_answer) { /* lines of the head do not put timeouts.first_byte off */
        fetch->activity_ns = fetch->fetcher->now_ns;
    }
    if (!fetch->has_answer && length >= 12 && memcmp(line, "HTTP/", 5) == 0) {
        if (memcmp(line, "HTTP/1.", 7) != 0) { /* libcurl 8 takes any version for good */
            return refuse(fetch, PROBLEM_UPSTREAM_PROTOCOL_ERROR, NOT_HTTP);
        }
        fields_reset(&fetch->head);
        const char *digits = memchr(line, ' ', length);
        fetch->answer.status = digits != NULL ? (unsigned)strtoul(digits, NULL, 10) : 0;
        return bytes;
    }
    if (length == 0) {
        return fetch->has_answer || on_head_complete(fetch) ? bytes : 0;
    }
    if (fetch->tail.text_bytes + length + sizeof(struct header) * fetch->tail.count >
        TRAILERS_BYTES) { /* libcurl bounds the head, but not these */
        return refuse(fetch, PROBLEM_UPSTREAM_PROTOCOL_ERROR,
                      "the answer's trailers are larger than 100 kB");
    }
    switch (fields_add(fetch->has_answer ? &fetch->tail : &fetch->head, line, length)) {
    case FIELDS_ADDED:
        return bytes;
    case FIELDS_MALFORMED:
        return refuse(fetch, PROBLEM_UPSTREAM_PROTOCOL_ERROR,
                      "the upstream sent a header line that is not \"Name: value\"");
    case FIELDS_NO_MEMORY:
        break;
    }
    return refuse(fetch, PROBLEM_INTERNAL, "out of memory for the answer's header");
}

static size_t on_body(char *bytes, size_t size, size_t count, void *data)
{
    struct fetch *fetch = data;
    size_t length = size * count;
    fetch->activity_ns = fetch->fetcher->now_ns;
    if (pipe_write(fetch->download, bytes, length)) {
        fetch->download_paused = false;
        fetch->taken_bytes += length;
        fetch_news(fetch);
        return length;
    }
    if (pipe_room(fetch->download) >= length) {
        return refuse(fetch, PROBLEM_INTERNAL, "out of memory for the answer's body");
    }
    fetch->download_paused = true;
    return CURL_WRITEFUNC_PAUSE;
}

/*
 * Whenever it sends, libcurl 8 also reads, even where the answer is paused, and keeps all of it: an
 * upstream that answers much before it has the whole request is not slowed down by that pause.
 */
static bool keeps_too_much(const struct fetch *fetch)
{
    curl_off_t received = 0;
    return fetch->download_paused &&
           curl_easy_getinfo(fetch->easy, CURLINFO_SIZE_DOWNLOAD_T, &received) == CURLE_OK &&
           (uint64_t)received > fetch->taken_bytes + KEPT_BYTES;
}

static size_t on_upload(char *buffer, size_t size, size_t count, void *data)
{
    struct fetch *fetch = data;
    if (keeps_too_much(fetch)) {
        fetch->upload_paused = true;
        fetch->upload_held = true;
        return CURL_READFUNC_PAUSE;
    }
    size_t bytes = pipe_read(fetch->upload, buffer, size * count);
    fetch->activity_ns = fetch->fetcher->now_ns;
    fetch->upload_paused = bytes == 0 && !fetch->upload->closed;
    fetch->upload_left -= (uint64_t)bytes;
    if ((bytes == 0 && !fetch->upload_paused) || fetch->upload_left == 0) {
        fetch->upload_over = true;
        fetch_arm(fetch); /* from now on it is the first byte that is waited for */
    }
    fetch_news(fetch);
    return fetch->upload_paused ? CURL_READFUNC_PAUSE : bytes;
}

static int on_upload_trailers(struct curl_slist **ret_list, void *data)
{
    struct fetch *fetch = data;
    *ret_list = fetch->request_trailers; /* libcurl frees it */
    fetch->request_trailers = NULL;
    return CURL_TRAILERFUNC_OK;
}

/*
 * A connection may have been opened under other rules, or for a target to which other rules apply.
 * One that was opened for this attempt has been judged as it was.
 */
static bool may_use(struct fetch *fetch, const char *address)
{
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    const struct sockaddr *peer = (const struct sockaddr *)&v6;
    struct egress_target target = fetch_target(fetch);
    const char *detail;
    if (fetch->opened) {
        fetch->opened = false;
        return true;
    }
    if (inet_pton(AF_INET, address, &v4.sin_addr) == 1) {
        peer = (const struct sockaddr *)&v4;
    } else if (inet_pton(AF_INET6, address, &v6.sin6_addr) != 1) {
        return false;
    }
    return egress_check_address(fetch->fetcher->egress, &target, peer, &detail) == PROBLEM_NONE;
}

static unsigned char port_bit(uint16_t port)
{
    return (unsigned char)(1U << (port % 8));
}

/*
 * libcurl has run FETCH's handle, and so has taken the stand-in address that the handle was given:
 * one that is taken away before that has taken nothing.
 */
static void note_stand_in(struct fetch *fetch)
{
    uint16_t port = fetch->origin->port;
    fetch->fetcher->lanes[fetch->pool->lane].ports[port / 8] |= port_bit(port);
    fetch->knows_ports = true;
}

/*
 * A reused connection may turn out to be dead, and libcurl then takes another, idle or new. Whether
 * this is that, for a request that may have reached the upstream and must not do so twice.
 */
static bool is_second_sending(struct fetch *fetch)
{
    if (!fetch->was_sent || fetch->resendable) {
        return false;
    }
    refuse(fetch, PROBLEM_UPSTREAM_INCOMPLETE,
           "the upstream closed the connection without an answer; the request is not one that may "
           "be sent twice");
    return true;
}

/* The request is about to be sent. */
static int on_connected(void *data, char *address, char *local_address, int port, int local_port)
{
    struct fetch *fetch = data;
    note_stand_in(fetch);
    if (is_second_sending(fetch)) {
        return CURL_PREREQFUNC_ABORT;
    }
    if (fetch->was_sent) {
        fetch->is_spent = true; /* libcurl counts how often a handle has sent again, for good */
    }
    if (!may_use(fetch, address)) {
        fetch->barred = true;
        return CURL_PREREQFUNC_ABORT;
    }
    struct socket_ends ends = {address, local_address, port, local_port};
    sockets_set_busy(fetch->fetcher->sockets, &ends, &fetch->fd);
    if (fetch->phase == FETCH_CONNECTING) {
        fetch->times.connected_ns = fetch->fetcher->now_ns;
        fetch_move(fetch, FETCH_WAITING);
    }
    fetch->was_sent = true;
    return CURL_PREREQFUNC_OK;
}

static curl_socket_t on_open(void *data, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct fetch *fetch = data;
    (void)purpose;
    if (is_second_sending(fetch)) {
        return CURL_SOCKET_BAD;
    }
    assert(fetch->next_address < fetch->addresses.count);
    const char *detail;
    struct egress_target target = fetch_target(fetch);
    enum problem problem = egress_check_address(
        fetch->fetcher->egress, &target, &fetch->addresses.at[fetch->next_address].any, &detail);
    if (problem != PROBLEM_NONE) { /* the rules have changed since the addresses were sifted */
        refuse(fetch, problem, detail);
        return CURL_SOCKET_BAD;
    }
    struct sockaddr_storage *place = (struct sockaddr_storage *)(void *)&address->addr;
    if (fetch->addresses.at[fetch->next_address].any.sa_family == AF_INET6) {
        struct sockaddr_in6 v6 = fetch->addresses.at[fetch->next_address].v6;
        v6.sin6_port = htons(fetch->origin->port);
        memcpy(place, &v6, sizeof v6);
        address->family = AF_INET6;
        address->addrlen = sizeof v6;
    } else {
        struct sockaddr_in v4 = fetch->addresses.at[fetch->next_address].v4;
        v4.sin_port = htons(fetch->origin->port);
        memcpy(place, &v4, sizeof v4);
        address->family = AF_INET;
        address->addrlen = sizeof v4;
    }
    int fd = sockets_open(fetch->fetcher->sockets, fetch->pool, address->family, &fetch->fd);
    if (fd < 0) {
        refuse(fetch, PROBLEM_INTERNAL, strerror(errno));
        return CURL_SOCKET_BAD;
    }
    fetch->opened = true;
    if (fetch->tls != NULL) {
        sockets_set_tls(fetch->fetcher->sockets, fd, fetch->origin, tls_profile_number(fetch->tls));
        if (tls_find(fetch->fetcher->tls, fetch->origin->host) != fetch->tls) {
            sockets_retire(fetch->fetcher->sockets, fd); /* a reload came in between */
        }
    }
    return fd;
}

static CURLcode on_tls(CURL *easy, void *context, void *data)
{
    const struct fetch *fetch = data;
    (void)easy;
    return tls_profile_apply(fetch->tls, context) ? CURLE_OK : CURLE_SSL_CERTPROBLEM;
}

static int on_close(void *data, curl_socket_t fd)
{
    sockets_close(data, fd);
    return 0;
}

/* --- set-up --- */

/* Options that are the same for every request. */
bool transfer_set_template(struct fetch *fetch)
{
    CURL *easy = fetch->easy;
    struct fetcher *fetcher = fetch->fetcher;
    bool good = true;
#define SET(option, value) good = curl_easy_setopt(easy, option, value) == CURLE_OK && good
    SET(CURLOPT_PRIVATE, fetch);
    SET(CURLOPT_ERRORBUFFER, fetch->error);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_PROXY, "");
    SET(CURLOPT_NOPROXY, "*");
    SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_PATH_AS_IS, 1L);
    SET(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    SET(CURLOPT_HTTP_CONTENT_DECODING, 0L);
    SET(CURLOPT_QUICK_EXIT, 1L);
    SET(CURLOPT_DNS_CACHE_TIMEOUT, -1L);
    SET(CURLOPT_CONNECTTIMEOUT_MS, 24L * 3600 * 1000); /* the deadlines are fetch.c's */
    SET(CURLOPT_MAXAGE_CONN, (long)(fetcher->keepalive_ns / UINT64_C(1000000000)) + 1);
    SET(CURLOPT_BUFFERSIZE, READ_BYTES);
    SET(CURLOPT_UPLOAD_BUFFERSIZE, READ_BYTES);
    SET(CURLOPT_CAINFO, NULL); /* else each multi reads all certificates */
    SET(CURLOPT_SSL_CTX_FUNCTION, on_tls);
    SET(CURLOPT_SSL_CTX_DATA, fetch);
    SET(CURLOPT_OPENSOCKETFUNCTION, on_open);
    SET(CURLOPT_OPENSOCKETDATA, fetch);
    SET(CURLOPT_CLOSESOCKETFUNCTION, on_close);
    SET(CURLOPT_CLOSESOCKETDATA, fetcher->sockets);
    SET(CURLOPT_PREREQFUNCTION, on_connected);
    SET(CURLOPT_PREREQDATA, fetch);
    SET(CURLOPT_HEADERFUNCTION, on_line);
    SET(CURLOPT_HEADERDATA, fetch);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, fetch);
    SET(CURLOPT_READFUNCTION, on_upload);
    SET(CURLOPT_READDATA, fetch);
    return good;
}

/* --- one request --- */

static bool is_idempotent(const char *method)
{
    static const char *const methods[] = {"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        if (strcmp(method, methods[i]) == 0) {
            return true;
        }
    }
    return false;
}

bool transfer_prepare(struct fetch *fetch, const struct fetch_request *request)
{
    CURL *easy = fetch->easy;
    bool head = strcmp(request->method, "HEAD") == 0;
    bool upload = request->body == FETCH_BODY_CHUNKED ||
                  (request->body == FETCH_BODY_LENGTH && request->body_bytes > 0);
    bool good = field_list_write(&fetch->request_fields, request);

    fetch->resendable = !upload && is_idempotent(request->method);
    fetch->upload_over = !upload;
    fetch->upload_left = request->body == FETCH_BODY_LENGTH ? request->body_bytes : UINT64_MAX;
    fetch->is_spent = request->body == FETCH_BODY_CHUNKED;
    SET(CURLOPT_URL, request->origin->url);
    SET(CURLOPT_REQUEST_TARGET, request->path);
    SET(CURLOPT_HTTPHEADER, fetch->request_fields.nodes);
    SET(CURLOPT_HTTPGET, 1L); /* back from whatever the handle did last */
    SET(CURLOPT_NOBODY, head ? 1L : 0L);
    SET(CURLOPT_UPLOAD, upload ? 1L : 0L);
    SET(CURLOPT_CUSTOMREQUEST, head ? NULL : request->method);
    SET(CURLOPT_INFILESIZE_LARGE,
        request->body == FETCH_BODY_LENGTH ? (curl_off_t)request->body_bytes : (curl_off_t)-1);
    SET(CURLOPT_TRAILERFUNCTION, request->body == FETCH_BODY_CHUNKED ? on_upload_trailers : NULL);
    SET(CURLOPT_TRAILERDATA, fetch);
    return good;
}

bool fetch_set_trailers(struct fetch *fetch, const struct header *trailers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char *line = NULL;
        if (asprintf(&line, "%.*s: %.*s", (int)trailers[i].name_bytes, trailers[i].name,
                     (int)trailers[i].value_bytes, trailers[i].value) < 0) {
            return false;
        }
        struct curl_slist *list = curl_slist_append(fetch->request_trailers, line);
        free(line);
        if (list == NULL) {
            return false;
        }
        fetch->request_trailers = list;
    }
    return true;
}

const struct header *fetch_trailers(const struct fetch *fetch, size_t *ret_count)
{
    *ret_count = fetch->tail.count;
    return fetch->tail.at;
}

/* Sees to it that libcurl finds an address, any, for the origin's port without looking it up. */
static bool give_stand_in(struct fetch *fetch, const struct lane *lane)
{
    uint16_t port = fetch->origin->port;
    if (fetch->knows_ports && (lane->ports[port / 8] & port_bit(port)) != 0) {
        return true;
    }
    snprintf(fetch->stand_in_text, sizeof fetch->stand_in_text, "*:%u:192.0.2.1", (unsigned)port);
    fetch->stand_in.data = fetch->stand_in_text;
    fetch->stand_in.next = NULL;
    if (curl_easy_setopt(fetch->easy, CURLOPT_RESOLVE, &fetch->stand_in) != CURLE_OK) {
        return false;
    }
    return true;
}

/*
 * How TLS is spoken with the origin, as it is now. All of it is set in on_tls(). The CA path, at
 * which there is nothing, is the profile's name: libcurl compares it, and so never uses a
 * connection or a TLS session that was made with another profile. Where nothing is verified libcurl
 * 8.12 and later compare it for connections only: there no session is kept.
 */
static bool choose_tls(struct fetch *fetch)
{
    CURL *easy = fetch->easy;
    bool good = true;
    if (!fetch->origin->tls) {
        return true;
    }
    tls_profile_release(fetch->tls);
    fetch->tls = tls_profile_hold(tls_find(fetch->fetcher->tls, fetch->origin->host));
    bool verifies = tls_profile_verifies(fetch->tls);
    SET(CURLOPT_CAPATH, tls_profile_name(fetch->tls));
    SET(CURLOPT_SSL_VERIFYPEER, verifies ? 1L : 0L);
    SET(CURLOPT_SSL_VERIFYHOST, verifies ? 2L : 0L);
    SET(CURLOPT_SSL_SESSIONID_CACHE, verifies ? 1L : 0L);
    return good;
}

bool transfer_start(struct fetch *fetch)
{
    struct lane *lane = &fetch->fetcher->lanes[fetch->pool->lane];
    assert(!fetch->is_added);
    if (!choose_tls(fetch) || !give_stand_in(fetch, lane) ||
        curl_multi_add_handle(lane->multi, fetch->easy) != CURLM_OK) {
        return false;
    }
    fetch->is_added = true;
    fetch->opened = false;
    return true;
}

void transfer_stop(struct fetch *fetch)
{
    if (!fetch->is_added) {
        return;
    }
    struct fetcher *fetcher = fetch->fetcher;
    curl_multi_remove_handle(fetcher->lanes[fetch->pool->lane].multi, fetch->easy);
    fetch->is_added = false;
    if (fetch->fd >= 0) {
        sockets_set_idle(fetcher->sockets, fetch->fd, fetcher->now_ns);
    }
}

/* --- how a transfer ended --- */

/*
 * Whether it was TLS that ended the connection, with an alert or a close right behind the
 * handshake. So it is, with version 1.3, where the upstream does not like our certificate, or
 * misses one, because for us the handshake is over by then.
 */
static bool broke_off_tls(const struct fetch *fetch)
{
    return fetch->tls != NULL && !fetch->has_answer &&
           (!fetch->was_sent || strstr(fetch->error, " alert ") != NULL);
}

static enum problem problem_of(const struct fetch *fetch, CURLcode code, const char **ret_detail)
{
    *ret_detail = fetch->error[0] != '\0' ? fetch->error : curl_easy_strerror(code);
    switch ((int)code) {
    case CURLE_COULDNT_CONNECT:
        *ret_detail = "no address of the host accepted the connection";
        return PROBLEM_CONNECTION_REFUSED;
    case CURLE_OPERATION_TIMEDOUT:
        return PROBLEM_CONNECTION_TIMEOUT;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
        if (fetch->tls != NULL && tls_profile_believes_nobody(fetch->tls)) {
            *ret_detail = "the machine of the proxy has no root certificates: install "
                          "ca-certificates there, or set tls.ca_file";
        }
        return PROBLEM_TLS_CERTIFICATE_ERROR;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
        return PROBLEM_TLS_PROTOCOL_ERROR;
    case CURLE_OK: /* without an answer */
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_FAIL_REWIND:
    case CURLE_PARTIAL_FILE:
        if (broke_off_tls(fetch)) {
            *ret_detail = fetch->was_sent ? fetch->error
                                          : "the upstream closed the connection right after the "
                                            "TLS handshake";
            return PROBLEM_TLS_PROTOCOL_ERROR;
        }
        *ret_detail = fetch->has_answer ? "the upstream broke off in the middle of its answer"
                                        : "the upstream closed the connection before its answer "
                                          "was complete";
        return PROBLEM_UPSTREAM_INCOMPLETE;
    case CURLE_OUT_OF_MEMORY:
        *ret_detail = "the answer's header is larger than 100 kB, or memory is out";
        return PROBLEM_UPSTREAM_PROTOCOL_ERROR;
    case CURLE_UNSUPPORTED_PROTOCOL:
        *ret_detail = NOT_HTTP;
        return PROBLEM_UPSTREAM_PROTOCOL_ERROR;
    default:
        return PROBLEM_UPSTREAM_PROTOCOL_ERROR;
    }
}

void transfer_ended(struct fetch *fetch, CURLcode code)
{
    if (code == CURLE_OK && fetch->has_answer) {
        fields_settle(&fetch->tail);
        transfer_stop(fetch);
        fetch_move(fetch, FETCH_ENDED);
        return;
    }
    if (fetch->barred && (fetch->resendable || !fetch->was_sent)) {
        /* that connection is closed now: another, or a new one */
        fetch->barred = false;
        fetch_same_address(fetch);
        return;
    }
    bool refused = code == CURLE_COULDNT_CONNECT && !fetch->was_sent;
    if (refused && fetch->problem == PROBLEM_NONE && fetch_next_address(fetch)) {
        return;
    }
    if (code == CURLE_SEND_FAIL_REWIND) {
        fetch->is_spent = true; /* libcurl 8 would want to rewind the next upload, too */
    }
    const char *detail;
    enum problem problem = problem_of(fetch, code, &detail);
    fetch_fail(fetch, problem, detail);
}

/*
 * One libmicrohttpd daemon without a socket to listen on: connections are handed to it. Its epoll
 * descriptor is polled by the loop, which only marks that there is something to do; admin_run()
 * does it, once a turn, so that answers are made at one place of the turn like everything else.
 *
 * A request goes through on_target() (the raw target, before anything is decoded), on_request()
 * once when its head is there and, where it was not answered then, once more when it is complete;
 * then on_completed(). What is answered at the first call closes the connection, which is what
 * requests with a body, and those that are refused, get: their rest is never read.
 *
 * Browsers: no page may read this port. Cross-origin reading is refused by the browser, as nothing
 * here sends CORS fields; what remains is a page whose own name was made to resolve to this address
 * (DNS rebinding). Its requests carry that name as Host, so names other than localhost are refused.
 */
#include "server/admin.h"

#include "api/headers.h"
#include "api/problem.h"
#include "limiter/rules.h"
#include "server/credentials.h"

#include <arpa/inet.h>
#include <assert.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MEMORY_BYTES 16384 /* of one connection, for head and answer's head */
#define IDLE_SECONDS 10u
#define RUNS_MAX     8   /* in one turn */
#define FIELDS_MAX   100 /* of a request */
#define DETAIL_MAX   512
#define ROUTES       "GET /status, GET /hosts/HOST, GET /healthz and GET /readyz"

struct admin {
    struct MHD_Daemon *daemon;
    struct admin_source source;
    uv_poll_t poll;
    uv_timer_t timer;
    unsigned handles; /* of the loop, not yet closed */
    bool ready;       /* there may be something to do */
};

/* What is known of a request between libmicrohttpd's calls. */
struct admin_request {
    bool begun;    /* the head was looked at */
    char target[]; /* as it came */
};

struct answer {
    unsigned status;
    const char *type;
    const char *allow; /* or NULL */
    const struct problem_kind *kind; /* or NULL */
    char *body;        /* owned; NULL where memory is out */
    size_t bytes;
};

/* --- Answers --- */

static struct answer make_problem(enum problem problem, const char *detail, const char *host)
{
    struct problem_report report = {
        .problem = problem,
        .overflow_status = MHD_HTTP_SERVICE_UNAVAILABLE,
        .detail = detail,
        .host = host,
        .queued = -1,
        .limit = -1,
    };
    struct answer answer = {
        .status = problem_status(problem, report.overflow_status),
        .type = "application/problem+json",
        .allow = problem == PROBLEM_METHOD_NOT_ALLOWED ? "GET, HEAD" : NULL,
        .kind = problem_kind(problem),
    };

    answer.body = problem_body(&report, &answer.bytes);
    return answer;
}

static struct answer make_json(unsigned status, char *body, size_t bytes)
{
    return (struct answer){
        .status = status, .type = "application/json", .body = body, .bytes = bytes};
}

static struct answer make_state(unsigned status, const char *state)
{
    char *body = NULL;
    int bytes = asprintf(&body, "{\"status\":\"%s\"}\n", state);

    return bytes < 0 ? make_json(status, NULL, 0) : make_json(status, body, (size_t)bytes);
}

/* Owns the answer's body. */
static enum MHD_Result send_answer(struct MHD_Connection *connection, struct answer answer)
{
    struct MHD_Response *response = NULL;
    enum MHD_Result result = MHD_NO; /* closes the connection */

    if (answer.body != NULL) {
        response =
            MHD_create_response_from_buffer(answer.bytes, answer.body, MHD_RESPMEM_MUST_FREE);
    }
    if (response == NULL) {
        free(answer.body);
        return MHD_NO;
    }
    if (MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, answer.type) == MHD_YES &&
        MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store") == MHD_YES &&
        (answer.kind == NULL || answer.kind->challenge_field == NULL ||
         MHD_add_response_header(response, answer.kind->challenge_field, answer.kind->challenge)) &&
        (answer.allow == NULL ||
         MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, answer.allow) == MHD_YES)) {
        result = MHD_queue_response(connection, answer.status, response);
    }
    MHD_destroy_response(response);
    return result;
}

/* --- Routes --- */

static struct answer answer_status(const struct report_service *service,
                                   const struct limiter *limiter, uint64_t now_ns)
{
    size_t bytes = 0;
    char *body = report_status(service, limiter, now_ns, &bytes);

    return make_json(MHD_HTTP_OK, body, bytes);
}

static int hex_digit(char digit)
{
    static const char digits[] = "0123456789abcdef";
    char lower = digit >= 'A' && digit <= 'F' ? (char)(digit + ('a' - 'A')) : digit;
    const char *at = lower == '\0' ? NULL : strchr(digits, lower);

    return at == NULL ? -1 : (int)(at - digits);
}

/*
 * Decodes the percent signs of TEXT, once, and writes what limiter keys look like: lower case.
 * Returns false where TEXT is not well formed or longer than any key.
 */
static bool read_host(const char *text, size_t bytes, char ret_host[static RULES_HOST_MAX])
{
    size_t length = 0;

    for (size_t i = 0; i < bytes; i++) {
        char byte = text[i];

        if (byte == '%') {
            int high = i + 2 < bytes ? hex_digit(text[i + 1]) : -1;
            int low = i + 2 < bytes ? hex_digit(text[i + 2]) : -1;

            if (high < 0 || low < 0) {
                return false;
            }
            byte = (char)(high << 4 | low);
            i += 2;
        }
        if (byte == '\0' || length + 1 >= RULES_HOST_MAX) {
            return false;
        }
        ret_host[length++] = byte >= 'A' && byte <= 'Z' ? (char)(byte + ('a' - 'A')) : byte;
    }
    ret_host[length] = '\0';
    return true;
}

static struct answer answer_host(const struct report_service *service,
                                 const struct limiter *limiter, uint64_t now_ns, const char *text,
                                 size_t bytes)
{
    char host[RULES_HOST_MAX];
    char detail[DETAIL_MAX];

    if (!read_host(text, bytes, host)) {
        return make_problem(PROBLEM_BAD_TARGET,
                            "HOST in /hosts/HOST is not well formed: expected a host as /status "
                            "names it, percent-encoded where needed",
                            NULL);
    }
    const struct limiter_host *found = limiter_find(limiter, host);

    if (found == NULL) {
        (void)snprintf(detail, sizeof detail,
                       "no host \"%s\" is known: expected one that was asked for, as /status "
                       "names it",
                       host);
        return make_problem(PROBLEM_NOT_FOUND, detail, host);
    }
    size_t body_bytes = 0;
    char *body = report_host(service, found, now_ns, &body_bytes);

    return make_json(MHD_HTTP_OK, body, body_bytes);
}

static struct answer answer_ready(const struct report_service *service)
{
    switch (service->state) {
    case REPORT_OK:
        return make_state(MHD_HTTP_OK, "ready");
    case REPORT_STARTING:
        return make_state(MHD_HTTP_SERVICE_UNAVAILABLE, "starting");
    case REPORT_DRAINING:
        return make_state(MHD_HTTP_SERVICE_UNAVAILABLE, "draining");
    }
    assert(false);
    return make_state(MHD_HTTP_SERVICE_UNAVAILABLE, "unknown");
}

static bool is_path(const char *path, size_t bytes, const char *route)
{
    return bytes == strlen(route) && memcmp(path, route, bytes) == 0;
}

static struct answer route(const struct admin *admin, const char *path)
{
    static const char hosts[] = "/hosts/";
    struct report_service service = {0};
    const struct limiter *limiter = NULL;
    uint64_t now_ns = 0;
    size_t bytes = strcspn(path, "?");
    size_t prefix = sizeof hosts - 1;

    admin->source.describe(admin->source.context, &service, &limiter, &now_ns);
    if (is_path(path, bytes, "/status")) {
        return answer_status(&service, limiter, now_ns);
    }
    if (is_path(path, bytes, "/healthz")) {
        return make_state(MHD_HTTP_OK, "ok");
    }
    if (is_path(path, bytes, "/readyz")) {
        return answer_ready(&service);
    }
    if (bytes > prefix && memcmp(path, hosts, prefix) == 0 &&
        memchr(path + prefix, '/', bytes - prefix) == NULL) {
        return answer_host(&service, limiter, now_ns, path + prefix, bytes - prefix);
    }
    return make_problem(PROBLEM_NOT_FOUND, "no such route on the admin port: expected " ROUTES,
                        NULL);
}

/* --- Checks --- */

struct fields {
    struct header at[FIELDS_MAX];
    size_t count;
    bool overflow;
};

static enum MHD_Result on_field(void *context, enum MHD_ValueKind kind, const char *name,
                                size_t name_bytes, const char *value, size_t value_bytes)
{
    struct fields *fields = context;

    (void)kind;
    if (fields->count == FIELDS_MAX) {
        fields->overflow = true;
        return MHD_NO;
    }
    if (value == NULL) {
        value = "";
        value_bytes = 0;
    }
    while (value_bytes > 0 && (value[value_bytes - 1] == ' ' || value[value_bytes - 1] == '\t')) {
        value_bytes--;
    }
    fields->at[fields->count++] = (struct header){.name = name,
                                                  .name_bytes = (uint32_t)name_bytes,
                                                  .value = value,
                                                  .value_bytes = (uint32_t)value_bytes};
    return MHD_YES;
}

/* Whether AUTHORITY (host, or host:port) is localhost or an address, and so nobody's to rebind. */
static bool is_local_name(const char *authority, size_t bytes)
{
    char name[INET6_ADDRSTRLEN];
    struct in6_addr address;
    const char *host = authority;
    const char *end;
    int family = AF_INET;

    if (bytes > 0 && authority[0] == '[') {
        host++;
        end = memchr(host, ']', bytes - 1);
        family = AF_INET6;
    } else {
        end = memchr(authority, ':', bytes);
        end = end == NULL ? authority + bytes : end;
    }
    if (end == NULL || (size_t)(end - host) >= sizeof name) {
        return false;
    }
    memcpy(name, host, (size_t)(end - host));
    name[end - host] = '\0';
    return bytes == 0 || strcasecmp(name, "localhost") == 0 ||
           inet_pton(family, name, &address) == 1;
}

/*
 * Splits an absolute-form target, which a server has to accept too: its authority then counts in
 * place of the Host field. Returns the path; *ret_authority stays NULL for the usual form.
 */
static const char *split_target(const char *target, const char **ret_authority,
                                size_t *ret_authority_bytes)
{
    static const char scheme[] = "http://";
    size_t prefix = sizeof scheme - 1;

    if (strncasecmp(target, scheme, prefix) != 0) {
        return target;
    }
    *ret_authority = target + prefix;
    *ret_authority_bytes = strcspn(target + prefix, "/?");
    return target + prefix + *ret_authority_bytes;
}

static bool only_reads(const char *method)
{
    return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
}

/* Whether REQUEST shows the token that it needs for PATH. */
static enum problem check_token(const struct admin *admin, const struct headers_request *request,
                                const char *path, const char **ret_detail)
{
    const struct secrets *secrets =
        admin->source.secrets != NULL ? admin->source.secrets(admin->source.context) : NULL;
    size_t path_bytes = strcspn(path, "?");
    bool reads = only_reads(request->method);
    bool is_probe = is_path(path, path_bytes, "/healthz") || is_path(path, path_bytes, "/readyz");
    size_t bytes = 0;

    if (secrets == NULL || (reads && is_probe) ||
        !(reads ? secrets_ask_readers(secrets) : secrets_ask_operators(secrets))) {
        return PROBLEM_NONE;
    }
    const char *token = credentials_bearer(request->fields, request->count, &bytes);
    enum secrets_role role = token == NULL ? SECRETS_NOBODY : secrets_role(secrets, token, bytes);
    if (role == SECRETS_OPERATOR || (role == SECRETS_READER && reads)) {
        return PROBLEM_NONE;
    }
    if (role == SECRETS_READER) {
        *ret_detail = "the token may only read: expected that of auth.admin.operate";
        return PROBLEM_ADMIN_DENIED;
    }
    *ret_detail = "expected Authorization: Bearer and a token of auth.admin";
    return PROBLEM_ADMIN_AUTH_REQUIRED;
}

/*
 * What refuses a request before its route is looked at: PROBLEM_NONE, or the problem with a static
 * sentence in *ret_detail. *ret_has_body says whether more than the head follows.
 */
static enum problem check_request(const struct admin *admin, struct MHD_Connection *connection,
                                  const char *target,
                                  const char *method, const char *version, bool *ret_has_body,
                                  const char **ret_detail)
{
    struct fields fields = {.count = 0};
    struct headers_request_facts facts;
    const char *authority = NULL;
    size_t authority_bytes = 0;

    (void)MHD_get_connection_values_n(connection, MHD_HEADER_KIND, on_field, &fields);
    if (fields.overflow) {
        *ret_detail = "the request has too many header fields: expected at most 100";
        return PROBLEM_HEADER_TOO_LARGE;
    }
    struct headers_request request = {.method = method,
                                      .http_1_0 = strcmp(version, MHD_HTTP_VERSION_1_0) == 0,
                                      .fields = fields.at,
                                      .count = fields.count};
    enum problem problem = headers_check_request(&request, NULL, &facts, ret_detail);

    if (problem != PROBLEM_NONE) {
        return problem;
    }
    const char *path = split_target(target, &authority, &authority_bytes);

    for (size_t i = 0; authority == NULL && i < fields.count; i++) {
        if (headers_is(&fields.at[i], MHD_HTTP_HEADER_HOST)) {
            authority = fields.at[i].value;
            authority_bytes = fields.at[i].value_bytes;
        }
    }
    if (authority != NULL && !is_local_name(authority, authority_bytes)) {
        *ret_detail = "the Host field is a name: expected localhost or an IP address, so that no "
                      "web page can read the admin port by DNS rebinding";
        return PROBLEM_DENIED_NAME;
    }
    problem = check_token(admin, &request, path, ret_detail);
    if (problem != PROBLEM_NONE) {
        return problem;
    }
    if (!only_reads(method)) {
        *ret_detail = "the admin port only answers: expected GET or HEAD";
        return PROBLEM_METHOD_NOT_ALLOWED;
    }
    *ret_has_body = facts.has_body;
    return PROBLEM_NONE;
}

/* --- libmicrohttpd's calls --- */

static void on_log(void *context, const char *format, va_list arguments)
{
    (void)context; /* it tells of every client that leaves */
    (void)format;
    (void)arguments;
}

static void *on_target(void *context, const char *target, struct MHD_Connection *connection)
{
    size_t bytes = strlen(target) + 1;
    struct admin_request *request = calloc(1, sizeof *request + bytes);

    (void)context;
    (void)connection;
    if (request != NULL) {
        memcpy(request->target, target, bytes);
    }
    return request;
}

static void on_completed(void *context, struct MHD_Connection *connection, void **request,
                         enum MHD_RequestTerminationCode code)
{
    (void)context;
    (void)connection;
    (void)code;
    free(*request);
    *request = NULL;
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_bytes, void **memory)
{
    const struct admin *admin = context;
    struct admin_request *request = *memory;
    const char *authority = NULL;
    size_t authority_bytes = 0;
    const char *detail = NULL;
    bool has_body = false;

    (void)url; /* decoded and cut off: only the raw target is told apart rightly */
    (void)upload;
    *upload_bytes = 0;
    if (request == NULL) {
        return MHD_NO; /* memory was out */
    }
    if (!request->begun) {
        enum problem problem =
            check_request(admin, connection, request->target, method, version, &has_body, &detail);

        request->begun = true;
        if (problem != PROBLEM_NONE) {
            return send_answer(connection, make_problem(problem, detail, NULL));
        }
        if (!has_body) {
            return MHD_YES; /* answered at the next call, the connection stays open */
        }
    }
    const char *path = split_target(request->target, &authority, &authority_bytes);

    return send_answer(connection, route(admin, path));
}

/* --- The loop --- */

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct admin *admin = poll->data;

    (void)status;
    (void)events;
    admin->ready = true;
}

static void on_timer(uv_timer_t *timer)
{
    struct admin *admin = timer->data;

    admin->ready = true;
}

static void on_close(uv_handle_t *handle)
{
    struct admin *admin = handle->data;

    assert(admin->handles > 0);
    admin->handles--;
    if (admin->handles == 0) {
        free(admin);
    }
}

/* libmicrohttpd 1.0 would otherwise put a connection that is added aside. */
#if MHD_VERSION >= 0x00097707
#define ADMIN_ONE_THREAD MHD_USE_NO_THREAD_SAFETY
#else
#define ADMIN_ONE_THREAD 0
#endif

static struct MHD_Daemon *start_daemon(struct admin *admin, unsigned connections_max)
{
    return MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | ADMIN_ONE_THREAD, 0, NULL,
                            NULL, on_request, admin, MHD_OPTION_EXTERNAL_LOGGER, on_log,
                            NULL, /* first: for what follows */
                            MHD_OPTION_CONNECTION_LIMIT, connections_max, /* unsigned */
                            MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS,  /* unsigned */
                            MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)(MEMORY_BYTES), /* size_t */
                            MHD_OPTION_STRICT_FOR_CLIENT, 0, /* int; check_request() does */
                            MHD_OPTION_URI_LOG_CALLBACK, on_target, NULL,
                            MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_END);
}

struct admin *admin_create(uv_loop_t *loop, const struct admin_source *source,
                           unsigned connections_max)
{
    struct admin *admin = calloc(1, sizeof *admin);

    if (admin == NULL) {
        return NULL;
    }
    admin->source = *source;
    admin->poll.data = admin;
    admin->timer.data = admin;
    admin->daemon = start_daemon(admin, connections_max);
    if (admin->daemon == NULL) {
        goto fail;
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(admin->daemon, MHD_DAEMON_INFO_EPOLL_FD);

    if (info == NULL || uv_poll_init(loop, &admin->poll, info->epoll_fd) != 0) {
        goto fail;
    }
    /* From here on nothing fails: a timer only links itself, and the poll has a good descriptor. */
    (void)uv_timer_init(loop, &admin->timer);
    (void)uv_poll_start(&admin->poll, UV_READABLE, on_poll);
    admin->handles = 2;
    return admin;

fail:
    if (admin->daemon != NULL) {
        MHD_stop_daemon(admin->daemon);
    }
    free(admin);
    return NULL;
}

void admin_destroy(struct admin *admin)
{
    if (admin == NULL) {
        return;
    }
    /* The loop lets go of the descriptor before the daemon closes it. */
    uv_close((uv_handle_t *)&admin->poll, on_close);
    uv_close((uv_handle_t *)&admin->timer, on_close);
    MHD_stop_daemon(admin->daemon);
    admin->daemon = NULL;
}

void admin_add(struct admin *admin, int fd, const struct sockaddr *address, socklen_t bytes)
{
    /* Where this fails it has closed the descriptor, and has nobody to tell. */
    (void)MHD_add_connection(admin->daemon, fd, address, bytes);
    /* Run it in this turn or the next, whether or not its epoll set has something to say yet. */
    admin->ready = true;
    (void)uv_timer_start(&admin->timer, on_timer, 0, 0);
}

bool admin_run(struct admin *admin)
{
    unsigned long long timeout_ms = 0;
    bool pending = true;

    if (!admin->ready) {
        return false;
    }
    admin->ready = false;
    for (int i = 0; i < RUNS_MAX && pending; i++) {
        (void)MHD_run(admin->daemon);
        timeout_ms = 0;
        if (MHD_get_timeout(admin->daemon, &timeout_ms) != MHD_YES) {
            (void)uv_timer_stop(&admin->timer);
            return true;
        }
        pending = timeout_ms == 0;
    }
    (void)uv_timer_start(&admin->timer, on_timer, timeout_ms, 0);
    return true;
}

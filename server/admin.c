/*
 * One libmicrohttpd daemon without a socket to listen on: connections are handed to it. Its epoll
 * descriptor is polled by the loop, which only marks that there is something to do; admin_run()
 * does it, once a turn, so that answers are made at one place of the turn like everything else; a
 * newcomer for whom another has to give way runs it once before.
 *
 * A request goes through on_target() (the raw target, before anything is decoded), on_request()
 * once when its head is there and, where it was not answered then, once more when it is complete;
 * then on_completed(). What is answered at the first call closes the connection, which is what
 * requests with a body, and those that are refused, get: their rest is never read. Only
 * POST /quitquitquit reads its body, and forgets it: the answer to it must not be lost to a reset.
 *
 * Connections are in a list by the time since when their present request is waited for, the oldest
 * first. From then on it has REQUEST_NS for everything, until its answer is sent. As the time is
 * the same for all, the first of the list is the one that is due; and it is the one that gives way
 * to a newcomer where all places are taken, so that who sends nothing, or a byte now and then,
 * cannot keep probes out.
 */
#include "server/admin.h"

#include "api/headers.h"
#include "api/problem.h"
#include "server/admin_answer.h"
#include "server/admin_gate.h"
#include "server/daemon.h"

#include <assert.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#define MEMORY_BYTES 16384 /* of one connection, for head and answer's head */
#define REQUEST_NS   (UINT64_C(10) * 1000000000)
#define RUNS_MAX     8     /* in one turn */
#define BODY_MAX     65536 /* that is read and forgotten */
#define FIELDS_MAX   100   /* of a request */

struct admin_client {
    int fd;
    uint64_t since_ns; /* when its present request began to be waited for */
    bool is_cut;       /* and no longer in the list */
    TAILQ_ENTRY(admin_client) in_oldest;
};

struct admin {
    struct MHD_Daemon *daemon;
    struct admin_answers answers;
    uv_poll_t poll;
    TAILQ_HEAD(, admin_client) oldest;
    struct admin_client *adding; /* while libmicrohttpd is told of it */
    unsigned clients;
    unsigned clients_max;
    uint64_t now_ns;
    bool ready; /* there may be something to do */
    bool asked_to_quit;
    unsigned owed; /* answers to that, not yet sent */
};

/* What is known of a request between libmicrohttpd's calls. */
struct admin_request {
    bool begun;        /* the head was looked at */
    bool quits;        /* and was told so; the answer is under way */
    size_t body_bytes; /* that were forgotten */
    char target[];     /* as it came */
};

/* --- Checks --- */

/*
 * What refuses a request before its route is looked at: PROBLEM_NONE, or the problem with a static
 * sentence in *ret_detail. *ret_has_body says whether more than the head follows.
 */
static enum problem check_request(const struct admin *admin, struct MHD_Connection *connection,
                                  const struct admin_gate_target *target,
                                  const struct daemon_line *line, bool *ret_has_body,
                                  const char **ret_detail)
{
    struct header room[FIELDS_MAX];
    struct daemon_fields fields = {.at = room, .room = FIELDS_MAX};
    struct headers_request_facts facts;

    daemon_read_head(connection, line, &fields);
    if (fields.overflow) {
        *ret_detail = "the request has too many header fields: expected at most 100";
        return PROBLEM_HEADER_TOO_LARGE;
    }
    if (fields.defect != NULL) {
        *ret_detail = fields.defect;
        return PROBLEM_BAD_REQUEST;
    }
    struct headers_request request = {.method = line->method,
                                      .http_1_0 = strcmp(line->version, MHD_HTTP_VERSION_1_0) == 0,
                                      .fields = fields.at,
                                      .count = fields.count};
    const struct secrets *secrets =
        admin->answers.source.secrets != NULL
            ? admin->answers.source.secrets(admin->answers.source.context)
            : NULL;
    enum problem problem = headers_check_request(&request, NULL, &facts, ret_detail);

    if (problem == PROBLEM_NONE) {
        problem = admin_gate_check(secrets, &request, target, ret_detail);
    }
    if (problem == PROBLEM_NONE && admin_gate_is(target, ADMIN_GATE_QUIT) && facts.has_body &&
        !facts.chunked && facts.content_length > BODY_MAX) {
        *ret_detail = "a body means nothing here: expected none, or at most 64 KiB";
        problem = PROBLEM_BODY_TOO_LARGE;
    }
    *ret_has_body = problem == PROBLEM_NONE && facts.has_body;
    return problem;
}

/* --- libmicrohttpd's calls --- */

static void *on_target(void *context, const char *target, struct MHD_Connection *connection)
{
    size_t bytes = strlen(target) + 1;
    struct admin_request *request = calloc(1, sizeof *request + bytes);

    (void)context, (void)connection;
    if (request != NULL) {
        memcpy(request->target, target, bytes);
    }
    return request;
}

static void on_completed(void *context, struct MHD_Connection *connection, void **memory,
                         enum MHD_RequestTerminationCode code)
{
    struct admin *admin = context;
    struct admin_client *client = daemon_client(connection);
    struct admin_request *request = *memory;

    (void)code;
    if (request != NULL && request->quits) {
        assert(admin->owed > 0);
        admin->owed--;
    }
    free(request);
    *memory = NULL;
    if (!client->is_cut) {
        TAILQ_REMOVE(&admin->oldest, client, in_oldest);
        TAILQ_INSERT_TAIL(&admin->oldest, client, in_oldest);
        client->since_ns = admin->now_ns;
    }
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_bytes, void **memory)
{
    struct admin *admin = context;
    struct admin_request *request = *memory;
    const char *detail = NULL;
    bool has_body = false;

    (void)upload; /* the URL is decoded and cut off: only the raw target counts */
    if (request == NULL) {
        return MHD_NO; /* memory was out */
    }
    struct admin_gate_target target = admin_gate_split(request->target);
    bool quits = admin_gate_is(&target, ADMIN_GATE_QUIT);

    if (!request->begun) {
        struct daemon_line line = {method, url, strlen(request->target), version};
        enum problem problem = check_request(admin, connection, &target, &line, &has_body, &detail);

        request->begun = true;
        if (problem != PROBLEM_NONE) {
            return admin_answer_problem(
                connection, problem, detail,
                problem == PROBLEM_METHOD_NOT_ALLOWED ? admin_gate_allow(&target) : NULL);
        }
        if (!has_body || quits) {
            return MHD_YES; /* answered when it is complete, the connection stays open */
        }
    }
    if (*upload_bytes > 0) {
        request->body_bytes += *upload_bytes;
        *upload_bytes = 0;
        return request->body_bytes <= BODY_MAX ? MHD_YES : MHD_NO;
    }
    enum MHD_Result result =
        admin_answer_request(&admin->answers, connection, &target, admin->now_ns);

    if (quits) {
        admin->asked_to_quit = true;
        if (result == MHD_YES) {
            request->quits = true;
            admin->owed++;
        }
    }
    return result;
}

/* --- Connections --- */

/* The connection of CLIENT has ended, or never was. */
static void drop(struct admin *admin, struct admin_client *client)
{
    assert(admin->clients > 0);
    admin->clients--;
    if (!client->is_cut) {
        TAILQ_REMOVE(&admin->oldest, client, in_oldest);
    }
    free(client);
}

static void on_connection(void *context, struct MHD_Connection *connection, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct admin *admin = context;

    (void)connection;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        assert(admin->adding != NULL);
        *socket_context = admin->adding;
        admin->adding = NULL;
    } else {
        drop(admin, *socket_context);
    }
}

/* Closes the connection both ways; libmicrohttpd notices, and ends what there is. */
static void cut(struct admin *admin, struct admin_client *client)
{
    client->is_cut = true;
    TAILQ_REMOVE(&admin->oldest, client, in_oldest);
    (void)shutdown(client->fd, SHUT_RDWR);
    admin->ready = true;
}

/* --- The loop --- */

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct admin *admin = poll->data;

    (void)status, (void)events;
    admin->ready = true;
}

static void on_close(uv_handle_t *handle)
{
    free(handle->data);
}

static struct MHD_Daemon *start_daemon(struct admin *admin, unsigned connections_max)
{
    return MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | DAEMON_ONE_THREAD, 0, NULL, NULL, on_request,
        admin, MHD_OPTION_EXTERNAL_LOGGER, daemon_on_message, NULL, /* first: for what follows */
        MHD_OPTION_CONNECTION_LIMIT, connections_max,               /* unsigned */
        MHD_OPTION_CONNECTION_TIMEOUT, 0U,                          /* unsigned; see REQUEST_NS */
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)(MEMORY_BYTES), /* size_t */
        DAEMON_STRICTNESS, /* check_request() does the rest */
        MHD_OPTION_URI_LOG_CALLBACK, on_target, NULL, MHD_OPTION_NOTIFY_COMPLETED, on_completed,
        admin, MHD_OPTION_NOTIFY_CONNECTION, on_connection, admin, MHD_OPTION_END);
}

struct admin *admin_create(uv_loop_t *loop, const struct admin_source *source,
                           unsigned connections_max, uint64_t now_ns)
{
    assert(connections_max > 0);
    struct admin *admin = calloc(1, sizeof *admin);

    if (admin == NULL) {
        return NULL;
    }
    admin->answers.source = *source;
    admin->clients_max = connections_max;
    admin->now_ns = now_ns;
    admin->poll.data = admin;
    TAILQ_INIT(&admin->oldest);
    admin->daemon = start_daemon(admin, connections_max);
    if (admin->daemon == NULL) {
        goto fail;
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(admin->daemon, MHD_DAEMON_INFO_EPOLL_FD);

    if (info == NULL || uv_poll_init(loop, &admin->poll, info->epoll_fd) != 0) {
        goto fail;
    }
    (void)uv_poll_start(&admin->poll, UV_READABLE, on_poll); /* has a good descriptor */
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
    admin_answers_forget(&admin->answers, UINT64_MAX);
    /* The loop lets go of the descriptor before the daemon closes it. */
    uv_poll_stop(&admin->poll);
    MHD_stop_daemon(admin->daemon);
    assert(admin->clients == 0 && admin->owed == 0);
    uv_close((uv_handle_t *)&admin->poll, on_close);
}

/* The oldest gives way where all places are taken. */
static void make_room(struct admin *admin)
{
    struct admin_client *client = TAILQ_FIRST(&admin->oldest);

    if (admin->clients == admin->clients_max && client != NULL) {
        cut(admin, client);
        (void)MHD_run(admin->daemon);
    }
}

void admin_add(struct admin *admin, int fd, const struct sockaddr *address, socklen_t bytes,
               uint64_t now_ns)
{
    struct admin_client *client = calloc(1, sizeof *client);

    admin->now_ns = now_ns;
    make_room(admin);
    if (client == NULL || admin->clients == admin->clients_max) {
        free(client);
        close(fd);
        return;
    }
    client->fd = fd;
    client->since_ns = now_ns;
    TAILQ_INSERT_TAIL(&admin->oldest, client, in_oldest);
    admin->clients++;
    admin->adding = client;
    /* Where this fails it has closed the descriptor, and has nobody to tell. */
    if (MHD_add_connection(admin->daemon, fd, address, bytes) != MHD_YES && admin->adding != NULL) {
        drop(admin, client);
    }
    admin->adding = NULL;
    /* Run it in this turn, whether or not its epoll set has something to say yet. */
    admin->ready = true;
}

bool admin_run(struct admin *admin, uint64_t now_ns)
{
    unsigned long long timeout_ms = 0;
    struct admin_client *client;
    bool pending = true;

    admin->now_ns = now_ns;
    while ((client = TAILQ_FIRST(&admin->oldest)) != NULL &&
           now_ns >= client->since_ns + REQUEST_NS) {
        cut(admin, client);
    }
    admin_answers_forget(&admin->answers, now_ns);
    if (!admin->ready) {
        return false;
    }
    for (int i = 0; i < RUNS_MAX && pending; i++) {
        (void)MHD_run(admin->daemon);
        pending = MHD_get_timeout(admin->daemon, &timeout_ms) == MHD_YES && timeout_ms == 0;
    }
    admin->ready = pending;
    return true;
}

uint64_t admin_next_ns(const struct admin *admin)
{
    const struct admin_client *client = TAILQ_FIRST(&admin->oldest);
    uint64_t due_ns = client != NULL ? client->since_ns + REQUEST_NS : UINT64_MAX;
    uint64_t answers_ns = admin_answers_next_ns(&admin->answers);

    return answers_ns < due_ns ? answers_ns : due_ns;
}

bool admin_asked_to_quit(const struct admin *admin)
{
    return admin->asked_to_quit;
}

bool admin_owes_answer(const struct admin *admin)
{
    return admin->owed > 0;
}

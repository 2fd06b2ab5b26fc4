#include "server/guard.h"

#include "api/problem.h"
#include "server/reply.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REFUSED_IN_A_TURN 64

struct guard {
    struct log *log;
    struct secrets *secrets;
    struct auth *auth;
    struct door *door;
    struct lingering *lingering;
    unsigned overflow_status;
    char *full_answer; /* to a client that has its share; made when first needed */
    size_t full_answer_bytes;
};

struct secrets *guard_read_secrets(const struct config *config, char **ret_error)
{
    struct secrets_paths paths = {config->auth.clients, config->auth.admin_read,
                                  config->auth.admin_operate};
    return secrets_load(&paths, ret_error);
}

static struct door_settings door_settings_of(const struct config *config, unsigned connections)
{
    return (struct door_settings){connections, config->connections_per_client};
}

static void warn_of_exposed(const struct guard *guard)
{
    const char *path;
    for (size_t i = 0; (path = secrets_exposed(guard->secrets, i)) != NULL; i++) {
        log_event(guard->log, CONFIG_LEVEL_WARNING, "secret_exposed", "path", path, "reason",
                  "everybody on this machine may read it: chmod o-r", NULL);
    }
}

struct guard *guard_create(uv_loop_t *loop, struct log *log, const struct config *config,
                           struct secrets *secrets, unsigned connections, unsigned lingering)
{
    struct door_settings door = door_settings_of(config, connections);
    struct guard *guard = calloc(1, sizeof *guard);
    if (guard == NULL) {
        secrets_destroy(secrets);
        return NULL;
    }
    guard->log = log;
    guard->secrets = secrets;
    guard->overflow_status = config->overflow_status;
    guard->auth = auth_create(loop, secrets);
    guard->door = door_create(&door);
    guard->lingering = lingering_create(loop, lingering);
    if (guard->auth == NULL || guard->door == NULL || guard->lingering == NULL) {
        guard_destroy(guard);
        return NULL;
    }
    warn_of_exposed(guard);
    return guard;
}

void guard_destroy(struct guard *guard)
{
    if (guard == NULL) {
        return;
    }
    lingering_destroy(guard->lingering);
    auth_destroy(guard->auth);
    door_destroy(guard->door);
    secrets_destroy(guard->secrets);
    free(guard->full_answer);
    free(guard);
}

void guard_configure(struct guard *guard, const struct config *config, struct secrets *secrets,
                     unsigned connections)
{
    struct door_settings door = door_settings_of(config, connections);
    door_configure(guard->door, &door);
    auth_replace(guard->auth, secrets);
    secrets_destroy(guard->secrets);
    guard->secrets = secrets;
    guard->overflow_status = config->overflow_status;
    free(guard->full_answer);
    guard->full_answer = NULL;
    warn_of_exposed(guard);
}

/* Whether only this machine reaches PLACE; a unix: socket has the mode of its file. */
static bool is_local(const struct sockaddr_storage *place)
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)place;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)place;
    return place->ss_family == AF_UNIX ||
           (place->ss_family == AF_INET && ntohl(v4->sin_addr.s_addr) >> 24 == 127) ||
           (place->ss_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr));
}

void guard_look_at(struct guard *guard, const struct acceptor *acceptor, bool for_admin)
{
    struct sockaddr_storage place;
    bool asked = for_admin ? secrets_ask_readers(guard->secrets) : auth_is_on(guard->auth);
    if (asked || !acceptor_place(acceptor, &place) || is_local(&place)) {
        return;
    }
    log_event(guard->log, CONFIG_LEVEL_WARNING, "open_to_all", "address",
              acceptor_address(acceptor), "for", for_admin ? "admin" : "data", "reason",
              for_admin ? "whoever reaches this address may see what is going on, and end it where "
                          "there is no auth.admin.operate: set auth.admin.read and "
                          "auth.admin.operate, or listen on a loopback address"
                        : "whoever reaches this address may use it: set auth.clients, or listen "
                          "on a loopback address",
              NULL);
}

/* --- connections beyond a client's share --- */

static void write_field(void *context, const char *name, const char *value)
{
    (void)fprintf(context, "%s: %s\r\n", name, value);
}

/* Every client is told the same, so it is made once. */
static void make_full_answer(struct guard *guard)
{
    struct problem_report report = {
        .problem = PROBLEM_CLIENT_FULL,
        .overflow_status = guard->overflow_status,
        .detail = "close some of the connections, or use those that are idle",
        .queued = -1,
        .limit = -1,
    };
    size_t bytes = 0;
    char *body = problem_body(&report, &bytes);
    FILE *stream = open_memstream(&guard->full_answer, &guard->full_answer_bytes);
    if (body != NULL && stream != NULL) {
        unsigned status = problem_status(report.problem, report.overflow_status);
        (void)fprintf(stream, "HTTP/1.1 %u %s\r\n", status,
                      status == 429 ? "Too Many Requests" : "Service Unavailable");
        reply_write_problem(&report, 0, write_field, stream);
        (void)fprintf(stream, "Via: 1.1 weir\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
                      bytes, body);
    }
    if (stream != NULL) {
        (void)fclose(stream);
    }
    free(body);
}

static void refuse(struct guard *guard, int fd, const struct sockaddr *peer, socklen_t bytes,
                   uint64_t now_ns)
{
    char address[DOOR_ADDRESS_MAX];
    if (guard->full_answer == NULL) {
        make_full_answer(guard);
    }
    if (guard->full_answer != NULL) {
        (void)send(fd, guard->full_answer, guard->full_answer_bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    lingering_close(guard->lingering, fd, now_ns);
    door_print_address(peer, bytes, address);
    struct log_request line = {
        .client = address,
        .form = "none",
        .status = problem_status(PROBLEM_CLIENT_FULL, guard->overflow_status),
        .outcome = problem_kind(PROBLEM_CLIENT_FULL)->word,
    };
    log_write_request(guard->log, &line);
}

int guard_take(struct guard *guard, struct acceptor *acceptor, struct sockaddr_storage *ret_peer,
               socklen_t *ret_peer_bytes, uint64_t now_ns)
{
    for (int refused = 0; refused < REFUSED_IN_A_TURN; refused++) {
        if (door_is_full(guard->door)) {
            return -1;
        }
        acceptor_pause(acceptor, false);
        int fd = acceptor_take(acceptor, ret_peer, ret_peer_bytes, now_ns);
        if (fd < 0) {
            return -1;
        }
        switch (door_enter(guard->door, fd, (struct sockaddr *)ret_peer)) {
        case DOOR_ENTERED:
            return fd;
        case DOOR_CLIENT_FULL:
            refuse(guard, fd, (struct sockaddr *)ret_peer, *ret_peer_bytes, now_ns);
            break;
        case DOOR_NO_MEMORY:
            close(fd);
            break;
        }
    }
    return -1; /* the rest is taken in the next turn: nobody may keep this one busy */
}

/* --- the turn --- */

bool guard_run(struct guard *guard, uint64_t now_ns)
{
    bool worked = auth_run(guard->auth, now_ns);
    return lingering_run(guard->lingering, now_ns) || worked;
}

uint64_t guard_next_ns(const struct guard *guard)
{
    return lingering_next_ns(guard->lingering);
}

bool guard_is_busy(const struct guard *guard)
{
    return auth_is_busy(guard->auth);
}

struct auth *guard_auth(const struct guard *guard)
{
    return guard->auth;
}

struct door *guard_door(const struct guard *guard)
{
    return guard->door;
}

struct lingering *guard_lingering(const struct guard *guard)
{
    return guard->lingering;
}

const struct secrets *guard_secrets(const struct guard *guard)
{
    return guard->secrets;
}

/*
 * The head of a CONNECT request: read, checked, and the way to a slot. See tunnel.h.
 */
#include "server/tunnel_state.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Asks for a slot. */
static void ask_limiter(struct tunnel *tunnel)
{
    struct tunnels *all = tunnel->all;
    const char *detail;
    enum limiter_verdict verdict =
        admission_ask(all->parts.limiter, all->parts.sockets, tunnel->origin->host,
                      tunnel->queue_timeout_ns, ADMISSION_TUNNEL, &tunnel->place, all->now_ns);
    tunnel->ahead = tunnel->place.ticket.ahead;
    if (verdict == LIMITER_ADMITTED) {
        tunnel_on_admission(tunnel);
    } else if (verdict == LIMITER_QUEUED) {
        tunnel_move(tunnel, TUNNEL_WAITING);
    } else {
        enum problem problem = admission_problem(verdict, &detail);
        tunnel_refuse(tunnel, problem, detail);
    }
}

/* Its client may have a tunnel: whether there may be one to where it leads, and now. */
static void go_on(struct tunnel *tunnel)
{
    struct tunnels *all = tunnel->all;
    struct egress_target target = tunnel_target(tunnel);
    const char *detail;
    if (all->draining) {
        limiter_count_rejection(all->parts.limiter, tunnel->origin->host,
                                LIMITER_REJECTED_DRAINING);
        tunnel_refuse(tunnel, PROBLEM_DRAINING, "the service is shutting down");
        return;
    }
    enum problem problem = egress_check_name(all->egress, &target, &detail);
    if (problem != PROBLEM_NONE) {
        tunnel_deny(tunnel, problem, detail);
        return;
    }
    ask_limiter(tunnel);
}

void tunnel_on_checked(struct tunnel *tunnel, enum problem problem, const char *detail)
{
    if (problem != PROBLEM_NONE) {
        tunnel_refuse(tunnel, problem, detail);
    } else {
        go_on(tunnel);
    }
}

/* Takes from HEAD what outlives it. */
static enum problem take_head(struct tunnel *tunnel, const struct connect_head *head,
                              const char **ret_detail)
{
    struct headers_request_facts facts;
    const char *self = tunnel->all->parts.identity->self;
    enum problem problem = headers_check_request(&head->request, self, &facts, ret_detail);
    if (problem != PROBLEM_NONE) {
        return problem;
    }
    if (facts.request_id != NULL) {
        tunnel->own_request_id = strndup(facts.request_id->value, facts.request_id->value_bytes);
        if (tunnel->own_request_id == NULL) {
            *ret_detail = "out of memory for the request";
            return PROBLEM_INTERNAL;
        }
        tunnel->request_id = tunnel->own_request_id;
    }
    if (facts.chunked || (facts.has_body && facts.content_length > 0)) {
        *ret_detail = "CONNECT cannot have a body";
        return PROBLEM_BAD_REQUEST;
    }
    tunnel->queue_timeout_ns =
        facts.queue_timeout_ns == HEADERS_NEVER ? LIMITER_NEVER : facts.queue_timeout_ns;
    tunnel->total_ns = facts.fetch_timeout_ns == HEADERS_NEVER ? 0 : facts.fetch_timeout_ns;
    return connect_parse_authority(tunnel->all->origins, head->target, head->target_bytes,
                                   &tunnel->origin, ret_detail);
}

/* TEXT is the whole head. */
static void begin(struct tunnel *tunnel, const char *text, size_t bytes)
{
    struct tunnels *all = tunnel->all;
    struct connect_head head;
    const char *detail = NULL;
    enum problem problem = connect_parse(text, bytes, &head, &detail);
    if (problem != PROBLEM_NONE) {
        tunnel_refuse(tunnel, problem, detail);
        return;
    }
    problem = take_head(tunnel, &head, &detail);
    bool known = problem != PROBLEM_NONE ||
                 auth_ask(all->parts.auth, head.request.fields, head.request.count,
                          &tunnel->credentials, &all->answered, all->now_ns, &problem, &detail);
    connect_finish(&head);
    wire_watch(tunnel->relay.wires[RELAY_CLIENT], UV_DISCONNECT);
    if (known) {
        tunnel_on_checked(tunnel, problem, detail);
    } else {
        tunnel_move(tunnel, TUNNEL_CHECKING);
    }
}

/* Keeps BYTES of DATA as what has come. */
static bool keep_come(struct tunnel *tunnel, const char *data, size_t bytes)
{
    free(tunnel->come);
    tunnel->come = bytes > 0 ? malloc(bytes) : NULL;
    tunnel->come_bytes = bytes;
    if (tunnel->come != NULL) {
        memcpy(tunnel->come, data, bytes);
    }
    return tunnel->come != NULL || bytes == 0;
}

void tunnel_read_head(struct tunnel *tunnel)
{
    char *buffer = tunnel->all->buffer;
    size_t most = tunnel->all->settings.header_bytes;
    size_t head_bytes = 0;
    size_t bytes = tunnel->come_bytes;
    assert(most <= RELAY_BYTES && bytes < most);
    if (bytes > 0) {
        memcpy(buffer, tunnel->come, bytes);
    }
    ssize_t got =
        recv(tunnel->relay.wires[RELAY_CLIENT]->fd, buffer + bytes, RELAY_BYTES - bytes, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (got <= 0) {
        tunnel_end(tunnel, "client_gone", TUNNEL_CLOSE);
        return;
    }
    bytes += (size_t)got;
    enum connect_found found = connect_scan(&tunnel->scan, buffer, bytes, &head_bytes);
    if (found == CONNECT_BROKEN) {
        tunnel_refuse(tunnel, PROBLEM_BAD_REQUEST, "a line of the head does not end in CR LF");
    } else if ((found == CONNECT_WHOLE ? head_bytes : bytes) >= most) {
        tunnel_refuse(tunnel, PROBLEM_HEADER_TOO_LARGE,
                      "the request's head is larger than header_bytes");
    } else if (!keep_come(tunnel, buffer + head_bytes, bytes - head_bytes)) {
        tunnel_refuse(tunnel, PROBLEM_INTERNAL, "out of memory for the request");
    } else if (found == CONNECT_WHOLE) {
        begin(tunnel, buffer, head_bytes);
    }
}

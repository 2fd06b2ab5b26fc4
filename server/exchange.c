/*
 * See exchange.h. This file is the way from a request to its fetch; the answer is in answer.c, what
 * all exchanges have in common in exchanges.c.
 *
 * Who holds what: the exchange owns its copy of the target, its ticket, its two pipes and its
 * fetch. The slot goes back as soon as the upstream half is over, whatever the client still has to
 * read; the rest when the client half is over.
 *
 * While the client half waits for the upstream nothing is charged to the client, and the other way
 * round: `client_ns` is when it was last the client's turn and the client did something.
 */
#include "server/exchange_state.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* How much of a body is read and thrown away to be able to answer before its end. */
#define DISCARD_BYTES (UINT64_C(1) << 20)

/* --- states --- */

void exchange_wake(struct exchange *exchange)
{
    if (!exchange->is_awake && exchange->state != EXCHANGE_ENDED) {
        exchange->is_awake = true;
        TAILQ_INSERT_TAIL(&exchange->all->awake, exchange, in_awake);
    }
}

/* It is the client's turn from now on. */
void exchange_arm(struct exchange *exchange)
{
    struct exchanges *all = exchange->all;
    exchange->client_ns = all->now_ns;
    if (!exchange->timer.armed) {
        wheel_arm(&all->wheel, &exchange->timer,
                  all->now_ns + all->settings.timeouts.client_idle_ns);
    }
}

static bool is_open(enum exchange_state state)
{
    return state != EXCHANGE_READING && state != EXCHANGE_ENDED;
}

/* The one place that changes the state. */
void exchange_move(struct exchange *exchange, enum exchange_state state)
{
    assert(exchange->state != EXCHANGE_ENDED);
    exchange->all->counts.open -= is_open(exchange->state);
    exchange->all->counts.open += is_open(state);
    exchange->state = state;
    bool reads_on = state != EXCHANGE_FETCHING || exchange->facts.has_body;
    if (state != EXCHANGE_CHECKING && state != EXCHANGE_WAITING && state != EXCHANGE_ENDED &&
        reads_on) {
        exchange_wake(exchange);
    }
}

/* The upstream half is over: the slot, or the place in the queue, is free again. */
void exchange_give_back(struct exchange *exchange)
{
    struct exchanges *all = exchange->all;
    if (exchange->place.ticket.state == LIMITER_WAITING) {
        exchange->queue_ns = all->now_ns - exchange->place.ticket.arrived_ns;
    }
    limiter_release(all->parts.limiter, &exchange->place.ticket, all->now_ns);
}

void exchange_end_fetch(struct exchange *exchange)
{
    auth_cancel(&exchange->credentials);
    if (exchange->fetch != NULL) {
        struct fetch_times times = fetch_times(exchange->fetch);
        uint64_t end_ns = times.ended_ns > 0 ? times.ended_ns : exchange->all->now_ns;
        exchange->fetch_ns = end_ns - times.started_ns;
        fetch_destroy(exchange->fetch);
        exchange->fetch = NULL;
    }
    exchange_give_back(exchange);
}

void exchange_cut(struct exchange *exchange, const char *outcome)
{
    if (exchange->state == EXCHANGE_ABORTING || exchange->state == EXCHANGE_ENDED) {
        return;
    }
    exchange->outcome = outcome;
    exchange_move(exchange, EXCHANGE_ABORTING);
}

void exchange_abort(struct exchange *exchange, const char *outcome)
{
    exchange_cut(exchange, outcome);
    exchange_end_fetch(exchange);
}

bool exchange_aborted(const struct exchange *exchange)
{
    return exchange->state == EXCHANGE_ABORTING;
}

void exchange_refuse(struct exchange *exchange, enum problem problem, const char *detail)
{
    exchange->problem = problem;
    exchange->detail = detail;
    exchange->all->counts.problems_total++;
    if (exchange->facts.has_body && !exchange->upload_done) {
        exchange_arm(exchange);
    }
    exchange_move(exchange, EXCHANGE_REFUSING);
}

/* Adds to a problem what is known of its host. */
void exchange_tell_of_host(struct exchange *exchange, const struct limiter_host *host)
{
    struct limiter_view view;
    if (host == NULL) {
        return;
    }
    limiter_describe(host, exchange->all->now_ns, &view);
    exchange->host_queued = view.queued;
    exchange->host_limit = view.limit;
    exchange->retry_ns = limiter_expected_wait_ns(host, view.queued);
}

void exchange_count_denial(struct exchange *exchange, enum problem problem)
{
    if (problem == PROBLEM_DENIED_NAME || problem == PROBLEM_DENIED_ADDRESS ||
        problem == PROBLEM_LOOP) {
        limiter_count_rejection(exchange->all->parts.limiter, exchange->target.origin->host,
                                LIMITER_REJECTED_DENIED);
    }
}

/* --- from request to fetch --- */

struct exchange *exchange_create(struct exchanges *exchanges, const char *raw, const char *client,
                                 void *context)
{
    struct exchange *exchange = calloc(1, sizeof *exchange);
    char *copy = strdup(raw);
    if (exchange == NULL || copy == NULL) {
        free(exchange);
        free(copy);
        return NULL;
    }
    exchange->all = exchanges;
    exchange->raw = copy;
    exchange->client = client;
    exchange->context = context;
    exchange->upload.budget = &exchanges->budget;
    exchange->download.budget = &exchanges->budget;
    exchange->host_queued = -1;
    exchange->host_limit = -1;
    identity_make_id(exchanges->parts.identity, exchange->id, sizeof exchange->id);
    exchange->request_id = exchange->id;
    TAILQ_INSERT_TAIL(&exchanges->all, exchange, in_all);
    exchanges->counts.requests_total++;
    return exchange;
}

void *exchange_context(const struct exchange *exchange)
{
    return exchange->context;
}

bool exchange_begun(const struct exchange *exchange)
{
    return exchange->state != EXCHANGE_READING;
}

static void add_field(struct exchange *exchange, size_t *count, const char *name, const char *value)
{
    struct header *field = &exchange->fields[(*count)++];
    field->name = name;
    field->name_bytes = (uint32_t)strlen(name);
    field->value = value;
    field->value_bytes = (uint32_t)strlen(value);
}

/* Leaves in exchange->fields what goes to the upstream, ours at the end. Returns how many. */
static size_t choose_fields(struct exchange *exchange)
{
    const struct upstream *upstream = exchange->target.upstream;
    size_t kept = 0;
    for (size_t i = 0; i < exchange->request.count; i++) {
        const struct header *field = &exchange->request.fields[i];
        if (headers_pass_request(&exchange->request, &exchange->facts, i) &&
            (upstream == NULL || !upstream_replaces(upstream, field))) {
            exchange->fields[kept++] = *field;
        }
    }
    for (size_t i = 0; upstream != NULL && i < upstream->field_count; i++) {
        exchange->fields[kept++] = upstream->fields[i];
    }
    if (exchange->facts.te_trailers) {
        add_field(exchange, &kept, "TE", "trailers");
        add_field(exchange, &kept, "Connection", "TE");
    }
    add_field(exchange, &kept, "X-Request-Id", exchange->request_id);
    add_field(exchange, &kept, "Via", exchange->all->parts.identity->via);
    return kept;
}

/* What the configuration grants to who takes the way that this request took. */
static unsigned egress_grants_of(const struct exchange *exchange)
{
    const struct upstream *upstream = exchange->target.upstream;
    if (upstream == NULL) {
        return EGRESS_GRANT_NONE;
    }
    return EGRESS_GRANT_PORT | (upstream->allow_private ? EGRESS_GRANT_PRIVATE : 0U);
}

void exchange_start_fetch(struct exchange *exchange)
{
    struct exchanges *all = exchange->all;
    const struct config_timeouts *timeouts = &all->settings.timeouts;
    const struct headers_request_facts *facts = &exchange->facts;

    exchange->queue_ns = exchange->place.ticket.started_ns - exchange->place.ticket.arrived_ns;
    struct fetch_request request = {
        .origin = exchange->target.origin,
        .limiter = all->parts.limiter,
        .host = exchange->place.ticket.host,
        .method = exchange->request.method,
        .path = exchange->target.request_path,
        .fields = exchange->fields,
        .body = facts->chunked    ? FETCH_BODY_CHUNKED
                : facts->has_body ? FETCH_BODY_LENGTH
                                  : FETCH_BODY_NONE,
        .body_bytes = facts->content_length,
        .upload = &exchange->upload,
        .download = &exchange->download,
        .timeouts = {timeouts->connect_ns, timeouts->first_byte_ns, timeouts->upstream_idle_ns,
                     timeouts->fetch_ns},
        .egress_grants = egress_grants_of(exchange),
        .owner = exchange,
    };
    request.field_count = choose_fields(exchange);
    uint64_t asked_ns = facts->fetch_timeout_ns;
    if (asked_ns != HEADERS_NEVER && (timeouts->fetch_ns == 0 || asked_ns < timeouts->fetch_ns)) {
        request.timeouts.total_ns = asked_ns > 0 ? asked_ns : 1;
    }
    exchange->fetch = fetch_start(all->parts.fetcher, &request, all->now_ns);
    free(exchange->fields);
    exchange->fields = NULL;
    if (exchange->fetch == NULL) {
        exchange_give_back(exchange);
        exchange_refuse(exchange, PROBLEM_INTERNAL, "out of memory for the fetch");
        return;
    }
    if (facts->has_body) {
        exchange_arm(exchange);
    }
    exchange_move(exchange, EXCHANGE_FETCHING);
}

static void ask_limiter(struct exchange *exchange)
{
    struct exchanges *all = exchange->all;
    const char *detail;
    uint64_t max_wait_ns = exchange->facts.queue_timeout_ns == HEADERS_NEVER
                               ? LIMITER_NEVER
                               : exchange->facts.queue_timeout_ns;
    const char *host = exchange->target.origin->host;
    enum limiter_verdict verdict =
        admission_ask(all->parts.limiter, fetcher_sockets(all->parts.fetcher), host, max_wait_ns,
                      ADMISSION_EXCHANGE, &exchange->place, all->now_ns);
    if (verdict == LIMITER_ADMITTED) {
        exchange_start_fetch(exchange);
    } else if (verdict == LIMITER_QUEUED) {
        exchange_move(exchange, EXCHANGE_WAITING);
    } else {
        exchange_tell_of_host(exchange, limiter_find(all->parts.limiter, host));
        enum problem problem = admission_problem(verdict, &detail);
        exchange_refuse(exchange, problem, detail);
    }
}

/* The target's name and port are let out, or the request is refused. */
static bool may_leave(struct exchange *exchange)
{
    const char *detail;
    const struct origin *origin = exchange->target.origin;
    struct egress_target target = {origin->name, origin->port, egress_grants_of(exchange)};
    enum problem problem = egress_check_name(exchange->all->egress, &target, &detail);
    if (problem != PROBLEM_NONE) {
        exchange_count_denial(exchange, problem);
        exchange_refuse(exchange, problem, detail);
    }
    return problem == PROBLEM_NONE;
}

/* Keeps what outlives the caller's array, with room for our own fields. */
static bool keep_request(struct exchange *exchange, const struct headers_request *request)
{
    const struct header *id = exchange->facts.request_id;
    exchange->fields = malloc((request->count + 4) * sizeof *exchange->fields);
    if (exchange->fields == NULL) {
        return false;
    }
    memcpy(exchange->fields, request->fields, request->count * sizeof *exchange->fields);
    exchange->request.fields = exchange->fields;
    exchange->facts.request_id = NULL;
    if (id != NULL) {
        exchange->own_request_id = strndup(id->value, id->value_bytes);
        if (exchange->own_request_id == NULL) {
            return false;
        }
        exchange->request_id = exchange->own_request_id;
    }
    return true;
}

/* Room for the fields that a named upstream adds. */
static bool make_field_room(struct exchange *exchange)
{
    size_t count = exchange->target.upstream != NULL ? exchange->target.upstream->field_count : 0;
    if (count == 0) {
        return true;
    }
    struct header *grown = reallocarray(exchange->fields, exchange->request.count + count + 4,
                                        sizeof *exchange->fields);
    if (grown == NULL) {
        return false;
    }
    exchange->fields = grown;
    exchange->request.fields = grown;
    return true;
}

/* Whether a body follows that is not empty. */
static bool has_bytes(const struct exchange *exchange)
{
    const struct headers_request_facts *facts = &exchange->facts;
    return facts->has_body && (facts->chunked || facts->content_length > 0);
}

/* The client may ask: for what, and whether that can be done now. */
static void begin_admitted(struct exchange *exchange)
{
    struct exchanges *all = exchange->all;
    const char *method = exchange->request.method;
    const char *detail = NULL;
    enum problem problem = target_parse(all->origins, all->upstreams, method, exchange->raw,
                                        &exchange->target, &detail);
    if (problem != PROBLEM_NONE) {
        exchange_refuse(exchange, problem, detail);
    } else if (!make_field_room(exchange)) {
        exchange_refuse(exchange, PROBLEM_INTERNAL, "out of memory for the request");
    } else if (exchange->target.form == TARGET_TUNNEL) {
        exchange->close = true;
        exchange_refuse(exchange, PROBLEM_BAD_REQUEST,
                        "CONNECT must be the first request of a connection: open a new one for it");
    } else if (strcmp(method, "HEAD") == 0 && has_bytes(exchange)) {
        exchange_refuse(exchange, PROBLEM_BAD_REQUEST, "a HEAD request cannot have a body");
    } else if (all->draining) {
        exchange->close = true;
        limiter_count_rejection(all->parts.limiter, exchange->target.origin->host,
                                LIMITER_REJECTED_DRAINING);
        exchange_refuse(exchange, PROBLEM_DRAINING, "the service is shutting down");
    } else if (pipe_budget_is_spent(&all->budget)) {
        all->counts.buffers_full_total++;
        exchange_refuse(exchange, PROBLEM_BUFFERS_FULL,
                        "the bodies that are under way fill buffer_bytes");
    } else if (may_leave(exchange)) {
        ask_limiter(exchange);
    }
}

void exchange_go_on(struct exchange *exchange, enum problem problem, const char *detail)
{
    if (problem == PROBLEM_NONE) {
        begin_admitted(exchange);
        return;
    }
    if (has_bytes(exchange)) { /* not a byte is read for somebody unknown */
        exchange->head_answer = true;
        exchange->close = true;
    }
    exchange_refuse(exchange, problem, detail);
}

static void ask_credentials(struct exchange *exchange, const struct headers_request *request)
{
    struct exchanges *all = exchange->all;
    enum problem problem;
    const char *detail;
    if (auth_ask(all->parts.auth, request->fields, request->count, &exchange->credentials,
                 &all->checked, all->now_ns, &problem, &detail)) {
        exchange_go_on(exchange, problem, detail);
    } else {
        exchange_move(exchange, EXCHANGE_CHECKING);
    }
}

void exchange_begin(struct exchange *exchange, const struct headers_request *request,
                    const char *defect, uint64_t now_ns)
{
    struct exchanges *all = exchange->all;
    const char *detail = NULL;
    assert(exchange->state == EXCHANGE_READING);
    all->now_ns = now_ns;
    exchange->request = *request;

    enum problem problem =
        headers_check_request(request, all->parts.identity->self, &exchange->facts, &detail);
    exchange->close = exchange->facts.close;
    if (defect != NULL) {
        problem = PROBLEM_BAD_REQUEST;
        detail = defect;
    }
    if (problem != PROBLEM_NONE) {
        exchange->close = true; /* where a request ends is in doubt: nothing after it is read */
        exchange->head_answer = true;
        exchange_refuse(exchange, problem, detail);
        return;
    }
    exchange->upload_done = !exchange->facts.has_body;
    exchange->head_answer = exchange->facts.expect_continue;
    if (!keep_request(exchange, request)) {
        exchange_refuse(exchange, PROBLEM_INTERNAL, "out of memory for the request");
        return;
    }
    ask_credentials(exchange, request);
}

/* --- the request's body --- */

/* Nobody wants the rest of the request's body. */
static bool upload_unwanted(const struct exchange *exchange)
{
    if (exchange->state == EXCHANGE_REFUSING || exchange->fetch == NULL) {
        return true;
    }
    const struct fetch_answer *answer = fetch_answer(exchange->fetch);
    return fetch_upload_over(exchange->fetch) || (answer != NULL && answer->status >= 300);
}

/* The word for the log where so much of an unwanted body comes that the client is cut off. */
static const char *why_unwanted(const struct exchange *exchange)
{
    const char *detail;
    enum problem problem = exchange->problem;
    if (problem == PROBLEM_NONE && exchange->fetch != NULL &&
        fetch_state(exchange->fetch) == FETCH_FAILED) {
        problem = fetch_problem(exchange->fetch, &detail);
    }
    return problem != PROBLEM_NONE ? problem_kind(problem)->word : "upload_unwanted";
}

size_t exchange_upload(struct exchange *exchange, const char *data, size_t bytes, uint64_t now_ns)
{
    exchange->all->now_ns = now_ns;
    exchange->client_ns = now_ns;
    exchange->upload_blocked = false;
    if (exchange->state == EXCHANGE_ABORTING) {
        return bytes;
    }
    if (upload_unwanted(exchange)) {
        exchange->discarded_bytes += bytes;
        if (exchange->discarded_bytes > DISCARD_BYTES) {
            exchange_cut(exchange, why_unwanted(exchange));
        }
        return bytes;
    }
    size_t room = pipe_room(&exchange->upload);
    size_t taken = bytes < room ? bytes : room;
    if (taken > 0 && !pipe_write(&exchange->upload, data, taken)) {
        exchange_cut(exchange, problem_kind(PROBLEM_INTERNAL)->word);
        return bytes;
    }
    exchange->upload_blocked = taken < bytes;
    exchange->bytes_in += taken;
    fetch_upload_ready(exchange->fetch);
    return taken;
}

void exchange_upload_end(struct exchange *exchange, const struct header *trailers, size_t count,
                         uint64_t now_ns)
{
    exchange->all->now_ns = now_ns;
    exchange->upload_done = true;
    if (exchange->fetch == NULL || exchange->upload.closed) {
        return;
    }
    size_t passed = 0;
    struct header *chosen = count > 0 ? malloc(count * sizeof *chosen) : NULL;
    for (size_t i = 0; i < count && chosen != NULL; i++) {
        if (headers_pass_trailer(&trailers[i])) {
            chosen[passed++] = trailers[i];
        }
    }
    if ((count > 0 && chosen == NULL) || !fetch_set_trailers(exchange->fetch, chosen, passed)) {
        exchange_cut(exchange, problem_kind(PROBLEM_INTERNAL)->word);
    }
    free(chosen);
    exchange->upload.closed = true;
    fetch_upload_ready(exchange->fetch);
}

enum exchange_step exchange_step(const struct exchange *exchange, bool head_only)
{
    switch (exchange->state) {
    case EXCHANGE_CHECKING:
    case EXCHANGE_WAITING:
        /* the body of a waiting request is not read; one without a body has been read already */
        return head_only && !exchange->facts.has_body ? EXCHANGE_READ : EXCHANGE_WAIT;
    case EXCHANGE_FETCHING:
        return head_only ? EXCHANGE_READ : EXCHANGE_WAIT;
    case EXCHANGE_ANSWERING:
        return head_only ? EXCHANGE_READ : EXCHANGE_ANSWER;
    case EXCHANGE_REFUSING:
        return head_only && !exchange->head_answer ? EXCHANGE_READ : EXCHANGE_ANSWER;
    case EXCHANGE_READING:
    case EXCHANGE_ABORTING:
    case EXCHANGE_ENDED:
        break;
    }
    return EXCHANGE_CUT;
}

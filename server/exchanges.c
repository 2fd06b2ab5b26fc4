/*
 * All exchanges: their part of the turn, their settings and counts, their log lines and their end.
 * See exchange.h.
 */
#include "server/exchange_state.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct exchanges *exchanges_create(const struct exchanges_parts *parts,
                                   const struct exchanges_settings *settings, uint64_t now_ns)
{
    struct exchanges *exchanges = calloc(1, sizeof *exchanges);
    if (exchanges == NULL) {
        return NULL;
    }
    exchanges->origins = origin_cache_create(1024);
    if (exchanges->origins == NULL) {
        free(exchanges);
        return NULL;
    }
    exchanges->parts = *parts;
    exchanges->settings = *settings;
    exchanges->now_ns = now_ns;
    wheel_init(&exchanges->wheel, now_ns);
    TAILQ_INIT(&exchanges->all);
    TAILQ_INIT(&exchanges->awake);
    TAILQ_INIT(&exchanges->checked);
    exchanges->budget.limit = settings->buffer_bytes;
    TAILQ_INIT(&exchanges->ended);
    return exchanges;
}

void exchanges_destroy(struct exchanges *exchanges)
{
    if (exchanges == NULL) {
        return;
    }
    assert(TAILQ_EMPTY(&exchanges->all));
    exchanges_reap(exchanges);
    assert(exchanges->budget.bytes == 0);
    origin_cache_destroy(exchanges->origins);
    free(exchanges);
}

void exchanges_configure(struct exchanges *exchanges, const struct exchanges_settings *settings)
{
    exchanges->settings = *settings;
    exchanges->budget.limit = settings->buffer_bytes;
}

void exchanges_set_egress(struct exchanges *exchanges, const struct egress *egress)
{
    exchanges->egress = egress;
}

void exchanges_set_upstreams(struct exchanges *exchanges, const struct upstreams *upstreams)
{
    exchanges->upstreams = upstreams;
}

void exchanges_drain(struct exchanges *exchanges)
{
    exchanges->draining = true;
}

struct exchanges_counts exchanges_counts(const struct exchanges *exchanges)
{
    struct exchanges_counts counts = exchanges->counts;
    counts.buffers = exchanges->budget;
    return counts;
}

struct exchange *exchanges_take_awake(struct exchanges *exchanges)
{
    struct exchange *exchange = TAILQ_FIRST(&exchanges->awake);
    if (exchange != NULL) {
        TAILQ_REMOVE(&exchanges->awake, exchange, in_awake);
        exchange->is_awake = false;
    }
    return exchange;
}

void exchanges_abort_all(struct exchanges *exchanges)
{
    struct exchange *exchange;
    TAILQ_FOREACH (exchange, &exchanges->all, in_all) {
        exchange_abort(exchange, "draining");
    }
}

/* --- the turn --- */

static void on_news(struct exchange *exchange)
{
    struct fetch *fetch = exchange->fetch;
    if (fetch_state(fetch) != FETCH_RUNNING) {
        exchange_give_back(exchange);
    }
    if (exchange->state == EXCHANGE_FETCHING) {
        if (fetch_answer(fetch) != NULL) {
            exchange_move(exchange, EXCHANGE_ANSWERING);
        } else if (fetch_state(fetch) == FETCH_FAILED) {
            const char *detail;
            enum problem problem = fetch_problem(fetch, &detail);
            exchange_count_denial(exchange, problem);
            exchange_tell_of_host(exchange, limiter_find(exchange->all->parts.limiter,
                                                         exchange->target.origin->host));
            exchange_refuse(exchange, problem, detail);
        }
    }
    if (exchange->starved || exchange->upload_blocked) {
        exchange->starved = false;
        exchange->client_ns = exchange->all->now_ns;
        exchange_wake(exchange);
    }
}

/* Whether it is the client that keeps the exchange from going on. */
static bool waits_for_client(const struct exchange *exchange)
{
    if (exchange->answered) {
        return !exchange->starved;
    }
    return !exchange->upload_done && !exchange->upload_blocked &&
           exchange->state != EXCHANGE_WAITING && exchange->state != EXCHANGE_CHECKING;
}

static void on_due(struct exchange *exchange)
{
    struct exchanges *all = exchange->all;
    uint64_t idle_ns = all->settings.timeouts.client_idle_ns;
    uint64_t deadline_ns = exchange->client_ns + idle_ns;
    if (waits_for_client(exchange) && deadline_ns <= all->now_ns) {
        exchange_abort(exchange, "client_idle");
        return;
    }
    wheel_arm(&all->wheel, &exchange->timer,
              deadline_ns > all->now_ns ? deadline_ns : all->now_ns + idle_ns);
}

bool exchanges_run(struct exchanges *exchanges, uint64_t now_ns)
{
    bool worked = false;
    exchanges->now_ns = now_ns;

    struct fetch *fetch;
    while ((fetch = fetcher_take_news(exchanges->parts.fetcher)) != NULL) {
        on_news(fetch_owner(fetch));
        worked = true;
    }
    struct auth_query *query;
    while ((query = auth_take(&exchanges->checked)) != NULL) {
        exchange_go_on((struct exchange *)((char *)query - offsetof(struct exchange, credentials)),
                       query->problem, query->detail);
        worked = true;
    }
    struct wheel_timer *timer;
    while ((timer = wheel_take_due(&exchanges->wheel, now_ns)) != NULL) {
        on_due((struct exchange *)((char *)timer - offsetof(struct exchange, timer)));
        worked = true;
    }
    return worked;
}

void exchanges_admit(struct exchanges *exchanges, struct admission_place *place)
{
    struct exchange *exchange =
        (struct exchange *)((char *)place - offsetof(struct exchange, place));
    assert(place->owner == ADMISSION_EXCHANGE);
    if (place->ticket.state == LIMITER_ACTIVE) {
        exchange_start_fetch(exchange);
        return;
    }
    exchange->queue_ns = exchanges->now_ns - place->ticket.arrived_ns;
    exchange_tell_of_host(exchange, place->ticket.host);
    exchange_give_back(exchange);
    exchange_refuse(exchange, PROBLEM_QUEUE_TIMEOUT, "waited for a slot as long as it may");
}

uint64_t exchanges_next_ns(const struct exchanges *exchanges)
{
    return wheel_next_ns(&exchanges->wheel);
}

/* --- the end --- */

static void write_log(struct exchange *exchange, enum exchange_end how)
{
    struct log_request line = {
        .id = exchange->request_id,
        .client = exchange->client,
        .form = target_form_word(exchange->target.form),
        .method = exchange->request.method,
        .host = exchange->target.origin != NULL ? exchange->target.origin->host : NULL,
        .path = exchange->target.request_path,
        .path_bytes = exchange->target.path_bytes,
        .status = exchange->status,
        .bytes_in = exchange->bytes_in,
        .bytes_out = exchange->bytes_out,
        .queue_ns = exchange->queue_ns,
        .fetch_ns = exchange->fetch_ns,
        .ahead = exchange->place.ticket.ahead,
    };
    if (exchange->target.form == TARGET_UPSTREAM) {
        line.path = exchange->raw; /* the base path of a named upstream may be secret */
        line.path_bytes = strcspn(exchange->raw, "?");
    }
    if (exchange->outcome != NULL) {
        line.outcome = exchange->outcome;
    } else if (how == EXCHANGE_CLIENT_GONE) {
        line.outcome = "client_gone";
    } else if (exchange->problem != PROBLEM_NONE) {
        line.outcome = problem_kind(exchange->problem)->word;
    } else {
        line.outcome = how == EXCHANGE_REJECTED ? problem_kind(PROBLEM_BAD_REQUEST)->word : "ok";
    }
    log_write_request(exchange->all->parts.log, &line);
}

void exchanges_log_garbage(struct exchanges *exchanges, const char *client)
{
    struct log_request line = {
        .client = client,
        .form = target_form_word(TARGET_NONE),
        .status = 400,
        .outcome = problem_kind(PROBLEM_BAD_REQUEST)->word,
    };
    log_write_request(exchanges->parts.log, &line);
}

void exchange_end(struct exchange *exchange, enum exchange_end how, unsigned status)
{
    struct exchanges *all = exchange->all;
    if (how == EXCHANGE_REJECTED) {
        exchange->status = status;
    }
    exchange_end_fetch(exchange);
    write_log(exchange, how);
    wheel_disarm(&all->wheel, &exchange->timer);
    if (exchange->is_awake) {
        TAILQ_REMOVE(&all->awake, exchange, in_awake);
        exchange->is_awake = false;
    }
    exchange_move(exchange, EXCHANGE_ENDED);
    all->counts.bytes_in_total += exchange->bytes_in;
    all->counts.bytes_out_total += exchange->bytes_out;
    TAILQ_REMOVE(&all->all, exchange, in_all);
    TAILQ_INSERT_TAIL(&all->ended, exchange, in_all);
}

void exchanges_reap(struct exchanges *exchanges)
{
    struct exchange *exchange;
    while ((exchange = TAILQ_FIRST(&exchanges->ended)) != NULL) {
        TAILQ_REMOVE(&exchanges->ended, exchange, in_all);
        pipe_finish(&exchange->upload);
        pipe_finish(&exchange->download);
        target_finish(&exchange->target);
        free(exchange->fields);
        free(exchange->own_request_id);
        free(exchange->raw);
        free(exchange);
    }
}

/*
 * See fetch.h. This file is one fetch's life; how libcurl is set up and driven is in transfer.c.
 *
 *   RESOLVING --addresses--> CONNECTING --connected--> WAITING --head--> RECEIVING --> ENDED
 *
 * with ENDED reachable from all, and CONNECTING again for the next address where one did not
 * answer. One address is tried at a time, ours to choose: libcurl's own name look-up and its racing
 * of addresses are never used, so that a fetch never has two sockets and the address that was
 * checked is the one that is dialled.
 *
 * Each phase has a deadline. The timer is not moved at every byte: when it fires, the deadline is
 * computed anew from the last activity, and the timer armed again where that has moved on.
 */
#include "server/fetch.h"

#include "server/transfer.h"

#include <assert.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

/* A connect attempt is never given less, however many addresses are left to try. */
#define LEAST_ATTEMPT_NS (UINT64_C(250) * 1000000)

static void begin_attempt(struct fetch *fetch);

void fetch_news(struct fetch *fetch)
{
    if (!fetch->has_news) {
        fetch->has_news = true;
        TAILQ_INSERT_TAIL(&fetch->fetcher->news, fetch, in_news);
    }
}

/* What ends the present phase, and when; UINT64_MAX where nothing does. */
static uint64_t deadline_of(const struct fetch *fetch, enum problem *ret_problem)
{
    const struct fetch_timeouts *timeouts = &fetch->timeouts;
    uint64_t deadline = UINT64_MAX;
    *ret_problem = PROBLEM_UPSTREAM_TIMEOUT;

    switch (fetch->phase) {
    case FETCH_RESOLVING:
        *ret_problem = PROBLEM_DNS_TIMEOUT;
        deadline = fetch->times.started_ns + timeouts->connect_ns;
        break;
    case FETCH_CONNECTING:
        *ret_problem = PROBLEM_CONNECTION_TIMEOUT;
        deadline = fetch->attempt_deadline_ns;
        break;
    case FETCH_WAITING:
        if (fetch->upload_over) {
            deadline = fetch->activity_ns + timeouts->first_byte_ns;
        } else if (!fetch->upload_paused) {
            deadline = fetch->activity_ns + timeouts->upstream_idle_ns;
        } /* else the client is what is slow */
        break;
    case FETCH_RECEIVING:
        if (!fetch->download_paused || fetch->upload_held ||
            (!fetch->upload_over && !fetch->upload_paused)) {
            deadline = fetch->activity_ns + timeouts->upstream_idle_ns;
        }
        break;
    case FETCH_ENDED:
        return UINT64_MAX;
    }
    if (timeouts->total_ns > 0 && fetch->times.started_ns + timeouts->total_ns < deadline) {
        *ret_problem = fetch->phase == FETCH_RESOLVING    ? PROBLEM_DNS_TIMEOUT
                       : fetch->phase == FETCH_CONNECTING ? PROBLEM_CONNECTION_TIMEOUT
                                                          : PROBLEM_UPSTREAM_TIMEOUT;
        deadline = fetch->times.started_ns + timeouts->total_ns;
    }
    return deadline;
}

void fetch_arm(struct fetch *fetch)
{
    enum problem unused;
    uint64_t deadline = deadline_of(fetch, &unused);
    if (deadline == UINT64_MAX && fetch->phase != FETCH_ENDED) {
        deadline = fetch->fetcher->now_ns + fetch->timeouts.upstream_idle_ns; /* to look again */
    }
    wheel_arm(&fetch->fetcher->wheel, &fetch->timer, deadline);
}

/* The one place that changes the phase. */
void fetch_move(struct fetch *fetch, enum fetch_phase phase)
{
    assert(fetch->phase != FETCH_ENDED);
    fetch->phase = phase;
    fetch->activity_ns = fetch->fetcher->now_ns;
    if (phase == FETCH_ENDED) {
        fetch->times.ended_ns = fetch->fetcher->now_ns;
        fetch->upload_over = true;
        resolver_cancel(fetch->fetcher->resolver, &fetch->query);
        transfer_stop(fetch);
        sockets_release_pool(fetch->pool);
        fetch->pool = NULL;
    }
    fetch_arm(fetch);
    fetch_news(fetch);
}

void fetch_fail(struct fetch *fetch, enum problem problem, const char *detail)
{
    if (fetch->problem == PROBLEM_NONE) {
        fetch->problem = problem;
        fetch->detail = detail;
    }
    fetch_move(fetch, FETCH_ENDED);
}

void fetch_try_addresses(struct fetch *fetch, const struct resolver_addresses *addresses)
{
    if (addresses->count == 0) {
        fetch_fail(fetch, PROBLEM_DNS_ERROR,
                   addresses->error == 0 ? "too many names are being looked up at this moment"
                                         : gai_strerror(addresses->error));
        return;
    }
    const char *detail = NULL;
    struct egress_target target = fetch_target(fetch);
    fetch->addresses = *addresses;
    fetch->next_address = 0;
    enum problem problem =
        egress_filter(fetch->fetcher->egress, &target, &fetch->addresses, &detail);
    if (problem != PROBLEM_NONE) {
        fetch_fail(fetch, problem, detail);
        return;
    }
    begin_attempt(fetch);
}

struct egress_target fetch_target(const struct fetch *fetch)
{
    return (struct egress_target){fetch->origin->name, fetch->origin->port, fetch->egress_grants};
}

/* Tries the next address with its share of the time that is left to connect. */
static void begin_attempt(struct fetch *fetch)
{
    uint64_t now_ns = fetch->fetcher->now_ns;
    uint64_t end_ns = fetch->times.started_ns + fetch->timeouts.connect_ns;
    uint64_t left_ns = end_ns > now_ns ? end_ns - now_ns : 0;
    uint64_t share_ns = left_ns / (fetch->addresses.count - fetch->next_address);
    if (share_ns < LEAST_ATTEMPT_NS) {
        share_ns = left_ns < LEAST_ATTEMPT_NS ? left_ns : LEAST_ATTEMPT_NS;
    }
    fetch->attempt_deadline_ns = now_ns + share_ns;
    if (!transfer_start(fetch)) {
        fetch_fail(fetch, PROBLEM_INTERNAL, "out of memory for the transfer");
        return;
    }
    fetch_move(fetch, FETCH_CONNECTING);
}

/* The address did not answer. Returns true where another is now being tried. */
bool fetch_next_address(struct fetch *fetch)
{
    uint64_t end_ns = fetch->times.started_ns + fetch->timeouts.connect_ns;
    fetch->next_address++;
    if (fetch->next_address >= fetch->addresses.count || fetch->fetcher->now_ns >= end_ns) {
        return false;
    }
    transfer_stop(fetch);
    begin_attempt(fetch);
    return true;
}

void fetch_same_address(struct fetch *fetch)
{
    transfer_stop(fetch);
    begin_attempt(fetch);
}

static const char *timeout_detail(enum problem problem, const struct fetch *fetch)
{
    if (problem == PROBLEM_DNS_TIMEOUT) {
        return "the name was not resolved within timeouts.connect";
    }
    if (problem == PROBLEM_CONNECTION_TIMEOUT) {
        return "no connection was established within timeouts.connect";
    }
    uint64_t total_ns = fetch->timeouts.total_ns;
    if (total_ns > 0 && fetch->fetcher->now_ns >= fetch->times.started_ns + total_ns) {
        return "the whole fetch took longer than Weir-Timeout or timeouts.fetch allow";
    }
    return fetch->phase == FETCH_WAITING && fetch->upload_over
               ? "the upstream did not begin its answer within timeouts.first_byte"
               : "the upstream neither took nor sent anything for timeouts.upstream_idle";
}

void fetch_due(struct fetch *fetch)
{
    enum problem problem;
    uint64_t now_ns = fetch->fetcher->now_ns;
    uint64_t total_ns = fetch->timeouts.total_ns;
    if (deadline_of(fetch, &problem) > now_ns) {
        fetch_arm(fetch);
        return;
    }
    bool total_over = total_ns > 0 && now_ns >= fetch->times.started_ns + total_ns;
    if (fetch->phase == FETCH_CONNECTING && !total_over && fetch_next_address(fetch)) {
        return;
    }
    fetch_fail(fetch, problem, timeout_detail(problem, fetch));
}

struct fetch *fetch_start(struct fetcher *fetcher, const struct fetch_request *request,
                          uint64_t now_ns)
{
    struct fetch *fetch = fetcher_take_spare(fetcher);
    if (fetch == NULL) {
        return NULL;
    }
    fetcher->now_ns = now_ns;
    fetch->owner = request->owner;
    fetch->origin = request->origin;
    fetch->upload = request->upload;
    fetch->download = request->download;
    fetch->timeouts = request->timeouts;
    fetch->egress_grants = request->egress_grants;
    fetch->pool = sockets_hold_pool(fetcher->sockets, request->limiter, request->host);
    if (fetch->pool == NULL || !transfer_prepare(fetch, request)) {
        if (fetch->pool != NULL) {
            sockets_release_pool(fetch->pool);
            fetch->pool = NULL;
        }
        fetcher_put_spare(fetch);
        return NULL;
    }
    fetch->times.started_ns = now_ns;
    fetch_move(fetch, FETCH_RESOLVING);

    struct resolver_addresses addresses;
    if (resolver_ask(fetcher->resolver, fetch->origin->name, &fetch->query, now_ns, &addresses)) {
        fetch_try_addresses(fetch, &addresses);
    }
    return fetch;
}

void fetch_destroy(struct fetch *fetch)
{
    if (fetch == NULL) {
        return;
    }
    if (fetch->phase != FETCH_ENDED) {
        fetch_move(fetch, FETCH_ENDED);
    }
    struct fetcher *fetcher = fetch->fetcher;
    wheel_disarm(&fetcher->wheel, &fetch->timer);
    if (fetch->has_news) {
        TAILQ_REMOVE(&fetcher->news, fetch, in_news);
    }
    if (fetch->is_resumed) {
        TAILQ_REMOVE(&fetcher->resumed, fetch, in_resumed);
    }
    fetcher_put_spare(fetch);
}

enum fetch_state fetch_state(const struct fetch *fetch)
{
    if (fetch->phase != FETCH_ENDED) {
        return FETCH_RUNNING;
    }
    return fetch->problem == PROBLEM_NONE ? FETCH_DONE : FETCH_FAILED;
}

void *fetch_owner(const struct fetch *fetch)
{
    return fetch->owner;
}

const struct fetch_answer *fetch_answer(const struct fetch *fetch)
{
    return fetch->has_answer ? &fetch->answer : NULL;
}

enum problem fetch_problem(const struct fetch *fetch, const char **ret_detail)
{
    *ret_detail = fetch->detail;
    return fetch->problem;
}

struct fetch_times fetch_times(const struct fetch *fetch)
{
    return fetch->times;
}

bool fetch_upload_over(const struct fetch *fetch)
{
    return fetch->upload_over;
}

static void resume(struct fetch *fetch)
{
    if (!fetch->is_resumed && fetch->phase != FETCH_ENDED) {
        fetch->is_resumed = true;
        TAILQ_INSERT_TAIL(&fetch->fetcher->resumed, fetch, in_resumed);
    }
}

void fetch_upload_ready(struct fetch *fetch)
{
    if (fetch->upload_paused && !fetch->upload_held) {
        fetch->upload_paused = false;
        fetch->activity_ns = fetch->fetcher->now_ns; /* until now the client was what was slow */
        resume(fetch);
    }
}

void fetch_download_ready(struct fetch *fetch)
{
    if (fetch->download_paused && pipe_is_low(fetch->download)) {
        fetch->download_paused = false;
        fetch->upload_paused = fetch->upload_paused && !fetch->upload_held;
        fetch->upload_held = false;
        fetch->activity_ns = fetch->fetcher->now_ns;
        resume(fetch);
    }
}

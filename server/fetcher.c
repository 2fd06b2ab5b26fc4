/*
 * The fetcher: lanes (libcurl's multi handles), spare fetches, and the part of the turn that drives
 * them. See fetch.h; what happens in one transfer is in transfer.c.
 *
 * Hosts are spread over several multi handles, because what one multi does for a request grows with
 * the hosts that it knows. A fetch that has ended is kept with its easy handle and buffers and used
 * again.
 */
#include "server/transfer.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define SPARES_MAX       256
#define LANE_CONNECTIONS 4U /* a lane may keep at least so many, whatever the bound */

void fetcher_set_egress(struct fetcher *fetcher, const struct egress *egress)
{
    fetcher->egress = egress;
}

void fetcher_set_tls(struct fetcher *fetcher, const struct tls *tls)
{
    const struct origin *origin;
    uint64_t number;
    int fd = -1;
    fetcher->tls = tls;
    while ((fd = sockets_next_tls(fetcher->sockets, fd, &origin, &number)) >= 0) {
        if (tls_profile_number(tls_find(tls, origin->host)) != number) {
            sockets_retire(fetcher->sockets, fd);
        }
    }
}

struct fetch *fetcher_take_news(struct fetcher *fetcher)
{
    struct fetch *fetch = TAILQ_FIRST(&fetcher->news);
    if (fetch != NULL) {
        TAILQ_REMOVE(&fetcher->news, fetch, in_news);
        fetch->has_news = false;
    }
    return fetch;
}

/* --- spare fetches --- */

static void destroy(struct fetch *fetch)
{
    if (fetch->easy != NULL) {
        curl_easy_cleanup(fetch->easy);
    }
    curl_slist_free_all(fetch->request_trailers);
    tls_profile_release(fetch->tls);
    fields_finish(&fetch->head);
    fields_finish(&fetch->tail);
    field_list_finish(&fetch->request_fields);
    free(fetch);
}

/* All that belongs to one request goes; buffers and the easy handle stay. */
static void clear(struct fetch *fetch)
{
    curl_slist_free_all(fetch->request_trailers);
    tls_profile_release(fetch->tls);
    fields_reset(&fetch->head);
    fields_reset(&fetch->tail);
    struct fetch kept = *fetch;
    memset(fetch, 0, offsetof(struct fetch, error));
    fetch->fetcher = kept.fetcher;
    fetch->easy = kept.easy;
    fetch->knows_ports = kept.knows_ports;
    fetch->head = kept.head;
    fetch->tail = kept.tail;
    fetch->request_fields = kept.request_fields;
    fetch->fd = -1;
    fetch->error[0] = '\0';
}

struct fetch *fetcher_take_spare(struct fetcher *fetcher)
{
    struct fetch *fetch = TAILQ_FIRST(&fetcher->spares);
    if (fetch != NULL) {
        TAILQ_REMOVE(&fetcher->spares, fetch, in_spares);
        fetcher->spare_count--;
        return fetch;
    }
    fetch = calloc(1, sizeof *fetch);
    if (fetch == NULL) {
        return NULL;
    }
    fetch->fetcher = fetcher;
    fetch->fd = -1;
    fetch->easy = curl_easy_init();
    if (fetch->easy == NULL || !transfer_set_template(fetch)) {
        destroy(fetch);
        return NULL;
    }
    return fetch;
}

void fetcher_put_spare(struct fetch *fetch)
{
    struct fetcher *fetcher = fetch->fetcher;
    assert(!fetch->is_added);
    /* libcurl 7.88 does not forget that a chunked upload has sent its trailers: the next one made
     * with the same handle would be written in front of its buffer. */
    if (fetcher->spare_count >= SPARES_MAX || fetch->is_spent) {
        destroy(fetch);
        return;
    }
    clear(fetch);
    TAILQ_INSERT_HEAD(&fetcher->spares, fetch, in_spares);
    fetcher->spare_count++;
}

/* --- driving libcurl --- */

static int on_watch(CURL *easy, curl_socket_t fd, int events, void *data, void *unused)
{
    struct lane *lane = data;
    (void)easy, (void)unused;
    sockets_watch(lane->fetcher->sockets, fd, events);
    return 0;
}

static int on_timer(CURLM *multi, long timeout_ms, void *data)
{
    struct lane *lane = data;
    (void)multi;
    lane->due_ns = timeout_ms < 0
                       ? UINT64_MAX
                       : lane->fetcher->now_ns + (uint64_t)timeout_ms * UINT64_C(1000000);
    return 0;
}

static void collect(struct lane *lane)
{
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(lane->multi, &left)) != NULL) {
        struct fetch *fetch = NULL;
        CURLcode code = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &fetch);
        transfer_ended(fetch, code);
    }
}

/* Lets libcurl do something in LANE, and takes what has ended by it. */
static void act(struct lane *lane, curl_socket_t fd, int events)
{
    int running;
    curl_multi_socket_action(lane->multi, fd, events, &running);
    collect(lane);
}

static bool run_resumed(struct fetcher *fetcher)
{
    bool worked = false;
    struct fetch *fetch;
    while ((fetch = TAILQ_FIRST(&fetcher->resumed)) != NULL) {
        TAILQ_REMOVE(&fetcher->resumed, fetch, in_resumed);
        fetch->is_resumed = false;
        if (fetch->is_added) {
            struct lane *lane = &fetcher->lanes[fetch->pool->lane];
            curl_easy_pause(fetch->easy, (fetch->download_paused ? CURLPAUSE_RECV : 0) |
                                             (fetch->upload_paused ? CURLPAUSE_SEND : 0));
            collect(lane);
            worked = true;
        }
    }
    return worked;
}

/* What libcurl has asked to be called for by now; transfers that were just added are that too. */
static bool run_due(struct fetcher *fetcher)
{
    bool worked = false;
    for (unsigned i = 0; i < fetcher->lane_count; i++) {
        struct lane *lane = &fetcher->lanes[i];
        if (lane->due_ns <= fetcher->now_ns) {
            lane->due_ns = UINT64_MAX;
            act(lane, CURL_SOCKET_TIMEOUT, 0);
            worked = true;
        }
    }
    return worked;
}

static bool run_ready(struct fetcher *fetcher)
{
    int fd;
    int events;
    unsigned lane;
    if (!sockets_take_ready(fetcher->sockets, &fd, &lane, &events)) {
        return false;
    }
    act(&fetcher->lanes[lane], fd, events);
    return true;
}

static void retire_idle(struct fetcher *fetcher)
{
    uint64_t now_ns = fetcher->now_ns;
    if (now_ns > fetcher->keepalive_ns) {
        sockets_retire_idle(fetcher->sockets, now_ns - fetcher->keepalive_ns);
    }
}

bool fetcher_run(struct fetcher *fetcher, uint64_t now_ns)
{
    bool worked = false;
    fetcher->now_ns = now_ns;

    struct wheel_timer *timer;
    while ((timer = wheel_take_due(&fetcher->wheel, now_ns)) != NULL) {
        fetch_due((struct fetch *)((char *)timer - offsetof(struct fetch, timer)));
        worked = true;
    }
    struct resolver_query *query;
    struct resolver_addresses addresses;
    while ((query = resolver_take(fetcher->resolver, &addresses)) != NULL) {
        fetch_try_addresses((struct fetch *)((char *)query - offsetof(struct fetch, query)),
                            &addresses);
        worked = true;
    }
    retire_idle(fetcher);
    worked = run_resumed(fetcher) || worked;
    return run_due(fetcher) || run_ready(fetcher) || worked;
}

uint64_t fetcher_next_ns(const struct fetcher *fetcher)
{
    uint64_t next_ns = wheel_next_ns(&fetcher->wheel);
    uint64_t idle_ns = sockets_oldest_idle_ns(fetcher->sockets);
    if (idle_ns != UINT64_MAX && idle_ns + fetcher->keepalive_ns < next_ns) {
        next_ns = idle_ns + fetcher->keepalive_ns;
    }
    for (unsigned i = 0; i < fetcher->lane_count; i++) {
        if (fetcher->lanes[i].due_ns < next_ns) {
            next_ns = fetcher->lanes[i].due_ns;
        }
    }
    return next_ns;
}

struct sockets *fetcher_sockets(const struct fetcher *fetcher)
{
    return fetcher->sockets;
}

static bool create_lane(struct fetcher *fetcher, struct lane *lane, unsigned connections)
{
    lane->fetcher = fetcher;
    lane->due_ns = UINT64_MAX;
    lane->ports = calloc(1, LANE_PORTS_BYTES);
    lane->multi = curl_multi_init();
    if (lane->multi == NULL || lane->ports == NULL) {
        return false;
    }
    curl_multi_setopt(lane->multi, CURLMOPT_SOCKETFUNCTION, on_watch);
    curl_multi_setopt(lane->multi, CURLMOPT_SOCKETDATA, lane);
    curl_multi_setopt(lane->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(lane->multi, CURLMOPT_TIMERDATA, lane);
    curl_multi_setopt(lane->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
    curl_multi_setopt(lane->multi, CURLMOPT_MAXCONNECTS,
                      (long)(connections > LANE_CONNECTIONS ? connections : LANE_CONNECTIONS));
    return true;
}

struct fetcher *fetcher_create(uv_loop_t *loop, struct resolver *resolver,
                               const struct fetcher_options *options, uint64_t now_ns)
{
    assert(options->lanes > 0);
    struct fetcher *fetcher = calloc(1, sizeof *fetcher + options->lanes * sizeof(struct lane));
    if (fetcher == NULL) {
        return NULL;
    }
    TAILQ_INIT(&fetcher->news);
    TAILQ_INIT(&fetcher->resumed);
    TAILQ_INIT(&fetcher->spares);
    wheel_init(&fetcher->wheel, now_ns);
    fetcher->resolver = resolver;
    fetcher->now_ns = now_ns;
    fetcher->keepalive_ns = options->keepalive_ns;
    fetcher->sockets = sockets_create(loop, options->lanes, options->socket_bytes);
    bool good = fetcher->sockets != NULL;
    while (good && fetcher->lane_count < options->lanes) {
        good = create_lane(fetcher, &fetcher->lanes[fetcher->lane_count++],
                           options->connections / options->lanes);
    }
    if (!good) {
        fetcher_destroy(fetcher);
        return NULL;
    }
    return fetcher;
}

void fetcher_destroy(struct fetcher *fetcher)
{
    if (fetcher == NULL) {
        return;
    }
    struct fetch *fetch;
    while ((fetch = TAILQ_FIRST(&fetcher->spares)) != NULL) {
        TAILQ_REMOVE(&fetcher->spares, fetch, in_spares);
        destroy(fetch);
    }
    for (unsigned i = 0; i < fetcher->lane_count; i++) {
        curl_multi_cleanup(fetcher->lanes[i].multi);
        free(fetcher->lanes[i].ports);
    }
    sockets_destroy(fetcher->sockets);
    free(fetcher);
}

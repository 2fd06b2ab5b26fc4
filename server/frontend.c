/*
 * See frontend.h. What happens in one request is in client.c.
 *
 * Client connections are spread over several libmicrohttpd daemons ("rooms") on one loop, because
 * resuming one connection makes its daemon look at every suspended one. A room is run when its
 * epoll descriptor is ready, or when something was done that its daemon cannot notice itself (a
 * connection added or resumed).
 *
 * While an exchange waits its connection is suspended, and libmicrohttpd does not look at it: the
 * `hangup` poll beside it sees the client leave. A client that has closed its sending side counts
 * as gone, as with other proxies: a half-close cannot be told from a close.
 *
 * libmicrohttpd ends every exchange through client_on_completed(), whatever happened; that is the
 * only place in which the client half ends.
 */
#include "server/client.h"
#include "server/daemon.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#define ROOM_CLIENTS 64
#define ROOM_NS      (UINT64_C(500) * 1000000) /* less: a request may be on its way */

void frontend_mark_dirty(struct room *room)
{
    if (!room->is_dirty) {
        room->is_dirty = true;
        TAILQ_INSERT_TAIL(&room->frontend->dirty, room, in_dirty);
    }
}

void frontend_set_idle(struct client *client, bool idle)
{
    struct frontend *frontend = client->frontend;
    if (client->is_idle == idle) {
        return;
    }
    client->is_idle = idle;
    if (idle) {
        client->idle_since_ns = frontend->now_ns;
        TAILQ_INSERT_TAIL(&frontend->idle, client, in_idle);
    } else {
        TAILQ_REMOVE(&frontend->idle, client, in_idle);
    }
}

static void resume(struct client *client)
{
    if (client->suspended) {
        client->suspended = false;
        client->frontend->suspended--;
        MHD_resume_connection(client->connection);
        frontend_mark_dirty(client->room);
    }
}

/* Closes the connection both ways; libmicrohttpd notices and ends what there is. */
static void cut(struct client *client)
{
    if (!client->is_cut) {
        client->is_cut = true;
        (void)shutdown(client->fd, SHUT_RDWR);
    }
    resume(client);
    frontend_mark_dirty(client->room);
}

/* --- connections --- */

static void on_client_closed(uv_handle_t *handle)
{
    free(handle->data);
}

bool frontend_has_left(const struct client *client)
{
    char byte;
    ssize_t bytes = recv(client->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return bytes == 0 || (bytes < 0 && errno != EAGAIN);
}

static void close_client(struct client *client)
{
    struct frontend *frontend = client->frontend;
    if (client->requests == 0 && !client->is_cut && !frontend_has_left(client)) {
        exchanges_log_garbage(frontend->exchanges, client->address);
    }
    if (client->is_unread && !client->is_cut) {
        lingering_close_soon(frontend->lingering, client->fd, frontend->now_ns);
    }
    door_leave(frontend->door, client->fd);
    wheel_disarm(&frontend->wheel, &client->timer);
    if (client->is_gone) {
        TAILQ_REMOVE(&frontend->gone, client, in_gone);
    }
    frontend_set_idle(client, false);
    frontend->making_room -= client->makes_room ? 1 : 0;
    TAILQ_REMOVE(&frontend->all, client, in_all);
    frontend->clients--;
    uv_close((uv_handle_t *)&client->hangup, on_client_closed);
}

static void on_connection(void *context, struct MHD_Connection *connection, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct room *room = context;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        assert(room->adding != NULL);
        *socket_context = room->adding;
        room->adding->connection = connection;
    } else {
        close_client(*socket_context);
    }
}

static void on_hangup(uv_poll_t *poll, int status, int events)
{
    struct client *client = poll->data;
    (void)status, (void)events;
    uv_poll_stop(poll);
    if (!client->is_gone) {
        client->is_gone = true;
        TAILQ_INSERT_TAIL(&client->frontend->gone, client, in_gone);
    }
}

/*
 * Few connections share one room, where libmicrohttpd serves all that are ready with one system
 * call; many are spread, so that no room has more than it can look through quickly. Those that come
 * in one turn share one too: it takes their requests in the order in which they came.
 */
static void choose_room(struct frontend *frontend)
{
    unsigned open_rooms = 1 + frontend->clients / ROOM_CLIENTS;
    if (open_rooms > frontend->room_count) {
        open_rooms = frontend->room_count;
    }
    frontend->room = (frontend->room + 1) % open_rooms;
    frontend->room_is_used = false;
}

void frontend_add(struct frontend *frontend, const struct lobby_guest *guest, uint64_t now_ns)
{
    frontend->now_ns = now_ns; /* what it was may be long ago */
    int fd = guest->fd;
    const struct sockaddr *peer = (const struct sockaddr *)&guest->peer;
    struct client *client = calloc(1, sizeof *client);
    if (client == NULL || uv_poll_init(frontend->loop, &client->hangup, fd) < 0) {
        free(client);
        door_leave(frontend->door, fd);
        close(fd);
        return;
    }
    struct room *room = &frontend->rooms[frontend->room];
    frontend->room_is_used = true;
    client->frontend = frontend;
    client->room = room;
    client->fd = fd;
    client->hangup.data = client;
    door_print_address(peer, guest->peer_bytes, client->address);
    uv_poll_start(&client->hangup, UV_DISCONNECT, on_hangup);
    wheel_arm(&frontend->wheel, &client->timer, guest->arrived_ns + frontend->settings.head_ns);
    TAILQ_INSERT_TAIL(&frontend->all, client, in_all);
    frontend->clients++;

    room->adding = client;
    if (MHD_add_connection(room->daemon, fd, peer, guest->peer_bytes) != MHD_YES) {
        if (client->connection == NULL) { /* else close_client() has been called */
            client->is_cut = true;
            close_client(client);
        }
    }
    room->adding = NULL;
    frontend_mark_dirty(room);
}

/* --- the turn --- */

static void on_due(struct client *client)
{
    if (client->exchange != NULL) {
        exchange_abort(client->exchange, "head_timeout");
    }
    cut(client);
}

static void run_room(struct room *room)
{
    MHD_UNSIGNED_LONG_LONG timeout_ms;
    MHD_run(room->daemon);
    if (MHD_get_timeout(room->daemon, &timeout_ms) == MHD_YES && timeout_ms == 0) {
        frontend_mark_dirty(room);
    }
}

static void wake_clients(struct frontend *frontend)
{
    struct exchange *exchange;
    while ((exchange = exchanges_take_awake(frontend->exchanges)) != NULL) {
        struct client *client = exchange_context(exchange);
        if (exchange_aborted(exchange)) {
            cut(client);
        } else {
            resume(client);
        }
    }
}

bool frontend_run(struct frontend *frontend, uint64_t now_ns)
{
    bool worked = false;
    frontend->now_ns = now_ns;

    struct wheel_timer *timer;
    while ((timer = wheel_take_due(&frontend->wheel, now_ns)) != NULL) {
        on_due((struct client *)((char *)timer - offsetof(struct client, timer)));
    }
    struct client *client;
    while ((client = TAILQ_FIRST(&frontend->gone)) != NULL) {
        TAILQ_REMOVE(&frontend->gone, client, in_gone);
        client->is_gone = false;
        if (client->exchange != NULL) {
            exchange_abort(client->exchange, "client_gone");
        }
        cut(client);
    }
    wake_clients(frontend);

    TAILQ_HEAD(, room) dirty = TAILQ_HEAD_INITIALIZER(dirty);
    TAILQ_CONCAT(&dirty, &frontend->dirty, in_dirty);
    struct room *room;
    while ((room = TAILQ_FIRST(&dirty)) != NULL) {
        TAILQ_REMOVE(&dirty, room, in_dirty);
        room->is_dirty = false;
        run_room(room);
        worked = true;
    }
    if (frontend->room_is_used) {
        choose_room(frontend);
    }
    return worked;
}

bool frontend_has_idle(const struct frontend *frontend)
{
    return !TAILQ_EMPTY(&frontend->idle);
}

/* Nothing has come from the client since its last request, nor its end. */
static bool is_silent(int fd)
{
    char byte;
    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

bool frontend_make_room(struct frontend *frontend, bool crowded, uint64_t now_ns)
{
    struct client *client;
    frontend->is_crowded = crowded;
    TAILQ_FOREACH (client, &frontend->idle, in_idle) {
        if (!crowded || frontend->making_room > 0 || client->idle_since_ns + ROOM_NS > now_ns) {
            break;
        }
        if (is_silent(client->fd)) {
            client->makes_room = true;
            frontend->making_room++;
            cut(client);
        }
    }
    return frontend->making_room > 0;
}

void frontend_drain(struct frontend *frontend)
{
    struct client *client;
    TAILQ_FOREACH (client, &frontend->all, in_all) {
        if (client->exchange == NULL && client->requests > 0) {
            cut(client);
        }
    }
}

uint64_t frontend_next_ns(const struct frontend *frontend)
{
    const struct client *idle = TAILQ_FIRST(&frontend->idle);
    uint64_t room_ns = UINT64_MAX;
    if (frontend->is_crowded && idle != NULL) {
        room_ns = idle->idle_since_ns + ROOM_NS;
    }
    uint64_t wheel_ns = wheel_next_ns(&frontend->wheel);
    return room_ns < wheel_ns ? room_ns : wheel_ns;
}

/* --- set-up --- */

static void on_room_ready(uv_poll_t *poll, int status, int events)
{
    (void)status, (void)events;
    frontend_mark_dirty(poll->data);
}

static bool open_room(struct frontend *frontend, struct room *room)
{
    const struct frontend_settings *settings = &frontend->settings;
    room->frontend = frontend;
    room->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_TURBO |
            MHD_USE_ERROR_LOG | DAEMON_ONE_THREAD,
        0, NULL, NULL, client_on_request, frontend, MHD_OPTION_EXTERNAL_LOGGER, daemon_on_message,
        NULL, MHD_OPTION_CONNECTION_LIMIT, settings->connections_max,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)settings->header_bytes,
        MHD_OPTION_CONNECTION_TIMEOUT, 0U, DAEMON_STRICTNESS, MHD_OPTION_URI_LOG_CALLBACK,
        client_on_target, frontend, MHD_OPTION_UNESCAPE_CALLBACK, client_on_unescape, NULL,
        MHD_OPTION_NOTIFY_COMPLETED, client_on_completed, frontend, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, room, MHD_OPTION_END);
    if (room->daemon == NULL) {
        return false;
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(room->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (info == NULL || uv_poll_init(frontend->loop, &room->poll, info->epoll_fd) < 0) {
        MHD_stop_daemon(room->daemon);
        return false;
    }
    room->poll.data = room;
    uv_poll_start(&room->poll, UV_READABLE, on_room_ready);
    return true;
}

struct frontend *frontend_create(uv_loop_t *loop, const struct frontend_parts *parts,
                                 const struct frontend_settings *settings, uint64_t now_ns)
{
    assert(settings->rooms > 0);
    struct frontend *frontend = calloc(1, sizeof *frontend + settings->rooms * sizeof(struct room));
    if (frontend == NULL) {
        return NULL;
    }
    frontend->loop = loop;
    frontend->exchanges = parts->exchanges;
    frontend->door = parts->door;
    frontend->lingering = parts->lingering;
    frontend->settings = *settings;
    frontend->now_ns = now_ns;
    wheel_init(&frontend->wheel, now_ns);
    TAILQ_INIT(&frontend->dirty);
    TAILQ_INIT(&frontend->all);
    TAILQ_INIT(&frontend->gone);
    TAILQ_INIT(&frontend->idle);
    for (; frontend->room_count < settings->rooms; frontend->room_count++) {
        if (!open_room(frontend, &frontend->rooms[frontend->room_count])) {
            frontend_destroy(frontend);
            return NULL;
        }
    }
    return frontend;
}

void frontend_configure(struct frontend *frontend, const struct frontend_settings *settings)
{
    frontend->settings.head_ns = settings->head_ns;
    frontend->settings.keepalive_ns = settings->keepalive_ns;
}

static void on_room_closed(uv_handle_t *handle)
{
    struct room *room = handle->data;
    struct frontend *frontend = room->frontend;
    frontend->room_count--;
    if (frontend->room_count == 0) {
        free(frontend);
    }
}

void frontend_destroy(struct frontend *frontend)
{
    if (frontend == NULL) {
        return;
    }
    /* A daemon must not be stopped while a connection of its is suspended. */
    do {
        exchanges_abort_all(frontend->exchanges);
        frontend_run(frontend, frontend->now_ns);
    } while (frontend->suspended > 0);
    if (frontend->room_count == 0) {
        free(frontend);
        return;
    }
    for (unsigned i = 0; i < frontend->room_count; i++) {
        struct room *room = &frontend->rooms[i];
        uv_poll_stop(&room->poll);
        MHD_stop_daemon(room->daemon);
        uv_close((uv_handle_t *)&room->poll, on_room_closed);
    }
}

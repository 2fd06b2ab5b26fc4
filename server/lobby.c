/*
 * See lobby.h.
 *
 * A guest that has sent a part of "CONNECT " cannot be waited for by polling, which would say at
 * once that there is something to read. It is looked at again after as long as it has been here
 * already, so that one who dribbles is looked at a few times and no more.
 */
#include "server/lobby.h"

#include "limiter/wheel.h"
#include "server/wire.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define LEAST_LOOK_NS (UINT64_C(5) * 1000000)
#define SILENT_NS     (UINT64_C(2) * 1000000000) /* where others want to come in */

static const char method[8] = "CONNECT ";

struct seat {
    struct lobby_guest guest;
    struct wire *wire;
    struct wheel_timer timer;
    TAILQ_ENTRY(seat) in_all;
    TAILQ_ENTRY(seat) in_silent;
    bool is_silent;
};

struct lobby {
    struct wires wires;
    struct wheel wheel;
    TAILQ_HEAD(, seat) all;
    TAILQ_HEAD(, seat) silent; /* that have sent nothing, the longest here first */
    uint64_t head_ns;
    uint64_t room_ns; /* when one may be long enough here to make room for others */
};

struct lobby *lobby_create(uv_loop_t *loop, uint64_t head_ns, uint64_t now_ns)
{
    struct lobby *lobby = calloc(1, sizeof *lobby);
    if (lobby == NULL) {
        return NULL;
    }
    wires_init(&lobby->wires, loop);
    wheel_init(&lobby->wheel, now_ns);
    TAILQ_INIT(&lobby->all);
    TAILQ_INIT(&lobby->silent);
    lobby->head_ns = head_ns;
    lobby->room_ns = UINT64_MAX;
    return lobby;
}

void lobby_configure(struct lobby *lobby, uint64_t head_ns)
{
    lobby->head_ns = head_ns;
}

void lobby_destroy(struct lobby *lobby)
{
    assert(lobby == NULL || TAILQ_EMPTY(&lobby->all));
    free(lobby);
}

/* What the peer of FD wants. False where that does not show yet; *ret_part: but a part of it. */
static bool look(int fd, enum lobby_wish *ret_wish, bool *ret_part)
{
    char bytes[sizeof method];
    ssize_t got = recv(fd, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
    *ret_part = got > 0;
    if (got > 0 && memcmp(bytes, method, (size_t)got) != 0) {
        *ret_wish = LOBBY_HTTP;
    } else if (got == (ssize_t)sizeof bytes) {
        *ret_wish = LOBBY_TUNNEL;
    } else if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
        *ret_wish = LOBBY_NOTHING;
    } else {
        return false;
    }
    return true;
}

static void stop_silence(struct lobby *lobby, struct seat *seat)
{
    if (seat->is_silent) {
        TAILQ_REMOVE(&lobby->silent, seat, in_silent);
        seat->is_silent = false;
    }
}

static void look_again(struct lobby *lobby, struct seat *seat, bool part, uint64_t now_ns)
{
    uint64_t arrived_ns = seat->guest.arrived_ns;
    uint64_t due_ns = arrived_ns + lobby->head_ns;
    if (part) {
        stop_silence(lobby, seat);
        uint64_t pause_ns = now_ns - arrived_ns;
        uint64_t next_ns = now_ns + (pause_ns > LEAST_LOOK_NS ? pause_ns : LEAST_LOOK_NS);
        due_ns = next_ns < due_ns ? next_ns : due_ns;
    }
    wire_watch(seat->wire, part ? UV_DISCONNECT : UV_READABLE);
    wheel_arm(&lobby->wheel, &seat->timer, due_ns);
}

bool lobby_enter(struct lobby *lobby, const struct lobby_guest *guest, enum lobby_wish *ret_wish)
{
    bool part;
    if (look(guest->fd, ret_wish, &part)) {
        return true;
    }
    struct seat *seat = calloc(1, sizeof *seat);
    if (seat != NULL) {
        seat->wire = wire_create(&lobby->wires, guest->fd, seat);
    }
    if (seat == NULL || seat->wire == NULL) {
        free(seat);
        *ret_wish = LOBBY_NOTHING;
        return true;
    }
    seat->guest = *guest;
    seat->is_silent = true;
    TAILQ_INSERT_TAIL(&lobby->all, seat, in_all);
    TAILQ_INSERT_TAIL(&lobby->silent, seat, in_silent);
    look_again(lobby, seat, part, guest->arrived_ns);
    return false;
}

static void leave(struct lobby *lobby, struct seat *seat, struct lobby_guest *ret_guest)
{
    *ret_guest = seat->guest;
    stop_silence(lobby, seat);
    wheel_disarm(&lobby->wheel, &seat->timer);
    wire_destroy(seat->wire);
    TAILQ_REMOVE(&lobby->all, seat, in_all);
    free(seat);
}

static struct seat *next_seat(struct lobby *lobby, uint64_t now_ns)
{
    struct wire *wire = wires_take_ready(&lobby->wires);
    if (wire != NULL) {
        return wire->owner;
    }
    struct wheel_timer *timer = wheel_take_due(&lobby->wheel, now_ns);
    return timer != NULL ? (struct seat *)((char *)timer - offsetof(struct seat, timer)) : NULL;
}

bool lobby_take_any(struct lobby *lobby, struct lobby_guest *ret_guest)
{
    if (TAILQ_EMPTY(&lobby->all)) {
        return false;
    }
    leave(lobby, TAILQ_FIRST(&lobby->all), ret_guest);
    return true;
}

bool lobby_take(struct lobby *lobby, uint64_t now_ns, struct lobby_guest *ret_guest,
                enum lobby_wish *ret_wish)
{
    struct seat *seat;
    while ((seat = next_seat(lobby, now_ns)) != NULL) {
        bool part;
        bool known = look(seat->guest.fd, ret_wish, &part);
        if (!known && part && (seat->wire->ready & UV_DISCONNECT) != 0) {
            *ret_wish = LOBBY_HTTP; /* no more will come: somebody has to say that it is nothing */
            known = true;
        }
        if (!known && now_ns >= seat->guest.arrived_ns + lobby->head_ns) {
            *ret_wish = LOBBY_NOTHING;
            known = true;
        }
        if (known) {
            leave(lobby, seat, ret_guest);
            return true;
        }
        seat->wire->ready = 0;
        look_again(lobby, seat, part, now_ns);
    }
    return false;
}

bool lobby_has_silent(const struct lobby *lobby)
{
    return !TAILQ_EMPTY(&lobby->silent);
}

bool lobby_make_room(struct lobby *lobby, bool crowded, uint64_t now_ns,
                     struct lobby_guest *ret_guest)
{
    struct seat *seat = TAILQ_FIRST(&lobby->silent);
    bool is_due = seat != NULL && seat->guest.arrived_ns + SILENT_NS <= now_ns;
    lobby->room_ns = crowded && seat != NULL ? seat->guest.arrived_ns + SILENT_NS : UINT64_MAX;
    if (!crowded || !is_due) {
        return false;
    }
    enum lobby_wish wish;
    bool part;
    if (look(seat->guest.fd, &wish, &part) || part) { /* it has just begun: lobby_take() knows */
        stop_silence(lobby, seat);
        return false;
    }
    leave(lobby, seat, ret_guest);
    return true;
}

uint64_t lobby_next_ns(const struct lobby *lobby)
{
    uint64_t due_ns = wheel_next_ns(&lobby->wheel);
    return lobby->room_ns < due_ns ? lobby->room_ns : due_ns;
}

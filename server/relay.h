/*
 * A relay: bytes between two sockets, both ways, until both have been closed for sending.
 *
 * What one side sends is looked at in a buffer that all relays share, written to the other side,
 * and taken out of the sender's socket as far as it was. What the other side does not take stays in
 * the kernel, which pushes back on the sender; a relay has no memory of its own for bytes on their
 * way. The end of one direction (FIN) is passed on, after its last byte, and the other direction
 * goes on.
 */
#ifndef WEIR_SERVER_RELAY_H
#define WEIR_SERVER_RELAY_H

#include "server/wire.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RELAY_BYTES 65536

enum relay_side { RELAY_CLIENT, RELAY_UPSTREAM };

/* What one side sends. */
struct relay_flow {
    char *early; /* owned: EARLY_BYTES from EARLY_AT on go before all that is read; or NULL */
    size_t early_at;
    size_t early_bytes;
    uint64_t bytes; /* written to the other side */
    bool blocked;   /* the other side has not taken all of it */
    bool ended;     /* its FIN has come */
    bool passed_on; /* and has been sent to the other side */
};

/* All zero but for the wires, which it borrows, is a new one. */
struct relay {
    struct wire *wires[2]; /* by relay_side */
    struct relay_flow flows[2];
};

/* Puts the BYTES at DATA, which it owns from then on, in front of what the client sends. */
void relay_prepend(struct relay *relay, char *data, size_t bytes);

enum relay_state {
    RELAY_OPEN,
    RELAY_DONE, /* both ways have ended, and everything has been passed on */
    RELAY_CLIENT_BROKEN,
    RELAY_UPSTREAM_BROKEN,
};

/*
 * Moves what can be moved now, a bounded amount, through BUFFER of RELAY_BYTES, and watches both
 * sides for what is to come. *ret_moved: whether anything was.
 */
enum relay_state relay_run(struct relay *relay, char *buffer, bool *ret_moved);

/* Whether both ways have ended and been passed on. */
bool relay_is_done(const struct relay *relay);

/* Whether there are bytes that one side has not taken. */
bool relay_is_blocked(const struct relay *relay);

/* Frees what it owns. */
void relay_finish(struct relay *relay);

#endif

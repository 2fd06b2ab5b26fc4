/*
 * A relay: bytes between two sockets, both ways, until both have been closed for sending.
 *
 * What one side sends is read into a buffer shared by all relays and written to the other side at
 * once. What that does not take is kept, at most RELAY_BYTES each way, and the sender is not read
 * until it is gone: so a slow side pushes back on the other, and a relay through which everything
 * flows has no memory of its own. The end of one direction (FIN) is passed on, after its last byte,
 * and the other direction goes on.
 */
#ifndef WEIR_SERVER_RELAY_H
#define WEIR_SERVER_RELAY_H

#include "server/wire.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RELAY_BYTES 65536

enum relay_side { RELAY_CLIENT, RELAY_UPSTREAM };

/* What one side has sent. */
struct relay_flow {
    char *kept; /* KEPT_BYTES from KEPT_AT on have not been written yet; NULL: none */
    size_t kept_at;
    size_t kept_bytes;
    uint64_t bytes; /* written to the other side */
    bool ended;     /* its FIN has come */
    bool passed_on; /* and has been sent to the other side */
};

/* All zero but for the wires, which it borrows, is a new one. */
struct relay {
    struct wire *wires[2]; /* by relay_side */
    struct relay_flow flows[2];
};

/* Puts BYTES of SIDE's in front of what it will send; before the first relay_run(). False: memory. */
bool relay_prepend(struct relay *relay, enum relay_side side, const char *data, size_t bytes);

enum relay_state {
    RELAY_OPEN,
    RELAY_DONE, /* both ways have ended, and everything has been passed on */
    RELAY_CLIENT_BROKEN,
    RELAY_UPSTREAM_BROKEN,
    RELAY_NO_MEMORY,
};

/*
 * Moves what can be moved now, a bounded amount, through BUFFER of RELAY_BYTES, and watches both
 * sides for what is to come. *ret_moved: whether anything was.
 */
enum relay_state relay_run(struct relay *relay, char *buffer, bool *ret_moved);

/* Whether bytes are kept that one side has not taken. */
bool relay_is_blocked(const struct relay *relay);

/* Frees what is kept. */
void relay_finish(struct relay *relay);

#endif

/*
 * A pipe: a bounded run of bytes between the two halves of an exchange.
 *
 * One half writes, the other reads; what does not fit is not taken, which is how backpressure
 * travels. Its memory starts small, grows as needed up to the bound, and is one piece, so that a
 * short body that is complete can be handed on without copying it.
 */
#ifndef WEIR_SERVER_PIPE_H
#define WEIR_SERVER_PIPE_H

#include <stdbool.h>
#include <stddef.h>

#define PIPE_BYTES 131072 /* the most that one holds */

/* All zero is an empty pipe, open for writing. */
struct pipe {
    char *memory;
    size_t capacity;
    size_t start; /* of what is in it; it may wrap around the end of the memory */
    size_t length;
    bool closed; /* nothing more will be written */
};

/* How many bytes pipe_write() would take now. */
size_t pipe_room(const struct pipe *pipe);

/*
 * Takes all BYTES of DATA and returns true; or takes nothing and returns false, where they do not
 * fit or memory is out (pipe_room() tells which). The pipe must not be closed.
 */
bool pipe_write(struct pipe *pipe, const void *data, size_t bytes);

/* Makes room for BYTES (at most PIPE_BYTES) in one allocation; a hint. */
void pipe_expect(struct pipe *pipe, size_t bytes);

/* Copies up to BYTES into BUFFER, takes them out and returns how many. */
size_t pipe_read(struct pipe *pipe, void *buffer, size_t bytes);

/*
 * Hands over the whole content as one allocation that the caller frees with free(), and leaves the
 * pipe empty. *ret_bytes is its length. NULL where it is empty.
 */
char *pipe_take(struct pipe *pipe, size_t *ret_bytes);

/* Frees the memory; the pipe is empty and as new. */
void pipe_finish(struct pipe *pipe);

#endif

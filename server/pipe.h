/*
 * A pipe: a bounded run of bytes between the two halves of an exchange.
 *
 * One half writes, the other reads; what does not fit is not taken, which is how backpressure
 * travels. Its memory starts small, grows as needed up to the bound, and is one piece, so that a
 * short body that is complete can be handed on without copying it.
 *
 * Pipes share a budget of memory. When most of it is in use a pipe grows no further than
 * PIPE_LEAST_BYTES, which each may always have: so what has begun goes on, and no pipe ever waits
 * for another. Whoever begins something new asks pipe_budget_is_spent() first.
 */
#ifndef WEIR_SERVER_PIPE_H
#define WEIR_SERVER_PIPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PIPE_BYTES       131072 /* the most that one holds */
#define PIPE_LEAST_BYTES 32768  /* what one may hold whatever the others do */

/* Memory of pipes; all zero but for `limit` is a new one. */
struct pipe_budget {
    size_t limit;
    size_t bytes; /* in use */
    size_t peak_bytes;
    uint64_t scarce_total; /* how often it came about that most of it was in use */
};

/* Whether as much is in use as may be: nothing new should begin. */
bool pipe_budget_is_spent(const struct pipe_budget *budget);

/* All zero, but for the budget, is an empty pipe, open for writing. */
struct pipe {
    struct pipe_budget *budget; /* borrowed; NULL: its memory counts nowhere */
    char *memory;
    size_t capacity;
    size_t taken; /* by pipe_take(), which count until pipe_finish() */
    size_t start; /* of what is in it; it may wrap around the end of the memory */
    size_t length;
    bool closed; /* nothing more will be written */
};

/* How many bytes pipe_write() would take now. */
size_t pipe_room(const struct pipe *pipe);

/* Whether at most half is in it of what it may hold: time to go on with writing. */
bool pipe_is_low(const struct pipe *pipe);

/*
 * Takes all BYTES of DATA and returns true; or takes nothing and returns false, where they do not
 * fit or memory is out (pipe_room() tells which). The pipe must not be closed.
 */
bool pipe_write(struct pipe *pipe, const void *data, size_t bytes);

/* Copies up to BYTES into BUFFER, takes them out and returns how many. */
size_t pipe_read(struct pipe *pipe, void *buffer, size_t bytes);

/*
 * Hands over the whole content as one allocation that the caller frees with free(), and leaves the
 * pipe empty. *ret_bytes is its length. NULL where it is empty. The memory stays in the budget
 * until pipe_finish().
 */
char *pipe_take(struct pipe *pipe, size_t *ret_bytes);

/* Frees the memory and gives it back to the budget; the pipe is empty and as new. */
void pipe_finish(struct pipe *pipe);

#endif

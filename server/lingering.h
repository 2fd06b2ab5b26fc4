/*
 * Closing connections whose client may still be sending.
 *
 * A socket that is closed with unread bytes in it is reset, and the client may then lose the answer
 * that was sent before. Here the sending side is closed at once, and what still comes is read and
 * thrown away until the client closes too, a short time is over or a number of bytes have come.
 * How many linger at once is bounded; the rest are closed at once.
 */
#ifndef WEIR_SERVER_LINGERING_H
#define WEIR_SERVER_LINGERING_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct lingering;

/* For MOST at once. NULL when out of memory. */
struct lingering *lingering_create(uv_loop_t *loop, unsigned most);

/* Closes all. Run the loop afterwards until its handles are gone. Accepts NULL. */
void lingering_destroy(struct lingering *lingering);

/* Takes over FD, a connected socket to which everything has been written. */
void lingering_close(struct lingering *lingering, int fd, uint64_t now_ns);

/* The same for a socket that somebody else closes right after this: works on a duplicate. */
void lingering_close_soon(struct lingering *lingering, int fd, uint64_t now_ns);

/* Reads what is there and closes what is over; once a turn. True where it did something. */
bool lingering_run(struct lingering *lingering, uint64_t now_ns);

/* When lingering_run() should be called again though nothing is ready; UINT64_MAX: no need. */
uint64_t lingering_next_ns(const struct lingering *lingering);

#endif

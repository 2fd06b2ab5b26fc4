/*
 * libuv's threads, which look up names and check passwords.
 */
#ifndef WEIR_SERVER_THREADS_H
#define WEIR_SERVER_THREADS_H

#include <stdint.h>
#include <uv.h>

/* Addresses, mostly untouched, that COUNT threads take; STACK_BYTES: what RLIMIT_STACK says. */
uint64_t threads_address_bytes(unsigned count, uint64_t stack_bytes);

/*
 * Starts all of them, as many as WANTED or as the machine lets this process have; once, before
 * anything is given to them. Returns how many there are; 0: none can be had, and nothing may be
 * given to them. Bounds on threads that come later do not matter.
 */
unsigned threads_start(uv_loop_t *loop, unsigned wanted);

#endif

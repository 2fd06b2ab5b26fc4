/*
 * The acceptor: one listening socket, whose connections are pulled.
 *
 * When descriptors run out it pauses for a moment and says so once, rather than spin; the kernel's
 * backlog holds those who come meanwhile.
 */
#ifndef WEIR_SERVER_ACCEPTOR_H
#define WEIR_SERVER_ACCEPTOR_H

#include "api/config.h"
#include "server/log.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <uv.h>

struct acceptor;

/*
 * Listens at WHERE; the file of a unix: socket has the mode SOCKET_MODE. The kernel holds no more
 * than about SOCKET_BYTES each way for a connection (0: as much as it likes). With a failure
 * returns NULL and writes a sentence that names the address and the reason into ERROR, SIZE bytes
 * long.
 */
struct acceptor *acceptor_create(uv_loop_t *loop, const struct config_listen *where,
                                 uint32_t socket_mode, uint32_t socket_bytes, struct log *log,
                                 char *error, size_t size);

/* Takes the file of a unix: socket away; acceptor_destroy() does that too. */
void acceptor_remove_file(struct acceptor *acceptor);

/* Closes the socket; run the loop afterwards. Accepts NULL. */
void acceptor_destroy(struct acceptor *acceptor);

/* "127.0.0.1:8080", with the port that was really taken, or "unix:/run/weir.sock". */
const char *acceptor_address(const struct acceptor *acceptor);

/* The address and port at which it really listens. False where that cannot be told. */
bool acceptor_place(const struct acceptor *acceptor, struct sockaddr_storage *ret_place);

/* The next connection: its descriptor, non-blocking, and the peer's address; -1 if none waits. */
int acceptor_take(struct acceptor *acceptor, struct sockaddr_storage *ret_peer,
                  socklen_t *ret_peer_bytes, uint64_t now_ns);

/* Ends the rest after open files ran out, where it is over; once a turn. */
void acceptor_wake(struct acceptor *acceptor, uint64_t now_ns);

/* Whether somebody waits to come in. */
bool acceptor_is_wanted(const struct acceptor *acceptor);

/* While paused, connections wait in the kernel. */
void acceptor_pause(struct acceptor *acceptor, bool paused);

/* When to call acceptor_wake() again though nothing is ready; UINT64_MAX: no need. */
uint64_t acceptor_next_ns(const struct acceptor *acceptor);

#endif

/*
 * Listening at a path of the file system (unix(7)).
 */
#ifndef WEIR_SERVER_UNIX_SOCKET_H
#define WEIR_SERVER_UNIX_SOCKET_H

#include <stdint.h>
#include <sys/types.h>

/* The file of a socket that listens, by which it is known again. */
struct unix_socket {
    dev_t device;
    ino_t inode;
};

/*
 * A non-blocking socket bound to PATH, whose file has MODE from its first moment on. A file that is
 * left of a socket nobody listens at is replaced; where somebody does, that is EADDRINUSE. What is
 * no socket is left alone. -1 with errno, and in *ret_step a sentence about what did not work.
 */
int unix_socket_bind(const char *path, uint32_t mode, struct unix_socket *ret_socket,
                     const char **ret_step);

/* Takes the file at PATH away if it is still SOCKET's. */
void unix_socket_remove(const char *path, const struct unix_socket *socket);

#endif

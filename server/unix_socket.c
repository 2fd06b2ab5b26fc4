#include "server/unix_socket.h"

#include "api/config.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

_Static_assert(sizeof((struct sockaddr_un *)NULL)->sun_path == CONFIG_SOCKET_PATH_MAX,
               "the configuration takes no longer path");

static int open_socket(void)
{
    return socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

/* Whether nobody listens at ADDRESS. */
static bool is_stale(const struct sockaddr_un *address)
{
    int fd = open_socket();
    if (fd < 0) {
        return false;
    }
    bool refused =
        connect(fd, (const struct sockaddr *)address, sizeof *address) < 0 && errno == ECONNREFUSED;
    close(fd);
    return refused;
}

/* Makes way for a socket at ADDRESS, where something is already; false with errno. */
static bool clear_path(const struct sockaddr_un *address, const char **ret_step)
{
    struct stat status;
    if (lstat(address->sun_path, &status) < 0) {
        return errno == ENOENT;
    }
    if (!S_ISSOCK(status.st_mode)) {
        *ret_step = "there is a file that is not a socket";
        errno = 0;
        return false;
    }
    if (!is_stale(address)) {
        errno = EADDRINUSE;
        return false;
    }
    return unlink(address->sun_path) == 0 || errno == ENOENT;
}

static bool bind_address(int fd, const struct sockaddr_un *address, uint32_t mode)
{
    /* no other thread runs yet: the mask is everybody's */
    mode_t mask = umask(~mode & 0777);
    bool bound = bind(fd, (const struct sockaddr *)address, sizeof *address) == 0;
    int error = errno;
    umask(mask);
    errno = error;
    return bound;
}

int unix_socket_bind(const char *path, uint32_t mode, struct unix_socket *ret_socket,
                     const char **ret_step)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat status;
    assert(strlen(path) < sizeof address.sun_path);
    memcpy(address.sun_path, path, strlen(path) + 1);
    *ret_step = "cannot open a socket";
    int fd = open_socket();
    if (fd < 0) {
        return -1;
    }
    *ret_step = "cannot listen";
    bool bound = bind_address(fd, &address, mode);
    if (!bound && errno == EADDRINUSE && clear_path(&address, ret_step)) {
        bound = bind_address(fd, &address, mode);
    }
    if (!bound || lstat(path, &status) < 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    *ret_socket = (struct unix_socket){status.st_dev, status.st_ino};
    return fd;
}

void unix_socket_remove(const char *path, const struct unix_socket *socket)
{
    struct stat status;
    if (lstat(path, &status) == 0 && S_ISSOCK(status.st_mode) && status.st_dev == socket->device &&
        status.st_ino == socket->inode) {
        (void)unlink(path);
    }
}

#include "server/notify.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

bool notify_send(const char *state)
{
    const char *name = getenv("NOTIFY_SOCKET");
    if (name == NULL || name[0] == '\0') {
        return true;
    }
    struct sockaddr_un place = {.sun_family = AF_UNIX};
    size_t bytes = strlen(name);
    if ((name[0] != '/' && name[0] != '@') || bytes > sizeof place.sun_path) {
        errno = EINVAL;
        return false;
    }
    memcpy(place.sun_path, name, bytes);
    if (name[0] == '@') {
        place.sun_path[0] = '\0';
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return false;
    }
    ssize_t sent = sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&place,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes));
    int reason = errno;
    close(fd);
    errno = reason;
    return sent >= 0;
}

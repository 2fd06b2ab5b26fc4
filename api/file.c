#include "api/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static bool fail_unreadable(char reason[FILE_REASON_MAX], int error)
{
    snprintf(reason, FILE_REASON_MAX, "expected a file that can be read: %s", strerror(error));
    return false;
}

static bool fail_kind(char reason[FILE_REASON_MAX], mode_t mode)
{
    snprintf(reason, FILE_REASON_MAX, "expected a regular file, found %s",
             S_ISDIR(mode)    ? "a directory (a container engine makes one where the file to mount "
                                "is missing)"
             : S_ISFIFO(mode) ? "a pipe"
                              : "a device");
    return false;
}

static bool fail_large(char reason[FILE_REASON_MAX], size_t bytes_max)
{
    bool whole = bytes_max % MIB == 0;
    snprintf(reason, FILE_REASON_MAX, "expected a file of at most %zu %s, found more",
             whole ? bytes_max / MIB : bytes_max, whole ? "MiB" : "bytes");
    return false;
}

/* Doubles the room for what is read; what was copied is wiped. */
static bool grow(struct file *file, size_t *room, char reason[FILE_REASON_MAX])
{
    struct file grown = *file;
    grown.bytes = malloc(2 * *room);
    if (grown.bytes == NULL) {
        return fail_unreadable(reason, ENOMEM);
    }
    *room *= 2;
    memcpy(grown.bytes, file->bytes, file->count);
    file_finish(file);
    *file = grown;
    return true;
}

/* Reads all of DESCRIPTOR into FILE, where ROOM bytes are. What is there after a failure stays. */
static bool read_all(int descriptor, size_t bytes_max, struct file *file, size_t room,
                     char reason[FILE_REASON_MAX])
{
    for (;;) {
        ssize_t got = read(descriptor, file->bytes + file->count, room - file->count - 1);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return fail_unreadable(reason, errno);
        }
        file->count += (size_t)got;
        if (file->count > bytes_max) {
            return fail_large(reason, bytes_max);
        }
        if (got == 0) {
            file->bytes[file->count] = '\0';
            return true;
        }
        /* A file in /proc or /sys has no size; others may have grown. */
        if (file->count == room - 1 && !grow(file, &room, reason)) {
            return false;
        }
    }
}

bool file_read(const char *path, size_t bytes_max, struct file *ret_file,
               char reason[FILE_REASON_MAX])
{
    assert(path != NULL);
    assert(bytes_max > 0);

    /* Without O_NONBLOCK a pipe without a writer would be waited for. */
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (descriptor < 0) {
        return fail_unreadable(reason, errno);
    }
    struct stat status;
    struct file file = {0};
    bool good = fstat(descriptor, &status) == 0 || fail_unreadable(reason, errno);
    good = good && (S_ISREG(status.st_mode) || fail_kind(reason, status.st_mode));
    good = good && ((uintmax_t)status.st_size <= bytes_max || fail_large(reason, bytes_max));
    if (good) {
        size_t room = (size_t)status.st_size + 2; /* one to see its end, one for '\0' */
        file.exposed = (status.st_mode & S_IROTH) != 0;
        file.bytes = malloc(room);
        good = file.bytes != NULL ? read_all(descriptor, bytes_max, &file, room, reason)
                                  : fail_unreadable(reason, ENOMEM);
    }
    close(descriptor);
    if (!good) {
        file_finish(&file);
        return false;
    }
    *ret_file = file;
    return true;
}

void file_finish(struct file *file)
{
    if (file->bytes != NULL) {
        explicit_bzero(file->bytes, file->count);
    }
    free(file->bytes);
    *file = (struct file){0};
}

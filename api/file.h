/*
 * A file, read whole: how the configuration, and each file that it names, is read.
 *
 * Only regular files are read. Others would have to be waited for (a pipe, a terminal), never end
 * (a device), or have nothing left for a reload.
 */
#ifndef WEIR_API_FILE_H
#define WEIR_API_FILE_H

#include <stdbool.h>
#include <stddef.h>

#define FILE_REASON_MAX 160 /* bytes of a reason, with its '\0' */

/* What was in a file; all zero is nothing. */
struct file {
    char *bytes; /* with '\0' behind them */
    size_t count;
    bool exposed; /* everybody on this machine may read it */
};

/*
 * Reads PATH, which may be BYTES_MAX long; never waits. On success *ret_file is ended with
 * file_finish(). Where it cannot be had, REASON says what was expected and what was found, to stand
 * behind the path.
 */
bool file_read(const char *path, size_t bytes_max, struct file *ret_file,
               char reason[FILE_REASON_MAX]);

/* Frees what was read, and wipes it: it may be a secret. */
void file_finish(struct file *file);

#endif

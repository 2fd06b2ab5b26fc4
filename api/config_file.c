#include "api/config_internal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Says where and why jansson did not understand the text. */
static bool fail_syntax(const char *file, const char *text, size_t bytes, const json_error_t *error,
                        char **ret_error)
{
    if (error->text[0] == '\0') {
        return config_fail(ret_error, "%s: out of memory", file);
    }
    struct config_path path;
    size_t offset = error->position > 0 ? (size_t)error->position : 0;
    config_place_path(text, offset < bytes ? offset : bytes, &path);
    size_t shown = path.bytes < CONFIG_PATH_SHOWN_MAX ? path.bytes : 0;
    bool duplicate = json_error_code(error) == json_error_duplicate_key;
    /* Text that is near a header field's value may be part of it. */
    bool secret = strncmp(path.bytes > 0 ? path.text : "", "upstreams", 9) == 0;
    const char *near = secret ? strstr(error->text, " near ") : NULL;
    size_t reason_bytes = near != NULL ? (size_t)(near - error->text) : strlen(error->text);
    config_fail(ret_error, "%s:%d: %.*s%s%s%.*s", file, error->line > 0 ? error->line : 1,
                (int)shown, shown > 0 ? path.text : "", shown > 0 ? ": " : "",
                duplicate ? "expected each key once, found it again" : "expected JSON: ",
                duplicate ? 0 : (int)reason_bytes, error->text);
    config_path_finish(&path);
    return false;
}

bool config_file_parse(const char *path, const char *text, size_t bytes, struct config_draft *draft,
                       char **ret_error)
{
    assert(path != NULL);
    assert(draft != NULL);

    static const char byte_order_mark[] = "\xef\xbb\xbf"; /* some editors put it there */
    if (bytes >= 3 && memcmp(text, byte_order_mark, 3) == 0) {
        text += 3;
        bytes -= 3;
    }
    size_t blank = 0;
    while (blank < bytes && memchr(" \t\r\n", text[blank], 4) != NULL) {
        blank++;
    }
    if (blank == bytes) {
        return config_fail(ret_error, "%s: expected a JSON object, found an empty file", path);
    }

    json_error_t error;
    json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL) {
        return fail_syntax(path, text, bytes, &error, ret_error);
    }
    bool good = config_keys_read(path, text, bytes, root, draft, ret_error);
    json_decref(root);
    return good;
}

/* Reads all of DESCRIPTOR, one byte more than may be there at most. */
static bool read_all(int descriptor, char *buffer, size_t size, size_t *ret_bytes)
{
    size_t bytes = 0;
    while (bytes < size) {
        ssize_t got = read(descriptor, buffer + bytes, size - bytes);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return false;
        }
        if (got == 0) {
            break;
        }
        bytes += (size_t)got;
    }
    *ret_bytes = bytes;
    return true;
}

bool config_file_read(const char *path, struct config_draft *draft, char **ret_error)
{
    assert(path != NULL);

    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
        return config_fail(ret_error, "%s: expected a file that can be read: %s", path,
                           strerror(errno));
    }
    bool good = false;
    size_t bytes;
    char *text = malloc(CONFIG_FILE_BYTES_MAX + 1);
    if (text == NULL) {
        good = config_fail(ret_error, "%s: out of memory", path);
    } else if (!read_all(descriptor, text, CONFIG_FILE_BYTES_MAX + 1, &bytes)) {
        const char *why = strerror(errno);
        if (errno == EISDIR) {
            why = "it is a directory (a container engine makes one where the file to mount is "
                  "missing)";
        }
        good = config_fail(ret_error, "%s: expected a file that can be read: %s", path, why);
    } else if (bytes > CONFIG_FILE_BYTES_MAX) {
        good = config_fail(ret_error, "%s: expected a file of at most 1 MiB, found more", path);
    } else {
        good = config_file_parse(path, text, bytes, draft, ret_error);
    }
    free(text);
    close(descriptor);
    return good;
}

#include "api/config_internal.h"
#include "api/file.h"

#include <assert.h>
#include <jansson.h>
#include <string.h>

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

bool config_file_read(const char *path, struct config_draft *draft, char **ret_error)
{
    assert(path != NULL);

    struct file file;
    char reason[FILE_REASON_MAX];
    if (!file_read(path, CONFIG_FILE_BYTES_MAX, &file, reason)) {
        return config_fail(ret_error, "%s: %s", path, reason);
    }
    bool good = config_file_parse(path, file.bytes, file.count, draft, ret_error);
    file_finish(&file);
    return good;
}

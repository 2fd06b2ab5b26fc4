/*
 * See config_reader.h. The path to the current value is kept on the way down, and only a message
 * about it looks for its line in the text (config_place.c).
 */
#include "api/config_reader.h"

#include "api/duration.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool config_reader_fail_no_memory(struct config_reader *reader)
{
    return config_fail(reader->ret_error, "%s: out of memory", reader->file);
}

/* Says MESSAGE about the value at the reader's path. */
bool config_reader_fail(struct config_reader *reader, const char *message)
{
    const char *path = reader->path.bytes > 0 ? reader->path.text : "";
    size_t line = config_place_line(reader->text, reader->bytes, path);
    size_t shown = reader->path.bytes;
    const char *more = "";
    if (shown > CONFIG_PATH_SHOWN_MAX) {
        more = "...";
        for (shown = CONFIG_PATH_SHOWN_MAX; ((unsigned char)path[shown] & 0xc0) == 0x80;) {
            shown--;
        }
    }
    return config_fail(reader->ret_error, "%s:%zu: %.*s%s%s%s", reader->file, line, (int)shown,
                       path, more, shown > 0 ? ": " : "", message);
}

/* What VALUE is, as a message shows it. */
static const char *show(const struct config_reader *reader, const json_t *value,
                        char buffer[CONFIG_QUOTED_MAX])
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return json_array_size(value) > 0 ? "an array" : "an empty array";
    case JSON_STRING:
        if (reader->masked) {
            return "a string";
        }
        return config_quote(json_string_value(value), json_string_length(value), buffer);
    case JSON_INTEGER:
        snprintf(buffer, CONFIG_QUOTED_MAX, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return buffer;
    case JSON_REAL:
        snprintf(buffer, CONFIG_QUOTED_MAX, "%g", json_real_value(value));
        if (strpbrk(buffer, ".e") == NULL) { /* 1e3 is none to jansson */
            memcpy(buffer + strlen(buffer), ".0", 3);
        }
        return buffer;
    case JSON_TRUE:
        return "true";
    case JSON_FALSE:
        return "false";
    case JSON_NULL:
        return "null";
    }
    return "something else";
}

bool config_reader_fail_expected(struct config_reader *reader, const char *expected,
                                 const json_t *found)
{
    char buffer[CONFIG_QUOTED_MAX];
    char message[512];
    snprintf(message, sizeof message, "expected %s, found %s", expected,
             show(reader, found, buffer));
    return config_reader_fail(reader, message);
}

bool config_read_count(struct config_reader *reader, const struct config_key *key,
                       const json_t *value, void *field)
{
    json_int_t count = json_integer_value(value);
    if (!json_is_integer(value) || count < key->least || count > key->most) {
        char expected[64];
        snprintf(expected, sizeof expected, "a whole number from %u to %u", key->least, key->most);
        return config_reader_fail_expected(reader, expected, value);
    }
    *(uint32_t *)field = (uint32_t)count;
    return true;
}

bool config_read_duration(struct config_reader *reader, const struct config_key *key,
                          const json_t *value, void *field)
{
    /* Without quotes 0 is as clear as with them. */
    bool zero = json_is_integer(value) && json_integer_value(value) == 0;
    uint64_t ns = 0;
    bool good = zero || (json_is_string(value) &&
                         duration_parse(json_string_value(value), json_string_length(value), &ns));
    if (!good || ns < key->least * DURATION_MS) {
        return config_reader_fail_expected(
            reader,
            key->least > 0 ? "a duration above 0 such as \"250ms\", \"5s\", \"2m\" or \"1h\""
                           : "a duration such as \"250ms\", \"5s\", \"2m\" or \"1h\", or 0",
            value);
    }
    *(uint64_t *)field = ns;
    return true;
}

bool config_read_word(struct config_reader *reader, const struct config_key *key,
                      const json_t *value, void *field)
{
    unsigned word;
    if (json_is_string(value) &&
        config_parse_word(json_string_value(value), json_string_length(value), key->words, &word)) {
        *(unsigned *)field = word;
        return true;
    }
    char expected[128] = "";
    size_t used = 0;
    for (size_t i = 0; key->words[i] != NULL; i++) {
        const char *before = i == 0 ? "" : key->words[i + 1] != NULL ? ", " : " or ";
        int bytes =
            snprintf(expected + used, sizeof expected - used, "%s\"%s\"", before, key->words[i]);
        used += (size_t)bytes;
        assert(used < sizeof expected);
    }
    return config_reader_fail_expected(reader, expected, value);
}

bool config_read_flag(struct config_reader *reader, const struct config_key *key,
                      const json_t *value, void *field)
{
    (void)key;
    if (!json_is_boolean(value)) {
        return config_reader_fail_expected(reader, "true or false", value);
    }
    *(bool *)field = json_is_true(value);
    return true;
}

/* A file that is needed later is better missed now. */
bool config_read_path(struct config_reader *reader, const struct config_key *key,
                      const json_t *value, void *field)
{
    (void)key;
    struct stat status;
    const char *path = json_is_string(value) ? json_string_value(value) : "";
    const char *reason = NULL;
    if (stat(path, &status) != 0 || access(path, R_OK) != 0) {
        reason = strerror(errno);
    } else if (S_ISDIR(status.st_mode)) {
        reason = strerror(EISDIR);
    }
    if (reason != NULL) {
        char found[CONFIG_QUOTED_MAX];
        char message[512];
        snprintf(message, sizeof message,
                 "expected the path of a file that can be read, found %s%s%s",
                 show(reader, value, found), json_is_string(value) ? ": " : "",
                 json_is_string(value) ? reason : "");
        return config_reader_fail(reader, message);
    }
    char *copy = strdup(path);
    if (copy == NULL) {
        return config_reader_fail_no_memory(reader);
    }
    free(*(char **)field);
    *(char **)field = copy;
    return true;
}

static bool fail_unknown(struct config_reader *reader, const struct config_key *keys)
{
    char message[512];
    int bytes = snprintf(message, sizeof message, "unknown key, expected one of");
    size_t used = (size_t)bytes;
    for (; keys->name != NULL; keys++) {
        bytes = snprintf(message + used, sizeof message - used, " %s%s", keys->name,
                         keys[1].name != NULL ? "," : "");
        used += (size_t)bytes;
        assert(used < sizeof message);
    }
    return config_reader_fail(reader, message);
}

bool config_read_object(struct config_reader *reader, const struct config_key *key,
                        const json_t *value, void *field)
{
    if (!json_is_object(value)) {
        return config_reader_fail_expected(reader, "an object", value);
    }
    size_t before = reader->path.bytes;
    const char *name;
    json_t *member;
    json_object_foreach((json_t *)value, name, member)
    {
        const struct config_key *known = key->members;
        while (known->name != NULL && strcmp(known->name, name) != 0) {
            known++;
        }
        if (!config_path_push_key(&reader->path, name)) {
            return config_reader_fail_no_memory(reader);
        }
        if (known->name == NULL) {
            return fail_unknown(reader, key->members);
        }
        if (!known->read(reader, known, member, (char *)field + known->offset)) {
            return false;
        }
        config_path_cut(&reader->path, before);
    }
    return true;
}

bool config_read_map(struct config_reader *reader, const json_t *map, config_entry_read *read_entry)
{
    if (!json_is_object(map)) {
        return config_reader_fail_expected(reader, "an object", map);
    }
    size_t before = reader->path.bytes;
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)map, name, value)
    {
        if (!config_path_push_key(&reader->path, name)) {
            return config_reader_fail_no_memory(reader);
        }
        if (!read_entry(reader, name, value)) {
            return false;
        }
        config_path_cut(&reader->path, before);
    }
    return true;
}

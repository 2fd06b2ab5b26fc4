/*
 * Where in a JSON text a value is. jansson tells the line of an error of syntax but not that of a
 * value that it has read, so that a message about one needs a second look at the text. It is taken
 * only once there is something to complain about, by a scanner that knows no more than where
 * strings, keys, objects and arrays begin and end, and keeps the path to where it is.
 */
#include "api/config_internal.h"

#include <assert.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 2048 /* jansson reads nothing deeper */

static bool append(struct config_path *path, const char *text, size_t bytes)
{
    if (path->bytes + bytes >= path->room) {
        size_t room = 2 * (path->bytes + bytes) + 64;
        char *grown = realloc(path->text, room);
        if (grown == NULL) {
            return false;
        }
        path->text = grown;
        path->room = room;
    }
    memcpy(path->text + path->bytes, text, bytes);
    path->bytes += bytes;
    path->text[path->bytes] = '\0';
    return true;
}

static bool is_plain(const char *key)
{
    size_t plain = strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");
    return plain > 0 && key[plain] == '\0';
}

bool config_path_push_key(struct config_path *path, const char *key)
{
    size_t before = path->bytes;
    if (path->bytes > 0 && !append(path, ".", 1)) {
        return false;
    }
    bool good;
    if (is_plain(key)) {
        good = append(path, key, strlen(key));
    } else {
        json_t *string = json_string(key);
        char *quoted = string != NULL ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
        good = quoted != NULL && append(path, quoted, strlen(quoted));
        free(quoted);
        json_decref(string);
    }
    if (!good) {
        config_path_cut(path, before);
    }
    return good;
}

bool config_path_push_index(struct config_path *path, size_t index)
{
    char text[32];
    int bytes = snprintf(text, sizeof text, "[%zu]", index);
    return append(path, text, (size_t)bytes);
}

void config_path_cut(struct config_path *path, size_t bytes)
{
    assert(bytes <= path->bytes);
    path->bytes = bytes;
    if (path->text != NULL) {
        path->text[bytes] = '\0';
    }
}

void config_path_finish(struct config_path *path)
{
    free(path->text);
    *path = (struct config_path){0};
}

/* An object or array that is open. */
struct level {
    size_t path_bytes; /* the length of its own path */
    size_t index;
    bool array;
    bool key_next; /* in an object: the next string is a key */
};

struct scanner {
    const char *text;
    size_t bytes;
    size_t at;
    size_t line;
    const char *wanted; /* stop where this value begins, or NULL */
    bool found;
    struct config_path path;
    struct level levels[DEPTH_MAX + 1];
    size_t depth;
};

/* A step of the path was taken; whether to go on. */
static bool arrive(struct scanner *scanner)
{
    scanner->found = scanner->wanted != NULL && strcmp(scanner->path.text, scanner->wanted) == 0;
    return !scanner->found;
}

static struct level *top(struct scanner *scanner)
{
    return scanner->depth > 0 ? &scanner->levels[scanner->depth - 1] : NULL;
}

/* A value begins here, which is no key. */
static bool begin_value(struct scanner *scanner)
{
    struct level *level = top(scanner);
    if (level == NULL || !level->array) {
        return true;
    }
    config_path_cut(&scanner->path, level->path_bytes);
    return config_path_push_index(&scanner->path, level->index) && arrive(scanner);
}

static bool scan_string(struct scanner *scanner)
{
    const char *begin = scanner->text + scanner->at++;
    while (scanner->at < scanner->bytes && scanner->text[scanner->at] != '"') {
        scanner->at += scanner->text[scanner->at] == '\\' ? 2 : 1;
    }
    if (scanner->at >= scanner->bytes) {
        return false;
    }
    size_t bytes = (size_t)(scanner->text + ++scanner->at - begin);
    struct level *level = top(scanner);
    if (level == NULL || level->array || !level->key_next) {
        return begin_value(scanner);
    }

    level->key_next = false;
    config_path_cut(&scanner->path, level->path_bytes);
    /* A key may be written with escapes: jansson knows what it says. */
    json_t *key = json_loadb(begin, bytes, JSON_DECODE_ANY, NULL);
    bool pushed = key != NULL && config_path_push_key(&scanner->path, json_string_value(key));
    json_decref(key);
    return pushed && arrive(scanner);
}

static bool open_level(struct scanner *scanner, bool array)
{
    if (scanner->depth > DEPTH_MAX || !begin_value(scanner)) {
        return false;
    }
    scanner->levels[scanner->depth++] =
        (struct level){.path_bytes = scanner->path.bytes, .array = array, .key_next = !array};
    return true;
}

static bool close_level(struct scanner *scanner)
{
    if (scanner->depth == 0) {
        return false;
    }
    config_path_cut(&scanner->path, scanner->levels[--scanner->depth].path_bytes);
    return true;
}

static bool next_member(struct scanner *scanner)
{
    struct level *level = top(scanner);
    if (level == NULL) {
        return false;
    }
    config_path_cut(&scanner->path, level->path_bytes);
    level->index++;
    level->key_next = !level->array;
    return true;
}

/* Numbers and literals: up to the next byte that cannot be part of one. */
static bool scan_scalar(struct scanner *scanner)
{
    static const char delimiters[] = " \t\r\n{}[],:\"";
    while (scanner->at < scanner->bytes &&
           memchr(delimiters, scanner->text[scanner->at], sizeof delimiters - 1) == NULL) {
        scanner->at++;
    }
    return begin_value(scanner);
}

static bool scan_token(struct scanner *scanner)
{
    switch (scanner->text[scanner->at]) {
    case '\n':
        scanner->line++;
        scanner->at++;
        return true;
    case ' ':
    case '\t':
    case '\r':
    case ':':
        scanner->at++;
        return true;
    case ',':
        scanner->at++;
        return next_member(scanner);
    case '{':
    case '[':
        return open_level(scanner, scanner->text[scanner->at++] == '[');
    case '}':
    case ']':
        scanner->at++;
        return close_level(scanner);
    case '"':
        return scan_string(scanner);
    default:
        return scan_scalar(scanner);
    }
}

static struct scanner *scanner_create(const char *text, size_t bytes)
{
    struct scanner *scanner = calloc(1, sizeof *scanner);
    if (scanner != NULL) {
        scanner->text = text;
        scanner->bytes = bytes;
        scanner->line = 1;
    }
    return scanner;
}

static void scanner_destroy(struct scanner *scanner)
{
    config_path_finish(&scanner->path);
    free(scanner);
}

size_t config_place_line(const char *text, size_t bytes, const char *path)
{
    struct scanner *scanner = path != NULL && path[0] != '\0' ? scanner_create(text, bytes) : NULL;
    if (scanner == NULL) {
        return 1;
    }
    scanner->wanted = path;
    while (scanner->at < scanner->bytes && scan_token(scanner)) {
    }
    size_t line = scanner->found ? scanner->line : 1;
    scanner_destroy(scanner);
    return line;
}

void config_place_path(const char *text, size_t offset, struct config_path *ret_path)
{
    *ret_path = (struct config_path){0};
    struct scanner *scanner = scanner_create(text, offset);
    if (scanner == NULL) {
        return;
    }
    while (scanner->at < scanner->bytes && scan_token(scanner)) {
    }
    *ret_path = scanner->path;
    scanner->path = (struct config_path){0};
    scanner_destroy(scanner);
}

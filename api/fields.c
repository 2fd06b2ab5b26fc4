#include "api/fields.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define KEPT_BYTES 16384 /* of text, by fields_reset() */

static bool make_room(struct fields *fields, size_t bytes)
{
    if (fields->count == fields->capacity) {
        size_t capacity = fields->capacity > 0 ? fields->capacity * 2 : 32;
        struct header *at = realloc(fields->at, capacity * sizeof *at);
        if (at == NULL) {
            return false;
        }
        fields->at = at;
        fields->capacity = capacity;
    }
    if (fields->text_bytes + bytes > fields->text_capacity) {
        size_t capacity = fields->text_capacity > 0 ? fields->text_capacity : 2048;
        while (capacity < fields->text_bytes + bytes) {
            capacity *= 2;
        }
        char *text = realloc(fields->text, capacity);
        if (text == NULL) {
            return false;
        }
        fields->text = text;
        fields->text_capacity = capacity;
    }
    return true;
}

/*
 * Copies BYTES and returns their offset in the text, kept where their pointer will be: the text
 * moves while it grows.
 */
static const char *copy(struct fields *fields, const char *bytes_at, size_t bytes)
{
    size_t offset = fields->text_bytes;
    memcpy(fields->text + offset, bytes_at, bytes);
    fields->text_bytes += bytes;
    return (const char *)(uintptr_t)offset;
}

enum fields_added fields_add(struct fields *fields, const char *line, size_t bytes)
{
    struct header field;
    if (!make_room(fields, bytes + 1)) {
        return FIELDS_NO_MEMORY;
    }
    if (bytes > 0 && (*line == ' ' || *line == '\t')) {
        while (bytes > 0 && (*line == ' ' || *line == '\t')) {
            line++;
            bytes--;
        }
        if (fields->count == 0) {
            return FIELDS_MALFORMED;
        }
        copy(fields, " ", 1);
        copy(fields, line, bytes);
        fields->at[fields->count - 1].value_bytes += (uint32_t)bytes + 1;
        return FIELDS_ADDED;
    }
    if (!headers_split(line, bytes, &field)) {
        return FIELDS_MALFORMED;
    }
    struct header *kept = &fields->at[fields->count++];
    kept->name = copy(fields, field.name, field.name_bytes);
    kept->name_bytes = field.name_bytes;
    kept->value = copy(fields, field.value, field.value_bytes);
    kept->value_bytes = field.value_bytes;
    return FIELDS_ADDED;
}

void fields_settle(struct fields *fields)
{
    for (size_t i = 0; i < fields->count; i++) {
        fields->at[i].name = fields->text + (uintptr_t)fields->at[i].name;
        fields->at[i].value = fields->text + (uintptr_t)fields->at[i].value;
    }
}

void fields_reset(struct fields *fields)
{
    fields->count = 0;
    fields->text_bytes = 0;
    if (fields->text_capacity > KEPT_BYTES) {
        free(fields->text);
        fields->text = NULL;
        fields->text_capacity = 0;
    }
}

void fields_finish(struct fields *fields)
{
    free(fields->at);
    free(fields->text);
    *fields = (struct fields){0};
}

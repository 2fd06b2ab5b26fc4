#include "server/field_list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OWN_FIELDS 4   /* Host, what is suppressed, what the body needs */
#define OWN_BYTES  128 /* of theirs, without the authority */

struct writer {
    struct curl_slist *next;
    char *end;
};

/* Ends a node that began at TEXT. */
static void end_node(struct writer *writer, char *text)
{
    *writer->end++ = '\0';
    writer->next->data = text;
    writer->next->next = writer->next + 1;
    writer->next++;
}

static void write_field(struct writer *writer, const char *name, size_t name_bytes,
                        const char *value, size_t value_bytes)
{
    char *text = writer->end;
    memcpy(writer->end, name, name_bytes);
    writer->end += name_bytes;
    if (value_bytes == 0) {
        *writer->end++ = ';'; /* how libcurl is told to send a field without a value */
    } else {
        *writer->end++ = ':';
        *writer->end++ = ' ';
        memcpy(writer->end, value, value_bytes);
        writer->end += value_bytes;
    }
    end_node(writer, text);
}

/* A field that libcurl must not send of its own accord. */
static void suppress_field(struct writer *writer, const char *name)
{
    char *text = writer->end;
    size_t bytes = strlen(name);
    memcpy(writer->end, name, bytes);
    writer->end += bytes;
    *writer->end++ = ':';
    end_node(writer, text);
}

static bool make_room(struct field_list *list, const struct fetch_request *request)
{
    size_t nodes = request->field_count + OWN_FIELDS;
    size_t bytes = strlen(request->origin->authority) + OWN_BYTES;
    for (size_t i = 0; i < request->field_count; i++) {
        bytes += request->fields[i].name_bytes + request->fields[i].value_bytes + 4;
    }
    if (nodes > list->nodes_room) {
        free(list->nodes);
        list->nodes = malloc(nodes * sizeof *list->nodes);
        list->nodes_room = list->nodes != NULL ? nodes : 0;
    }
    if (bytes > list->text_room) {
        free(list->text);
        list->text = malloc(bytes);
        list->text_room = list->text != NULL ? bytes : 0;
    }
    return list->nodes != NULL && list->text != NULL;
}

bool field_list_write(struct field_list *list, const struct fetch_request *request)
{
    bool accept = false;
    if (!make_room(list, request)) {
        return false;
    }
    struct writer writer = {list->nodes, list->text};
    write_field(&writer, "Host", 4, request->origin->authority, strlen(request->origin->authority));
    for (size_t i = 0; i < request->field_count; i++) {
        const struct header *field = &request->fields[i];
        accept = accept || headers_is(field, "Accept");
        write_field(&writer, field->name, field->name_bytes, field->value, field->value_bytes);
    }
    if (!accept) {
        suppress_field(&writer, "Accept");
    }
    if (request->body == FETCH_BODY_CHUNKED) {
        write_field(&writer, "Transfer-Encoding", 17, "chunked", 7);
        suppress_field(&writer, "Expect");
    } else if (request->body == FETCH_BODY_LENGTH) {
        char digits[24];
        int bytes =
            snprintf(digits, sizeof digits, "%llu", (unsigned long long)request->body_bytes);
        write_field(&writer, "Content-Length", 14, digits, (size_t)bytes);
        suppress_field(&writer, "Expect");
    }
    writer.next[-1].next = NULL;
    return true;
}

void field_list_finish(struct field_list *list)
{
    free(list->nodes);
    free(list->text);
    *list = (struct field_list){0};
}

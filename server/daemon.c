/*
 * See daemon.h.
 *
 * libmicrohttpd 0.9.75 works on strings: it ends a method, a target or a field at a byte 0, and
 * takes a line that begins with one, or with the colon that it has just overwritten, for the end of
 * the head. What follows would be another request to us and not to others. It leaves everything
 * where it came, with zeros in the place of separators and line ends, so all of it is there to be
 * seen: whatever lies between two parts that it tells of, other than just these zeros, is something
 * that it does not tell. A chunked body it moves, and what was around it is gone: there the
 * connection is closed, so that nothing can be hidden behind one. A bare LF beside a line that is
 * nothing but a byte 0 or a colon leaves the same zeros as CR LF CR LF: that cannot be seen.
 */
#include "server/daemon.h"

#include <string.h>

void daemon_on_message(void *context, const char *format, va_list arguments)
{
    (void)context, (void)format, (void)arguments;
}

void *daemon_client(struct MHD_Connection *connection)
{
    return MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}

static const char hidden[] = "the head holds a byte 0, a line that begins with a colon, or one "
                             "that does not end in CR LF";

/* In the place of CR LF behind a line; and behind the last and the empty one after it. */
static const char line_end[2];
static const char head_end[4];

/* Whether the line that ends at END is just before NEXT. */
static bool is_line_end(const char *end, const char *next)
{
    return next - end == sizeof line_end && memcmp(end, line_end, sizeof line_end) == 0;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/*
 * A folded line is glued to the name of its field by libmicrohttpd 0.9.75. Such a field shows by
 * its value lying elsewhere than right behind the name.
 */
static bool is_folded(const char *name, size_t name_bytes, const char *value)
{
    const char *c = name + name_bytes + 1;
    if (value < c || value - c > 65536) {
        return true;
    }
    while (c < value && is_blank(*c)) {
        c++;
    }
    return c != value;
}

struct reading {
    struct daemon_fields *fields;
    const char *end;   /* of what came before; NULL: not known */
    const char *stale; /* the name of a field that is none; or NULL */
};

static enum MHD_Result on_field(void *context, enum MHD_ValueKind kind, const char *name,
                                size_t name_bytes, const char *value, size_t value_bytes)
{
    struct reading *reading = context;
    struct daemon_fields *fields = reading->fields;
    (void)kind;
    if (name == reading->stale) {
        return MHD_YES;
    }
    if (fields->count == fields->room) {
        fields->overflow = true;
        return MHD_NO;
    }
    if (value == NULL) {
        value = "";
        value_bytes = 0;
        reading->end = NULL;
    } else {
        if (is_folded(name, name_bytes, value)) {
            fields->defect = "a header field is folded over several lines; send it in one";
        } else if (fields->defect == NULL && reading->end != NULL &&
                   !is_line_end(reading->end, name)) {
            fields->defect = hidden;
        }
        reading->end = value + value_bytes;
    }
    fields->last = name;
    struct header *field = &fields->at[fields->count++];
    *field = (struct header){name, value, (uint32_t)name_bytes, (uint32_t)value_bytes};
    /* libmicrohttpd does not know "chunked " for what it is: the check must see it untrimmed */
    if (headers_is(field, "Transfer-Encoding")) {
        fields->is_last = DAEMON_IS_LAX;
    } else {
        while (field->value_bytes > 0 && is_blank(value[field->value_bytes - 1])) {
            field->value_bytes--;
        }
    }
    return MHD_YES;
}

void daemon_read_head(struct MHD_Connection *connection, const struct daemon_line *line,
                      struct daemon_fields *fields)
{
    struct reading reading = {fields, line->version + strlen(line->version), NULL};
    const char *end =
        line->method +
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE)->header_size;
    (void)MHD_get_connection_values_n(connection, MHD_HEADER_KIND, on_field, &reading);
    bool told = line->method + strlen(line->method) + 1 == line->target &&
                line->target + line->target_bytes + 1 == line->version && reading.end != NULL &&
                end - reading.end == sizeof head_end &&
                memcmp(reading.end, head_end, sizeof head_end) == 0;
    if (!told && fields->defect == NULL) {
        fields->defect = hidden;
    }
    fields->defect = DAEMON_IS_LAX ? fields->defect : NULL;
}

/*
 * What is before the first or behind the last cannot be seen: hence is_last. Where a line comes in
 * two pieces, libmicrohttpd 0.9.75 tells of the last field of the head once more, as if it were a
 * trailer.
 */
void daemon_read_trailers(struct MHD_Connection *connection, const char *last,
                          struct daemon_fields *fields)
{
    struct reading reading = {fields, NULL, DAEMON_IS_LAX ? last : NULL};
    (void)MHD_get_connection_values_n(connection, MHD_FOOTER_KIND, on_field, &reading);
    if (reading.end != NULL && fields->defect == NULL &&
        memcmp(reading.end, line_end, sizeof line_end) != 0) {
        fields->defect = hidden;
    }
    fields->defect = DAEMON_IS_LAX ? fields->defect : NULL;
}

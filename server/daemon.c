#include "server/daemon.h"

void daemon_on_message(void *context, const char *format, va_list arguments)
{
    (void)context, (void)format, (void)arguments;
}

void *daemon_client(struct MHD_Connection *connection)
{
    return MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
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

static enum MHD_Result on_field(void *context, enum MHD_ValueKind kind, const char *name,
                                size_t name_bytes, const char *value, size_t value_bytes)
{
    struct daemon_fields *fields = context;
    (void)kind;
    if (fields->count == fields->room) {
        fields->overflow = true;
        return MHD_NO;
    }
    if (value == NULL) {
        value = "";
        value_bytes = 0;
    } else if (is_folded(name, name_bytes, value)) {
        fields->defect = "a header field is folded over several lines; send it in one";
    }
    struct header *field = &fields->at[fields->count++];
    *field = (struct header){name, value, (uint32_t)name_bytes, (uint32_t)value_bytes};
    /* libmicrohttpd does not know "chunked " for what it is: the check must see it untrimmed */
    if (!headers_is(field, "Transfer-Encoding")) {
        while (field->value_bytes > 0 && is_blank(value[field->value_bytes - 1])) {
            field->value_bytes--;
        }
    }
    return MHD_YES;
}

void daemon_read_fields(struct MHD_Connection *connection, enum MHD_ValueKind kind,
                        struct daemon_fields *fields)
{
    (void)MHD_get_connection_values_n(connection, kind, on_field, fields);
}

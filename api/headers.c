/*
 * Header fields: one table says what is known of a field by its name, two checks read a message's
 * fields once each, and passing a field asks the table.
 *
 * The checks stand between two HTTP parsers, libmicrohttpd and libcurl, which do not agree on odd
 * messages: whatever could be read as two different lengths, or as one field by this parser and as
 * another by the next, is refused rather than repaired. Every comparison of a name takes the same
 * few steps whatever the client sent: the table is sorted by length, so a look-up compares lengths
 * and then the one to five names of the right one. What Connection names is collected once, bounded
 * and without the names that never pass anyway, so that a long Connection cannot make each other
 * field expensive.
 */
#include "api/headers.h"

#include "api/duration.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

#define ARRAY_COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum field {
    FIELD_OTHER,
    FIELD_CONNECTION,
    FIELD_CONTENT_LENGTH,
    FIELD_EXPECT,
    FIELD_HOST,
    FIELD_QUEUE_TIMEOUT,
    FIELD_REQUEST_ID,
    FIELD_TE,
    FIELD_TIMEOUT,
    FIELD_TRANSFER_ENCODING,
    FIELD_VIA,
};

enum {
    NOT_IN_REQUEST = 1,  /* does not go to the upstream */
    NOT_IN_RESPONSE = 2, /* does not go to the client */
    NOT_IN_TRAILER = 4,
    NOT_NAMED = 8, /* stays although Connection names it: it is about the message, not the hop */
    HOP = NOT_IN_REQUEST | NOT_IN_RESPONSE | NOT_IN_TRAILER,
};

struct known {
    const char *name; /* lower case */
    uint32_t bytes;
    enum field field;
    unsigned flags;
};

#define KNOWN(name, field, flags)            \
    {                                        \
        name, sizeof(name) - 1, field, flags \
    }

/* Sorted by length. */
static const struct known known_fields[] = {
    KNOWN("te", FIELD_TE, HOP),
    KNOWN("age", FIELD_OTHER, NOT_IN_TRAILER),
    KNOWN("via", FIELD_VIA, NOT_IN_TRAILER | NOT_NAMED),
    KNOWN("date", FIELD_OTHER, NOT_IN_TRAILER),
    KNOWN("host", FIELD_HOST, NOT_IN_REQUEST | NOT_IN_TRAILER | NOT_NAMED),
    KNOWN("vary", FIELD_OTHER, NOT_IN_TRAILER),
    KNOWN("range", FIELD_OTHER, NOT_IN_TRAILER),
    KNOWN("cookie", FIELD_OTHER, NOT_IN_TRAILER),
    KNOWN("expect", FIELD_EXPECT, NOT_IN_REQUEST | NOT_IN_TRAILER),
    KNOWN("pragma", FIELD_OTHER, NOT_IN_TRAILER),
    KNOWN("expires", FIELD_OTHER, NOT_IN_TRAILER),
    KNOWN("trailer", FIELD_OTHER, HOP),
    KNOWN("upgrade", FIELD_OTHER, HOP),
    KNOWN("warning", FIELD_OTHER, NOT_IN_TRAILER),
    KNOWN("if-match", FIELD_OTHER, NOT_IN_TRAILER),
    KNOWN("if-range", FIELD_OTHER, NOT_IN_TRAILER),
    KNOWN("location", FIELD_OTHER, NOT_IN_TRAILER),
    KNOWN("forwarded", FIELD_OTHER, NOT_IN_TRAILER),
    KNOWN("connection", FIELD_CONNECTION, HOP),
    KNOWN("keep-alive", FIELD_OTHER, HOP),
    KNOWN("set-cookie", FIELD_OTHER, NOT_IN_TRAILER),
    KNOWN("weir-token", FIELD_OTHER, HOP),
    KNOWN("retry-after", FIELD_OTHER, NOT_IN_TRAILER),
    KNOWN("content-type", FIELD_OTHER, NOT_IN_TRAILER | NOT_NAMED),
    KNOWN("max-forwards", FIELD_OTHER, NOT_IN_TRAILER),
    KNOWN("weir-timeout", FIELD_TIMEOUT, HOP),
    KNOWN("x-request-id", FIELD_REQUEST_ID, HOP),
    KNOWN("authorization", FIELD_OTHER, NOT_IN_TRAILER),
    KNOWN("cache-control", FIELD_OTHER, NOT_IN_TRAILER | NOT_NAMED),
    KNOWN("content-range", FIELD_OTHER, NOT_IN_TRAILER | NOT_NAMED),
    KNOWN("if-none-match", FIELD_OTHER, NOT_IN_TRAILER),
    KNOWN("content-length", FIELD_CONTENT_LENGTH, HOP | NOT_NAMED),
    KNOWN("http2-settings", FIELD_OTHER, HOP),
    KNOWN("content-encoding", FIELD_OTHER, NOT_IN_TRAILER | NOT_NAMED),
    KNOWN("proxy-connection", FIELD_OTHER, HOP),
    KNOWN("www-authenticate", FIELD_OTHER, NOT_IN_TRAILER),
    KNOWN("if-modified-since", FIELD_OTHER, NOT_IN_TRAILER),
    KNOWN("transfer-encoding", FIELD_TRANSFER_ENCODING, HOP | NOT_NAMED),
    KNOWN("proxy-authenticate", FIELD_OTHER, HOP),
    KNOWN("weir-queue-timeout", FIELD_QUEUE_TIMEOUT, HOP),
    KNOWN("authentication-info", FIELD_OTHER, NOT_IN_TRAILER),
    KNOWN("if-unmodified-since", FIELD_OTHER, NOT_IN_TRAILER),
    KNOWN("proxy-authorization", FIELD_OTHER, HOP),
    KNOWN("proxy-authentication-info", FIELD_OTHER, HOP),
};

static const struct known other_field = {.field = FIELD_OTHER};
static const struct known weir_field = {.field = FIELD_OTHER, .flags = HOP};
static const struct known forwarded_field = {.field = FIELD_OTHER, .flags = NOT_IN_TRAILER};

/* BYTES of text within a field: a name or an element of a list. */
struct piece {
    const char *text;
    size_t bytes;
};

static bool piece_is(struct piece piece, const char *word, size_t word_bytes)
{
    return piece.bytes == word_bytes && strncasecmp(piece.text, word, word_bytes) == 0;
}

static bool begins_with(struct piece piece, const char *prefix)
{
    size_t bytes = strlen(prefix);
    return piece.bytes >= bytes && strncasecmp(piece.text, prefix, bytes) == 0;
}

/* What is known of the field NAME; never NULL. */
static const struct known *find_known(struct piece name)
{
    size_t low = 0;
    size_t high = ARRAY_COUNT(known_fields);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (known_fields[middle].bytes < name.bytes) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    for (; low < ARRAY_COUNT(known_fields) && known_fields[low].bytes == name.bytes; low++) {
        if (strncasecmp(known_fields[low].name, name.text, name.bytes) == 0) {
            return &known_fields[low];
        }
    }
    if (begins_with(name, "weir-")) {
        return &weir_field;
    }
    return begins_with(name, "x-forwarded-") ? &forwarded_field : &other_field;
}

static struct piece name_of(const struct header *field)
{
    return (struct piece){field->name, field->name_bytes};
}

static struct piece value_of(const struct header *field)
{
    return (struct piece){field->value, field->value_bytes};
}

static bool is_token_byte(unsigned char c)
{
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-') {
        return true;
    }
    return c != '\0' && strchr("!#$%&'*+.^_`|~", c) != NULL;
}

static bool is_token(struct piece piece)
{
    for (size_t i = 0; i < piece.bytes; i++) {
        if (!is_token_byte((unsigned char)piece.text[i])) {
            return false;
        }
    }
    return piece.bytes > 0;
}

static bool is_value(struct piece piece)
{
    for (size_t i = 0; i < piece.bytes; i++) {
        unsigned char c = (unsigned char)piece.text[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return false;
        }
    }
    return true;
}

/* Why FIELD is not well formed, or NULL. */
static const char *check_field(const struct header *field)
{
    if (!is_token(name_of(field))) {
        return "a header field's name is not a token, or the field is folded over two lines";
    }
    return is_value(value_of(field)) ? NULL : "a header field's value holds control characters";
}

static struct piece trim(struct piece piece)
{
    while (piece.bytes > 0 && (piece.text[0] == ' ' || piece.text[0] == '\t')) {
        piece.text++;
        piece.bytes--;
    }
    while (piece.bytes > 0 &&
           (piece.text[piece.bytes - 1] == ' ' || piece.text[piece.bytes - 1] == '\t')) {
        piece.bytes--;
    }
    return piece;
}

/* Cuts the first element, trimmed, off LIST. False: it was the last one; more follow otherwise. */
static bool cut_element(struct piece *list, struct piece *ret_element)
{
    const char *comma = list->bytes > 0 ? memchr(list->text, ',', list->bytes) : NULL;
    size_t bytes = comma != NULL ? (size_t)(comma - list->text) : list->bytes;
    *ret_element = trim((struct piece){list->text, bytes});
    if (comma != NULL) {
        list->text = comma + 1;
        list->bytes -= bytes + 1;
    }
    return comma != NULL;
}

static bool is_named(const struct headers_named *named, struct piece name)
{
    for (uint32_t i = 0; i < named->count; i++) {
        if (piece_is(name, named->names[i], named->name_bytes[i])) {
            return true;
        }
    }
    return false;
}

/*
 * Collects in NAMED the fields that the list of a Connection field names and that would pass a
 * message in which fields with DROPPED do not. Sets *CLOSE where "close" is in the list. Returns
 * why not, or NULL.
 */
static const char *take_connection(struct piece list, unsigned dropped, struct headers_named *named,
                                   bool *close)
{
    for (bool more = true; more;) {
        struct piece element;
        more = cut_element(&list, &element);
        if (piece_is(element, "close", 5)) {
            *close = true;
            continue;
        }
        bool matters =
            is_token(element) && (find_known(element)->flags & (dropped | NOT_NAMED)) == 0;
        if (!matters || is_named(named, element)) {
            continue;
        }
        if (named->count == HEADERS_NAMED_MAX) {
            return "Connection names more than 8 fields";
        }
        named->names[named->count] = element.text;
        named->name_bytes[named->count] = (uint32_t)element.bytes;
        named->count++;
    }
    return NULL;
}

/* Reads a Content-Length: digits only, below 2^63. */
static bool read_length(struct piece digits, uint64_t *ret_length)
{
    uint64_t length = 0;
    for (size_t i = 0; i < digits.bytes; i++) {
        char c = digits.text[i];
        if (c < '0' || c > '9') {
            return false;
        }
        uint64_t digit = (uint64_t)(c - '0');
        if (length > ((uint64_t)INT64_MAX - digit) / 10) {
            return false;
        }
        length = length * 10 + digit;
    }
    if (digits.bytes == 0) {
        return false;
    }
    *ret_length = length;
    return true;
}

/* Reads one of Weir's own durations into *NS, which is HEADERS_NEVER until then. */
static bool take_duration(const struct header *field, uint64_t *ns)
{
    return *ns == HEADERS_NEVER && duration_parse(field->value, field->value_bytes, ns);
}

static bool is_request_id(struct piece value)
{
    for (size_t i = 0; i < value.bytes; i++) {
        if (value.text[i] <= 0x20 || value.text[i] >= 0x7f) {
            return false;
        }
    }
    return value.bytes >= 1 && value.bytes <= 128;
}

/* Whether VALUE has only bytes that a Host can have: nothing that ends an authority. */
static bool is_host(struct piece value)
{
    for (size_t i = 0; i < value.bytes; i++) {
        unsigned char c = (unsigned char)value.text[i];
        if (c <= 0x20 || c >= 0x7f || strchr("/?#@\\\"<>^`{|}", c) != NULL) {
            return false;
        }
    }
    return true;
}

static bool takes_trailers(struct piece list)
{
    bool trailers = false;
    for (bool more = true; more;) {
        struct piece element;
        more = cut_element(&list, &element);
        trailers = trailers || piece_is(element, "trailers", 8);
    }
    return trailers;
}

/* A request while its fields are read. */
struct reading {
    const struct headers_request *request;
    struct headers_request_facts facts;
    const char *self;
    size_t hosts;
    bool has_length;
};

static enum problem refuse(const char *detail, const char **ret_detail)
{
    *ret_detail = detail;
    return PROBLEM_BAD_REQUEST;
}

static enum problem take_length(struct reading *reading, struct piece value,
                                const char **ret_detail)
{
    if (reading->has_length) {
        return refuse("more than one Content-Length", ret_detail);
    }
    if (!read_length(value, &reading->facts.content_length)) {
        return refuse("Content-Length is not a whole number below 2^63", ret_detail);
    }
    reading->has_length = true;
    return PROBLEM_NONE;
}

static enum problem take_encoding(struct reading *reading, struct piece value,
                                  const char **ret_detail)
{
    if (reading->request->http_1_0) {
        return refuse("Transfer-Encoding in an HTTP/1.0 request", ret_detail);
    }
    if (reading->facts.chunked) {
        return refuse("more than one Transfer-Encoding", ret_detail);
    }
    if (!piece_is(value, "chunked", 7)) {
        return refuse("Transfer-Encoding is not exactly chunked", ret_detail);
    }
    reading->facts.chunked = true;
    return PROBLEM_NONE;
}

/* Takes what FIELD says about the request into READING. */
static enum problem take_field(struct reading *reading, const struct header *field,
                               const char **ret_detail)
{
    struct headers_request_facts *facts = &reading->facts;
    const struct known *known = find_known(name_of(field));
    struct piece value = value_of(field);
    const char *detail = NULL;
    switch (known->field) {
    case FIELD_OTHER:
        if (known == &weir_field) {
            detail = "an unknown Weir- field: expected Weir-Queue-Timeout, Weir-Timeout or "
                     "Weir-Token";
        }
        break;
    case FIELD_CONNECTION:
        detail = take_connection(value, NOT_IN_REQUEST, &facts->named, &facts->close);
        break;
    case FIELD_CONTENT_LENGTH:
        return take_length(reading, value, ret_detail);
    case FIELD_EXPECT:
        if (!piece_is(value, "100-continue", 12)) {
            *ret_detail = "Expect is not 100-continue";
            return PROBLEM_EXPECTATION_FAILED;
        }
        facts->expect_continue = !reading->request->http_1_0;
        break;
    case FIELD_HOST:
        detail = is_host(value) ? NULL : "Host is not a host and port";
        reading->hosts++;
        break;
    case FIELD_QUEUE_TIMEOUT:
        if (!take_duration(field, &facts->queue_timeout_ns)) {
            detail = "Weir-Queue-Timeout: expected once, " DURATION_EXPECTED;
        }
        break;
    case FIELD_REQUEST_ID:
        if (facts->request_id == NULL && is_request_id(value)) {
            facts->request_id = field;
        }
        break;
    case FIELD_TE:
        facts->te_trailers = facts->te_trailers || takes_trailers(value);
        break;
    case FIELD_TIMEOUT:
        if (!take_duration(field, &facts->fetch_timeout_ns) || facts->fetch_timeout_ns == 0) {
            detail = "Weir-Timeout: expected once, a duration above 0 such as 250ms, 5s, 2m or 1h";
        }
        break;
    case FIELD_TRANSFER_ENCODING:
        return take_encoding(reading, value, ret_detail);
    case FIELD_VIA:
        if (reading->self != NULL && value.bytes > 0 &&
            memmem(value.text, value.bytes, reading->self, strlen(reading->self)) != NULL) {
            *ret_detail = "the request has been through this service already";
            return PROBLEM_LOOP;
        }
        break;
    }
    return detail != NULL ? refuse(detail, ret_detail) : PROBLEM_NONE;
}

enum problem headers_check_request(const struct headers_request *request, const char *self,
                                   struct headers_request_facts *ret_facts, const char **ret_detail)
{
    assert(request != NULL && request->method != NULL);
    assert(request->fields != NULL || request->count == 0);
    assert(self == NULL || self[0] != '\0');
    assert(ret_facts != NULL && ret_detail != NULL);
    struct reading reading = {
        .request = request,
        .facts = {.queue_timeout_ns = HEADERS_NEVER, .fetch_timeout_ns = HEADERS_NEVER},
        .self = self,
    };
    if (!is_token((struct piece){request->method, strlen(request->method)})) {
        return refuse("the method is not a token", ret_detail);
    }
    for (size_t i = 0; i < request->count; i++) {
        const char *detail = check_field(&request->fields[i]);
        if (detail != NULL) {
            return refuse(detail, ret_detail);
        }
    }
    for (size_t i = 0; i < request->count; i++) {
        enum problem problem = take_field(&reading, &request->fields[i], ret_detail);
        if (problem != PROBLEM_NONE) {
            return problem;
        }
    }
    if (reading.hosts > 1) {
        return refuse("more than one Host", ret_detail);
    }
    if (reading.hosts == 0 && !request->http_1_0) {
        return refuse("an HTTP/1.1 request without Host", ret_detail);
    }
    if (reading.has_length && reading.facts.chunked) {
        return refuse("both Content-Length and Transfer-Encoding", ret_detail);
    }
    reading.facts.has_body = reading.has_length || reading.facts.chunked;
    *ret_facts = reading.facts;
    return PROBLEM_NONE;
}

/* Whether FIELD passes a message in which fields with DROPPED do not. */
static bool passes(const struct header *field, const struct headers_named *named, unsigned dropped)
{
    struct piece name = name_of(field);
    return (find_known(name)->flags & dropped) == 0 && !is_named(named, name);
}

bool headers_pass_request(const struct headers_request *request,
                          const struct headers_request_facts *facts, size_t index)
{
    assert(request != NULL && facts != NULL && index < request->count);
    return passes(&request->fields[index], &facts->named, NOT_IN_REQUEST);
}

/* Takes a Content-Length of an answer: a list of equal numbers is that number (RFC 9110 8.6). */
static const char *take_response_length(struct piece list, struct headers_response_facts *facts)
{
    for (bool more = true; more;) {
        struct piece element;
        uint64_t length;
        more = cut_element(&list, &element);
        if (!read_length(element, &length)) {
            return "the upstream's Content-Length is not a whole number below 2^63";
        }
        if (facts->has_length && facts->content_length != length) {
            return "the upstream sent two different Content-Lengths";
        }
        facts->has_length = true;
        facts->content_length = length;
    }
    return NULL;
}

/* Takes what FIELD says about an answer. Returns why it is refused, or NULL. */
static const char *take_response_field(const struct header *field,
                                       struct headers_response_facts *facts)
{
    bool close = false;
    switch (find_known(name_of(field))->field) {
    case FIELD_CONNECTION:
        return take_connection(value_of(field), NOT_IN_RESPONSE, &facts->named, &close);
    case FIELD_CONTENT_LENGTH:
        return take_response_length(value_of(field), facts);
    case FIELD_TRANSFER_ENCODING:
        if (facts->chunked) {
            return "the upstream sent more than one Transfer-Encoding";
        }
        facts->chunked = true;
        return piece_is(value_of(field), "chunked", 7)
                   ? NULL
                   : "the upstream's Transfer-Encoding is not exactly chunked";
    case FIELD_OTHER:
    case FIELD_EXPECT:
    case FIELD_HOST:
    case FIELD_QUEUE_TIMEOUT:
    case FIELD_REQUEST_ID:
    case FIELD_TE:
    case FIELD_TIMEOUT:
    case FIELD_VIA:
        return NULL;
    }
    return NULL;
}

bool headers_check_response(const struct headers_response *response,
                            struct headers_response_facts *ret_facts, const char **ret_detail)
{
    assert(response != NULL && (response->fields != NULL || response->count == 0));
    assert(ret_facts != NULL && ret_detail != NULL);
    struct headers_response_facts facts = {.has_length = false};
    for (size_t i = 0; i < response->count; i++) {
        const char *detail = check_field(&response->fields[i]);
        if (detail == NULL) {
            detail = take_response_field(&response->fields[i], &facts);
        }
        if (detail != NULL) {
            *ret_detail = detail;
            return false;
        }
    }
    if (facts.has_length && facts.chunked) {
        *ret_detail = "the upstream sent both Content-Length and Transfer-Encoding";
        return false;
    }
    *ret_facts = facts;
    return true;
}

bool headers_pass_response(const struct headers_response *response,
                           const struct headers_response_facts *facts, size_t index)
{
    assert(response != NULL && facts != NULL && index < response->count);
    return passes(&response->fields[index], &facts->named, NOT_IN_RESPONSE);
}

bool headers_pass_trailer(const struct header *trailer)
{
    assert(trailer != NULL);
    return check_field(trailer) == NULL &&
           (find_known(name_of(trailer))->flags & NOT_IN_TRAILER) == 0;
}

bool headers_is(const struct header *field, const char *name)
{
    assert(field != NULL && name != NULL);
    return piece_is(name_of(field), name, strlen(name));
}

bool headers_split(const char *line, size_t bytes, struct header *ret_header)
{
    assert(line != NULL && ret_header != NULL);
    const char *colon = memchr(line, ':', bytes);
    if (colon == NULL || bytes > UINT32_MAX) {
        return false;
    }
    struct piece name = {line, (size_t)(colon - line)};
    struct piece value = trim((struct piece){colon + 1, bytes - name.bytes - 1});
    if (!is_token(name)) {
        return false;
    }
    *ret_header = (struct header){
        .name = name.text,
        .value = value.text,
        .name_bytes = (uint32_t)name.bytes,
        .value_bytes = (uint32_t)value.bytes,
    };
    return true;
}

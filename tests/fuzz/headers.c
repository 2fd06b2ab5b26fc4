/*
 * Header fields: the input is a first line and field lines. A first line "METHOD" or "METHOD 1.0"
 * begins a request, one that begins with a digit an answer. What is accepted has one length at
 * most, and nothing passes that belongs to the hop; what passes is accepted again, whole.
 */
#include "api/headers.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define FIELDS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static const char *const hop_names[] = {
    "connection",     "keep-alive",   "proxy-connection", "transfer-encoding", "te",
    "trailer",        "x-request-id", "content-length",   "upgrade",           "proxy-authenticate",
    "http2-settings",
};
static const char *const request_names[] = {"host", "expect", "proxy-authorization"};
static const char *const kept_names[] = {"via", "cache-control", "content-type", "content-encoding",
                                         "content-range"};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct message {
    struct header fields[FIELDS_MAX];
    size_t count;
};

static bool is_one_of(const struct header *field, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (headers_is(field, names[i])) {
            return true;
        }
    }
    return false;
}

static size_t count_of(const struct message *message, const char *name)
{
    size_t count = 0;
    for (size_t i = 0; i < message->count; i++) {
        count += headers_is(&message->fields[i], name);
    }
    return count;
}

/* Splits the lines from TEXT to END at their first colon, without judging them. */
static struct message split(const char *text, const char *end)
{
    struct message message = {.count = 0};
    while (text < end && message.count < FIELDS_MAX) {
        const char *line_end = memchr(text, '\n', (size_t)(end - text));
        line_end = line_end != NULL ? line_end : end;
        const char *colon = memchr(text, ':', (size_t)(line_end - text));
        const char *name_end = colon != NULL ? colon : line_end;
        const char *value = colon != NULL ? colon + 1 : line_end;
        value += value < line_end && *value == ' ';
        message.fields[message.count++] =
            (struct header){text, value, (uint32_t)(name_end - text), (uint32_t)(line_end - value)};
        struct header field;
        if (headers_split(text, (size_t)(line_end - text), &field)) {
            assert(field.name == text && field.value + field.value_bytes <= line_end);
            assert(field.name_bytes == name_end - text && field.name_bytes > 0);
        }
        text = line_end < end ? line_end + 1 : end;
    }
    return message;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

/* Whether a Connection field of MESSAGE has FIELD's name as one of its elements. */
static bool is_named(const struct message *message, const struct header *field)
{
    for (size_t i = 0; i < message->count; i++) {
        const char *end = message->fields[i].value + message->fields[i].value_bytes;
        bool is_list = headers_is(&message->fields[i], "connection");
        for (const char *at = message->fields[i].value; is_list && at < end;) {
            const char *stop = at;
            while (stop < end && *stop != ',') {
                stop++;
            }
            const char *last = stop;
            while (at < last && is_space(*at)) {
                at++;
            }
            while (at < last && is_space(last[-1])) {
                last--;
            }
            if ((size_t)(last - at) == field->name_bytes &&
                strncasecmp(at, field->name, field->name_bytes) == 0) {
                return true;
            }
            at = stop + 1;
        }
    }
    return false;
}

static void check_passing(const struct message *message, const struct header *field)
{
    assert(field->name_bytes > 0);
    for (size_t i = 0; i < field->name_bytes; i++) {
        assert(field->name[i] > 0x20 && field->name[i] < 0x7f && field->name[i] != ':');
    }
    for (size_t i = 0; i < field->value_bytes; i++) {
        unsigned char c = (unsigned char)field->value[i];
        assert(c == '\t' || (c >= 0x20 && c != 0x7f));
    }
    assert(!is_one_of(field, hop_names, COUNT(hop_names)));
    assert(field->name_bytes < 5 || strncasecmp(field->name, "weir-", 5) != 0);
    if (!is_one_of(field, kept_names, COUNT(kept_names)) && !headers_is(field, "host") &&
        !headers_is(field, "close") && !headers_is(field, "keep-alive")) {
        assert(!is_named(message, field));
    }
}

static void check_framing(const struct message *message, bool chunked)
{
    assert(count_of(message, "transfer-encoding") == chunked);
    assert(!chunked || count_of(message, "content-length") == 0);
    for (size_t i = 0; i < message->count; i++) {
        const struct header *field = &message->fields[i];
        if (headers_is(field, "transfer-encoding")) {
            assert(field->value_bytes == 7 && strncasecmp(field->value, "chunked", 7) == 0);
        }
        if (headers_pass_trailer(field)) {
            assert(!is_one_of(field, hop_names, COUNT(hop_names)));
            assert(!is_one_of(field, request_names, COUNT(request_names)));
        }
    }
}

static void check_request(char *method, const struct message *message)
{
    struct headers_request request = {method, false, message->fields, message->count};
    struct headers_request_facts facts;
    const char *detail = NULL;
    char *version = strstr(method, " 1.0");
    if (version != NULL && version[4] == '\0') {
        *version = '\0';
        request.http_1_0 = true;
    }
    if (headers_check_request(&request, "(self)", &facts, &detail) != PROBLEM_NONE) {
        assert(detail != NULL);
        return;
    }
    check_framing(message, facts.chunked);
    assert(count_of(message, "content-length") == (facts.has_body && !facts.chunked));
    assert(facts.content_length <= INT64_MAX);
    assert(!request.http_1_0 || !facts.chunked);
    assert(count_of(message, "host") <= 1);
    assert(request.http_1_0 || count_of(message, "host") == 1);
    struct message passed = {.count = 0};
    for (size_t i = 0; i < message->count; i++) {
        if (headers_pass_request(&request, &facts, i)) {
            check_passing(message, &message->fields[i]);
            assert(!is_one_of(&message->fields[i], request_names, COUNT(request_names)));
            passed.fields[passed.count++] = message->fields[i];
        }
    }
    struct headers_request again = {method, true, passed.fields, passed.count};
    enum problem problem = headers_check_request(&again, "(self)", &facts, &detail);
    assert(problem == PROBLEM_NONE && !facts.has_body && facts.named.count == 0);
    for (size_t i = 0; i < passed.count; i++) {
        assert(headers_pass_request(&again, &facts, i));
    }
}

static void check_response(const struct message *message)
{
    struct headers_response response = {200, message->fields, message->count};
    struct headers_response_facts facts;
    const char *detail = NULL;
    if (!headers_check_response(&response, &facts, &detail)) {
        assert(detail != NULL);
        return;
    }
    check_framing(message, facts.chunked);
    assert((count_of(message, "content-length") > 0) == facts.has_length);
    assert(facts.content_length <= INT64_MAX);
    struct message passed = {.count = 0};
    for (size_t i = 0; i < message->count; i++) {
        if (headers_pass_response(&response, &facts, i)) {
            check_passing(message, &message->fields[i]);
            passed.fields[passed.count++] = message->fields[i];
        }
    }
    struct headers_response again = {200, passed.fields, passed.count};
    bool good = headers_check_response(&again, &facts, &detail);
    assert(good && !facts.has_length && !facts.chunked && facts.named.count == 0);
    for (size_t i = 0; i < passed.count; i++) {
        assert(headers_pass_response(&again, &facts, i));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char *text = malloc(bytes + 1);
    assert(text != NULL);
    if (bytes > 0) {
        memcpy(text, data, bytes);
    }
    text[bytes] = '\0';
    char *line_end = memchr(text, '\n', bytes);
    if (line_end != NULL) {
        *line_end = '\0';
        struct message message = split(line_end + 1, text + bytes);
        if (text[0] >= '0' && text[0] <= '9') {
            check_response(&message);
        } else {
            check_request(text, &message);
        }
    }
    free(text);
    return 0;
}

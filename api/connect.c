#include "api/connect.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define SCHEME        "http://"
#define SCHEME_BYTES  (sizeof SCHEME - 1)
#define AUTHORITY_MAX 512 /* longer than any that origin_parse() takes */
#define METHOD        "CONNECT "
#define METHOD_BYTES  (sizeof METHOD - 1)

static const char *const bad_line =
    "the request line must be CONNECT HOST:PORT HTTP/1.1, with one space between its parts";
static const char *const bad_field =
    "a header field is not \"Name: value\" on one line, without spaces before the colon";
static const char *const no_memory = "out of memory for the request";
static const char *const no_port =
    "expected HOST:PORT with a port from 1 to 65535, as in CONNECT example.com:443";
static const char *const not_authority =
    "expected nothing but HOST:PORT, as in CONNECT example.com:443 or CONNECT [::1]:443";

enum connect_found connect_scan(struct connect_scan *scan, const char *text, size_t bytes,
                                size_t *ret_bytes)
{
    assert(scan->line_start <= scan->seen && scan->seen <= bytes);
    const char *end;
    while ((end = memchr(text + scan->seen, '\n', bytes - scan->seen)) != NULL) {
        size_t at = (size_t)(end - text);
        if (at == scan->line_start || text[at - 1] != '\r') {
            return CONNECT_BROKEN;
        }
        if (at == scan->line_start + 1) {
            *ret_bytes = at + 1;
            return CONNECT_WHOLE;
        }
        scan->seen = scan->line_start = at + 1;
    }
    scan->seen = bytes;
    return CONNECT_PARTIAL;
}

/* Splits the request line, BYTES long and without its end. */
static bool parse_line(const char *line, size_t bytes, struct connect_head *head)
{
    if (bytes < METHOD_BYTES || memcmp(line, METHOD, METHOD_BYTES) != 0) {
        return false;
    }
    const char *target = line + METHOD_BYTES;
    const char *space = memchr(target, ' ', bytes - METHOD_BYTES);
    if (space == NULL || space == target) {
        return false;
    }
    for (const char *c = target; c < space; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f) {
            return false;
        }
    }
    const char *version = space + 1;
    if (line + bytes - version != 8 || memcmp(version, "HTTP/1.", 7) != 0 ||
        (version[7] != '0' && version[7] != '1')) {
        return false;
    }
    head->target = target;
    head->target_bytes = (size_t)(space - target);
    head->request.method = "CONNECT";
    head->request.http_1_0 = version[7] == '0';
    return true;
}

/* Counts the lines of TEXT. */
static size_t count_lines(const char *text, const char *end)
{
    size_t lines = 0;
    while ((text = memchr(text, '\n', (size_t)(end - text))) != NULL) {
        text++;
        lines++;
    }
    return lines;
}

enum problem connect_parse(const char *text, size_t bytes, struct connect_head *ret_head,
                           const char **ret_detail)
{
    struct connect_head head = {0};
    const char *end = text + bytes;
    const char *line_end = memchr(text, '\n', bytes);
    assert(line_end != NULL && line_end > text && bytes >= 2 && memcmp(end - 2, "\r\n", 2) == 0);
    if (!parse_line(text, (size_t)(line_end - text) - 1, &head)) {
        *ret_detail = bad_line;
        return PROBLEM_BAD_REQUEST;
    }
    struct header *fields = malloc(count_lines(line_end + 1, end) * sizeof *fields);
    if (fields == NULL) {
        *ret_detail = no_memory;
        return PROBLEM_INTERNAL;
    }
    size_t count = 0;
    for (const char *line = line_end + 1; line < end - 2; line = line_end + 1) {
        line_end = memchr(line, '\n', (size_t)(end - line));
        if (!headers_split(line, (size_t)(line_end - line) - 1, &fields[count++])) {
            free(fields);
            *ret_detail = bad_field;
            return PROBLEM_BAD_REQUEST;
        }
    }
    head.request.fields = fields;
    head.request.count = count;
    *ret_head = head;
    return PROBLEM_NONE;
}

void connect_finish(struct connect_head *head)
{
    free((struct header *)head->request.fields);
    *head = (struct connect_head){0};
}

/* Whether AUTHORITY ends in ":" and digits, with a host before it. */
static bool has_port(const char *authority, size_t bytes)
{
    size_t digits = 0;
    while (digits < bytes && authority[bytes - digits - 1] >= '0' &&
           authority[bytes - digits - 1] <= '9') {
        digits++;
    }
    size_t colon = bytes - digits;
    return digits > 0 && colon > 1 && authority[colon - 1] == ':';
}

enum problem connect_parse_authority(struct origin_cache *origins, const char *authority,
                                     size_t bytes, struct origin **ret_origin,
                                     const char **ret_detail)
{
    char url[SCHEME_BYTES + AUTHORITY_MAX];
    assert(origins != NULL && authority != NULL && ret_origin != NULL && ret_detail != NULL);
    if (memchr(authority, '@', bytes) != NULL || memchr(authority, '/', bytes) != NULL) {
        *ret_detail = not_authority;
        return PROBLEM_BAD_TARGET;
    }
    if (!has_port(authority, bytes)) {
        *ret_detail = no_port;
        return PROBLEM_BAD_TARGET;
    }
    if (bytes > AUTHORITY_MAX) {
        *ret_detail = "the host name is longer than 253 bytes";
        return PROBLEM_BAD_TARGET;
    }
    memcpy(url, SCHEME, SCHEME_BYTES);
    memcpy(url + SCHEME_BYTES, authority, bytes);
    struct origin *origin = origin_parse(origins, url, SCHEME_BYTES + bytes, ret_detail);
    if (origin == NULL) {
        if (*ret_detail != NULL) {
            return PROBLEM_BAD_TARGET;
        }
        *ret_detail = no_memory;
        return PROBLEM_INTERNAL;
    }
    *ret_origin = origin;
    return PROBLEM_NONE;
}

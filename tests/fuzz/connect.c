/*
 * CONNECT: the input is what a client sends. The end of the head is found at the same place however
 * the bytes are cut; a head that parses has a target without spaces and control characters and
 * fields that lie within it in order; an authority that parses leads where the URL with it leads.
 */
#include "api/connect.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static enum connect_found scan_in_steps(const char *text, size_t bytes, size_t step, size_t *head)
{
    struct connect_scan scan = {0};
    enum connect_found found = CONNECT_PARTIAL;
    for (size_t have = 0; found == CONNECT_PARTIAL && have < bytes;) {
        have = bytes - have > step ? have + step : bytes;
        found = connect_scan(&scan, text, have, head);
        assert(scan.line_start <= scan.seen && scan.seen <= have);
    }
    return found;
}

static void check_head(const struct connect_head *head, const char *text, size_t bytes)
{
    const char *place = text;
    assert(head->target_bytes > 0);
    assert(head->target > text && head->target + head->target_bytes < text + bytes);
    for (size_t i = 0; i < head->target_bytes; i++) {
        unsigned char c = (unsigned char)head->target[i];
        assert(c > 0x20 && c != 0x7f);
    }
    for (size_t i = 0; i < head->request.count; i++) {
        const struct header *field = &head->request.fields[i];
        assert(field->name > place && field->name_bytes > 0);
        assert(field->value > field->name + field->name_bytes - 1);
        place = field->value + field->value_bytes;
        assert(place < text + bytes);
        assert(memchr(field->name, '\n', (size_t)(place - field->name)) == NULL);
    }
}

static void check_authority(const struct connect_head *head)
{
    struct origin_cache *origins = origin_cache_create(4);
    struct origin *origin = NULL;
    const char *detail = NULL;
    assert(origins != NULL);
    enum problem problem =
        connect_parse_authority(origins, head->target, head->target_bytes, &origin, &detail);
    if (problem == PROBLEM_NONE) {
        struct origin *same = origin_parse(origins, origin->url, strlen(origin->url) - 1, &detail);
        assert(same != NULL && same->port == origin->port && origin->port > 0);
        assert(strcmp(same->host, origin->host) == 0 && strcmp(same->name, origin->name) == 0);
        assert(memchr(head->target, ':', head->target_bytes) != NULL);
        assert(memchr(head->target, '@', head->target_bytes) == NULL);
        origin_release(same);
        origin_release(origin);
    } else {
        assert(problem == PROBLEM_BAD_TARGET && detail != NULL);
    }
    origin_cache_destroy(origins);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char *text = malloc(bytes + 1); /* the allocation ends where the input does, but for one */
    size_t head_bytes = 0;
    size_t by_one = 0;
    assert(text != NULL);
    if (bytes > 0) {
        memcpy(text, data, bytes);
    }
    enum connect_found found = scan_in_steps(text, bytes, bytes, &head_bytes);
    assert(scan_in_steps(text, bytes, 1, &by_one) == found && by_one == head_bytes);
    if (found == CONNECT_WHOLE) {
        struct connect_head head;
        const char *detail = NULL;
        assert(head_bytes >= 2 && head_bytes <= bytes);
        char *exact = malloc(head_bytes);
        assert(exact != NULL);
        memcpy(exact, text, head_bytes);
        enum problem problem = connect_parse(exact, head_bytes, &head, &detail);
        if (problem == PROBLEM_NONE) {
            struct headers_request_facts facts;
            check_head(&head, exact, head_bytes);
            check_authority(&head);
            if (headers_check_request(&head.request, NULL, &facts, &detail) == PROBLEM_NONE) {
                assert(head.request.http_1_0 || head.request.count > 0);
            }
            connect_finish(&head);
        } else {
            assert(problem == PROBLEM_BAD_REQUEST && detail != NULL);
        }
        free(exact);
    }
    free(text);
    return 0;
}

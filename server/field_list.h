/*
 * The header fields of a request as the list that libcurl takes, in memory that is used again for
 * the next.
 */
#ifndef WEIR_SERVER_FIELD_LIST_H
#define WEIR_SERVER_FIELD_LIST_H

#include "server/fetch.h"

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>

/* All zero is an empty one. */
struct field_list {
    struct curl_slist *nodes; /* an array, linked in its order: for CURLOPT_HTTPHEADER */
    size_t nodes_room;
    char *text; /* what the nodes point into */
    size_t text_room;
};

/*
 * Writes what REQUEST has, in its order: Host first, what its body needs last; and what keeps
 * libcurl from adding fields of its own. False when out of memory.
 */
bool field_list_write(struct field_list *list, const struct fetch_request *request);

/* Frees what it holds. */
void field_list_finish(struct field_list *list);

#endif

/*
 * Each name has an entry: its last answer, the look-up that is under way for it, and the queries
 * that wait for that. An entry is either idle (no look-up, nobody waits or has still to take the
 * answer) and then in the list of idle ones, the longest unused first, from which room is made; or
 * it is busy and stays. So busy entries are bounded by the look-ups under way.
 *
 * A look-up is a piece of its own, shared with a thread: it holds a copy of the name and its own
 * result, so that the resolver may go while the thread is still in getaddrinfo(), which nothing can
 * interrupt. The thread touches nothing else.
 *
 * uv_queue_work() rather than uv_getaddrinfo(): libuv lets the latter have only half of its
 * threads, and one slow name server should not hold up half of them twice over; its error codes
 * are the system's; and tests can put another look-up in its place.
 */
#include "server/resolver.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1 /* else uthash ends the process; an element not added has no hh.tbl */
#include <uthash.h>

#define NAMES_MAX   4096
#define LOOKUPS_MAX 256
#define FRESH_NS    UINT64_C(30000000000)
#define STALE_NS    UINT64_C(300000000000)
#define FAILURE_NS  UINT64_C(3000000000)

TAILQ_HEAD(query_list, resolver_query);
TAILQ_HEAD(entry_list, resolver_entry);
TAILQ_HEAD(lookup_list, lookup);

struct lookup {
    uv_work_t work;
    TAILQ_ENTRY(lookup) link;     /* while it waits for its turn */
    bool begun;                   /* it is libuv's */
    struct resolver_entry *entry; /* NULL: the resolver has gone */
    resolver_lookup *look_up;
    struct resolver_addresses addresses; /* written by the thread */
    char name[];
};

/* Its answer is given at once until stale_ns, and from fresh_ns on renewed. */
struct resolver_entry {
    UT_hash_handle hh;
    TAILQ_ENTRY(resolver_entry) link; /* while idle */
    struct resolver *resolver;
    struct lookup *lookup; /* under way, or NULL */
    struct query_list waiting;
    size_t untaken; /* queries of its that are ready */
    uint64_t fresh_ns;
    uint64_t stale_ns;
    struct resolver_addresses answer;
    char name[];
};

struct resolver {
    uv_loop_t *loop;
    resolver_lookup *look_up;
    struct resolver_entry *entries;
    struct entry_list idle; /* the longest unused first */
    struct query_list ready[RESOLVER_MAILBOXES];
    struct lookup_list next; /* that wait for their turn */
    unsigned lookups;        /* all of them */
    unsigned begun;
    unsigned threads;
};

/* --- Addresses --- */

static bool is_address(const struct addrinfo *info)
{
    return (info->ai_family == AF_INET && info->ai_addrlen == sizeof(struct sockaddr_in)) ||
           (info->ai_family == AF_INET6 && info->ai_addrlen == sizeof(struct sockaddr_in6));
}

/* Copies the addresses of LIST, each once; their order is that in which to try them. */
static void collect(const struct addrinfo *list, struct resolver_addresses *addresses)
{
    for (; list != NULL && addresses->count < RESOLVER_ADDRESSES; list = list->ai_next) {
        unsigned same = 0;

        if (!is_address(list)) {
            continue;
        }
        memset(&addresses->at[addresses->count], 0, sizeof addresses->at[0]);
        memcpy(&addresses->at[addresses->count], list->ai_addr, list->ai_addrlen);
        while (memcmp(&addresses->at[same], &addresses->at[addresses->count],
                      sizeof addresses->at[0]) != 0) {
            same++;
        }
        addresses->count += same == addresses->count;
    }
}

static bool read_literal(const char *name, struct resolver_addresses *ret_addresses)
{
    struct in_addr v4;
    struct in6_addr v6;

    if (inet_pton(AF_INET, name, &v4) == 1) {
        *ret_addresses = (struct resolver_addresses){.count = 1};
        ret_addresses->at[0].v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = v4};
        return true;
    }
    if (inet_pton(AF_INET6, name, &v6) == 1) {
        *ret_addresses = (struct resolver_addresses){.count = 1};
        ret_addresses->at[0].v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = v6};
        return true;
    }
    return false;
}

/* --- Entries --- */

static bool is_idle(const struct resolver_entry *entry)
{
    return entry->lookup == NULL && entry->untaken == 0 && TAILQ_EMPTY(&entry->waiting);
}

static void free_entry(struct resolver *resolver, struct resolver_entry *entry)
{
    HASH_DEL(resolver->entries, entry);
    free(entry);
}

/* Makes sure of room for one more; false where every entry is busy. */
static bool make_room(struct resolver *resolver)
{
    struct resolver_entry *oldest = TAILQ_FIRST(&resolver->idle);

    if (HASH_COUNT(resolver->entries) < NAMES_MAX) {
        return true;
    }
    if (oldest == NULL) {
        return false;
    }
    TAILQ_REMOVE(&resolver->idle, oldest, link);
    free_entry(resolver, oldest);
    return true;
}

/* The entry of NAME, made where there is none, and no longer idle; NULL where there is no room. */
static struct resolver_entry *get_entry(struct resolver *resolver, const char *name)
{
    struct resolver_entry *entry;
    size_t bytes = strlen(name);

    HASH_FIND(hh, resolver->entries, name, bytes, entry);
    if (entry != NULL) {
        if (is_idle(entry)) {
            TAILQ_REMOVE(&resolver->idle, entry, link);
        }
        return entry;
    }
    if (!make_room(resolver)) {
        return NULL;
    }
    entry = calloc(1, sizeof *entry + bytes + 1);
    if (entry == NULL) {
        return NULL;
    }
    entry->resolver = resolver;
    TAILQ_INIT(&entry->waiting);
    memcpy(entry->name, name, bytes + 1);
    HASH_ADD_KEYPTR(hh, resolver->entries, entry->name, bytes, entry);
    if (entry->hh.tbl == NULL) {
        free(entry);
        return NULL;
    }
    return entry;
}

/* Ends what get_entry() began: ENTRY is idle where nothing holds it. */
static void put_entry(struct resolver_entry *entry)
{
    if (is_idle(entry)) {
        TAILQ_INSERT_TAIL(&entry->resolver->idle, entry, link);
    }
}

/* --- Look-ups --- */

/* On a thread of libuv's. */
static void on_work(uv_work_t *work)
{
    struct lookup *lookup = work->data;
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct addrinfo *list = NULL;
    int error = lookup->look_up(lookup->name, NULL, &hints, &list);

    if (error == 0) {
        collect(list, &lookup->addresses);
        freeaddrinfo(list);
    }
    if (lookup->addresses.count == 0) {
        lookup->addresses.error = error != 0 ? error : EAI_NONAME;
    }
}

/* Whether ERROR says that there is no such name, not that nobody could be asked. */
static bool is_final(int error)
{
    return error == EAI_NONAME || error == EAI_NODATA || error == EAI_ADDRFAMILY;
}

static void learn(struct resolver_entry *entry, const struct resolver_addresses *addresses,
                  uint64_t now_ns)
{
    uint64_t failure_ns = now_ns + FAILURE_NS;

    if (addresses->count > 0) {
        entry->answer = *addresses;
        entry->fresh_ns = now_ns + FRESH_NS;
        entry->stale_ns = now_ns + STALE_NS;
    } else if (entry->answer.count > 0 && now_ns < entry->stale_ns && !is_final(addresses->error)) {
        /* A name server that is away for a moment does not take away what is known. */
        entry->fresh_ns = failure_ns < entry->stale_ns ? failure_ns : entry->stale_ns;
    } else {
        entry->answer = *addresses;
        entry->fresh_ns = failure_ns;
        entry->stale_ns = failure_ns;
    }
}

static void on_worked(uv_work_t *work, int status);

/* Others use libuv's threads too, and are not to wait for a name server. */
static void begin_next(struct resolver *resolver)
{
    struct lookup *lookup;

    while (resolver->begun < resolver->threads && (lookup = TAILQ_FIRST(&resolver->next)) != NULL) {
        TAILQ_REMOVE(&resolver->next, lookup, link);
        lookup->begun = true;
        resolver->begun++;
        int error = uv_queue_work(resolver->loop, &lookup->work, on_work, on_worked);
        assert(error == 0); /* it only puts it on a list */
        (void)error;
    }
}

static void finish_lookup(struct lookup *lookup)
{
    struct resolver_entry *entry = lookup->entry;
    struct resolver *resolver = entry->resolver;
    struct resolver_query *query;

    assert(entry->lookup == lookup && resolver->lookups > 0);
    learn(entry, &lookup->addresses, uv_hrtime());
    entry->lookup = NULL;
    resolver->lookups--;
    resolver->begun--;
    begin_next(resolver);
    while ((query = TAILQ_FIRST(&entry->waiting)) != NULL) {
        TAILQ_REMOVE(&entry->waiting, query, link);
        TAILQ_INSERT_TAIL(&resolver->ready[query->mailbox], query, link);
        query->ready = true;
        entry->untaken++;
    }
    put_entry(entry);
}

static void on_worked(uv_work_t *work, int status)
{
    struct lookup *lookup = work->data;

    assert(status == 0 || lookup->entry == NULL); /* only the end of the resolver cancels */
    if (lookup->entry != NULL) {
        finish_lookup(lookup);
    }
    free(lookup);
}

/* Makes sure that a look-up is under way for ENTRY; false where there is no room for one. */
static bool start_lookup(struct resolver *resolver, struct resolver_entry *entry)
{
    size_t bytes = strlen(entry->name);

    if (entry->lookup != NULL) {
        return true;
    }
    if (resolver->lookups >= LOOKUPS_MAX) {
        return false;
    }
    struct lookup *lookup = calloc(1, sizeof *lookup + bytes + 1);

    if (lookup == NULL) {
        return false;
    }
    lookup->work.data = lookup;
    lookup->entry = entry;
    lookup->look_up = resolver->look_up;
    memcpy(lookup->name, entry->name, bytes + 1);
    entry->lookup = lookup;
    resolver->lookups++;
    TAILQ_INSERT_TAIL(&resolver->next, lookup, link);
    begin_next(resolver);
    return true;
}

/* Takes back the look-up of ENTRY, which has not begun and which nobody waits for. */
static void drop_lookup(struct resolver *resolver, struct resolver_entry *entry)
{
    TAILQ_REMOVE(&resolver->next, entry->lookup, link);
    resolver->lookups--;
    free(entry->lookup);
    entry->lookup = NULL;
    put_entry(entry);
}

/* --- The interface --- */

struct resolver *resolver_create(uv_loop_t *loop, unsigned threads)
{
    assert(threads > 0);
    struct resolver *resolver = calloc(1, sizeof *resolver);

    if (resolver == NULL) {
        return NULL;
    }
    resolver->loop = loop;
    resolver->look_up = getaddrinfo;
    resolver->threads = threads;
    TAILQ_INIT(&resolver->next);
    TAILQ_INIT(&resolver->idle);
    for (unsigned i = 0; i < RESOLVER_MAILBOXES; i++) {
        TAILQ_INIT(&resolver->ready[i]);
    }
    return resolver;
}

void resolver_set_lookup(struct resolver *resolver, resolver_lookup *look_up)
{
    resolver->look_up = look_up;
}

void resolver_destroy(struct resolver *resolver)
{
    struct resolver_entry *entry;
    struct resolver_entry *next;

    if (resolver == NULL) {
        return;
    }
    for (unsigned i = 0; i < RESOLVER_MAILBOXES; i++) {
        assert(TAILQ_EMPTY(&resolver->ready[i]));
    }
    HASH_ITER (hh, resolver->entries, entry, next) {
        assert(TAILQ_EMPTY(&entry->waiting));
        if (entry->lookup != NULL && entry->lookup->begun) {
            /* It frees itself when its thread is through; cancelling spares those not begun. */
            entry->lookup->entry = NULL;
            (void)uv_cancel((uv_req_t *)&entry->lookup->work);
        } else {
            free(entry->lookup);
        }
        free_entry(resolver, entry);
    }
    free(resolver);
}

bool resolver_ask(struct resolver *resolver, const char *name, struct resolver_query *query,
                  uint64_t now_ns, struct resolver_addresses *ret_addresses)
{
    assert(query->entry == NULL && !query->ready && query->mailbox < RESOLVER_MAILBOXES);
    if (read_literal(name, ret_addresses)) {
        return true;
    }
    struct resolver_entry *entry = get_entry(resolver, name);

    if (entry == NULL) {
        *ret_addresses = (struct resolver_addresses){0};
        return true;
    }
    bool known = now_ns < entry->stale_ns;
    bool under_way = (known && now_ns < entry->fresh_ns) || start_lookup(resolver, entry);

    if (known) {
        *ret_addresses = entry->answer;
    } else if (!under_way) {
        *ret_addresses = (struct resolver_addresses){0};
    } else {
        query->entry = entry;
        TAILQ_INSERT_TAIL(&entry->waiting, query, link);
        return false;
    }
    put_entry(entry);
    return true;
}

struct resolver_query *resolver_take(struct resolver *resolver,
                                     struct resolver_addresses *ret_addresses)
{
    return resolver_take_from(resolver, RESOLVER_FETCHES, ret_addresses);
}

struct resolver_query *resolver_take_from(struct resolver *resolver, unsigned mailbox,
                                          struct resolver_addresses *ret_addresses)
{
    assert(mailbox < RESOLVER_MAILBOXES);
    struct resolver_query *query = TAILQ_FIRST(&resolver->ready[mailbox]);

    if (query != NULL) {
        *ret_addresses = query->entry->answer;
        resolver_cancel(resolver, query);
    }
    return query;
}

bool resolver_is_busy(const struct resolver *resolver)
{
    return resolver->lookups > 0;
}

void resolver_cancel(struct resolver *resolver, struct resolver_query *query)
{
    struct resolver_entry *entry = query->entry;

    if (entry == NULL) {
        return;
    }
    assert(entry->resolver == resolver);
    if (query->ready) {
        TAILQ_REMOVE(&resolver->ready[query->mailbox], query, link);
        entry->untaken--;
        put_entry(entry);
    } else {
        assert(entry->lookup != NULL);
        TAILQ_REMOVE(&entry->waiting, query, link);
        if (!entry->lookup->begun && TAILQ_EMPTY(&entry->waiting)) {
            drop_lookup(resolver, entry); /* it would only keep others waiting */
        } /* else it goes on, and the entry stays busy; somebody may ask again soon */
    }
    *query = (struct resolver_query){0};
}

/*
 * Hosts: where they lie and how they are found.
 *
 * With very many hosts the cost of a request is that of the memory it touches, so all here is made
 * to touch little. Hosts lie close together, in chunks that never move; their counters, ten times
 * as large, lie apart. A host is named by its index. The table holds a hash and an index for each,
 * so that a look-up goes to one host, and nearly always the right one. The links of the lists are
 * an array of their own: taking a host out of the middle touches that small array, and not the
 * two hosts beside it.
 *
 * The lists are rings through three heads that have the first indices: idle hosts, held hosts, and
 * places for hosts that are free.
 */
#include "limiter/hosts.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define TABLE_MIN 64
#define CHUNK     64

enum { HEAD_IDLE, HEAD_HELD, HEAD_FREE, HEADS };

struct hosts_entry {
    uint32_t hash;
    uint32_t index; /* 0: empty; no host has it, as it is a head's */
};

struct hosts_link {
    uint32_t previous;
    uint32_t next;
};

struct hosts_chunk {
    struct limiter_host hosts[CHUNK];
    struct limiter_counters counters[CHUNK];
};

void hosts_init(struct hosts *hosts, uint32_t max, uint64_t seed)
{
    assert(hosts && max > 0);
    *hosts = (struct hosts){.max = max, .seed = seed};
}

static struct limiter_host *host_at(const struct hosts *hosts, uint32_t index)
{
    uint32_t place = index - HEADS;
    return &hosts->chunks[place / CHUNK]->hosts[place % CHUNK];
}

/* --- the lists --- */

static void list_append(struct hosts_link *links, uint32_t head, uint32_t index)
{
    uint32_t last = links[head].previous;
    links[index] = (struct hosts_link){.previous = last, .next = head};
    links[last].next = index;
    links[head].previous = index;
}

static void list_remove(struct hosts_link *links, uint32_t index)
{
    struct hosts_link link = links[index];
    links[link.previous].next = link.next;
    links[link.next].previous = link.previous;
}

/* --- the table --- */

/* Seeded, so that whoever chooses the names of hosts cannot choose where they collide. */
static uint32_t hash_key(uint64_t seed, const char *key)
{
    size_t length = strlen(key);
    uint64_t hash = seed ^ length;
    while (length > 0) {
        uint64_t word = 0;
        size_t bytes = length < sizeof word ? length : sizeof word;
        memcpy(&word, key, bytes);
        hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 29;
        key += bytes;
        length -= bytes;
    }
    hash *= UINT64_C(0xbf58476d1ce4e5b9);
    return (uint32_t)(hash >> 32);
}

uint32_t hosts_hash(const struct hosts *hosts, const char *key)
{
    return hash_key(hosts->seed, key);
}

struct limiter_host *hosts_find(const struct hosts *hosts, const char *key)
{
    assert(hosts && key);
    if (hosts->count == 0) {
        return NULL;
    }
    uint32_t hash = hash_key(hosts->seed, key);
    for (uint32_t at = hash;; at++) {
        struct hosts_entry entry = hosts->table[at & hosts->mask];
        if (entry.index == 0) {
            return NULL;
        }
        if (entry.hash == hash) {
            struct limiter_host *host = host_at(hosts, entry.index);
            if (strcmp(host->key, key) == 0) {
                return host;
            }
        }
    }
}

static void table_put(struct hosts_entry *table, uint32_t mask, struct hosts_entry entry)
{
    uint32_t at = entry.hash;
    while (table[at & mask].index != 0) {
        at++;
    }
    table[at & mask] = entry;
}

/* Takes HOST out and closes the gap, so that every entry can be reached from its own place. */
static void table_remove(struct hosts *hosts, const struct limiter_host *host)
{
    struct hosts_entry *table = hosts->table;
    uint32_t mask = hosts->mask;
    uint32_t gap = hash_key(hosts->seed, host->key) & mask;
    while (table[gap].index != host->index) {
        gap = (gap + 1) & mask;
    }
    for (uint32_t at = (gap + 1) & mask; table[at].index != 0; at = (at + 1) & mask) {
        if (((at - table[at].hash) & mask) >= ((at - gap) & mask)) {
            table[gap] = table[at];
            gap = at;
        }
    }
    table[gap].index = 0;
}

/* Makes the table large enough for one more. */
static bool table_reserve(struct hosts *hosts)
{
    uint32_t size = hosts->table ? hosts->mask + 1 : 0;
    if (hosts->count < size / 2) {
        return true;
    }
    uint32_t new_size = size > 0 ? 2 * size : TABLE_MIN;
    struct hosts_entry *table = calloc(new_size, sizeof *table);
    if (!table) {
        return false;
    }
    for (uint32_t i = 0; i < size; i++) {
        if (hosts->table[i].index != 0) {
            table_put(table, new_size - 1, hosts->table[i]);
        }
    }
    free(hosts->table);
    hosts->table = table;
    hosts->mask = new_size - 1;
    return true;
}

/* --- places --- */

/* Makes links and chunks long enough for another chunk. */
static bool grow_room(struct hosts *hosts)
{
    if (hosts->places < hosts->room) {
        return true;
    }
    uint32_t room = hosts->room > 0 ? 2 * hosts->room : CHUNK;
    struct hosts_link *links = realloc(hosts->links, (room + HEADS) * sizeof *links);
    if (!links) {
        return false;
    }
    for (uint32_t head = 0; !hosts->links && head < HEADS; head++) {
        links[head] = (struct hosts_link){.previous = head, .next = head};
    }
    hosts->links = links;
    struct hosts_chunk **chunks =
        realloc(hosts->chunks, room / CHUNK * sizeof(struct hosts_chunk *));
    if (!chunks) {
        return false;
    }
    hosts->chunks = chunks;
    hosts->room = room;
    return true;
}

/* Makes sure that a place is free. */
static bool place_reserve(struct hosts *hosts)
{
    if (hosts->count < hosts->places) {
        return true;
    }
    if (!grow_room(hosts)) {
        return false;
    }
    struct hosts_chunk *chunk = aligned_alloc(_Alignof(struct hosts_chunk), sizeof *chunk);
    if (!chunk) {
        return false;
    }
    hosts->chunks[hosts->places / CHUNK] = chunk;
    for (uint32_t i = 0; i < CHUNK; i++) {
        list_append(hosts->links, HEAD_FREE, HEADS + hosts->places++);
    }
    return true;
}

static void evict(struct hosts *hosts, struct limiter_host *host)
{
    assert(!host->held && !hosts_is_held(host));
    table_remove(hosts, host);
    list_remove(hosts->links, host->index);
    list_append(hosts->links, HEAD_FREE, host->index);
    if (host->key != host->short_key) {
        free(host->key);
    }
    hosts->count--;
    hosts->evicted_total++;
}

void hosts_finish(struct hosts *hosts)
{
    assert(hosts && !hosts_next_held(hosts, NULL));
    while (hosts->count > 0) {
        evict(hosts, hosts_next(hosts, NULL));
    }
    for (uint32_t i = 0; i < hosts->places / CHUNK; i++) {
        free(hosts->chunks[i]);
    }
    free(hosts->chunks);
    free(hosts->links);
    free(hosts->table);
}

bool hosts_make_room(struct hosts *hosts, uint32_t more)
{
    assert(hosts && more <= hosts->max);
    while (hosts->count > hosts->max - more) {
        uint32_t oldest = hosts->links[HEAD_IDLE].next;
        if (oldest == HEAD_IDLE) {
            return false;
        }
        evict(hosts, host_at(hosts, oldest));
    }
    return true;
}

struct limiter_host *hosts_add(struct hosts *hosts, const char *key)
{
    assert(hosts && key && hosts->count < hosts->max);
    size_t key_bytes = strlen(key) + 1;
    char *long_key = NULL;
    if (!table_reserve(hosts) || !place_reserve(hosts)) {
        return NULL;
    }
    if (key_bytes > HOSTS_SHORT_KEY && !(long_key = malloc(key_bytes))) {
        return NULL;
    }
    uint32_t index = hosts->links[HEAD_FREE].previous; /* freed last: still in the cache */
    struct limiter_host *host = host_at(hosts, index);
    *host = (struct limiter_host){.index = index};
    host->key = long_key ? long_key : host->short_key;
    memcpy(host->key, key, key_bytes);
    host->counters = &hosts->chunks[(index - HEADS) / CHUNK]->counters[(index - HEADS) % CHUNK];
    memset(host->counters, 0, sizeof *host->counters);
    TAILQ_INIT(&host->queue);
    list_remove(hosts->links, index);
    list_append(hosts->links, HEAD_IDLE, index);
    uint32_t hash = hash_key(hosts->seed, key);
    table_put(hosts->table, hosts->mask, (struct hosts_entry){.hash = hash, .index = index});
    hosts->count++;
    return host;
}

bool hosts_is_held(const struct limiter_host *host)
{
    return host->tickets > 0 || host->attachment;
}

void hosts_place(struct hosts *hosts, struct limiter_host *host)
{
    assert(hosts && host);
    host->held = hosts_is_held(host);
    list_remove(hosts->links, host->index);
    list_append(hosts->links, host->held ? HEAD_HELD : HEAD_IDLE, host->index);
}

struct limiter_host *hosts_next_held(const struct hosts *hosts, const struct limiter_host *previous)
{
    assert(hosts && (!previous || previous->held));
    if (hosts->count == 0) {
        return NULL;
    }
    uint32_t next = hosts->links[previous ? previous->index : HEAD_HELD].next;
    return next != HEAD_HELD ? host_at(hosts, next) : NULL;
}

struct limiter_host *hosts_next(const struct hosts *hosts, const struct limiter_host *previous)
{
    assert(hosts);
    if (hosts->count == 0) {
        return NULL;
    }
    if (!previous || !previous->held) {
        uint32_t next = hosts->links[previous ? previous->index : HEAD_IDLE].next;
        if (next != HEAD_IDLE) {
            return host_at(hosts, next);
        }
        previous = NULL;
    }
    return hosts_next_held(hosts, previous);
}

bool hosts_check(const struct hosts *hosts)
{
    assert(hosts);
    uint32_t listed = 0;
    uint32_t in_table = 0;
    const struct limiter_host *host = NULL;
    while ((host = hosts_next(hosts, host))) {
        if (host->held != hosts_is_held(host) || hosts_find(hosts, host->key) != host) {
            return false;
        }
        listed++;
    }
    for (uint32_t i = 0; hosts->table && i <= hosts->mask; i++) {
        in_table += hosts->table[i].index != 0 ? 1 : 0;
    }
    return listed == hosts->count && in_table == hosts->count && hosts->count <= hosts->places &&
           hosts->places <= hosts->room && (!hosts->table || hosts->count <= (hosts->mask + 1) / 2);
}

/*
 * Rules: exact names and patterns in two hash tables.
 *
 * Exact rules are keyed by their name. Patterns are keyed by what follows the star: the rule
 * "*.example.org:8443" by ".example.org:8443", so that a key of a pattern is a tail of the host it
 * matches and can be looked up in place.
 *
 * A key is hashed from its end to its beginning. The hash of a longer tail is then the hash of the
 * shorter one carried on, and one walk over the host, from its end, tries every tail: the time of
 * a match grows with the length of the host and not with its square.
 */
#include "limiter/rules.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Out of memory leaves the entry out of its table, which shows in its `hh.tbl`. */
#define HASH_NONFATAL_OOM          1
#define uthash_nonfatal_oom(entry) ((void)(entry))
#include <uthash.h>

#define NAME_MAX_BYTES 255

struct entry {
    struct rule rule;
    UT_hash_handle hh;
    char name[]; /* what rule.name points at */
};

struct rules {
    struct rule fallback;
    struct entry *exact;
    struct entry *patterns;
    struct entry **in_order;
    size_t count;
    size_t capacity;
};

/* Carries HASH on over the LENGTH bytes at TEXT, the last one first (FNV-1a). */
static uint32_t hash_back(uint32_t hash, const char *text, size_t length)
{
    while (length > 0) {
        hash = (hash ^ (unsigned char)text[--length]) * UINT32_C(16777619);
    }
    return hash;
}

static uint32_t hash_key(const char *key, size_t length)
{
    return hash_back(UINT32_C(2166136261), key, length);
}

static struct entry *find(struct entry *table, const char *key, size_t length, uint32_t hash)
{
    struct entry *entry;
    HASH_FIND_BYHASHVALUE(hh, table, key, (unsigned)length, hash, entry);
    return entry;
}

/* The length of the name in HOST: up to the colon before the port, or all of it. */
static size_t name_length(const char *host)
{
    const char *name_end = host[0] == '[' ? strchr(host, ']') : host;
    const char *colon = name_end ? strchr(name_end, ':') : NULL;
    return colon ? (size_t)(colon - host) : strlen(host);
}

/* A port as a key has it: no leading zero, and not one of those that a key leaves out. */
static bool is_port(const char *text)
{
    size_t length = strspn(text, "0123456789");
    if (length == 0 || length > 5 || text[length] != '\0' || text[0] == '0') {
        return false;
    }
    unsigned long port = strtoul(text, NULL, 10);
    return port <= UINT16_MAX && port != 80 && port != 443;
}

/* Labels of letters, digits, '-' and '_', with dots between them. */
static bool is_name(const char *text, size_t length)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789-_";
    if (length == 0 || length > NAME_MAX_BYTES) {
        return false;
    }
    for (size_t at = 0; at < length; at++) {
        size_t label = strspn(text + at, letters);
        at += label;
        if (label == 0 || (at < length && text[at] != '.') || at + 1 == length) {
            return false;
        }
    }
    return true;
}

static bool is_bracketed_address(const char *text, size_t length)
{
    return length > 4 && text[0] == '[' && text[length - 1] == ']' &&
           strspn(text + 1, "0123456789abcdef:.") == length - 2 && strchr(text, ':') != NULL;
}

static bool is_pattern(const char *name)
{
    return name[0] == '*';
}

static bool is_rule_name(const char *name)
{
    size_t length = name_length(name);
    if (name[length] == ':' && !is_port(name + length + 1)) {
        return false;
    }
    if (is_pattern(name)) {
        return length > 2 && length <= NAME_MAX_BYTES && name[1] == '.' &&
               is_name(name + 2, length - 2);
    }
    return is_name(name, length) || is_bracketed_address(name, length);
}

struct rules *rules_create(const struct rule *fallback)
{
    assert(fallback && fallback->limit > 0);
    struct rules *rules = calloc(1, sizeof *rules);
    if (!rules) {
        return NULL;
    }
    rules->fallback = *fallback;
    rules->fallback.name = "default";
    return rules;
}

void rules_destroy(struct rules *rules)
{
    if (!rules) {
        return;
    }
    HASH_CLEAR(hh, rules->exact);
    HASH_CLEAR(hh, rules->patterns);
    for (size_t i = 0; i < rules->count; i++) {
        free(rules->in_order[i]);
    }
    free(rules->in_order);
    free(rules);
}

static struct entry *entry_create(const struct rule *rule)
{
    size_t bytes = strlen(rule->name) + 1;
    struct entry *entry = calloc(1, sizeof *entry + bytes);
    if (entry) {
        memcpy(entry->name, rule->name, bytes);
        entry->rule = *rule;
        entry->rule.name = entry->name;
    }
    return entry;
}

/* Makes room for one more in the order of adding. */
static bool reserve(struct rules *rules)
{
    if (rules->count < rules->capacity) {
        return true;
    }
    size_t capacity = rules->capacity > 0 ? 2 * rules->capacity : 8;
    struct entry **in_order = realloc(rules->in_order, capacity * sizeof *in_order);
    if (!in_order) {
        return false;
    }
    rules->in_order = in_order;
    rules->capacity = capacity;
    return true;
}

enum rules_added rules_add(struct rules *rules, const struct rule *rule)
{
    assert(rules && rule && rule->name && rule->limit > 0);
    if (!is_rule_name(rule->name)) {
        return RULES_BAD_NAME;
    }
    struct entry **table = is_pattern(rule->name) ? &rules->patterns : &rules->exact;
    size_t skipped = is_pattern(rule->name) ? 1 : 0;
    size_t length = strlen(rule->name) - skipped;
    uint32_t hash = hash_key(rule->name + skipped, length);
    if (find(*table, rule->name + skipped, length, hash)) {
        return RULES_DUPLICATE;
    }
    struct entry *entry = reserve(rules) ? entry_create(rule) : NULL;
    if (!entry) {
        return RULES_NO_MEMORY;
    }
    HASH_ADD_KEYPTR_BYHASHVALUE(hh, *table, entry->name + skipped, (unsigned)length, hash, entry);
    if (!entry->hh.tbl) {
        free(entry);
        return RULES_NO_MEMORY;
    }
    rules->in_order[rules->count++] = entry;
    return RULES_ADDED;
}

/*
 * The pattern with the longest key that is a tail of HOST's first LENGTH bytes, or NULL. A key
 * begins at a dot, and at least one byte of the name comes before it.
 */
static struct entry *longest_pattern(const struct rules *rules, const char *host, size_t length)
{
    struct entry *longest = NULL;
    size_t end = length;
    uint32_t hash = hash_key(host, 0);
    for (size_t at = length; at-- > 1;) {
        if (host[at] == '.') {
            hash = hash_back(hash, host + at, end - at);
            end = at;
            struct entry *entry = find(rules->patterns, host + at, length - at, hash);
            longest = entry ? entry : longest;
        }
    }
    return longest;
}

static const struct rule *match_pattern(const struct rules *rules, const char *host, size_t name,
                                        size_t length)
{
    struct entry *bare = longest_pattern(rules, host, name);
    struct entry *ported = name < length ? longest_pattern(rules, host, length) : NULL;
    if (bare && ported) {
        size_t bare_length = strlen(bare->name);
        size_t ported_length = name_length(ported->name);
        return bare_length > ported_length ? &bare->rule : &ported->rule;
    }
    if (bare || ported) {
        return bare ? &bare->rule : &ported->rule;
    }
    return NULL;
}

const struct rule *rules_match(const struct rules *rules, const char *host)
{
    assert(rules && host);
    if (rules->count == 0) {
        return &rules->fallback;
    }
    size_t name = name_length(host);
    size_t length = name + strlen(host + name);
    if (rules->exact) {
        struct entry *entry = find(rules->exact, host, length, hash_key(host, length));
        if (!entry && name < length) {
            entry = find(rules->exact, host, name, hash_key(host, name));
        }
        if (entry) {
            return &entry->rule;
        }
    }
    const struct rule *pattern = NULL;
    if (rules->patterns) {
        pattern = match_pattern(rules, host, name, length);
    }
    return pattern ? pattern : &rules->fallback;
}

size_t rules_count(const struct rules *rules)
{
    assert(rules);
    return rules->count;
}

const struct rule *rules_at(const struct rules *rules, size_t index)
{
    assert(rules && index < rules->count);
    return &rules->in_order[index]->rule;
}

const struct rule *rules_default(const struct rules *rules)
{
    assert(rules);
    return &rules->fallback;
}

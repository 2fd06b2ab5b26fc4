/*
 * Origins: a check by hand, libcurl's URL parser, then a canonical form.
 *
 * Two programs that ask for one host must share its budget, so two spellings of a host must become
 * one. libcurl's parser does part of that and is what the fetch itself uses, hence it decides. It
 * is too kind on both sides of that part:
 *   - before it, check_text() refuses what it would take and silently fold or drop: escapes in the
 *     host, zone identifiers, "http:/h", "http:///h", an empty port, a path;
 *   - after it, make_name() does what it leaves as written: upper case, the dot at the end, IPv6
 *     addresses that its own normalisation does not shorten, and numbers that become an address
 *     once the dot is gone ("127.1."). A name whose last label is a number and that is no address
 *     ("1.2.3.256") is refused, as browsers do: no name ends so, and resolvers differ on it.
 *
 * The cache is a table of small sets: the text's hash picks a set, and the texts in a set push each
 * other out, the least recently used first. A look-up compares at most WAYS texts, so somebody who
 * makes texts collide only brings back the cost of parsing.
 */
#include "api/origin.h"

#include "api/address.h"

#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define NAME_MAX_BYTES      253
#define LABEL_MAX_BYTES     63
#define AUTHORITY_MAX_BYTES (NAME_MAX_BYTES + 7) /* a dot at the end, ":65535" */
#define TEXT_MAX_BYTES      (8 + AUTHORITY_MAX_BYTES)
#define HOST_SIZE           (NAME_MAX_BYTES + 1 + 2 + 7) /* brackets; ":65535" and its end */
#define URL_SIZE            (HOST_SIZE + 9)
#define WAYS                4

static const char *const no_scheme = "the URL must begin with http:// or https://";
static const char *const no_host = "the URL has no host: expected http://HOST/ or https://HOST/";
static const char *const bad_user =
    "the URL holds user information: send an Authorization field instead";
static const char *const bad_port = "the port must be a number from 1 to 65535";
static const char *const bad_length = "the host name is longer than 253 bytes";
static const char *const bad_label = "the host name has a label that is not 1 to 63 bytes long";
static const char *const bad_ascii =
    "the host name holds bytes that are not ASCII: expected its xn-- form";
static const char *const bad_percent =
    "the host holds a percent sign: expected a plain name or address, without escapes or zone";
static const char *const bad_behind = "expected nothing behind the host and port";
static const char *const bad_byte =
    "the host holds a character that is not a letter, a digit, \"-\", \"_\" or \".\"";
static const char *const bad_number =
    "the host name ends in a number but is not an IPv4 address: expected an address or a name";
static const char *const bad_ipv6 =
    "the host in brackets must be an IPv6 address without a zone, such as [::1]";

/* An origin as it is allocated, with all its strings. */
struct kept {
    struct origin origin; /* first: origins are freed as what they are part of */
    size_t text_bytes;
    char text[]; /* what it was parsed from, then name, host and url, each with its end */
};

struct slot {
    uint64_t hash;
    struct kept *kept; /* NULL: free; the free ones of a set are behind the others */
};

struct origin_cache {
    size_t sets;
    size_t ways;
    struct slot slots[];
};

/* What the parts of a text are worth, on the way to an origin. */
struct parts {
    bool tls;
    bool literal;
    bool ipv6;
    uint16_t port;
    char name[NAME_MAX_BYTES + 1];
};

struct origin_cache *origin_cache_create(size_t entries)
{
    size_t ways = entries < WAYS ? entries : WAYS;
    size_t sets = ways > 0 ? entries / ways : 0;
    struct origin_cache *cache = NULL;
    if (sets <= (SIZE_MAX - sizeof *cache) / (WAYS * sizeof(struct slot))) {
        cache = calloc(1, sizeof *cache + sets * ways * sizeof(struct slot));
    }
    if (cache == NULL) {
        return NULL;
    }
    cache->sets = sets;
    cache->ways = ways;
    return cache;
}

void origin_cache_destroy(struct origin_cache *cache)
{
    if (cache == NULL) {
        return;
    }
    for (size_t i = 0; i < cache->sets * cache->ways; i++) {
        if (cache->slots[i].kept != NULL) {
            origin_release(&cache->slots[i].kept->origin);
        }
    }
    free(cache);
}

struct origin *origin_hold(struct origin *origin)
{
    assert(origin != NULL && origin->references > 0);
    origin->references++;
    return origin;
}

void origin_release(struct origin *origin)
{
    if (origin == NULL) {
        return;
    }
    assert(origin->references > 0);
    if (--origin->references == 0) {
        free((struct kept *)origin);
    }
}

/* FNV-1a: short texts, and nothing but speed hangs on it. */
static uint64_t hash_text(const char *text, size_t bytes)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < bytes; i++) {
        hash = (hash ^ (unsigned char)text[i]) * UINT64_C(1099511628211);
    }
    return hash;
}

static struct slot *find_set(struct origin_cache *cache, uint64_t hash)
{
    return &cache->slots[hash % cache->sets * cache->ways];
}

/* Moves the first WAY slots of a set one back and puts FIRST in front of them. */
static void put_first(struct slot *set, size_t way, struct slot first)
{
    for (; way > 0; way--) {
        set[way] = set[way - 1];
    }
    set[0] = first;
}

static struct origin *recall(struct origin_cache *cache, const char *text, size_t bytes,
                             uint64_t hash)
{
    if (cache->sets == 0) {
        return NULL;
    }
    struct slot *set = find_set(cache, hash);
    for (size_t way = 0; way < cache->ways && set[way].kept != NULL; way++) {
        struct slot found = set[way];
        if (found.hash == hash && found.kept->text_bytes == bytes &&
            memcmp(found.kept->text, text, bytes) == 0) {
            put_first(set, way, found);
            return origin_hold(&found.kept->origin);
        }
    }
    return NULL;
}

static void remember(struct origin_cache *cache, struct kept *kept, uint64_t hash)
{
    if (cache->sets == 0) {
        return;
    }
    struct slot *set = find_set(cache, hash);
    size_t last = cache->ways - 1;
    if (set[last].kept != NULL) {
        origin_release(&set[last].kept->origin);
    }
    put_first(set, last, (struct slot){.hash = hash, .kept = kept});
    (void)origin_hold(&kept->origin);
}

/* Whether C may stand in an authority: a name, an address in brackets, a port. */
static bool is_authority_byte(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("-_.:[]", c) != NULL);
}

/* The length of "http://" or "https://" at the start of TEXT, or 0. */
static size_t measure_scheme(const char *text, size_t bytes)
{
    if (bytes >= 7 && strncasecmp(text, "http://", 7) == 0) {
        return 7;
    }
    return bytes >= 8 && strncasecmp(text, "https://", 8) == 0 ? 8 : 0;
}

/* Why C may not stand in an authority. */
static const char *name_bad_byte(unsigned char c)
{
    if (c >= 0x80) {
        return bad_ascii;
    }
    if (c == '%') {
        return bad_percent;
    }
    return c == '/' || c == '?' || c == '#' ? bad_behind : bad_byte;
}

/* Refuses, before libcurl sees it, what libcurl would fold or drop. NULL: good. */
static const char *check_text(const char *text, size_t bytes)
{
    size_t scheme_bytes = measure_scheme(text, bytes);
    if (scheme_bytes == 0) {
        return no_scheme;
    }
    const char *authority = text + scheme_bytes;
    size_t authority_bytes = bytes - scheme_bytes;
    if (memchr(authority, '@', authority_bytes) != NULL) {
        return bad_user;
    }
    if (authority_bytes == 0 || authority[0] == ':' || authority[0] == '/') {
        return no_host;
    }
    for (size_t i = 0; i < authority_bytes; i++) {
        unsigned char c = (unsigned char)authority[i];
        if (!is_authority_byte(c)) {
            return name_bad_byte(c);
        }
    }
    if (authority[authority_bytes - 1] == ':') {
        return bad_port;
    }
    return authority_bytes > AUTHORITY_MAX_BYTES ? bad_length : NULL;
}

/* Whether the last label of NAME is a number: digits, or "0x" and hexadecimal digits. */
static bool ends_in_number(const char *name)
{
    const char *dot = strrchr(name, '.');
    const char *label = dot != NULL ? dot + 1 : name;
    size_t bytes = strlen(label);
    if (strspn(label, "0123456789") == bytes) {
        return true;
    }
    return label[0] == '0' && label[1] == 'x' && 2 + strspn(label + 2, "0123456789abcdef") == bytes;
}

/* Checks the lengths and bytes of a lower-case name that is no address. NULL: good. */
static const char *check_name(const char *name)
{
    for (const char *label = name;;) {
        size_t bytes = strcspn(label, ".");
        if (bytes == 0 || bytes > LABEL_MAX_BYTES) {
            return bad_label;
        }
        for (size_t i = 0; i < bytes; i++) {
            unsigned char c = (unsigned char)label[i];
            if (!is_authority_byte(c) || strchr(":[]", c) != NULL) {
                return bad_byte;
            }
        }
        if (label[bytes] == '\0') {
            return ends_in_number(name) ? bad_number : NULL;
        }
        label += bytes + 1;
    }
}

/* Makes HOST, as libcurl gives it, the canonical name in PARTS. NULL: good. */
static const char *make_name(const char *host, struct parts *parts)
{
    size_t bytes = strlen(host);
    if (host[0] == '[') {
        char address[INET6_ADDRSTRLEN];
        struct in6_addr binary;
        if (bytes < 3 || bytes - 2 >= sizeof address || host[bytes - 1] != ']') {
            return bad_ipv6;
        }
        memcpy(address, host + 1, bytes - 2);
        address[bytes - 2] = '\0';
        if (inet_pton(AF_INET6, address, &binary) != 1) {
            return bad_ipv6;
        }
        parts->literal = true;
        parts->ipv6 = !address_print_ipv6(&binary, parts->name);
        return NULL;
    }
    if (bytes > 0 && host[bytes - 1] == '.') {
        bytes--;
    }
    if (bytes > NAME_MAX_BYTES) {
        return bad_length;
    }
    for (size_t i = 0; i < bytes; i++) {
        parts->name[i] = (char)tolower((unsigned char)host[i]);
    }
    parts->name[bytes] = '\0';
    /* inet_aton() is what the resolver would read the name with, in every one of its forms. */
    struct in_addr binary;
    if (inet_aton(parts->name, &binary) == 1) {
        parts->literal = true;
        (void)inet_ntop(AF_INET, &binary, parts->name, sizeof parts->name);
        return NULL;
    }
    return check_name(parts->name);
}

/* Lets libcurl parse TEXT, which check_text() found good. False: *ret_detail says why. */
static bool parse_text(const char *text, struct parts *parts, const char **ret_detail)
{
    const char *detail = NULL;
    char *host = NULL;
    char *port = NULL;
    CURLU *url = curl_url();
    CURLUcode code = CURLUE_OUT_OF_MEMORY;
    if (url != NULL) {
        code = curl_url_set(url, CURLUPART_URL, text, CURLU_PATH_AS_IS | CURLU_DISALLOW_USER);
    }
    if (code == CURLUE_OK) {
        code = curl_url_get(url, CURLUPART_HOST, &host, 0);
    }
    if (code == CURLUE_OK) {
        code = curl_url_get(url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT);
    }
    bool good = false;
    if (code == CURLUE_OK) {
        detail = make_name(host, parts);
        long number = strtol(port, NULL, 10);
        if (detail == NULL && (number < 1 || number > UINT16_MAX)) {
            detail = bad_port;
        }
        good = detail == NULL;
        parts->port = (uint16_t)number;
    } else if (code != CURLUE_OUT_OF_MEMORY) {
        detail = code == CURLUE_BAD_PORT_NUMBER ? bad_port
                 : strstr(text, "//[") != NULL  ? bad_ipv6
                                                : bad_byte;
    }
    curl_free(port);
    curl_free(host);
    curl_url_cleanup(url);
    if (!good) {
        *ret_detail = detail;
    }
    return good;
}

/* Copies STRING behind what *PLACE already holds and moves *PLACE past it. */
static const char *append(char **place, const char *string)
{
    char *start = *place;
    size_t size = strlen(string) + 1;
    memcpy(start, string, size);
    *place += size;
    return start;
}

/* Allocates the origin of PARTS with all its strings, held once. NULL when out of memory. */
static struct kept *build(const char *text, size_t bytes, const struct parts *parts)
{
    char host[HOST_SIZE];
    char url[URL_SIZE];
    char port[8];
    const char *open = parts->ipv6 ? "[" : "";
    const char *close = parts->ipv6 ? "]" : "";
    (void)snprintf(port, sizeof port, ":%u", (unsigned)parts->port);
    bool web = parts->port == 80 || parts->port == 443;
    bool usual = parts->port == (parts->tls ? 443 : 80);
    (void)snprintf(host, sizeof host, "%s%s%s%s", open, parts->name, close, web ? "" : port);
    (void)snprintf(url, sizeof url, "%s://%s%s%s%s/", parts->tls ? "https" : "http", open,
                   parts->name, close, usual ? "" : port);
    struct kept *kept =
        malloc(sizeof *kept + bytes + strlen(parts->name) + strlen(host) + strlen(url) + 4);
    if (kept == NULL) {
        return NULL;
    }
    memcpy(kept->text, text, bytes);
    kept->text[bytes] = '\0';
    kept->text_bytes = bytes;
    char *place = kept->text + bytes + 1;
    kept->origin = (struct origin){
        .tls = parts->tls,
        .literal = parts->literal,
        .ipv6 = parts->ipv6,
        .port = parts->port,
        .authority = kept->text + measure_scheme(text, bytes),
        .references = 1,
    };
    kept->origin.name = append(&place, parts->name);
    kept->origin.host = append(&place, host);
    kept->origin.url = append(&place, url);
    return kept;
}

struct origin *origin_parse(struct origin_cache *cache, const char *text, size_t bytes,
                            const char **ret_detail)
{
    assert(cache != NULL && text != NULL && ret_detail != NULL);
    uint64_t hash = 0;
    if (bytes <= TEXT_MAX_BYTES) {
        hash = hash_text(text, bytes);
        struct origin *known = recall(cache, text, bytes, hash);
        if (known != NULL) {
            return known;
        }
    }
    const char *detail = check_text(text, bytes);
    if (detail != NULL) {
        *ret_detail = detail;
        return NULL;
    }
    assert(bytes <= TEXT_MAX_BYTES);
    char copy[TEXT_MAX_BYTES + 1];
    memcpy(copy, text, bytes);
    copy[bytes] = '\0';
    struct parts parts = {.tls = measure_scheme(text, bytes) == 8};
    if (!parse_text(copy, &parts, ret_detail)) {
        return NULL;
    }
    struct kept *kept = build(text, bytes, &parts);
    if (kept == NULL) {
        *ret_detail = NULL;
        return NULL;
    }
    remember(cache, kept, hash);
    return &kept->origin;
}

/* Origins: every spelling of a host comes to one canonical form, or is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/origin.h"

#include <stdio.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct origin *parse(struct origin_cache *cache, const char *text)
{
    const char *detail = "untouched";
    struct origin *origin = origin_parse(cache, text, strlen(text), &detail);
    if (origin != NULL) {
        assert_string_equal(detail, "untouched");
    } else {
        assert_non_null(detail);
        assert_string_not_equal(detail, "untouched");
    }
    return origin;
}

struct good {
    const char *text;
    const char *name;
    const char *host;
    const char *url;
};

static const struct good good[] = {
    {"http://example.com", "example.com", "example.com", "http://example.com/"},
    {"https://example.com", "example.com", "example.com", "https://example.com/"},
    {"HTTP://EXAMPLE.Com", "example.com", "example.com", "http://example.com/"},
    {"hTTpS://a", "a", "a", "https://a/"},
    {"http://example.com.", "example.com", "example.com", "http://example.com/"},
    {"http://example.com.:80", "example.com", "example.com", "http://example.com/"},
    {"http://example.com:80", "example.com", "example.com", "http://example.com/"},
    {"http://example.com:080", "example.com", "example.com", "http://example.com/"},
    {"http://example.com:443", "example.com", "example.com", "http://example.com:443/"},
    {"https://example.com:443", "example.com", "example.com", "https://example.com/"},
    {"https://example.com:80", "example.com", "example.com", "https://example.com:80/"},
    {"https://example.com:8443", "example.com", "example.com:8443", "https://example.com:8443/"},
    {"http://a:1", "a", "a:1", "http://a:1/"},
    {"http://a:65535", "a", "a:65535", "http://a:65535/"},
    {"http://a_b.-c.xn--d", "a_b.-c.xn--d", "a_b.-c.xn--d", "http://a_b.-c.xn--d/"},
    {"http://1e3", "1e3", "1e3", "http://1e3/"},
    {"http://127.0.0.1e", "127.0.0.1e", "127.0.0.1e", "http://127.0.0.1e/"},
    {"http://0xg", "0xg", "0xg", "http://0xg/"},
    {"http://-1.-2", "-1.-2", "-1.-2", "http://-1.-2/"},
    {"http://1.2.3.4.com", "1.2.3.4.com", "1.2.3.4.com", "http://1.2.3.4.com/"},
};

static void test_names(void **state)
{
    (void)state;
    struct origin_cache *cache = origin_cache_create(8);
    assert_non_null(cache);
    for (size_t i = 0; i < COUNT(good); i++) {
        struct origin *origin = parse(cache, good[i].text);
        assert_non_null(origin);
        assert_string_equal(origin->name, good[i].name);
        assert_string_equal(origin->host, good[i].host);
        assert_string_equal(origin->url, good[i].url);
        assert_string_equal(origin->authority, strstr(good[i].text, "://") + 3);
        assert_int_equal(origin->tls, strncmp(good[i].url, "https", 5) == 0);
        assert_false(origin->literal);
        assert_false(origin->ipv6);
        origin_release(origin);
    }
    origin_cache_destroy(cache);
}

/* All of these are one address, however they are written. */
static void test_ipv4_spellings(void **state)
{
    static const char *const spellings[] = {
        "127.0.0.1",  "127.1",        "127.0.1",         "2130706433",      "0x7f.1",
        "0X7F.1",     "0x7f000001",   "017700000001",    "0177.0.0.1",      "127.0.0.0x1",
        "127.0.0.1.", "127.1.",       "2130706433.",     "0x7f000001.",     "0x7F.0X0.0.1.",
        "127.0.0.01", "127.00.00.01", "0x0000000007f.1", "0177.0x0.0.0001",
    };
    (void)state;
    struct origin_cache *cache = origin_cache_create(8);
    for (size_t i = 0; i < COUNT(spellings); i++) {
        char text[64];
        (void)snprintf(text, sizeof text, "http://%s:9000", spellings[i]);
        struct origin *origin = parse(cache, text);
        assert_non_null(origin);
        assert_string_equal(origin->name, "127.0.0.1");
        assert_string_equal(origin->host, "127.0.0.1:9000");
        assert_string_equal(origin->url, "http://127.0.0.1:9000/");
        assert_true(origin->literal);
        assert_false(origin->ipv6);
        assert_int_equal(origin->port, 9000);
        origin_release(origin);
    }
    origin_cache_destroy(cache);
}

static void test_ipv6_spellings(void **state)
{
    static const struct good addresses[] = {
        {"http://[::1]", "::1", "[::1]", "http://[::1]/"},
        {"http://[0:0:0:0:0:0:0:1]", "::1", "[::1]", "http://[::1]/"},
        {"http://[::0001]:80", "::1", "[::1]", "http://[::1]/"},
        {"https://[::1]:8443", "::1", "[::1]:8443", "https://[::1]:8443/"},
        /* An IPv4 address in other words: one budget. */
        {"http://[::ffff:127.0.0.1]", "127.0.0.1", "127.0.0.1", "http://127.0.0.1/"},
        {"http://[::FFFF:7F00:1]:9000", "127.0.0.1", "127.0.0.1:9000", "http://127.0.0.1:9000/"},
        {"http://[::127.0.0.1]", "::127.0.0.1", "[::127.0.0.1]", "http://[::127.0.0.1]/"},
        {"http://[FE80::A]", "fe80::a", "[fe80::a]", "http://[fe80::a]/"},
        {"http://[2001:DB8:0:0:1:0:0:1]", "2001:db8::1:0:0:1", "[2001:db8::1:0:0:1]",
         "http://[2001:db8::1:0:0:1]/"},
        {"http://[::]", "::", "[::]", "http://[::]/"},
    };
    (void)state;
    struct origin_cache *cache = origin_cache_create(8);
    for (size_t i = 0; i < COUNT(addresses); i++) {
        struct origin *origin = parse(cache, addresses[i].text);
        assert_non_null(origin);
        assert_string_equal(origin->name, addresses[i].name);
        assert_string_equal(origin->host, addresses[i].host);
        assert_string_equal(origin->url, addresses[i].url);
        assert_true(origin->literal);
        assert_int_equal(origin->ipv6, strchr(origin->name, ':') != NULL);
        origin_release(origin);
    }
    origin_cache_destroy(cache);
}

/* What is refused, and a part of the reason given. */
static void test_refused(void **state)
{
    static const struct {
        const char *text;
        const char *reason;
    } bad[] = {
        {"", "http:// or https://"},
        {"example.com", "http:// or https://"},
        {"http", "http:// or https://"},
        {"http:", "http:// or https://"},
        {"http:/h", "http:// or https://"},
        {"http:h", "http:// or https://"},
        {"http:\\\\h", "http:// or https://"},
        {"ftp://h", "http:// or https://"},
        {"file://h", "http:// or https://"},
        {"httpx://h", "http:// or https://"},
        {" http://h", "http:// or https://"},
        {"http://", "no host"},
        {"https://", "no host"},
        {"http:///h", "no host"},
        {"http:////h", "no host"},
        {"http://:80", "no host"},
        {"http://h:", "port"},
        {"http://h:0", "port"},
        {"http://h:00", "port"},
        {"http://h:65536", "port"},
        {"http://h:99999999999", "port"},
        {"http://h:-1", "port"},
        {"http://h:8o", "port"},
        {"http://h:80:80", "port"},
        {"http://[::1]:", "port"},
        {"http://[::1]:0", "port"},
        {"http://127.0.0.1:", "port"},
        {"http://h:+80", "character"},
        {"http://h: 80", "character"},
        {"http://u@h", "user information"},
        {"http://u:p@h", "user information"},
        {"http://@h", "user information"},
        {"http://u%40@h", "user information"},
        {"http://h@", "user information"},
        {"http://h/", "behind"},
        {"http://h/a", "behind"},
        {"http://h?a", "behind"},
        {"http://h#a", "behind"},
        {"http://h\\a", "character"},
        {"http://h ", "character"},
        {"http://a b", "character"},
        {"http://a\tb", "character"},
        {"http://a\nb", "character"},
        {"http://a\x7f", "character"},
        {"http://a*b", "character"},
        {"http://a~b", "character"},
        {"http://a|b", "character"},
        {"http://a,b", "character"},
        {"http://a;b", "character"},
        {"http://a[b", "character"},
        {"http://a%41b", "percent"},
        {"http://127.0.0.1%00", "percent"},
        {"http://[fe80::1%25eth0]", "percent"},
        {"http://[fe80::1%eth0]", "percent"},
        {"http://b\xc3\xbc"
         "cher.example",
         "xn--"},
        {"http://127\xe3\x80\x82"
         "0.0.1",
         "xn--"},
        {"http://.", "label"},
        {"http://..", "label"},
        {"http://.a", "label"},
        {"http://a..b", "label"},
        {"http://a..", "label"},
        {"http://127.0.0.1..", "label"},
        {"http://1..2", "label"},
        {"http://256.1.1.1", "number"},
        {"http://1.2.3.256", "number"},
        {"http://1.2.3.256.", "number"},
        {"http://1.2.3.4.5", "number"},
        {"http://1.2.65536", "number"},
        {"http://08.1.1.1", "number"},
        {"http://4294967296", "number"},
        {"http://0x100000000", "number"},
        {"http://99999999999999999999", "number"},
        {"http://0x", "number"},
        {"http://example.0x7F", "number"},
        {"http://example.1", "number"},
        {"http://[", "IPv6"},
        {"http://[]", "IPv6"},
        {"http://[::1", "IPv6"},
        {"http://[1.2.3.4]", "IPv6"},
        {"http://[::ffff:127.1]", "IPv6"},
        {"http://[v1.a]", "IPv6"},
        {"http://[1:2]", "IPv6"},
    };
    (void)state;
    struct origin_cache *cache = origin_cache_create(8);
    for (size_t i = 0; i < COUNT(bad); i++) {
        const char *detail = NULL;
        struct origin *origin = origin_parse(cache, bad[i].text, strlen(bad[i].text), &detail);
        if (origin != NULL || detail == NULL || strstr(detail, bad[i].reason) == NULL) {
            fail_msg("%s: expected to be refused for its %s, found: %s", bad[i].text, bad[i].reason,
                     origin != NULL ? origin->url : detail);
        }
    }
    /* Neither a bare IPv6 address nor text behind one is anything. */
    assert_null(parse(cache, "http://::1"));
    assert_null(parse(cache, "http://[::1]x"));
    assert_null(parse(cache, "http://[::1].com"));
    assert_null(parse(cache, "http://a]"));
    const char *detail = NULL;
    assert_null(origin_parse(cache, "http://h\0.example", 17, &detail));
    assert_non_null(strstr(detail, "character"));
    origin_cache_destroy(cache);
}

/* Writes "http://" and a name of labels of LABEL bytes, BYTES long in all, into TEXT. */
static void write_name(char *text, size_t label_bytes, size_t bytes)
{
    memcpy(text, "http://", 7);
    for (size_t i = 0; i < bytes; i++) {
        text[7 + i] = i % (label_bytes + 1) == label_bytes ? '.' : 'a';
    }
    text[7 + bytes] = '\0';
}

static void test_lengths(void **state)
{
    char text[1024];
    (void)state;
    struct origin_cache *cache = origin_cache_create(8);
    write_name(text, 63, 253);
    struct origin *origin = parse(cache, text);
    assert_non_null(origin);
    assert_string_equal(origin->name, text + 7);
    origin_release(origin);
    strncat(text, ".:65535", 8);
    origin = parse(cache, text);
    assert_non_null(origin);
    assert_int_equal(strlen(origin->host), 253 + 6);
    assert_int_equal(strlen(origin->url), 7 + 253 + 6 + 1);
    origin_release(origin);
    write_name(text, 63, 254);
    assert_null(parse(cache, text));
    write_name(text, 63, 900);
    assert_null(parse(cache, text));
    write_name(text, 64, 100);
    assert_null(parse(cache, text));
    /* As long as can be in all: an IPv4 address in a number with many zeros before it. */
    memset(text, '0', sizeof text);
    memcpy(text, "http://", 7);
    memcpy(text + 7 + 252, "1", 2);
    origin = parse(cache, text);
    assert_non_null(origin);
    assert_string_equal(origin->name, "0.0.0.1");
    origin_release(origin);
    origin_cache_destroy(cache);
}

/* A text that is remembered gives the same origin, and only the very same text does. */
static void test_cache_remembers(void **state)
{
    (void)state;
    struct origin_cache *cache = origin_cache_create(8);
    struct origin *first = parse(cache, "http://example.com");
    struct origin *again = parse(cache, "http://example.com");
    struct origin *upper = parse(cache, "http://Example.com");
    assert_ptr_equal(first, again);
    assert_ptr_not_equal(first, upper);
    assert_string_equal(upper->authority, "Example.com");
    assert_ptr_equal(origin_hold(first), first);
    assert_int_equal(first->references, 4); /* three of ours and the cache's */
    origin_cache_destroy(cache);
    assert_int_equal(first->references, 3);
    assert_string_equal(first->host, "example.com");
    origin_release(first);
    origin_release(first);
    origin_release(again);
    origin_release(upper);
    origin_release(NULL);
    origin_cache_destroy(NULL);
}

/* Parses TEXT, gives it back, and says whether the cache had it. */
static bool visit(struct origin_cache *cache, const char *text)
{
    struct origin *origin = parse(cache, text);
    assert_non_null(origin);
    struct origin *again = parse(cache, text);
    bool kept = origin == again;
    origin_release(again);
    origin_release(origin);
    return kept;
}

static void test_cache_is_bounded(void **state)
{
    (void)state;
    for (size_t entries = 0; entries < 40; entries++) {
        struct origin_cache *cache = origin_cache_create(entries);
        assert_non_null(cache);
        struct origin *held[100];
        size_t remembered = 0;
        for (size_t i = 0; i < COUNT(held); i++) {
            char text[32];
            (void)snprintf(text, sizeof text, "http://h%zu", i);
            held[i] = parse(cache, text);
            assert_non_null(held[i]);
        }
        for (size_t i = 0; i < COUNT(held); i++) {
            remembered += held[i]->references - 1;
            origin_release(held[i]);
        }
        assert_true(remembered <= entries);
        assert_int_equal(visit(cache, "http://last"), entries > 0);
        origin_cache_destroy(cache);
    }
    assert_null(origin_cache_create(SIZE_MAX));
}

/* With one set, the text that was not asked for longest makes room. */
static void test_cache_forgets_least_recently_used(void **state)
{
    (void)state;
    struct origin_cache *cache = origin_cache_create(4);
    struct origin *held[4];
    static const char *const texts[] = {"http://a", "http://b", "http://c", "http://d"};
    for (size_t i = 0; i < 4; i++) {
        held[i] = parse(cache, texts[i]);
    }
    assert_true(visit(cache, "http://a"));
    assert_true(visit(cache, "http://e"));
    assert_int_equal(held[0]->references, 2);
    assert_int_equal(held[1]->references, 1);
    assert_int_equal(held[2]->references, 2);
    assert_int_equal(held[3]->references, 2);
    for (size_t i = 0; i < 4; i++) {
        origin_release(held[i]);
    }
    origin_cache_destroy(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_ipv4_spellings),
        cmocka_unit_test(test_ipv6_spellings),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_cache_remembers),
        cmocka_unit_test(test_cache_is_bounded),
        cmocka_unit_test(test_cache_forgets_least_recently_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

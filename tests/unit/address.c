/*
 * Addresses: the class of both ends of every special range and of what lies beside it, in all the
 * forms in which an IPv6 address carries an IPv4 one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/address.h"

#include <netinet/in.h>
#include <string.h>

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

struct known {
    const char *text;
    enum address_class class;
};

static struct address parsed(const char *text)
{
    struct address address;
    if (!address_parse(text, &address)) {
        fail_msg("%s is no address", text);
    }
    return address;
}

static void check_classes(const struct known *known, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct address address = parsed(known[i].text);
        if (address_classify(&address) != known[i].class) {
            fail_msg("%s: expected class %d, found %d", known[i].text, (int)known[i].class,
                     (int)address_classify(&address));
        }
    }
}

static void test_ipv4(void **state)
{
    (void)state;
    static const struct known known[] = {
        {"0.0.0.0", ADDRESS_THIS_NETWORK},
        {"0.255.255.255", ADDRESS_THIS_NETWORK},
        {"1.0.0.0", ADDRESS_PUBLIC},
        {"9.255.255.255", ADDRESS_PUBLIC},
        {"10.0.0.0", ADDRESS_PRIVATE},
        {"10.255.255.255", ADDRESS_PRIVATE},
        {"11.0.0.0", ADDRESS_PUBLIC},
        {"100.63.255.255", ADDRESS_PUBLIC},
        {"100.64.0.0", ADDRESS_SHARED},
        {"100.100.100.199", ADDRESS_SHARED},
        {"100.100.100.200", ADDRESS_METADATA},
        {"100.100.100.201", ADDRESS_SHARED},
        {"100.127.255.255", ADDRESS_SHARED},
        {"100.128.0.0", ADDRESS_PUBLIC},
        {"126.255.255.255", ADDRESS_PUBLIC},
        {"127.0.0.0", ADDRESS_LOOPBACK},
        {"127.0.0.1", ADDRESS_LOOPBACK},
        {"127.255.255.255", ADDRESS_LOOPBACK},
        {"128.0.0.0", ADDRESS_PUBLIC},
        {"168.63.129.15", ADDRESS_PUBLIC},
        {"168.63.129.16", ADDRESS_METADATA},
        {"168.63.129.17", ADDRESS_PUBLIC},
        {"169.253.255.255", ADDRESS_PUBLIC},
        {"169.254.0.0", ADDRESS_LINK_LOCAL},
        {"169.254.0.23", ADDRESS_METADATA},
        {"169.254.42.42", ADDRESS_METADATA},
        {"169.254.169.253", ADDRESS_LINK_LOCAL},
        {"169.254.169.254", ADDRESS_METADATA},
        {"169.254.169.255", ADDRESS_LINK_LOCAL},
        {"169.254.170.2", ADDRESS_METADATA},
        {"169.254.170.23", ADDRESS_METADATA},
        {"169.254.255.255", ADDRESS_LINK_LOCAL},
        {"169.255.0.0", ADDRESS_PUBLIC},
        {"172.15.255.255", ADDRESS_PUBLIC},
        {"172.16.0.0", ADDRESS_PRIVATE},
        {"172.31.255.255", ADDRESS_PRIVATE},
        {"172.32.0.0", ADDRESS_PUBLIC},
        {"191.255.255.255", ADDRESS_PUBLIC},
        {"192.0.0.0", ADDRESS_RESERVED},
        {"192.0.0.192", ADDRESS_METADATA},
        {"192.0.0.255", ADDRESS_RESERVED},
        {"192.0.1.0", ADDRESS_PUBLIC},
        {"192.0.1.255", ADDRESS_PUBLIC},
        {"192.0.2.0", ADDRESS_DOCUMENTATION},
        {"192.0.2.255", ADDRESS_DOCUMENTATION},
        {"192.0.3.0", ADDRESS_PUBLIC},
        {"192.88.98.255", ADDRESS_PUBLIC},
        {"192.88.99.0", ADDRESS_6TO4},
        {"192.88.99.255", ADDRESS_6TO4},
        {"192.88.100.0", ADDRESS_PUBLIC},
        {"192.167.255.255", ADDRESS_PUBLIC},
        {"192.168.0.0", ADDRESS_PRIVATE},
        {"192.168.255.255", ADDRESS_PRIVATE},
        {"192.169.0.0", ADDRESS_PUBLIC},
        {"198.17.255.255", ADDRESS_PUBLIC},
        {"198.18.0.0", ADDRESS_BENCHMARKING},
        {"198.19.255.255", ADDRESS_BENCHMARKING},
        {"198.20.0.0", ADDRESS_PUBLIC},
        {"198.51.99.255", ADDRESS_PUBLIC},
        {"198.51.100.0", ADDRESS_DOCUMENTATION},
        {"198.51.100.255", ADDRESS_DOCUMENTATION},
        {"198.51.101.0", ADDRESS_PUBLIC},
        {"203.0.112.255", ADDRESS_PUBLIC},
        {"203.0.113.0", ADDRESS_DOCUMENTATION},
        {"203.0.113.255", ADDRESS_DOCUMENTATION},
        {"203.0.114.0", ADDRESS_PUBLIC},
        {"223.255.255.255", ADDRESS_PUBLIC},
        {"224.0.0.0", ADDRESS_MULTICAST},
        {"239.255.255.255", ADDRESS_MULTICAST},
        {"240.0.0.0", ADDRESS_RESERVED},
        {"255.255.255.255", ADDRESS_RESERVED},
    };
    check_classes(known, COUNT_OF(known));
}

static void test_ipv6(void **state)
{
    (void)state;
    static const struct known known[] = {
        {"::", ADDRESS_THIS_NETWORK},
        {"::1", ADDRESS_LOOPBACK},
        {"::2", ADDRESS_COMPATIBLE},
        {"::8.8.8.8", ADDRESS_COMPATIBLE},
        {"::ffff:ffff", ADDRESS_COMPATIBLE},
        {"::1:0:0", ADDRESS_RESERVED},
        {"::fffe:ffff:ffff", ADDRESS_RESERVED},
        {"::ffff:0:0:0", ADDRESS_COMPATIBLE},
        {"::ffff:0:8.8.8.8", ADDRESS_COMPATIBLE},
        {"64:ff9a:ffff:ffff:ffff:ffff:ffff:ffff", ADDRESS_RESERVED},
        {"64:ff9b::", ADDRESS_NAT64},
        {"64:ff9b::ffff:ffff", ADDRESS_NAT64},
        {"64:ff9b::1:0:0", ADDRESS_RESERVED},
        {"64:ff9b:0:ffff:ffff:ffff:ffff:ffff", ADDRESS_RESERVED},
        {"64:ff9b:1::", ADDRESS_NAT64},
        {"64:ff9b:1:ffff:ffff:ffff:ffff:ffff", ADDRESS_NAT64},
        {"64:ff9b:2::", ADDRESS_RESERVED},
        {"ff:ffff::", ADDRESS_RESERVED},
        {"100::", ADDRESS_DISCARD},
        {"100::ffff:ffff:ffff:ffff", ADDRESS_DISCARD},
        {"100:0:0:1::", ADDRESS_DISCARD},
        {"100:0:0:1:ffff:ffff:ffff:ffff", ADDRESS_DISCARD},
        {"100:0:0:2::", ADDRESS_RESERVED},
        {"1fff:ffff::", ADDRESS_RESERVED},
        {"2000::", ADDRESS_PUBLIC},
        {"2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ADDRESS_PUBLIC},
        {"2001::", ADDRESS_TEREDO},
        {"2001:0:ffff:ffff:ffff:ffff:ffff:ffff", ADDRESS_TEREDO},
        {"2001:1::1", ADDRESS_RESERVED},
        {"2001:2::", ADDRESS_BENCHMARKING},
        {"2001:2:0:ffff:ffff:ffff:ffff:ffff", ADDRESS_BENCHMARKING},
        {"2001:2:1::", ADDRESS_RESERVED},
        {"2001:10::", ADDRESS_RESERVED},
        {"2001:20::", ADDRESS_RESERVED},
        {"2001:1ff:ffff::", ADDRESS_RESERVED},
        {"2001:200::", ADDRESS_PUBLIC},
        {"2001:db7:ffff::", ADDRESS_PUBLIC},
        {"2001:db8::", ADDRESS_DOCUMENTATION},
        {"2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", ADDRESS_DOCUMENTATION},
        {"2001:db9::", ADDRESS_PUBLIC},
        {"2001:4860:4860::8888", ADDRESS_PUBLIC},
        {"2002::", ADDRESS_6TO4},
        {"2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ADDRESS_6TO4},
        {"2003::", ADDRESS_PUBLIC},
        {"3ffe:ffff::", ADDRESS_PUBLIC},
        {"3fff::", ADDRESS_DOCUMENTATION},
        {"3fff:fff:ffff::", ADDRESS_DOCUMENTATION},
        {"3fff:1000::", ADDRESS_PUBLIC},
        {"3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ADDRESS_PUBLIC},
        {"4000::", ADDRESS_RESERVED},
        {"5f00::", ADDRESS_RESERVED},
        {"5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ADDRESS_RESERVED},
        {"fbff:ffff::", ADDRESS_RESERVED},
        {"fc00::", ADDRESS_UNIQUE_LOCAL},
        {"fd00:c1::a9fe:a9fe", ADDRESS_METADATA},
        {"fd00:42::42", ADDRESS_METADATA},
        {"fd00:ec2::22", ADDRESS_UNIQUE_LOCAL},
        {"fd00:ec2::23", ADDRESS_METADATA},
        {"fd00:ec2::253", ADDRESS_UNIQUE_LOCAL},
        {"fd00:ec2::254", ADDRESS_METADATA},
        {"fd20:ce::254", ADDRESS_METADATA},
        {"fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ADDRESS_UNIQUE_LOCAL},
        {"fe00::", ADDRESS_RESERVED},
        {"fe7f:ffff::", ADDRESS_RESERVED},
        {"fe80::", ADDRESS_LINK_LOCAL},
        {"febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ADDRESS_LINK_LOCAL},
        {"fec0::", ADDRESS_SITE_LOCAL},
        {"feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ADDRESS_SITE_LOCAL},
        {"ff00::", ADDRESS_MULTICAST},
        {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ADDRESS_MULTICAST},
    };
    check_classes(known, COUNT_OF(known));
}

/* An IPv4-mapped address is the IPv4 address, however it comes. */
static void test_mapped(void **state)
{
    (void)state;
    static const struct known known[] = {
        {"::ffff:127.0.0.1", ADDRESS_LOOPBACK},       {"::ffff:7f00:1", ADDRESS_LOOPBACK},
        {"::ffff:10.0.0.1", ADDRESS_PRIVATE},         {"::ffff:169.254.169.254", ADDRESS_METADATA},
        {"::ffff:0.0.0.0", ADDRESS_THIS_NETWORK},     {"::ffff:8.8.8.8", ADDRESS_PUBLIC},
        {"::ffff:255.255.255.255", ADDRESS_RESERVED},
    };
    check_classes(known, COUNT_OF(known));

    struct address plain = parsed("127.0.0.1");
    struct address mapped = parsed("::ffff:127.0.0.1");
    assert_false(mapped.ipv6);
    assert_true(address_equals(&plain, &mapped));

    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = 1};
    memcpy(v6.sin6_addr.s6_addr + 10, "\xff\xff\x7f\0\0\1", 6);
    struct address taken;
    assert_true(address_from_socket((const struct sockaddr *)&v6, &taken));
    assert_true(address_equals(&plain, &taken));
}

static void test_sockets(void **state)
{
    (void)state;
    struct address address;
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x0a000001)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_storage other = {.ss_family = AF_UNIX};

    assert_true(address_from_socket((const struct sockaddr *)&v4, &address));
    assert_int_equal(address_classify(&address), ADDRESS_PRIVATE);
    assert_true(address_from_socket((const struct sockaddr *)&v6, &address));
    assert_int_equal(address_classify(&address), ADDRESS_LOOPBACK);
    assert_false(address_from_socket((const struct sockaddr *)&other, &address));
}

static void test_carried(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *inner; /* NULL: none */
    } known[] = {
        {"2002:7f00:1::", "127.0.0.1"},
        {"2002:a9fe:a9fe:1::1", "169.254.169.254"},
        {"2001:0:4136:e378:8000:63bf:3fff:fdd2", "192.0.2.45"}, /* RFC 4380 complements it */
        {"2001::f5ff:fffe", "10.0.0.1"},
        {"64:ff9b::10.0.0.1", "10.0.0.1"},
        {"64:ff9b:1::127.0.0.1", "127.0.0.1"},
        {"64:ff9b:1:a00:0:100::", NULL}, /* elsewhere: it cannot be told where */
        {"::127.0.0.1", "127.0.0.1"},
        {"::ffff:0:127.0.0.1", "127.0.0.1"},
        {"::", NULL},
        {"::1", NULL},
        {"127.0.0.1", NULL},
        {"::ffff:127.0.0.1", NULL}, /* is itself IPv4 */
        {"192.88.99.1", NULL},
        {"2003:7f00:1::", NULL},
        {"fd00::7f00:1", NULL},
    };
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        struct address inner;
        struct address address = parsed(known[i].text);
        bool carried = address_carried(&address, &inner);
        if (carried != (known[i].inner != NULL)) {
            fail_msg("%s", known[i].text);
        }
        if (carried) {
            struct address expected = parsed(known[i].inner);
            if (!address_equals(&inner, &expected)) {
                fail_msg("%s", known[i].text);
            }
        }
    }
}

static void test_parse(void **state)
{
    (void)state;
    struct address address;
    static const char *const bad[] = {"",           "localhost", "127.1",  "0x7f.0.0.1",
                                      "2130706433", "[::1]",     "::1%lo", "1.2.3.256",
                                      "1.2.3.4/8",  " 1.2.3.4",  ":::",    "1.2.3.4."};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        if (address_parse(bad[i], &address)) {
            fail_msg("%s", bad[i]);
        }
    }
    address = parsed("::1");
    assert_int_equal(address_bits(&address), 128);
    address = parsed("1.2.3.4");
    assert_int_equal(address_bits(&address), 32);
}

static void test_ranges(void **state)
{
    (void)state;
    static const struct {
        const char *address;
        const char *first;
        unsigned bits;
        bool in;
    } known[] = {
        {"10.1.2.3", "10.1.0.0", 16, true},
        {"10.2.0.0", "10.1.0.0", 16, false},
        {"10.1.2.3", "0.0.0.0", 0, true},
        {"::1", "0.0.0.0", 0, false},
        {"10.1.2.3", "::", 0, false},
        {"10.1.2.3", "10.1.2.3", 32, true},
        {"10.1.2.2", "10.1.2.3", 32, false},
        {"10.1.2.127", "10.1.2.0", 25, true},
        {"10.1.2.128", "10.1.2.0", 25, false},
        {"fd00::1", "fc00::", 7, true},
        {"fe00::1", "fc00::", 7, false},
        {"::1", "::", 127, true},
        {"::2", "::", 127, false},
        {"::1", "::1", 128, true},
    };
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        struct address address = parsed(known[i].address);
        struct address first = parsed(known[i].first);
        if (address_in_range(&address, &first, known[i].bits) != known[i].in) {
            fail_msg("%s in %s/%u", known[i].address, known[i].first, known[i].bits);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ipv4),    cmocka_unit_test(test_ipv6),
        cmocka_unit_test(test_mapped),  cmocka_unit_test(test_sockets),
        cmocka_unit_test(test_carried), cmocka_unit_test(test_parse),
        cmocka_unit_test(test_ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

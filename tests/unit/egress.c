/*
 * Egress rules: policies are made from entries as a file has them, and asked about names and
 * addresses.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/config_internal.h"
#include "server/egress.h"
#include "server/local.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

/* Entries with spaces between them; NULL: none. */
struct rules_text {
    const char *allow;
    const char *deny;
    const char *named;
    const char *ports; /* NULL: as by default, "any", or ports */
    bool open_private;
    const char *own; /* addresses with ports: our own listeners */
};

static void fill(struct config_egress_list *list, const char *entries)
{
    for (const char *at = entries; at != NULL && *at != '\0';) {
        size_t bytes = strcspn(at, " ");
        if (config_egress_add(list, at, bytes) != CONFIG_ADDED) {
            fail_msg("%s", at);
        }
        at += bytes + strspn(at + bytes, " ");
    }
}

static struct sockaddr_storage place(const char *text, uint16_t port)
{
    struct sockaddr_storage storage = {0};
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1) {
        memcpy(&storage, &v4, sizeof v4);
    } else if (inet_pton(AF_INET6, text, &v6.sin6_addr) == 1) {
        memcpy(&storage, &v6, sizeof v6);
    } else {
        fail_msg("%s is no address", text);
    }
    return storage;
}

static struct egress *make(const struct rules_text *text)
{
    struct config_egress config = {.open_private = text->open_private};
    struct sockaddr_storage own[4];
    uint16_t ports[8];
    size_t own_count = 0;
    fill(&config.allow, text->allow);
    fill(&config.deny, text->deny);
    fill(&config.named, text->named);
    if (text->ports != NULL && strcmp(text->ports, "any") == 0) {
        config.ports_rule = CONFIG_PORTS_ANY;
    } else if (text->ports != NULL) {
        config.ports_rule = CONFIG_PORTS_LISTED;
        config.ports = ports;
        char *rest = NULL;
        for (const char *at = text->ports; *at != '\0'; at = rest + strspn(rest, " ")) {
            ports[config.port_count++] = (uint16_t)strtoul(at, &rest, 10);
        }
    }
    for (const char *at = text->own; at != NULL && *at != '\0';) {
        char address[64];
        unsigned port;
        int bytes = 0;
        assert_int_equal(sscanf(at, "%63s %u%n", address, &port, &bytes), 2);
        own[own_count++] = place(address, (uint16_t)port);
        at += bytes + (int)strspn(at + bytes, " ");
    }
    struct egress *egress = egress_create(&config, own, own_count);
    assert_non_null(egress);
    config.ports = NULL;
    config_egress_finish(&config);
    return egress;
}

struct question {
    const char *name;
    uint16_t port;
    const char *address; /* NULL: asked about the name only */
    enum problem problem;
    unsigned grants;
};

static void ask(const struct egress *egress, const struct question *questions, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct question *question = &questions[i];
        struct egress_target target = {question->name, question->port, question->grants};
        const char *detail = NULL;
        enum problem problem = PROBLEM_NONE;
        if (question->address == NULL) {
            problem = egress_check_name(egress, &target, &detail);
        } else {
            struct sockaddr_storage address = place(question->address, 1);
            problem =
                egress_check_address(egress, &target, (const struct sockaddr *)&address, &detail);
        }
        if (problem != question->problem) {
            fail_msg("%s:%u at %s: expected %d, found %d: %s", question->name, question->port,
                     question->address != NULL ? question->address : "-", (int)question->problem,
                     (int)problem, detail != NULL ? detail : "-");
        }
        assert_true((problem == PROBLEM_NONE) == (detail == NULL));
    }
}

static void check(const struct rules_text *text, const struct question *questions, size_t count)
{
    struct egress *egress = make(text);
    ask(egress, questions, count);
    egress_destroy(egress);
}

#define CHECK(text, questions) check(&(text), questions, COUNT_OF(questions))

/* One of each class but public ones. */
static const char *const special[] = {
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.1.2.3",
    "169.254.1.1",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "100.100.100.200",
    "::",
    "::1",
    "::8.8.8.8",
    "::127.0.0.1",
    "::ffff:0:1.1.1.1",
    "64:ff9b::1.1.1.1",
    "64:ff9b:1::1.1.1.1",
    "100::1",
    "2001::1",
    "2001:2::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:808:808::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:192.0.2.1",
};

static void test_default(void **state)
{
    (void)state;
    static const struct rules_text text = {0};
    struct egress *egress = make(&text);
    for (size_t i = 0; i < COUNT_OF(special); i++) {
        const struct question both[] = {
            {special[i], 80, NULL, PROBLEM_DENIED_ADDRESS, 0},
            {"a.test", 443, special[i], PROBLEM_DENIED_ADDRESS, 0},
        };
        ask(egress, both, COUNT_OF(both));
    }
    static const struct question questions[] = {
        {"a.test", 80, NULL, PROBLEM_NONE, 0},
        {"a.test", 443, NULL, PROBLEM_NONE, 0},
        {"a.test", 80, "8.8.8.8", PROBLEM_NONE, 0},
        {"a.test", 80, "::ffff:8.8.8.8", PROBLEM_NONE, 0},
        {"a.test", 80, "2001:4860:4860::8888", PROBLEM_NONE, 0},
        {"8.8.8.8", 443, NULL, PROBLEM_NONE, 0},
        {"a.test", 8080, NULL, PROBLEM_DENIED_NAME, 0},
        {"a.test", 8080, "8.8.8.8", PROBLEM_DENIED_NAME, 0},
        {"8.8.8.8", 22, NULL, PROBLEM_DENIED_NAME, 0},
        {"a.test", 65535, NULL, PROBLEM_DENIED_NAME, 0},
        {"a.test", 1, NULL, PROBLEM_DENIED_NAME, 0},
    };
    ask(egress, questions, COUNT_OF(questions));
    egress_destroy(egress);
}

/* "private" opens loopback, private and unique-local addresses, on every port, and no others. */
static void test_private(void **state)
{
    (void)state;
    static const struct rules_text text = {.open_private = true};
    static const char *const opened[] = {
        "10.0.0.1", "127.0.0.1", "127.1.2.3",       "172.16.0.1",       "192.168.0.1",
        "::1",      "fc00::1",   "::ffff:10.0.0.1", "::ffff:127.0.0.1",
    };
    struct egress *egress = make(&text);
    for (size_t i = 0; i < COUNT_OF(special); i++) {
        bool open = false;
        for (size_t k = 0; k < COUNT_OF(opened); k++) {
            open = open || strcmp(special[i], opened[k]) == 0;
        }
        const struct question question = {"a.test", 9, special[i],
                                          open ? PROBLEM_NONE : PROBLEM_DENIED_ADDRESS, 0};
        ask(egress, &question, 1);
    }
    egress_destroy(egress);

    static const struct rules_text listed = {.open_private = true, .ports = "443"};
    static const struct question questions[] = {
        {"a.test", 443, "127.0.0.1", PROBLEM_NONE, 0},
        {"a.test", 80, NULL, PROBLEM_DENIED_NAME, 0}, /* what is listed is what is open */
    };
    CHECK(listed, questions);
}

static void test_metadata(void **state)
{
    (void)state;
    static const struct rules_text wide = {
        .allow = "0.0.0.0/0 ::/0 169.254.0.0/16 169.254.169.254/31 a.test 64:ff9b::/96",
        .open_private = true,
        .ports = "any"};
    static const struct question refused[] = {
        {"a.test", 80, "169.254.169.254", PROBLEM_DENIED_ADDRESS, 0},
        {"a.test", 80, "169.254.169.254", PROBLEM_DENIED_ADDRESS,
         EGRESS_GRANT_PORT | EGRESS_GRANT_PRIVATE},
        {"169.254.169.254", 80, NULL, PROBLEM_DENIED_ADDRESS, 0},
        {"::ffff:169.254.169.254", 80, NULL, PROBLEM_DENIED_ADDRESS, 0},
        {"a.test", 80, "fd00:ec2::254", PROBLEM_DENIED_ADDRESS, 0},
        {"a.test", 80, "100.100.100.200", PROBLEM_DENIED_ADDRESS, 0},
        {"a.test", 80, "64:ff9b::169.254.169.254", PROBLEM_DENIED_ADDRESS, 0},
        {"a.test", 80, "169.254.1.1", PROBLEM_NONE, 0},
        {"a.test", 80, "100.64.0.1", PROBLEM_NONE, 0},
    };
    CHECK(wide, refused);
    static const struct rules_text own = {
        .allow = "169.254.169.254 [fd00:ec2::254]:80 100.100.100.200/32"};
    static const struct question opened[] = {
        {"a.test", 80, "169.254.169.254", PROBLEM_NONE, 0},
        {"a.test", 80, "::ffff:169.254.169.254", PROBLEM_NONE, 0},
        {"a.test", 80, "fd00:ec2::254", PROBLEM_NONE, 0},
        {"a.test", 443, "fd00:ec2::254", PROBLEM_DENIED_ADDRESS, 0},
        {"a.test", 80, "100.100.100.200", PROBLEM_NONE, 0},
        {"a.test", 80, "169.254.170.2", PROBLEM_DENIED_ADDRESS, 0},
        {"a.test", 80, "64:ff9b::169.254.169.254", PROBLEM_DENIED_ADDRESS, 0},
    };
    CHECK(own, opened);
}

static void test_allow_ranges(void **state)
{
    (void)state;
    static const struct rules_text text = {
        .allow = "10.1.0.0/16 192.168.1.1 fd00:1::/32 10.9.0.0/16:9000 [fd00:9::/32]:9000"};
    static const struct question questions[] = {
        {"a.test", 80, "10.1.2.3", PROBLEM_NONE, 0},
        {"10.1.2.3", 80, NULL, PROBLEM_NONE, 0},
        {"a.test", 80, "::ffff:10.1.2.3", PROBLEM_NONE, 0},
        {"a.test", 80, "10.2.0.0", PROBLEM_DENIED_ADDRESS, 0},
        {"a.test", 80, "192.168.1.1", PROBLEM_NONE, 0},
        {"a.test", 80, "192.168.1.2", PROBLEM_DENIED_ADDRESS, 0},
        {"a.test", 80, "fd00:1::5", PROBLEM_NONE, 0},
        {"a.test", 80, "fd00:2::5", PROBLEM_DENIED_ADDRESS, 0},
        {"a.test", 22, "10.1.2.3", PROBLEM_DENIED_NAME, 0}, /* a range without port opens none */
        /* an entry with a port opens the port, and the addresses on that port */
        {"a.test", 9000, NULL, PROBLEM_NONE, 0}, /* the address will tell */
        {"a.test", 9000, "10.9.0.1", PROBLEM_NONE, 0},
        {"10.9.0.1", 9000, NULL, PROBLEM_NONE, 0},
        {"a.test", 9000, "fd00:9::1", PROBLEM_NONE, 0},
        {"a.test", 80, "10.9.0.1", PROBLEM_DENIED_ADDRESS, 0},
        {"a.test", 9000, "10.1.0.1", PROBLEM_DENIED_NAME, 0},
        {"a.test", 9000, "8.8.8.8", PROBLEM_DENIED_NAME, 0},
    };
    CHECK(text, questions);
}

static void test_allow_names(void **state)
{
    (void)state;
    static const struct rules_text text = {.allow =
                                               "db.internal *.corp.test api.test:9000 *.p.test:9"};
    static const struct question questions[] = {
        {"db.internal", 80, "10.0.0.1", PROBLEM_NONE, 0},
        {"db.internal", 80, "127.0.0.1", PROBLEM_NONE, 0},
        {"db.internal", 80, "169.254.1.1", PROBLEM_NONE, 0},
        {"db.internal", 5432, NULL, PROBLEM_DENIED_NAME, 0},
        {"x.db.internal", 80, "10.0.0.1", PROBLEM_DENIED_ADDRESS, 0},
        {"xdb.internal", 80, "10.0.0.1", PROBLEM_DENIED_ADDRESS, 0},
        {"internal", 80, "10.0.0.1", PROBLEM_DENIED_ADDRESS, 0},
        {"a.corp.test", 80, "10.0.0.1", PROBLEM_NONE, 0},
        {"a.b.corp.test", 80, "10.0.0.1", PROBLEM_NONE, 0},
        {"corp.test", 80, "10.0.0.1", PROBLEM_DENIED_ADDRESS, 0},
        {"acorp.test", 80, "10.0.0.1", PROBLEM_DENIED_ADDRESS, 0},
        {"api.test", 9000, NULL, PROBLEM_NONE, 0},
        {"api.test", 9000, "10.0.0.1", PROBLEM_NONE, 0},
        {"api.test", 80, "10.0.0.1", PROBLEM_DENIED_ADDRESS, 0},
        {"api.test", 9001, NULL, PROBLEM_DENIED_NAME, 0},
        {"other.test", 9000, NULL, PROBLEM_DENIED_NAME, 0},
        {"x.p.test", 9, "10.0.0.1", PROBLEM_NONE, 0},
        {"x.p.test", 80, "10.0.0.1", PROBLEM_DENIED_ADDRESS, 0},
    };
    CHECK(text, questions);
}

static void test_deny(void **state)
{
    (void)state;
    static const struct rules_text text = {
        .allow = "10.0.0.0/8 evil.test a.evil.test 8.8.8.8",
        .deny =
            "evil.test *.evil.test *.half.test:443 8.8.8.0/24 10.1.0.0/16:80 :25 2001:4860::/32 "
            "127.0.0.1",
        .open_private = true};
    static const struct question questions[] = {
        {"evil.test", 80, NULL, PROBLEM_DENIED_NAME, 0},
        {"evil.test", 80, "1.1.1.1", PROBLEM_DENIED_NAME, 0},
        {"evil.test", 80, "1.1.1.1", PROBLEM_DENIED_NAME, EGRESS_GRANT_PORT | EGRESS_GRANT_PRIVATE},
        {"a.evil.test", 80, NULL, PROBLEM_DENIED_NAME, 0},
        {"a.b.evil.test", 8080, NULL, PROBLEM_DENIED_NAME, 0},
        {"notevil.test", 80, NULL, PROBLEM_NONE, 0},
        {"a.half.test", 443, NULL, PROBLEM_DENIED_NAME, 0},
        {"a.half.test", 80, NULL, PROBLEM_NONE, 0},
        {"half.test", 443, NULL, PROBLEM_NONE, 0},
        {"a.test", 80, "8.8.8.8", PROBLEM_DENIED_ADDRESS, 0}, /* though it is allowed too */
        {"8.8.8.8", 80, NULL, PROBLEM_DENIED_ADDRESS, 0},
        {"::ffff:8.8.8.8", 80, NULL, PROBLEM_DENIED_ADDRESS, 0},
        {"a.test", 80, "8.8.9.8", PROBLEM_NONE, 0},
        {"a.test", 80, "10.1.0.1", PROBLEM_DENIED_ADDRESS, 0},
        {"a.test", 81, "10.1.0.1", PROBLEM_NONE, 0},
        {"a.test", 25, NULL, PROBLEM_DENIED_NAME, 0},
        {"10.0.0.1", 25, NULL, PROBLEM_DENIED_NAME, 0},
        {"a.test", 80, "2001:4860:4860::8888", PROBLEM_DENIED_ADDRESS, 0},
        {"127.0.0.1", 80, NULL, PROBLEM_DENIED_ADDRESS, 0},
        {"127.0.0.2", 80, NULL, PROBLEM_NONE, 0},
    };
    CHECK(text, questions);
}

static void test_ports(void **state)
{
    (void)state;
    static const struct rules_text any = {.ports = "any", .deny = ":22"};
    static const struct question of_any[] = {
        {"a.test", 1, NULL, PROBLEM_NONE, 0},
        {"a.test", 65535, "8.8.8.8", PROBLEM_NONE, 0},
        {"a.test", 22, NULL, PROBLEM_DENIED_NAME, 0},
        {"127.0.0.1", 65535, NULL, PROBLEM_DENIED_ADDRESS, 0},
    };
    CHECK(any, of_any);
    static const struct rules_text listed = {.ports = "443 8443"};
    static const struct question of_listed[] = {
        {"a.test", 443, NULL, PROBLEM_NONE, 0},
        {"a.test", 8443, "8.8.8.8", PROBLEM_NONE, 0},
        {"a.test", 80, NULL, PROBLEM_DENIED_NAME, 0},
    };
    CHECK(listed, of_listed);
    static const struct rules_text none = {.ports = ""};
    static const struct question of_none[] = {
        {"a.test", 443, NULL, PROBLEM_DENIED_NAME, 0},
        {"a.test", 443, NULL, PROBLEM_NONE, EGRESS_GRANT_PORT},
    };
    CHECK(none, of_none);
}

/* A limit is not a permission: it opens its own port for its own host, and no address. */
static void test_named(void **state)
{
    (void)state;
    static const struct rules_text text = {
        .named = "api.test:9000 *.below.test:9001 127.0.0.1:9002 [::1]:9002"};
    static const struct question questions[] = {
        {"api.test", 9000, NULL, PROBLEM_NONE, 0},
        {"api.test", 9000, "8.8.8.8", PROBLEM_NONE, 0},
        {"api.test", 9000, "10.0.0.1", PROBLEM_DENIED_ADDRESS, 0},
        {"api.test", 9000, "127.0.0.1", PROBLEM_DENIED_ADDRESS, 0},
        {"api.test", 9001, NULL, PROBLEM_DENIED_NAME, 0},
        {"other.test", 9000, NULL, PROBLEM_DENIED_NAME, 0},
        {"a.below.test", 9001, NULL, PROBLEM_NONE, 0},
        {"127.0.0.1", 9002, NULL, PROBLEM_DENIED_ADDRESS, 0},
        {"::1", 9002, NULL, PROBLEM_DENIED_ADDRESS, 0},
        {"127.0.0.2", 9002, NULL, PROBLEM_DENIED_NAME, 0},
    };
    CHECK(text, questions);
}

static void test_grants(void **state)
{
    (void)state;
    static const struct rules_text text = {.deny = "10.9.0.0/16"};
    static const struct question questions[] = {
        {"api.test", 9000, NULL, PROBLEM_NONE, EGRESS_GRANT_PORT},
        {"api.test", 9000, "8.8.8.8", PROBLEM_NONE, EGRESS_GRANT_PORT},
        {"api.test", 9000, "10.0.0.1", PROBLEM_DENIED_ADDRESS, EGRESS_GRANT_PORT},
        {"api.test", 9000, NULL, PROBLEM_DENIED_NAME, EGRESS_GRANT_PRIVATE},
        {"api.test", 80, "10.0.0.1", PROBLEM_NONE, EGRESS_GRANT_PRIVATE},
        {"127.0.0.1", 80, NULL, PROBLEM_NONE, EGRESS_GRANT_PRIVATE},
        {"api.test", 80, "100.64.0.1", PROBLEM_DENIED_ADDRESS, EGRESS_GRANT_PRIVATE},
        {"api.test", 80, "169.254.1.1", PROBLEM_DENIED_ADDRESS, EGRESS_GRANT_PRIVATE},
        {"api.test", 80, "10.9.0.1", PROBLEM_DENIED_ADDRESS, EGRESS_GRANT_PRIVATE},
    };
    CHECK(text, questions);
}

/* An address that carries another is open where both are. */
static void test_carriers(void **state)
{
    (void)state;
    static const struct rules_text text = {
        .allow = "64:ff9b::/96 64:ff9b:1::/48 2002::/16 2001::/32 ::/96", .deny = "9.9.9.9"};
    static const struct question questions[] = {
        {"a.test", 80, "64:ff9b::8.8.8.8", PROBLEM_NONE, 0},
        {"a.test", 80, "64:ff9b::10.0.0.1", PROBLEM_DENIED_ADDRESS, 0},
        {"a.test", 80, "64:ff9b::127.0.0.1", PROBLEM_DENIED_ADDRESS, 0},
        {"a.test", 80, "64:ff9b::9.9.9.9", PROBLEM_DENIED_ADDRESS, 0},
        {"a.test", 80, "64:ff9b:1::8.8.8.8", PROBLEM_NONE, 0},
        {"a.test", 80, "64:ff9b:1::10.0.0.1", PROBLEM_DENIED_ADDRESS, 0},
        {"a.test", 80, "2002:808:808::1", PROBLEM_NONE, 0},
        {"a.test", 80, "2002:a00:1::1", PROBLEM_DENIED_ADDRESS, 0},
        {"a.test", 80, "2001:0:1:1::f7f7:f7f7", PROBLEM_NONE, 0},           /* 8.8.8.8 */
        {"a.test", 80, "2001:0:1:1::f5ff:fffe", PROBLEM_DENIED_ADDRESS, 0}, /* 10.0.0.1 */
        {"a.test", 80, "::8.8.8.8", PROBLEM_NONE, 0},
        {"a.test", 80, "::10.0.0.1", PROBLEM_DENIED_ADDRESS, 0},
    };
    CHECK(text, questions);
    static const struct rules_text both = {.allow = "64:ff9b::/96 10.0.0.0/8"};
    static const struct question open[] = {{"a.test", 80, "64:ff9b::10.0.0.1", PROBLEM_NONE, 0}};
    CHECK(both, open);
}

static void test_loops(void **state)
{
    (void)state;
    static const struct rules_text exact = {
        .own = "127.0.0.1 8080 ::1 9901", .allow = "0.0.0.0/0 ::/0", .open_private = true};
    static const struct question of_exact[] = {
        {"127.0.0.1", 8080, NULL, PROBLEM_LOOP, 0},
        {"0.0.0.0", 8080, NULL, PROBLEM_LOOP, 0},
        {"::ffff:127.0.0.1", 8080, NULL, PROBLEM_LOOP, 0},
        {"::ffff:0.0.0.0", 8080, NULL, PROBLEM_LOOP, 0},
        {"a.test", 8080, "127.0.0.1", PROBLEM_LOOP, 0},
        {"a.test", 8080, "127.0.0.1", PROBLEM_LOOP, EGRESS_GRANT_PORT | EGRESS_GRANT_PRIVATE},
        {"::1", 9901, NULL, PROBLEM_LOOP, 0},
        {"::", 9901, NULL, PROBLEM_LOOP, 0},
        {"a.test", 9901, "::1", PROBLEM_LOOP, 0},
        {"127.0.0.1", 9901, NULL, PROBLEM_NONE, 0},
        {"::1", 8080, NULL, PROBLEM_NONE, 0},
        {"127.0.0.2", 8080, NULL, PROBLEM_NONE, 0},
        {"127.0.0.1", 8081, NULL, PROBLEM_NONE, 0},
    };
    CHECK(exact, of_exact);
    static const struct rules_text any = {.own = "0.0.0.0 8080 :: 9901", .open_private = true};
    static const struct question of_any[] = {
        {"127.0.0.1", 8080, NULL, PROBLEM_LOOP, 0},
        {"127.9.9.9", 8080, NULL, PROBLEM_LOOP, 0},
        {"0.0.0.0", 8080, NULL, PROBLEM_LOOP, 0},
        {"::1", 9901, NULL, PROBLEM_LOOP, 0},
        {"::", 9901, NULL, PROBLEM_LOOP, 0},
        {"::1", 8080, NULL, PROBLEM_NONE, 0}, /* our IPv6 listeners take no IPv4, nor the reverse */
        {"10.255.255.1", 8080, NULL, PROBLEM_NONE, 0},
        {"8.8.8.8", 8080, NULL, PROBLEM_NONE, 0},
        {"2001:4860:4860::8888", 9901, NULL, PROBLEM_NONE, 0},
    };
    CHECK(any, of_any);
    /* By default, the port of one of our listeners is no reason to hide that it is a loop. */
    static const struct rules_text plain = {.own = "127.0.0.1 8080"};
    static const struct question of_plain[] = {
        {"127.0.0.1", 8080, NULL, PROBLEM_LOOP, 0},
        {"localhost", 8080, NULL, PROBLEM_NONE, 0}, /* its address tells */
        {"localhost", 8080, "127.0.0.1", PROBLEM_LOOP, 0},
        {"localhost", 8080, "::1", PROBLEM_DENIED_NAME, 0},
        {"localhost", 8081, NULL, PROBLEM_DENIED_NAME, 0},
    };
    CHECK(plain, of_plain);
}

/* Every address of this machine is known as such. */
static void test_local(void **state)
{
    (void)state;
    struct ifaddrs *list = NULL;
    struct address address;
    assert_int_equal(getifaddrs(&list), 0);
    for (const struct ifaddrs *at = list; at != NULL; at = at->ifa_next) {
        if (at->ifa_addr != NULL && address_from_socket(at->ifa_addr, &address)) {
            assert_true(local_has(&address));
        }
    }
    freeifaddrs(list);
    static const char *const elsewhere[] = {"8.8.8.8", "192.0.2.1",   "224.0.0.1",
                                            "ff02::1", "2001:db8::1", "fe80::dead:beef:1"};
    for (size_t i = 0; i < COUNT_OF(elsewhere); i++) {
        assert_true(address_parse(elsewhere[i], &address));
        if (local_has(&address)) {
            fail_msg("%s", elsewhere[i]);
        }
    }
}

static void put(struct resolver_addresses *addresses, const char *text)
{
    struct sockaddr_storage storage = place(text, 0);
    memcpy(&addresses->at[addresses->count++], &storage, sizeof addresses->at[0]);
}

static void test_filter(void **state)
{
    (void)state;
    static const struct rules_text text = {.own = "127.0.0.1 80"};
    static const struct egress_target target = {"a.test", 80, 0};
    struct egress *egress = make(&text);
    const char *detail = NULL;
    struct resolver_addresses addresses = {0};

    put(&addresses, "10.0.0.1");
    put(&addresses, "8.8.8.8");
    put(&addresses, "::1");
    put(&addresses, "2001:4860:4860::8888");
    assert_int_equal(egress_filter(egress, &target, &addresses, &detail), PROBLEM_NONE);
    assert_int_equal(addresses.count, 2);
    assert_int_equal(addresses.at[0].v4.sin_addr.s_addr, htonl(0x08080808));
    assert_int_equal(addresses.at[1].any.sa_family, AF_INET6);

    addresses.count = 0;
    put(&addresses, "169.254.169.254");
    put(&addresses, "10.0.0.1");
    assert_int_equal(egress_filter(egress, &target, &addresses, &detail), PROBLEM_DENIED_ADDRESS);
    assert_int_equal(addresses.count, 0);
    assert_non_null(strstr(detail, "metadata"));

    addresses.count = 0; /* a name of this machine */
    put(&addresses, "8.8.8.8");
    put(&addresses, "127.0.0.1");
    assert_int_equal(egress_filter(egress, &target, &addresses, &detail), PROBLEM_LOOP);
    assert_int_equal(addresses.count, 0);

    addresses.count = 0;
    assert_int_equal(egress_filter(egress, &target, &addresses, &detail), PROBLEM_NONE);
    egress_destroy(egress);
}

/* Many names: each is found, and none that is not there. */
static void test_many_names(void **state)
{
    (void)state;
    struct config_egress config = {0};
    char name[32];
    for (unsigned i = 0; i < 500; i++) {
        int bytes =
            snprintf(name, sizeof name, i % 2 == 0 ? "h%u.test" : "*.p%u.test", i * 7919 % 997);
        assert_int_equal(config_egress_add(&config.deny, name, (size_t)bytes), CONFIG_ADDED);
    }
    struct egress *egress = egress_create(&config, NULL, 0);
    assert_non_null(egress);
    config_egress_finish(&config);
    for (unsigned i = 0; i < 1000; i++) {
        const char *detail;
        struct egress_target target = {name, 80, 0};
        bool pattern = i % 2 == 1;
        snprintf(name, sizeof name, pattern ? "x.p%u.test" : "h%u.test", i * 7919 % 997);
        enum problem expected = i < 500 ? PROBLEM_DENIED_NAME : PROBLEM_NONE;
        if (i < 997) { /* then they come again */
            assert_int_equal(egress_check_name(egress, &target, &detail), expected);
        }
    }
    egress_destroy(egress);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_default),     cmocka_unit_test(test_private),
        cmocka_unit_test(test_metadata),    cmocka_unit_test(test_allow_ranges),
        cmocka_unit_test(test_allow_names), cmocka_unit_test(test_deny),
        cmocka_unit_test(test_ports),       cmocka_unit_test(test_named),
        cmocka_unit_test(test_grants),      cmocka_unit_test(test_carriers),
        cmocka_unit_test(test_loops),       cmocka_unit_test(test_local),
        cmocka_unit_test(test_filter),      cmocka_unit_test(test_many_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

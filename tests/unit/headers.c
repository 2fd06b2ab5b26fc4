/* Header fields: what is refused as ambiguous, what is read from the rest, and what passes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/headers.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define FIELDS_MAX   16
#define SELF         "(weir-7f3a)"
#define SECOND       UINT64_C(1000000000)

/* A message's fields, from lines that end in '\n': "Host: h\nA: b\n". */
struct fields {
    struct header at[FIELDS_MAX];
    size_t count;
};

/* Unlike headers_split() this judges nothing and trims no more than one space. */
static struct fields split(const char *lines)
{
    struct fields fields = {.count = 0};
    while (*lines != '\0') {
        const char *end = strchr(lines, '\n');
        const char *colon = memchr(lines, ':', (size_t)(end - lines));
        assert_non_null(colon);
        const char *value = colon[1] == ' ' ? colon + 2 : colon + 1;
        assert_true(fields.count < FIELDS_MAX);
        fields.at[fields.count++] = (struct header){
            .name = lines,
            .value = value,
            .name_bytes = (uint32_t)(colon - lines),
            .value_bytes = (uint32_t)(end - value),
        };
        lines = end + 1;
    }
    return fields;
}

static enum problem check(const char *method, bool http_1_0, const struct fields *fields,
                          struct headers_request_facts *ret_facts, const char **ret_detail)
{
    struct headers_request request = {method, http_1_0, fields->at, fields->count};
    return headers_check_request(&request, SELF, ret_facts, ret_detail);
}

/* The facts of a request that must be good. FIELDS point into LINES. */
static struct headers_request_facts facts_of(struct fields *fields, const char *lines)
{
    struct headers_request_facts facts;
    const char *detail = "untouched";
    *fields = split(lines);
    enum problem problem = check("GET", false, fields, &facts, &detail);
    if (problem != PROBLEM_NONE) {
        fail_msg("%s: expected to be taken, found: %s", lines, detail);
    }
    assert_string_equal(detail, "untouched");
    return facts;
}

struct refused {
    const char *lines; /* beside Host, where they begin with '+' */
    const char *reason;
};

static void check_refused(const struct refused *lines, size_t count, bool http_1_0,
                          enum problem expected)
{
    for (size_t i = 0; i < count; i++) {
        char text[1024];
        bool host = lines[i].lines[0] == '+';
        (void)snprintf(text, sizeof text, "%s%s", host ? "Host: h\n" : "", lines[i].lines + host);
        struct fields fields = split(text);
        struct headers_request_facts facts = {.content_length = 77};
        const char *detail = NULL;
        enum problem problem = check("POST", http_1_0, &fields, &facts, &detail);
        if (problem != expected || detail == NULL || strstr(detail, lines[i].reason) == NULL) {
            fail_msg("%s: expected problem %d for its %s, found %d: %s", text, (int)expected,
                     lines[i].reason, (int)problem, detail != NULL ? detail : "no detail");
        }
        assert_int_equal(facts.content_length, 77); /* nothing is written */
    }
}

static void test_ambiguous_lengths(void **state)
{
    static const struct refused lines[] = {
        {"+Content-Length: 5\nContent-Length: 5\n", "more than one Content-Length"},
        {"+Content-Length: 5\nContent-Length: 6\n", "more than one Content-Length"},
        {"+Content-Length: 5\nA: b\ncontent-LENGTH: 5\n", "more than one Content-Length"},
        {"+Content-Length: 5, 5\n", "whole number"},
        {"+Content-Length: +5\n", "whole number"},
        {"+Content-Length: 5 \n", "whole number"},
        {"+Content-Length: 0x5\n", "whole number"},
        {"+Content-Length: -1\n", "whole number"},
        {"+Content-Length: \n", "whole number"},
        {"+Content-Length: 5.0\n", "whole number"},
        {"+Content-Length: 5;\n", "whole number"},
        {"+Content-Length: 9223372036854775808\n", "whole number"},
        {"+Content-Length: 18446744073709551615\n", "whole number"},
        {"+Content-Length: 18446744073709551621\n", "whole number"},
        {"+Content-Length: 99999999999999999999999999\n", "whole number"},
        {"+Content-Length: 5\nTransfer-Encoding: chunked\n", "both"},
        {"+Transfer-Encoding: chunked\nContent-Length: 0\n", "both"},
        {"+Transfer-Encoding: chunked\nTransfer-Encoding: chunked\n", "more than one Transfer"},
        {"+Transfer-Encoding: chunked\nTransfer-Encoding: identity\n", "more than one Transfer"},
        {"+Transfer-Encoding: gzip, chunked\n", "exactly chunked"},
        {"+Transfer-Encoding: chunked, chunked\n", "exactly chunked"},
        {"+Transfer-Encoding: identity\n", "exactly chunked"},
        {"+Transfer-Encoding: xchunked\n", "exactly chunked"},
        {"+Transfer-Encoding: chunked,\n", "exactly chunked"},
        {"+Transfer-Encoding: ,chunked\n", "exactly chunked"},
        {"+Transfer-Encoding: chunked;a=b\n", "exactly chunked"},
        {"+Transfer-Encoding: \"chunked\"\n", "exactly chunked"},
        {"+Transfer-Encoding: chunked \n", "exactly chunked"},
        {"+Transfer-Encoding: \tchunked\n", "exactly chunked"},
        {"+Transfer-Encoding: chunke\n", "exactly chunked"},
        {"+Transfer-Encoding: \n", "exactly chunked"},
        {"+TRANSFER-ENCODING: gzip\n", "exactly chunked"},
    };
    static const struct refused old[] = {
        {"+Transfer-Encoding: chunked\n", "HTTP/1.0"},
        {"+Transfer-Encoding: identity\n", "HTTP/1.0"},
        {"+Content-Length: 1\nContent-Length: 1\n", "more than one Content-Length"},
        {"+Host: h\n", "more than one Host"},
    };
    (void)state;
    check_refused(lines, COUNT(lines), false, PROBLEM_BAD_REQUEST);
    check_refused(old, COUNT(old), true, PROBLEM_BAD_REQUEST);
}

static void test_malformed_fields(void **state)
{
    static const struct refused lines[] = {
        {"+Content-Length : 5\n", "token"},
        {"+ Content-Length: 5\n", "token"},
        {"+Content Length: 5\n", "token"},
        {"+Transfer-Enc: chunked\r\n", "control"},
        {"+: x\n", "token"},
        {"+A\tB: x\n", "token"},
        {"+A\x01: x\n", "token"},
        {"+A\x7f: x\n", "token"},
        {"+\xc3\xbc: x\n", "token"},
        {"+A(b): x\n", "token"},
        {"+A,: x\n", "token"},
        {"+A;: x\n", "token"},
        {"+A=b: x\n", "token"},
        {"+A/b: x\n", "token"},
        {"+A\"b: x\n", "token"},
        {"+A@b: x\n", "token"},
        {"+A[: x\n", "token"},
        {"+A{: x\n", "token"},
        {"+A: b\rc\n", "control"},
        {"+A: b\x01"
         "c\n",
         "control"},
        {"+A: \x1f\n", "control"},
        {"+A: \x7f\n", "control"},
        {"+A: b\x0b\n", "control"},
        /* A malformed field is found before what other fields say. */
        {"+Expect: no\nA b: c\n", "token"},
    };
    static const struct refused hosts[] = {
        {"", "without Host"},
        {"A: b\n", "without Host"},
        {"Host: a\nHost: a\n", "more than one Host"},
        {"Host: a\nA: b\nHOST: b\n", "more than one Host"},
        {"Host: a b\n", "Host is not"},
        {"Host: a, b\n", "Host is not"},
        {"Host: a/b\n", "Host is not"},
        {"Host: u@a\n", "Host is not"},
        {"Host: a\\b\n", "Host is not"},
        {"Host: a?b\n", "Host is not"},
        {"Host: a#b\n", "Host is not"},
        {"Host: a\xc3\xbc\n", "Host is not"},
    };
    (void)state;
    check_refused(lines, COUNT(lines), false, PROBLEM_BAD_REQUEST);
    check_refused(hosts, COUNT(hosts), false, PROBLEM_BAD_REQUEST);
    struct fields nul = split("Host: h\nA: bXc\n");
    char value[] = {'b', '\0', 'c'};
    nul.at[1].value = value;
    struct headers_request_facts facts;
    const char *detail = NULL;
    assert_int_equal(check("GET", false, &nul, &facts, &detail), PROBLEM_BAD_REQUEST);
    assert_non_null(strstr(detail, "control"));
    nul.at[1].name = value;
    nul.at[1].name_bytes = 3;
    assert_int_equal(check("GET", false, &nul, &facts, &detail), PROBLEM_BAD_REQUEST);
    assert_non_null(strstr(detail, "token"));
}

static void test_methods(void **state)
{
    static const char *const good[] = {"GET", "M-SEARCH", "get", "X", "!#$%&'*+-.^_`|~09azAZ"};
    static const char *const bad[] = {"",     "G<>T",  "GE T",     "G\tT",
                                      "GET/", "G\x7f", "\xc3\xbc", "a:"};
    (void)state;
    struct fields fields = split("Host: h\n");
    struct headers_request_facts facts;
    const char *detail = NULL;
    for (size_t i = 0; i < COUNT(good); i++) {
        assert_int_equal(check(good[i], false, &fields, &facts, &detail), PROBLEM_NONE);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_int_equal(check(bad[i], false, &fields, &facts, &detail), PROBLEM_BAD_REQUEST);
        assert_non_null(strstr(detail, "method"));
    }
}

static void test_length_facts(void **state)
{
    (void)state;
    struct fields fields;
    struct headers_request_facts facts = facts_of(&fields, "Host: h\n");
    assert_false(facts.has_body);
    assert_false(facts.chunked);
    facts = facts_of(&fields, "Host: h\nContent-Length: 0\n");
    assert_true(facts.has_body);
    assert_false(facts.chunked);
    assert_int_equal(facts.content_length, 0);
    facts = facts_of(&fields, "Host: h\ncOntent-lEngth: 9223372036854775807\n");
    assert_true(facts.has_body);
    assert_true(facts.content_length == INT64_MAX);
    facts = facts_of(&fields, "Host: h\nContent-Length: 00000000000000000000042\n");
    assert_int_equal(facts.content_length, 42);
    facts = facts_of(&fields, "Host: h\nTransfer-Encoding: chunked\n");
    assert_true(facts.has_body);
    assert_true(facts.chunked);
    facts = facts_of(&fields, "Host: h\ntransfer-encoding: Chunked\n");
    assert_true(facts.chunked);
    /* Names that only look like one of these say nothing. */
    facts = facts_of(&fields, "Host: h\nContent_Length: 5\nX-Transfer-Encoding: chunked\n");
    assert_false(facts.has_body);
}

static void test_hosts_taken(void **state)
{
    static const char *const lines[] = {
        "Host: h\n", "Host: h:80\n", "Host: [::1]:80\n", "Host:\n", "hOST: a_b.c-d\n",
    };
    (void)state;
    struct fields fields;
    for (size_t i = 0; i < COUNT(lines); i++) {
        (void)facts_of(&fields, lines[i]);
    }
    struct headers_request_facts facts;
    const char *detail = NULL;
    fields = split("");
    assert_int_equal(check("GET", true, &fields, &facts, &detail), PROBLEM_NONE);
    struct headers_request none = {"GET", true, NULL, 0};
    assert_int_equal(headers_check_request(&none, NULL, &facts, &detail), PROBLEM_NONE);
    fields = split("Host: h\nContent-Length: 5\n");
    assert_int_equal(check("POST", true, &fields, &facts, &detail), PROBLEM_NONE);
    assert_int_equal(facts.content_length, 5);
}

static void test_expect(void **state)
{
    static const struct refused lines[] = {
        {"+Expect: 200-ok\n", "Expect"},
        {"+Expect:\n", "Expect"},
        {"+expect: 100-continue, x\n", "Expect"},
        {"+Expect: 100-continue\nExpect: x\n", "Expect"},
    };
    (void)state;
    check_refused(lines, COUNT(lines), false, PROBLEM_EXPECTATION_FAILED);
    struct fields fields;
    assert_false(facts_of(&fields, "Host: h\n").expect_continue);
    assert_true(facts_of(&fields, "Host: h\nExpect: 100-continue\n").expect_continue);
    assert_true(facts_of(&fields, "Host: h\nEXPECT: 100-Continue\n").expect_continue);
    struct headers_request_facts facts;
    const char *detail = NULL;
    assert_int_equal(check("PUT", true, &fields, &facts, &detail), PROBLEM_NONE);
    assert_false(facts.expect_continue);
}

static void test_weir_fields(void **state)
{
    static const struct refused lines[] = {
        {"+Weir-Nonsense: 1\n", "unknown Weir-"},
        {"+weir-: 1\n", "unknown Weir-"},
        {"+WEIR-QUEUE-TIMEOUTS: 1s\n", "unknown Weir-"},
        {"+Weir-Queue-Timeout: 5\n", "Weir-Queue-Timeout"},
        {"+Weir-Queue-Timeout:\n", "Weir-Queue-Timeout"},
        {"+Weir-Queue-Timeout: -5s\n", "Weir-Queue-Timeout"},
        {"+Weir-Queue-Timeout: 5s\nWeir-Queue-Timeout: 5s\n", "Weir-Queue-Timeout"},
        {"+Weir-Timeout: soon\n", "Weir-Timeout"},
        {"+Weir-Timeout: 0\n", "Weir-Timeout"},
        {"+Weir-Timeout: 0s\n", "Weir-Timeout"},
        {"+Weir-Timeout: 5s\nWeir-Timeout: 6s\n", "Weir-Timeout"},
    };
    (void)state;
    check_refused(lines, COUNT(lines), false, PROBLEM_BAD_REQUEST);
    struct fields fields;
    struct headers_request_facts facts = facts_of(&fields, "Host: h\nWeir: x\nXWeir-A: b\n");
    assert_true(facts.queue_timeout_ns == HEADERS_NEVER);
    assert_true(facts.fetch_timeout_ns == HEADERS_NEVER);
    facts = facts_of(&fields, "Host: h\nWeir-Queue-Timeout: 5s\nWEIR-TIMEOUT: 2m\n");
    assert_true(facts.queue_timeout_ns == 5 * SECOND);
    assert_true(facts.fetch_timeout_ns == 120 * SECOND);
    facts = facts_of(&fields, "Host: h\nweir-queue-timeout: 0\n");
    assert_true(facts.queue_timeout_ns == 0);
}

static void test_loops(void **state)
{
    static const struct refused lines[] = {
        {"+Via: 1.1 weir " SELF "\n", "already"},
        {"+Via: 1.0 a\nvia: 1.1 b, 1.1 weir " SELF ", 1.1 c\n", "already"},
    };
    (void)state;
    check_refused(lines, COUNT(lines), false, PROBLEM_LOOP);
    struct fields fields;
    (void)facts_of(&fields, "Host: h\nVia: 1.1 weir (weir-0000)\nVia:\nX-Via: " SELF "\n");
    fields = split("Host: h\nVia: 1.1 weir " SELF "\n");
    struct headers_request request = {"GET", false, fields.at, fields.count};
    struct headers_request_facts facts;
    const char *detail = NULL;
    assert_int_equal(headers_check_request(&request, NULL, &facts, &detail), PROBLEM_NONE);
}

static void test_request_id(void **state)
{
    (void)state;
    char text[256];
    struct fields fields;
    struct headers_request_facts facts = facts_of(&fields, "Host: h\nX-Request-ID: a-1\n");
    assert_ptr_equal(facts.request_id, &fields.at[1]);
    facts = facts_of(&fields, "Host: h\nx-request-id: a b\nX-Request-Id: c\nX-Request-Id: d\n");
    assert_ptr_equal(facts.request_id, &fields.at[2]);
    assert_null(facts_of(&fields, "Host: h\nX-Request-Id:\n").request_id);
    assert_null(facts_of(&fields, "Host: h\nX-Request-Id: \xc3\xbc\n").request_id);
    (void)snprintf(text, sizeof text, "Host: h\nX-Request-Id: %0128d\n", 1);
    assert_non_null(facts_of(&fields, text).request_id);
    (void)snprintf(text, sizeof text, "Host: h\nX-Request-Id: %0129d\n", 1);
    assert_null(facts_of(&fields, text).request_id);
}

static void test_trailer_facts(void **state)
{
    (void)state;
    struct fields fields;
    struct headers_request_facts facts = facts_of(&fields, "Host: h\nTE: trailers\n");
    assert_true(facts.te_trailers);
    assert_true(facts_of(&fields, "Host: h\nte: gzip;q=0.5 ,\tTrailers\n").te_trailers);
    assert_true(facts_of(&fields, "Host: h\nTE: gzip\nTE: trailers\nTE: x\n").te_trailers);
    assert_false(facts_of(&fields, "Host: h\nTE: trailersx, xtrailers\n").te_trailers);
    assert_false(facts_of(&fields, "Host: h\nTE:\n").te_trailers);
}

static bool passes(const struct fields *fields, const struct headers_request_facts *facts,
                   size_t index)
{
    struct headers_request request = {"GET", false, fields->at, fields->count};
    return headers_pass_request(&request, facts, index);
}

static void test_connection(void **state)
{
    (void)state;
    struct fields fields;
    struct headers_request_facts facts = facts_of(&fields, "Host: h\n");
    assert_false(facts.close);
    assert_true(facts_of(&fields, "Host: h\nConnection: Close\n").close);
    assert_true(facts_of(&fields, "Host: h\nConnection: a ,, close\n").close);
    assert_false(facts_of(&fields, "Host: h\nConnection: keep-alive, closed\n").close);
    /* What never passes or always stays does not count. */
    facts = facts_of(&fields, "Host: h\nConnection: close, keep-alive, TE, Upgrade, Host, Via, "
                              "Content-Length, Weir-Timeout, HTTP2-Settings, a b, ,\n");
    assert_int_equal(facts.named.count, 0);
    facts = facts_of(&fields, "Host: h\nConnection: X-One , x-two\nX-ONE: 1\nX-Two: 2\nX-Tw: 3\n"
                              "connection: X-Three,X-one\nX-Three: 4\nX-Four: 5\n");
    assert_int_equal(facts.named.count, 3);
    static const bool expected[] = {false, false, false, false, true, false, false, true};
    for (size_t i = 0; i < COUNT(expected); i++) {
        assert_int_equal(passes(&fields, &facts, i), expected[i]);
    }
    /* Naming a field that is about the message takes nothing away. */
    facts = facts_of(&fields, "Host: h\nConnection: Content-Type, Cache-Control, A\nA: b\n"
                              "Content-Type: t\nCache-Control: c\n");
    assert_false(passes(&fields, &facts, 2));
    assert_true(passes(&fields, &facts, 3));
    assert_true(passes(&fields, &facts, 4));
    (void)facts_of(&fields, "Host: h\nConnection: a,b,c,d,e,f,g,h,A,close,te\n");
    static const struct refused many[] = {
        {"+Connection: a,b,c,d,e,f,g,h,i\n", "Connection names more"},
        {"+Connection: a,b,c,d\nConnection: e,f,g,h\nConnection: i\n", "Connection names more"},
    };
    check_refused(many, COUNT(many), false, PROBLEM_BAD_REQUEST);
}

/* Fields that do not pass: in requests, in answers, in trailers. */
static const struct {
    const char *name;
    bool request;
    bool response;
    bool trailer;
} dropped[] = {
    {"Connection", true, true, true},
    {"Keep-Alive", true, true, true},
    {"Proxy-Connection", true, true, true},
    {"Proxy-Authorization", true, true, true},
    {"Proxy-Authenticate", true, true, true},
    {"Proxy-Authentication-Info", true, true, true},
    {"TE", true, true, true},
    {"Trailer", true, true, true},
    {"Transfer-Encoding", true, true, true},
    {"Content-Length", true, true, true},
    {"Upgrade", true, true, true},
    {"HTTP2-Settings", true, true, true},
    {"X-Request-Id", true, true, true},
    {"Weir-Queue-Timeout", true, true, true},
    {"Weir-Timeout", true, true, true},
    {"Weir-Anything", true, true, true},
    {"Host", true, false, true},
    {"Expect", true, false, true},
    {"Via", false, false, true},
    {"Age", false, false, true},
    {"Authentication-Info", false, false, true},
    {"Authorization", false, false, true},
    {"Cache-Control", false, false, true},
    {"Content-Encoding", false, false, true},
    {"Content-Range", false, false, true},
    {"Content-Type", false, false, true},
    {"Cookie", false, false, true},
    {"Date", false, false, true},
    {"Expires", false, false, true},
    {"Forwarded", false, false, true},
    {"If-Match", false, false, true},
    {"If-Modified-Since", false, false, true},
    {"If-None-Match", false, false, true},
    {"If-Range", false, false, true},
    {"If-Unmodified-Since", false, false, true},
    {"Location", false, false, true},
    {"Max-Forwards", false, false, true},
    {"Pragma", false, false, true},
    {"Range", false, false, true},
    {"Retry-After", false, false, true},
    {"Set-Cookie", false, false, true},
    {"Vary", false, false, true},
    {"Warning", false, false, true},
    {"WWW-Authenticate", false, false, true},
    {"X-Forwarded-For", false, false, true},
    {"X-Forwarded-Anything", false, false, true},
    /* And what passes everywhere, such as what only looks like one of these. */
    {"Accept", false, false, false},
    {"Server", false, false, false},
    {"ETag", false, false, false},
    {"Server-Timing", false, false, false},
    {"Grpc-Status", false, false, false},
    {"Digest", false, false, false},
    {"Weir", false, false, false},
    {"Weird-Timeout", false, false, false},
    {"Hos", false, false, false},
    {"Hosts", false, false, false},
    {"Connections", false, false, false},
    {"Keep_Alive", false, false, false},
    {"X-Request-Ids", false, false, false},
    {"T", false, false, false},
    {"A-Name-That-Is-Longer-Than-Any-That-Is-Known", false, false, false},
};

static void check_dropped(const char *name, size_t line)
{
    struct header field = {name, "1", (uint32_t)strlen(name), 1};
    struct headers_request request = {"GET", false, &field, 1};
    struct headers_request_facts request_facts = {.named = {.count = 0}};
    struct headers_response response = {200, &field, 1};
    struct headers_response_facts response_facts = {.named = {.count = 0}};
    assert_int_equal(headers_pass_request(&request, &request_facts, 0), !dropped[line].request);
    assert_int_equal(headers_pass_response(&response, &response_facts, 0), !dropped[line].response);
    assert_int_equal(headers_pass_trailer(&field), !dropped[line].trailer);
}

static void test_dropped(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(dropped); i++) {
        char lower[64];
        char upper[64];
        size_t size = strlen(dropped[i].name) + 1;
        for (size_t j = 0; j < size; j++) {
            lower[j] = (char)tolower((unsigned char)dropped[i].name[j]);
            upper[j] = (char)toupper((unsigned char)dropped[i].name[j]);
        }
        check_dropped(dropped[i].name, i);
        check_dropped(lower, i);
        check_dropped(upper, i);
    }
    struct header malformed = {"A b", "c", 3, 1};
    assert_false(headers_pass_trailer(&malformed));
    malformed = (struct header){"A", "c\rd", 1, 3};
    assert_false(headers_pass_trailer(&malformed));
}

static void test_response_refused(void **state)
{
    static const struct refused lines[] = {
        {"Content-Length: 5\nContent-Length: 6\n", "two different"},
        {"Content-Length: 5, 6\n", "two different"},
        {"Content-Length: 5\nA: b\ncontent-length: 5, 05, 6\n", "two different"},
        {"Content-Length: 5,\n", "whole number"},
        {"Content-Length: ,5\n", "whole number"},
        {"Content-Length:\n", "whole number"},
        {"Content-Length: -5\n", "whole number"},
        {"Content-Length: +5\n", "whole number"},
        {"Content-Length: 0x5\n", "whole number"},
        {"Content-Length: 5 6\n", "whole number"},
        {"Content-Length: 9223372036854775808\n", "whole number"},
        {"Content-Length: 18446744073709551621\n", "whole number"},
        {"Content-Length: 5\nTransfer-Encoding: chunked\n", "both"},
        {"Transfer-Encoding: chunked\nContent-Length: 5\n", "both"},
        {"Transfer-Encoding: chunked\nTransfer-Encoding: chunked\n", "more than one"},
        {"Transfer-Encoding: gzip, chunked\n", "exactly chunked"},
        {"Transfer-Encoding: gzip\n", "exactly chunked"},
        {"Transfer-Encoding: identity\n", "exactly chunked"},
        {"Transfer-Encoding:\n", "exactly chunked"},
        {"Content-Length : 5\n", "token"},
        {" folded: a\n", "token"},
        {": a\n", "token"},
        {"A: b\rc\n", "control"},
        {"A: b\x01\n", "control"},
        {"Connection: a,b,c,d,e,f,g,h,i\n", "Connection names more"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(lines); i++) {
        struct fields fields = split(lines[i].lines);
        struct headers_response response = {200, fields.at, fields.count};
        struct headers_response_facts facts = {.content_length = 77};
        const char *detail = "taken";
        bool good = headers_check_response(&response, &facts, &detail);
        if (good || strstr(detail, lines[i].reason) == NULL) {
            fail_msg("%s: expected to be refused for its %s, found: %s", lines[i].lines,
                     lines[i].reason, detail);
        }
        assert_int_equal(facts.content_length, 77);
    }
}

/* The facts of an answer that must be good. */
static struct headers_response_facts response_facts(struct fields *fields, const char *lines)
{
    *fields = split(lines);
    struct headers_response response = {200, fields->at, fields->count};
    struct headers_response_facts facts;
    const char *detail = "untouched";
    if (!headers_check_response(&response, &facts, &detail)) {
        fail_msg("%s: expected to be taken, found: %s", lines, detail);
    }
    assert_string_equal(detail, "untouched");
    return facts;
}

static void test_response_facts(void **state)
{
    (void)state;
    struct fields fields;
    struct headers_response_facts facts = response_facts(&fields, "");
    assert_false(facts.has_length);
    assert_false(facts.chunked);
    facts = response_facts(&fields, "Content-Length: 5\n");
    assert_true(facts.has_length);
    assert_int_equal(facts.content_length, 5);
    facts = response_facts(&fields, "content-length: 5\nA: b\nContent-Length: 5, 05\t,5\n");
    assert_true(facts.has_length);
    assert_int_equal(facts.content_length, 5);
    facts = response_facts(&fields, "Content-Length: 9223372036854775807\n");
    assert_true(facts.content_length == INT64_MAX);
    facts = response_facts(&fields, "Transfer-Encoding: CHUNKED\nTrailer: A\n");
    assert_false(facts.has_length);
    assert_true(facts.chunked);
    facts = response_facts(&fields, "Connection: close, X-Hop, Via, Content-Type\nX-HOP: 1\n"
                                    "Via: 1.1 a\nContent-Type: t\nX-Other: \xff\t2\nHost: h\n");
    struct headers_response response = {200, fields.at, fields.count};
    static const bool expected[] = {false, false, true, true, true, true};
    for (size_t i = 0; i < COUNT(expected); i++) {
        assert_int_equal(headers_pass_response(&response, &facts, i), expected[i]);
    }
}

static void test_split(void **state)
{
    static const struct {
        const char *line;
        const char *name; /* NULL: refused */
        const char *value;
    } lines[] = {
        {"A: b", "A", "b"},
        {"A:b", "A", "b"},
        {"A:", "A", ""},
        {"A: \t ", "A", ""},
        {"Some-Name:\t b c \t", "Some-Name", "b c"},
        {"A: b: c", "A", "b: c"},
        {"", NULL, NULL},
        {"A", NULL, NULL},
        {": b", NULL, NULL},
        {" A: b", NULL, NULL},
        {"A : b", NULL, NULL},
        {"\tfolded: b", NULL, NULL},
        {"A b: c", NULL, NULL},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(lines); i++) {
        struct header field = {.value_bytes = 77};
        bool good = headers_split(lines[i].line, strlen(lines[i].line), &field);
        assert_int_equal(good, lines[i].name != NULL);
        if (!good) {
            assert_int_equal(field.value_bytes, 77);
            continue;
        }
        assert_int_equal(field.name_bytes, strlen(lines[i].name));
        assert_memory_equal(field.name, lines[i].name, field.name_bytes);
        assert_int_equal(field.value_bytes, strlen(lines[i].value));
        assert_memory_equal(field.value, lines[i].value, field.value_bytes);
        assert_true(headers_is(&field, lines[i].name));
    }
    struct header field = {"ETag", "x", 4, 1};
    assert_true(headers_is(&field, "etag"));
    assert_false(headers_is(&field, "eta"));
    assert_false(headers_is(&field, "etags"));
    assert_false(headers_is(&field, "etah"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ambiguous_lengths),
        cmocka_unit_test(test_malformed_fields),
        cmocka_unit_test(test_methods),
        cmocka_unit_test(test_length_facts),
        cmocka_unit_test(test_hosts_taken),
        cmocka_unit_test(test_expect),
        cmocka_unit_test(test_weir_fields),
        cmocka_unit_test(test_loops),
        cmocka_unit_test(test_request_id),
        cmocka_unit_test(test_trailer_facts),
        cmocka_unit_test(test_connection),
        cmocka_unit_test(test_dropped),
        cmocka_unit_test(test_response_refused),
        cmocka_unit_test(test_response_facts),
        cmocka_unit_test(test_split),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

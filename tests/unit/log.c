#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/log.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* The clock of this program, in place of the C library's; `now` is what it says. */
static struct timespec now = {.tv_sec = 1709251199, .tv_nsec = 998999999}; /* a leap day's end */

int clock_gettime(clockid_t clock, struct timespec *ret_now)
{
    (void)clock;
    *ret_now = now;
    return 0;
}

#define END        ((char *)NULL)
#define TEXT_MAX   8388608
#define PAD_BYTES  1000
#define LONG_LINES 5

static char text[TEXT_MAX + 1]; /* what was read back */
static size_t text_bytes;
static char pad[PAD_BYTES + 1];

/* A log with a pipe for each stream. */
struct fixture {
    int read_fd;
    int write_fd;
    int event_read_fd;
    int event_write_fd;
    struct log *log;
};

static struct fixture make_pipes(void)
{
    struct fixture f = {0};
    int access[2];
    int events[2];

    assert_int_equal(pipe2(access, O_CLOEXEC), 0);
    assert_int_equal(pipe2(events, O_CLOEXEC), 0);
    f.read_fd = access[0];
    f.write_fd = access[1];
    f.event_read_fd = events[0];
    f.event_write_fd = events[1];
    assert_int_equal(fcntl(f.read_fd, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(fcntl(f.event_read_fd, F_SETFL, O_NONBLOCK), 0);
    text_bytes = 0;
    return f;
}

static struct fixture make(enum config_level level)
{
    struct fixture f = make_pipes();

    f.log = log_create(f.write_fd, f.event_write_fd, true, level);
    assert_non_null(f.log);
    return f;
}

static void end(struct fixture *f)
{
    log_destroy(f->log);
    close(f->read_fd);
    close(f->write_fd);
    close(f->event_read_fd);
    close(f->event_write_fd);
}

/* Appends to `text` what FD has now, at most MOST. */
static void read_back(int fd, size_t most)
{
    ssize_t bytes = 1;

    while (bytes > 0 && most > 0) {
        size_t room = TEXT_MAX - text_bytes;

        bytes = read(fd, text + text_bytes, most < room ? most : room);
        text_bytes += bytes > 0 ? (size_t)bytes : 0;
        most -= bytes > 0 ? (size_t)bytes : 0;
    }
    text[text_bytes] = '\0';
}

/* What FD has now, as text. */
static const char *read_all(int fd)
{
    text_bytes = 0;
    read_back(fd, TEXT_MAX);
    return text;
}

static json_t *parse(const char *line, size_t bytes)
{
    json_error_t error;
    json_t *value = json_loadb(line, bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);

    if (value == NULL) {
        print_error("%.*s: %s\n", (int)bytes, line, error.text);
    }
    assert_non_null(value);
    return value;
}

/* Every line of `text` has to be JSON; returns how many have MEMBER, and the sum of its numbers. */
static size_t count_lines(const char *member, long long *ret_sum)
{
    size_t count = 0;

    *ret_sum = 0;
    for (char *line = text; *line != '\0';) {
        char *line_end = strchr(line, '\n');

        assert_non_null(line_end);
        json_t *value = parse(line, (size_t)(line_end - line));
        json_t *number = json_object_get(value, member);

        if (number != NULL) {
            count++;
            *ret_sum += json_is_string(number) ? strtoll(json_string_value(number), NULL, 10)
                                               : json_integer_value(number);
        }
        json_decref(value);
        line = line_end + 1;
    }
    return count;
}

static void write_numbered(struct log *log, uint64_t number)
{
    log_write_request(
        log, &(struct log_request){
                 .path = pad, .path_bytes = PAD_BYTES, .bytes_in = number, .outcome = "ok"});
}

static void request_is_one_line(void **state)
{
    static const char expected[] =
        "{\"time\":\"2024-02-29T23:59:59.998Z\",\"id\":\"abc\",\"client\":\"127.0.0.1:51234\","
        "\"form\":\"fetch\",\"method\":\"GET\","
        "\"host\":\"example.com\",\"path\":\"/a%2Fb\",\"status\":200,\"bytes_in\":0,"
        "\"bytes_out\":18446744073709551615,\"queue_ms\":12.345,\"fetch_ms\":0.007,\"ahead\":2,"
        "\"outcome\":\"ok\"}\n";
    struct fixture f = make(CONFIG_LEVEL_INFO);

    (void)state;
    log_write_request(f.log, &(struct log_request){
                                 .id = "abc",
                                 .client = "127.0.0.1:51234",
                                 .form = "fetch",
                                 .method = "GET",
                                 .host = "example.com",
                                 .path = "/a%2Fb?secret",
                                 .path_bytes = 6,
                                 .status = 200,
                                 .bytes_out = UINT64_MAX,
                                 .queue_ns = 12345678,
                                 .fetch_ns = 7999,
                                 .ahead = 2,
                                 .outcome = "ok",
                             });
    assert_string_equal(read_all(f.read_fd), "");
    assert_false(log_flush(f.log));
    (void)read_all(f.read_fd);
    assert_string_equal(text, expected);
    assert_string_equal(read_all(f.event_read_fd), "");
    end(&f);
}

static void time_is_that_of_the_line(void **state)
{
    static const struct {
        struct timespec now;
        const char *expected;
    } cases[] = {
        {{.tv_sec = 1709251199, .tv_nsec = 999999999}, "2024-02-29T23:59:59.999Z"},
        {{.tv_sec = 1709251200, .tv_nsec = 0}, "2024-03-01T00:00:00.000Z"},
        {{.tv_sec = 1709251200, .tv_nsec = 50000000}, "2024-03-01T00:00:00.050Z"},
        {{.tv_sec = 1709251199, .tv_nsec = 0}, "2024-02-29T23:59:59.000Z"},   /* set back */
        {{.tv_sec = 253402300800, .tv_nsec = 0}, "???????????????????.000Z"}, /* in five figures */
        {{.tv_sec = 0, .tv_nsec = 7000000}, "1970-01-01T00:00:00.007Z"},
    };
    struct fixture f = make(CONFIG_LEVEL_INFO);
    struct timespec before = now;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char expected[60];

        now = cases[i].now;
        log_event(f.log, CONFIG_LEVEL_INFO, "x", END);
        assert_false(log_flush(f.log));
        int bytes = snprintf(expected, sizeof expected, "{\"time\":\"%s\",", cases[i].expected);

        assert_memory_equal(read_all(f.event_read_fd), expected, (size_t)bytes);
    }
    now = before;
    end(&f);
}

static void absent_strings_are_left_out(void **state)
{
    struct fixture f = make(CONFIG_LEVEL_INFO);

    (void)state;
    log_write_request(f.log, &(struct log_request){.method = "", .outcome = "client_gone"});
    log_event(f.log, CONFIG_LEVEL_INFO, "started", "a", NULL, "b", "", "c", "x", END);
    assert_false(log_flush(f.log));
    const char *line = strchr(read_all(f.read_fd), ',');

    assert_string_equal(line, ",\"method\":\"\",\"status\":0,\"bytes_in\":0,\"bytes_out\":0,"
                              "\"queue_ms\":0.000,\"fetch_ms\":0.000,\"ahead\":0,"
                              "\"outcome\":\"client_gone\"}\n");
    line = strchr(read_all(f.event_read_fd), ',');
    assert_string_equal(line,
                        ",\"level\":\"info\",\"event\":\"started\",\"b\":\"\",\"c\":\"x\"}\n");
    end(&f);
}

static void strings_may_hold_any_bytes(void **state)
{
    static const struct {
        const char *value;
        const char *expected;
    } cases[] = {
        {"a\"b\\c/", "a\\\"b\\\\c/"},
        {"\r\n\t\x1b[0m\x7f", "\\u000d\\u000a\\u0009\\u001b[0m\\u007f"},
        {"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"\xc2\x9b", "\\u00c2\\u009b"},            /* a control that terminals obey */
        {"\xc2\xa0", "\xc2\xa0"},                  /* the first after those */
        {"\xff\x80\xc0", "\\u00ff\\u0080\\u00c0"}, /* never in UTF-8 */
        {"\xc1\xbf", "\\u00c1\\u00bf"},            /* longer than needed */
        {"\xe0\x9f\xbf", "\\u00e0\\u009f\\u00bf"}, /* the same, of three */
        {"\xf0\x8f\xbf\xbf", "\\u00f0\\u008f\\u00bf\\u00bf"},
        {"\xed\xa0\x80", "\\u00ed\\u00a0\\u0080"},                /* a surrogate */
        {"\xed\x9f\xbf\xee\x80\x80", "\xed\x9f\xbf\xee\x80\x80"}, /* their neighbours */
        {"\xf4\x90\x80\x80", "\\u00f4\\u0090\\u0080\\u0080"},     /* past U+10FFFF */
        {"\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf"},
        {"\xe2\x82", "\\u00e2\\u0082"}, /* cut off */
        {"\xe2\x82z", "\\u00e2\\u0082z"},
    };
    struct fixture f = make(CONFIG_LEVEL_INFO);
    char every[256];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char expected[200];

        log_event(f.log, CONFIG_LEVEL_INFO, "x", "v", cases[i].value, END);
        assert_false(log_flush(f.log));
        (void)snprintf(expected, sizeof expected,
                       ",\"level\":\"info\",\"event\":\"x\",\"v\":\"%s\"}\n", cases[i].expected);
        assert_string_equal(strchr(read_all(f.event_read_fd), ','), expected);
        json_decref(parse(text, text_bytes));
    }
    for (size_t i = 0; i < sizeof every; i++) {
        every[i] = (char)i;
    }
    log_write_request(f.log, &(struct log_request){.path = every, .path_bytes = sizeof every});
    assert_false(log_flush(f.log));
    (void)read_all(f.read_fd);
    assert_non_null(strstr(text, "\"path\":\"\\u0000\\u0001"));
    json_decref(parse(text, text_bytes));
    /* A path that ends within a character, whatever stands behind it. */
    log_write_request(f.log, &(struct log_request){.path = "/\xc3\xa9", .path_bytes = 2});
    assert_false(log_flush(f.log));
    assert_non_null(strstr(read_all(f.read_fd), "\"path\":\"/\\u00c3\","));
    end(&f);
}

static void settings_say_what_is_written(void **state)
{
    struct fixture f = make(CONFIG_LEVEL_WARNING);
    long long sum;

    (void)state;
    log_event(f.log, CONFIG_LEVEL_INFO, "b", "n", "2", END);
    log_event(f.log, CONFIG_LEVEL_WARNING, "c", "n", "4", END);
    log_event(f.log, CONFIG_LEVEL_ERROR, "d", "n", "8", END);
    write_numbered(f.log, 1);
    log_configure(f.log, false, CONFIG_LEVEL_INFO);
    log_event(f.log, CONFIG_LEVEL_INFO, "e", "n", "16", END);
    write_numbered(f.log, 2);
    assert_false(log_flush(f.log));
    (void)read_all(f.event_read_fd);
    assert_int_equal(count_lines("n", &sum), 3);
    assert_int_equal(sum, 28);
    assert_non_null(strstr(text, "\"level\":\"warning\",\"event\":\"c\""));
    assert_non_null(strstr(text, "\"level\":\"error\",\"event\":\"d\""));
    assert_non_null(strstr(text, "\"level\":\"info\",\"event\":\"e\""));
    (void)read_all(f.read_fd);
    assert_int_equal(count_lines("bytes_in", &sum), 1);
    assert_int_equal(sum, 1);
    end(&f);
}

static void nowhere_is_good(void **state)
{
    struct log *log = log_create(-1, -1, true, CONFIG_LEVEL_INFO);

    (void)state;
    assert_non_null(log);
    write_numbered(log, 1);
    log_event(log, CONFIG_LEVEL_ERROR, "x", END);
    assert_false(log_flush(log));
    log_destroy(log);
    log_destroy(NULL);
}

/*
 * Fills F's access pipe with numbered lines until one flush leaves some, makes a little room for
 * much more, and does so again; returns how many lines there are.
 */
static uint64_t fill(struct fixture *f)
{
    uint64_t count = 0;

    do {
        write_numbered(f->log, ++count);
        assert_true(count < 10000);
    } while (!log_flush(f->log));
    for (int i = 0; i < 40; i++) {
        write_numbered(f->log, ++count);
    }
    text_bytes = 0;
    read_back(f->read_fd, 6000);
    assert_true(log_flush(f->log));
    return count;
}

/* Reads all and expects the numbers 1 to COUNT. */
static void expect_numbers(struct fixture *f, uint64_t count)
{
    long long sum;
    bool left = true;

    read_back(f->read_fd, TEXT_MAX);
    while (left) {
        left = log_flush(f->log);
        read_back(f->read_fd, TEXT_MAX);
    }
    assert_int_equal(count_lines("bytes_in", &sum), count);
    assert_int_equal(sum, count * (count + 1) / 2);
    assert_int_equal(fcntl(f->write_fd, F_GETFL) & (O_NONBLOCK | O_APPEND), 0);
}

static void full_pipe_does_not_block(void **state)
{
    struct fixture f = make(CONFIG_LEVEL_INFO);
    uint64_t count = fill(&f);

    (void)state;
    write_numbered(f.log, ++count);
    assert_true(log_flush(f.log));
    /* A shared pipe: the others who write to it see nothing of how we do. */
    assert_int_equal(fcntl(f.write_fd, F_GETFL) & (O_NONBLOCK | O_APPEND), 0);
    read_back(f.read_fd, 10000);
    (void)log_flush(f.log);
    expect_numbers(&f, count);
    end(&f);
}

static void full_pipe_that_cannot_be_opened_again_does_not_block(void **state)
{
    struct fixture f = make_pipes();
    struct rlimit limit;
    struct rlimit none;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    f.log = log_create(f.write_fd, f.event_write_fd, true, CONFIG_LEVEL_INFO);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_non_null(f.log);
    expect_numbers(&f, fill(&f));
    end(&f);
}

static void full_socket_does_not_block(void **state)
{
    struct fixture f = make_pipes();
    int pair[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    close(f.read_fd);
    close(f.write_fd);
    f.read_fd = pair[0];
    f.write_fd = pair[1];
    assert_int_equal(fcntl(f.read_fd, F_SETFL, O_NONBLOCK), 0);
    f.log = log_create(f.write_fd, f.event_write_fd, true, CONFIG_LEVEL_INFO);
    assert_non_null(f.log);
    expect_numbers(&f, fill(&f));
    end(&f);
}

static void events_that_are_left_are_told_of(void **state)
{
    struct fixture f = make(CONFIG_LEVEL_INFO);
    int count = 0;
    long long sum;

    (void)state;
    do {
        log_event(f.log, CONFIG_LEVEL_INFO, "x", "n", "1", "pad", pad, END);
        assert_true(++count < 10000);
    } while (!log_flush(f.log));
    read_back(f.event_read_fd, TEXT_MAX);
    assert_false(log_flush(f.log));
    read_back(f.event_read_fd, TEXT_MAX);
    assert_int_equal(count_lines("n", &sum), count);
    end(&f);
}

static void expect_blocked(int event_read_fd, int error)
{
    char expected[256];
    char told[512]; /* `text` may have lines of the other stream */
    ssize_t bytes = read(event_read_fd, told, sizeof told - 1);

    assert_true(bytes > 0);
    told[bytes] = '\0';
    (void)snprintf(expected, sizeof expected,
                   "\"level\":\"warning\",\"event\":\"log_blocked\",\"stream\":\"access\","
                   "\"error\":\"%s\"}\n",
                   strerror(error));
    const char *found = strstr(told, expected);

    assert_non_null(found);
    assert_string_equal(found, expected); /* and nothing else */
    assert_null(memchr(told, '\n', (size_t)(found - told)));
}

static void lines_past_the_bound_are_dropped_and_counted(void **state)
{
    struct fixture f = make(CONFIG_LEVEL_INFO);
    uint64_t count = fill(&f);
    long long sum;
    long long dropped;

    (void)state;
    for (; count < 3000; count++) {
        write_numbered(f.log, count + 1);
    }
    assert_true(log_flush(f.log));
    /* Nor is one kept that is longer than what a slow reader has made room for. */
    for (int i = 0; i < LONG_LINES; i++) {
        read_back(f.read_fd, 5000);
        assert_true(log_flush(f.log));
        log_write_request(f.log, &(struct log_request){.path = text, .path_bytes = 60000});
    }
    bool left = true;

    /* That it is blocked is told at once, how much was lost not before it flows again. */
    expect_blocked(f.event_read_fd, EAGAIN);

    while (left) {
        read_back(f.read_fd, TEXT_MAX);
        left = log_flush(f.log);
    }
    read_back(f.read_fd, TEXT_MAX);
    write_numbered(f.log, ++count);
    assert_false(log_flush(f.log));
    read_back(f.read_fd, TEXT_MAX);
    size_t lines = count_lines("bytes_in", &sum);

    /* Those that were kept are the oldest, whole, about 1 MiB of them, and the one afterwards. */
    assert_in_range(text_bytes, 1048576 - 2 * PAD_BYTES, 1048576 + 131072);
    assert_int_equal(sum, (lines - 1) * lines / 2 + count);
    (void)read_all(f.event_read_fd);
    assert_non_null(strstr(text, "\"level\":\"warning\",\"event\":\"log_dropped\","
                                 "\"stream\":\"access\",\"lines\":"));
    assert_int_equal(count_lines("lines", &dropped), 1);
    assert_int_equal(lines + (size_t)dropped, count + LONG_LINES);
    write_numbered(f.log, 1);
    assert_false(log_flush(f.log));
    assert_string_equal(read_all(f.event_read_fd), "");
    end(&f);
}

static void a_turn_may_gather_more_than_the_bound(void **state)
{
    struct fixture f = make_pipes();
    char path[] = "/tmp/weir_log_XXXXXX";
    long long sum;
    int fd = mkstemp(path);

    (void)state;
    assert_true(fd >= 0);
    unlink(path);
    f.log = log_create(fd, f.event_write_fd, true, CONFIG_LEVEL_INFO);
    assert_non_null(f.log);
    for (uint64_t i = 1; i <= 3000; i++) {
        write_numbered(f.log, i);
    }
    assert_false(log_flush(f.log));
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    (void)read_all(fd);
    assert_int_equal(count_lines("bytes_in", &sum), 3000);
    assert_int_equal(sum, 3000LL * 3001 / 2);
    close(fd);
    end(&f);
}

static void two_streams_in_one_file_do_not_cut_each_other(void **state)
{
    struct fixture f = make_pipes();
    int other_fd = dup(f.write_fd);
    long long sum;
    long long events;

    (void)state;
    f.log = log_create(f.write_fd, other_fd, true, CONFIG_LEVEL_INFO);
    assert_non_null(f.log);
    bool left = true;

    for (uint64_t i = 1; i <= 400; i++) {
        char number[30];

        write_numbered(f.log, i);
        (void)snprintf(number, sizeof number, "%u", (unsigned)i);
        log_event(f.log, CONFIG_LEVEL_INFO, "x", "n", number, "pad", pad, END);
        (void)log_flush(f.log);
        if (i % 100 == 0) {
            read_back(f.read_fd, 5000);
        }
    }
    while (left) {
        read_back(f.read_fd, TEXT_MAX);
        left = log_flush(f.log);
    }
    read_back(f.read_fd, TEXT_MAX);
    assert_int_equal(count_lines("bytes_in", &sum), 400);
    assert_int_equal(count_lines("n", &events), 400);
    assert_int_equal(sum, 400 * 401 / 2);
    assert_int_equal(events, sum);
    close(other_fd);
    end(&f);
}

static void expect_lost(int fd, const char *stream, int error)
{
    char expected[200];

    (void)snprintf(expected, sizeof expected,
                   ",\"level\":\"error\",\"event\":\"log_lost\",\"stream\":\"%s\","
                   "\"error\":\"%s\"}\n",
                   stream, strerror(error));
    const char *line = strchr(read_all(fd), ',');

    assert_non_null(line);
    assert_string_equal(line, expected);
}

static void lost_stream_is_told_on_the_other_once(void **state)
{
    struct fixture f = make(CONFIG_LEVEL_INFO);

    (void)state;
    close(f.read_fd);
    write_numbered(f.log, 1);
    assert_false(log_flush(f.log));
    expect_lost(f.event_read_fd, "access", EPIPE);
    write_numbered(f.log, 2);
    log_event(f.log, CONFIG_LEVEL_INFO, "still", END);
    assert_false(log_flush(f.log));
    assert_non_null(strstr(read_all(f.event_read_fd), "\"event\":\"still\""));
    assert_null(strstr(text, "log_lost"));
    /* The other one too: nobody is left to tell, and the service goes on. */
    close(f.event_read_fd);
    log_event(f.log, CONFIG_LEVEL_INFO, "gone", END);
    assert_false(log_flush(f.log));
    log_event(f.log, CONFIG_LEVEL_INFO, "gone", END);
    assert_false(log_flush(f.log));
    log_destroy(f.log);
    close(f.write_fd);
    close(f.event_write_fd);

    f = make(CONFIG_LEVEL_INFO);
    close(f.event_read_fd);
    log_event(f.log, CONFIG_LEVEL_INFO, "gone", END);
    assert_false(log_flush(f.log));
    expect_lost(f.read_fd, "event", EPIPE);
    write_numbered(f.log, 3);
    assert_false(log_flush(f.log));
    assert_non_null(strstr(read_all(f.read_fd), "\"bytes_in\":3,"));
    log_destroy(f.log);
    close(f.read_fd);
    close(f.write_fd);
    close(f.event_write_fd);
}

static void closed_descriptor_is_told_and_not_taken_for_another(void **state)
{
    struct fixture f = make_pipes();

    (void)state;
    /* Their numbers are the next that an open gets, such as the log's own for the event stream. */
    close(f.read_fd);
    close(f.write_fd);
    f.log = log_create(f.read_fd, f.event_write_fd, true, CONFIG_LEVEL_INFO);
    assert_non_null(f.log);
    write_numbered(f.log, 1);
    assert_false(log_flush(f.log));
    expect_lost(f.event_read_fd, "access", EBADF);
    log_destroy(f.log);

    f.log = log_create(f.event_write_fd, f.read_fd, true, CONFIG_LEVEL_INFO);
    assert_non_null(f.log);
    assert_false(log_flush(f.log));
    expect_lost(f.event_read_fd, "event", EBADF);
    log_destroy(f.log);
    /* One that only holds the number, as main() leaves it, and one that only reads. */
    int path_fd = open("/", O_PATH | O_CLOEXEC);
    int read_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    for (int i = 0; i < 2; i++) {
        f.log = log_create(i == 0 ? path_fd : read_fd, f.event_write_fd, true, CONFIG_LEVEL_INFO);
        assert_non_null(f.log);
        assert_false(log_flush(f.log));
        expect_lost(f.event_read_fd, "access", EBADF);
        log_destroy(f.log);
    }
    close(path_fd);
    close(read_fd);
    close(f.event_read_fd);
    close(f.event_write_fd);
}

static void full_disk_is_waited_for(void **state)
{
    struct fixture f = make_pipes();
    int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

    (void)state;
    assert_true(fd >= 0);
    f.log = log_create(fd, f.event_write_fd, true, CONFIG_LEVEL_INFO);
    assert_non_null(f.log);
    write_numbered(f.log, 1);
    assert_true(log_flush(f.log));
    assert_true(log_flush(f.log));
    expect_blocked(f.event_read_fd, ENOSPC);
    write_numbered(f.log, 2);
    assert_true(log_flush(f.log));
    assert_string_equal(read_all(f.event_read_fd), "");
    close(fd);
    end(&f);
}

static void what_was_gathered_is_forgotten(void **state)
{
    struct fixture f = make(CONFIG_LEVEL_INFO);

    (void)state;
    write_numbered(f.log, 7);
    log_event(f.log, CONFIG_LEVEL_INFO, "early", END);
    log_forget(f.log);
    write_numbered(f.log, 8);
    assert_false(log_flush(f.log));
    assert_string_equal(read_all(f.event_read_fd), "");
    assert_null(strstr(read_all(f.read_fd), "\"bytes_in\":7,"));
    assert_non_null(strstr(text, "\"bytes_in\":8,"));
    end(&f);
}

static void destroy_writes_the_rest(void **state)
{
    struct fixture f = make(CONFIG_LEVEL_INFO);

    (void)state;
    write_numbered(f.log, 7);
    log_destroy(f.log);
    f.log = NULL;
    assert_non_null(strstr(read_all(f.read_fd), "\"bytes_in\":7,"));
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(request_is_one_line),
        cmocka_unit_test(time_is_that_of_the_line),
        cmocka_unit_test(absent_strings_are_left_out),
        cmocka_unit_test(strings_may_hold_any_bytes),
        cmocka_unit_test(settings_say_what_is_written),
        cmocka_unit_test(nowhere_is_good),
        cmocka_unit_test(full_pipe_does_not_block),
        cmocka_unit_test(full_pipe_that_cannot_be_opened_again_does_not_block),
        cmocka_unit_test(full_socket_does_not_block),
        cmocka_unit_test(events_that_are_left_are_told_of),
        cmocka_unit_test(lines_past_the_bound_are_dropped_and_counted),
        cmocka_unit_test(a_turn_may_gather_more_than_the_bound),
        cmocka_unit_test(two_streams_in_one_file_do_not_cut_each_other),
        cmocka_unit_test(lost_stream_is_told_on_the_other_once),
        cmocka_unit_test(closed_descriptor_is_told_and_not_taken_for_another),
        cmocka_unit_test(full_disk_is_waited_for),
        cmocka_unit_test(what_was_gathered_is_forgotten),
        cmocka_unit_test(destroy_writes_the_rest),
    };

    (void)signal(SIGPIPE, SIG_IGN); /* as the service does */
    memset(pad, 'p', PAD_BYTES);
    (void)alarm(60); /* a write that blocks ends the test rather than hanging it */
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * The configuration: every key, flag and variable, which source wins, and every error word for
 * word. The tests run in a directory of their own, so that messages name the plain "weir.json".
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/config.h"
#include "api/duration.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

#define ADDRESS \
    "expected an address and port such as 127.0.0.1:8080 or [::1]:8080, or unix:/path/of/a/socket"
#define HOST \
    "expected a host such as api.example.com, api.example.com:8443, [::1]:8443 or *.example.org"
#define LIMIT    "expected a whole number from 1 to 1000000"
#define QUEUE    "expected a whole number from 0 to 1000000"
#define DURATION "expected a duration such as 250ms, 5s, 2m or 1h, or 0"

static char directory[] = "/tmp/weir-config-XXXXXX";

static int enter_directory(void **state)
{
    (void)state;
    return mkdtemp(directory) != NULL && chdir(directory) == 0 ? 0 : -1;
}

static int leave_directory(void **state)
{
    (void)state;
    (void)remove("weir.json");
    return chdir("/") == 0 && rmdir(directory) == 0 ? 0 : -1;
}

static void write_file(const char *text, size_t bytes)
{
    FILE *file = fopen("weir.json", "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

/* Splits TEXT, which it changes, at spaces; a word of "''" is empty. */
static int split(char *text, const char *words[], int room)
{
    int count = 0;
    char *rest = NULL;
    for (char *word = strtok_r(text, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        assert_true(count < room - 1);
        words[count++] = strcmp(word, "''") == 0 ? "" : word;
    }
    words[count] = NULL;
    return count;
}

/* FLAGS and VARIABLES are separated by spaces. */
static enum config_action read_config(const char *flags, const char *variables,
                                      struct config **ret_config, char **ret_error)
{
    char flags_text[512];
    char variables_text[512];
    const char *argv[32] = {"weir"};
    const char *environment[32];
    snprintf(flags_text, sizeof flags_text, "%s", flags);
    snprintf(variables_text, sizeof variables_text, "%s", variables);
    int argc = 1 + split(flags_text, argv + 1, 31);
    split(variables_text, environment, 32);
    *ret_config = NULL;
    *ret_error = NULL;
    return config_read(argc, (char *const *)argv, (char *const *)environment, ret_config,
                       ret_error);
}

static struct config *good_config(const char *flags, const char *variables)
{
    struct config *config;
    char *error;
    enum config_action action = read_config(flags, variables, &config, &error);
    if (error != NULL) {
        print_error("%s\n", error);
    }
    assert_int_equal(action, CONFIG_RUN);
    assert_null(error);
    assert_non_null(config);
    return config;
}

static struct config *good_file(const char *text)
{
    write_file(text, strlen(text));
    return good_config("--config weir.json", "");
}

static void check_bad(const char *flags, const char *variables, enum config_action action,
                      const char *expected)
{
    struct config *config;
    char *error;
    assert_int_equal(read_config(flags, variables, &config, &error), action);
    assert_null(config);
    assert_non_null(error);
    assert_string_equal(error, expected);
    free(error);
}

static void check_bad_file(const char *text, const char *expected)
{
    write_file(text, strlen(text));
    check_bad("--config weir.json", "", CONFIG_BAD, expected);
}

static void check_listen(const struct config_listen *listen, const char *text, const char *address,
                         unsigned port)
{
    assert_string_equal(listen->text, text);
    assert_string_equal(listen->address, address);
    assert_int_equal(listen->port, port);
}

static void check_rule(const struct config *config, const char *host, const char *name,
                       unsigned limit, unsigned queue, uint64_t queue_timeout_ns, bool shared)
{
    const struct rule *rule = rules_match(config->rules, host);
    assert_string_equal(rule->name, name);
    assert_int_equal(rule->limit, limit);
    assert_int_equal(rule->queue, queue);
    assert_int_equal(rule->queue_timeout_ns, queue_timeout_ns);
    assert_int_equal(rule->shared, shared);
}

static void test_defaults(void **state)
{
    (void)state;
    struct config *config = good_config("", "");
    assert_int_equal(config->listen_count, 1);
    check_listen(&config->listen[0], "127.0.0.1:8080", "127.0.0.1", 8080);
    check_listen(&config->admin_listen, "127.0.0.1:9901", "127.0.0.1", 9901);
    check_rule(config, "a.example", "default", 3, 1000, 30 * DURATION_S, false);
    assert_int_equal(rules_count(config->rules), 0);
    assert_int_equal(config->bounds.limit, 512);
    assert_int_equal(config->bounds.queue, 10000);
    assert_int_equal(config->bounds.hosts_max, 10000);
    assert_int_equal(config->overflow_status, 503);
    assert_int_equal(config->connections_max, 10000);
    assert_int_equal(config->header_bytes, 16384);
    assert_int_equal(config->timeouts.head_ns, 10 * DURATION_S);
    assert_int_equal(config->timeouts.keepalive_ns, 75 * DURATION_S);
    assert_int_equal(config->timeouts.connect_ns, 5 * DURATION_S);
    assert_int_equal(config->timeouts.first_byte_ns, 60 * DURATION_S);
    assert_int_equal(config->timeouts.upstream_idle_ns, 60 * DURATION_S);
    assert_int_equal(config->timeouts.client_idle_ns, 60 * DURATION_S);
    assert_int_equal(config->timeouts.fetch_ns, 0);
    assert_int_equal(config->timeouts.upstream_keepalive_ns, 30 * DURATION_S);
    assert_int_equal(config->timeouts.drain_ns, 25 * DURATION_S);
    assert_int_equal(config->access_log, CONFIG_LOG_JSON);
    assert_int_equal(config->level, CONFIG_LEVEL_INFO);
    assert_null(config->tls.ca_file);
    config_destroy(config);
    config_destroy(NULL);
}

static void test_every_key(void **state)
{
    (void)state;
    struct config *config = good_file(
        "{ \"listen\": [\"127.0.0.1:8081\", \"[0:0::1]:8082\", \"0.0.0.0:0\", \"0.0.0.0:0\"],\n"
        "  \"admin\": {\"listen\": \"LOCALHOST:9902\"},\n"
        "  \"limits\": {\n"
        "    \"default\": {\"limit\": 4, \"queue\": 5, \"queue_timeout\": \"6s\"},\n"
        "    \"total\": {\"limit\": 7, \"queue\": 0},\n"
        "    \"hosts\": {\n"
        "      \"a.example\": {\"limit\": 9},\n"
        "      \"b.example:8443\": {\"queue\": 0},\n"
        "      \"c.example\": {\"queue_timeout\": 0},\n"
        "      \"d.example\": {},\n"
        "      \"*.shared.example\": {\"limit\": 1, \"queue\": 2, \"queue_timeout\": \"3ms\",\n"
        "                           \"scope\": \"shared\"},\n"
        "      \"*.each.example\": {\"scope\": \"each\"}},\n"
        "    \"hosts_max\": 10},\n"
        "  \"overflow_status\": 429,\n"
        "  \"connections\": 11,\n"
        "  \"header_bytes\": 4096,\n"
        "  \"timeouts\": {\"head\": \"1s\", \"keepalive\": \"2s\", \"connect\": \"3s\",\n"
        "     \"first_byte\": \"4s\", \"upstream_idle\": \"5s\", \"client_idle\": \"6s\",\n"
        "     \"fetch\": \"7s\", \"upstream_keepalive\": \"8s\", \"drain\": \"0\"},\n"
        "  \"log\": {\"access\": \"none\", \"level\": \"warning\"},\n"
        "  \"tls\": {\"ca_file\": \"weir.json\"} }\n");
    assert_int_equal(config->listen_count, 4);
    check_listen(&config->listen[0], "127.0.0.1:8081", "127.0.0.1", 8081);
    check_listen(&config->listen[1], "[::1]:8082", "::1", 8082);
    check_listen(&config->listen[2], "0.0.0.0:0", "0.0.0.0", 0);
    check_listen(&config->listen[3], "0.0.0.0:0", "0.0.0.0", 0);
    check_listen(&config->admin_listen, "127.0.0.1:9902", "127.0.0.1", 9902);
    check_rule(config, "z.example", "default", 4, 5, 6 * DURATION_S, false);
    check_rule(config, "a.example", "a.example", 9, 5, 6 * DURATION_S, false);
    check_rule(config, "b.example:8443", "b.example:8443", 4, 0, 6 * DURATION_S, false);
    check_rule(config, "c.example", "c.example", 4, 5, 0, false);
    check_rule(config, "d.example", "d.example", 4, 5, 6 * DURATION_S, false);
    check_rule(config, "a.shared.example", "*.shared.example", 1, 2, 3 * DURATION_MS, true);
    check_rule(config, "a.each.example", "*.each.example", 4, 5, 6 * DURATION_S, false);
    assert_int_equal(rules_count(config->rules), 6);
    assert_int_equal(config->bounds.limit, 7);
    assert_int_equal(config->bounds.queue, 0);
    assert_int_equal(config->bounds.hosts_max, 10);
    assert_int_equal(config->overflow_status, 429);
    assert_int_equal(config->connections_max, 11);
    assert_int_equal(config->header_bytes, 4096);
    assert_int_equal(config->timeouts.head_ns, 1 * DURATION_S);
    assert_int_equal(config->timeouts.keepalive_ns, 2 * DURATION_S);
    assert_int_equal(config->timeouts.connect_ns, 3 * DURATION_S);
    assert_int_equal(config->timeouts.first_byte_ns, 4 * DURATION_S);
    assert_int_equal(config->timeouts.upstream_idle_ns, 5 * DURATION_S);
    assert_int_equal(config->timeouts.client_idle_ns, 6 * DURATION_S);
    assert_int_equal(config->timeouts.fetch_ns, 7 * DURATION_S);
    assert_int_equal(config->timeouts.upstream_keepalive_ns, 8 * DURATION_S);
    assert_int_equal(config->timeouts.drain_ns, 0);
    assert_int_equal(config->access_log, CONFIG_LOG_NONE);
    assert_int_equal(config->level, CONFIG_LEVEL_WARNING);
    assert_string_equal(config->tls.ca_file, "weir.json");
    config_destroy(config);
}

static void test_every_flag(void **state)
{
    (void)state;
    struct config *config =
        good_config("--listen 127.0.0.1:1 --listen=[::1]:2 --admin 127.0.0.1:3 --limit 4 --limit "
                    "a.example=5 --limit *.b.example=6 --limit=[::1]:8443=7 --limit a.example=8 "
                    "--queue 9 --queue-timeout 10s --log-format none",
                    "");
    assert_int_equal(config->listen_count, 2);
    check_listen(&config->listen[0], "127.0.0.1:1", "127.0.0.1", 1);
    check_listen(&config->listen[1], "[::1]:2", "::1", 2);
    check_listen(&config->admin_listen, "127.0.0.1:3", "127.0.0.1", 3);
    check_rule(config, "z.example", "default", 4, 9, 10 * DURATION_S, false);
    check_rule(config, "a.example", "a.example", 8, 9, 10 * DURATION_S, false);
    check_rule(config, "a.b.example", "*.b.example", 6, 9, 10 * DURATION_S, false);
    check_rule(config, "[::1]:8443", "[::1]:8443", 7, 9, 10 * DURATION_S, false);
    assert_int_equal(config->access_log, CONFIG_LOG_NONE);
    config_destroy(config);
}

static void test_every_variable(void **state)
{
    (void)state;
    write_file("{\"connections\": 77}", 19);
    struct config *config = good_config(
        "", "WEIR_LISTEN=127.0.0.1:1,[::1]:2 WEIR_ADMIN=127.0.0.1:3 WEIR_LIMIT=4,a.example=5 "
            "WEIR_QUEUE=6 WEIR_QUEUE_TIMEOUT=7s WEIR_CONFIG=weir.json WEIR_LOG_FORMAT=none");
    assert_int_equal(config->listen_count, 2);
    check_listen(&config->listen[0], "127.0.0.1:1", "127.0.0.1", 1);
    check_listen(&config->listen[1], "[::1]:2", "::1", 2);
    check_listen(&config->admin_listen, "127.0.0.1:3", "127.0.0.1", 3);
    check_rule(config, "z.example", "default", 4, 6, 7 * DURATION_S, false);
    check_rule(config, "a.example", "a.example", 5, 6, 7 * DURATION_S, false);
    assert_int_equal(config->access_log, CONFIG_LOG_NONE);
    assert_int_equal(config->connections_max, 77);
    config_destroy(config);
}

/* Empty ones are as good as not there, and other programs' are not ours. */
static void test_variables_that_say_nothing(void **state)
{
    (void)state;
    struct config *config =
        good_config("", "WEIR_LIMIT= WEIR_CONFIG= WEIR_LISTEN= WEIR_PORT=tcp://10.0.0.1:8080 "
                        "WEIR_SERVICE_HOST=10.0.0.1 WEIR_LIMITS=x WEIR_LIMI=x XWEIR_LIMIT=x WEIR");
    check_rule(config, "z.example", "default", 3, 1000, 30 * DURATION_S, false);
    check_listen(&config->listen[0], "127.0.0.1:8080", "127.0.0.1", 8080);
    config_destroy(config);

    char *const spaced[] = {(char *)"WEIR_LIMIT= 4 , a.example=5 ", NULL};
    char *const argv[] = {(char *)"weir", NULL};
    char *error = NULL;
    assert_int_equal(config_read(1, argv, spaced, &config, &error), CONFIG_RUN);
    check_rule(config, "z.example", "default", 4, 1000, 30 * DURATION_S, false);
    check_rule(config, "a.example", "a.example", 5, 1000, 30 * DURATION_S, false);
    config_destroy(config);
    assert_int_equal(config_read(1, argv, NULL, &config, &error), CONFIG_RUN);
    config_destroy(config);
}

/* Each setting comes from the strongest source that has it. */
static void test_precedence(void **state)
{
    (void)state;
    static const char file[] =
        "{\"listen\": \"127.0.0.1:11\", \"admin\": {\"listen\": \"127.0.0.1:12\"},"
        " \"limits\": {\"default\": {\"limit\": 13, \"queue\": 14, \"queue_timeout\": \"15s\"}},"
        " \"log\": {\"access\": \"none\"}}";
    static const char variables[] =
        "WEIR_LISTEN=127.0.0.1:21,127.0.0.1:29 WEIR_ADMIN=127.0.0.1:22 WEIR_LIMIT=23 WEIR_QUEUE=24 "
        "WEIR_QUEUE_TIMEOUT=25s WEIR_LOG_FORMAT=json";
    static const char flags[] = " --listen 127.0.0.1:31 --admin 127.0.0.1:32 --limit 33 --queue 34 "
                                "--queue-timeout 35s --log-format none";
    write_file(file, strlen(file));
    for (unsigned sources = 0; sources < 8; sources++) {
        char all_flags[512];
        snprintf(all_flags, sizeof all_flags, "%s%s", sources & 1 ? "--config weir.json" : "",
                 sources & 4 ? flags : "");
        struct config *config = good_config(all_flags, sources & 2 ? variables : "");
        unsigned best = sources & 4 ? 30 : sources & 2 ? 20 : sources & 1 ? 10 : 0;
        assert_int_equal(config->listen_count, best == 20 ? 2 : 1);
        assert_int_equal(config->listen[0].port, best > 0 ? best + 1 : 8080);
        assert_int_equal(config->admin_listen.port, best > 0 ? best + 2 : 9901);
        check_rule(config, "z.example", "default", best > 0 ? best + 3 : 3,
                   best > 0 ? best + 4 : 1000, (best > 0 ? best + 5 : 30) * DURATION_S, false);
        assert_int_equal(config->access_log,
                         best == 30 || best == 10 ? CONFIG_LOG_NONE : CONFIG_LOG_JSON);
        config_destroy(config);
    }
}

static void test_flag_for_the_file_beats_the_variable(void **state)
{
    (void)state;
    write_file("{\"connections\": 5}", 18);
    struct config *config = good_config("--config weir.json", "WEIR_CONFIG=missing.json");
    assert_int_equal(config->connections_max, 5);
    config_destroy(config);
    config = good_config("--config missing.json --config weir.json", "");
    assert_int_equal(config->connections_max, 5);
    config_destroy(config);
}

/* A limit from a stronger source leaves the host's other settings, and what it inherits, alone. */
static void test_host_limits_of_several_sources(void **state)
{
    (void)state;
    static const char file[] =
        "{\"limits\": {\"hosts\": {"
        "  \"a.example\": {\"limit\": 10, \"queue\": 11, \"queue_timeout\": \"12s\"},"
        "  \"b.example\": {\"limit\": 20, \"queue\": 21},"
        "  \"*.c.example\": {\"limit\": 30, \"scope\": \"shared\"}}}}";
    write_file(file, strlen(file));
    struct config *config =
        good_config("--config weir.json --limit A.example:443=1 --limit *.c.example=3 --queue 5",
                    "WEIR_LIMIT=a.example=100,b.example=2,d.example=4");
    check_rule(config, "a.example", "a.example", 1, 11, 12 * DURATION_S, false);
    check_rule(config, "b.example", "b.example", 2, 21, 30 * DURATION_S, false);
    check_rule(config, "x.c.example", "*.c.example", 3, 5, 30 * DURATION_S, true);
    check_rule(config, "d.example", "d.example", 4, 5, 30 * DURATION_S, false);
    assert_int_equal(rules_count(config->rules), 4);
    config_destroy(config);
}

static void test_bad_command_lines(void **state)
{
    (void)state;
    static const struct {
        const char *flags;
        const char *error;
    } cases[] = {
        {"--listen :8080", "--listen: " ADDRESS ", found \":8080\""},
        {"--listen 8080", "--listen: " ADDRESS ", found \"8080\""},
        {"--listen a.example:80", "--listen: " ADDRESS ", found \"a.example:80\""},
        {"--listen ::1:8080", "--listen: " ADDRESS ", found \"::1:8080\""},
        {"--listen [127.0.0.1]:1", "--listen: " ADDRESS ", found \"[127.0.0.1]:1\""},
        {"--listen 127.0.0.1", "--listen: " ADDRESS ", found \"127.0.0.1\""},
        {"--listen 127.0.0.1:", "--listen: " ADDRESS ", found \"127.0.0.1:\""},
        {"--listen 127.0.0.1:65536", "--listen: " ADDRESS ", found \"127.0.0.1:65536\""},
        {"--listen 127.0.0.1:-1", "--listen: " ADDRESS ", found \"127.0.0.1:-1\""},
        {"--listen ''", "--listen: " ADDRESS ", found \"\""},
        {"--listen", "--listen: " ADDRESS ", found nothing"},
        {"--listen 127.0.0.1:1 --listen localhost:1",
         "--listen: expected each address once, found \"localhost:1\""},
        {"--admin x", "--admin: " ADDRESS ", found \"x\""},
        {"--limit 0", "--limit: " LIMIT ", or HOST=N, found \"0\""},
        {"--limit 1000001", "--limit: " LIMIT ", or HOST=N, found \"1000001\""},
        {"--limit -1", "--limit: " LIMIT ", or HOST=N, found \"-1\""},
        {"--limit 3x", "--limit: " LIMIT ", or HOST=N, found \"3x\""},
        {"--limit ''", "--limit: " LIMIT ", or HOST=N, found \"\""},
        {"--limit a.example=", "--limit: " LIMIT ", or HOST=N, found \"a.example=\""},
        {"--limit a.example=x", "--limit: " LIMIT ", or HOST=N, found \"a.example=x\""},
        {"--limit", "--limit: " LIMIT ", or HOST=N, found nothing"},
        {"--limit http://a.example/=3", "--limit: " HOST ", found \"http://a.example/\""},
        {"--limit =3", "--limit: " HOST ", found \"\""},
        {"--queue x", "--queue: " QUEUE ", found \"x\""},
        {"--queue 99999999999999999999", "--queue: " QUEUE ", found \"99999999999999999999\""},
        {"--queue-timeout 5", "--queue-timeout: " DURATION ", found \"5\""},
        {"--log-format xml", "--log-format: expected json or none, found \"xml\""},
        {"--config ''", "--config: expected the path of a file, found \"\""},
        {"--config", "--config: expected the path of a file, found nothing"},
        {"--nix", "command line: expected a flag (weir --help lists them), found \"--nix\""},
        {"--li 3", "command line: expected a flag (weir --help lists them), found \"--li\""},
        {"-x", "command line: expected a flag (weir --help lists them), found \"-x\""},
        {"start", "command line: expected a flag (weir --help lists them), found \"start\""},
        {"--queue 1 -- 2", "command line: expected a flag (weir --help lists them), found \"2\""},
        {"--check-config=1", "command line: expected no value, found \"--check-config=1\""},
        {"--queue x --config missing.json", "--queue: " QUEUE ", found \"x\""},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        check_bad(cases[i].flags, "", CONFIG_BAD_USAGE, cases[i].error);
    }
}

static void test_bad_variables(void **state)
{
    (void)state;
    static const struct {
        const char *variable;
        const char *error;
    } cases[] = {
        {"WEIR_LISTEN=127.0.0.1:1,x", "WEIR_LISTEN: " ADDRESS ", found \"x\""},
        {"WEIR_LISTEN=127.0.0.1:1,", "WEIR_LISTEN: " ADDRESS ", found \"\""},
        {"WEIR_ADMIN=1,2", "WEIR_ADMIN: " ADDRESS ", found \"1,2\""},
        {"WEIR_LIMIT=3,x", "WEIR_LIMIT: " LIMIT ", or HOST=N, found \"x\""},
        {"WEIR_LIMIT=a", "WEIR_LIMIT: " LIMIT ", or HOST=N, found \"a\""},
        {"WEIR_QUEUE=x", "WEIR_QUEUE: " QUEUE ", found \"x\""},
        {"WEIR_QUEUE_TIMEOUT=x", "WEIR_QUEUE_TIMEOUT: " DURATION ", found \"x\""},
        {"WEIR_LOG_FORMAT=x", "WEIR_LOG_FORMAT: expected json or none, found \"x\""},
        {"WEIR_CONFIG=missing.json",
         "missing.json: expected a file that can be read: No such file or directory"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        check_bad("", cases[i].variable, CONFIG_BAD, cases[i].error);
    }
}

/* What cannot be printed is not, and what is long is cut between two characters. */
static void test_errors_are_one_plain_line(void **state)
{
    (void)state;
    check_bad("--queue a\nb\x7f\"\\", "", CONFIG_BAD_USAGE,
              "--queue: " QUEUE ", found \"a?b?\\\"\\\\\"");
    char flags[400] = "--queue ";
    for (size_t i = 0; i < 100; i++) {
        strncat(flags, "\xe2\x82\xac", 4);
    }
    struct config *config;
    char *error;
    assert_int_equal(read_config(flags, "", &config, &error), CONFIG_BAD_USAGE);
    size_t bytes = strlen(error);
    assert_in_range(bytes, 60, 160);
    assert_string_equal(error + bytes - 7, "\xe2\x82\xac...\"");
    free(error);
    check_bad("--config a\nb", "", CONFIG_BAD,
              "a?b: expected a file that can be read: No such file or directory");
}

static void test_data_and_admin_differ(void **state)
{
    (void)state;
    check_bad("--listen 127.0.0.1:1 --admin localhost:1", "", CONFIG_BAD,
              "listen, admin: expected different addresses, found 127.0.0.1:1 in both");
    config_destroy(good_config("--listen 127.0.0.1:0 --admin 127.0.0.1:0", ""));
}

static void test_bad_files(void **state)
{
    (void)state;
    check_bad("--config missing.json", "", CONFIG_BAD,
              "missing.json: expected a file that can be read: No such file or directory");
    check_bad("--config /", "", CONFIG_BAD,
              "/: expected a regular file, found a directory (a container engine makes one where "
              "the file to mount is missing)");
    if (geteuid() != 0) {
        write_file("{}", 2);
        assert_int_equal(chmod("weir.json", 0), 0);
        check_bad("--config weir.json", "", CONFIG_BAD,
                  "weir.json: expected a file that can be read: Permission denied");
        assert_int_equal(remove("weir.json"), 0);
    }
    check_bad_file("", "weir.json: expected a JSON object, found an empty file");
    check_bad_file(" \r\n\t", "weir.json: expected a JSON object, found an empty file");
    check_bad_file("\xef\xbb\xbf", "weir.json: expected a JSON object, found an empty file");
    config_destroy(good_file("\xef\xbb\xbf{}"));

    size_t bytes = 1024 * 1024;
    char *text = malloc(bytes + 1);
    assert_non_null(text);
    memset(text, ' ', bytes + 1);
    memcpy(text, "{}", 2);
    write_file(text, bytes);
    config_destroy(good_config("--config weir.json", ""));
    write_file(text, bytes + 1);
    free(text);
    check_bad("--config weir.json", "", CONFIG_BAD,
              "weir.json: expected a file of at most 1 MiB, found more");
}

static void test_bad_file_names_its_line(void **state)
{
    (void)state;
    check_bad_file("{\n\"limits\": {\n\"default\": {\n\"limit\": \"three\"}}}",
                   "weir.json:4: limits.default.limit: " LIMIT ", found \"three\"");
}

static void test_actions(void **state)
{
    (void)state;
    static const struct {
        const char *flags;
        enum config_action action;
    } cases[] = {
        {"--help", CONFIG_HELP},
        {"-h", CONFIG_HELP},
        {"--version", CONFIG_VERSION},
        {"--limit x --help --nix", CONFIG_HELP},
        {"--check-config --version", CONFIG_VERSION},
    };
    struct config *config;
    char *error;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(read_config(cases[i].flags, "", &config, &error), cases[i].action);
        assert_null(config);
        assert_null(error);
    }
    assert_int_equal(read_config("--check-config --limit 7", "", &config, &error), CONFIG_CHECK);
    check_rule(config, "z.example", "default", 7, 1000, 30 * DURATION_S, false);
    config_destroy(config);
    assert_int_equal(read_config("--limit 7 --check-config", "", &config, &error), CONFIG_CHECK);
    config_destroy(config);
    check_bad("--check-config --config missing.json", "", CONFIG_BAD,
              "missing.json: expected a file that can be read: No such file or directory");
}

/* A reload reads the same command line again, and the file as it is then. */
static void test_reads_again(void **state)
{
    (void)state;
    for (unsigned round = 1; round <= 3; round++) {
        char text[64];
        int bytes = snprintf(text, sizeof text, "{\"connections\": %u}", round);
        write_file(text, (size_t)bytes);
        struct config *config = good_config("--config weir.json --limit 4", "");
        assert_int_equal(config->connections_max, round);
        check_rule(config, "z.example", "default", 4, 1000, 30 * DURATION_S, false);
        config_destroy(config);
        check_bad("--limit x", "", CONFIG_BAD_USAGE, "--limit: " LIMIT ", or HOST=N, found \"x\"");
    }
}

static void test_rules_are_handed_over(void **state)
{
    (void)state;
    struct config *config = good_config("--limit 4", "");
    struct rules *rules = config_take_rules(config);
    assert_null(config->rules);
    config_destroy(config);
    assert_int_equal(rules_default(rules)->limit, 4);
    rules_destroy(rules);
}

/* Where FLAGS and VARIABLES say that the admin port is, or what is wrong with them. */
static void check_admin(const char *flags, const char *variables, enum config_action action,
                        const char *word, const char *expected)
{
    char flags_text[512];
    char variables_text[512];
    const char *argv[32] = {"check"};
    const char *environment[32];
    struct config *config = NULL;
    const char *found = NULL;
    char *error = NULL;
    snprintf(flags_text, sizeof flags_text, "%s", flags);
    snprintf(variables_text, sizeof variables_text, "%s", variables);
    int argc = 1 + split(flags_text, argv + 1, 31);
    split(variables_text, environment, 32);
    assert_int_equal(config_read_admin(argc, (char *const *)argv, (char *const *)environment,
                                       &found, &config, &error),
                     action);
    if (word != NULL) {
        assert_string_equal(found, word);
        assert_null(config);
    } else if (action == CONFIG_RUN) {
        assert_null(found);
        assert_string_equal(config->admin_listen.text, expected);
    } else if (expected != NULL) {
        assert_string_equal(error, expected);
        assert_null(config);
    }
    config_destroy(config);
    free(error);
}

static void test_where_the_admin_port_is(void **state)
{
    (void)state;
    static const struct {
        const char *flags;
        const char *variables;
        enum config_action action;
        const char *word;
        const char *expected;
    } cases[] = {
        {"", "", CONFIG_RUN, NULL, "127.0.0.1:9901"},
        {"--config weir.json", "", CONFIG_RUN, NULL, "127.0.0.1:1"},
        {"--config weir.json", "WEIR_ADMIN=127.0.0.1:2", CONFIG_RUN, NULL, "127.0.0.1:2"},
        {"--admin [::]:3", "WEIR_ADMIN=x WEIR_CONFIG=none", CONFIG_RUN, NULL, "[::]:3"},
        {"--limit 7 --admin unix:/a", "", CONFIG_RUN, NULL, "unix:/a"},
        {"", "WEIR_LIMIT=x WEIR_CONFIG=weir.json", CONFIG_RUN, NULL, "127.0.0.1:1"},
        {"--config none x", "WEIR_ADMIN=x", CONFIG_RUN, "x", NULL},
        {"--config none", "", CONFIG_BAD, NULL,
         "none: expected a file that can be read: No such file or directory"},
        {"", "WEIR_ADMIN=x", CONFIG_BAD, NULL, "WEIR_ADMIN: " ADDRESS ", found \"x\""},
        {"--limit x", "", CONFIG_BAD_USAGE, NULL, "--limit: " LIMIT ", or HOST=N, found \"x\""},
        {"a b", "", CONFIG_BAD_USAGE, NULL,
         "command line: expected flags and one URL behind them, found \"b\" as well"},
        {"--check-config", "", CONFIG_BAD_USAGE, NULL,
         "command line: expected no --check-config here"},
        {"--help", "", CONFIG_HELP, NULL, NULL},
        {"--version", "", CONFIG_VERSION, NULL, NULL},
    };
    const char *text = "{\"admin\": {\"listen\": \"127.0.0.1:1\", \"no\": 1}, \"limits\": 7}";
    write_file(text, strlen(text));
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        check_admin(cases[i].flags, cases[i].variables, cases[i].action, cases[i].word,
                    cases[i].expected);
    }
    write_file("{\"admin\": 3}", 12);
    check_admin("--config weir.json", "", CONFIG_RUN, NULL, "127.0.0.1:9901");
    write_file("{\n\"admin\": {\"listen\": 3}}", 25);
    check_admin("--config weir.json", "", CONFIG_BAD, NULL,
                "weir.json:2: admin.listen: " ADDRESS ", found 3");
}

static void test_help_fits_a_terminal(void **state)
{
    (void)state;
    static const char *const words[] = {
        "--listen",    "--admin",         "--limit",        "--queue",    "--queue-timeout",
        "--config",    "--log-format",    "--check-config", "--version",  "--help",
        "WEIR_LISTEN", "WEIR_ADMIN",      "WEIR_LIMIT",     "WEIR_QUEUE", "WEIR_QUEUE_TIMEOUT",
        "WEIR_CONFIG", "WEIR_LOG_FORMAT", "SIGTERM",        "SIGINT",     "SIGHUP",
        "/fetch?url=", "curl -x",         "/to/NAME/",      "upstreams",  "ca_file",
        "weir check",  "/quitquitquit",
    };
    const char *help = config_help();
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        assert_non_null(strstr(help, words[i]));
    }
    size_t lines = 0;
    for (const char *line = help; *line != '\0'; lines++) {
        size_t bytes = strcspn(line, "\n");
        assert_in_range(bytes, 0, 80);
        assert_int_equal(line[bytes], '\n');
        line += bytes + 1;
    }
    assert_in_range(lines, 20, 69);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_every_key),
        cmocka_unit_test(test_every_flag),
        cmocka_unit_test(test_every_variable),
        cmocka_unit_test(test_variables_that_say_nothing),
        cmocka_unit_test(test_precedence),
        cmocka_unit_test(test_flag_for_the_file_beats_the_variable),
        cmocka_unit_test(test_host_limits_of_several_sources),
        cmocka_unit_test(test_bad_command_lines),
        cmocka_unit_test(test_bad_variables),
        cmocka_unit_test(test_errors_are_one_plain_line),
        cmocka_unit_test(test_data_and_admin_differ),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_bad_file_names_its_line),
        cmocka_unit_test(test_actions),
        cmocka_unit_test(test_reads_again),
        cmocka_unit_test(test_rules_are_handed_over),
        cmocka_unit_test(test_where_the_admin_port_is),
        cmocka_unit_test(test_help_fits_a_terminal),
    };
    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}

/*
 * The configuration: what it is made of, and which source wins.
 *
 * The file, the environment and the flags are written over the defaults in this order, so that the
 * strongest comes last. Flags and
 * variables are the same settings under two names: one table has both.
 *
 * The flags are looked at twice. The first time, on a draft that is thrown away, shows whether the
 * command line is good (exit 2, before anything else is opened) and which file it names.
 */
#include "api/config_internal.h"

#include "api/duration.h"

#include <assert.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

/* Where a setting came from, as messages name it: "--limit", "WEIR_LIMIT". */
struct setting {
    const struct setting_kind *kind;
    char where[32];
    const char *text;
};

struct settings {
    struct setting *items;
    size_t count;
};

/* Writes TEXT into DRAFT, or says what was expected. */
typedef bool setting_apply(struct config_draft *draft, const struct setting *setting,
                           const char *text, size_t bytes, char **ret_error);

struct setting_kind {
    const char *flag;
    const char *variable;
    setting_apply *apply; /* NULL: the path of the file, which no draft holds */
    bool list;            /* several, with commas between them */
    const char *expected;
};

static setting_apply apply_listen, apply_admin, apply_limit, apply_queue, apply_queue_timeout,
    apply_log_format, apply_allow_private;

static const struct setting_kind kinds[] = {
    {"listen", "WEIR_LISTEN", apply_listen, true, CONFIG_EXPECTED_ADDRESS},
    {"admin", "WEIR_ADMIN", apply_admin, false, CONFIG_EXPECTED_ADDRESS},
    {"limit", "WEIR_LIMIT", apply_limit, true, CONFIG_EXPECTED_LIMIT ", or HOST=N"},
    {"queue", "WEIR_QUEUE", apply_queue, false, CONFIG_EXPECTED_QUEUE},
    {"queue-timeout", "WEIR_QUEUE_TIMEOUT", apply_queue_timeout, false, DURATION_EXPECTED},
    {"config", "WEIR_CONFIG", NULL, false, "the path of a file"},
    {"allow-private", "WEIR_ALLOW_PRIVATE", apply_allow_private, false, "true or false"},
    {"log-format", "WEIR_LOG_FORMAT", apply_log_format, false, "json or none"},
};

/* Whether the flag stands alone, and means "true". */
static bool is_switch(const struct setting_kind *kind)
{
    return kind->apply == apply_allow_private;
}

static bool fail_no_memory(char **ret_error)
{
    return config_fail(ret_error, "out of memory");
}

static bool fail_expected(const struct setting *setting, const char *expected, const char *text,
                          size_t bytes, char **ret_error)
{
    char found[CONFIG_QUOTED_MAX];
    return config_fail(ret_error, "%s: expected %s, found %s", setting->where, expected,
                       config_quote(text, bytes, found));
}

static bool apply_listen(struct config_draft *draft, const struct setting *setting,
                         const char *text, size_t bytes, char **ret_error)
{
    switch (config_draft_add_listen(draft, text, bytes)) {
    case CONFIG_ADDED:
        return true;
    case CONFIG_ADD_EXISTS:
        return fail_expected(setting, "each address once", text, bytes, ret_error);
    case CONFIG_ADD_BAD:
        return fail_expected(setting, setting->kind->expected, text, bytes, ret_error);
    case CONFIG_ADD_NO_MEMORY:
        break;
    }
    return fail_no_memory(ret_error);
}

static bool apply_admin(struct config_draft *draft, const struct setting *setting, const char *text,
                        size_t bytes, char **ret_error)
{
    struct config_listen listen;
    switch (config_parse_listen(text, bytes, &listen)) {
    case CONFIG_ADDED:
        config_listen_finish(&draft->config.admin_listen);
        draft->config.admin_listen = listen;
        return true;
    case CONFIG_ADD_BAD:
        return fail_expected(setting, setting->kind->expected, text, bytes, ret_error);
    case CONFIG_ADD_EXISTS:
    case CONFIG_ADD_NO_MEMORY:
        break;
    }
    return fail_no_memory(ret_error);
}

/* "N" is the default limit, "HOST=N" that of HOST; HOST's other settings stay. */
static bool apply_limit(struct config_draft *draft, const struct setting *setting, const char *text,
                        size_t bytes, char **ret_error)
{
    const char *equals = memrchr(text, '=', bytes);
    const char *number = equals != NULL ? equals + 1 : text;
    uint32_t limit;
    if (!config_parse_count(number, bytes - (size_t)(number - text), 1, CONFIG_LIMIT_MAX, &limit)) {
        return fail_expected(setting, setting->kind->expected, text, bytes, ret_error);
    }
    if (equals == NULL) {
        draft->fallback.limit = limit;
        return true;
    }
    struct config_rule *rule;
    size_t name_bytes = (size_t)(equals - text);
    switch (config_draft_add_host(draft, text, name_bytes, &rule)) {
    case CONFIG_ADDED:
    case CONFIG_ADD_EXISTS:
        rule->limit = limit;
        rule->has_limit = true;
        return true;
    case CONFIG_ADD_BAD:
        return fail_expected(setting, CONFIG_EXPECTED_HOST, text, name_bytes, ret_error);
    case CONFIG_ADD_NO_MEMORY:
        break;
    }
    return fail_no_memory(ret_error);
}

static bool apply_queue(struct config_draft *draft, const struct setting *setting, const char *text,
                        size_t bytes, char **ret_error)
{
    return config_parse_count(text, bytes, 0, CONFIG_QUEUE_MAX, &draft->fallback.queue) ||
           fail_expected(setting, setting->kind->expected, text, bytes, ret_error);
}

static bool apply_queue_timeout(struct config_draft *draft, const struct setting *setting,
                                const char *text, size_t bytes, char **ret_error)
{
    return duration_parse(text, bytes, &draft->fallback.queue_timeout_ns) ||
           fail_expected(setting, setting->kind->expected, text, bytes, ret_error);
}

static bool apply_log_format(struct config_draft *draft, const struct setting *setting,
                             const char *text, size_t bytes, char **ret_error)
{
    unsigned word;
    if (!config_parse_word(text, bytes, config_log_words, &word)) {
        return fail_expected(setting, setting->kind->expected, text, bytes, ret_error);
    }
    draft->config.access_log = (enum config_log)word;
    return true;
}

/* With "true", stronger than the ports that a file lists. */
static bool apply_allow_private(struct config_draft *draft, const struct setting *setting,
                                const char *text, size_t bytes, char **ret_error)
{
    static const char *const words[] = {"false", "true", "0", "1", "no", "yes", "off", "on", NULL};
    unsigned word;
    if (!config_parse_word(text, bytes, words, &word)) {
        return fail_expected(setting, setting->kind->expected, text, bytes, ret_error);
    }
    draft->config.egress.open_private = word % 2 == 1;
    if (draft->config.egress.open_private) {
        draft->config.egress.ports_rule = CONFIG_PORTS_ANY;
    }
    return true;
}

/* A list's members one by one, without the spaces around them. */
static bool apply_setting(struct config_draft *draft, const struct setting *setting,
                          char **ret_error)
{
    if (setting->kind->apply == NULL) {
        return setting->text[0] != '\0' ||
               fail_expected(setting, setting->kind->expected, setting->text, 0, ret_error);
    }
    const char *text = setting->text;
    for (bool more = true; more;) {
        size_t bytes = setting->kind->list ? strcspn(text, ",") : strlen(text);
        const char *next = text + bytes;
        more = *next == ',';
        while (setting->kind->list && bytes > 0 && *text == ' ') {
            text++;
            bytes--;
        }
        while (setting->kind->list && bytes > 0 && text[bytes - 1] == ' ') {
            bytes--;
        }
        if (!setting->kind->apply(draft, setting, text, bytes, ret_error)) {
            return false;
        }
        text = next + 1;
    }
    return true;
}

/* Writes one source's settings over DRAFT. The addresses of a source replace those before it. */
static bool apply_settings(struct config_draft *draft, const struct settings *settings,
                           char **ret_error)
{
    bool listen_seen = false;
    for (size_t i = 0; i < settings->count; i++) {
        const struct setting *setting = &settings->items[i];
        if (setting->kind->apply == apply_listen && !listen_seen) {
            config_draft_clear_listen(draft);
            listen_seen = true;
        }
        if (!apply_setting(draft, setting, ret_error)) {
            return false;
        }
    }
    return true;
}

/* The path of the file that SETTINGS name last, or NULL. */
static const char *file_of(const struct settings *settings)
{
    const char *path = NULL;
    for (size_t i = 0; i < settings->count; i++) {
        if (settings->items[i].kind->apply == NULL) {
            path = settings->items[i].text;
        }
    }
    return path;
}

static void add_setting(struct settings *settings, const struct setting_kind *kind, bool flag,
                        const char *text)
{
    struct setting *setting = &settings->items[settings->count++];
    setting->kind = kind;
    setting->text = text;
    snprintf(setting->where, sizeof setting->where, flag ? "--%s" : "%s",
             flag ? kind->flag : kind->variable);
}

/* Other variables that begin with WEIR_ are not ours: Kubernetes sets some for a service `weir`. */
static bool read_environment(char *const environment[], struct settings *ret_settings)
{
    struct settings settings = {.items = calloc(COUNT_OF(kinds), sizeof *settings.items)};
    if (settings.items == NULL) {
        return false;
    }
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        const char *text = config_variable(environment, kinds[i].variable);
        if (text != NULL) {
            add_setting(&settings, &kinds[i], false, text);
        }
    }
    *ret_settings = settings;
    return true;
}

enum { FLAG_HELP = 'h', FLAG_FIRST = 256, FLAG_CHECK = FLAG_FIRST + COUNT_OF(kinds), FLAG_VERSION };

/* What getopt_long() did not like: RESULT is '?' or ':', and WORD what it had before it. */
static void fail_flag(int result, const char *word, char **ret_error)
{
    char found[CONFIG_QUOTED_MAX];
    if (result == ':') {
        assert(optopt >= FLAG_FIRST && optopt < FLAG_CHECK);
        const struct setting_kind *kind = &kinds[optopt - FLAG_FIRST];
        config_fail(ret_error, "--%s: expected %s, found nothing", kind->flag, kind->expected);
        return;
    }
    /* Without a value where it has none, getopt_long() tells which flag it is. */
    const char *expected = optopt >= FLAG_FIRST ? "no value" : "a flag (weir --help lists them)";
    config_fail(ret_error, "command line: expected %s, found %s", expected,
                config_quote(word, strlen(word), found));
}

static void fail_word(const char *word, char **ret_error)
{
    char found[CONFIG_QUOTED_MAX];
    config_fail(ret_error, "command line: expected flags and one URL behind them, found %s as well",
                config_quote(word, strlen(word), found));
}

static void list_flags(struct option ret_options[COUNT_OF(kinds) + 4])
{
    struct option *option = ret_options;
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        int argument = is_switch(&kinds[i]) ? no_argument : required_argument;
        *option++ = (struct option){kinds[i].flag, argument, NULL, FLAG_FIRST + (int)i};
    }
    *option++ = (struct option){"check-config", no_argument, NULL, FLAG_CHECK};
    *option++ = (struct option){"version", no_argument, NULL, FLAG_VERSION};
    *option++ = (struct option){"help", no_argument, NULL, FLAG_HELP};
    *option = (struct option){0};
}

/*
 * Reads the command line. CONFIG_RUN and CONFIG_CHECK come with *ret_settings, whose items the
 * caller frees, CONFIG_BAD_USAGE with *ret_error. One word may follow the flags where RET_WORD is
 * not NULL.
 */
static enum config_action read_flags(int argc, char *const argv[], struct settings *ret_settings,
                                     const char **ret_word, char **ret_error)
{
    struct option options[COUNT_OF(kinds) + 4];
    list_flags(options);
    struct settings settings = {.items = calloc((size_t)argc + 1, sizeof *settings.items)};
    if (settings.items == NULL) {
        fail_no_memory(ret_error);
        return CONFIG_BAD_USAGE;
    }
    enum config_action action = CONFIG_RUN;
    optind = 0; /* begin anew: a reload reads the command line again */
    opterr = 0;
    int result;
    int word = 1;
    while ((action == CONFIG_RUN || action == CONFIG_CHECK) &&
           (result = getopt_long(argc, argv, "+:h", options, NULL)) != -1) {
        if (result == FLAG_HELP) {
            action = CONFIG_HELP;
        } else if (result == FLAG_VERSION) {
            action = CONFIG_VERSION;
        } else if (result == FLAG_CHECK) {
            action = CONFIG_CHECK;
        } else if (result >= FLAG_FIRST) {
            const struct setting_kind *kind = &kinds[result - FLAG_FIRST];
            add_setting(&settings, kind, true, is_switch(kind) ? "true" : optarg);
        } else {
            fail_flag(result, argv[word], ret_error);
            action = CONFIG_BAD_USAGE;
        }
        word = optind;
    }
    if (action == CONFIG_RUN && ret_word != NULL && optind < argc) {
        *ret_word = argv[optind++];
        if (optind < argc) {
            fail_word(argv[optind], ret_error);
            action = CONFIG_BAD_USAGE;
        }
    } else if ((action == CONFIG_RUN || action == CONFIG_CHECK) && optind < argc) {
        fail_flag('?', argv[optind], ret_error);
        action = CONFIG_BAD_USAGE;
    }
    if (action == CONFIG_RUN || action == CONFIG_CHECK) {
        *ret_settings = settings;
    } else {
        free(settings.items);
    }
    return action;
}

/* Whether FLAGS are good by themselves. */
static bool check_flags(const struct settings *flags, char **ret_error)
{
    struct config_draft *scratch = config_draft_create();
    bool good =
        scratch != NULL ? apply_settings(scratch, flags, ret_error) : fail_no_memory(ret_error);
    config_draft_destroy(scratch);
    return good;
}

/* Puts all sources together, the weakest first. */
static bool read_sources(const struct settings *flags, const struct settings *variables,
                         char *const environment[], struct config **ret_config, char **ret_error)
{
    struct config_draft *draft = config_draft_create();
    if (draft == NULL) {
        return fail_no_memory(ret_error);
    }
    draft->environment = environment;
    const char *file = file_of(flags) != NULL ? file_of(flags) : file_of(variables);
    if ((file != NULL && !config_file_read(file, draft, ret_error)) ||
        !apply_settings(draft, variables, ret_error) || !apply_settings(draft, flags, ret_error)) {
        config_draft_destroy(draft);
        return false;
    }
    return config_draft_finish(draft, ret_config, ret_error);
}

enum config_action config_read(int argc, char *const argv[], char *const environment[],
                               struct config **ret_config, char **ret_error)
{
    assert(argc >= 0);
    assert(argv != NULL);
    assert(ret_config != NULL);
    assert(ret_error != NULL);

    struct settings flags = {0};
    struct settings variables = {0};
    enum config_action action = read_flags(argc, argv, &flags, NULL, ret_error);
    if (action != CONFIG_RUN && action != CONFIG_CHECK) {
        return action;
    }
    if (!check_flags(&flags, ret_error)) {
        action = CONFIG_BAD_USAGE;
    } else if (!read_environment(environment, &variables)) {
        fail_no_memory(ret_error);
        action = CONFIG_BAD;
    } else if (!read_sources(&flags, &variables, environment, ret_config, ret_error)) {
        action = CONFIG_BAD;
    }
    free(flags.items);
    free(variables.items);
    return action;
}

/* Leaves those of SETTINGS that say where the admin port is. */
static void keep_admin(struct settings *settings)
{
    size_t kept = 0;
    for (size_t i = 0; i < settings->count; i++) {
        if (settings->items[i].kind->apply == apply_admin) {
            settings->items[kept++] = settings->items[i];
        }
    }
    settings->count = kept;
}

/* As read_sources(), of the admin address alone: a source that a stronger one beats is not read. */
static bool read_admin(struct settings *flags, struct settings *variables,
                       struct config **ret_config, char **ret_error)
{
    struct config_draft *draft = config_draft_create();
    if (draft == NULL) {
        return fail_no_memory(ret_error);
    }
    draft->admin_only = true;
    const char *file = file_of(flags) != NULL ? file_of(flags) : file_of(variables);
    keep_admin(flags);
    keep_admin(variables);
    bool good = flags->count > 0       ? apply_settings(draft, flags, ret_error)
                : variables->count > 0 ? apply_settings(draft, variables, ret_error)
                : file != NULL         ? config_file_read(file, draft, ret_error)
                                       : true;
    if (!good) {
        config_draft_destroy(draft);
        return false;
    }
    return config_draft_finish(draft, ret_config, ret_error);
}

enum config_action config_read_admin(int argc, char *const argv[], char *const environment[],
                                     const char **ret_word, struct config **ret_config,
                                     char **ret_error)
{
    assert(argc >= 0 && argv != NULL);
    assert(ret_word != NULL && ret_config != NULL && ret_error != NULL);

    struct settings flags = {0};
    struct settings variables = {0};
    const char *word = NULL;
    enum config_action action = read_flags(argc, argv, &flags, &word, ret_error);
    if (action != CONFIG_RUN && action != CONFIG_CHECK) {
        return action;
    }
    if (action == CONFIG_CHECK) {
        config_fail(ret_error, "command line: expected no --check-config here");
        action = CONFIG_BAD_USAGE;
    } else if (!check_flags(&flags, ret_error)) {
        action = CONFIG_BAD_USAGE;
    } else if (word == NULL && !read_environment(environment, &variables)) {
        fail_no_memory(ret_error);
        action = CONFIG_BAD;
    } else if (word == NULL && !read_admin(&flags, &variables, ret_config, ret_error)) {
        action = CONFIG_BAD;
    } else {
        *ret_word = word;
    }
    free(flags.items);
    free(variables.items);
    return action;
}

const char *config_help(void)
{
    return "Usage: weir [flags]\n"
           "       weir check [flags] [URL]\n"
           "\n"
           "An HTTP proxy that lets at most N requests a host run at once. The rest wait in\n"
           "the order in which they came, and start as soon as a slot is free.\n"
           "\n"
           "Ask it for something:\n"
           "  curl 'http://127.0.0.1:8080/fetch?url=https%3A%2F%2Fexample.com%2F'\n"
           "  curl -x http://127.0.0.1:8080 http://example.com/     as a forward proxy\n"
           "  curl -x http://127.0.0.1:8080 https://example.com/    through a tunnel\n"
           "  curl http://127.0.0.1:8080/to/NAME/path               an upstream of the file\n"
           "  curl http://127.0.0.1:9901/status                     what is going on\n"
           "Header fields of a request: Weir-Queue-Timeout: 5s (wait no longer than that),\n"
           "Weir-Timeout: 30s (the whole fetch, once it has started), Weir-Token: NAME:WORD\n"
           "(credentials, where Proxy-Authorization cannot be sent).\n"
           "\n"
           "Limits:\n"
           "  --limit N           requests at once to each host (3)\n"
           "  --limit HOST=N      the same for one host, such as api.example.com=10 or,\n"
           "                      for all names below, '*.example.org=4'; repeatable\n"
           "  --queue N           how many may wait for each host (1000)\n"
           "  --queue-timeout D   how long one may wait: 250ms, 5s, 2m, 1h, or 0 (30s)\n"
           "\n"
           "What it may reach: public addresses, on ports 80 and 443. Others are refused,\n"
           "unless \"egress\" in the file opens them; it closes names, ranges and ports too.\n"
           "  --allow-private     loopback and private addresses as well, on every port\n"
           "\n"
           "Upstreams, with their own limit, TLS and fields that only the file knows:\n"
           "  \"upstreams\": {\"NAME\": {\"url\": \"https://api.example.com/v1\", \"limit\": 10,\n"
           "    \"headers\": {\"Authorization\": {\"file\": PATH, \"prefix\": \"Bearer \"}}}}\n"
           "TLS, verified with the system's roots where nothing else is said:\n"
           "  \"tls\": {\"hosts\": {HOST: {\"ca_file\": PATH, \"certificate_file\": PATH}}}\n"
           "\n"
           "Where it listens:\n"
           "  --listen ADDR       for requests, such as [::1]:8080 or unix:/run/weir.sock;\n"
           "                      repeatable (127.0.0.1:8080)\n"
           "  --admin ADDR        for /status, /hosts/HOST, /healthz and /readyz\n"
           "                      (127.0.0.1:9901)\n"
           "Who reaches them may use them, unless \"auth\" in the file names clients (a file\n"
           "of lines NAME:HASH, as mkpasswd and htpasswd -B make them) and admin tokens.\n"
           "\n"
           "Configuration:\n"
           "  --config FILE       a JSON file, for these settings and many more\n"
           "  --check-config      say whether all of it is good, and exit\n"
           "  --log-format WORD   access log on standard output: json or none (json)\n"
           "  --version           print the version, and exit\n"
           "  --help              print this, and exit\n"
           "\n"
           "Check:\n"
           "  weir check          ask the service that runs with the same flags, environment\n"
           "                      and file whether it is ready: one line, and exit 0 or 1\n"
           "  weir check URL      ask there: http://127.0.0.1:9901, unix:/run/admin.sock, or\n"
           "                      with a path, http://127.0.0.1:9901/healthz\n"
           "\n"
           "Environment (a flag beats a variable, and a variable beats the file):\n"
           "  WEIR_LISTEN, WEIR_LIMIT (several with commas: 5,api.example.com=10),\n"
           "  WEIR_ADMIN, WEIR_QUEUE, WEIR_QUEUE_TIMEOUT, WEIR_CONFIG, WEIR_LOG_FORMAT,\n"
           "  WEIR_ALLOW_PRIVATE (true or false)\n"
           "\n"
           "Signals:\n"
           "  SIGTERM, SIGINT     take no more requests, finish those that wait and run, and\n"
           "                      exit; a second one exits at once\n"
           "  SIGHUP              read the configuration again, keeping queues and requests\n"
           "POST /quitquitquit on the admin port does what the first SIGTERM does.\n"
           "\n"
           "Exit status: 0 done, 1 it cannot start (a bad configuration, an address in\n"
           "use, too little memory, too few open files or threads) or a check found no ready\n"
           "service, 2 a bad command line, 3 requests were still running when the time to\n"
           "finish was over.\n";
}

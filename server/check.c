/*
 * See check.h.
 *
 * One request with libcurl's easy interface, bounded in time, that nothing around it may lead
 * elsewhere: no proxy (http_proxy is set beside sidecars, and leads to the service itself), no
 * redirects, no protocol but HTTP.
 */
#include "server/check.h"

#include <curl/curl.h>
#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS  2000L
#define BODY_MAX    4096 /* of an answer; of more nothing is told */
#define MESSAGE_MAX 1024
#define UNIX        "unix:"

enum { EXIT_BAD_USAGE = 2 };

/* What is asked. */
struct question {
    CURLU *url;
    const char *path; /* of a unix: socket, borrowed; NULL: none */
    char *shown;      /* as messages call it */
};

struct answer {
    long status;
    size_t bytes;
    bool whole;
    char body[BODY_MAX];
};

/* Takes control characters out of what others wrote, so that it is one line, and only that. */
static void clean(char *text)
{
    for (char *at = text; *at != '\0'; at++) {
        *at = (unsigned char)*at < 0x20 || *at == 0x7f ? '?' : *at;
    }
}

/* One line on stderr. Returns STATUS. */
static int fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int fail(int status, const char *format, ...)
{
    char line[MESSAGE_MAX];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    clean(line);
    fprintf(stderr, "weir: check: %s\n", line);
    return status;
}

static int fail_no_memory(void)
{
    return fail(EXIT_FAILURE, "out of memory");
}

/* --- what to ask --- */

static void question_finish(struct question *question)
{
    curl_url_cleanup(question->url);
    free(question->shown);
}

/* The readiness of whoever listens at PATH. Like all that follow: 0, or the exit status. */
static int ask_socket(const char *path, struct question *question)
{
    if (path[0] != '/' || strlen(path) >= CONFIG_SOCKET_PATH_MAX) {
        return fail(EXIT_BAD_USAGE,
                    "expected unix: and an absolute path of at most %d bytes, found \"%s\"",
                    CONFIG_SOCKET_PATH_MAX - 1, path);
    }
    question->path = path;
    if (curl_url_set(question->url, CURLUPART_URL, "http://localhost/readyz", 0) != CURLUE_OK ||
        asprintf(&question->shown, UNIX "%s", path) < 0) {
        question->shown = NULL;
        return fail_no_memory();
    }
    return 0;
}

static int ask_url(const char *text, struct question *question)
{
    char *path = NULL;
    CURLUcode code = curl_url_set(question->url, CURLUPART_URL, text, CURLU_DISALLOW_USER);
    if (strncasecmp(text, "http://", 7) != 0 ||
        (code != CURLUE_OK && code != CURLUE_OUT_OF_MEMORY)) {
        return fail(EXIT_BAD_USAGE,
                    "expected a URL such as http://127.0.0.1:9901 or unix:/run/weir/admin.sock, "
                    "found \"%s\"",
                    text);
    }
    if (code == CURLUE_OK) {
        code = curl_url_get(question->url, CURLUPART_PATH, &path, 0);
    }
    if (code == CURLUE_OK && strcmp(path, "/") == 0) {
        code = curl_url_set(question->url, CURLUPART_PATH, "/readyz", 0);
    }
    curl_free(path);
    char *shown = NULL;
    if (code == CURLUE_OK) {
        code = curl_url_get(question->url, CURLUPART_URL, &shown, 0);
    }
    question->shown = code == CURLUE_OK ? strdup(shown) : NULL;
    curl_free(shown);
    return question->shown != NULL ? 0 : fail_no_memory();
}

/* One that listens on every address is asked on this machine. */
static int ask_admin(const struct config_listen *admin, struct question *question)
{
    char url[128];
    const char *address = strcmp(admin->address, "0.0.0.0") == 0 ? "127.0.0.1"
                          : strcmp(admin->address, "::") == 0    ? "::1"
                                                                 : admin->address;
    if (admin->path != NULL) {
        return ask_socket(admin->path, question);
    }
    if (admin->port == 0) {
        return fail(EXIT_FAILURE,
                    "the admin address is %s, a port that only the service knows: expected a URL",
                    admin->text);
    }
    snprintf(url, sizeof url, strchr(address, ':') != NULL ? "http://[%s]:%u" : "http://%s:%u",
             address, (unsigned)admin->port);
    return ask_url(url, question);
}

/* --- asking --- */

static size_t on_body(char *bytes, size_t one, size_t count, void *context)
{
    struct answer *answer = context;
    (void)one;
    answer->whole = answer->whole && count <= BODY_MAX - answer->bytes;
    if (answer->whole) {
        memcpy(answer->body + answer->bytes, bytes, count);
        answer->bytes += count;
    }
    return count;
}

static CURLcode ask(CURL *easy, const struct question *question, struct answer *ret_answer)
{
    ret_answer->whole = true;
    curl_easy_setopt(easy, CURLOPT_CURLU, question->url);
    curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, question->path);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* does not wait for a slow name server */
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, TIMEOUT_MS);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, ret_answer);
    CURLcode code = curl_easy_perform(easy);
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &ret_answer->status);
    return code;
}

/* --- telling --- */

/* Why no answer came. */
static const char *reason_of(CURLcode code, long error)
{
    if (code == CURLE_OPERATION_TIMEDOUT) {
        return "no answer within 2 seconds";
    }
    if (code == CURLE_COULDNT_CONNECT && (error == ECONNREFUSED || error == ENOENT)) {
        return "nobody listens there";
    }
    if (code == CURLE_COULDNT_CONNECT && error != 0) {
        return strerror((int)error);
    }
    if (code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_WEIRD_SERVER_REPLY) {
        return "what answers there does not speak HTTP";
    }
    if (code == CURLE_OUT_OF_MEMORY) {
        return "the answer's head is larger than 100 kB, or memory is out";
    }
    return curl_easy_strerror(code);
}

/* 0 where ANSWER is good. The word or sentence in its body goes along. */
static int tell(const struct question *question, const struct answer *answer)
{
    bool good = answer->status >= 200 && answer->status < 300;
    json_t *body = answer->whole ? json_loadb(answer->body, answer->bytes, 0, NULL) : NULL;
    const char *word = json_string_value(json_object_get(body, "status"));
    if (word == NULL) {
        word = json_string_value(json_object_get(body, "detail")); /* of a problem */
    }
    int status = EXIT_SUCCESS;
    if (!good) {
        status = fail(EXIT_FAILURE, "%s answered %ld%s%s", question->shown, answer->status,
                      word != NULL ? ": " : "", word != NULL ? word : "");
    } else {
        char line[MESSAGE_MAX];
        if (word != NULL) {
            (void)snprintf(line, sizeof line, "%s", word);
        } else {
            (void)snprintf(line, sizeof line, "answered %ld", answer->status);
        }
        clean(line);
        puts(line);
    }
    json_decref(body);
    return status;
}

static int ask_and_tell(const struct question *question)
{
    struct answer answer = {0};
    long error = 0;
    CURL *easy = curl_easy_init();
    if (easy == NULL) {
        return fail_no_memory();
    }
    CURLcode code = ask(easy, question, &answer);
    curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &error);
    curl_easy_cleanup(easy);
    return code == CURLE_OK ? tell(question, &answer)
                            : fail(EXIT_FAILURE, "%s: %s", question->shown, reason_of(code, error));
}

int check_run(const char *url, const struct config *config)
{
    signal(SIGPIPE, SIG_IGN); /* whoever reads what it says may have left: the status counts */
    /* Without TLS, whose set-up takes longer than all the rest. */
    if (curl_global_init(CURL_GLOBAL_NOTHING) != CURLE_OK) {
        return fail_no_memory();
    }
    struct question question = {.url = curl_url()};
    int status = question.url == NULL ? fail_no_memory()
                 : url == NULL        ? ask_admin(&config->admin_listen, &question)
                 : strncmp(url, UNIX, sizeof UNIX - 1) == 0
                     ? ask_socket(url + sizeof UNIX - 1, &question)
                     : ask_url(url, &question);
    if (status == 0) {
        status = ask_and_tell(&question);
    }
    question_finish(&question);
    curl_global_cleanup();
    return status;
}

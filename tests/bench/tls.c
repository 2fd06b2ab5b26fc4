/*
 * What a new TLS connection costs the side that opens it, by the way in which libcurl is given the
 * roots. Prints a table; tests/bench/tls builds and runs it.
 *
 * A child process answers on the loopback interface, so that its CPU time is not counted. Every way
 * opens the same number of connections, one after the other, over as many multi handles as Weir has
 * lanes, and believes the system's roots and one more, which has signed for the child. The ways are
 * taken in turns, a few rounds of each, because other programs disturb the measurement.
 */
#include "server/tls.h"
#include "tests/bench/common.h"

#include <curl/curl.h>
#include <malloc.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

#define LANES       16
#define CONNECTIONS 200
#define ROUNDS      3

enum way { WAY_DEFAULTS, WAY_NO_CAPATH, WAY_NO_CAPATH_LANES, WAY_SHARED, WAY_RESUMED, WAYS };

static const char *const names[WAYS] = {
    [WAY_DEFAULTS] = "CAINFO and CAPATH, as Debian builds libcurl",
    [WAY_NO_CAPATH] = "CAINFO alone, one multi",
    [WAY_NO_CAPATH_LANES] = "CAINFO alone, a multi for each lane",
    [WAY_SHARED] = "Weir: one store for all lanes",
    [WAY_RESUMED] = "Weir, with TLS sessions resumed",
};

struct bench {
    char bundle[64]; /* the system's roots and ours */
    int port;
    struct tls *tls;
    unsigned resumed;
};

/* server/tls.c has events to write; a benchmark has nobody to read them. */
void log_event(struct log *log, enum config_level level, const char *event, ...)
{
    (void)log, (void)level, (void)event;
}

/* --- the other side --- */

static EVP_PKEY *make_key(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    if (key == NULL) {
        die("a key");
    }
    return key;
}

/* A certificate for 127.0.0.1 that signs itself. */
static X509 *make_certificate(EVP_PKEY *key)
{
    X509 *certificate = X509_new();
    X509_NAME *name = X509_get_subject_name(certificate);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_set_version(certificate, 2);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 86400);
    X509_set_pubkey(certificate, key);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"bench", -1, -1, 0);
    X509_set_issuer_name(certificate, name);
    X509_EXTENSION *names_of =
        X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "IP:127.0.0.1");
    X509_add_ext(certificate, names_of, -1);
    X509_EXTENSION_free(names_of);
    if (X509_sign(certificate, key, EVP_sha256()) == 0) {
        die("a certificate");
    }
    return certificate;
}

/* Answers one request on each connection, for ever. */
__attribute__((noreturn)) static void serve(int listener, EVP_PKEY *key, X509 *certificate)
{
    static const char answer[] =
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    char request[HEAD_BYTES];
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (context == NULL || SSL_CTX_use_certificate(context, certificate) != 1 ||
        SSL_CTX_use_PrivateKey(context, key) != 1) {
        die("a server");
    }
    signal(SIGPIPE, SIG_IGN);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        SSL *ssl = fd >= 0 ? SSL_new(context) : NULL;
        if (ssl == NULL) {
            die("accept");
        }
        SSL_set_fd(ssl, fd);
        if (SSL_accept(ssl) == 1 && SSL_read(ssl, request, sizeof request) > 0) {
            SSL_write(ssl, answer, sizeof answer - 1);
            SSL_shutdown(ssl);
        }
        SSL_free(ssl);
        close(fd);
    }
}

static pid_t start_server(struct bench *bench, EVP_PKEY *key, X509 *certificate)
{
    struct sockaddr_in place = loopback(0);
    socklen_t bytes = sizeof place;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&place, bytes) != 0 ||
        listen(listener, 64) != 0 ||
        getsockname(listener, (struct sockaddr *)&place, &bytes) != 0) {
        die("listen");
    }
    bench->port = ntohs(place.sin_port);
    pid_t child = fork();
    if (child == 0) {
        serve(listener, key, certificate);
    }
    close(listener);
    return child;
}

/* Writes the system's roots, and CERTIFICATE behind them. */
static void write_bundle(struct bench *bench, X509 *certificate)
{
    char buffer[65536];
    size_t got;
    snprintf(bench->bundle, sizeof bench->bundle, "/tmp/weir-bench-roots-XXXXXX");
    int fd = mkstemp(bench->bundle);
    FILE *from = fopen(curl_version_info(CURLVERSION_NOW)->cainfo, "r");
    FILE *to = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (from == NULL || to == NULL) {
        die("the system's roots");
    }
    while ((got = fread(buffer, 1, sizeof buffer, from)) > 0) {
        fwrite(buffer, 1, got, to);
    }
    if (PEM_write_X509(to, certificate) != 1 || fclose(to) != 0) {
        die(bench->bundle);
    }
    fclose(from);
}

/* --- our side --- */

static size_t on_body(char *bytes, size_t size, size_t count, void *unused)
{
    (void)bytes, (void)unused;
    return size * count;
}

static CURLcode on_tls(CURL *easy, void *context, void *data)
{
    (void)easy;
    return tls_profile_apply(data, context) ? CURLE_OK : CURLE_SSL_CERTPROBLEM;
}

static CURL *make_easy(const struct bench *bench, enum way way)
{
    char url[64];
    CURL *easy = curl_easy_init();
    if (easy == NULL) {
        die("libcurl");
    }
    snprintf(url, sizeof url, "https://127.0.0.1:%d/", bench->port);
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_SSL_SESSIONID_CACHE, way == WAY_RESUMED ? 1L : 0L);
    if (way == WAY_SHARED || way == WAY_RESUMED) {
        struct tls_profile *profile = tls_find(bench->tls, "127.0.0.1");
        curl_easy_setopt(easy, CURLOPT_CAINFO, NULL);
        curl_easy_setopt(easy, CURLOPT_CAPATH, tls_profile_name(profile));
        curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, on_tls);
        curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, profile);
    } else {
        curl_easy_setopt(easy, CURLOPT_CAINFO, bench->bundle);
        if (way != WAY_DEFAULTS) {
            curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
        }
    }
    return easy;
}

/* One transfer of EASY by MULTI, from beginning to end. */
static void transfer(CURLM *multi, CURL *easy)
{
    int running = 1;
    int left;
    curl_multi_add_handle(multi, easy);
    while (running > 0) {
        curl_multi_perform(multi, &running);
        if (running > 0) {
            curl_multi_poll(multi, NULL, 0, 1000, NULL);
        }
    }
    const CURLMsg *message = curl_multi_info_read(multi, &left);
    if (message == NULL || message->data.result != CURLE_OK) {
        fprintf(stderr, "bench_tls: %s\n",
                message != NULL ? curl_easy_strerror(message->data.result) : "no answer");
        exit(1);
    }
    curl_multi_remove_handle(multi, easy);
}

/* CPU time of CONNECTIONS connections; the heap that is still in use behind them in *RET_BYTES. */
static uint64_t measure(const struct bench *bench, enum way way, size_t *ret_bytes)
{
    CURLM *multis[LANES];
    CURL *easies[LANES];
    int lanes = way == WAY_NO_CAPATH ? 1 : LANES;
    for (int i = 0; i < lanes; i++) {
        multis[i] = curl_multi_init();
        easies[i] = make_easy(bench, way);
    }
    size_t before_bytes = mallinfo2().uordblks;
    uint64_t before_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    for (int i = 0; i < CONNECTIONS; i++) {
        transfer(multis[i % lanes], easies[i % lanes]);
    }
    uint64_t spent_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - before_ns;
    size_t after_bytes = mallinfo2().uordblks;
    *ret_bytes = after_bytes > before_bytes ? after_bytes - before_bytes : 0;
    for (int i = 0; i < lanes; i++) {
        curl_easy_cleanup(easies[i]);
        curl_multi_cleanup(multis[i]);
    }
    return spent_ns;
}

static void load(struct bench *bench)
{
    char *error = NULL;
    struct config config = {.tls = {.ca_file = bench->bundle, .minimum_version = CONFIG_TLS_1_2}};
    uint64_t before_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    bench->tls = tls_load(&config, NULL, &error);
    if (bench->tls == NULL) {
        fprintf(stderr, "bench_tls: %s\n", error != NULL ? error : "out of memory");
        exit(1);
    }
    printf("loading the roots once, at the start: %.1f ms of CPU time\n",
           (double)(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - before_ns) / 1e6);
}

int main(void)
{
    struct bench bench = {.port = 0};
    uint64_t best_ns[WAYS] = {0};
    size_t bytes[WAYS] = {0};
    curl_global_init(CURL_GLOBAL_DEFAULT);
    EVP_PKEY *key = make_key();
    X509 *certificate = make_certificate(key);
    write_bundle(&bench, certificate);
    pid_t server = start_server(&bench, key, certificate);
    load(&bench);
    for (int round = 0; round < ROUNDS; round++) {
        for (enum way way = 0; way < WAYS; way++) {
            uint64_t spent_ns = measure(&bench, way, &bytes[way]);
            if (best_ns[way] == 0 || spent_ns < best_ns[way]) {
                best_ns[way] = spent_ns;
            }
        }
    }
    printf("%d new connections, best of %d rounds:\n", CONNECTIONS, ROUNDS);
    for (enum way way = 0; way < WAYS; way++) {
        printf("  %-45s %9.1f ms  %7.2f ms each  %8zu KiB kept\n", names[way],
               (double)best_ns[way] / 1e6, (double)best_ns[way] / 1e6 / CONNECTIONS,
               bytes[way] / 1024);
    }
    kill(server, SIGTERM);
    waitpid(server, NULL, 0);
    unlink(bench.bundle);
    tls_destroy(bench.tls);
    X509_free(certificate);
    EVP_PKEY_free(key);
    curl_global_cleanup();
    return 0;
}

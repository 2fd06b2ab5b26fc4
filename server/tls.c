/*
 * See tls.h. All OpenSSL is here.
 *
 * Whether two profiles are the same is a matter of their digests, over what was in the files and
 * the settings: a file is read once, and what was digested is what is parsed. Roots have digests of
 * their own, because many hosts share them and they are what costs time and memory.
 */
#include "server/tls.h"

#include "api/file.h"
#include "limiter/rules.h"

#include <assert.h>
#include <curl/curl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_BYTES_MAX ((size_t)16 << 20)
#define DIGEST_BYTES   32

struct roots {
    unsigned references;
    unsigned char digest[DIGEST_BYTES];
    X509_STORE *store;
    bool empty;
};

struct tls_profile {
    unsigned references;
    uint64_t number;
    char name[28];
    unsigned char digest[DIGEST_BYTES];
    struct roots *roots; /* NULL: nothing is verified */
    X509 *certificate;   /* NULL: none is shown */
    STACK_OF(X509) * chain;
    EVP_PKEY *key;
    int minimum_version; /* as OpenSSL numbers them */
};

struct tls {
    struct rules *names;           /* the `queue` of a rule is the index of its profile */
    struct tls_profile **profiles; /* the first is that of all other hosts */
    size_t count;
    const char *missing_roots; /* where the system's are not; NULL: they are there */
};

/* One loading. */
struct loading {
    struct tls *tls;
    const struct tls *before;
    const struct config_tls *settings;
    const char *where; /* the key of the settings */
    char **ret_error;
};

/* --- what went wrong --- */

/* Always false. Errors that OpenSSL has noted are for nobody else. */
static bool fail(const struct loading *loading, const char *key, const char *path,
                 const char *format, ...)
{
    char reason[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    ERR_clear_error();
    if (asprintf(loading->ret_error, "%s.%s: %s: %s", loading->where, key, path, reason) < 0) {
        *loading->ret_error = NULL;
        return false;
    }
    for (char *at = *loading->ret_error; *at != '\0'; at++) {
        *at = (unsigned char)*at < 0x20 || *at == 0x7f ? '?' : *at;
    }
    return false;
}

static bool fail_no_memory(const struct loading *loading)
{
    ERR_clear_error();
    *loading->ret_error = NULL;
    return false;
}

/* OpenSSL's last word about what failed. */
static const char *last_reason(void)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    return reason != NULL ? reason : "no reason given";
}

/* --- files --- */

/* Reads the file PATH, which KEY names. */
static bool read_file(const struct loading *loading, const char *key, const char *path,
                      struct file *ret_file)
{
    char reason[FILE_REASON_MAX];
    return file_read(path, FILE_BYTES_MAX, ret_file, reason) ||
           fail(loading, key, path, "%s", reason);
}

static BIO *open_content(const struct file *content)
{
    return BIO_new_mem_buf(content->bytes, (int)content->count);
}

/* What a digest is over. */
struct part {
    const void *bytes;
    size_t count;
};

static bool digest_all(unsigned char digest[DIGEST_BYTES], const struct part *parts, size_t count)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool good = context != NULL && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1;
    for (size_t i = 0; good && i < count; i++) {
        uint64_t bytes = parts[i].count; /* so that parts cannot run into each other */
        good = EVP_DigestUpdate(context, &bytes, sizeof bytes) == 1 &&
               EVP_DigestUpdate(context, parts[i].bytes, parts[i].count) == 1;
    }
    good = good && EVP_DigestFinal_ex(context, digest, NULL) == 1;
    EVP_MD_CTX_free(context);
    return good;
}

/* A key with a passphrase is not asked about at the terminal. */
static int on_passphrase(char *buffer, int size, int writing, void *data)
{
    (void)buffer, (void)size, (void)writing;
    *(bool *)data = true;
    return -1;
}

/* --- roots --- */

static void roots_release(struct roots *roots)
{
    if (roots != NULL && --roots->references == 0) {
        X509_STORE_free(roots->store);
        free(roots);
    }
}

static struct roots *roots_hold(struct roots *roots)
{
    roots->references++;
    return roots;
}

/* Puts the certificates of CONTENT into STORE. Returns how many, or -1. */
static int add_certificates(X509_STORE *store, const struct file *content)
{
    bool asked = false;
    int count = 0;
    BIO *bio = open_content(content);
    STACK_OF(X509_INFO) *items =
        bio != NULL ? PEM_X509_INFO_read_bio(bio, NULL, on_passphrase, &asked) : NULL;
    bool good = items != NULL;
    for (int i = 0; good && i < sk_X509_INFO_num(items); i++) {
        X509_INFO *item = sk_X509_INFO_value(items, i);
        if (item->x509 != NULL) {
            good = X509_STORE_add_cert(store, item->x509) == 1;
            count++;
        }
        if (good && item->crl != NULL) {
            good = X509_STORE_add_crl(store, item->crl) == 1;
        }
    }
    sk_X509_INFO_pop_free(items, X509_INFO_free);
    BIO_free(bio);
    return good ? count : -1;
}

/* Roots with DIGEST that there are already, in this loading or before; or NULL. */
static struct roots *find_roots(const struct tls *tls, const unsigned char digest[DIGEST_BYTES])
{
    for (size_t i = 0; tls != NULL && i < tls->count; i++) {
        struct roots *roots = tls->profiles[i]->roots;
        if (roots != NULL && memcmp(roots->digest, digest, DIGEST_BYTES) == 0) {
            return roots;
        }
    }
    return NULL;
}

/* Roots without a certificate. NULL when out of memory. */
static struct roots *create_roots(const unsigned char digest[DIGEST_BYTES])
{
    struct roots *roots = calloc(1, sizeof *roots);
    X509_STORE *store = X509_STORE_new();
    /* As libcurl has it: what is believed may be below a root, such as a pinned certificate. */
    if (roots == NULL || store == NULL ||
        X509_STORE_set_flags(store, X509_V_FLAG_TRUSTED_FIRST | X509_V_FLAG_PARTIAL_CHAIN) != 1) {
        X509_STORE_free(store);
        free(roots);
        return NULL;
    }
    memcpy(roots->digest, digest, DIGEST_BYTES);
    roots->references = 1;
    roots->store = store;
    return roots;
}

static bool load_ca_file(const struct loading *loading, const char *path, struct roots **ret_roots)
{
    struct file content;
    unsigned char digest[DIGEST_BYTES];
    if (!read_file(loading, "ca_file", path, &content)) {
        return false;
    }
    struct roots *roots = NULL;
    bool good = digest_all(digest, &(struct part){content.bytes, content.count}, 1);
    struct roots *known = good ? find_roots(loading->tls, digest) : NULL;
    known = good && known == NULL ? find_roots(loading->before, digest) : known;
    if (known != NULL) {
        *ret_roots = roots_hold(known);
    } else if (!good || (roots = create_roots(digest)) == NULL) {
        good = fail_no_memory(loading);
    } else {
        int count = add_certificates(roots->store, &content);
        if (count > 0) {
            *ret_roots = roots;
        } else {
            good = count == 0
                       ? fail(loading, "ca_file", path, "expected certificates in PEM, found none")
                       : fail(loading, "ca_file", path, "expected certificates in PEM: %s",
                              last_reason());
            roots_release(roots);
        }
    }
    file_finish(&content);
    return good;
}

/* The system's roots: those that libcurl was built for, else OpenSSL's own. */
static bool load_system_roots(const struct loading *loading, struct roots **ret_roots)
{
    static const unsigned char digest[DIGEST_BYTES] = {0};
    const char *path = curl_version_info(CURLVERSION_NOW)->cainfo;
    if (path != NULL && load_ca_file(loading, path, ret_roots)) {
        return true;
    }
    if (path != NULL) {
        free(*loading->ret_error);
        *loading->ret_error = NULL;
    }
    const char *other = X509_get_default_cert_file();
    if (access(other, R_OK) == 0) {
        return load_ca_file(loading, other, ret_roots);
    }
    loading->tls->missing_roots = path != NULL ? path : other; /* nothing will be believed */
    *ret_roots = create_roots(digest);
    if (*ret_roots == NULL) {
        return fail_no_memory(loading);
    }
    (*ret_roots)->empty = true;
    return true;
}

/* --- certificate and key --- */

static bool parse_certificates(const struct loading *loading, struct tls_profile *profile,
                               const struct file *content)
{
    const char *path = loading->settings->certificate_file;
    bool asked = false;
    BIO *bio = open_content(content);
    profile->chain = sk_X509_new_null();
    if (bio == NULL || profile->chain == NULL) {
        BIO_free(bio);
        return fail_no_memory(loading);
    }
    profile->certificate = PEM_read_bio_X509_AUX(bio, NULL, on_passphrase, &asked);
    X509 *next = NULL;
    while (profile->certificate != NULL &&
           (next = PEM_read_bio_X509(bio, NULL, on_passphrase, &asked)) != NULL) {
        if (sk_X509_push(profile->chain, next) == 0) {
            X509_free(next);
            break;
        }
    }
    BIO_free(bio);
    if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) {
        return fail(loading, "certificate_file", path, "expected a certificate in PEM: %s",
                    last_reason());
    }
    ERR_clear_error(); /* that was the end of the file */
    return profile->certificate != NULL ||
           fail(loading, "certificate_file", path, "expected a certificate in PEM, found none");
}

static bool parse_key(const struct loading *loading, struct tls_profile *profile,
                      const struct file *content)
{
    const struct config_tls *settings = loading->settings;
    bool asked = false;
    BIO *bio = open_content(content);
    if (bio == NULL) {
        return fail_no_memory(loading);
    }
    profile->key = PEM_read_bio_PrivateKey(bio, NULL, on_passphrase, &asked);
    BIO_free(bio);
    if (profile->key == NULL) {
        return asked ? fail(loading, "key_file", settings->key_file,
                            "expected a key without a passphrase")
                     : fail(loading, "key_file", settings->key_file,
                            "expected a private key in PEM: %s", last_reason());
    }
    if (X509_check_private_key(profile->certificate, profile->key) != 1) {
        return fail(loading, "key_file", settings->key_file,
                    "the key does not belong to the certificate in %s", settings->certificate_file);
    }
    return true;
}

/* --- profiles --- */

struct tls_profile *tls_profile_hold(struct tls_profile *profile)
{
    assert(profile != NULL && profile->references > 0);
    profile->references++;
    return profile;
}

void tls_profile_release(struct tls_profile *profile)
{
    if (profile == NULL) {
        return;
    }
    assert(profile->references > 0);
    if (--profile->references == 0) {
        roots_release(profile->roots);
        X509_free(profile->certificate);
        sk_X509_pop_free(profile->chain, X509_free);
        EVP_PKEY_free(profile->key);
        free(profile);
    }
}

uint64_t tls_profile_number(const struct tls_profile *profile)
{
    return profile->number;
}

const char *tls_profile_name(const struct tls_profile *profile)
{
    return profile->name;
}

bool tls_profile_verifies(const struct tls_profile *profile)
{
    return profile->roots != NULL;
}

bool tls_profile_believes_nobody(const struct tls_profile *profile)
{
    return profile->roots != NULL && profile->roots->empty;
}

bool tls_profile_apply(const struct tls_profile *profile, void *context)
{
    SSL_CTX *ssl = context;
    if (profile->roots != NULL) {
        SSL_CTX_set1_cert_store(ssl, profile->roots->store);
    }
    return SSL_CTX_set_min_proto_version(ssl, profile->minimum_version) == 1 &&
           (profile->certificate == NULL ||
            SSL_CTX_use_cert_and_key(ssl, profile->certificate, profile->key, profile->chain, 1) ==
                1);
}

/* Tries PROFILE as a connection will use it. */
static bool try_profile(const struct loading *loading, const struct tls_profile *profile)
{
    const char *path = loading->settings->certificate_file;
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (context == NULL) {
        return fail_no_memory(loading);
    }
    bool good = tls_profile_apply(profile, context);
    SSL_CTX_free(context);
    return good || fail(loading, path != NULL ? "certificate_file" : "minimum_version",
                        path != NULL ? path : "", "OpenSSL does not take it: %s", last_reason());
}

/* The profile of TLS, which may be NULL, with the digest of PROFILE; or NULL. */
static struct tls_profile *find_same(const struct tls *tls, const struct tls_profile *profile)
{
    for (size_t i = 0; tls != NULL && i < tls->count; i++) {
        if (memcmp(tls->profiles[i]->digest, profile->digest, DIGEST_BYTES) == 0) {
            return tls->profiles[i];
        }
    }
    return NULL;
}

/* Fills PROFILE, whose roots are loaded, from the files of its certificate and key. */
static bool load_identity(const struct loading *loading, struct tls_profile *profile)
{
    const struct config_tls *settings = loading->settings;
    struct file certificate = {0};
    struct file key = {0};
    bool good = settings->certificate_file == NULL ||
                read_file(loading, "certificate_file", settings->certificate_file, &certificate);
    good = good &&
           (settings->key_file == NULL || read_file(loading, "key_file", settings->key_file, &key));
    struct part parts[] = {
        {profile->roots != NULL ? profile->roots->digest : NULL,
         profile->roots != NULL ? DIGEST_BYTES : 0},
        {certificate.bytes, certificate.count},
        {key.bytes, key.count},
        {&profile->minimum_version, sizeof profile->minimum_version},
    };
    if (good && !digest_all(profile->digest, parts, sizeof parts / sizeof *parts)) {
        good = fail_no_memory(loading);
    }
    if (good && settings->certificate_file != NULL) {
        good =
            parse_certificates(loading, profile, &certificate) && parse_key(loading, profile, &key);
    }
    file_finish(&certificate);
    file_finish(&key);
    return good;
}

/* Adds the profile of SETTINGS to what is being loaded. */
static bool load_profile(struct loading *loading, const struct config_tls *settings)
{
    static uint64_t last_number;
    struct tls *tls = loading->tls;
    struct tls_profile *profile = calloc(1, sizeof *profile);
    loading->settings = settings;
    loading->where = settings->where != NULL ? settings->where : "tls";
    if (profile == NULL) {
        return fail_no_memory(loading);
    }
    profile->references = 1;
    profile->minimum_version =
        settings->minimum_version == CONFIG_TLS_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION;
    bool good =
        settings->insecure ||
        (settings->ca_file != NULL ? load_ca_file(loading, settings->ca_file, &profile->roots)
                                   : load_system_roots(loading, &profile->roots));
    good = good && load_identity(loading, profile) && try_profile(loading, profile);
    struct tls_profile *same = good ? find_same(tls, profile) : NULL;
    same = good && same == NULL ? find_same(loading->before, profile) : same;
    if (!good || same != NULL) {
        tls_profile_release(profile);
        profile = same != NULL ? tls_profile_hold(same) : NULL;
    } else {
        profile->number = ++last_number;
        snprintf(profile->name, sizeof profile->name, "tls-%llu",
                 (unsigned long long)profile->number);
    }
    if (profile != NULL) {
        tls->profiles[tls->count++] = profile;
    }
    return good;
}

struct tls *tls_load(const struct config *config, const struct tls *before, char **ret_error)
{
    assert(config != NULL && ret_error != NULL);
    size_t count = config->tls_host_count;
    struct tls *tls = calloc(1, sizeof *tls);
    struct loading loading = {.tls = tls, .before = before, .ret_error = ret_error};
    *ret_error = NULL;
    if (tls == NULL) {
        return NULL;
    }
    tls->names = rules_create(&(struct rule){.limit = 1});
    tls->profiles = calloc(count + 1, sizeof(struct tls_profile *));
    bool good = tls->names != NULL && tls->profiles != NULL && load_profile(&loading, &config->tls);
    for (size_t i = 0; good && i < count; i++) {
        const struct config_tls *settings = &config->tls_hosts[i];
        struct rule rule = {.name = settings->host, .limit = 1, .queue = (uint32_t)i + 1};
        good = rules_add(tls->names, &rule) == RULES_ADDED && load_profile(&loading, settings);
    }
    if (!good) {
        tls_destroy(tls);
        return NULL;
    }
    return tls;
}

void tls_destroy(struct tls *tls)
{
    if (tls == NULL) {
        return;
    }
    for (size_t i = 0; i < tls->count; i++) {
        tls_profile_release(tls->profiles[i]);
    }
    free(tls->profiles);
    if (tls->names != NULL) {
        rules_destroy(tls->names);
    }
    free(tls);
}

void tls_warn(const struct tls *tls, const struct config *config, struct log *log)
{
    if (tls->missing_roots != NULL) {
        log_event(log, CONFIG_LEVEL_WARNING, "tls_no_roots", "path", tls->missing_roots, "reason",
                  "there are no root certificates, so no upstream's certificate will be believed: "
                  "install the package ca-certificates, or set tls.ca_file",
                  NULL);
    }
    for (size_t i = 0; i < config->tls_host_count; i++) {
        const struct config_tls *settings = &config->tls_hosts[i];
        if (settings->insecure) {
            log_event(log, CONFIG_LEVEL_WARNING, "tls_insecure", "host", settings->host, "key",
                      settings->where, "reason",
                      "the certificate of this host is not verified: whoever answers in its place "
                      "is believed",
                      NULL);
        }
    }
}

struct tls_profile *tls_find(const struct tls *tls, const char *host)
{
    assert(tls != NULL && host != NULL);
    return tls->profiles[rules_match(tls->names, host)->queue];
}

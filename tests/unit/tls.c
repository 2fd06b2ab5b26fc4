/*
 * TLS settings: which files are good and which are not, each error with its key, path and reason;
 * which host has which profile; and what stays the same when everything is loaded again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/tls.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

/* A directory with two pairs of certificate and key, and broken files. */
struct files {
    char directory[32];
    char one_certificate[64], one_key[64], two_certificate[64], two_key[64];
    char both[64], locked_key[64], broken[64], empty[64], missing[64], weak_certificate[64],
        weak_key[64];
};

static struct files files;
static char last_event[64];
static char last_host[64];
static unsigned events;

void log_event(struct log *log, enum config_level level, const char *event, ...)
{
    va_list pairs;
    (void)log;
    assert_int_equal(level, CONFIG_LEVEL_WARNING);
    events++;
    snprintf(last_event, sizeof last_event, "%s", event);
    va_start(pairs, event);
    const char *name;
    while ((name = va_arg(pairs, const char *)) != NULL) {
        const char *value = va_arg(pairs, const char *);
        if (strcmp(name, "host") == 0) {
            snprintf(last_host, sizeof last_host, "%s", value);
        }
    }
    va_end(pairs);
}

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static X509 *make_certificate(EVP_PKEY *key)
{
    X509 *certificate = X509_new();
    X509_NAME *name = X509_get_subject_name(certificate);
    assert_non_null(certificate);
    X509_set_version(certificate, 2);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 86400);
    X509_set_pubkey(certificate, key);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"unit", -1, -1, 0);
    X509_set_issuer_name(certificate, name);
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
    return certificate;
}

static void write_pair(EVP_PKEY *key, const char *certificate_path, const char *key_path)
{
    X509 *certificate = make_certificate(key);
    FILE *file = fopen(certificate_path, "a");
    assert_int_equal(PEM_write_X509(file, certificate), 1);
    fclose(file);
    file = fopen(key_path, "a");
    assert_int_equal(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(file);
    X509_free(certificate);
}

static void name_file(char path[64], const char *name)
{
    snprintf(path, 64, "%s/%s", files.directory, name);
}

static int set_up(void **state)
{
    (void)state;
    snprintf(files.directory, sizeof files.directory, "/tmp/weir-unit-XXXXXX");
    if (mkdtemp(files.directory) == NULL) {
        return -1;
    }
    name_file(files.one_certificate, "one.crt");
    name_file(files.one_key, "one.key");
    name_file(files.two_certificate, "two.crt");
    name_file(files.two_key, "two.key");
    name_file(files.both, "both.pem");
    name_file(files.locked_key, "locked.key");
    name_file(files.broken, "broken.pem");
    name_file(files.empty, "empty.pem");
    name_file(files.missing, "missing.pem");
    name_file(files.weak_certificate, "weak.crt");
    name_file(files.weak_key, "weak.key");
    EVP_PKEY *one = EVP_EC_gen("P-256");
    EVP_PKEY *two = EVP_EC_gen("P-256");
    EVP_PKEY *weak = EVP_RSA_gen(512);
    write_pair(one, files.one_certificate, files.one_key);
    write_pair(two, files.two_certificate, files.two_key);
    write_pair(two, files.both, files.both);
    write_pair(weak, files.weak_certificate, files.weak_key);
    FILE *file = fopen(files.locked_key, "w");
    PEM_write_PKCS8PrivateKey(file, one, EVP_aes_128_cbc(), "secret", 6, NULL, NULL);
    fclose(file);
    write_text(files.broken, "-----BEGIN CERTIFICATE-----\nbm90IG9uZQ==\n"
                             "-----END CERTIFICATE-----\n");
    write_text(files.empty, "");
    EVP_PKEY_free(one);
    EVP_PKEY_free(two);
    EVP_PKEY_free(weak);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char *const paths[] = {
        files.one_certificate, files.one_key, files.two_certificate, files.two_key, files.both,
        files.locked_key,      files.broken,  files.empty,           files.missing, files.weak_key,
        files.weak_certificate};
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        unlink(paths[i]);
    }
    return rmdir(files.directory);
}

/* Loads SETTINGS for all hosts and HOSTS, COUNT of them. NULL and the error where they are bad. */
static struct tls *load(struct config_tls all, struct config_tls *hosts, size_t count,
                        const struct tls *before, char **ret_error)
{
    struct config config = {.tls = all, .tls_hosts = hosts, .tls_host_count = count};
    for (size_t i = 0; i < count; i++) {
        hosts[i].minimum_version =
            hosts[i].minimum_version != 0 ? hosts[i].minimum_version : CONFIG_TLS_1_2;
    }
    return tls_load(&config, before, ret_error);
}

static struct tls *load_good(struct config_tls all, struct config_tls *hosts, size_t count,
                             const struct tls *before)
{
    char *error;
    struct tls *tls = load(all, hosts, count, before, &error);
    if (tls == NULL) {
        print_error("%s\n", error);
    }
    assert_non_null(tls);
    return tls;
}

static void test_hosts(void **state)
{
    (void)state;
    struct config_tls hosts[] = {
        {.host = "a.test", .ca_file = files.one_certificate},
        {.host = "*.b.test", .insecure = true},
        {.host = "c.test:8443",
         .ca_file = files.one_certificate,
         .minimum_version = CONFIG_TLS_1_3},
        {.host = "d.test", .ca_file = files.one_certificate},
    };
    struct tls *tls = load_good((struct config_tls){.ca_file = files.two_certificate}, hosts,
                                COUNT_OF(hosts), NULL);
    struct tls_profile *other = tls_find(tls, "other.test");
    assert_true(tls_profile_verifies(other));
    assert_ptr_equal(tls_find(tls, "c.test"), other);
    assert_ptr_not_equal(tls_find(tls, "a.test"), other);
    assert_ptr_equal(tls_find(tls, "a.test:8443"), tls_find(tls, "a.test"));
    assert_ptr_equal(tls_find(tls, "d.test"), tls_find(tls, "a.test")); /* the same settings */
    assert_ptr_not_equal(tls_find(tls, "c.test:8443"), tls_find(tls, "a.test"));
    assert_false(tls_profile_verifies(tls_find(tls, "x.b.test")));
    assert_true(tls_profile_number(other) > 0);
    assert_int_not_equal(tls_profile_number(other), tls_profile_number(tls_find(tls, "a.test")));
    assert_string_not_equal(tls_profile_name(other), tls_profile_name(tls_find(tls, "a.test")));
    tls_destroy(tls);
}

static void test_system_roots(void **state)
{
    (void)state;
    struct tls *tls = load_good((struct config_tls){.host = NULL}, NULL, 0, NULL);
    assert_true(tls_profile_verifies(tls_find(tls, "a.test")));
    tls_destroy(tls);
}

/* What a connection would use. */
static void test_apply(void **state)
{
    (void)state;
    struct config_tls hosts[] = {
        {.host = "shown.test",
         .ca_file = files.one_certificate,
         .certificate_file = files.both,
         .key_file = files.both,
         .minimum_version = CONFIG_TLS_1_3},
        {.host = "any.test", .insecure = true},
    };
    struct tls *tls = load_good((struct config_tls){.ca_file = files.one_certificate}, hosts,
                                COUNT_OF(hosts), NULL);
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    X509_STORE *store = SSL_CTX_get_cert_store(context);
    assert_true(tls_profile_apply(tls_find(tls, "any.test"), context));
    assert_ptr_equal(SSL_CTX_get_cert_store(context), store);
    assert_int_equal(SSL_CTX_get_min_proto_version(context), TLS1_2_VERSION);
    assert_true(tls_profile_apply(tls_find(tls, "shown.test"), context));
    assert_ptr_not_equal(SSL_CTX_get_cert_store(context), store);
    assert_int_equal(SSL_CTX_get_min_proto_version(context), TLS1_3_VERSION);
    assert_non_null(SSL_CTX_get0_certificate(context));
    assert_int_equal(SSL_CTX_check_private_key(context), 1);
    /* One store for all. */
    store = SSL_CTX_get_cert_store(context);
    SSL_CTX *other = SSL_CTX_new(TLS_client_method());
    assert_true(tls_profile_apply(tls_find(tls, "else.test"), other));
    assert_ptr_equal(SSL_CTX_get_cert_store(other), store);
    SSL_CTX_free(other);
    SSL_CTX_free(context);
    tls_destroy(tls);
}

static void test_bad_files(void **state)
{
    (void)state;
    const struct {
        struct config_tls settings;
        const char *key, *path, *reason;
    } cases[] = {
        {{.ca_file = files.missing}, "ca_file", files.missing, "No such file or directory"},
        {{.ca_file = files.directory}, "ca_file", files.directory, "found a directory"},
        {{.ca_file = files.empty}, "ca_file", files.empty, "expected certificates in PEM"},
        {{.ca_file = files.one_key}, "ca_file", files.one_key, "found none"},
        {{.ca_file = files.broken}, "ca_file", files.broken, "expected certificates in PEM: "},
        {{.certificate_file = files.missing, .key_file = files.one_key},
         "certificate_file",
         files.missing,
         "No such file"},
        {{.certificate_file = files.one_certificate, .key_file = files.missing},
         "key_file",
         files.missing,
         "No such file"},
        {{.certificate_file = files.empty, .key_file = files.one_key},
         "certificate_file",
         files.empty,
         "expected a certificate in PEM, found none"},
        {{.certificate_file = files.broken, .key_file = files.one_key},
         "certificate_file",
         files.broken,
         "expected a certificate in PEM: "},
        {{.certificate_file = files.one_certificate, .key_file = files.broken},
         "key_file",
         files.broken,
         "expected a private key in PEM: "},
        {{.certificate_file = files.one_certificate, .key_file = files.one_certificate},
         "key_file",
         files.one_certificate,
         "expected a private key in PEM: "},
        {{.certificate_file = files.one_certificate, .key_file = files.locked_key},
         "key_file",
         files.locked_key,
         "expected a key without a passphrase"},
        {{.certificate_file = files.one_certificate, .key_file = files.two_key},
         "key_file",
         files.two_key,
         "the key does not belong to the certificate in "},
        {{.certificate_file = files.weak_certificate, .key_file = files.weak_key},
         "certificate_file",
         files.weak_certificate,
         "OpenSSL does not take it: "},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct config_tls host = cases[i].settings;
        char start[160];
        char *error = NULL;
        host.host = "h.test";
        host.where = "tls.hosts.h";
        assert_null(
            load((struct config_tls){.ca_file = files.one_certificate}, &host, 1, NULL, &error));
        assert_non_null(error);
        snprintf(start, sizeof start, "tls.hosts.h.%s: %s: ", cases[i].key, cases[i].path);
        if (strncmp(error, start, strlen(start)) != 0 || strstr(error, cases[i].reason) == NULL) {
            fail_msg("%zu: expected %s%s, found %s", i, start, cases[i].reason, error);
        }
        free(error);
    }
}

static void test_the_key_of_all_hosts(void **state)
{
    (void)state;
    char *error = NULL;
    assert_null(load((struct config_tls){.ca_file = files.missing}, NULL, 0, NULL, &error));
    assert_memory_equal(error, "tls.ca_file: ", 13);
    free(error);
}

static void test_loading_again(void **state)
{
    (void)state;
    char path[64];
    char text[4096] = "";
    name_file(path, "changing.pem");
    EVP_PKEY *key = EVP_EC_gen("P-256");
    write_pair(key, path, "/dev/null");
    EVP_PKEY_free(key);
    struct config_tls hosts[] = {
        {.host = "stays.test", .ca_file = files.one_certificate},
        {.host = "file.test", .ca_file = path},
        {.host = "setting.test", .ca_file = files.one_certificate, .insecure = false},
    };
    struct config_tls all = {.ca_file = files.two_certificate};
    struct tls *before = load_good(all, hosts, COUNT_OF(hosts), NULL);
    struct tls *same = load_good(all, hosts, COUNT_OF(hosts), before);
    static const char *const names[] = {"stays.test", "file.test", "setting.test", "x.test"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        assert_ptr_equal(tls_find(before, names[i]), tls_find(same, names[i]));
    }
    struct tls_profile *held = tls_profile_hold(tls_find(before, "file.test"));
    uint64_t number = tls_profile_number(held);
    tls_destroy(before);

    FILE *file = fopen(files.one_certificate, "r");
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    write_text(path, text);
    hosts[2].minimum_version = CONFIG_TLS_1_3;
    struct tls *after = load_good(all, hosts, COUNT_OF(hosts), same);
    assert_ptr_equal(tls_find(same, "stays.test"), tls_find(after, "stays.test"));
    assert_ptr_equal(tls_find(same, "x.test"), tls_find(after, "x.test"));
    assert_ptr_not_equal(tls_find(same, "setting.test"), tls_find(after, "setting.test"));
    assert_int_not_equal(tls_profile_number(tls_find(after, "file.test")), number);
    tls_destroy(same);
    tls_destroy(after);
    assert_int_equal(tls_profile_number(held), number); /* still good */
    tls_profile_release(held);
    tls_profile_release(NULL);
    tls_destroy(NULL);
    unlink(path);
}

static void test_warnings(void **state)
{
    (void)state;
    struct config_tls hosts[] = {
        {.host = "safe.test", .ca_file = files.one_certificate},
        {.host = "*.any.test", .where = "tls.hosts.x", .insecure = true},
    };
    struct config config = {.tls = {.ca_file = files.one_certificate},
                            .tls_hosts = hosts,
                            .tls_host_count = COUNT_OF(hosts)};
    char *error;
    struct tls *tls = tls_load(&config, NULL, &error);
    assert_non_null(tls);
    events = 0;
    tls_warn(tls, &config, NULL);
    assert_int_equal(events, 1);
    assert_string_equal(last_event, "tls_insecure");
    assert_string_equal(last_host, "*.any.test");
    tls_destroy(tls);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_system_roots),
        cmocka_unit_test(test_apply),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_the_key_of_all_hosts),
        cmocka_unit_test(test_loading_again),
        cmocka_unit_test(test_warnings),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

/*
 * See secrets.h.
 *
 * The clients are kept sorted by their names, in one array; the text that they point into is the
 * file's own. Whether a hash is sound is asked of libxcrypt (crypt_checksalt) and of its length: a
 * hash that was cut off would otherwise be known only by nobody getting in.
 */
#include "server/secrets.h"

#include "api/file.h"
#include "server/digest.h"

#include <assert.h>
#include <crypt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILES_MAX 3

struct client {
    const char *name;
    size_t name_bytes;
    const char *hash;
};

struct token {
    bool is_set;
    struct digest digest;
};

struct secrets {
    struct client *clients; /* sorted by name; NULL: nobody is asked */
    size_t client_count;
    uint64_t check_bytes;
    struct file text; /* of clients, with its line ends and colons replaced by '\0' */
    struct digest_key key;
    struct token admin_read;
    struct token admin_operate;
    char *exposed[FILES_MAX];
    size_t exposed_count;
};

/* What is being read, for messages. */
struct source {
    const char *key;
    const char *path;
    char **ret_error;
};

static bool fail(const struct source *source, size_t line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* "auth.clients: PATH:LINE: ...", always false. LINE 0: the file as a whole. */
static bool fail(const struct source *source, size_t line, const char *format, ...)
{
    char reason[256];
    char number[24] = "";
    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    if (line > 0) {
        (void)snprintf(number, sizeof number, ":%zu", line);
    }
    if (asprintf(&text, "%s: %s%s: %s", source->key, source->path, number, reason) < 0) {
        text = NULL;
    }
    for (char *at = text; at != NULL && *at != '\0'; at++) {
        *at = (unsigned char)*at < 0x20 || *at == 0x7f ? '?' : *at;
    }
    *source->ret_error = text;
    return false;
}

/* --- files --- */

/* Reads the file of SOURCE, which must be text. */
static bool read_text(struct secrets *secrets, const struct source *source, struct file *ret_file)
{
    struct file file;
    char reason[FILE_REASON_MAX];
    if (!file_read(source->path, SECRETS_FILE_BYTES_MAX, &file, reason)) {
        return fail(source, 0, "%s", reason);
    }
    bool good = true;
    if (file.count == 0) {
        good = fail(source, 0, "the file is empty");
    } else if (memchr(file.bytes, '\0', file.count) != NULL) {
        good = fail(source, 0, "expected text, found a byte 0");
    } else if (file.exposed) {
        assert(secrets->exposed_count < FILES_MAX);
        char *path = strdup(source->path);
        good = path != NULL || fail(source, 0, "out of memory");
        secrets->exposed[secrets->exposed_count] = path;
        secrets->exposed_count += good ? 1 : 0;
    }
    if (!good) {
        file_finish(&file);
        return false;
    }
    *ret_file = file;
    return true;
}

/* --- clients --- */

/* How long the hash itself is, after the last '$', for each method; 0: not one that is safe. */
static size_t hash_bytes(const char *hash)
{
    static const struct {
        const char *prefix;
        size_t bytes;
    } methods[] = {
        {"$y$", 43}, {"$gy$", 43}, {"$7$", 43},  {"$6$", 86},
        {"$5$", 43}, {"$2b$", 53}, {"$2y$", 53}, {"$2a$", 53},
    };
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        if (strncmp(hash, methods[i].prefix, strlen(methods[i].prefix)) == 0) {
            return methods[i].bytes;
        }
    }
    return 0;
}

/*
 * Whether the cost is one that the method has. crypt_checksalt() does not look at it, and crypt(3)
 * itself would take its time.
 */
static bool has_good_cost(const char *hash)
{
    char *end;
    if (hash[1] == '2') {
        unsigned long cost = strtoul(hash + 4, &end, 10);
        return end == hash + 6 && *end == '$' && cost >= 4 && cost <= 31;
    }
    if (strncmp(hash + 3, "rounds=", 7) == 0 && (hash[1] == '5' || hash[1] == '6')) {
        unsigned long rounds = strtoul(hash + 10, &end, 10);
        return *end == '$' && rounds >= 1000 && rounds <= 999999999;
    }
    return true;
}

static const char *hash_defect(const char *hash)
{
    if (hash[0] == '\0') {
        return "expected NAME:HASH, found no hash";
    }
    if (hash[0] == '!' || hash[0] == '*') {
        return "the hash is locked (it begins with ! or *): take the line out instead";
    }
    size_t expected = hash_bytes(hash);
    if (expected == 0 || strlen(hash) > SECRETS_HASH_MAX) {
        return "expected a hash of bcrypt ($2b$), SHA-256 ($5$), SHA-512 ($6$), scrypt ($7$) or "
               "yescrypt ($y$), as mkpasswd, htpasswd -B or openssl passwd -6 write it";
    }
    const char *last = strrchr(hash, '$') + 1;
    int verdict = crypt_checksalt(hash);
    if (strlen(last) != expected || strspn(last, "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                                 "abcdefghijklmnopqrstuvwxyz") != expected) {
        return "the hash is not complete";
    }
    if (verdict == CRYPT_SALT_METHOD_DISABLED) {
        return "this machine does not know the method of the hash";
    }
    /* what libxcrypt calls legacy is judged by hash_bytes(): it says so of SHA-256 too */
    return verdict == CRYPT_SALT_INVALID || !has_good_cost(hash)
               ? "the hash is malformed: expected one as crypt(5) describes it"
               : NULL;
}

/* The number that stands for DIGIT in a hash. */
static unsigned digit_value(char digit)
{
    static const char digits[] = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const char *at = digit != '\0' ? strchr(digits, digit) : NULL;
    return at != NULL ? (unsigned)(at - digits) : 0;
}

/*
 * What scrypt and yescrypt take: 128 bytes x r x 2^n. "$7$" has n, then r in five digits of six
 * bits; "$y$" a flavour, n - 1 and r - 1, each of one digit unless it is very large.
 */
static uint64_t check_bytes(const char *hash)
{
    const char *cost = strchr(hash + 1, '$') + 1;
    uint64_t r = 0;
    unsigned n;
    if (hash[1] == '7') {
        n = digit_value(cost[0]);
        for (unsigned i = 0; i < 5; i++) {
            r |= (uint64_t)digit_value(cost[1 + i]) << (6 * i);
        }
    } else if (hash[1] == 'y' || hash[1] == 'g') {
        n = digit_value(cost[1]) + 1;
        r = digit_value(cost[2]) + 1;
    } else {
        return 0;
    }
    return n < 24 && r < UINT64_C(1) << 20 ? 128 * r << n : UINT64_MAX / 4;
}

static const char *name_defect(const char *name, size_t bytes)
{
    if (bytes == 0) {
        return "expected NAME:HASH, found no name";
    }
    if (bytes > SECRETS_NAME_MAX) {
        return "expected a name of at most 128 bytes";
    }
    for (size_t i = 0; i < bytes; i++) {
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f) {
            return "expected a name without control characters";
        }
    }
    return NULL;
}

static int compare_names(const char *one, size_t one_bytes, const char *other, size_t other_bytes)
{
    int order = memcmp(one, other, one_bytes < other_bytes ? one_bytes : other_bytes);
    return order != 0 ? order : (one_bytes > other_bytes) - (one_bytes < other_bytes);
}

static int compare_clients(const void *one, const void *other)
{
    const struct client *a = one;
    const struct client *b = other;
    return compare_names(a->name, a->name_bytes, b->name, b->name_bytes);
}

/* Cuts LINE into a client, in place. */
static const char *read_client(char *line, struct client *ret_client)
{
    char *colon = strchr(line, ':');
    if (colon == NULL) {
        return "expected NAME:HASH";
    }
    *colon = '\0';
    *ret_client = (struct client){line, (size_t)(colon - line), colon + 1};
    const char *defect = name_defect(ret_client->name, ret_client->name_bytes);
    return defect != NULL ? defect : hash_defect(ret_client->hash);
}

/* Without its CR and the blanks at its ends. */
static char *trim(char *line)
{
    line += strspn(line, " \t");
    size_t bytes = strlen(line);
    while (bytes > 0 && strchr(" \t\r", line[bytes - 1]) != NULL) {
        line[--bytes] = '\0';
    }
    return line;
}

static bool add_client(struct secrets *secrets, size_t *room, const struct client *client)
{
    if (secrets->client_count == *room) {
        size_t grown_room = 2 * *room + 16;
        struct client *grown = reallocarray(secrets->clients, grown_room, sizeof *grown);
        if (grown == NULL) {
            return false;
        }
        secrets->clients = grown;
        *room = grown_room;
    }
    secrets->clients[secrets->client_count++] = *client;
    uint64_t bytes = check_bytes(client->hash);
    secrets->check_bytes = bytes > secrets->check_bytes ? bytes : secrets->check_bytes;
    return true;
}

/* The lines of secrets->text. */
static bool read_clients(struct secrets *secrets, const struct source *source)
{
    size_t room = 0;
    size_t number = 0;
    char *rest = secrets->text.bytes;
    while (rest != NULL && *rest != '\0') {
        char *line = strsep(&rest, "\n");
        struct client client;
        number++;
        line = trim(line);
        if (line[0] == '\0' || line[0] == '#') {
            continue;
        }
        const char *defect = read_client(line, &client);
        if (defect != NULL) {
            return fail(source, number, "%s", defect);
        }
        if (!add_client(secrets, &room, &client)) {
            return fail(source, 0, "out of memory");
        }
    }
    if (secrets->client_count == 0) {
        return fail(source, 0, "there is no NAME:HASH in it, so that nobody could come in");
    }
    qsort(secrets->clients, secrets->client_count, sizeof *secrets->clients, compare_clients);
    for (size_t i = 1; i < secrets->client_count; i++) {
        if (compare_clients(&secrets->clients[i - 1], &secrets->clients[i]) == 0) {
            return fail(source, 0, "the name \"%s\" is there twice", secrets->clients[i].name);
        }
    }
    return true;
}

/* --- tokens --- */

static bool read_token(struct secrets *secrets, const struct source *source,
                       struct token *ret_token)
{
    struct file file;
    if (!read_text(secrets, source, &file)) {
        return false;
    }
    const char *text = file.bytes;
    size_t length = file.count;
    while (length > 0 && strchr(" \t\r\n", text[length - 1]) != NULL) {
        length--;
    }
    size_t visible = 0;
    while (visible < length && text[visible] > 0x20 && text[visible] < 0x7f) {
        visible++;
    }
    bool good = true;
    if (length == 0) {
        good = fail(source, 0, "the file is empty");
    } else if (visible < length) {
        good = fail(source, 0, "expected one line of visible ASCII characters, without spaces");
    } else if (length < SECRETS_TOKEN_MIN || length > SECRETS_TOKEN_MAX) {
        good = fail(source, 0, "expected a token of %d to %d characters", SECRETS_TOKEN_MIN,
                    SECRETS_TOKEN_MAX);
    } else if (!digest_compute(&secrets->key, text, length, &ret_token->digest)) {
        good = fail(source, 0, "out of memory");
    }
    ret_token->is_set = good;
    file_finish(&file);
    return good;
}

/* --- all --- */

static bool load(struct secrets *secrets, const struct secrets_paths *paths, char **ret_error)
{
    struct source clients = {"auth.clients", paths->clients, ret_error};
    struct source reader = {"auth.admin.read", paths->admin_read, ret_error};
    struct source operator= {"auth.admin.operate", paths->admin_operate, ret_error};
    if (!digest_key_init(&secrets->key)) {
        return false;
    }
    if (paths->clients != NULL &&
        (!read_text(secrets, &clients, &secrets->text) || !read_clients(secrets, &clients))) {
        return false;
    }
    if (paths->admin_read != NULL && !read_token(secrets, &reader, &secrets->admin_read)) {
        return false;
    }
    if (paths->admin_operate != NULL && !read_token(secrets, &operator, & secrets->admin_operate)) {
        return false;
    }
    if (secrets->admin_read.is_set && secrets->admin_operate.is_set &&
        digest_equals(&secrets->admin_read.digest, &secrets->admin_operate.digest)) {
        return fail(&operator, 0, "expected another token than that of auth.admin.read");
    }
    return true;
}

struct secrets *secrets_load(const struct secrets_paths *paths, char **ret_error)
{
    struct secrets *secrets = calloc(1, sizeof *secrets);
    *ret_error = NULL;
    if (secrets != NULL && !load(secrets, paths, ret_error)) {
        secrets_destroy(secrets);
        return NULL;
    }
    return secrets;
}

void secrets_destroy(struct secrets *secrets)
{
    if (secrets == NULL) {
        return;
    }
    for (size_t i = 0; i < secrets->exposed_count; i++) {
        free(secrets->exposed[i]);
    }
    free(secrets->clients);
    file_finish(&secrets->text);
    explicit_bzero(secrets, sizeof *secrets);
    free(secrets);
}

const char *secrets_exposed(const struct secrets *secrets, size_t n)
{
    return n < secrets->exposed_count ? secrets->exposed[n] : NULL;
}

bool secrets_ask_clients(const struct secrets *secrets)
{
    return secrets->clients != NULL;
}

bool secrets_find_client(const struct secrets *secrets, const char *name, size_t bytes,
                         const char **ret_hash)
{
    assert(secrets->client_count > 0);
    size_t low = 0;
    size_t high = secrets->client_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct client *client = &secrets->clients[middle];
        int order = compare_names(name, bytes, client->name, client->name_bytes);
        if (order == 0) {
            *ret_hash = client->hash;
            return true;
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    *ret_hash = secrets->clients[0].hash;
    return false;
}

uint64_t secrets_check_bytes(const struct secrets *secrets)
{
    return secrets->check_bytes;
}

enum secrets_role secrets_role(const struct secrets *secrets, const char *token, size_t bytes)
{
    struct digest digest;
    if (!digest_compute(&secrets->key, token, bytes, &digest)) {
        return SECRETS_NOBODY;
    }
    bool reads = digest_equals(&digest, &secrets->admin_read.digest) && secrets->admin_read.is_set;
    bool operates =
        digest_equals(&digest, &secrets->admin_operate.digest) && secrets->admin_operate.is_set;
    return operates ? SECRETS_OPERATOR : reads ? SECRETS_READER : SECRETS_NOBODY;
}

bool secrets_ask_readers(const struct secrets *secrets)
{
    return secrets->admin_read.is_set;
}

bool secrets_ask_operators(const struct secrets *secrets)
{
    return secrets->admin_read.is_set || secrets->admin_operate.is_set;
}

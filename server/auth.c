/*
 * See auth.h.
 *
 *   auth_ask() --known--> at once
 *       |
 *       v new
 *   WAITING --a thread is free--> RUNNING --on_checked()--> DONE --auth_run()--> queries answered
 *
 * A check has one list of queries: everybody who shows the same credentials meanwhile. When its
 * last query is cancelled it ends if it has not begun; one that runs is left to run, and what it
 * finds is remembered.
 *
 * The thread is given copies and touches nothing else. on_checked() only moves the check from one
 * list to another; the rest is done in the turn.
 */
#include "server/auth.h"

#include "server/auth_cache.h"
#include "server/credentials.h"
#include "server/digest.h"

#include <assert.h>
#include <crypt.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#define WAITING_MAX 256 /* checks that have not begun */
#define WRONG_NS    (UINT64_C(10) * 1000000000)

static const char wrong_detail[] = "the name or the password is wrong";

struct auth_check {
    uv_work_t work;
    TAILQ_ENTRY(auth_check) link;
    struct auth *auth; /* NULL: it has gone */
    auth_verify *verify;
    struct auth_queries queries;
    struct digest digest;
    uint64_t generation; /* of the secrets that it is about */
    bool is_running;
    bool name_known;
    bool right; /* written by the thread */
    char hash[SECRETS_HASH_MAX + 1];
    char password[CREDENTIALS_MAX + 1];
};

TAILQ_HEAD(check_list, auth_check);

struct auth {
    uv_loop_t *loop;
    auth_verify *verify;
    const struct secrets *secrets;
    uint64_t generation;
    struct digest_key key;
    struct check_list waiting;
    struct check_list running;
    struct check_list done;
    struct auth_counts counts;
    struct auth_cache right;
    struct auth_cache wrong;
};

/* Whether PASSWORD has the HASH; slow. */
static bool verify_password(const char *password, const char *hash)
{
    struct crypt_data data;
    memset(&data, 0, sizeof data);
    const char *made = crypt_rn(password, hash, &data, (int)sizeof data);
    size_t bytes = strlen(hash);
    bool right = made != NULL && strlen(made) == bytes && CRYPTO_memcmp(made, hash, bytes) == 0;
    explicit_bzero(&data, sizeof data);
    return right;
}

struct auth *auth_create(uv_loop_t *loop, const struct secrets *secrets)
{
    struct auth *auth = calloc(1, sizeof *auth);
    if (auth == NULL || !digest_key_init(&auth->key)) {
        free(auth);
        return NULL;
    }
    auth->loop = loop;
    auth->verify = verify_password;
    auth->secrets = secrets;
    TAILQ_INIT(&auth->waiting);
    TAILQ_INIT(&auth->running);
    TAILQ_INIT(&auth->done);
    return auth;
}

static void free_check(struct auth_check *check)
{
    explicit_bzero(check, sizeof *check);
    free(check);
}

static void free_checks(struct check_list *list)
{
    struct auth_check *check;
    while ((check = TAILQ_FIRST(list)) != NULL) {
        assert(TAILQ_EMPTY(&check->queries));
        TAILQ_REMOVE(list, check, link);
        free_check(check);
    }
}

void auth_destroy(struct auth *auth)
{
    if (auth == NULL) {
        return;
    }
    struct auth_check *check;
    while ((check = TAILQ_FIRST(&auth->running)) != NULL) {
        TAILQ_REMOVE(&auth->running, check, link);
        check->auth = NULL;
        (void)uv_cancel((uv_req_t *)&check->work); /* on_checked() is called in any case */
    }
    free_checks(&auth->waiting);
    free_checks(&auth->done);
    explicit_bzero(auth, sizeof *auth);
    free(auth);
}

void auth_replace(struct auth *auth, const struct secrets *secrets)
{
    auth->secrets = secrets;
    auth->generation++;
    auth_cache_clear(&auth->right);
    auth_cache_clear(&auth->wrong);
}

bool auth_is_on(const struct auth *auth)
{
    return secrets_ask_clients(auth->secrets);
}

struct auth_counts auth_counts(const struct auth *auth)
{
    return auth->counts;
}

void auth_set_verify(struct auth *auth, auth_verify *verify)
{
    auth->verify = verify;
}

bool auth_is_busy(const struct auth *auth)
{
    return auth->counts.checking > 0;
}

/* --- on a thread --- */

static void on_work(uv_work_t *work)
{
    struct auth_check *check = work->data;
    bool right = check->verify(check->password, check->hash);
    check->right = right && check->name_known;
}

/* --- on the loop --- */

static void on_checked(uv_work_t *work, int status)
{
    struct auth_check *check = work->data;
    (void)status; /* only one that is let go is ever cancelled */
    if (check->auth == NULL) {
        free_check(check); /* libuv is done with it; nobody else knows it */
        return;
    }
    TAILQ_REMOVE(&check->auth->running, check, link);
    check->auth->counts.checking--;
    TAILQ_INSERT_TAIL(&check->auth->done, check, link);
}

/* Begins what waits, as far as it may. */
static bool begin_checks(struct auth *auth)
{
    bool worked = false;
    struct auth_check *check;
    while (auth->counts.checking < AUTH_RUNNING_MAX &&
           (check = TAILQ_FIRST(&auth->waiting)) != NULL) {
        int error = uv_queue_work(auth->loop, &check->work, on_work, on_checked);
        assert(error == 0); /* it only puts it on a list */
        (void)error;
        TAILQ_REMOVE(&auth->waiting, check, link);
        TAILQ_INSERT_TAIL(&auth->running, check, link);
        check->is_running = true;
        auth->counts.waiting--;
        auth->counts.checking++;
        auth->counts.checks_total++;
        worked = true;
    }
    return worked;
}

static void answer(struct auth *auth, struct auth_query *query, bool right)
{
    query->check = NULL;
    query->ready = true;
    query->problem = right ? PROBLEM_NONE : PROBLEM_AUTH_REQUIRED;
    query->detail = right ? NULL : wrong_detail;
    auth->counts.refused_total += right ? 0 : 1;
    TAILQ_INSERT_TAIL(query->answered, query, link);
}

bool auth_run(struct auth *auth, uint64_t now_ns)
{
    bool worked = false;
    struct auth_check *check;
    while ((check = TAILQ_FIRST(&auth->done)) != NULL) {
        struct auth_query *query;
        if (check->generation == auth->generation) {
            auth_cache_add(check->right ? &auth->right : &auth->wrong, &check->digest,
                           check->right ? UINT64_MAX : now_ns + WRONG_NS, now_ns);
        }
        while ((query = TAILQ_FIRST(&check->queries)) != NULL) {
            TAILQ_REMOVE(&check->queries, query, link);
            answer(auth, query, check->right);
        }
        TAILQ_REMOVE(&auth->done, check, link);
        free_check(check);
        worked = true;
    }
    return begin_checks(auth) || worked;
}

/* --- queries --- */

static struct auth_check *find_check(struct auth *auth, const struct digest *digest)
{
    struct check_list *lists[] = {&auth->running, &auth->waiting, &auth->done};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        struct auth_check *check;
        TAILQ_FOREACH (check, lists[i], link) {
            if (check->generation == auth->generation && digest_equals(&check->digest, digest)) {
                return check;
            }
        }
    }
    return NULL;
}

static struct auth_check *create_check(struct auth *auth, const struct credentials *credentials,
                                       const struct digest *digest)
{
    const char *hash;
    struct auth_check *check = calloc(1, sizeof *check);
    if (check == NULL) {
        return NULL;
    }
    check->work.data = check;
    check->auth = auth;
    check->verify = auth->verify;
    check->digest = *digest;
    check->generation = auth->generation;
    check->name_known =
        secrets_find_client(auth->secrets, credentials->text, credentials->name_bytes, &hash);
    assert(strlen(hash) < sizeof check->hash);
    memcpy(check->hash, hash, strlen(hash) + 1);
    memcpy(check->password, credentials->text + credentials->name_bytes + 1,
           credentials->bytes - credentials->name_bytes); /* with its '\0' */
    TAILQ_INIT(&check->queries);
    TAILQ_INSERT_TAIL(&auth->waiting, check, link);
    auth->counts.waiting++;
    return check;
}

/* What is known of CREDENTIALS; true with the answer, or QUERY waits for it. */
static bool ask_for(struct auth *auth, const struct credentials *credentials,
                    struct auth_query *query, struct auth_queries *answered, uint64_t now_ns,
                    enum problem *ret_problem, const char **ret_detail)
{
    struct digest digest;
    *ret_problem = PROBLEM_INTERNAL;
    *ret_detail = "out of memory to check the credentials";
    if (!digest_compute(&auth->key, credentials->text, credentials->bytes, &digest)) {
        return true;
    }
    if (auth_cache_find(&auth->right, &digest, now_ns)) {
        *ret_problem = PROBLEM_NONE;
        *ret_detail = NULL;
        return true;
    }
    if (auth_cache_find(&auth->wrong, &digest, now_ns)) {
        auth->counts.refused_total++;
        *ret_problem = PROBLEM_AUTH_REQUIRED;
        *ret_detail = wrong_detail;
        return true;
    }
    struct auth_check *check = find_check(auth, &digest);
    if (check == NULL && auth->counts.waiting >= WAITING_MAX) {
        auth->counts.busy_total++;
        *ret_problem = PROBLEM_AUTH_BUSY;
        *ret_detail = "as many credentials wait for their check as may";
        return true;
    }
    if (check == NULL) {
        check = create_check(auth, credentials, &digest);
    }
    if (check == NULL) {
        return true;
    }
    *query = (struct auth_query){.check = check, .answered = answered};
    TAILQ_INSERT_TAIL(&check->queries, query, link);
    return false;
}

bool auth_ask(struct auth *auth, const struct header *fields, size_t count,
              struct auth_query *query, struct auth_queries *answered, uint64_t now_ns,
              enum problem *ret_problem, const char **ret_detail)
{
    assert(query->check == NULL && !query->ready);
    if (!auth_is_on(auth)) {
        *ret_problem = PROBLEM_NONE;
        *ret_detail = NULL;
        return true;
    }
    struct credentials credentials;
    switch (credentials_read(fields, count, &credentials, ret_detail)) {
    case CREDENTIALS_TWICE:
        *ret_problem = PROBLEM_BAD_REQUEST;
        return true;
    case CREDENTIALS_MISSING:
    case CREDENTIALS_MALFORMED:
        auth->counts.refused_total++;
        *ret_problem = PROBLEM_AUTH_REQUIRED;
        return true;
    case CREDENTIALS_FOUND:
        break;
    }
    bool known = ask_for(auth, &credentials, query, answered, now_ns, ret_problem, ret_detail);
    credentials_wipe(&credentials);
    if (!known) {
        begin_checks(auth);
    }
    return known;
}

struct auth_query *auth_take(struct auth_queries *answered)
{
    struct auth_query *query = TAILQ_FIRST(answered);
    if (query != NULL) {
        TAILQ_REMOVE(answered, query, link);
        query->ready = false;
    }
    return query;
}

void auth_cancel(struct auth_query *query)
{
    struct auth_check *check = query->check;
    if (query->ready) {
        TAILQ_REMOVE(query->answered, query, link);
    } else if (check != NULL) {
        TAILQ_REMOVE(&check->queries, query, link);
        if (TAILQ_EMPTY(&check->queries) && !check->is_running) {
            TAILQ_REMOVE(&check->auth->waiting, check, link);
            check->auth->counts.waiting--;
            free_check(check);
        }
    }
    query->ready = false;
    query->check = NULL;
}

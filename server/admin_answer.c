#include "server/admin_answer.h"

#include "api/percent.h"
#include "limiter/rules.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DETAIL_MAX  512
#define LARGE_BYTES 65536 /* of a report that is shared */
#define LARGE_NS    UINT64_C(1000000000)
#define ROUTES                                                     \
    "GET /status, GET /hosts/HOST, GET /healthz, GET /readyz and " \
    "POST " ADMIN_GATE_QUIT

struct answer {
    unsigned status;
    const char *type;
    const char *allow;               /* or NULL */
    const struct problem_kind *kind; /* or NULL */
    char *body;                      /* owned; NULL where memory is out */
    size_t bytes;
};

/* --- Answers --- */

static struct answer make_problem(enum problem problem, const char *detail, const char *host)
{
    struct problem_report report = {
        .problem = problem,
        .overflow_status = MHD_HTTP_SERVICE_UNAVAILABLE,
        .detail = detail,
        .host = host,
        .queued = -1,
        .limit = -1,
    };
    struct answer answer = {
        .status = problem_status(problem, report.overflow_status),
        .type = "application/problem+json",
        .kind = problem_kind(problem),
    };

    answer.body = problem_body(&report, &answer.bytes);
    return answer;
}

static struct answer make_json(unsigned status, char *body, size_t bytes)
{
    return (struct answer){
        .status = status, .type = "application/json", .body = body, .bytes = bytes};
}

static struct answer make_state(unsigned status, const char *state)
{
    char *body = NULL;
    int bytes = asprintf(&body, "{\"status\":\"%s\"}\n", state);

    return bytes < 0 ? make_json(status, NULL, 0) : make_json(status, body, (size_t)bytes);
}

/* Owns the answer's body. NULL when out of memory. */
static struct MHD_Response *make_response(struct answer answer)
{
    struct MHD_Response *response = NULL;

    if (answer.body != NULL) {
        response =
            MHD_create_response_from_buffer(answer.bytes, answer.body, MHD_RESPMEM_MUST_FREE);
    }
    if (response == NULL) {
        free(answer.body);
        return NULL;
    }
    if (MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, answer.type) == MHD_YES &&
        MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store") == MHD_YES &&
        (answer.kind == NULL || answer.kind->challenge_field == NULL ||
         MHD_add_response_header(response, answer.kind->challenge_field, answer.kind->challenge) ==
             MHD_YES) &&
        (answer.allow == NULL ||
         MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, answer.allow) == MHD_YES)) {
        return response;
    }
    MHD_destroy_response(response);
    return NULL;
}

/* Owns the answer's body. */
static enum MHD_Result send_answer(struct MHD_Connection *connection, struct answer answer)
{
    struct MHD_Response *response = make_response(answer);

    if (response == NULL) {
        return MHD_NO; /* closes the connection */
    }
    enum MHD_Result result = MHD_queue_response(connection, answer.status, response);
    MHD_destroy_response(response);
    return result;
}

/* --- Routes --- */

static void forget_report(struct admin_answers *answers)
{
    if (answers->report != NULL) {
        MHD_destroy_response(answers->report); /* those that are still being sent have it, too */
        answers->report = NULL;
    }
}

/*
 * Sends the document of /status. A large one takes the loop's time and, until it has been read,
 * memory: whoever asks within a second of the last gets the same one.
 */
static enum MHD_Result send_report(struct admin_answers *answers, struct MHD_Connection *connection,
                                   uint64_t now_ns)
{
    if (answers->report == NULL) {
        struct report_service service = {0};
        const struct limiter *limiter = NULL;
        uint64_t described_ns = 0;
        size_t bytes = 0;

        answers->source.describe(answers->source.context, &service, &limiter, &described_ns);
        char *body = report_status(&service, limiter, described_ns, &bytes);
        answers->report = make_response(make_json(MHD_HTTP_OK, body, bytes));
        answers->report_until_ns = now_ns + (bytes >= LARGE_BYTES ? LARGE_NS : 0);
    }
    if (answers->report == NULL) {
        return MHD_NO;
    }
    enum MHD_Result result = MHD_queue_response(connection, MHD_HTTP_OK, answers->report);
    if (now_ns >= answers->report_until_ns) {
        forget_report(answers);
    }
    return result;
}

/*
 * Decodes the percent signs of TEXT, once, and writes what limiter keys look like: lower case.
 * Returns false where TEXT is not well formed or longer than any key.
 */
static bool read_host(const char *text, size_t bytes, char ret_host[static RULES_HOST_MAX])
{
    char decoded[3 * RULES_HOST_MAX];
    size_t length;

    if (bytes >= sizeof decoded || !percent_decode(text, bytes, decoded, &length) ||
        length >= RULES_HOST_MAX || memchr(decoded, '\0', length) != NULL) {
        return false;
    }
    for (size_t i = 0; i <= length; i++) {
        bool upper = decoded[i] >= 'A' && decoded[i] <= 'Z';
        ret_host[i] = upper ? (char)(decoded[i] + ('a' - 'A')) : decoded[i];
    }
    return true;
}

static struct answer answer_host(const struct report_service *service,
                                 const struct limiter *limiter, uint64_t now_ns, const char *text,
                                 size_t bytes)
{
    char host[RULES_HOST_MAX];
    char detail[DETAIL_MAX];

    if (!read_host(text, bytes, host)) {
        return make_problem(PROBLEM_BAD_TARGET,
                            "HOST in /hosts/HOST is not well formed: expected a host as /status "
                            "names it, percent-encoded where needed",
                            NULL);
    }
    const struct limiter_host *found = limiter_find(limiter, host);

    if (found == NULL) {
        (void)snprintf(detail, sizeof detail,
                       "no host \"%s\" is known: expected one that was asked for, as /status "
                       "names it",
                       host);
        return make_problem(PROBLEM_NOT_FOUND, detail, host);
    }
    size_t body_bytes = 0;
    char *body = report_host(service, found, now_ns, &body_bytes);

    return make_json(MHD_HTTP_OK, body, body_bytes);
}

static struct answer answer_ready(const struct report_service *service)
{
    switch (service->state) {
    case REPORT_OK:
        return make_state(MHD_HTTP_OK, "ready");
    case REPORT_STARTING:
        return make_state(MHD_HTTP_SERVICE_UNAVAILABLE, "starting");
    case REPORT_DRAINING:
        return make_state(MHD_HTTP_SERVICE_UNAVAILABLE, "draining");
    }
    assert(false);
    return make_state(MHD_HTTP_SERVICE_UNAVAILABLE, "unknown");
}

static struct answer route(const struct admin_answers *answers,
                           const struct admin_gate_target *target)
{
    static const char hosts[] = "/hosts/";
    struct report_service service = {0};
    const struct limiter *limiter = NULL;
    uint64_t now_ns = 0;
    size_t prefix = sizeof hosts - 1;
    size_t rest = target->path_bytes > prefix ? target->path_bytes - prefix : 0;

    if (admin_gate_is(target, "/healthz")) {
        return make_state(MHD_HTTP_OK, "ok");
    }
    if (admin_gate_is(target, ADMIN_GATE_QUIT)) {
        return make_state(MHD_HTTP_OK, "draining");
    }
    answers->source.describe(answers->source.context, &service, &limiter, &now_ns);
    if (admin_gate_is(target, "/readyz")) {
        return answer_ready(&service);
    }
    if (rest > 0 && memcmp(target->path, hosts, prefix) == 0 &&
        memchr(target->path + prefix, '/', rest) == NULL) {
        return answer_host(&service, limiter, now_ns, target->path + prefix, rest);
    }
    return make_problem(PROBLEM_NOT_FOUND, "no such route on the admin port: expected " ROUTES,
                        NULL);
}

enum MHD_Result admin_answer_request(struct admin_answers *answers,
                                     struct MHD_Connection *connection,
                                     const struct admin_gate_target *target, uint64_t now_ns)
{
    if (admin_gate_is(target, "/status")) {
        return send_report(answers, connection, now_ns);
    }
    return send_answer(connection, route(answers, target));
}

enum MHD_Result admin_answer_problem(struct MHD_Connection *connection, enum problem problem,
                                     const char *detail, const char *allow)
{
    struct answer answer = make_problem(problem, detail, NULL);

    answer.allow = allow;
    return send_answer(connection, answer);
}

void admin_answers_forget(struct admin_answers *answers, uint64_t now_ns)
{
    if (now_ns >= answers->report_until_ns) {
        forget_report(answers);
    }
}

uint64_t admin_answers_next_ns(const struct admin_answers *answers)
{
    return answers->report != NULL ? answers->report_until_ns : UINT64_MAX;
}

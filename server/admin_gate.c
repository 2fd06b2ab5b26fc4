#include "server/admin_gate.h"

#include "server/credentials.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

struct admin_gate_target admin_gate_split(const char *text)
{
    static const char scheme[] = "http://";
    size_t prefix = sizeof scheme - 1;
    struct admin_gate_target target = {.path = text};
    if (strncasecmp(text, scheme, prefix) == 0) {
        target.authority = text + prefix;
        target.authority_bytes = strcspn(target.authority, "/?");
        target.path = target.authority + target.authority_bytes;
    }
    target.path_bytes = strcspn(target.path, "?");
    return target;
}

bool admin_gate_is(const struct admin_gate_target *target, const char *route)
{
    return target->path_bytes == strlen(route) &&
           memcmp(target->path, route, target->path_bytes) == 0;
}

const char *admin_gate_allow(const struct admin_gate_target *target)
{
    return admin_gate_is(target, ADMIN_GATE_QUIT) ? "POST" : "GET, HEAD";
}

static bool only_reads(const char *method)
{
    return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
}

/* Nothing, or a colon and digits. */
static bool is_port(const char *text, size_t bytes)
{
    size_t digits = bytes > 0 && text[0] == ':' ? 1 : 0;
    while (digits > 0 && digits < bytes && text[digits] >= '0' && text[digits] <= '9') {
        digits++;
    }
    return digits == bytes;
}

/* Whether AUTHORITY (host, or host:port) is localhost or an address, and so nobody's to rebind. */
static bool is_local_name(const char *authority, size_t bytes)
{
    char name[INET6_ADDRSTRLEN];
    struct in6_addr address;
    const char *host = authority;
    const char *end;
    const char *rest;
    int family = AF_INET;
    if (bytes > 0 && authority[0] == '[') {
        host++;
        end = memchr(host, ']', bytes - 1);
        rest = end != NULL ? end + 1 : NULL;
        family = AF_INET6;
    } else {
        end = memchr(authority, ':', bytes);
        end = end == NULL ? authority + bytes : end;
        rest = end;
    }
    if (end == NULL || (size_t)(end - host) >= sizeof name ||
        !is_port(rest, bytes - (size_t)(rest - authority))) {
        return false;
    }
    memcpy(name, host, (size_t)(end - host));
    name[end - host] = '\0';
    return bytes == 0 || strcasecmp(name, "localhost") == 0 ||
           inet_pton(family, name, &address) == 1;
}

static const struct header *find_field(const struct headers_request *request, const char *name)
{
    for (size_t i = 0; i < request->count; i++) {
        if (headers_is(&request->fields[i], name)) {
            return &request->fields[i];
        }
    }
    return NULL;
}

/* Whether the request may be a web page's. */
static enum problem check_browser(const struct headers_request *request,
                                  const struct admin_gate_target *target, const char **ret_detail)
{
    const struct header *host = find_field(request, "Host");
    if (target->authority != NULL
            ? !is_local_name(target->authority, target->authority_bytes)
            : host != NULL && !is_local_name(host->value, host->value_bytes)) {
        *ret_detail = "the Host field is a name: expected localhost or an IP address, so that no "
                      "web page can read the admin port by DNS rebinding";
        return PROBLEM_ADMIN_DENIED;
    }
    if (!only_reads(request->method) &&
        (find_field(request, "Origin") != NULL || find_field(request, "Sec-Fetch-Site") != NULL)) {
        *ret_detail = "the request comes from a web page (Origin, Sec-Fetch-Site): expected "
                      "neither field, as pages may change nothing here";
        return PROBLEM_ADMIN_DENIED;
    }
    return PROBLEM_NONE;
}

static enum problem check_token(const struct secrets *secrets,
                                const struct headers_request *request,
                                const struct admin_gate_target *target, const char **ret_detail)
{
    bool reads = only_reads(request->method);
    bool is_probe = admin_gate_is(target, "/healthz") || admin_gate_is(target, "/readyz");
    size_t bytes = 0;
    if (secrets == NULL || (reads && is_probe) ||
        !(reads ? secrets_ask_readers(secrets) : secrets_ask_operators(secrets))) {
        return PROBLEM_NONE;
    }
    const char *token = credentials_bearer(request->fields, request->count, &bytes);
    enum secrets_role role = token == NULL ? SECRETS_NOBODY : secrets_role(secrets, token, bytes);
    if (role == SECRETS_OPERATOR || (role == SECRETS_READER && reads)) {
        return PROBLEM_NONE;
    }
    if (role == SECRETS_READER) {
        *ret_detail = "the token may only read: expected that of auth.admin.operate";
        return PROBLEM_ADMIN_DENIED;
    }
    *ret_detail = "expected Authorization: Bearer and a token of auth.admin";
    return PROBLEM_ADMIN_AUTH_REQUIRED;
}

enum problem admin_gate_check(const struct secrets *secrets, const struct headers_request *request,
                              const struct admin_gate_target *target, const char **ret_detail)
{
    enum problem problem = check_browser(request, target, ret_detail);
    if (problem == PROBLEM_NONE) {
        problem = check_token(secrets, request, target, ret_detail);
    }
    if (problem != PROBLEM_NONE) {
        return problem;
    }
    bool quits = admin_gate_is(target, ADMIN_GATE_QUIT);
    if (quits ? strcmp(request->method, "POST") != 0 : !only_reads(request->method)) {
        *ret_detail = quits ? ADMIN_GATE_QUIT " ends the service: expected POST"
                            : "this only answers: expected GET or HEAD";
        return PROBLEM_METHOD_NOT_ALLOWED;
    }
    return PROBLEM_NONE;
}

/*
 * Who may ask what at the admin port: which requests are let through to its routes.
 *
 * Three things are asked of a request: that no web page made it, that it shows the token that it
 * needs where there are tokens (auth.admin), and that its method is one that the path has.
 *
 * Browsers: cross-origin reading is refused by the browser, as nothing here sends CORS fields. What
 * remains is a page whose own name was made to resolve to this address (DNS rebinding): its
 * requests carry that name as Host, so names other than localhost are refused. And a page may send
 * a plain POST anywhere without being able to read the answer: the browser then says where it comes
 * from (Origin, Sec-Fetch-Site), which no other program does, and it is refused.
 */
#ifndef WEIR_SERVER_ADMIN_GATE_H
#define WEIR_SERVER_ADMIN_GATE_H

#include "api/headers.h"
#include "server/secrets.h"

#include <stdbool.h>
#include <stddef.h>

#define ADMIN_GATE_QUIT "/quitquitquit"

/* A target taken apart: the path, and the authority of one in absolute form. */
struct admin_gate_target {
    const char *path;      /* with its query */
    size_t path_bytes;     /* without it */
    const char *authority; /* not '\0'-terminated; NULL: the Host field counts */
    size_t authority_bytes;
};

/* Takes the raw target TEXT apart, which is borrowed. */
struct admin_gate_target admin_gate_split(const char *text);

/* Whether TARGET's path is ROUTE. */
bool admin_gate_is(const struct admin_gate_target *target, const char *route);

/* The methods that TARGET's path has, as the Allow field lists them. */
const char *admin_gate_allow(const struct admin_gate_target *target);

/*
 * PROBLEM_NONE, or what refuses REQUEST, with a static sentence in *ret_detail. SECRETS are those
 * with the tokens; NULL: nobody is asked.
 */
enum problem admin_gate_check(const struct secrets *secrets, const struct headers_request *request,
                              const struct admin_gate_target *target, const char **ret_detail);

#endif

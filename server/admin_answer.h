/*
 * What the admin port answers, in libmicrohttpd's terms: its routes, and what is wrong with a
 * request. What it tells is what its source says then.
 */
#ifndef WEIR_SERVER_ADMIN_ANSWER_H
#define WEIR_SERVER_ADMIN_ANSWER_H

#include "api/problem.h"
#include "server/admin.h"
#include "server/admin_gate.h"

#include <microhttpd.h>
#include <stdint.h>

struct admin_answers {
    struct admin_source source;
    struct MHD_Response *report; /* of /status, for others who ask until then; NULL: none */
    uint64_t report_until_ns;
};

/* Answers the request for TARGET, which the gate has let through. */
enum MHD_Result admin_answer_request(struct admin_answers *answers,
                                     struct MHD_Connection *connection,
                                     const struct admin_gate_target *target, uint64_t now_ns);

/* Refuses a request. ALLOW: the methods that there are, or NULL. */
enum MHD_Result admin_answer_problem(struct MHD_Connection *connection, enum problem problem,
                                     const char *detail, const char *allow);

/* Lets go of what is no longer true at NOW_NS; UINT64_MAX: of everything. */
void admin_answers_forget(struct admin_answers *answers, uint64_t now_ns);

/* When that is next worth calling; UINT64_MAX: nothing is kept. */
uint64_t admin_answers_next_ns(const struct admin_answers *answers);

#endif

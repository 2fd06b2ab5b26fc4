/*
 * TLS toward upstreams: what is believed, what is shown, and which versions are spoken, host by
 * host.
 *
 * Everything is loaded once, when the service starts or reloads, and shared by all connections:
 * libcurl itself would read and parse the roots for each of its handles, and certificate and key
 * for each connection (tests/bench/tls has the figures). What is loaded is counted by reference:
 * a profile stays good for whoever holds it while a reload puts others in its place.
 *
 * A reload reads every file anew. Where neither the settings of a host nor what is in their files
 * has changed its profile stays the very same, and so do its connections.
 */
#ifndef WEIR_SERVER_TLS_H
#define WEIR_SERVER_TLS_H

#include "api/config.h"
#include "api/origin.h"
#include "server/log.h"

#include <stdbool.h>
#include <stdint.h>

struct tls;

/* How TLS is spoken with some hosts. Immutable. */
struct tls_profile;

/*
 * Loads what CONFIG names. BEFORE, which may be NULL, is what is in force until now. NULL with a
 * line about the first file that is not good in *ret_error, which the caller frees: the key, the
 * path and the reason; *ret_error is NULL where memory ran out.
 */
struct tls *tls_load(const struct config *config, const struct tls *before, char **ret_error);

/* Profiles that are still held stay good. Accepts NULL. */
void tls_destroy(struct tls *tls);

/* Warns of hosts with which nothing is verified, and of a system without roots. */
void tls_warn(const struct tls *tls, const struct config *config, struct log *log);

/* The profile for HOST, the limiter's key; TLS keeps owning it. */
struct tls_profile *tls_find(const struct tls *tls, const char *host);

/* Another reference to PROFILE. */
struct tls_profile *tls_profile_hold(struct tls_profile *profile);

/* Gives a reference back. Accepts NULL. */
void tls_profile_release(struct tls_profile *profile);

/* Different for different profiles, and never 0. */
uint64_t tls_profile_number(const struct tls_profile *profile);

/* The same as text: "tls-7". */
const char *tls_profile_name(const struct tls_profile *profile);

/* Whether the upstream's certificate is to be verified. */
bool tls_profile_verifies(const struct tls_profile *profile);

/* Whether no certificate can be good, because the system has no roots. */
bool tls_profile_believes_nobody(const struct tls_profile *profile);

/* Puts PROFILE into CONTEXT, an SSL_CTX. False when out of memory. */
bool tls_profile_apply(const struct tls_profile *profile, void *context);

#endif

/*
 * The resolver: names -> addresses, by the system's getaddrinfo() on some of libuv's threads.
 *
 * A name that is being looked up is looked up once, whoever asks. Answers are kept for 30 seconds,
 * failures for 3; an answer up to 5 minutes old is given at once while it is being renewed. The
 * number of names kept and of look-ups under way is bounded.
 *
 * It never calls its users: a look-up that has ended is pulled with resolver_take().
 */
#ifndef WEIR_SERVER_RESOLVER_H
#define WEIR_SERVER_RESOLVER_H

#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <uv.h>

#define RESOLVER_ADDRESSES 16 /* the most that are kept for a name */

/* Addresses of one name, in the order of getaddrinfo() (RFC 6724); the port is 0. */
struct resolver_addresses {
    unsigned count; /* 0: the look-up failed */
    int error;      /* then: an EAI_ code, or 0 where there was no room for the look-up */
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } at[RESOLVER_ADDRESSES];
};

/* Embedded by the caller; all zero is one that asks for nothing. */
struct resolver_query {
    TAILQ_ENTRY(resolver_query) link;
    struct resolver_entry *entry; /* while it waits or is ready: the resolver's business */
    unsigned mailbox; /* where its answer goes: set by the asker before each resolver_ask() */
    bool ready;
};

/* Who asks, and so whose resolver_take() returns it. */
enum { RESOLVER_FETCHES, RESOLVER_TUNNELS, RESOLVER_MAILBOXES };

struct resolver;

/* With THREADS look-ups at once; the others wait, first come, first served. NULL: no memory. */
struct resolver *resolver_create(uv_loop_t *loop, unsigned threads);

/*
 * No query may be under way. Look-ups that are still with libuv are let go; run the loop until they
 * have ended, then nothing of the resolver is left. Accepts NULL.
 */
void resolver_destroy(struct resolver *resolver);

/*
 * Asks for the addresses of NAME (a name, or an IPv4 or IPv6 literal without brackets). NOW_NS is
 * of uv_hrtime()'s clock. Returns true with the answer in *ret_addresses where it is known already,
 * and where there is no room for the look-up (a failure with error 0); else QUERY waits, until
 * resolver_take() returns it or resolver_cancel() ends it.
 */
bool resolver_ask(struct resolver *resolver, const char *name, struct resolver_query *query,
                  uint64_t now_ns, struct resolver_addresses *ret_addresses);

/* The next query of RESOLVER_FETCHES whose look-up has ended, with its answer; or NULL. */
struct resolver_query *resolver_take(struct resolver *resolver,
                                     struct resolver_addresses *ret_addresses);

/* The same, of MAILBOX. */
struct resolver_query *resolver_take_from(struct resolver *resolver, unsigned mailbox,
                                          struct resolver_addresses *ret_addresses);

/* Whether a look-up is under way; libuv cannot end one, only wait for it. */
bool resolver_is_busy(const struct resolver *resolver);

/* Ends QUERY's waiting. Legal in any state. */
void resolver_cancel(struct resolver *resolver, struct resolver_query *query);

/*
 * For tests: what is called on a thread for each look-up that starts from now on, in place of
 * getaddrinfo(). It answers with a list that freeaddrinfo() frees.
 */
typedef int resolver_lookup(const char *name, const char *service, const struct addrinfo *hints,
                            struct addrinfo **ret_list);
void resolver_set_lookup(struct resolver *resolver, resolver_lookup *look_up);

#endif

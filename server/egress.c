/*
 * See egress.h for the rules and their order.
 *
 * Names are kept sorted, so that one is found by searching for it and for each name above it.
 * Ranges are few and are looked through one by one. Ports are bits.
 */
#include "server/egress.h"

#include "api/address.h"
#include "server/local.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct name {
    char *text; /* of a pattern without its "*" */
    uint16_t port;
};

struct names {
    struct name *at;
    size_t count;
};

struct range {
    struct address first;
    unsigned bits;
    uint16_t port;
};

struct ranges {
    struct range *at;
    size_t count;
};

/* One list of the configuration. */
struct list {
    struct names exact;
    struct names patterns;
    struct ranges ranges;
};

struct ports {
    unsigned char bits[65536 / 8];
};

struct listener {
    struct address address;
    bool any; /* listens at every address of its family */
    uint16_t port;
};

struct egress {
    bool open_private;
    bool any_port;
    struct list allow;
    struct list deny;
    struct list named; /* hosts whose port the configuration writes */
    struct ports open;
    struct ports denied;
    struct ports undecided; /* by the name alone: the address may open them or be our own */
    struct listener *listeners;
    size_t listener_count;
};

static const char *const loop_detail =
    "the address is one at which this service itself listens: the request would come back to it";
static const char *const name_detail = "the host is denied by egress.deny";
static const char *const port_detail =
    "the port is not open: 80 and 443 are, or what egress.ports lists, and what the configuration "
    "names with this host";
static const char *const denied_port_detail = "the port is denied by egress.deny";
static const char *const range_detail = "the address is denied by egress.deny";

/* Why an address is not open, and what would open it. */
static const char *const class_details[ADDRESS_CLASS_COUNT] = {
    [ADDRESS_METADATA] = "the address is that of a cloud's metadata service: only an entry in "
                         "egress.allow with this very address opens it",
    [ADDRESS_LOOPBACK] = "the address is a loopback address: egress.private (--allow-private) or "
                         "an entry in egress.allow opens it",
    [ADDRESS_PRIVATE] = "the address is a private one: egress.private (--allow-private) or an "
                        "entry in egress.allow opens it",
    [ADDRESS_UNIQUE_LOCAL] = "the address is a unique-local one: egress.private (--allow-private) "
                             "or an entry in egress.allow opens it",
    [ADDRESS_LINK_LOCAL] =
        "the address is a link-local one: only an entry in egress.allow opens it",
    [ADDRESS_SITE_LOCAL] =
        "the address is a site-local one: only an entry in egress.allow opens it",
    [ADDRESS_SHARED] = "the address is one of carrier-grade NAT (100.64.0.0/10): only an entry in "
                       "egress.allow opens it",
    [ADDRESS_THIS_NETWORK] =
        "the address stands for this machine (0.0.0.0/8, ::): only an entry in egress.allow opens "
        "it",
    [ADDRESS_MULTICAST] = "the address is a multicast one: only an entry in egress.allow opens it",
    [ADDRESS_DOCUMENTATION] =
        "the address is reserved for documentation: only an entry in egress.allow opens it",
    [ADDRESS_BENCHMARKING] =
        "the address is reserved for benchmarking: only an entry in egress.allow opens it",
    [ADDRESS_DISCARD] =
        "the address is one whose packets are thrown away: only an entry in egress.allow opens it",
    [ADDRESS_6TO4] = "the address is a 6to4 one: only entries in egress.allow open it",
    [ADDRESS_TEREDO] = "the address is a Teredo one: only entries in egress.allow open it",
    [ADDRESS_NAT64] = "the address is a NAT64 one: only entries in egress.allow open it",
    [ADDRESS_COMPATIBLE] =
        "the address is an IPv4 address in an IPv6 one: only entries in egress.allow open it",
    [ADDRESS_RESERVED] = "the address is reserved: only an entry in egress.allow opens it",
};

/* --- ports --- */

static bool has_port(const struct ports *ports, uint16_t port)
{
    return (ports->bits[port / 8] & 1U << port % 8) != 0;
}

static void set_port(struct ports *ports, uint16_t port)
{
    ports->bits[port / 8] = (unsigned char)(ports->bits[port / 8] | 1U << port % 8);
}

/* --- lists --- */

static int compare_names(const void *one, const void *other)
{
    const struct name *a = one;
    const struct name *b = other;
    return strcmp(a->text, b->text);
}

/* Whether an entry of TEXT is there that holds for PORT; or, with WITH_PORT, that names PORT. */
static bool has_name(const struct names *names, const char *text, uint16_t port, bool with_port)
{
    size_t low = 0;
    size_t high = names->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(names->at[middle].text, text) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    for (; low < names->count && strcmp(names->at[low].text, text) == 0; low++) {
        if (names->at[low].port == port || (!with_port && names->at[low].port == 0)) {
            return true;
        }
    }
    return false;
}

/* Whether LIST holds a host or pattern that NAME matches. */
static bool list_has_name(const struct list *list, const char *name, uint16_t port, bool with_port)
{
    if (has_name(&list->exact, name, port, with_port)) {
        return true;
    }
    for (const char *dot = strchr(name, '.'); dot != NULL; dot = strchr(dot + 1, '.')) {
        if (has_name(&list->patterns, dot, port, with_port)) {
            return true;
        }
    }
    return false;
}

/* What an entry must be to count. */
enum need {
    NEED_ANY,
    NEED_PORT /* names the port */,
    NEED_EXACT /* is one address, not a range */
};

static bool list_has_address(const struct list *list, const struct address *address, uint16_t port,
                             enum need need)
{
    for (size_t i = 0; i < list->ranges.count; i++) {
        const struct range *range = &list->ranges.at[i];
        bool counts = range->port == port || (range->port == 0 && need != NEED_PORT);
        if (need == NEED_EXACT && range->bits < address_bits(&range->first)) {
            counts = false;
        }
        if (counts && address_in_range(address, &range->first, range->bits)) {
            return true;
        }
    }
    return false;
}

/* --- verdicts --- */

static bool is_own(const struct egress *egress, const struct address *address, uint16_t port)
{
    static const struct address here[2] = {
        {.ipv6 = false, .bytes = {127, 0, 0, 1}},
        {.ipv6 = true, .bytes = {[15] = 1}},
    };
    static const unsigned char nothing[16];
    if (memcmp(address->bytes, nothing, sizeof nothing) == 0) {
        address = &here[address->ipv6 ? 1 : 0]; /* where the kernel goes with 0.0.0.0 and :: */
    }
    for (size_t i = 0; i < egress->listener_count; i++) {
        const struct listener *own = &egress->listeners[i];
        if (own->port == port && own->address.ipv6 == address->ipv6 &&
            (own->any ? local_has(address) : address_equals(&own->address, address))) {
            return true;
        }
    }
    return false;
}

/* Rule 3, by all but the address. */
static bool is_port_open(const struct egress *egress, const struct egress_target *target)
{
    return egress->any_port || has_port(&egress->open, target->port) ||
           (target->grants & EGRESS_GRANT_PORT) != 0 ||
           list_has_name(&egress->allow, target->name, target->port, true) ||
           list_has_name(&egress->named, target->name, target->port, true);
}

/* Rules 4 to 8 for one address, without what it carries. */
static enum problem check_class(const struct egress *egress, const struct egress_target *target,
                                const struct address *address, const char **ret_detail)
{
    enum address_class class = address_classify(address);
    bool is_open_by_private =
        class == ADDRESS_LOOPBACK || class == ADDRESS_PRIVATE || class == ADDRESS_UNIQUE_LOCAL;
    bool is_private_open = egress->open_private || (target->grants & EGRESS_GRANT_PRIVATE) != 0;
    bool open;
    if (class == ADDRESS_METADATA) {
        open = list_has_address(&egress->allow, address, target->port, NEED_EXACT);
    } else {
        open = class == ADDRESS_PUBLIC || (is_open_by_private && is_private_open) ||
               list_has_address(&egress->allow, address, target->port, NEED_ANY) ||
               list_has_name(&egress->allow, target->name, target->port, false);
    }
    if (!open) {
        *ret_detail = class_details[class];
        return PROBLEM_DENIED_ADDRESS;
    }
    return PROBLEM_NONE;
}

static enum problem check_address(const struct egress *egress, const struct egress_target *target,
                                  const struct address *address, const char **ret_detail)
{
    struct address inner;
    if (list_has_address(&egress->deny, address, target->port, NEED_ANY)) {
        *ret_detail = range_detail;
        return PROBLEM_DENIED_ADDRESS;
    }
    enum problem problem = check_class(egress, target, address, ret_detail);
    if (problem == PROBLEM_NONE && address_carried(address, &inner)) {
        return check_address(egress, target, &inner, ret_detail); /* which carries none */
    }
    return problem;
}

/* Rule 2 for names and ports; the rest of a name's verdict is its port. */
static enum problem check_denied(const struct egress *egress, const struct egress_target *target,
                                 const char **ret_detail)
{
    if (has_port(&egress->denied, target->port)) {
        *ret_detail = denied_port_detail;
        return PROBLEM_DENIED_NAME;
    }
    if (list_has_name(&egress->deny, target->name, target->port, false)) {
        *ret_detail = name_detail;
        return PROBLEM_DENIED_NAME;
    }
    return PROBLEM_NONE;
}

static enum problem check_all(const struct egress *egress, const struct egress_target *target,
                              const struct address *address, const char **ret_detail)
{
    if (is_own(egress, address, target->port)) {
        *ret_detail = loop_detail;
        return PROBLEM_LOOP;
    }
    enum problem problem = check_denied(egress, target, ret_detail);
    if (problem != PROBLEM_NONE) {
        return problem;
    }
    if (!is_port_open(egress, target) &&
        !list_has_address(&egress->allow, address, target->port, NEED_PORT) &&
        !list_has_address(&egress->named, address, target->port, NEED_PORT)) {
        *ret_detail = port_detail;
        return PROBLEM_DENIED_NAME;
    }
    return check_address(egress, target, address, ret_detail);
}

enum problem egress_check_name(const struct egress *egress, const struct egress_target *target,
                               const char **ret_detail)
{
    assert(egress != NULL && target != NULL && target->name != NULL && target->port > 0);
    struct address address;
    if (address_parse(target->name, &address)) {
        return check_all(egress, target, &address, ret_detail);
    }
    enum problem problem = check_denied(egress, target, ret_detail);
    if (problem == PROBLEM_NONE && !has_port(&egress->undecided, target->port) &&
        !is_port_open(egress, target)) {
        *ret_detail = port_detail;
        return PROBLEM_DENIED_NAME;
    }
    return problem;
}

enum problem egress_check_address(const struct egress *egress, const struct egress_target *target,
                                  const struct sockaddr *address, const char **ret_detail)
{
    assert(egress != NULL && target != NULL && target->name != NULL && target->port > 0);
    struct address plain;
    if (!address_from_socket(address, &plain)) {
        *ret_detail = class_details[ADDRESS_RESERVED];
        return PROBLEM_DENIED_ADDRESS;
    }
    return check_all(egress, target, &plain, ret_detail);
}

enum problem egress_filter(const struct egress *egress, const struct egress_target *target,
                           struct resolver_addresses *addresses, const char **ret_detail)
{
    enum problem first = PROBLEM_NONE;
    unsigned kept = 0;
    for (unsigned i = 0; i < addresses->count; i++) {
        const char *detail = NULL;
        enum problem problem = egress_check_address(egress, target, &addresses->at[i].any, &detail);
        if (problem == PROBLEM_NONE) {
            addresses->at[kept++] = addresses->at[i];
        } else if (first == PROBLEM_NONE || problem == PROBLEM_LOOP) {
            first = problem;
            *ret_detail = detail;
        }
        if (problem == PROBLEM_LOOP) {
            kept = 0;
            break;
        }
    }
    addresses->count = kept;
    return kept > 0 ? PROBLEM_NONE : first;
}

/* --- from the configuration --- */

static bool add_name(struct names *names, const char *text, uint16_t port)
{
    struct name *grown = reallocarray(names->at, names->count + 1, sizeof *grown);
    if (grown == NULL) {
        return false;
    }
    names->at = grown;
    grown[names->count] = (struct name){strdup(text), port};
    return grown[names->count++].text != NULL;
}

static bool add_range(struct ranges *ranges, const struct config_egress_rule *rule)
{
    struct range *grown = reallocarray(ranges->at, ranges->count + 1, sizeof *grown);
    if (grown == NULL) {
        return false;
    }
    ranges->at = grown;
    grown[ranges->count++] = (struct range){rule->first, rule->prefix_bits, rule->port};
    return true;
}

static void sort_names(struct names *names)
{
    if (names->count > 0) {
        qsort(names->at, names->count, sizeof *names->at, compare_names);
    }
}

/* Fills LIST, and PORTS with those that stand alone. */
static bool fill_list(struct list *list, struct ports *ports,
                      const struct config_egress_list *config)
{
    bool good = true;
    for (size_t i = 0; i < config->count && good; i++) {
        const struct config_egress_rule *rule = &config->at[i];
        switch (rule->kind) {
        case CONFIG_EGRESS_RANGE:
            good = add_range(&list->ranges, rule);
            break;
        case CONFIG_EGRESS_NAME:
            good = rule->name[0] == '*' ? add_name(&list->patterns, rule->name + 1, rule->port)
                                        : add_name(&list->exact, rule->name, rule->port);
            break;
        case CONFIG_EGRESS_PORT:
            set_port(ports, rule->port);
            break;
        }
    }
    sort_names(&list->exact);
    sort_names(&list->patterns);
    return good;
}

static void finish_names(struct names *names)
{
    for (size_t i = 0; i < names->count; i++) {
        free(names->at[i].text);
    }
    free(names->at);
}

static void finish_list(struct list *list)
{
    finish_names(&list->exact);
    finish_names(&list->patterns);
    free(list->ranges.at);
}

static void open_ports(struct egress *egress, const struct config_egress *config)
{
    switch (config->ports_rule) {
    case CONFIG_PORTS_DEFAULT:
        egress->any_port = config->open_private;
        set_port(&egress->open, 80);
        set_port(&egress->open, 443);
        break;
    case CONFIG_PORTS_LISTED:
        for (size_t i = 0; i < config->port_count; i++) {
            set_port(&egress->open, config->ports[i]);
        }
        break;
    case CONFIG_PORTS_ANY:
        egress->any_port = true;
        break;
    }
}

static bool note_listeners(struct egress *egress, const struct sockaddr_storage *own, size_t count)
{
    static const unsigned char nothing[16];
    egress->listeners = calloc(count + 1, sizeof *egress->listeners);
    if (egress->listeners == NULL) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        struct listener *listener = &egress->listeners[egress->listener_count];
        if (!address_from_socket((const struct sockaddr *)&own[i], &listener->address)) {
            continue;
        }
        /* both families have the port at the same place */
        listener->port = ntohs(((const struct sockaddr_in *)(const void *)&own[i])->sin_port);
        listener->any = memcmp(listener->address.bytes, nothing, sizeof nothing) == 0;
        egress->listener_count++;
        set_port(&egress->undecided, listener->port);
    }
    return true;
}

/* A port that is open for some addresses only. */
static void note_undecided(struct egress *egress, const struct ranges *ranges)
{
    for (size_t i = 0; i < ranges->count; i++) {
        if (ranges->at[i].port != 0) {
            set_port(&egress->undecided, ranges->at[i].port);
        }
    }
}

struct egress *egress_create(const struct config_egress *config, const struct sockaddr_storage *own,
                             size_t count)
{
    assert(config != NULL && (own != NULL || count == 0));
    struct egress *egress = calloc(1, sizeof *egress);
    if (egress == NULL) {
        return NULL;
    }
    struct ports unused = {{0}};
    egress->open_private = config->open_private;
    if (!fill_list(&egress->allow, &unused, &config->allow) ||
        !fill_list(&egress->deny, &egress->denied, &config->deny) ||
        !fill_list(&egress->named, &unused, &config->named) ||
        !note_listeners(egress, own, count)) {
        egress_destroy(egress);
        return NULL;
    }
    open_ports(egress, config);
    note_undecided(egress, &egress->allow.ranges);
    return egress;
}

void egress_destroy(struct egress *egress)
{
    if (egress == NULL) {
        return;
    }
    finish_list(&egress->allow);
    finish_list(&egress->deny);
    finish_list(&egress->named);
    free(egress->listeners);
    free(egress);
}

/*
 * "egress": what may be reached. An entry is a range of addresses, a host name or pattern, each
 * with a port or without, or a port alone.
 */
#include "api/config_reader.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPECTED_DESTINATION                                                                    \
    "an address (10.0.0.5, fd00::5), a range by its first address and length (10.1.0.0/16), a " \
    "host (api.internal) or a pattern (*.internal), with \":PORT\" behind it or without"

static const char *const expected_allow = EXPECTED_DESTINATION;
static const char *const expected_deny = EXPECTED_DESTINATION ", or \":PORT\" alone";
static const char *const expected_ports = "\"any\" or an array of ports from 1 to 65535";

static config_key_read read_allow, read_deny, read_ports;

/* clang-format off */
const struct config_key config_egress_keys[] = {
    FLAG("private", DRAFT(config.egress.open_private)),
    OTHER("allow", read_allow, DRAFT(config.egress.allow)),
    OTHER("deny", read_deny, DRAFT(config.egress.deny)),
    OTHER("ports", read_ports, DRAFT(config.egress)),
    END,
};
/* clang-format on */

/* --- one entry --- */

/* Whether nothing behind the prefix is set. */
static bool begins_range(const struct address *first, unsigned prefix_bits)
{
    for (unsigned bit = prefix_bits; bit < address_bits(first); bit++) {
        if ((first->bytes[bit / 8] >> (7 - bit % 8) & 1) != 0) {
            return false;
        }
    }
    return true;
}

/* "10.0.0.0/8" or an address alone, without port. */
static bool parse_range(const char *text, size_t bytes, struct config_egress_rule *rule)
{
    char address[64];
    const char *slash = memchr(text, '/', bytes);
    size_t address_bytes = slash != NULL ? (size_t)(slash - text) : bytes;
    if (address_bytes >= sizeof address) {
        return false;
    }
    memcpy(address, text, address_bytes);
    address[address_bytes] = '\0';
    if (strlen(address) != address_bytes || !address_parse(address, &rule->first)) {
        return false;
    }
    bool mapped = !rule->first.ipv6 && strchr(address, ':') != NULL;
    unsigned skipped = mapped ? 96 : 0; /* of the prefix, in ::ffff:10.0.0.0/104 */
    uint32_t prefix_bits = address_bits(&rule->first) + skipped;
    if (slash != NULL && !config_parse_count(slash + 1, bytes - address_bytes - 1, skipped,
                                             prefix_bits, &prefix_bits)) {
        return false;
    }
    rule->kind = CONFIG_EGRESS_RANGE;
    rule->prefix_bits = prefix_bits - skipped;
    return begins_range(&rule->first, rule->prefix_bits);
}

/* Whether NAME, of the form that a host has, is a number in disguise: 127.1, 0x7f.1. */
static bool ends_in_number(const char *name)
{
    const char *dot = strrchr(name, '.');
    const char *label = dot != NULL ? dot + 1 : name;
    const char *digits = "0123456789";
    if (label[0] == '0' && label[1] == 'x') {
        label += 2;
        digits = "0123456789abcdef";
    }
    return strspn(label, digits) == strlen(label);
}

/* A host or a pattern, without port. What is well formed is for the limits' own rules to say. */
static enum config_added parse_name(const char *text, size_t bytes, struct config_egress_rule *rule)
{
    char host[RULES_HOST_MAX];
    if (memchr(text, ':', bytes) != NULL || !config_parse_host(text, bytes, host) ||
        host[0] == '[' || ends_in_number(host)) {
        return CONFIG_ADD_BAD;
    }
    struct rules *judge = rules_create(&(struct rule){.limit = 1});
    if (judge == NULL) {
        return CONFIG_ADD_NO_MEMORY;
    }
    enum rules_added added = rules_add(judge, &(struct rule){.name = host, .limit = 1});
    rules_destroy(judge);
    if (added == RULES_BAD_NAME) {
        return CONFIG_ADD_BAD;
    }
    rule->kind = CONFIG_EGRESS_NAME;
    rule->name = added == RULES_ADDED ? strdup(host) : NULL;
    return rule->name != NULL ? CONFIG_ADDED : CONFIG_ADD_NO_MEMORY;
}

/* Takes ":PORT" off the end of TEXT; a lone IPv6 address has colons, and no port. */
static bool split_port(const char *text, size_t *bytes, uint16_t *ret_port)
{
    const char *bracket = memrchr(text, ']', *bytes);
    const char *behind = bracket != NULL ? bracket : text;
    const char *colon = memchr(behind, ':', *bytes - (size_t)(behind - text));
    uint32_t port = 0;
    if (colon == NULL || memrchr(text, ':', *bytes) != colon) {
        return bracket == NULL || bracket == text + *bytes - 1;
    }
    size_t head_bytes = (size_t)(colon - text);
    if (bracket != NULL && colon != bracket + 1) {
        return false;
    }
    if (!config_parse_count(colon + 1, *bytes - head_bytes - 1, 1, UINT16_MAX, &port)) {
        return false;
    }
    *bytes = head_bytes;
    *ret_port = (uint16_t)port;
    return true;
}

enum config_added config_egress_parse(const char *text, size_t bytes,
                                      struct config_egress_rule *ret_rule)
{
    struct config_egress_rule rule = {.port = 0};
    if (!split_port(text, &bytes, &rule.port)) {
        return CONFIG_ADD_BAD;
    }
    enum config_added added = CONFIG_ADDED;
    if (bytes == 0 && rule.port != 0) {
        rule.kind = CONFIG_EGRESS_PORT;
    } else if (bytes > 2 && text[0] == '[') {
        added = text[bytes - 1] == ']' && parse_range(text + 1, bytes - 2, &rule) ? CONFIG_ADDED
                                                                                  : CONFIG_ADD_BAD;
    } else if (!parse_range(text, bytes, &rule)) {
        added = parse_name(text, bytes, &rule);
    }
    if (added == CONFIG_ADDED) {
        *ret_rule = rule;
    }
    return added;
}

/* --- lists of them --- */

void config_egress_clear(struct config_egress_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->at[i].name);
    }
    free(list->at);
    *list = (struct config_egress_list){0};
}

enum config_added config_egress_add(struct config_egress_list *list, const char *text, size_t bytes)
{
    struct config_egress_rule rule;
    enum config_added added = config_egress_parse(text, bytes, &rule);
    if (added != CONFIG_ADDED) {
        return added;
    }
    struct config_egress_rule *grown = reallocarray(list->at, list->count + 1, sizeof *grown);
    if (grown == NULL) {
        free(rule.name);
        return CONFIG_ADD_NO_MEMORY;
    }
    list->at = grown;
    list->at[list->count++] = rule;
    return CONFIG_ADDED;
}

void config_egress_finish(struct config_egress *egress)
{
    config_egress_clear(&egress->allow);
    config_egress_clear(&egress->deny);
    config_egress_clear(&egress->named);
    free(egress->ports);
    *egress = (struct config_egress){0};
}

/* --- the keys --- */

static bool read_rule(struct config_reader *reader, const json_t *value, bool denied,
                      struct config_egress_list *list)
{
    enum config_added added = CONFIG_ADD_BAD;
    if (json_is_string(value)) {
        added = config_egress_add(list, json_string_value(value), json_string_length(value));
    }
    if (added == CONFIG_ADD_NO_MEMORY) {
        return config_reader_fail_no_memory(reader);
    }
    bool lone_port = added == CONFIG_ADDED && list->at[list->count - 1].kind == CONFIG_EGRESS_PORT;
    if (added != CONFIG_ADDED || (lone_port && !denied)) {
        return config_reader_fail_expected(reader, denied ? expected_deny : expected_allow, value);
    }
    return true;
}

static bool read_rules(struct config_reader *reader, const json_t *value, bool denied,
                       struct config_egress_list *list)
{
    if (!json_is_array(value)) {
        return config_reader_fail_expected(reader, "an array of addresses, ranges and hosts",
                                           value);
    }
    config_egress_clear(list);
    size_t before = reader->path.bytes;
    size_t index;
    const json_t *entry;
    json_array_foreach(value, index, entry)
    {
        if (!config_path_push_index(&reader->path, index)) {
            return config_reader_fail_no_memory(reader);
        }
        if (!read_rule(reader, entry, denied, list)) {
            return false;
        }
        config_path_cut(&reader->path, before);
    }
    return true;
}

static bool read_allow(struct config_reader *reader, const struct config_key *key,
                       const json_t *value, void *field)
{
    (void)key;
    return read_rules(reader, value, false, field);
}

static bool read_deny(struct config_reader *reader, const struct config_key *key,
                      const json_t *value, void *field)
{
    (void)key;
    return read_rules(reader, value, true, field);
}

static bool read_ports(struct config_reader *reader, const struct config_key *key,
                       const json_t *value, void *field)
{
    struct config_egress *egress = field;
    (void)key;
    if (json_is_string(value) && strcmp(json_string_value(value), "any") == 0) {
        egress->ports_rule = CONFIG_PORTS_ANY;
        return true;
    }
    if (!json_is_array(value)) {
        return config_reader_fail_expected(reader, expected_ports, value);
    }
    uint16_t *ports = calloc(json_array_size(value) + 1, sizeof *ports);
    size_t count = 0;
    if (ports == NULL) {
        return config_reader_fail_no_memory(reader);
    }
    for (; count < json_array_size(value); count++) {
        const json_t *entry = json_array_get(value, count);
        json_int_t port = json_integer_value(entry);
        if (!json_is_integer(entry) || port < 1 || port > UINT16_MAX) {
            free(ports);
            return config_path_push_index(&reader->path, count)
                       ? config_reader_fail_expected(reader, "a port from 1 to 65535", entry)
                       : config_reader_fail_no_memory(reader);
        }
        ports[count] = (uint16_t)port;
    }
    free(egress->ports);
    egress->ports = ports;
    egress->port_count = count;
    egress->ports_rule = CONFIG_PORTS_LISTED;
    return true;
}

/*
 * The draft of a configuration: it begins as the defaults, is written over by one source after the
 * other, and ends as a configuration.
 *
 * What a host does not say it takes from the default rule, which a stronger source may still
 * change; so rules are made only at the end. Until then `names`, a set of rules too, tells well
 * formed host names from others and knows which are there: the judge of both is the one that counts
 * later.
 */
#include "api/config_internal.h"

#include "api/duration.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static const struct config defaults = {
    .bounds = {.limit = 512, .queue = 10000, .hosts_max = 10000},
    .overflow_status = 503,
    .socket_mode = 0660,
    .admin_socket_mode = 0600,
    .connections_max = 10000,
    .buffer_bytes = UINT32_C(256) << 20,
    .header_bytes = 16384,
    .timeouts =
        {
            .head_ns = 10 * DURATION_S,
            .keepalive_ns = 75 * DURATION_S,
            .connect_ns = 5 * DURATION_S,
            .first_byte_ns = 60 * DURATION_S,
            .upstream_idle_ns = 60 * DURATION_S,
            .client_idle_ns = 60 * DURATION_S,
            .fetch_ns = 0,
            .upstream_keepalive_ns = 30 * DURATION_S,
            .drain_ns = 25 * DURATION_S,
            .tunnel_idle_ns = 600 * DURATION_S,
            .tunnel_idle_contended_ns = 2 * DURATION_S,
        },
    .access_log = CONFIG_LOG_JSON,
    .level = CONFIG_LEVEL_INFO,
    .tls = {.minimum_version = CONFIG_TLS_1_2},
};

static const char default_listen[] = "127.0.0.1:8080";
static const char default_admin[] = "127.0.0.1:9901";

struct config_draft *config_draft_create(void)
{
    struct config_draft *draft = calloc(1, sizeof *draft);
    if (draft == NULL) {
        return NULL;
    }
    draft->config = defaults;
    draft->fallback =
        (struct config_rule){.limit = 3, .queue = 1000, .queue_timeout_ns = 30 * DURATION_S};
    draft->names = rules_create(&(struct rule){.limit = 1});
    if (draft->names == NULL ||
        config_draft_add_listen(draft, default_listen, strlen(default_listen)) != CONFIG_ADDED ||
        config_parse_listen(default_admin, strlen(default_admin), &draft->config.admin_listen) !=
            CONFIG_ADDED) {
        config_draft_destroy(draft);
        return NULL;
    }
    return draft;
}

/* Frees what CONFIG holds. */
static void config_finish(struct config *config)
{
    for (size_t i = 0; i < config->listen_count; i++) {
        config_listen_finish(&config->listen[i]);
    }
    free(config->listen);
    config_listen_finish(&config->admin_listen);
    rules_destroy(config->rules);
    config_egress_finish(&config->egress);
    free(config->auth.clients);
    free(config->auth.admin_read);
    free(config->auth.admin_operate);
    config_tls_finish(&config->tls);
    for (size_t i = 0; i < config->tls_host_count; i++) {
        config_tls_finish(&config->tls_hosts[i]);
    }
    free(config->tls_hosts);
    upstreams_destroy(config->upstreams);
}

void config_draft_destroy(struct config_draft *draft)
{
    if (draft == NULL) {
        return;
    }
    for (size_t i = 0; i < draft->host_count; i++) {
        free(draft->hosts[i].name);
    }
    free(draft->hosts);
    for (size_t i = 0; i < draft->upstream_count; i++) {
        config_upstream_finish(&draft->upstreams[i]);
    }
    free(draft->upstreams);
    rules_destroy(draft->names);
    rules_destroy(draft->tls_names);
    config_finish(&draft->config);
    free(draft);
}

void config_draft_clear_listen(struct config_draft *draft)
{
    struct config *config = &draft->config;
    while (config->listen_count > 0) {
        config_listen_finish(&config->listen[--config->listen_count]);
    }
}

/* Port 0 is another port each time. */
static bool same_listen(const struct config_listen *one, const struct config_listen *other)
{
    return (one->port != 0 || one->path != NULL) && strcmp(one->text, other->text) == 0;
}

enum config_added config_draft_add_listen(struct config_draft *draft, const char *text,
                                          size_t bytes)
{
    struct config *config = &draft->config;
    struct config_listen listen;
    enum config_added added = config_parse_listen(text, bytes, &listen);
    if (added != CONFIG_ADDED) {
        return added;
    }
    for (size_t i = 0; i < config->listen_count; i++) {
        if (same_listen(&listen, &config->listen[i])) {
            config_listen_finish(&listen);
            return CONFIG_ADD_EXISTS;
        }
    }
    struct config_listen *grown =
        reallocarray(config->listen, config->listen_count + 1, sizeof *grown);
    if (grown == NULL) {
        config_listen_finish(&listen);
        return CONFIG_ADD_NO_MEMORY;
    }
    config->listen = grown;
    config->listen[config->listen_count++] = listen;
    return CONFIG_ADDED;
}

static struct config_rule *find_host(struct config_draft *draft, const char *name)
{
    for (size_t i = 0; i < draft->host_count; i++) {
        if (strcmp(draft->hosts[i].name, name) == 0) {
            return &draft->hosts[i];
        }
    }
    return NULL;
}

enum config_added config_draft_add_host(struct config_draft *draft, const char *name, size_t bytes,
                                        struct config_rule **ret_rule)
{
    char host[RULES_HOST_MAX];
    if (!config_parse_host(name, bytes, host)) {
        return CONFIG_ADD_BAD;
    }
    if (draft->host_count == draft->host_room) {
        size_t room = 2 * draft->host_room + 8;
        struct config_rule *grown = reallocarray(draft->hosts, room, sizeof *grown);
        if (grown == NULL) {
            return CONFIG_ADD_NO_MEMORY;
        }
        draft->hosts = grown;
        draft->host_room = room;
    }
    char *copy = strdup(host);
    if (copy == NULL) {
        return CONFIG_ADD_NO_MEMORY;
    }
    enum rules_added added = rules_add(draft->names, &(struct rule){.name = host, .limit = 1});
    switch (added) {
    case RULES_ADDED:
        draft->hosts[draft->host_count] = (struct config_rule){.name = copy};
        *ret_rule = &draft->hosts[draft->host_count++];
        return CONFIG_ADDED;
    case RULES_DUPLICATE:
        free(copy);
        *ret_rule = find_host(draft, host);
        assert(*ret_rule != NULL);
        return CONFIG_ADD_EXISTS;
    case RULES_BAD_NAME:
        free(copy);
        return CONFIG_ADD_BAD;
    case RULES_NO_MEMORY:
        break;
    }
    free(copy);
    return CONFIG_ADD_NO_MEMORY;
}

/* RULE with what it does not say taken from FALLBACK. */
static struct rule resolve(const struct config_rule *rule, const struct config_rule *fallback)
{
    return (struct rule){
        .name = rule->name,
        .limit = rule->has_limit ? rule->limit : fallback->limit,
        .queue = rule->has_queue ? rule->queue : fallback->queue,
        .queue_timeout_ns =
            rule->has_queue_timeout ? rule->queue_timeout_ns : fallback->queue_timeout_ns,
        .shared = rule->scope == CONFIG_SCOPE_SHARED,
    };
}

static struct rules *make_rules(const struct config_draft *draft)
{
    const struct rule fallback = resolve(&draft->fallback, &draft->fallback);
    struct rules *rules = rules_create(&fallback);
    for (size_t i = 0; rules != NULL && i < draft->host_count; i++) {
        const struct rule rule = resolve(&draft->hosts[i], &draft->fallback);
        enum rules_added added = rules_add(rules, &rule);
        assert(added == RULES_ADDED || added == RULES_NO_MEMORY);
        if (added != RULES_ADDED) {
            rules_destroy(rules);
            rules = NULL;
        }
    }
    return rules;
}

/* Notes HOST for "egress" where a port is written behind it. False when out of memory. */
static bool name_port(struct config_draft *draft, const char *host)
{
    bool has_port = strpbrk(host, "]:") != NULL && host[strlen(host) - 1] != ']';
    return !has_port || config_egress_add(&draft->config.egress.named, host, strlen(host)) !=
                            CONFIG_ADD_NO_MEMORY;
}

/* A port that "limits" or "upstreams" write behind a host is open for that host. */
static bool name_ports(struct config_draft *draft)
{
    bool good = true;
    for (size_t i = 0; good && i < draft->host_count; i++) {
        good = name_port(draft, draft->hosts[i].name);
    }
    for (size_t i = 0; good && i < draft->upstream_count; i++) {
        good = name_port(draft, draft->upstreams[i].origin->host);
    }
    return good;
}

bool config_draft_finish(struct config_draft *draft, struct config **ret_config, char **ret_error)
{
    assert(draft != NULL);
    assert(draft->config.listen_count > 0);

    bool good = false;
    struct config *config = NULL;
    for (size_t i = 0; i < draft->config.listen_count; i++) {
        if (same_listen(&draft->config.listen[i], &draft->config.admin_listen)) {
            config_fail(ret_error, "listen, admin: expected different addresses, found %s in both",
                        draft->config.listen[i].text);
            goto end;
        }
    }
    config = malloc(sizeof *config);
    draft->config.rules = make_rules(draft);
    if (config == NULL || draft->config.rules == NULL || !name_ports(draft)) {
        free(config);
        config_fail(ret_error, "out of memory");
        goto end;
    }
    *config = draft->config;
    draft->config = (struct config){0};
    *ret_config = config;
    good = true;
end:
    config_draft_destroy(draft);
    return good;
}

struct rules *config_take_rules(struct config *config)
{
    assert(config != NULL);
    assert(config->rules != NULL);

    struct rules *rules = config->rules;
    config->rules = NULL;
    return rules;
}

struct upstreams *config_take_upstreams(struct config *config)
{
    assert(config != NULL);

    struct upstreams *upstreams = config->upstreams;
    config->upstreams = NULL;
    return upstreams;
}

void config_destroy(struct config *config)
{
    if (config != NULL) {
        config_finish(config);
        free(config);
    }
}

/*
 * The configuration's file, whatever its bytes are: either a configuration within its bounds, or
 * one line that says what is wrong and where.
 */
#include "api/config_internal.h"

#include "api/duration.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define DURATION_MAX_NS (UINT64_C(8760) * 3600 * DURATION_S)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require_listen(const struct config_listen *listen)
{
    struct config_listen again;
    assert(config_parse_listen(listen->text, strlen(listen->text), &again) == CONFIG_ADDED);
    assert(strcmp(again.text, listen->text) == 0 && strcmp(again.address, listen->address) == 0);
    assert(again.port == listen->port);
    config_listen_finish(&again);
}

static void require_rule(const struct rule *rule)
{
    assert(rule->limit >= 1 && rule->limit <= CONFIG_LIMIT_MAX);
    assert(rule->queue <= CONFIG_QUEUE_MAX);
    assert(rule->queue_timeout_ns <= DURATION_MAX_NS);
    assert(!rule->shared || rule->name[0] == '*');
}

static void require_timeouts(const struct config_timeouts *timeouts)
{
    const uint64_t above_0[] = {timeouts->head_ns,
                                timeouts->keepalive_ns,
                                timeouts->connect_ns,
                                timeouts->first_byte_ns,
                                timeouts->upstream_idle_ns,
                                timeouts->client_idle_ns,
                                timeouts->upstream_keepalive_ns};
    for (size_t i = 0; i < sizeof above_0 / sizeof *above_0; i++) {
        assert(above_0[i] > 0 && above_0[i] <= DURATION_MAX_NS);
    }
    assert(timeouts->fetch_ns <= DURATION_MAX_NS);
    assert(timeouts->drain_ns <= DURATION_MAX_NS);
}

static void require_config(const struct config *config)
{
    assert(config->listen_count > 0);
    for (size_t i = 0; i < config->listen_count; i++) {
        require_listen(&config->listen[i]);
    }
    require_listen(&config->admin_listen);
    require_rule(rules_default(config->rules));
    for (size_t i = 0; i < rules_count(config->rules); i++) {
        require_rule(rules_at(config->rules, i));
    }
    assert(config->bounds.limit >= 1 && config->bounds.limit <= CONFIG_LIMIT_MAX);
    assert(config->bounds.queue <= CONFIG_QUEUE_MAX);
    assert(config->bounds.hosts_max >= 1);
    assert(config->overflow_status == 503 || config->overflow_status == 429);
    assert(config->connections_max >= 1);
    assert(config->header_bytes >= 4096 && config->header_bytes <= 65536);
    require_timeouts(&config->timeouts);
    assert(config->access_log <= CONFIG_LOG_NONE);
    assert(config->level <= CONFIG_LEVEL_INFO);
}

/* "f: ...", or "f:LINE: ..." with a line that the text has. */
static void require_error(const char *error, const uint8_t *data, size_t size)
{
    size_t lines = 1;
    for (size_t i = 0; i < size; i++) {
        lines += data[i] == '\n';
    }
    assert(error != NULL && strlen(error) > 4 && strlen(error) < 1024);
    assert(strncmp(error, "f:", 2) == 0 || strncmp(error, "listen, admin: ", 15) == 0);
    if (error[0] == 'f' && error[2] != ' ') {
        char *end;
        unsigned long line = strtoul(error + 2, &end, 10);
        assert(line >= 1 && line <= lines && strncmp(end, ": ", 2) == 0);
    }
    for (const char *at = error; *at != '\0'; at++) {
        assert((unsigned char)*at >= 0x20 && *at != 0x7f);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config_draft *draft = config_draft_create();
    struct config *config = NULL;
    char *error = NULL;
    assert(draft != NULL);
    bool good = config_file_parse("f", (const char *)data, size, draft, &error);
    if (good) {
        good = config_draft_finish(draft, &config, &error);
    } else {
        config_draft_destroy(draft);
    }
    if (good) {
        assert(error == NULL);
        require_config(config);
        config_destroy(config);
    } else {
        assert(config == NULL);
        require_error(error, data, size);
        free(error);
    }
    return 0;
}

/*
 * "tls": how TLS is spoken with all hosts, and with some. What the files hold is for server/tls.c
 * to judge; here it is only whether they are there, and whether the keys go together.
 */
#include "api/config_reader.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TLS(member) offsetof(struct config_tls, member)

static config_key_read read_version, read_hosts;

/* clang-format off */
const struct config_key config_tls_keys[] = {
    OTHER("ca_file", config_read_path, TLS(ca_file)),
    OTHER("minimum_version", read_version, TLS(minimum_version)),
    OTHER("hosts", read_hosts, WHOLE),
    END,
};

static const struct config_key host_keys[] = {
    OTHER("ca_file", config_read_path, TLS(ca_file)),
    OTHER("certificate_file", config_read_path, TLS(certificate_file)),
    OTHER("key_file", config_read_path, TLS(key_file)),
    OTHER("minimum_version", read_version, TLS(minimum_version)),
    FLAG("insecure", TLS(insecure)),
    END,
};

static const struct config_key host_entry = OBJECT("", WHOLE, host_keys);
/* clang-format on */

void config_tls_finish(struct config_tls *settings)
{
    free(settings->host);
    free(settings->where);
    free(settings->ca_file);
    free(settings->certificate_file);
    free(settings->key_file);
    *settings = (struct config_tls){0};
}

static bool read_version(struct config_reader *reader, const struct config_key *key,
                         const json_t *value, void *field)
{
    (void)key;
    const char *text = json_is_string(value) ? json_string_value(value) : "";
    enum config_tls_version *version = field;
    if (strcmp(text, "1.2") == 0) {
        *version = CONFIG_TLS_1_2;
    } else if (strcmp(text, "1.3") == 0) {
        *version = CONFIG_TLS_1_3;
    } else {
        return config_reader_fail_expected(reader, "\"1.2\" or \"1.3\"", value);
    }
    return true;
}

/* Says MESSAGE about the member NAME of the value at the reader's path. */
static bool fail_member(struct config_reader *reader, const char *name, const char *message)
{
    return config_path_push_key(&reader->path, name) ? config_reader_fail(reader, message)
                                                     : config_reader_fail_no_memory(reader);
}

bool config_read_host_tls(struct config_reader *reader, const struct config_key *key,
                          const json_t *value, void *field)
{
    (void)key;
    struct config_tls *settings = field;
    if (!config_read_object(reader, &host_entry, value, settings)) {
        return false;
    }
    if (settings->key_file != NULL && settings->certificate_file == NULL) {
        return fail_member(reader, "key_file", "expected certificate_file beside it");
    }
    if (settings->certificate_file != NULL && settings->key_file == NULL) {
        settings->key_file = strdup(settings->certificate_file);
        if (settings->key_file == NULL) {
            return config_reader_fail_no_memory(reader);
        }
    }
    if (settings->insecure && settings->ca_file != NULL) {
        return fail_member(reader, "insecure",
                           "expected no ca_file beside it: nothing would be checked with that");
    }
    settings->where = strdup(reader->path.text);
    return settings->where != NULL || config_reader_fail_no_memory(reader);
}

enum config_added config_draft_add_tls(struct config_draft *draft, const char *name, size_t bytes,
                                       struct config_tls *settings)
{
    char host[RULES_HOST_MAX];
    struct config *config = &draft->config;
    if (!config_parse_host(name, bytes, host)) {
        return CONFIG_ADD_BAD;
    }
    if (draft->tls_names == NULL) {
        draft->tls_names = rules_create(&(struct rule){.limit = 1});
    }
    struct config_tls *grown =
        reallocarray(config->tls_hosts, config->tls_host_count + 1, sizeof *grown);
    if (grown == NULL || draft->tls_names == NULL) {
        config->tls_hosts = grown != NULL ? grown : config->tls_hosts;
        return CONFIG_ADD_NO_MEMORY;
    }
    config->tls_hosts = grown;
    char *copy = strdup(host);
    enum rules_added added =
        copy != NULL ? rules_add(draft->tls_names, &(struct rule){.name = host, .limit = 1})
                     : RULES_NO_MEMORY;
    if (added != RULES_ADDED) {
        free(copy);
        return added == RULES_DUPLICATE  ? CONFIG_ADD_EXISTS
               : added == RULES_BAD_NAME ? CONFIG_ADD_BAD
                                         : CONFIG_ADD_NO_MEMORY;
    }
    grown[config->tls_host_count] = *settings;
    grown[config->tls_host_count++].host = copy;
    *settings = (struct config_tls){0};
    return CONFIG_ADDED;
}

/* One entry of tls.hosts. */
static bool read_host(struct config_reader *reader, const char *name, const json_t *value)
{
    struct config_tls settings = {0};
    if (!config_read_host_tls(reader, NULL, value, &settings)) {
        config_tls_finish(&settings);
        return false;
    }
    enum config_added added = config_draft_add_tls(reader->draft, name, strlen(name), &settings);
    config_tls_finish(&settings);
    switch (added) {
    case CONFIG_ADDED:
        return true;
    case CONFIG_ADD_EXISTS:
        return config_reader_fail(reader, "expected each host once, found it again");
    case CONFIG_ADD_BAD:
        return config_reader_fail(reader, "expected " CONFIG_EXPECTED_HOST);
    case CONFIG_ADD_NO_MEMORY:
        break;
    }
    return config_reader_fail_no_memory(reader);
}

static bool read_hosts(struct config_reader *reader, const struct config_key *key,
                       const json_t *value, void *field)
{
    (void)key;
    (void)field;
    return config_read_map(reader, value, read_host);
}

/* Gives SETTINGS what it does not say from ALL. */
static bool inherit(struct config_tls *settings, const struct config_tls *all)
{
    if (settings->minimum_version == CONFIG_TLS_UNSAID) {
        settings->minimum_version = all->minimum_version;
    }
    if (settings->ca_file == NULL && all->ca_file != NULL && !settings->insecure) {
        settings->ca_file = strdup(all->ca_file);
        return settings->ca_file != NULL;
    }
    return true;
}

bool config_tls_settle(struct config_reader *reader)
{
    struct config *config = &reader->draft->config;
    for (size_t i = 0; i < config->tls_host_count; i++) {
        if (!inherit(&config->tls_hosts[i], &config->tls)) {
            return config_reader_fail_no_memory(reader);
        }
    }
    return true;
}

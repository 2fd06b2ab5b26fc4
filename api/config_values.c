#include "api/address.h"
#include "api/config_internal.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const config_log_words[] = {
    [CONFIG_LOG_JSON] = "json", [CONFIG_LOG_NONE] = "none", NULL};

const char *const config_level_words[] = {
    [CONFIG_LEVEL_ERROR] = "error",
    [CONFIG_LEVEL_WARNING] = "warning",
    [CONFIG_LEVEL_INFO] = "info",
    NULL,
};

static bool is_control(char byte)
{
    return (unsigned char)byte < 0x20 || byte == 0x7f;
}

bool config_fail(char **ret_error, const char *format, ...)
{
    char *line = NULL;
    va_list arguments;
    va_start(arguments, format);
    int bytes = vasprintf(&line, format, arguments);
    va_end(arguments);
    if (bytes < 0) {
        *ret_error = NULL;
        return false;
    }
    for (char *at = line; *at != '\0'; at++) {
        *at = is_control(*at) ? '?' : *at;
    }
    *ret_error = line;
    return false;
}

const char *config_quote(const char *text, size_t bytes, char buffer[CONFIG_QUOTED_MAX])
{
    static const char more[] = "...";
    size_t room = CONFIG_QUOTED_MAX - sizeof more - 1; /* the closing quote behind it */
    size_t at = 0;
    size_t used = 0;
    buffer[used++] = '"';
    while (at < bytes && used + 2 <= room) {
        if (text[at] == '"' || text[at] == '\\') {
            buffer[used++] = '\\';
        }
        buffer[used++] = is_control(text[at]) ? '?' : text[at];
        at++;
    }
    if (at < bytes) {
        /* A character is shown whole or not at all. */
        for (; at > 0 && ((unsigned char)text[at] & 0xc0) == 0x80; at--) {
            used--;
        }
        memcpy(buffer + used, more, sizeof more - 1);
        used += sizeof more - 1;
    }
    buffer[used++] = '"';
    buffer[used] = '\0';
    assert(used < CONFIG_QUOTED_MAX);
    return buffer;
}

/* Compose files leave variables empty that they do not set. */
const char *config_variable(char *const environment[], const char *name)
{
    size_t bytes = strlen(name);
    for (size_t i = 0; environment != NULL && environment[i] != NULL; i++) {
        if (strncmp(environment[i], name, bytes) == 0 && environment[i][bytes] == '=' &&
            environment[i][bytes + 1] != '\0') {
            return environment[i] + bytes + 1;
        }
    }
    return NULL;
}

bool config_parse_count(const char *text, size_t bytes, uint32_t least, uint32_t most,
                        uint32_t *ret_count)
{
    uint64_t count = 0;
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
        count = count * 10 + (uint64_t)(text[i] - '0');
        if (count > most) {
            return false;
        }
    }
    if (bytes == 0 || count < least) {
        return false;
    }
    *ret_count = (uint32_t)count;
    return true;
}

bool config_parse_word(const char *text, size_t bytes, const char *const words[],
                       unsigned *ret_index)
{
    for (unsigned i = 0; words[i] != NULL; i++) {
        if (strlen(words[i]) == bytes && memcmp(words[i], text, bytes) == 0) {
            *ret_index = i;
            return true;
        }
    }
    return false;
}

/* The IPv6 address TEXT, without brackets. */
static bool read_ipv6(const char *text, size_t bytes, struct in6_addr *ret_binary)
{
    char address[INET6_ADDRSTRLEN];
    if (bytes >= sizeof address) {
        return false;
    }
    memcpy(address, text, bytes);
    address[bytes] = '\0';
    return strlen(address) == bytes && inet_pton(AF_INET6, address, ret_binary) == 1;
}

/* The same, made canonical. */
static bool parse_ipv6(const char *text, size_t bytes, char ret_address[INET6_ADDRSTRLEN])
{
    struct in6_addr binary;
    return read_ipv6(text, bytes, &binary) &&
           inet_ntop(AF_INET6, &binary, ret_address, INET6_ADDRSTRLEN) != NULL;
}

static bool parse_ipv4(const char *text, size_t bytes, char ret_address[INET6_ADDRSTRLEN])
{
    char address[INET_ADDRSTRLEN];
    struct in_addr binary;
    if (bytes == strlen("localhost") && strncasecmp(text, "localhost", bytes) == 0) {
        text = "127.0.0.1";
        bytes = strlen(text);
    }
    if (bytes >= sizeof address) {
        return false;
    }
    memcpy(address, text, bytes);
    address[bytes] = '\0';
    return strlen(address) == bytes && inet_pton(AF_INET, address, &binary) == 1 &&
           inet_ntop(AF_INET, &binary, ret_address, INET6_ADDRSTRLEN) != NULL;
}

bool config_parse_mode(const char *text, size_t bytes, uint32_t *ret_mode)
{
    uint32_t mode = 0;
    if (bytes < 3 || bytes > 4 || (bytes == 4 && text[0] != '0')) {
        return false;
    }
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] < '0' || text[i] > '7') {
            return false;
        }
        mode = mode << 3 | (uint32_t)(text[i] - '0');
    }
    if ((mode & 0111) != 0) {
        return false;
    }
    *ret_mode = mode;
    return true;
}

/* The path of a socket, without "unix:". */
static enum config_added parse_unix(const char *path, size_t bytes,
                                    struct config_listen *ret_listen)
{
    bool good =
        bytes > 1 && bytes < CONFIG_SOCKET_PATH_MAX && path[0] == '/' && path[bytes - 1] != '/';
    for (size_t i = 0; good && i < bytes; i++) {
        good = !is_control(path[i]);
    }
    if (!good) {
        return CONFIG_ADD_BAD;
    }
    struct config_listen listen = {.address = strdup(""), .path = strndup(path, bytes)};
    if (listen.path == NULL || asprintf(&listen.text, "unix:%s", listen.path) < 0) {
        listen.text = NULL;
    }
    if (listen.text == NULL || listen.address == NULL) {
        config_listen_finish(&listen);
        return CONFIG_ADD_NO_MEMORY;
    }
    *ret_listen = listen;
    return CONFIG_ADDED;
}

enum config_added config_parse_listen(const char *text, size_t bytes,
                                      struct config_listen *ret_listen)
{
    static const char scheme[] = "unix:";
    size_t scheme_bytes = sizeof scheme - 1;
    if (bytes >= scheme_bytes && memcmp(text, scheme, scheme_bytes) == 0) {
        return parse_unix(text + scheme_bytes, bytes - scheme_bytes, ret_listen);
    }
    const char *colon = memrchr(text, ':', bytes);
    if (colon == NULL) {
        return CONFIG_ADD_BAD;
    }
    size_t host_bytes = (size_t)(colon - text);
    size_t port_bytes = bytes - host_bytes - 1;
    uint32_t port;
    char address[INET6_ADDRSTRLEN];
    bool ipv6 = host_bytes > 2 && text[0] == '[' && colon[-1] == ']';
    if (port_bytes > 5 || !config_parse_count(colon + 1, port_bytes, 0, UINT16_MAX, &port) ||
        !(ipv6 ? parse_ipv6(text + 1, host_bytes - 2, address)
               : parse_ipv4(text, host_bytes, address))) {
        return CONFIG_ADD_BAD;
    }
    struct config_listen listen = {.address = strdup(address), .port = (uint16_t)port};
    if (asprintf(&listen.text, ipv6 ? "[%s]:%u" : "%s:%u", address, port) < 0) {
        listen.text = NULL;
    }
    if (listen.text == NULL || listen.address == NULL) {
        config_listen_finish(&listen);
        return CONFIG_ADD_NO_MEMORY;
    }
    *ret_listen = listen;
    return CONFIG_ADDED;
}

void config_listen_finish(struct config_listen *listen)
{
    free(listen->text);
    free(listen->address);
    free(listen->path);
    *listen = (struct config_listen){0};
}

bool config_parse_host(const char *text, size_t bytes, char ret_host[RULES_HOST_MAX])
{
    if (bytes == 0 || bytes >= RULES_HOST_MAX || memchr(text, '\0', bytes) != NULL) {
        return false;
    }
    const char *port = memrchr(text, ':', bytes);
    const char *bracket = memrchr(text, ']', bytes);
    if (port != NULL && bracket != NULL && port < bracket) {
        port = NULL;
    }
    size_t name_bytes = port != NULL ? (size_t)(port - text) : bytes;
    const char *port_text = port != NULL ? port : "";
    size_t port_bytes = bytes - name_bytes;
    if ((port_bytes == 3 && memcmp(port_text, ":80", 3) == 0) ||
        (port_bytes == 4 && memcmp(port_text, ":443", 4) == 0)) {
        port_bytes = 0;
    }

    char name[RULES_HOST_MAX];
    if (text[0] == '[') {
        char address[INET6_ADDRSTRLEN];
        struct in6_addr binary;
        if (name_bytes < 2 || text[name_bytes - 1] != ']' ||
            !read_ipv6(text + 1, name_bytes - 2, &binary)) {
            return false;
        }
        snprintf(name, sizeof name, address_print_ipv6(&binary, address) ? "%s" : "[%s]", address);
    } else {
        for (size_t i = 0; i < name_bytes; i++) {
            name[i] = text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] - 'A' + 'a') : text[i];
        }
        if (name_bytes > 1 && name[name_bytes - 1] == '.') {
            name_bytes--;
        }
        name[name_bytes] = '\0';
    }
    int length = snprintf(ret_host, RULES_HOST_MAX, "%s%.*s", name, (int)port_bytes, port_text);
    return length > 0 && length < RULES_HOST_MAX;
}

#include "server/credentials.h"

#include <string.h>
#include <strings.h>

static int digit_of(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c == '\0' ? NULL : strchr(digits, c);
    return at != NULL ? (int)(at - digits) : -1;
}

/* RFC 4648 section 4; the padding may be missing. False where TEXT is not that, or does not fit. */
static bool decode_base64(const char *text, size_t bytes, struct credentials *credentials)
{
    unsigned bits = 0;
    unsigned held = 0;
    credentials->bytes = 0;
    if (bytes % 4 == 0) {
        for (int i = 0; i < 2 && bytes > 0 && text[bytes - 1] == '='; i++) {
            bytes--;
        }
    }
    if (bytes % 4 == 1 || bytes / 4 * 3 + 2 > CREDENTIALS_MAX) {
        return false;
    }
    for (size_t i = 0; i < bytes; i++) {
        int digit = digit_of(text[i]);
        if (digit < 0) {
            return false;
        }
        bits = (bits << 6 | (unsigned)digit) & 0xffff;
        held += 6;
        if (held >= 8) {
            held -= 8;
            credentials->text[credentials->bytes++] = (char)(bits >> held & 0xff);
        }
    }
    return (bits & ((1U << held) - 1)) == 0;
}

/* What is behind the scheme NAME and its spaces; NULL where FIELD has another scheme. */
static const char *after_scheme(const struct header *field, const char *name, size_t *ret_bytes)
{
    size_t length = strlen(name);
    size_t bytes = field->value_bytes;
    if (bytes <= length || strncasecmp(field->value, name, length) != 0 ||
        field->value[length] != ' ') {
        return NULL;
    }
    while (length < bytes && field->value[length] == ' ') {
        length++;
    }
    *ret_bytes = bytes - length;
    return field->value + length;
}

static const char *read_basic(const struct header *field, struct credentials *credentials)
{
    size_t bytes = 0;
    const char *text = after_scheme(field, "Basic", &bytes);
    if (text == NULL) {
        return "Proxy-Authorization: expected the scheme Basic";
    }
    return decode_base64(text, bytes, credentials)
               ? NULL
               : "Proxy-Authorization: expected the base64 of NAME:PASSWORD, not too long";
}

static const char *read_plain(const struct header *field, struct credentials *credentials)
{
    if (field->value_bytes > CREDENTIALS_MAX) {
        return "Weir-Token: expected NAME:PASSWORD, not too long";
    }
    credentials->bytes = field->value_bytes;
    memcpy(credentials->text, field->value, field->value_bytes);
    return NULL;
}

enum credentials_found credentials_read(const struct header *fields, size_t count,
                                        struct credentials *ret_credentials,
                                        const char **ret_detail)
{
    const struct header *found = NULL;
    bool is_token = false;
    for (size_t i = 0; i < count; i++) {
        bool token = headers_is(&fields[i], "Weir-Token");
        if (!token && !headers_is(&fields[i], "Proxy-Authorization")) {
            continue;
        }
        if (found != NULL) {
            *ret_detail = "expected one of Proxy-Authorization and Weir-Token, once";
            return CREDENTIALS_TWICE;
        }
        found = &fields[i];
        is_token = token;
    }
    if (found == NULL) {
        *ret_detail = "expected Proxy-Authorization with Basic credentials, or Weir-Token";
        return CREDENTIALS_MISSING;
    }
    const char *defect =
        is_token ? read_plain(found, ret_credentials) : read_basic(found, ret_credentials);
    if (defect == NULL) {
        const char *colon = memchr(ret_credentials->text, ':', ret_credentials->bytes);
        if (colon == NULL || memchr(ret_credentials->text, '\0', ret_credentials->bytes) != NULL) {
            defect = "the credentials are not of the form NAME:PASSWORD";
        } else {
            ret_credentials->name_bytes = (size_t)(colon - ret_credentials->text);
            ret_credentials->text[ret_credentials->bytes] = '\0';
            return CREDENTIALS_FOUND;
        }
    }
    credentials_wipe(ret_credentials);
    *ret_detail = defect;
    return CREDENTIALS_MALFORMED;
}

const char *credentials_bearer(const struct header *fields, size_t count, size_t *ret_bytes)
{
    const struct header *found = NULL;
    for (size_t i = 0; i < count; i++) {
        if (headers_is(&fields[i], "Authorization")) {
            if (found != NULL) {
                return NULL;
            }
            found = &fields[i];
        }
    }
    return found != NULL ? after_scheme(found, "Bearer", ret_bytes) : NULL;
}

void credentials_wipe(struct credentials *credentials)
{
    explicit_bzero(credentials, sizeof *credentials);
}

#include "api/percent.h"

#include <assert.h>

/* The value of a hexadecimal digit, or -1. */
static int read_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

bool percent_decode(const char *text, size_t bytes, char *decoded, size_t *ret_bytes)
{
    assert(text != NULL && decoded != NULL && ret_bytes != NULL);
    size_t length = 0;
    for (size_t i = 0; i < bytes; i++) {
        char c = text[i];
        if (c == '%') {
            int high = bytes - i > 2 ? read_digit(text[i + 1]) : -1;
            int low = bytes - i > 2 ? read_digit(text[i + 2]) : -1;
            if (high < 0 || low < 0) {
                return false;
            }
            c = (char)(high * 16 + low);
            i += 2;
        }
        decoded[length++] = c;
    }
    decoded[length] = '\0';
    *ret_bytes = length;
    return true;
}

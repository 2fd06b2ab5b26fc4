#include "server/pipe.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_CAPACITY 4096

static void check(const struct pipe *pipe)
{
    assert(pipe->capacity <= PIPE_BYTES);
    assert(pipe->length <= pipe->capacity);
    assert(pipe->start < pipe->capacity || pipe->start == 0);
    assert((pipe->memory == NULL) == (pipe->capacity == 0));
}

static size_t min(size_t a, size_t b)
{
    return a < b ? a : b;
}

bool pipe_budget_is_spent(const struct pipe_budget *budget)
{
    return budget->bytes >= budget->limit;
}

/* The last quarter of the budget is for pipes that are still small. */
static bool is_scarce(const struct pipe_budget *budget)
{
    return budget->bytes > budget->limit - budget->limit / 4;
}

/* The most that PIPE may hold now. */
static size_t bound(const struct pipe *pipe)
{
    if (pipe->budget == NULL || !is_scarce(pipe->budget)) {
        return PIPE_BYTES;
    }
    return pipe->capacity > PIPE_LEAST_BYTES ? pipe->capacity : PIPE_LEAST_BYTES;
}

/* PIPE's memory is FROM bytes no longer, but TO. */
static void account(struct pipe *pipe, size_t from, size_t to)
{
    struct pipe_budget *budget = pipe->budget;
    if (budget == NULL) {
        return;
    }
    assert(budget->bytes >= from);
    bool was_scarce = is_scarce(budget);
    budget->bytes = budget->bytes - from + to;
    budget->scarce_total += !was_scarce && is_scarce(budget) ? 1 : 0;
    if (budget->bytes > budget->peak_bytes) {
        budget->peak_bytes = budget->bytes;
    }
}

/* Copies the first BYTES of what is in the pipe, which it holds, and leaves them there. */
static void copy_out(const struct pipe *pipe, char *buffer, size_t bytes)
{
    size_t straight = min(bytes, pipe->capacity - pipe->start);

    if (straight > 0) {
        memcpy(buffer, pipe->memory + pipe->start, straight);
    }
    if (bytes > straight) {
        memcpy(buffer + straight, pipe->memory, bytes - straight);
    }
}

/* Moves the content to the front of a piece of CAPACITY bytes. */
static bool resize(struct pipe *pipe, size_t capacity)
{
    assert(capacity >= pipe->length && capacity > 0 && capacity <= PIPE_BYTES);
    char *memory = malloc(capacity);

    if (memory == NULL) {
        return false;
    }
    copy_out(pipe, memory, pipe->length);
    free(pipe->memory);
    account(pipe, pipe->capacity, capacity);
    pipe->memory = memory;
    pipe->capacity = capacity;
    pipe->start = 0;
    return true;
}

static void reverse(char *bytes, size_t count)
{
    for (size_t i = 0; i < count / 2; i++) {
        char byte = bytes[i];
        bytes[i] = bytes[count - 1 - i];
        bytes[count - 1 - i] = byte;
    }
}

/*
 * Makes the content start at the front of the memory, in place: unlike a second allocation this
 * cannot fail, so that pipe_take() need not either.
 */
static void straighten(struct pipe *pipe)
{
    if (pipe->start + pipe->length <= pipe->capacity) {
        memmove(pipe->memory, pipe->memory + pipe->start, pipe->length);
    } else {
        reverse(pipe->memory, pipe->start);
        reverse(pipe->memory + pipe->start, pipe->capacity - pipe->start);
        reverse(pipe->memory, pipe->capacity);
    }
    pipe->start = 0;
}

size_t pipe_room(const struct pipe *pipe)
{
    check(pipe);
    return bound(pipe) - pipe->length;
}

bool pipe_is_low(const struct pipe *pipe)
{
    return pipe->length <= bound(pipe) / 2;
}

bool pipe_write(struct pipe *pipe, const void *data, size_t bytes)
{
    assert(!pipe->closed);
    if (bytes > pipe_room(pipe)) {
        return false;
    }
    if (bytes == 0) {
        return true;
    }
    size_t length = pipe->length + bytes;

    if (length > pipe->capacity) {
        size_t capacity = pipe->capacity == 0 ? FIRST_CAPACITY : pipe->capacity;

        while (capacity < length) {
            capacity *= 2;
        }
        if (!resize(pipe, min(capacity, bound(pipe)))) {
            return false;
        }
    }
    size_t end = (pipe->start + pipe->length) % pipe->capacity;
    size_t straight = min(bytes, pipe->capacity - end);

    memcpy(pipe->memory + end, data, straight);
    if (bytes > straight) {
        memcpy(pipe->memory, (const char *)data + straight, bytes - straight);
    }
    pipe->length = length;
    return true;
}

size_t pipe_read(struct pipe *pipe, void *buffer, size_t bytes)
{
    check(pipe);
    size_t taken = min(bytes, pipe->length);

    if (taken == 0) {
        return 0;
    }
    copy_out(pipe, buffer, taken);
    pipe->length -= taken;
    /* An empty pipe starts at the front again, which keeps short bodies in one run. */
    pipe->start = pipe->length == 0 ? 0 : (pipe->start + taken) % pipe->capacity;
    return taken;
}

char *pipe_take(struct pipe *pipe, size_t *ret_bytes)
{
    check(pipe);
    if (pipe->length == 0) {
        *ret_bytes = 0;
        return NULL;
    }
    if (pipe->start != 0) {
        straighten(pipe);
    }
    char *memory = pipe->memory;

    *ret_bytes = pipe->length;
    pipe->taken += pipe->capacity;
    pipe->memory = NULL;
    pipe->capacity = 0;
    pipe->length = 0;
    return memory;
}

void pipe_finish(struct pipe *pipe)
{
    check(pipe);
    free(pipe->memory);
    account(pipe, pipe->capacity + pipe->taken, 0);
    *pipe = (struct pipe){.budget = pipe->budget};
}

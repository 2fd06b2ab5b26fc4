/*
 * The bounds that Weir is put under, on memory and on open files, and what fits into them.
 *
 * Both are read once, at the start. What does not fit is lowered rather than run out of: a process
 * that grows past its cgroup's memory is killed with everything that it carries.
 */
#ifndef WEIR_SERVER_BOUNDS_H
#define WEIR_SERVER_BOUNDS_H

#include <stdbool.h>
#include <stdint.h>

#define BOUNDS_MEMORY_LEAST (UINT64_C(16) << 20)

struct bounds_memory {
    uint64_t bytes;      /* that may be used; 0: there is no bound, or none can be seen */
    uint64_t said_bytes; /* the bound itself */
    uint64_t lost_bytes; /* of it, to what takes addresses only */
    char source[256];    /* the file that says so, or "ulimit -v" */
};

/*
 * Finds the lowest of: memory.max and memory.high of the process's cgroup and those above it,
 * memory.limit_in_bytes of version 1, and ADDRESS_SPACE_BYTES (RLIMIT_AS; UINT64_MAX: none), of
 * which STACKS_BYTES go to threads' stacks and some more to libraries. ROOT is put before the paths
 * that are read: "".
 */
void bounds_find_memory(const char *root, uint64_t address_space_bytes, uint64_t stacks_bytes,
                        struct bounds_memory *ret_memory);

/* What takes memory under load. */
struct bounds_load {
    uint32_t connections;  /* of clients */
    uint32_t requests;     /* that run at once */
    uint32_t hosts;        /* that are known at once */
    uint32_t buffer_bytes; /* of bodies on their way */
    /* What the kernel may hold each way for one connection; 0: as much as it likes. */
    uint32_t client_socket_bytes;
    uint32_t upstream_socket_bytes;
};

/*
 * Lowers LOAD to what MEMORY_BYTES have room for, where a request's head may take HEADER_BYTES;
 * RESERVED_BYTES of them are for something else. Socket bytes that are not 0 stay, those that are
 * are chosen. False where there is not even room for a little; BOUNDS_MEMORY_LEAST is room enough
 * where nothing is reserved.
 */
bool bounds_fit_memory(uint64_t memory_bytes, uint64_t reserved_bytes, uint32_t header_bytes,
                       struct bounds_load *load);

/*
 * Has the kernel hold no more than about BYTES each way for the socket FD; 0: as much as it likes.
 * Before it connects or listens; what a listener accepts has what it has.
 */
void bounds_set_socket(int fd, uint32_t bytes);

/* How open files are divided. */
struct bounds_files {
    unsigned rooms;   /* of the frontend */
    unsigned lanes;   /* of the fetcher */
    unsigned threads; /* that look up names and check passwords */
    unsigned admin_connections;
    unsigned lingering;
    unsigned connections; /* of clients; each may need another toward its upstream */
};

/* Divides FILES among the parts of a Weir with so many LISTENERS. Returns how many it needs at the
 * least; where FILES are fewer *ret_files is left alone. */
unsigned bounds_divide_files(unsigned files, unsigned listeners, struct bounds_files *ret_files);

#endif

/*
 * See bounds.h.
 *
 * Which cgroup a process is in says /proc/self/cgroup; where the container has a cgroup namespace,
 * or sees only its own part of the tree, that path is "/" or leads nowhere, and the mount point
 * itself has the container's bound. So every directory from the named one up to the mount point is
 * looked at, and what is not there is passed over: a bound that cannot be seen is none.
 *
 * The costs below were measured, with TLS and without, on 64 bits. Version 2 of cgroups also counts
 * what the kernel holds for a socket, which may be megabytes where it likes; so under a bound
 * sockets get a bound of their own. The kernel accounts for twice what it is told.
 */
#include "server/bounds.h"

#include <assert.h>
#include <inttypes.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define KIB UINT64_C(1024)
#define MIB (UINT64_C(1024) * KIB)

#define UNBOUNDED       (UINT64_C(1) << 60) /* version 1 has no word for it, but a huge number */
#define ADDRESSES_BYTES (24 * MIB)          /* of libraries, mostly untouched */

/* What Weir takes without load: itself, roots of TLS, threads, the log, pages of its program. */
#define OWN_BYTES (8 * MIB)

#define CONNECTION_BYTES      (12 * KIB) /* beside the room for its heads and its socket */
#define REQUEST_BYTES         (176 * KIB)
#define HOST_BYTES            (12 * KIB) /* its line in /status takes most of that */
#define BUFFER_BYTES_LEAST    MIB
#define CLIENT_SOCKET_LEAST   (16 * KIB)
#define UPSTREAM_SOCKET_LEAST (64 * KIB)
#define SOCKET_PLENTY         (512 * KIB) /* more than it needs to be told */

#define SEGMENTS     4
#define SEGMENT_MOST 32767 /* of TCP_MAXSEG */

/* How what is left is divided, in hundredths. */
enum { CONNECTIONS_SHARE = 40, REQUESTS_SHARE = 35, BUFFERS_SHARE = 15, HOSTS_SHARE = 10 };

#define FILES_OWN         16U /* libuv, standard streams, signals, the admin port's listener */
#define FILES_OF_RELOAD   2U
#define FILES_OF_LOOKUP   2U
#define FILES_PER_SHARE   64U /* a share is a room; four are a lane */
#define ROOMS             64U
#define LANES             16U
#define THREADS           10U
#define THREADS_FEW       4U
#define MANY_FILES        256U
#define ADMIN_CONNECTIONS 64U
#define LINGERING         64U

/* --- memory: what it is bounded to --- */

static void note(struct bounds_memory *memory, uint64_t said_bytes, uint64_t lost_bytes,
                 const char *source)
{
    uint64_t bytes = said_bytes > lost_bytes ? said_bytes - lost_bytes : 1; /* 0 would be none */
    if (said_bytes < UNBOUNDED && (memory->bytes == 0 || bytes < memory->bytes)) {
        memory->bytes = bytes;
        memory->said_bytes = said_bytes;
        memory->lost_bytes = lost_bytes;
        (void)snprintf(memory->source, sizeof memory->source, "%s", source);
    }
}

/* Notes the number in DIRECTORY/NAME, below ROOT. */
static void read_bound(const char *root, const char *directory, const char *name,
                       struct bounds_memory *memory)
{
    char path[PATH_MAX];
    size_t root_bytes = strlen(root);
    uint64_t bytes;
    if (snprintf(path, sizeof path, "%s%s/%s", root, directory, name) >= (int)sizeof path) {
        return;
    }
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return;
    }
    if (fscanf(file, "%" SCNu64, &bytes) == 1) { /* else it says "max" */
        note(memory, bytes, 0, path + root_bytes);
    }
    (void)fclose(file);
}

/* Looks at the cgroup PATH of the hierarchy that is mounted at MOUNT, and at all above it. */
static void climb(const char *root, const char *mount, const char *path, const char *const names[],
                  struct bounds_memory *memory)
{
    char directory[PATH_MAX];
    size_t mount_bytes = strlen(mount);
    /* "/../x" is outside the namespace, and so not below the mount point */
    bool at_mount = strcmp(path, "/") == 0 || strncmp(path, "/..", 3) == 0;
    if (snprintf(directory, sizeof directory, "%s%s", mount, at_mount ? "" : path) >=
        (int)sizeof directory) {
        return;
    }
    for (;;) {
        for (size_t i = 0; names[i] != NULL; i++) {
            read_bound(root, directory, names[i], memory);
        }
        char *last = strrchr(directory, '/');
        if (last == NULL || (size_t)(last - directory) < mount_bytes) {
            return;
        }
        *last = '\0';
    }
}

/* Whether LIST, separated by commas, has the word "memory". */
static bool has_memory(const char *list, size_t bytes)
{
    static const char word[] = "memory";
    size_t at = 0;
    while (at < bytes) {
        const char *comma = memchr(list + at, ',', bytes - at);
        size_t length = comma != NULL ? (size_t)(comma - list) - at : bytes - at;
        if (length == sizeof word - 1 && memcmp(list + at, word, length) == 0) {
            return true;
        }
        at += length + 1;
    }
    return false;
}

/* LINE is "NUMBER:CONTROLLERS:PATH"; version 2 has no controllers there. */
static void read_cgroup(const char *root, char *line, struct bounds_memory *memory)
{
    static const char *const second[] = {"memory.max", "memory.high", NULL};
    static const char *const first[] = {"memory.limit_in_bytes", NULL};
    char *controllers = strchr(line, ':');
    char *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
    if (path == NULL) {
        return;
    }
    controllers++;
    size_t bytes = (size_t)(path - controllers);
    path++;
    path[strcspn(path, "\n")] = '\0';
    if (bytes == 0) {
        climb(root, "/sys/fs/cgroup", path, second, memory);
        climb(root, "/sys/fs/cgroup/unified", path, second, memory); /* beside version 1 */
    } else if (has_memory(controllers, bytes)) {
        climb(root, "/sys/fs/cgroup/memory", path, first, memory);
    }
}

void bounds_find_memory(const char *root, uint64_t address_space_bytes, uint64_t stacks_bytes,
                        struct bounds_memory *ret_memory)
{
    char path[PATH_MAX];
    char line[PATH_MAX];
    *ret_memory = (struct bounds_memory){0};
    if (snprintf(path, sizeof path, "%s/proc/self/cgroup", root) < (int)sizeof path) {
        FILE *file = fopen(path, "re");
        while (file != NULL && fgets(line, sizeof line, file) != NULL) {
            read_cgroup(root, line, ret_memory);
        }
        if (file != NULL) {
            (void)fclose(file);
        }
    }
    note(ret_memory, address_space_bytes, ADDRESSES_BYTES + stacks_bytes, "ulimit -v");
}

/* --- memory: what fits into it --- */

static uint32_t lower(uint32_t value, uint64_t most)
{
    return value < most ? value : (uint32_t)most;
}

/* The bytes of a socket, each way, where its connection has ROOM for them, counted twice. */
static uint32_t socket_bytes(uint64_t room, uint64_t least)
{
    uint64_t bytes = room / 2;
    return bytes >= SOCKET_PLENTY ? 0 : (uint32_t)(bytes > least ? bytes : least);
}

bool bounds_fit_memory(uint64_t memory_bytes, uint64_t reserved_bytes, uint32_t header_bytes,
                       struct bounds_load *load)
{
    assert(load->connections > 0 && load->requests > 0 && load->hosts > 0);
    if (memory_bytes < reserved_bytes || memory_bytes - reserved_bytes < BOUNDS_MEMORY_LEAST) {
        return false;
    }
    /* An eighth is lost between the pieces. */
    uint64_t hundredth = (memory_bytes - reserved_bytes - OWN_BYTES) / 8 * 7 / 100;

    uint64_t share = CONNECTIONS_SHARE * hundredth;
    uint64_t each = CONNECTION_BYTES + header_bytes;
    uint64_t socket =
        load->client_socket_bytes > 0 ? load->client_socket_bytes : CLIENT_SOCKET_LEAST;
    load->connections = lower(load->connections, share / (each + 2 * socket));
    if (load->client_socket_bytes == 0) {
        load->client_socket_bytes =
            socket_bytes(share / load->connections - each, CLIENT_SOCKET_LEAST);
    }

    share = REQUESTS_SHARE * hundredth;
    each = REQUEST_BYTES;
    socket = load->upstream_socket_bytes > 0 ? load->upstream_socket_bytes : UPSTREAM_SOCKET_LEAST;
    load->requests = lower(load->requests, share / (each + 2 * socket));
    load->requests += load->requests == 0; /* sockets were larger when fewer were to run */
    if (load->upstream_socket_bytes == 0) {
        load->upstream_socket_bytes =
            socket_bytes(share / load->requests - each, UPSTREAM_SOCKET_LEAST);
    }

    share = BUFFERS_SHARE * hundredth;
    load->buffer_bytes =
        lower(load->buffer_bytes, share > BUFFER_BYTES_LEAST ? share : BUFFER_BYTES_LEAST);
    load->hosts = lower(load->hosts, HOSTS_SHARE * hundredth / HOST_BYTES);
    return true;
}

/*
 * Loopback has segments of 64 KiB. Where one does not fit into the buffers several times, sender
 * and receiver wait for each other's timers.
 */
void bounds_set_socket(int fd, uint32_t bytes)
{
    int size = (int)bytes;
    int segment = size / SEGMENTS;
    if (size == 0) {
        return;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    if (segment < SEGMENT_MOST) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment);
    }
}

/* --- open files --- */

static unsigned clamp(unsigned value, unsigned least, unsigned most)
{
    return value < least ? least : value > most ? most : value;
}

unsigned bounds_divide_files(unsigned files, unsigned listeners, struct bounds_files *ret_files)
{
    unsigned share = files / FILES_PER_SHARE;
    struct bounds_files divided = {
        .rooms = clamp(share, 1, ROOMS),
        .lanes = clamp(share / 4, 1, LANES),
        .threads = files < MANY_FILES ? THREADS_FEW : THREADS,
        .admin_connections = clamp(files / 16, 2, ADMIN_CONNECTIONS),
        .lingering = clamp(share, 1, LINGERING),
    };
    unsigned fixed = FILES_OWN + listeners + FILES_OF_RELOAD + divided.rooms + 2 * divided.lanes +
                     FILES_OF_LOOKUP * divided.threads + divided.admin_connections +
                     divided.lingering;
    if (files < fixed + 2) {
        return fixed + 2;
    }
    divided.connections = (files - fixed) / 2;
    *ret_files = divided;
    return fixed + 2;
}

/*
 * Bytes through a tunnel: one client sends to or reads from one upstream, through a proxy, and the
 * processor time of the proxy is compared with the bytes that it moved.
 *
 *   bench_tunnel NAME PID PORT GIB HOW WAY
 *
 * NAME is printed, PID is the proxy's, PORT its port on 127.0.0.1. HOW is "connect" (a CONNECT
 * request first) or "plain UPSTREAM_PORT" (a proxy that forwards to UPSTREAM_PORT). WAY is "up" or
 * "down". Prints GB/s, and seconds of user and system time of the proxy for each GB.
 */
#include "common.h"

#include <pthread.h>
#include <stdbool.h>
#include <unistd.h>

struct side {
    int fd;
    bool sends;
    uint64_t bytes; /* to be moved */
};

static double processor_seconds(const char *pid)
{
    char path[64];
    char text[1024];
    unsigned long user;
    unsigned long system;
    snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
    FILE *file = fopen(path, "r");
    if (file == NULL || fgets(text, sizeof text, file) == NULL) {
        die(path);
    }
    fclose(file);
    const char *rest = strrchr(text, ')');
    if (rest == NULL || sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
                               &user, &system) != 2) {
        die("stat");
    }
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static void *run(void *argument)
{
    struct side *side = argument;
    char *piece = calloc(1, CHUNK_BYTES);
    uint64_t left = side->bytes;
    while (left > 0) {
        size_t most = left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES;
        ssize_t bytes = side->sends ? send(side->fd, piece, most, MSG_NOSIGNAL)
                                    : recv(side->fd, piece, most, 0);
        if (bytes <= 0) {
            die(side->sends ? "send" : "recv");
        }
        left -= (uint64_t)bytes;
    }
    free(piece);
    return NULL;
}

static void connect_through(int fd, int upstream_port)
{
    char text[4096];
    size_t have = 0;
    int bytes = snprintf(text, sizeof text, "CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: h\r\n\r\n",
                         upstream_port);
    if (send(fd, text, (size_t)bytes, 0) != bytes) {
        die("send");
    }
    do {
        ssize_t got = recv(fd, text + have, 1, 0);
        if (got != 1 || ++have == sizeof text - 1) {
            die("answer");
        }
        text[have] = '\0';
    } while (strstr(text, "\r\n\r\n") == NULL);
    if (strncmp(text, "HTTP/1.1 200 ", 13) != 0) {
        fprintf(stderr, "%s", text);
        exit(1);
    }
}

int main(int argc, char *argv[])
{
    if (argc != 7) {
        fprintf(stderr, "usage: bench_tunnel NAME PID PORT GIB connect|UPSTREAM_PORT up|down\n");
        return 2;
    }
    bool plain = strcmp(argv[5], "connect") != 0;
    bool up = strcmp(argv[6], "up") == 0;
    uint64_t total = (uint64_t)(strtod(argv[4], NULL) * 1073741824.0);
    int on = 1;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in place = loopback(plain ? (uint16_t)strtol(argv[5], NULL, 10) : 0);
    socklen_t place_bytes = sizeof place;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&place, sizeof place) < 0 || listen(listener, 8) < 0 ||
        getsockname(listener, (struct sockaddr *)&place, &place_bytes) < 0) {
        die("listen");
    }
    struct sockaddr_in proxy = loopback((uint16_t)strtol(argv[3], NULL, 10));
    struct side client = {socket(AF_INET, SOCK_STREAM, 0), up, total};
    if (connect(client.fd, (struct sockaddr *)&proxy, sizeof proxy) < 0) {
        die("connect");
    }
    if (!plain) {
        connect_through(client.fd, ntohs(place.sin_port));
    }
    struct side upstream = {accept(listener, NULL, NULL), !up, total};
    double processor = processor_seconds(argv[2]);
    uint64_t start_ns = clock_ns(CLOCK_MONOTONIC);
    pthread_t thread;
    pthread_create(&thread, NULL, run, &upstream);
    run(&client);
    pthread_join(thread, NULL);
    double gb = (double)total / 1e9;
    double took = (double)(clock_ns(CLOCK_MONOTONIC) - start_ns) / 1e9;
    close(client.fd);
    close(upstream.fd);
    printf("%-10s %-4s %6.2f GB/s %8.3f s of processor time per GB\n", argv[1], argv[6], gb / took,
           (processor_seconds(argv[2]) - processor) / gb);
    return 0;
}

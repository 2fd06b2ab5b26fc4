/*
 * The clients of tests/bench/slots, as cheap as they can be, so that what is measured is the proxy
 * behind them: each asks for one target again as soon as it has its answer. Prints one JSON line:
 * answers, failures (an answer that is not 200, or none), bytes, seconds, and the CPU time that the
 * process named by PID and that this one took meanwhile.
 *
 * One thread, one epoll. Bodies are taken from the kernel without a copy (MSG_TRUNC).
 */
#include "tests/bench/common.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <unistd.h>

static char chunk[CHUNK_BYTES]; /* where bodies would go */

struct client {
    int fd;
    bool asked; /* an answer is awaited */
    bool in_body;
    size_t head_bytes;
    uint64_t body_left; /* still to receive */
    char head[HEAD_BYTES];
};

struct clients {
    int epoll;
    uint16_t port;
    unsigned count, asked;
    char request[HEAD_BYTES];
    size_t request_bytes;
    uint64_t answers, failures, body_bytes; /* in the window */
    uint64_t answers_max;                   /* the window ends with that many; 0: with the time */
    bool over;                              /* nothing more is asked */
    struct client *all;
};

static void client_connect(struct clients *clients, struct client *client)
{
    struct sockaddr_in address = loopback(clients->port);

    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client->fd < 0 || connect(client->fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        fcntl(client->fd, F_SETFL, O_NONBLOCK) != 0) {
        die("connect");
    }
    set_nodelay(client->fd);
    watch(clients->epoll, EPOLL_CTL_ADD, client->fd, EPOLLIN, client);
}

static void client_ask(struct clients *clients, struct client *client)
{
    client->head_bytes = 0;
    client->in_body = false;
    client->asked = true;
    clients->asked++;
    if (send(client->fd, clients->request, clients->request_bytes, MSG_NOSIGNAL) !=
        (ssize_t)clients->request_bytes) {
        die("send");
    }
}

static void client_answered(struct clients *clients, struct client *client, bool good)
{
    client->asked = false;
    clients->asked--;
    clients->answers++;
    clients->failures += !good;
    if (clients->answers == clients->answers_max) {
        clients->over = true;
    }
    if (!clients->over) {
        client_ask(clients, client);
    }
}

static void client_lost(struct clients *clients, struct client *client)
{
    bool asked = client->asked;

    close(client->fd);
    client_connect(clients, client);
    if (asked) {
        client_answered(clients, client, false);
    }
}

/* True once the head is whole. */
static bool client_read_head(struct clients *clients, struct client *client, size_t got)
{
    const char *end, *length;
    size_t body_got;

    client->head_bytes += got;
    client->head[client->head_bytes] = '\0';
    end = strstr(client->head, "\r\n\r\n");
    if (end == NULL) {
        return false;
    }
    length = strcasestr(client->head, "\r\nContent-Length:");
    if (length == NULL || length > end) {
        fprintf(stderr, "bench_clients: an answer without Content-Length:\n%s", client->head);
        exit(1);
    }
    client->body_left = strtoull(length + strlen("\r\nContent-Length:"), NULL, 10);
    body_got = client->head_bytes - (size_t)(end + 4 - client->head);
    if (body_got > client->body_left) {
        fprintf(stderr, "bench_clients: an answer longer than its Content-Length:\n%s",
                client->head);
        exit(1);
    }
    client->body_left -= body_got;
    clients->body_bytes += body_got;
    client->in_body = true;
    return true;
}

static void client_on_readable(struct clients *clients, struct client *client)
{
    ssize_t got;

    if (client->in_body) {
        got = recv(client->fd, chunk, CHUNK_BYTES, MSG_TRUNC); /* takes, without a copy */
    } else {
        got = recv(client->fd, client->head + client->head_bytes,
                   sizeof(client->head) - 1 - client->head_bytes, 0);
    }
    if (got < 0 && errno == EAGAIN) {
        return;
    }
    if (got <= 0 || !client->asked) {
        client_lost(clients, client);
        return;
    }
    if (client->in_body) {
        client->body_left -= (uint64_t)got;
        clients->body_bytes += (uint64_t)got;
    } else if (!client_read_head(clients, client, (size_t)got)) {
        return;
    }
    if (client->body_left == 0) {
        client_answered(clients, client, strncmp(client->head, "HTTP/1.1 200 ", 13) == 0);
    }
}

/* Until END_NS, or the window is over, or (once it is) until every client has its answer. */
static void clients_turn_until(struct clients *clients, uint64_t end_ns)
{
    struct epoll_event events[EVENTS];
    bool was_over = clients->over;
    uint64_t now_ns;

    while ((now_ns = clock_ns(CLOCK_MONOTONIC)) < end_ns && clients->over == was_over &&
           (clients->asked > 0 || !was_over)) {
        int timeout_ms = (int)((end_ns - now_ns) / (NS_PER_S / 1000) + 1);
        int count = epoll_wait(clients->epoll, events, EVENTS, timeout_ms);

        for (int i = 0; i < count; i++) {
            client_on_readable(clients, events[i].data.ptr);
        }
    }
}

static void clients_start(struct clients *clients)
{
    clients->epoll = epoll_create1(EPOLL_CLOEXEC);
    clients->all = calloc(clients->count, sizeof(*clients->all));
    if (clients->epoll < 0 || clients->all == NULL) {
        die("clients");
    }
    for (unsigned i = 0; i < clients->count; i++) {
        client_connect(clients, &clients->all[i]);
    }
    for (unsigned i = 0; i < clients->count; i++) {
        client_ask(clients, &clients->all[i]);
    }
}

struct measure {
    double warmup_s, seconds;
    uint64_t answers;
    pid_t pid; /* whose CPU time is taken; 0: nobody's */
};

static void run_clients(struct clients *clients, const struct measure *measure)
{
    clockid_t cpu = CLOCK_PROCESS_CPUTIME_ID;
    uint64_t begin_ns, end_ns, cpu_begin_ns, cpu_ns, own_begin_ns, own_ns;

    if (measure->pid != 0 && clock_getcpuclockid(measure->pid, &cpu) != 0) {
        die("no such process");
    }
    begin_ns = clock_ns(CLOCK_MONOTONIC);
    if (measure->warmup_s > 0) {
        clients_start(clients);
        begin_ns += (uint64_t)(measure->warmup_s * (double)NS_PER_S);
        clients_turn_until(clients, begin_ns);
        clients->answers = clients->failures = clients->body_bytes = 0;
        begin_ns = clock_ns(CLOCK_MONOTONIC);
    }
    clients->answers_max = measure->answers;
    cpu_begin_ns = clock_ns(cpu);
    own_begin_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    if (clients->all == NULL) {
        clients_start(clients);
    }
    clients_turn_until(clients, begin_ns + (uint64_t)(measure->seconds * (double)NS_PER_S));
    end_ns = clock_ns(CLOCK_MONOTONIC);
    cpu_ns = clock_ns(cpu) - cpu_begin_ns;
    own_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - own_begin_ns;
    printf("{\"answers\": %" PRIu64 ", \"failures\": %" PRIu64 ", \"body_bytes\": %" PRIu64
           ", \"seconds\": %.6f, \"cpu_seconds\": %.6f, \"own_cpu_seconds\": %.6f}\n",
           clients->answers, clients->failures, clients->body_bytes,
           (double)(end_ns - begin_ns) / 1e9, (double)cpu_ns / 1e9, (double)own_ns / 1e9);
    /* The next run finds the proxy idle: no request of this one is left in it. */
    clients->over = true;
    clients_turn_until(clients, end_ns + 10 * NS_PER_S);
    free(clients->all);
}

static int usage(void)
{
    fputs("usage: bench_clients PORT TARGET CLIENTS WARMUP_SECONDS SECONDS [ANSWERS [PID]]\n"
          "TARGET: /DELAY_US/BODY_BYTES of bench_upstream, with http://HOST:PORT before it for a\n"
          "forward proxy. The window is SECONDS long, or ends with ANSWERS answers where that is\n"
          "not 0. PID: whose CPU time is taken.\n",
          stderr);
    return 2;
}

int main(int argc, char *argv[])
{
    struct clients clients = {0};
    struct measure measure = {0};

    if (argc < 6 || argc > 8) {
        return usage();
    }
    clients.port = (uint16_t)strtoul(argv[1], NULL, 10);
    clients.request_bytes =
        (size_t)snprintf(clients.request, sizeof(clients.request),
                         "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: bench_clients\r\n"
                         "Accept: */*\r\n\r\n",
                         argv[2]);
    clients.count = (unsigned)strtoul(argv[3], NULL, 10);
    measure.warmup_s = strtod(argv[4], NULL);
    measure.seconds = strtod(argv[5], NULL);
    measure.answers = argc > 6 ? strtoull(argv[6], NULL, 10) : 0;
    measure.pid = argc > 7 ? (pid_t)strtol(argv[7], NULL, 10) : 0;
    if (clients.request_bytes >= sizeof(clients.request) || clients.count == 0) {
        return usage();
    }
    run_clients(&clients, &measure);
    return 0;
}

#include "api/config.h"
#include "server/check.h"
#include "server/server.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_CONFIG = 1, EXIT_USAGE = 2 };

/*
 * A standard stream that was closed has a number that the next file or socket would get, and with
 * it what is meant for the stream. "/" takes it, to which nothing can be written.
 */
static void hold_standard_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0) {
            (void)open("/", O_PATH | O_CLOEXEC);
        }
    }
}

static int serve(int argc, char *argv[])
{
    struct config *config = NULL;
    char *error = NULL;
    bool good;
    switch (config_read(argc, argv, environ, &config, &error)) {
    case CONFIG_HELP:
        fputs(config_help(), stdout);
        return EXIT_SUCCESS;
    case CONFIG_VERSION:
        puts("weir " WEIR_VERSION);
        return EXIT_SUCCESS;
    case CONFIG_CHECK:
        good = server_check(config);
        config_destroy(config);
        if (good) {
            puts("the configuration is good");
        }
        return good ? EXIT_SUCCESS : EXIT_CONFIG;
    case CONFIG_BAD_USAGE:
        fprintf(stderr, "weir: %s\n", error);
        free(error);
        return EXIT_USAGE;
    case CONFIG_BAD:
        fprintf(stderr, "weir: %s\n", error);
        free(error);
        return EXIT_CONFIG;
    case CONFIG_RUN:
        break;
    }
    struct server_reload reload = {argc, argv, environ};
    struct server *server = server_create(config, &reload);
    if (server == NULL) {
        return EXIT_CONFIG;
    }
    int status = server_run(server);
    server_destroy(server);
    return status;
}

/* A word before all flags is a command; --check-config is a flag of the service. */
int main(int argc, char *argv[])
{
    hold_standard_streams();
    return argc > 1 && strcmp(argv[1], "check") == 0 ? check_run(argc - 1, argv + 1, environ)
                                                     : serve(argc, argv);
}

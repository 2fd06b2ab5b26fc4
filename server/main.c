#include "api/config.h"
#include "server/server.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { EXIT_CONFIG = 1, EXIT_USAGE = 2 };

int main(int argc, char *argv[])
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

#include "api/config.h"
#include "server/check.h"
#include "server/server.h"

#include <assert.h>
#include <errno.h>
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

static int say(const char *text)
{
    if (fputs(text, stdout) >= 0 && fflush(stdout) == 0) {
        return EXIT_SUCCESS;
    }
    fprintf(stderr, "weir: standard output: %s\n", strerror(errno));
    return EXIT_FAILURE;
}

/* Does ACTION, which is not to run, and returns the exit status. Frees ERROR. */
static int tell(const char *who, enum config_action action, char *error)
{
    switch (action) {
    case CONFIG_HELP:
        return say(config_help());
    case CONFIG_VERSION:
        return say("weir " WEIR_VERSION "\n");
    case CONFIG_BAD_USAGE:
    case CONFIG_BAD:
        fprintf(stderr, "%s: %s\n", who, error != NULL ? error : "out of memory");
        free(error);
        return action == CONFIG_BAD ? EXIT_CONFIG : EXIT_USAGE;
    case CONFIG_RUN:
    case CONFIG_CHECK:
        break;
    }
    assert(false);
    return EXIT_FAILURE;
}

static int check_config(struct config *config)
{
    bool good = server_check(config);
    config_destroy(config);
    return good ? say("the configuration is good\n") : EXIT_CONFIG;
}

static int run(struct config *config, int argc, char *argv[])
{
    struct server_reload reload = {argc, argv, environ};
    struct server *server = server_create(config, &reload);
    if (server == NULL) {
        return EXIT_CONFIG;
    }
    int status = server_run(server);
    server_destroy(server);
    return status;
}

static int serve(int argc, char *argv[])
{
    struct config *config = NULL;
    char *error = NULL;
    enum config_action action = config_read(argc, argv, environ, &config, &error);
    return action == CONFIG_RUN     ? run(config, argc, argv)
           : action == CONFIG_CHECK ? check_config(config)
                                    : tell("weir", action, error);
}

static int check(int argc, char *argv[])
{
    struct config *config = NULL;
    const char *url = NULL;
    char *error = NULL;
    enum config_action action = config_read_admin(argc, argv, environ, &url, &config, &error);
    if (action != CONFIG_RUN) {
        return tell("weir: check", action, error);
    }
    int status = check_run(url, config);
    config_destroy(config);
    return status;
}

/* A word before all flags is a command; --check-config is a flag of the service. */
int main(int argc, char *argv[])
{
    hold_standard_streams();
    return argc > 1 && strcmp(argv[1], "check") == 0 ? check(argc - 1, argv + 1)
                                                     : serve(argc, argv);
}

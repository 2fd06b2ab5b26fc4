/*
 * `weir check [flags] [URL]`: asks a running Weir whether it is ready.
 *
 * For health checks in an image that has neither a shell nor curl, so it runs every few seconds
 * beside the service: it reads no more than it needs to know where the admin port is, and asks
 * once.
 */
#ifndef WEIR_SERVER_CHECK_H
#define WEIR_SERVER_CHECK_H

#include "api/config.h"

/*
 * Asks URL, which may be unix: and a path; NULL: the service whose admin port is CONFIG's. Both are
 * as config_read_admin() found them. Says in one line what was seen. Returns the exit status: 0
 * where the answer was good, 1 where it was not or none came, 2 where URL is none to ask.
 */
int check_run(const char *url, const struct config *config);

#endif

/*
 * `weir check [flags] [URL]`: asks a running Weir whether it is ready.
 *
 * For health checks in an image that has neither a shell nor curl, so it runs every few seconds
 * beside the service: it reads no more than it needs to know where the admin port is, and asks
 * once.
 */
#ifndef WEIR_SERVER_CHECK_H
#define WEIR_SERVER_CHECK_H

/*
 * ARGV begins with the word "check"; ENVIRONMENT is as environ. Without a URL the admin address is
 * found as the service finds it. Says in one line what was seen. Returns the exit status: 0 where
 * the answer was good, 1 where it was not or none came, 2 with a bad command line.
 */
int check_run(int argc, char *const argv[], char *const environment[]);

#endif

/*
 * What both of our kinds of libmicrohttpd daemon are told, so that all its versions serve us alike.
 *
 * Version 1.0 mends at will what it takes for a slip: it unfolds header lines, and answers a target
 * with a space in it by a redirect to one without. Told to be strict it refuses them, as we do
 * where an older version, which has no such option, lets them through (api/headers.h). What it
 * refuses itself gets a plain 400 and the end of the connection.
 */
#ifndef WEIR_SERVER_DAEMON_H
#define WEIR_SERVER_DAEMON_H

#include <microhttpd.h>

#if MHD_VERSION >= 0x00097707
/* Without it a connection that is added is put aside, for another thread to take. */
#define DAEMON_ONE_THREAD MHD_USE_NO_THREAD_SAFETY
#define DAEMON_STRICTNESS MHD_OPTION_CLIENT_DISCIPLINE_LVL, 1
#else
#define DAEMON_ONE_THREAD 0
#define DAEMON_STRICTNESS MHD_OPTION_STRICT_FOR_CLIENT, 0
#endif

#endif

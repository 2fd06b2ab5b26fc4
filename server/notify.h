/*
 * Telling the service manager what this service is doing: the protocol of sd_notify(3), by which
 * `systemctl start` returns when Weir listens, and `systemctl stop` leaves it the time to drain.
 */
#ifndef WEIR_SERVER_NOTIFY_H
#define WEIR_SERVER_NOTIFY_H

#include <stdbool.h>

/*
 * Sends STATE, such as "READY=1", to the socket that the environment's NOTIFY_SOCKET names: a path,
 * or @ and an abstract name. True also where there is no such variable, because nobody wants to
 * know; false with errno where there is one and nothing could be sent. Never waits.
 */
bool notify_send(const char *state);

#endif

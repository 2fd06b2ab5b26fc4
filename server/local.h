/*
 * Whether an address is one of this machine's, as things are at this moment: interfaces come and
 * go while a service runs.
 */
#ifndef WEIR_SERVER_LOCAL_H
#define WEIR_SERVER_LOCAL_H

#include "api/address.h"

#include <stdbool.h>

/* Whether a connection to ADDRESS ends on this machine. */
bool local_has(const struct address *address);

#endif

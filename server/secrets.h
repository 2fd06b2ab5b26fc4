/*
 * Secrets from files: the credentials of clients and the tokens of the admin port.
 *
 * The file of clients has lines NAME:HASH, a hash as crypt(5) describes them and as `mkpasswd`,
 * `htpasswd -B` and `openssl passwd -6` write them; blank lines and lines that begin with # are
 * skipped. Methods that are no longer safe (DES, MD5, SHA-1, NT) are refused. A token's file holds
 * one line of visible ASCII characters.
 *
 * No message says what was found in a file. Tokens are kept as keyed hashes only.
 */
#ifndef WEIR_SERVER_SECRETS_H
#define WEIR_SERVER_SECRETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SECRETS_FILE_BYTES_MAX (1024 * 1024)
#define SECRETS_NAME_MAX       128 /* bytes of a client's name */
#define SECRETS_HASH_MAX       256 /* bytes of a hash */
#define SECRETS_TOKEN_MAX      1024
#define SECRETS_TOKEN_MIN      16 /* fewer bytes can be guessed */

struct secrets;

/* Paths, borrowed for the call; NULL: there is no such file. */
struct secrets_paths {
    const char *clients;
    const char *admin_read;
    const char *admin_operate;
};

/*
 * Reads the files. NULL with a line about the first that is not good in *ret_error, which the
 * caller frees: the key, the path, the line of a file of clients, and the reason. *ret_error is
 * NULL where memory ran out.
 */
struct secrets *secrets_load(const struct secrets_paths *paths, char **ret_error);

/* Accepts NULL. */
void secrets_destroy(struct secrets *secrets);

/* The Nth path, from 0, that everybody on this machine may read; NULL: no more. */
const char *secrets_exposed(const struct secrets *secrets, size_t n);

/* Whether clients have to show credentials. */
bool secrets_ask_clients(const struct secrets *secrets);

/* The most memory that a check of a client's password takes, beyond next to nothing. */
uint64_t secrets_check_bytes(const struct secrets *secrets);

/*
 * The hash of the client NAME. For a name that is not there the hash of another, and false: so that
 * a wrong name takes as long as a wrong password. *ret_hash ends in '\0'. Only where
 * secrets_ask_clients().
 */
bool secrets_find_client(const struct secrets *secrets, const char *name, size_t bytes,
                         const char **ret_hash);

/* What one may do at the admin port. */
enum secrets_role { SECRETS_NOBODY, SECRETS_READER, SECRETS_OPERATOR };

/* Who shows TOKEN; compared in constant time. */
enum secrets_role secrets_role(const struct secrets *secrets, const char *token, size_t bytes);

/* Whether the admin port asks for a token to be read at all, or for other things. */
bool secrets_ask_readers(const struct secrets *secrets);
bool secrets_ask_operators(const struct secrets *secrets);

#endif

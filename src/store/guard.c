/* SPDX-License-Identifier: MIT */
/* Reading a file that may be damaged. LMDB follows the numbers that it finds on a page wherever they lead; checking every page before it is read
 * would cost as much as reading the whole file at each start. So a read that ends in a bad address, or in an assertion of LMDB,
 * is left on the spot and told as damage. A read holds no lock and changes nothing, so there is nothing to put right. Writing is
 * another matter: see pages.c. */
#include "store_internal.h"

#include <setjmp.h>
#include <signal.h>

static _Thread_local sigjmp_buf *point;       /* where to leave to; NULL: nothing is guarded now */
static struct sigaction others[2];            /* for SIGSEGV, SIGBUS, when it is not our business */

static struct sigaction *other_of(int sig)
{
	return &others[sig == SIGBUS];
}

static void leave(int sig, siginfo_t *info, void *context)
{
	if (point)
		siglongjmp(*point, 1);
	struct sigaction *other = other_of(sig);
	if (other->sa_flags & SA_SIGINFO) {
		other->sa_sigaction(sig, info, context);
		return;
	}
	/* And the instruction fails once more, for good; what was sent would not come again. */
	sigaction(sig, other, NULL);
	if (info->si_code <= 0)
		raise(sig);
}

static void install(void)
{
	struct sigaction ours = { .sa_sigaction = leave, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK };

	sigemptyset(&ours.sa_mask);
	sigaction(SIGSEGV, &ours, other_of(SIGSEGV));
	sigaction(SIGBUS, &ours, other_of(SIGBUS));
}

static void leave_assertion(MDB_env *env, const char *message)
{
	(void)env;
	(void)message;
	if (point)
		siglongjmp(*point, 1);
}

void vf_guard_env(MDB_env *env)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, install);
	mdb_env_set_assert(env, leave_assertion);
}

/* Guards may not be nested, so each has one call in it. */
#define GUARDED(call) do {                    \
		sigjmp_buf here;              \
		if (sigsetjmp(here, 0)) {     \
			point = NULL;         \
			return MDB_CORRUPTED; \
		}                             \
		point = &here;                \
		int rc = call;                \
		point = NULL;                 \
		return rc;                    \
	} while (0)

int vf_guard_get(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *value)
{
	GUARDED(mdb_get(txn, dbi, key, value));
}

int vf_guard_cursor_get(MDB_cursor *cursor, MDB_val *key, MDB_val *value, MDB_cursor_op op)
{
	GUARDED(mdb_cursor_get(cursor, key, value, op));
}

int vf_guard_dbi_open(MDB_txn *txn, const char *name, unsigned flags, MDB_dbi *dbi)
{
	GUARDED(mdb_dbi_open(txn, name, flags, dbi));
}

int vf_guard_cursor_open(MDB_txn *txn, MDB_dbi dbi, MDB_cursor **cursor)
{
	GUARDED(mdb_cursor_open(txn, dbi, cursor));
}

int vf_guard_stat(MDB_txn *txn, MDB_dbi dbi, MDB_stat *stat)
{
	GUARDED(mdb_stat(txn, dbi, stat));
}

int vf_guard_call(int (*call)(void *ctx), void *ctx)
{
	GUARDED(call(ctx));
}

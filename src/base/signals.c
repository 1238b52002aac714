/* SPDX-License-Identifier: MIT */
#include "vecfs/signals.h"

#include <stddef.h>

void vf_signals_block(sigset_t *before)
{
	static const int own[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS };
	sigset_t outside;

	sigfillset(&outside);
	for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
		sigdelset(&outside, own[i]);
	pthread_sigmask(SIG_SETMASK, &outside, before);
}

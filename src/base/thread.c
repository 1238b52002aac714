/* SPDX-License-Identifier: MIT */
#include "vecfs/thread.h"

void vf_signals_block(sigset_t *before)
{
	static const int own[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS };
	sigset_t outside;

	sigfillset(&outside);
	for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
		sigdelset(&outside, own[i]);
	pthread_sigmask(SIG_SETMASK, &outside, before);
}

int vf_thread_start(pthread_t *thread, void *(*run)(void *ctx), void *ctx)
{
	sigset_t before;

	vf_signals_block(&before);
	int code = pthread_create(thread, NULL, run, ctx);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return code;
}

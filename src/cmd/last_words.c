/* SPDX-License-Identifier: MIT */
#include "last_words.h"

#include <execinfo.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define FRAMES_MAX 64

static void speak(int sig)
{
	void *frames[FRAMES_MAX];
	char line[64];
	int len = snprintf(line, sizeof line, "vecfs: ended by signal %d, at\n", sig);

	if (write(STDERR_FILENO, line, (size_t)len) == len)
		backtrace_symbols_fd(frames, backtrace(frames, FRAMES_MAX), STDERR_FILENO);
	/* The handler is gone by now: this ends the process when the signal is let through. */
	raise(sig);
}

void vf_last_words_prepare(void)
{
	static const int fatal[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };
	const struct sigaction ours = { .sa_handler = speak, .sa_flags = SA_RESETHAND };
	struct sigaction before;
	void *frame;

	/* The first backtrace loads a library: that is not for a process that dies. */
	backtrace(&frame, 1);
	for (size_t i = 0; i < sizeof fatal / sizeof fatal[0]; i++)
		if (sigaction(fatal[i], NULL, &before) == 0 && before.sa_handler == SIG_DFL)
			sigaction(fatal[i], &ours, NULL);
}

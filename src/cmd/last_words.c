/* SPDX-License-Identifier: MIT */
#include "last_words.h"

#include <execinfo.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#define FRAMES_MAX 64

static void speak(int sig)
{
	static atomic_flag spoken = ATOMIC_FLAG_INIT;
	void *frames[FRAMES_MAX];
	char line[64];

	/* What one thread has met another may meet as well, and would end the process in the middle of a word. */
	while (atomic_flag_test_and_set(&spoken))
		pause();
	int len = snprintf(line, sizeof line, "vecfs: ended by signal %d, at\n", sig);
	if (write(STDERR_FILENO, line, (size_t)len) == len)
		backtrace_symbols_fd(frames, backtrace(frames, FRAMES_MAX), STDERR_FILENO);
	/* Ends the process when the signal is let through. */
	signal(sig, SIG_DFL);
	raise(sig);
}

void vf_last_words_prepare(void)
{
	static const int fatal[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };
	struct sigaction ours = { .sa_handler = speak }, before;
	void *frame;

	/* The first backtrace loads a library: that is not for a process that dies. */
	backtrace(&frame, 1);
	/* A fault in the handler itself ends the process at once. */
	sigfillset(&ours.sa_mask);
	for (size_t i = 0; i < sizeof fatal / sizeof fatal[0]; i++)
		if (sigaction(fatal[i], NULL, &before) == 0 && before.sa_handler == SIG_DFL)
			sigaction(fatal[i], &ours, NULL);
}

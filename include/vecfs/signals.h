/* SPDX-License-Identifier: MIT */
/* signals.h - which signals the threads of the program get. */
#ifndef VECFS_SIGNALS_H
#define VECFS_SIGNALS_H

#include <signal.h>

/* Blocks the signals that come from outside, for this thread and those that it starts: they are for the thread that waits for them. What a thread brings
 * upon itself (SIGSEGV, SIGBUS and their like) stays open: blocked, it would end the process on the spot, and neither the guards of the
 * store nor the last words would be heard. `before`, set here, is for pthread_sigmask(SIG_SETMASK). */
void vf_signals_block(sigset_t *before);

#endif

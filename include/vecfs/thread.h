/* SPDX-License-Identifier: MIT */
/* thread.h - the threads of the program, and which signals they get. */
#ifndef VECFS_THREAD_H
#define VECFS_THREAD_H

#include <pthread.h>
#include <signal.h>

/* Blocks the signals that come from outside, for this thread and those that it starts: they are for the thread that waits for them. What a thread brings
 * upon itself (SIGSEGV, SIGBUS and their like) stays open: blocked, it would end the process on the spot, and neither the guards of the
 * store nor the last words would be heard. `before`, set here, is for pthread_sigmask(SIG_SETMASK). */
void vf_signals_block(sigset_t *before);
/* Starts a thread with those blocked. 0, or what pthread_create says. */
int vf_thread_start(pthread_t *thread, void *(*run)(void *ctx), void *ctx);

#endif

/* SPDX-License-Identifier: MIT */
/* clock.h - time, in nanoseconds. */
#ifndef VECFS_CLOCK_H
#define VECFS_CLOCK_H

#include <stdint.h>

int64_t vf_clock_real_ns(void);      /* since 1970; may step */
int64_t vf_clock_mono_ns(void);      /* never steps */
int64_t vf_clock_thread_cpu_ns(void);

#endif

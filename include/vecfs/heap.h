/* SPDX-License-Identifier: MIT */
/* heap.h - malloc's memory as the system sees it. */
#ifndef VECFS_HEAP_H
#define VECFS_HEAP_H

#include <stdint.h>

/* For a process that serves: once, before there are threads. */
void vf_heap_set_up(void);
/* Gives free memory back to the system, also from between what is in use: after work that took much of it. Milliseconds. */
void vf_heap_trim(void);
/* So much was freed, in pieces that malloc keeps for itself: the same, now and then. */
void vf_heap_freed(uint64_t bytes);

#endif

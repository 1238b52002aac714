/* SPDX-License-Identifier: MIT */
/* heap.h - malloc's memory as the system sees it. */
#ifndef VECFS_HEAP_H
#define VECFS_HEAP_H

/* For a process that serves: once, before there are threads. */
void vf_heap_set_up(void);
/* Gives free memory back to the system, also from between what is in use: after work that took much of it. Milliseconds. */
void vf_heap_trim(void);

#endif

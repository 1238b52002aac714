/* SPDX-License-Identifier: MIT */
/* spool.h - bytes written once, front to back, then read at any offset: answers, exports, renderings.
 *
 * Small ones stay in memory; past VF_SPOOL_MEMORY_MAX they go to an unlinked file in `dir`, so that an answer of a
 * million rows costs disk, not memory; where that disk is full or read-only, in /var/tmp or /tmp. One writer, then (after
 * vf_spool_finish) any number of readers. */
#ifndef VECFS_SPOOL_H
#define VECFS_SPOOL_H

#include "vecfs/span.h"

#define VF_SPOOL_MEMORY_MAX (1u << 20)

struct vf_spool {
	struct vf_buf buf;     /* what is not in the file yet */
	int fd;                /* -1 while all is in memory */
	uint64_t file_len;     /* bytes in the file */
	const char *dir;       /* lent; NULL: always memory */
};

void vf_spool_init(struct vf_spool *spool, const char *dir);
void vf_spool_free(struct vf_spool *spool);
/* Empty again; keeps the memory (small) for the next answer. */
void vf_spool_clear(struct vf_spool *spool);
int vf_spool_put(struct vf_spool *spool, const void *data, size_t len, struct vf_err *err);
/* Encoders write into spool->buf and call this now and then: it moves a full buf to the file. */
int vf_spool_flush_if_full(struct vf_spool *spool, struct vf_err *err);
int vf_spool_finish(struct vf_spool *spool, struct vf_err *err);
uint64_t vf_spool_size(const struct vf_spool *spool);
/* Up to `len` bytes from `offset`; 0 at the end; negative errno. Thread-safe after finish. */
int64_t vf_spool_read(const struct vf_spool *spool, uint64_t offset, void *out, size_t len);

#endif

/* SPDX-License-Identifier: MIT */
/* Deleting from a full disk. LMDB writes the pages that it changes to new places, so a removal needs room before it makes some. The ballast is a
 * file of nothing that is thrown away then, and taken back, as far as it can be had, right after. Whoever adds must leave it alone: what is missing
 * of it has to lie free inside of the adder's own file (commit.c). */
#include "store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "vecfs/limits.h"

#define SHARE     8u               /* of a small disk: one part in so many */
#define STEP_MIN  ((uint64_t)64 << 10)

struct vf_ballast {
	pthread_mutex_t lock;
	int fd;
	uint64_t bytes, whole;
};

static uint64_t choose_whole(int fd)
{
	struct statvfs disk;

	if (fstatvfs(fd, &disk))
		return 0;
	uint64_t share = (uint64_t)disk.f_blocks * disk.f_frsize / SHARE;
	return (share < VF_BALLAST_BYTES_MAX ? share : VF_BALLAST_BYTES_MAX) / STEP_MIN * STEP_MIN;
}

/* As much as there is: a step that does not fit is tried by halves. */
static void fill(struct vf_ballast *b)
{
	uint64_t step = b->whole - b->bytes;

	while (b->bytes < b->whole && step >= STEP_MIN) {
		if (step > b->whole - b->bytes)
			step = b->whole - b->bytes;
		if (fallocate(b->fd, 0, (off_t)b->bytes, (off_t)step) == 0) {
			b->bytes += step;
			continue;
		}
		/* Not every filesystem can promise space. */
		if (errno == EOPNOTSUPP || errno == ENOSYS || ftruncate(b->fd, (off_t)b->bytes))
			b->whole = b->bytes;
		step /= 2;
	}
}

int vf_ballast_open(int dir_fd, const char *name, struct vf_ballast **out, struct vf_err *err)
{
	struct vf_ballast *b = calloc(1, sizeof *b);
	struct stat st;

	if (!b)
		return vf_oom(err);
	pthread_mutex_init(&b->lock, NULL);
	b->fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	/* No inode left for it: then there is none. */
	if (b->fd >= 0 && fstat(b->fd, &st) == 0) {
		b->whole = choose_whole(b->fd);
		/* A hole is no space. */
		b->bytes = (uint64_t)st.st_blocks * 512 < (uint64_t)st.st_size ? 0 : (uint64_t)st.st_size;
		if (b->bytes > b->whole)
			b->bytes = b->whole;
		if (b->bytes != (uint64_t)st.st_size && ftruncate(b->fd, (off_t)b->bytes))
			b->whole = b->bytes;
		fill(b);
	}
	*out = b;
	return 0;
}

void vf_ballast_close(struct vf_ballast **ballast)
{
	struct vf_ballast *b = *ballast;

	if (!b)
		return;
	if (b->fd >= 0)
		close(b->fd);
	pthread_mutex_destroy(&b->lock);
	free(b);
	*ballast = NULL;
}

uint64_t vf_ballast_lack(struct vf_ballast *b)
{
	pthread_mutex_lock(&b->lock);
	fill(b);
	uint64_t lack = b->whole - b->bytes;
	pthread_mutex_unlock(&b->lock);
	return lack;
}

bool vf_ballast_drop(struct vf_ballast *b)
{
	pthread_mutex_lock(&b->lock);
	bool dropped = b->bytes && ftruncate(b->fd, 0) == 0;
	if (dropped)
		b->bytes = 0;
	/* A journal may keep freed blocks back until it is synced. */
	dropped = dropped && fsync(b->fd) == 0;
	pthread_mutex_unlock(&b->lock);
	return dropped;
}

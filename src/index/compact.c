/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "index_internal.h"

#define DATA "data.mdb"

static int sync_dir(const char *dir, struct vf_err *err)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = fd < 0 || fsync(fd) ? vf_fail(err, errno, "cannot sync %s: %s", dir, strerror(errno)) : 0;

	if (fd >= 0)
		close(fd);
	return rc;
}

static int size_of(const char *path, uint64_t *bytes, struct vf_err *err)
{
	struct stat st;

	if (stat(path, &st))
		return vf_fail(err, errno, "cannot stat %s: %s", path, strerror(errno));
	*bytes = (uint64_t)st.st_size;
	return 0;
}

static int copy_store(const char *dir, const char *into, struct vf_err *err)
{
	struct vf_store *store = NULL;
	int rc = vf_store_open(dir, false, true, &store, err);

	if (rc)
		return rc;
	rc = vf_store_copy(store, into, err);
	vf_store_close(&store);
	return rc;
}

/* The copy is whole and synced before the rename, which is all or nothing: there is no moment without a store. */
int vf_data_swap(const char *from, const char *to, const char *dir, struct vf_err *err)
{
	if (rename(from, to))
		return vf_fail(err, errno, "cannot rename %s to %s: %s", from, to, strerror(errno));
	return sync_dir(dir, err);
}

static int compact(const char *dir, const char *copy_dir, const char *copy, const char *data, uint64_t *before, uint64_t *after,
                   struct vf_err *err)
{
	int rc;

	/* What an interrupted run left behind. */
	unlink(copy);
	if (mkdir(copy_dir, 0700) && errno != EEXIST)
		return vf_fail(err, errno, "cannot create %s: %s", copy_dir, strerror(errno));
	if ((rc = size_of(data, before, err)) == 0 && (rc = copy_store(dir, copy_dir, err)) == 0 &&
	    (rc = size_of(copy, after, err)) == 0)
		rc = vf_data_swap(copy, data, dir, err);
	unlink(copy);
	rmdir(copy_dir);
	return rc;
}

int vf_index_compact(const char *dir, uint64_t *bytes_before, uint64_t *bytes_after, struct vf_err *err)
{
	char *copy_dir = NULL, *copy = NULL, *data = NULL;
	int rc;

	if (asprintf(&copy_dir, "%s/%s", dir, VF_COMPACT_DIR) < 0 || asprintf(&copy, "%s/%s/%s", dir, VF_COMPACT_DIR, DATA) < 0 ||
	    asprintf(&data, "%s/%s", dir, DATA) < 0)
		rc = vf_oom(err);
	else
		rc = compact(dir, copy_dir, copy, data, bytes_before, bytes_after, err);
	free(copy_dir);
	free(copy);
	free(data);
	return rc;
}

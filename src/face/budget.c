/* SPDX-License-Identifier: MIT */
/* The memory that users may bind in the daemon: files being written, temporary files, requests not carried out yet. */
#include "face_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "vecfs/heap.h"

struct user {
	struct user *next;
	uid_t uid;
	uint64_t bytes;
};

struct vf_budget {
	pthread_mutex_t lock;
	struct user *users;
	uint64_t bytes;
};

int vf_budget_new(struct vf_budget **out, struct vf_err *err)
{
	struct vf_budget *budget = calloc(1, sizeof *budget);

	if (!budget)
		return vf_oom(err);
	pthread_mutex_init(&budget->lock, NULL);
	*out = budget;
	return 0;
}

void vf_budget_free(struct vf_budget **budget)
{
	if (!*budget)
		return;
	for (struct user *user = (*budget)->users, *next; user; user = next) {
		next = user->next;
		free(user);
	}
	pthread_mutex_destroy(&(*budget)->lock);
	free(*budget);
	*budget = NULL;
}

/* The slot of a user, or where a new one goes. */
static struct user **find(struct vf_budget *budget, uid_t uid)
{
	struct user **at = &budget->users;

	while (*at && (*at)->uid != uid)
		at = &(*at)->next;
	return at;
}

static int take(struct vf_budget *budget, uid_t uid, uint64_t bytes, struct vf_err *err)
{
	struct user **at = find(budget, uid);

	if (!*at) {
		*at = calloc(1, sizeof **at);
		if (!*at)
			return vf_oom(err);
		(*at)->uid = uid;
	}
	if (bytes > VF_SCRATCH_USER_BYTES_MAX - (*at)->bytes)
		return vf_fail(err, ENOSPC, "user %u has %llu bytes in files and requests that are not committed, %llu more would pass the limit of %u",
		               (unsigned)uid, (unsigned long long)(*at)->bytes, (unsigned long long)bytes, VF_SCRATCH_USER_BYTES_MAX);
	if (bytes > VF_SCRATCH_BYTES_MAX - budget->bytes)
		return vf_fail(err, ENOSPC, "all users have %llu bytes in files and requests that are not committed, %llu more would pass the limit of %u",
		               (unsigned long long)budget->bytes, (unsigned long long)bytes, VF_SCRATCH_BYTES_MAX);
	(*at)->bytes += bytes;
	budget->bytes += bytes;
	return 0;
}

int vf_budget_take(struct vf_budget *budget, uid_t uid, uint64_t bytes, struct vf_err *err)
{
	pthread_mutex_lock(&budget->lock);
	int rc = take(budget, uid, bytes, err);
	pthread_mutex_unlock(&budget->lock);
	return rc;
}

void vf_budget_give(struct vf_budget *budget, uid_t uid, uint64_t bytes)
{
	if (bytes == 0)
		return;
	pthread_mutex_lock(&budget->lock);
	struct user **at = find(budget, uid), *user = *at;
	budget->bytes -= bytes;
	user->bytes -= bytes;
	if (user->bytes == 0) {
		*at = user->next;
		free(user);
	}
	pthread_mutex_unlock(&budget->lock);
	vf_heap_freed(bytes);
}

uint64_t vf_budget_used(struct vf_budget *budget)
{
	pthread_mutex_lock(&budget->lock);
	uint64_t bytes = budget->bytes;
	pthread_mutex_unlock(&budget->lock);
	return bytes;
}

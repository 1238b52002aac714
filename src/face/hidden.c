/* SPDX-License-Identifier: MIT */
/* Names that are always there, for a moment after they were unlinked: tar and unzip unlink what is in their way and create it anew with O_EXCL, so
 * a name must be free to them until then. To all others it is there; to them, when they create it or the moment is over. */
#include "face_internal.h"

#include "vecfs/clock.h"

#define HIDDEN_NS 1000000000

static struct vf_hidden *slot_of(struct vf_face *face, uint64_t name)
{
	return &face->hidden[name % VF_HIDDEN_MAX];
}

void vf_hide(struct vf_call *call, enum vf_row_id row, struct vf_site *site, struct vf_span name)
{
	uint64_t hash = vf_ino_hash(&vf_tree[row], site, name);

	pthread_mutex_lock(&call->face->lock);
	/* Of two names that meet here the older one is shown again early: its creator will be told EEXIST. */
	*slot_of(call->face, hash) = (struct vf_hidden){ hash, call->pid, vf_clock_mono_ns() };
	pthread_mutex_unlock(&call->face->lock);
}

bool vf_is_hidden(struct vf_call *call, enum vf_row_id row, struct vf_site *site, struct vf_span name)
{
	uint64_t hash = vf_ino_hash(&vf_tree[row], site, name);

	pthread_mutex_lock(&call->face->lock);
	const struct vf_hidden *slot = slot_of(call->face, hash);
	bool hidden = slot->name == hash && slot->pid == call->pid && vf_clock_mono_ns() - slot->ns < HIDDEN_NS;
	pthread_mutex_unlock(&call->face->lock);
	return hidden;
}

void vf_show(struct vf_call *call, enum vf_row_id row, struct vf_site *site, struct vf_span name)
{
	uint64_t hash = vf_ino_hash(&vf_tree[row], site, name);

	pthread_mutex_lock(&call->face->lock);
	if (slot_of(call->face, hash)->name == hash)
		slot_of(call->face, hash)->name = 0;
	pthread_mutex_unlock(&call->face->lock);
}

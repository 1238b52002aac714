/* SPDX-License-Identifier: MIT */
/* Names that are always there, for a moment after they were unlinked: tar and unzip unlink what is in their way and create it anew with O_EXCL, so
 * a name must be free to them until then. To all others it is there; to them, when they create it or the moment is over. And the other way
 * round: an answer that a tool has just written is there for that tool, which goes on to set its time, though it has no question yet. */
#include "face_internal.h"

#include "vecfs/clock.h"

#define MOMENT_NS 1000000000

static struct vf_hidden *slot_of(struct vf_face *face, uint64_t name)
{
	return &face->hidden[name % VF_HIDDEN_MAX];
}

static void note(struct vf_call *call, enum vf_row_id row, struct vf_site *site, struct vf_span name, bool made)
{
	uint64_t hash = vf_ino_hash(&vf_tree[row], site, name);
	pid_t process = vf_process_of(call->pid);

	pthread_mutex_lock(&call->face->lock);
	/* Of two names that meet here the older one is forgotten. */
	*slot_of(call->face, hash) = (struct vf_hidden){ hash, call->pid, process, made, vf_clock_mono_ns() };
	pthread_mutex_unlock(&call->face->lock);
}

/* Runtimes have threads that take turns: what one has deleted the next makes anew. */
static bool is_by_us(const struct vf_call *call, const struct vf_hidden *hidden)
{
	return hidden->pid == call->pid || (hidden->process && hidden->process == vf_process_of(call->pid));
}

static bool is_noted(struct vf_call *call, enum vf_row_id row, struct vf_site *site, struct vf_span name, bool made)
{
	uint64_t hash = vf_ino_hash(&vf_tree[row], site, name);

	pthread_mutex_lock(&call->face->lock);
	const struct vf_hidden hidden = *slot_of(call->face, hash);
	pthread_mutex_unlock(&call->face->lock);
	return hidden.name == hash && hidden.made == made && vf_clock_mono_ns() - hidden.ns < MOMENT_NS && is_by_us(call, &hidden);
}

/* ---- cp -r into a new index: it makes every entry itself, without looking, and takes one that is there for a mistake ---- */

static uint32_t bit_of(enum vf_row_id row)
{
	return row >= VF_ROW_CONFIG && row <= VF_ROW_ERRORS ? 1u << (row - VF_ROW_CONFIG) : 0;
}

void vf_hide_from_maker(struct vf_call *call, struct vf_site *site)
{
	char command[32];

	vf_command_of(call->pid, command, sizeof command);
	if (strcmp(command, "cp") != 0 && strcmp(command, "mv") != 0)
		return;
	pthread_mutex_lock(&call->face->lock);
	site->maker = call->pid;
	site->unmade = (1u << (VF_ROW_ERRORS - VF_ROW_CONFIG + 1)) - 1;
	pthread_mutex_unlock(&call->face->lock);
}

static bool is_unmade(struct vf_call *call, enum vf_row_id row, struct vf_site *site)
{
	if (!site)
		return false;
	pthread_mutex_lock(&call->face->lock);
	bool unmade = site->maker == call->pid && (site->unmade & bit_of(row));
	pthread_mutex_unlock(&call->face->lock);
	return unmade;
}

/* The answers to the questions that it has copied are there, and it comes to copy them too. */
static bool is_maker(struct vf_call *call, struct vf_site *site)
{
	pthread_mutex_lock(&call->face->lock);
	bool maker = site->maker == call->pid;
	pthread_mutex_unlock(&call->face->lock);
	return maker;
}

static void make(struct vf_call *call, enum vf_row_id row, struct vf_site *site)
{
	pthread_mutex_lock(&call->face->lock);
	if (site->maker == call->pid)
		site->unmade &= ~bit_of(row);
	pthread_mutex_unlock(&call->face->lock);
}

void vf_hide(struct vf_call *call, enum vf_row_id row, struct vf_site *site, struct vf_span name)
{
	note(call, row, site, name, false);
}

bool vf_is_hidden(struct vf_call *call, enum vf_row_id row, struct vf_site *site, struct vf_span name)
{
	if (row == VF_ROW_ANSWER || row == VF_ROW_ANSWER_MSGPACK)
		return is_noted(call, row, site, name, false) || (is_maker(call, site) && !is_noted(call, row, site, name, true));
	return is_unmade(call, row, site) || is_noted(call, row, site, name, false);
}

void vf_show(struct vf_call *call, enum vf_row_id row, struct vf_site *site, struct vf_span name)
{
	if (site)
		make(call, row, site);
	note(call, row, site, name, true);
}

bool vf_is_shown(struct vf_call *call, enum vf_row_id row, struct vf_site *site, struct vf_span name)
{
	return is_noted(call, row, site, name, true);
}

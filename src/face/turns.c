/* SPDX-License-Identifier: MIT */
/* Turns: what may take long (a question, an answer, an export) is carried out for one user a few at a time, so that a flood of them leaves threads
 * for everybody else. What is too much waits here without a thread; the thread that has finished one of that user's takes the next.
 *
 * Something waits only while as many as may be are being carried out for that user, each by a thread that looks here before it goes: so nothing is
 * left behind, at the end of the mount neither. A signal to whoever waits ends the waiting with EINTR, and the question can be read again.
 * The lock of a request in libfuse comes before ours, that of its session after it. */
#include "face_internal.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>

struct waiting {
	struct waiting *next;
	struct vf_heavy heavy;
	char name[];
};

/* A place in the table is free while nothing is being carried out. */
struct user {
	uid_t uid;
	unsigned running;
	struct waiting *first, **end;
};

struct vf_turns {
	pthread_mutex_t lock;
	struct vf_turns_count count;
	struct user users[VF_REQUESTS_AT_ONCE_MAX];     /* each thread serves one of them at most */
};

/* As many as there are processors, since more would not be faster; a few on a small machine, for what waits for the disk. */
static unsigned at_once(void)
{
	cpu_set_t ours;
	unsigned n = sched_getaffinity(0, sizeof ours, &ours) == 0 ? (unsigned)CPU_COUNT(&ours) : 1;

	return n < VF_TURNS_USER_MIN ? VF_TURNS_USER_MIN : n > VF_TURNS_USER_MAX ? VF_TURNS_USER_MAX : n;
}

int vf_turns_new(struct vf_turns **out, struct vf_err *err)
{
	struct vf_turns *turns = calloc(1, sizeof *turns);

	if (!turns)
		return vf_oom(err);
	pthread_mutex_init(&turns->lock, NULL);
	turns->count.limit = at_once();
	*out = turns;
	return 0;
}

void vf_turns_free(struct vf_turns **turns)
{
	if (!*turns)
		return;
	pthread_mutex_destroy(&(*turns)->lock);
	free(*turns);
	*turns = NULL;
}

struct vf_turns_count vf_turns_count(struct vf_turns *turns)
{
	pthread_mutex_lock(&turns->lock);
	struct vf_turns_count count = turns->count;
	pthread_mutex_unlock(&turns->lock);
	return count;
}

/* ---- the table; its lock is held ---- */

static struct user *user_of(struct vf_turns *turns, uid_t uid)
{
	struct user *unused = NULL;

	for (struct user *user = turns->users; user < turns->users + VF_REQUESTS_AT_ONCE_MAX; user++) {
		if (user->running && user->uid == uid)
			return user;
		if (!user->running)
			unused = user;
	}
	*unused = (struct user){ .uid = uid };
	unused->end = &unused->first;
	return unused;
}

static bool start(struct vf_turns *turns, uid_t uid)
{
	struct user *user = user_of(turns, uid);

	if (user->running == turns->count.limit)
		return false;
	if (++user->running > turns->count.most)
		turns->count.most = user->running;
	return true;
}

static void append(struct vf_turns *turns, uid_t uid, struct waiting *waiting)
{
	struct user *user = user_of(turns, uid);

	*user->end = waiting;
	user->end = &waiting->next;
	turns->count.waiting++;
}

static struct waiting *take_out(struct vf_turns *turns, struct user *user, struct waiting **at)
{
	struct waiting *waiting = *at;

	*at = waiting->next;
	if (user->end == &waiting->next)
		user->end = at;
	turns->count.waiting--;
	return waiting;
}

static struct waiting *find(struct vf_turns *turns, fuse_req_t req)
{
	for (struct user *user = turns->users; user < turns->users + VF_REQUESTS_AT_ONCE_MAX; user++)
		for (struct waiting **at = &user->first; user->running && *at; at = &(*at)->next)
			if ((*at)->heavy.req == req)
				return take_out(turns, user, at);
	return NULL;
}

/* ---- waiting ---- */

static void give_up(fuse_req_t req, void *data)
{
	struct vf_turns *turns = data;

	pthread_mutex_lock(&turns->lock);
	struct waiting *waiting = find(turns, req);
	pthread_mutex_unlock(&turns->lock);
	if (waiting)
		fuse_reply_err(req, EINTR);
	free(waiting);
}

static struct waiting *copy(const struct vf_heavy *heavy)
{
	size_t len = heavy->name ? strlen(heavy->name) + 1 : 0;
	struct waiting *waiting = malloc(sizeof *waiting + len);

	if (!waiting)
		return NULL;
	waiting->next = NULL;
	waiting->heavy = *heavy;
	if (len)
		waiting->heavy.name = memcpy(waiting->name, heavy->name, len);
	return waiting;
}

/* 0: it waits; EINTR, ENOMEM: it cannot; -1: its turn has come meanwhile. */
static int wait_for_turn(struct vf_turns *turns, uid_t uid, const struct vf_heavy *heavy)
{
	struct waiting *waiting = copy(heavy);
	int rc = 0;

	if (!waiting)
		return ENOMEM;
	/* Before it waits: a signal that came already is seen below, and one that comes from now on finds it. */
	fuse_req_interrupt_func(heavy->req, give_up, turns);
	pthread_mutex_lock(&turns->lock);
	if (fuse_req_interrupted(heavy->req))
		rc = EINTR;
	else if (start(turns, uid))
		rc = -1;
	else
		append(turns, uid, waiting);
	pthread_mutex_unlock(&turns->lock);
	if (rc)
		free(waiting);
	return rc;
}

static bool begin(struct vf_turns *turns, uid_t uid, const struct vf_heavy *heavy)
{
	pthread_mutex_lock(&turns->lock);
	bool started = start(turns, uid);
	pthread_mutex_unlock(&turns->lock);
	if (started)
		return true;
	int rc = wait_for_turn(turns, uid, heavy);
	if (rc > 0)
		fuse_reply_err(heavy->req, rc);
	return rc < 0;
}

/* What is to be carried out next in the place of what has ended; NULL: nothing waits. */
static struct waiting *next(struct vf_turns *turns, uid_t uid)
{
	pthread_mutex_lock(&turns->lock);
	struct user *user = user_of(turns, uid);
	struct waiting *waiting = user->first ? take_out(turns, user, &user->first) : NULL;
	if (!waiting)
		user->running--;
	pthread_mutex_unlock(&turns->lock);
	return waiting;
}

bool vf_turns_take(struct vf_face *face, const struct vf_heavy *heavy)
{
	uid_t uid = fuse_req_ctx(heavy->req)->uid;
	struct waiting *waiting;

	if (!begin(face->turns, uid, heavy))
		return false;
	heavy->carry_out(heavy);
	while ((waiting = next(face->turns, uid))) {
		if (fuse_session_exited(face->session))
			fuse_reply_err(waiting->heavy.req, ECONNABORTED);
		else
			waiting->heavy.carry_out(&waiting->heavy);
		free(waiting);
	}
	return true;
}

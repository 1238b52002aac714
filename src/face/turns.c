/* SPDX-License-Identifier: MIT */
/* Turns: what may take long (a question, an answer, an export; a commit) is carried out for one user a few at a time, so that a flood of them leaves
 * threads for everybody else. What is too much waits here without a thread; the thread that has finished one of that user's takes the next.
 *
 * Something waits only while as many as may be are being carried out for that user, each by a thread that looks here before it goes: so nothing is
 * left behind, at the end of the mount neither. A signal to whoever waits for an answer ends the waiting with EINTR, and the question can be read
 * again; a commit is not given up, since close(2) could not be called again.
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

/* Of one kind. */
struct line { unsigned running; struct waiting *first, **end; };

/* A place in the table is free while nothing is being carried out. */
struct user {
	uid_t uid;
	struct line lines[VF_TURNS];
};

struct vf_turns {
	pthread_mutex_t lock;
	struct vf_turns_count count;       /* of what computes */
	unsigned limits[VF_TURNS];
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
	turns->limits[VF_TURN_COMPUTE] = turns->count.limit = at_once();
	turns->limits[VF_TURN_COMMIT] = VF_TURNS_COMMITS_MAX;
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

static bool is_busy(const struct user *user)
{
	for (int turn = 0; turn < VF_TURNS; turn++)
		if (user->lines[turn].running)
			return true;
	return false;
}

static struct line *line_of(struct vf_turns *turns, uid_t uid, enum vf_turn turn)
{
	struct user *unused = NULL;

	for (struct user *user = turns->users; user < turns->users + VF_REQUESTS_AT_ONCE_MAX; user++) {
		if (is_busy(user) && user->uid == uid)
			return &user->lines[turn];
		if (!is_busy(user))
			unused = user;
	}
	*unused = (struct user){ .uid = uid };
	for (int i = 0; i < VF_TURNS; i++)
		unused->lines[i].end = &unused->lines[i].first;
	return &unused->lines[turn];
}

static bool start(struct vf_turns *turns, uid_t uid, enum vf_turn turn)
{
	struct line *line = line_of(turns, uid, turn);

	if (line->running == turns->limits[turn])
		return false;
	line->running++;
	if (turn == VF_TURN_COMPUTE && line->running > turns->count.most)
		turns->count.most = line->running;
	return true;
}

static void append(struct vf_turns *turns, uid_t uid, struct waiting *waiting)
{
	struct line *line = line_of(turns, uid, waiting->heavy.turn);

	*line->end = waiting;
	line->end = &waiting->next;
	turns->count.waiting++;
}

static struct waiting *take_out(struct vf_turns *turns, struct line *line, struct waiting **at)
{
	struct waiting *waiting = *at;

	*at = waiting->next;
	if (line->end == &waiting->next)
		line->end = at;
	turns->count.waiting--;
	return waiting;
}

static struct waiting *find(struct vf_turns *turns, fuse_req_t req)
{
	for (struct user *user = turns->users; user < turns->users + VF_REQUESTS_AT_ONCE_MAX; user++) {
		struct line *line = &user->lines[VF_TURN_COMPUTE];
		for (struct waiting **at = &line->first; line->running && *at; at = &(*at)->next)
			if ((*at)->heavy.req == req)
				return take_out(turns, line, at);
	}
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
	if (heavy->turn == VF_TURN_COMPUTE)
		fuse_req_interrupt_func(heavy->req, give_up, turns);
	pthread_mutex_lock(&turns->lock);
	if (heavy->turn == VF_TURN_COMPUTE && fuse_req_interrupted(heavy->req))
		rc = EINTR;
	else if (start(turns, uid, heavy->turn))
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
	bool started = start(turns, uid, heavy->turn);
	pthread_mutex_unlock(&turns->lock);
	if (started)
		return true;
	int rc = wait_for_turn(turns, uid, heavy);
	if (rc > 0)
		fuse_reply_err(heavy->req, rc);
	return rc < 0;
}

/* What is to be carried out next in the place of what has ended; NULL: nothing waits. */
static struct waiting *next(struct vf_turns *turns, uid_t uid, enum vf_turn turn)
{
	pthread_mutex_lock(&turns->lock);
	struct line *line = line_of(turns, uid, turn);
	struct waiting *waiting = line->first ? take_out(turns, line, &line->first) : NULL;
	if (!waiting)
		line->running--;
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
	while ((waiting = next(face->turns, uid, heavy->turn))) {
		if (fuse_session_exited(face->session))
			fuse_reply_err(waiting->heavy.req, ECONNABORTED);
		else
			waiting->heavy.carry_out(&waiting->heavy);
		free(waiting);
	}
	return true;
}

/* SPDX-License-Identifier: MIT */
/* The threads that answer the kernel. Where they wait decides what a question through the mount costs, since waking a thread on another
 * processor costs as much as a walk through the graph:
 *
 * - They wait in epoll_wait, which wakes who came last (a read of /dev/fuse wakes who came first): one client is served by one thread, whose
 *   memory is in the cache.
 * - Who was woken attends to the queue: it looks there again when it is done. While somebody attends the kernel calls nobody (EPOLLONESHOT). Who
 *   begins what may take a while, or goes to wait, attends no more, and the last one has the kernel call again.
 * - Who finds the next request waiting already has another one called, as long as there are processors for them.
 * - After a word of a conversation the next one is close. The thread looks for it a moment before it waits. One thread at a time, and none on a
 *   machine with one processor, nor while linkers are at work: who looks yields, and a linker that is yielded to keeps the processor for all of its
 *   slice (99th percentile while 50,000 x 128 are linked 3.3 ms, without looking 1.7).
 *
 * 20,000 x 512, two virtual processors, a question of 20 us: for one client 62 us with libfuse's loop and looking, 38 us with this one and
 * processors kept awake (awake.c); eight clients 26,000/s and 38,000/s, and 48,000/s since threads attend. */
#include "face_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vecfs/clock.h"
#include "vecfs/thread.h"

#define LINGER_NS 30000

struct vf_loop {
	struct vf_face *face;
	int epoll, stop;                        /* stop: readable when the threads shall end */
	unsigned max;
	atomic_flag lingering;
	atomic_uint waiting, attending;         /* threads */
	_Atomic int error;                      /* what has ended the session, when that was no unmount and no signal */
	pthread_mutex_t lock;
	pthread_t threads[VF_REQUESTS_AT_ONCE_MAX];
	unsigned nthreads;
};

enum event { REQUEST, TICK, STOP };

/* Of the thread: it attends to the queue; what it has just carried out will be followed by something else at once. */
static _Thread_local bool attends, expects;

static void *work(void *arg);

static void stop(struct vf_loop *loop)
{
	const uint64_t one = 1;

	/* It cannot fill up. */
	if (write(loop->stop, &one, sizeof one) != sizeof one)
		abort();
}

/* ---- the queue ---- */

/* The kernel calls one of those who wait, once. */
static void rearm(struct vf_loop *loop)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLONESHOT, .data.u32 = REQUEST };

	epoll_ctl(loop->epoll, EPOLL_CTL_MOD, fuse_session_fd(loop->face->session), &event);
}

static int add_thread(struct vf_loop *loop)
{
	int code = 0;

	pthread_mutex_lock(&loop->lock);
	if (loop->nthreads < loop->max && (code = vf_thread_start(&loop->threads[loop->nthreads], work, loop)) == 0) {
		loop->nthreads++;
		atomic_fetch_add(&loop->waiting, 1);
	}
	pthread_mutex_unlock(&loop->lock);
	return -code;
}

/* Without memory for one more the others do. */
static void call_another(struct vf_loop *loop)
{
	rearm(loop);
	if (atomic_load(&loop->waiting) == 0)
		add_thread(loop);
}

static void attend(struct vf_loop *loop)
{
	atomic_fetch_add(&loop->attending, 1);
	attends = true;
}

void vf_loop_share(struct vf_face *face)
{
	if (!attends)
		return;
	attends = false;
	if (atomic_fetch_sub(&face->loop->attending, 1) == 1)
		call_another(face->loop);
}

void vf_loop_expect(struct vf_face *face)
{
	expects = face->awake.processors > 1 && !vf_catalog_is_at_work(face->catalog);
}

bool vf_loop_attends(void)
{
	return attends;
}

/* 1: there is one; 0: none; -1: the session is over. */
static int receive(struct vf_loop *loop, struct fuse_buf *buf)
{
	struct fuse_session *session = loop->face->session;

	if (fuse_session_exited(session))
		return -1;
	int n = fuse_session_receive_buf(session, buf);
	if (n == -EAGAIN || n == -EINTR)
		return 0;
	if (n == -ENOMEM) {
		/* For its buffer; the request waits. */
		sched_yield();
		return 0;
	}
	if (n < 0)
		atomic_store(&loop->error, n);
	return n > 0 ? 1 : -1;
}

/* The same, but looks for a while. */
static int linger(struct vf_loop *loop, struct fuse_buf *buf)
{
	int got;

	if (atomic_flag_test_and_set(&loop->lingering))
		return 0;
	/* Yielding lets the asker go on when it was woken on this very processor. */
	for (int64_t end = vf_clock_mono_ns() + LINGER_NS; (got = receive(loop, buf)) == 0 && vf_clock_mono_ns() < end;)
		sched_yield();
	atomic_flag_clear(&loop->lingering);
	return got;
}

/* ---- the threads ---- */

/* 1: there is a request; 0: the threads shall end; negative: this cannot go on. */
static int wait_for_request(struct vf_loop *loop)
{
	struct epoll_event event = { 0 };
	int n;

	for (;;) {
		n = epoll_wait(loop->epoll, &event, 1, -1);
		if (n == 1 && event.data.u32 == TICK)
			vf_awake_tick(&loop->face->awake);
		else if (n == 1 || errno != EINTR)
			break;
	}
	atomic_fetch_sub(&loop->waiting, 1);
	if (n < 0)
		atomic_store(&loop->error, -errno);
	return n < 0 ? -1 : event.data.u32 == REQUEST;
}

static int look_again(struct vf_loop *loop, struct fuse_buf *buf, bool *at_once)
{
	*at_once = false;
	if (!attends)
		return 0;
	int got = receive(loop, buf);
	*at_once = got > 0;
	return got == 0 && expects ? linger(loop, buf) : got;
}

/* What waits already while another one was carried out, and not for its answer: more than this thread can do. */
static bool is_too_much(const struct vf_loop *loop)
{
	return attends && !vf_is_alone(loop->face) && atomic_load(&loop->attending) < loop->face->awake.processors;
}

/* The request it was called for, and what follows it at once. */
static int serve(struct vf_loop *loop, struct fuse_buf *buf)
{
	int got = receive(loop, buf);

	for (bool at_once = false; got > 0; got = look_again(loop, buf, &at_once)) {
		if (at_once && is_too_much(loop))
			call_another(loop);
		expects = false;
		fuse_session_process_buf(loop->face->session, buf);
		vf_awake_after_request(&loop->face->awake);
	}
	return got;
}

/* Counted as waiting when it is made. */
static void *work(void *arg)
{
	struct vf_loop *loop = arg;
	struct fuse_buf buf = { 0 };
	int got;

	while ((got = wait_for_request(loop)) > 0) {
		attend(loop);
		got = serve(loop, &buf);
		atomic_fetch_add(&loop->waiting, 1);
		vf_loop_share(loop->face);
		if (got < 0)
			break;
	}
	if (got < 0) {
		fuse_session_exit(loop->face->session);
		stop(loop);
	}
	free(buf.mem);
	return NULL;
}

/* ---- begin and end ---- */

static int add_descriptor(struct vf_loop *loop, int fd, uint32_t events, enum event what)
{
	struct epoll_event event = { .events = events, .data.u32 = what };

	return epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

static int begin(struct vf_loop *loop)
{
	int fd = fuse_session_fd(loop->face->session), flags = fcntl(fd, F_GETFL), rc;

	if (loop->epoll < 0 || loop->stop < 0 || flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK))
		return -errno;
	if ((rc = add_descriptor(loop, loop->stop, EPOLLIN, STOP)) == 0)
		rc = add_descriptor(loop, fd, EPOLLIN | EPOLLONESHOT, REQUEST);
	if (rc == 0 && loop->face->awake.timer >= 0)
		rc = add_descriptor(loop, loop->face->awake.timer, EPOLLIN, TICK);
	return rc;
}

/* Signals come to this thread alone, and only while it waits here, so that none is missed. */
static void wait_for_end(struct vf_loop *loop, const sigset_t *outside)
{
	struct pollfd fd = { .fd = loop->stop, .events = POLLIN };

	while (!fuse_session_exited(loop->face->session))
		ppoll(&fd, 1, NULL, outside);
	stop(loop);
}

static void join_threads(struct vf_loop *loop)
{
	for (unsigned i = 0;; i++) {
		/* The last ones may still be adding one. */
		pthread_mutex_lock(&loop->lock);
		bool more = i < loop->nthreads;
		pthread_mutex_unlock(&loop->lock);
		if (!more)
			return;
		pthread_join(loop->threads[i], NULL);
	}
}

static int run(struct vf_loop *loop)
{
	sigset_t outside;
	int rc = begin(loop);

	if (rc)
		return rc;
	vf_signals_block(&outside);
	rc = add_thread(loop);
	if (rc == 0)
		wait_for_end(loop, &outside);
	join_threads(loop);
	pthread_sigmask(SIG_SETMASK, &outside, NULL);
	if (rc == 0)
		rc = atomic_load(&loop->error);
	/* Over, as it is: returns at once, with the signal that has ended it. */
	return rc ? rc : fuse_session_loop(loop->face->session);
}

int vf_loop_run(struct vf_face *face)
{
	struct vf_loop loop = {
		.face = face, .max = face->options.single_thread ? 1 : VF_REQUESTS_AT_ONCE_MAX,
		.epoll = epoll_create1(EPOLL_CLOEXEC), .stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .lingering = ATOMIC_FLAG_INIT,
	};

	pthread_mutex_init(&loop.lock, NULL);
	face->loop = &loop;
	int rc = run(&loop);
	face->loop = NULL;
	pthread_mutex_destroy(&loop.lock);
	if (loop.epoll >= 0)
		close(loop.epoll);
	if (loop.stop >= 0)
		close(loop.stop);
	return rc;
}

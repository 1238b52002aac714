/* SPDX-License-Identifier: MIT */
/* Processors kept awake while requests come one after the other. A processor with nothing to do goes to sleep; waking it takes 10 to 25 us on a
 * virtual machine (and from the deeper sleeps of others), and a request through the mount needs that twice. Root may ask the kernel for processors
 * that answer at once, by /dev/cpu_dma_latency; they then wait in a loop. So that is asked for only while requests are close together, and on
 * machines with few processors. (A byte through pipes to another processor and back: 44 us, and 4.5 us with this.)
 *
 * While it is on a timer ticks, which wakes one of the threads that wait for requests: it looks whether the row has ended. */
#include "face_internal.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "vecfs/clock.h"

#define CLOSE_NS 2000000          /* between two requests */
#define TICK_NS  5000000
#define IN_A_ROW 16u
#define AT_ONCE  0
#define ANY_TIME (-1)             /* the kernel's word for: no wish */

void vf_awake_begin(struct vf_awake *awake, bool allowed)
{
	cpu_set_t ours;

	pthread_mutex_init(&awake->lock, NULL);
	awake->fd = -1;
	awake->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	awake->processors = sched_getaffinity(0, sizeof ours, &ours) == 0 ? (unsigned)CPU_COUNT(&ours) : 1;
	if (allowed && awake->timer >= 0 && awake->processors > 1 && awake->processors <= VF_AWAKE_PROCESSORS_MAX)
		awake->fd = open("/dev/cpu_dma_latency", O_WRONLY | O_CLOEXEC);
}

void vf_awake_end(struct vf_awake *awake)
{
	if (awake->fd >= 0)
		close(awake->fd);
	if (awake->timer >= 0)
		close(awake->timer);
	pthread_mutex_destroy(&awake->lock);
}

/* The lock is held. */
static void set(struct vf_awake *awake, bool on)
{
	const struct itimerspec ticks = { .it_value.tv_nsec = on ? TICK_NS : 0, .it_interval.tv_nsec = on ? TICK_NS : 0 };
	int32_t latency_us = on ? AT_ONCE : ANY_TIME;

	if (atomic_load(&awake->on) == on || timerfd_settime(awake->timer, 0, &ticks, NULL))
		return;
	/* Refused: then not. */
	atomic_store(&awake->on, write(awake->fd, &latency_us, sizeof latency_us) == sizeof latency_us && on);
}

void vf_awake_after_request(struct vf_awake *awake)
{
	if (awake->fd < 0)
		return;
	int64_t now = vf_clock_mono_ns(), last = atomic_exchange_explicit(&awake->last_ns, now, memory_order_relaxed);
	if (now - last >= CLOSE_NS) {
		atomic_store_explicit(&awake->in_a_row, 0, memory_order_relaxed);
	} else if (atomic_fetch_add_explicit(&awake->in_a_row, 1, memory_order_relaxed) >= IN_A_ROW && !atomic_load(&awake->on)) {
		pthread_mutex_lock(&awake->lock);
		set(awake, true);
		pthread_mutex_unlock(&awake->lock);
	}
}

void vf_awake_tick(struct vf_awake *awake)
{
	uint64_t ticks;

	if (read(awake->timer, &ticks, sizeof ticks) != sizeof ticks)
		return;
	pthread_mutex_lock(&awake->lock);
	if (vf_clock_mono_ns() - atomic_load(&awake->last_ns) >= CLOSE_NS)
		set(awake, false);
	pthread_mutex_unlock(&awake->lock);
}

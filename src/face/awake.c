/* SPDX-License-Identifier: MIT */
/* Processors kept awake while requests come one after the other. A processor with nothing to do goes to sleep; waking it takes 10 to 25 us on a
 * virtual machine (and from the deeper sleeps of others), and a request through the mount needs that twice. Root may ask the kernel for processors
 * that answer at once, by /dev/cpu_dma_latency; they then wait in a loop. So that is asked for only while requests are close together, and on
 * machines with few processors. (A byte through pipes to another processor and back: 44 us, and 4.5 us with this.) */
#include "face_internal.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include "vecfs/clock.h"

#define CLOSE_NS 2000000          /* between two requests */
#define IN_A_ROW 16u
#define AT_ONCE  0
#define ANY_TIME (-1)             /* the kernel's word for: no wish */

static void wish(struct vf_awake *awake, int32_t latency_us)
{
	if (write(awake->fd, &latency_us, sizeof latency_us) != sizeof latency_us)
		vf_awake_end(awake);
}

void vf_awake_begin(struct vf_awake *awake, bool allowed)
{
	cpu_set_t ours;

	awake->fd = -1;
	awake->processors = sched_getaffinity(0, sizeof ours, &ours) == 0 ? (unsigned)CPU_COUNT(&ours) : 1;
	if (allowed && awake->processors > 1 && awake->processors <= VF_AWAKE_PROCESSORS_MAX)
		awake->fd = open("/dev/cpu_dma_latency", O_WRONLY | O_CLOEXEC);
}

void vf_awake_end(struct vf_awake *awake)
{
	int fd = atomic_exchange(&awake->fd, -1);

	atomic_store(&awake->on, false);
	if (fd >= 0)
		close(fd);
}

bool vf_awake_after_request(struct vf_awake *awake)
{
	if (awake->fd < 0)
		return false;
	int64_t now = vf_clock_mono_ns(), last = atomic_exchange_explicit(&awake->last_ns, now, memory_order_relaxed);
	if (now - last >= CLOSE_NS)
		atomic_store_explicit(&awake->in_a_row, 0, memory_order_relaxed);
	else if (atomic_fetch_add_explicit(&awake->in_a_row, 1, memory_order_relaxed) >= IN_A_ROW && !atomic_load(&awake->on) &&
	         !atomic_exchange(&awake->on, true))
		wish(awake, AT_ONCE);
	return atomic_load(&awake->on);
}

int vf_awake_timeout_ms(const struct vf_awake *awake)
{
	return atomic_load(&awake->on) ? CLOSE_NS / 1000000 : -1;
}

void vf_awake_rest(struct vf_awake *awake)
{
	int64_t last = atomic_load(&awake->last_ns);

	if (vf_clock_mono_ns() - last >= CLOSE_NS && atomic_exchange(&awake->on, false))
		wish(awake, ANY_TIME);
}

/* SPDX-License-Identifier: MIT */
/* The one door to the CPU's features: which row of kernels this machine runs. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "dist_internal.h"

size_t vf_kernels_available(const struct vf_kernels *rows[4])
{
	size_t n = 0;

	rows[n++] = &vf_kernels_plain;
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		rows[n++] = &vf_kernels_avx2;
	if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
	    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni"))
		rows[n++] = &vf_kernels_avx512;
#elif defined(__aarch64__)
	rows[n++] = &vf_kernels_neon;
#endif
	return n;
}

/* The last row is the best. An override that this CPU cannot run is passed over. */
static const struct vf_kernels *choose(void)
{
	const struct vf_kernels *rows[4];
	size_t n = vf_kernels_available(rows);
	const char *wanted = getenv("VECFS_KERNELS");

	for (size_t i = 0; wanted && i < n; i++)
		if (strcmp(rows[i]->name, wanted) == 0)
			return rows[i];
	return rows[n - 1];
}

const struct vf_kernels *vf_kernels(void)
{
	static _Atomic(const struct vf_kernels *) chosen;
	const struct vf_kernels *kernels = atomic_load_explicit(&chosen, memory_order_acquire);

	/* Two threads that come first choose the same. */
	if (!kernels) {
		kernels = choose();
		atomic_store_explicit(&chosen, kernels, memory_order_release);
	}
	return kernels;
}

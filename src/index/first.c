/* SPDX-License-Identifier: MIT */
/* first.c - the first question of an index whose graph is not in memory. Loading the graph takes longer than reading every vector when these
 * are in the page cache (a million of 128 numbers, from the start of the daemon to the answer: .31 s and .09 s). So the first question is answered from
 * the vectors, exactly, and the graph is loaded behind it. Who asks next waits for the graph: two at work would be in each other's way. */
#include "ask_internal.h"
#include "keeper.h"
#include "vecfs/thread.h"

/* More are not surely read faster than a graph is loaded. */
#define VECTOR_BYTES_MAX ((uint64_t)1 << 30)

static bool is_quick(struct vf_txn *txn, uint32_t dim)
{
	struct vf_err err = VF_ERR_INIT;
	uint64_t vectors;

	return vf_count(txn, VF_T_VECTORS, &vectors, &err) == 0 && vectors * dim * sizeof(float) <= VECTOR_BYTES_MAX && vf_txn_is_cached(txn);
}

bool vf_first_take(const struct vf_ask *ask)
{
	struct vf_index *index = ask->index;
	struct vf_err err = VF_ERR_INIT;
	struct vf_txn *txn = NULL;

	/* Without linkers it is no process that serves. */
	if (!index->linkers || ask->config->dim == 0 || ask->question->nvectors > 1 || atomic_load(&index->keeper->first_taken) || vf_txn_read(index->store, &txn, &err))
		return false;
	bool quick = is_quick(txn, ask->config->dim);
	vf_txn_end(&txn);
	return quick && !atomic_exchange(&index->keeper->first_taken, true);
}

/* What it fails of is told to whoever needs the graph next, and tries again. */
static void *load(void *ctx)
{
	struct vf_index *index = ctx;
	struct vf_err err = VF_ERR_INIT;
	struct vf_graph *graph;

	if (vf_graph_hold(index, &graph, &err) == 0)
		vf_graph_release(index);
	return NULL;
}

void vf_first_load_behind(struct vf_index *index)
{
	index->keeper->has_loader = vf_thread_start(&index->keeper->loader, load, index) == 0;
}

void vf_first_end(struct vf_index *index)
{
	if (index->keeper->has_loader)
		pthread_join(index->keeper->loader, NULL);
	index->keeper->has_loader = false;
}

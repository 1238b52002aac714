/* SPDX-License-Identifier: MIT */
/* publish.c - memory follows disk: the graph is told what a change has brought and taken, in the committer's turn. What cannot follow is
 * dropped and read again from disk by whoever needs it next. */
#include "change.h"
#include "early.h"
#include "vecfs/spread.h"

/* Effects of one piece of work: with 128 numbers some .1 ms, with 1,536 a millisecond. */
#define PIECE_EFFECTS 512u

/* Questions whose transaction still has the dead vector look for it here, since the graph will not show it. */
static void note_death(struct vf_index *index, uint32_t slot)
{
	uint64_t deaths = atomic_load(&index->deaths), serial;

	vf_graph_slot(index->graph, slot, &serial);
	atomic_store(&index->dead[deaths % VF_DEATHS_KEPT], serial);
	atomic_store(&index->deaths, deaths + 1);
}

static int add_vector(struct vf_index *index, const struct vf_effect *effect, struct vf_early_reader *early, struct vf_err *err)
{
	const float *vector = effect->vector;
	int rc = vector ? 0 : vf_early_read(early, index, effect->serial, vf_graph_quant(index->graph)->dim, &vector, err);

	return rc ? rc : vf_graph_add(index->graph, effect->slot, effect->serial, vector, err);
}

static int add_piece(void *ctx, size_t piece, unsigned worker, struct vf_err *err)
{
	const struct vf_change *change = ctx;
	struct vf_early_reader early = { .txn = NULL };
	size_t end = (piece + 1) * PIECE_EFFECTS;
	int rc = 0;

	(void)worker;
	for (size_t i = piece * PIECE_EFFECTS; i < end && i < change->neffects && rc == 0; i++)
		if (change->effects[i].add)
			rc = add_vector(change->index, &change->effects[i], &early, err);
	vf_early_read_end(&early);
	return rc;
}

/* Vectors of a long stream are made codes of by all processors: nobody else has work then, and the writer waits. */
static void add_all(struct vf_change *change)
{
	size_t pieces = (change->neffects + PIECE_EFFECTS - 1) / PIECE_EFFECTS;
	struct vf_err err = VF_ERR_INIT;

	if (vf_spread(vf_spread_width(pieces), pieces, add_piece, change, &err)) {
		vf_index_warn(change->index, "is loaded again: %s", err.text);
		change->index->graph_broken = true;
	}
}

static void remove_all(struct vf_change *change)
{
	for (size_t i = 0; i < change->neffects; i++)
		if (!change->effects[i].add) {
			note_death(change->index, change->effects[i].slot);
			vf_graph_remove(change->index->graph, change->effects[i].slot);
		}
}

static uint64_t count_deaths(const struct vf_change *change)
{
	uint64_t deaths = change->unused;

	for (size_t i = 0; i < change->neffects; i++)
		deaths += !change->effects[i].add;
	return deaths;
}

void vf_change_publish(struct vf_change *change)
{
	struct vf_index *index = change->index;
	uint64_t deaths = count_deaths(change);

	/* One that came and died in the same change has to come first. */
	if (!index->graph_broken)
		add_all(change);
	if (!index->graph_broken)
		remove_all(change);
	change->neffects = 0;
	/* A broken graph is read again from disk. Deaths that were not noted make all notes void. */
	if (index->graph_broken)
		atomic_fetch_add(&index->deaths, VF_DEATHS_KEPT);
	atomic_fetch_add(&index->deaths_told, deaths);
	if (change->moved)
		atomic_store(&index->part_mtime_ns[VF_PART_RECORDS], change->now_ns);
	atomic_store(&index->unlisted_keys, change->counters.unlisted_keys);
}

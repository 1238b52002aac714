/* SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include "vecfs/graph.h"

#define DIM   4u
#define SLOTS 16u

static const float somewhere[DIM] = { 0.1f, 0.2f, 0.3f, 0.4f };

static int add_missing(void *ctx, uint32_t slot, uint64_t serial, struct vf_err *err)
{
	return vf_graph_add(ctx, slot, serial, somewhere, err);
}

/* Whatever a chunk says, the graph that was loaded from it answers from the slots that were expected. */
static void ask(struct vf_graph *graph)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_search search = { .query = somewhere, .want = SLOTS, .ef = 32 };
	struct vf_hit hits[SLOTS];
	uint32_t n;

	FUZZ_PROMISE(vf_graph_search(graph, &search, hits, &n, NULL, &err) >= 0);
	for (uint32_t i = 0; i < n; i++)
		FUZZ_PROMISE(hits[i].slot < SLOTS && hits[i].serial == hits[i].slot + 1);
}

void vf_fuzz_disk(const uint8_t *data, size_t size)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_graph_params params = { .metric = VF_EUCLIDEAN, .dim = DIM, .m = 4, .ef_construction = 16 };
	struct vf_graph *graph = NULL;
	struct vf_quant quant;

	if (vf_quant_decode(&quant, vf_span(data, size), &err) == 0)
		vf_quant_free(&quant);
	if (size < 1)
		return;
	size_t cut = 1 + data[0] % size;
	FUZZ_PROMISE(vf_quant_fit(&quant, VF_CODE_U8, VF_EUCLIDEAN, DIM, somewhere, 1, &err) == 0);
	FUZZ_PROMISE(vf_graph_new(&params, &quant, &graph, &err) == 0);
	for (uint32_t slot = 0; slot < SLOTS; slot++)
		FUZZ_PROMISE(vf_graph_expect(graph, slot, slot + 1, &err) == 0);
	vf_graph_chunk_load(graph, 0, vf_span(data + 1, cut - 1), vf_span(data + cut, size - cut), &err);
	FUZZ_PROMISE(vf_graph_load_end(graph, add_missing, graph, &err) == 0);
	ask(graph);
	vf_graph_free(&graph);
	vf_quant_free(&quant);
}

/* SPDX-License-Identifier: MIT */
/* explain.c - how a question was answered: the filter as it was understood, the plan and what it was chosen by, what it looked at, and
 * where the time went. */
#include "ask_internal.h"

#define ENTRIES_MAX 14u

struct maker { struct vf_value *map; struct vf_arena *arena; uint32_t room; bool failed; };

static struct vf_value *put(struct maker *m, const char *name)
{
	if (m->failed || m->map->count == m->room) {
		m->failed = true;
		return NULL;
	}
	struct vf_entry *entry = &m->map->entries[m->map->count++];
	*entry = (struct vf_entry){ .name = vf_span_str(name) };
	return &entry->value;
}

static void put_int(struct maker *m, const char *name, uint64_t i)
{
	struct vf_value *value = put(m, name);

	if (value)
		*value = (struct vf_value){ .kind = VF_INT, .integer = (int64_t)i };
}

static void put_text(struct maker *m, const char *name, const char *text)
{
	struct vf_value *value = put(m, name);

	if (value)
		*value = (struct vf_value){ .kind = VF_STRING, .bytes = vf_span_str(text) };
}

static struct maker begin(struct vf_value *map, struct vf_arena *arena, uint32_t room)
{
	*map = (struct vf_value){ .kind = VF_MAP, .entries = vf_arena_alloc(arena, room * sizeof *map->entries) };
	return (struct maker){ .map = map, .arena = arena, .room = room, .failed = !map->entries };
}

static void put_times(struct maker *m, const struct vf_trace *trace)
{
	struct vf_value *value = put(m, "microseconds");

	if (!value)
		return;
	struct maker times = begin(value, m->arena, 3);
	put_int(&times, "match", (uint64_t)trace->match_ns / 1000);
	put_int(&times, "search", (uint64_t)trace->search_ns / 1000);
	put_int(&times, "rank", (uint64_t)trace->rank_ns / 1000);
	m->failed |= times.failed;
}

static void put_estimates(struct maker *m, const struct vf_plan *plan)
{
	struct vf_value *value = put(m, "estimated_microseconds");

	if (!value)
		return;
	struct maker estimates = begin(value, m->arena, 2);
	put_int(&estimates, "graph", (uint64_t)(plan->graph_ns / 1000));
	put_int(&estimates, "scan", (uint64_t)(plan->codes_ns / 1000));
	m->failed |= estimates.failed;
}

/* Folded, in the words of the language: it can be asked with again. */
static int put_filter(struct maker *m, const struct vf_filter *filter, struct vf_err *err)
{
	struct vf_value *value = put(m, "filter");
	struct vf_buf text = VF_BUF_INIT;

	if (!value)
		return vf_oom(err);
	int rc = vf_filter_print(filter, &text, err);
	struct vf_span kept = rc ? vf_span(NULL, 0) : vf_arena_copy(m->arena, vf_buf_span(&text));
	vf_buf_free(&text);
	if (rc)
		return rc;
	return kept.data ? vf_value_decode(VF_JSON, kept, m->arena, value, err) : vf_oom(err);
}

static void put_search(struct maker *m, const struct vf_ask *ask, const struct vf_probe *probe)
{
	if (ask->plan.way == VF_WAY_GRAPH)
		put_int(m, "ef", ask->plan.ef);
	put_int(m, "distances", probe->stats.distances);
	put_int(m, "hops", probe->stats.hops);
	put_int(m, "scanned", probe->stats.scanned);
	put_int(m, "candidates", probe->nhits);
	put_int(m, "reranked", probe->reranked);
	put_int(m, "retries", ask->trace.retries);
}

int vf_explain(struct vf_ask *ask, const struct vf_probe *probe, struct vf_value *out, struct vf_err *err)
{
	struct maker m = begin(out, &ask->arena, ENTRIES_MAX);

	if (ask->question->filter) {
		int rc = put_filter(&m, ask->question->filter, err);
		if (rc)
			return rc;
	}
	put_text(&m, "plan", !probe ? "keys in order" : probe->early ? "graph, given up for a scan of codes" : vf_way_name(ask->plan.way));
	put_int(&m, "records", ask->facts.records);
	put_int(&m, "matched", ask->matched);
	if (probe) {
		put_estimates(&m, &ask->plan);
		put_search(&m, ask, probe);
	}
	put_times(&m, &ask->trace);
	return m.failed ? vf_oom(err) : 0;
}

/* SPDX-License-Identifier: MIT */
/* vecfs in process, without the mount: builds the set in a new index below a directory, then runs all queries once for every line
 * "EF K" on standard input (EF 0: what the index chose) and prints "QUERIES-PER-SECOND RECALL". The line "churn" removes a random half of the
 * vectors and inserts them again, and prints its CPU seconds. The first line out is "built CPU-SECONDS BYTES INGEST-SECONDS": linking's CPU
 * (all threads but the one that writes to disk), memory of the index, wall time of the durable inserts.
 * usage: engine SET-DIRECTORY EMPTY-DIRECTORY */
#include <unistd.h>

#include "set.h"
#include "vecfs/index.h"

static struct vf_err err = VF_ERR_INIT;

static void need(int rc, const char *what)
{
	if (rc >= 0)
		return;
	fprintf(stderr, "%s: %s\n", what, err.text);
	exit(1);
}

static void configure(struct vf_index *index, const struct bench_set *set)
{
	char text[128];

	snprintf(text, sizeof text, "dimension = %u\nmetric = %s\n", set->dim, set->metric);
	need(vf_index_configure(index, vf_span_str(text), &err), "configure");
}

/* Those that `wanted` says, or all. */
static void insert(struct vf_index *index, const struct bench_set *set, bool (*wanted)(size_t i))
{
	struct vf_receipt receipt;
	struct vf_batch *batch = NULL;
	char key[32];

	need(vf_batch_new(index, &batch, &err), "batch");
	for (size_t i = 0; i < set->n; i++) {
		if (wanted && !wanted(i))
			continue;
		snprintf(key, sizeof key, "%zu", i);
		struct vf_record record = { .key = vf_span_str(key), .vector = set->base + i * set->dim, .dim = set->dim,
		                            .metadata = vf_span("\x80", 1) };
		need(vf_batch_put(batch, &record, &err), "put");
		if ((i + 1) % 50000 == 0)
			need(vf_batch_apply(batch, &receipt, &err), "apply");
	}
	need(vf_batch_apply(batch, &receipt, &err), "apply");
	vf_batch_free(&batch);
}

static uint64_t stat_of(struct vf_index *index, const char *name)
{
	struct vf_buf text = VF_BUF_INIT;

	need(vf_index_stats(index, &text, &err), "stats");
	need(vf_buf_put(&text, "", 1, &err), "stats");
	for (char *line = strtok((char *)text.data, "\n"); line; line = strtok(NULL, "\n"))
		if (strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ' ') {
			uint64_t value = strtoull(line + strlen(name), NULL, 10);
			vf_buf_free(&text);
			return value;
		}
	fprintf(stderr, "stats has no %s\n", name);
	exit(1);
}

static void wait_until_linked(struct vf_index *index)
{
	while (stat_of(index, "pending"))
		usleep(20000);
}

static double linking_cpu(void)
{
	return bench_clock(CLOCK_PROCESS_CPUTIME_ID) - bench_clock(CLOCK_THREAD_CPUTIME_ID);
}

/* A random half, always the same. */
static bool is_churned(size_t i)
{
	return (i * 0x9e3779b97f4a7c15u >> 33 & 1) != 0;
}

static void churn(struct vf_index *index, const struct bench_set *set)
{
	double cpu = bench_clock(CLOCK_PROCESS_CPUTIME_ID);
	char key[32];

	for (size_t i = 0; i < set->n; i++)
		if (is_churned(i)) {
			snprintf(key, sizeof key, "%zu", i);
			need(vf_index_remove(index, vf_span_str(key), &err), "remove");
		}
	while (stat_of(index, "dead"))
		usleep(20000);
	insert(index, set, is_churned);
	wait_until_linked(index);
	printf("%.3f 0\n", bench_clock(CLOCK_PROCESS_CPUTIME_ID) - cpu);
	fflush(stdout);
}

static size_t hits_of(const struct vf_spool *spool, const struct bench_set *set, size_t query, uint32_t k, struct vf_arena *arena)
{
	struct vf_value answer;
	uint32_t got[1000];
	size_t n = 0;

	vf_arena_reset(arena);
	need(vf_value_decode(VF_MSGPACK, vf_buf_span(&spool->buf), arena, &answer, &err), "answer");
	const struct vf_value *rows = vf_value_find(&answer, "vectors");
	for (uint32_t i = 0; i < rows->count && n < 1000; i++) {
		const struct vf_value *key = vf_value_find(&rows->items[i], "key");
		char text[32];
		snprintf(text, sizeof text, "%.*s", VF_SPAN_ARG(key->bytes));
		got[n++] = (uint32_t)strtoul(text, NULL, 10);
	}
	return bench_hits(set, query, got, n, k);
}

static void ask_all(struct vf_index *index, const struct bench_set *set, uint32_t ef, uint32_t k)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_spool spool;
	size_t hits = 0;
	double seconds = 0;

	vf_spool_init(&spool, NULL);
	for (size_t q = 0; q < set->nqueries; q++) {
		struct vf_question question = { .format = VF_MSGPACK, .vectors = set->queries + q * set->dim, .nvectors = 1,
		                                .dim = set->dim, .has_top_k = true, .top_k = k, .ef = ef };
		double start = bench_clock(CLOCK_MONOTONIC);
		vf_spool_clear(&spool);
		need(vf_index_ask(index, &question, &spool, &err), "ask");
		seconds += bench_clock(CLOCK_MONOTONIC) - start;
		hits += hits_of(&spool, set, q, k, &arena);
	}
	printf("%.1f %.5f\n", (double)set->nqueries / seconds, (double)hits / ((double)set->nqueries * k));
	fflush(stdout);
	vf_spool_free(&spool);
	vf_arena_free(&arena);
}

int main(int argc, char **argv)
{
	struct vf_linkers *linkers = NULL;
	struct vf_index *index = NULL;
	unsigned ef, k;
	char line[64];

	if (argc != 3)
		return 2;
	struct bench_set set = bench_load(argv[1]);
	need(vf_linkers_new(0, &linkers, &err), "linkers");
	need(vf_index_create(argv[2], &err), "create");
	struct vf_index_options options = { .bucket = "bench", .name = "bench", .linkers = linkers };
	need(vf_index_open(argv[2], &options, &index, &err), "open");
	configure(index, &set);
	double begin = bench_clock(CLOCK_MONOTONIC), cpu = linking_cpu();
	insert(index, &set, NULL);
	double ingested = bench_clock(CLOCK_MONOTONIC) - begin;
	wait_until_linked(index);
	printf("built %.3f %llu %.3f\n", linking_cpu() - cpu,
	       (unsigned long long)stat_of(index, "memory_bytes"), ingested);
	fflush(stdout);
	while (fgets(line, sizeof line, stdin)) {
		if (sscanf(line, "%u %u", &ef, &k) == 2)
			ask_all(index, &set, ef, k);
		else
			churn(index, &set);
	}
	vf_index_close(&index);
	vf_linkers_free(&linkers);
	return 0;
}

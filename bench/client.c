/* SPDX-License-Identifier: MIT */
/* A client of the mount: opens INDEX/query once a thread, and runs all queries of a set once for every line "EF K CLIENTS" on standard input:
 * writes a question, reads the answer on the same descriptor. Prints "QUERIES-PER-SECOND RECALL P50-US P99-US". The question is msgpack with
 * its vector as binary, msgpack with {"float32": [...]}, or JSON.
 * usage: client SET-DIRECTORY INDEX-DIRECTORY [bin|list|json] */
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "set.h"
#include "vecfs/format.h"

#define CLIENTS_MAX 64

enum form { BIN, LIST, JSON, FORMS };
static const char *const form_names[FORMS] = { "bin", "list", "json" };

struct client {
	const struct bench_set *set;
	enum form form;
	const char *index;
	unsigned ef, k, first, step;
	size_t hits, asked;
	double *latency;      /* seconds, one a query of the set */
};

static void emit_vector(struct vf_emitter *e, struct vf_buf *buf, enum form form, const float *vector, uint32_t dim)
{
	struct vf_err err = VF_ERR_INIT;
	uint32_t bytes = dim * 4;
	uint8_t head[5] = { 0xc6, (uint8_t)(bytes >> 24), (uint8_t)(bytes >> 16), (uint8_t)(bytes >> 8), (uint8_t)bytes };

	if (form == BIN) {
		if (vf_buf_put(buf, head, 5, &err) || vf_buf_put(buf, vector, bytes, &err))
			exit(1);
		return;
	}
	vf_emit_map(e, 1);
	vf_emit_name(e, "float32");
	vf_emit_floats(e, vector, dim);
	vf_emit_close(e);
}

static struct vf_buf build_question(enum form form, const float *vector, uint32_t dim, unsigned ef, unsigned k)
{
	struct vf_buf buf = VF_BUF_INIT;
	struct vf_emitter e;

	vf_emit_begin(&e, form == JSON ? VF_JSON : VF_MSGPACK, &buf);
	vf_emit_map(&e, ef ? 3 : 2);
	vf_emit_name(&e, "topK");
	vf_emit_int(&e, k);
	if (ef) {
		vf_emit_name(&e, "ef");
		vf_emit_int(&e, ef);
	}
	vf_emit_name(&e, "queryVector");
	emit_vector(&e, &buf, form, vector, dim);
	if (form == JSON)
		vf_emit_close(&e);
	return buf;
}

static size_t count_hits(const struct client *c, size_t query, const uint8_t *answer, size_t len, struct vf_arena *arena)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_value value;
	uint32_t got[1000];
	size_t n = 0;

	vf_arena_reset(arena);
	if (vf_value_decode(c->form == JSON ? VF_JSON : VF_MSGPACK, vf_span(answer, len), arena, &value, &err)) {
		fprintf(stderr, "answer: %s\n", err.text);
		exit(1);
	}
	const struct vf_value *rows = vf_value_find(&value, "vectors");
	for (uint32_t i = 0; i < rows->count && n < 1000; i++) {
		char text[32];
		snprintf(text, sizeof text, "%.*s", VF_SPAN_ARG(vf_value_find(&rows->items[i], "key")->bytes));
		got[n++] = (uint32_t)strtoul(text, NULL, 10);
	}
	return bench_hits(c->set, query, got, n, c->k);
}

static void *run_client(void *arg)
{
	struct client *c = arg;
	struct vf_arena arena = VF_ARENA_INIT;
	char path[4096];
	uint8_t *answer = malloc(1 << 20);

	snprintf(path, sizeof path, "%s/query", c->index);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		bench_die(path);
	for (size_t q = c->first; q < c->set->nqueries; q += c->step) {
		struct vf_buf question = build_question(c->form, c->set->queries + q * c->set->dim, c->set->dim, c->ef, c->k);
		double start = bench_clock(CLOCK_MONOTONIC);
		if (write(fd, question.data, question.len) != (ssize_t)question.len)
			bench_die("write");
		ssize_t got = read(fd, answer, 1 << 20);
		c->latency[q] = bench_clock(CLOCK_MONOTONIC) - start;
		if (got <= 0)
			bench_die("read");
		vf_buf_free(&question);
		c->hits += count_hits(c, q, answer, (size_t)got, &arena);
		c->asked++;
	}
	close(fd);
	free(answer);
	vf_arena_free(&arena);
	return NULL;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void run(const struct bench_set *set, const char *index, enum form form, unsigned ef, unsigned k, unsigned clients)
{
	struct client c[CLIENTS_MAX];
	pthread_t threads[CLIENTS_MAX];
	double *latency = calloc(set->nqueries, sizeof *latency), busy = 0;
	size_t hits = 0;

	for (unsigned i = 0; i < clients; i++) {
		c[i] = (struct client){ .set = set, .form = form, .index = index, .ef = ef, .k = k, .first = i, .step = clients, .latency = latency };
		if (pthread_create(&threads[i], NULL, run_client, &c[i]))
			bench_die("pthread_create");
	}
	for (unsigned i = 0; i < clients; i++) {
		pthread_join(threads[i], NULL);
		hits += c[i].hits;
	}
	for (size_t q = 0; q < set->nqueries; q++)
		busy += latency[q];
	qsort(latency, set->nqueries, sizeof *latency, by_value);
	printf("%.1f %.5f %.1f %.1f\n", (double)set->nqueries * clients / busy, (double)hits / ((double)set->nqueries * k),
	       1e6 * latency[set->nqueries / 2], 1e6 * latency[set->nqueries * 99 / 100]);
	fflush(stdout);
	free(latency);
}

int main(int argc, char **argv)
{
	unsigned ef, k, clients;
	enum form form = BIN;

	while (argc == 4 && form < FORMS && strcmp(argv[3], form_names[form]))
		form++;
	if (argc < 3 || argc > 4 || form == FORMS)
		return 2;
	struct bench_set set = bench_load(argv[1]);
	while (scanf("%u %u %u", &ef, &k, &clients) == 3)
		run(&set, argv[2], form, ef, k, clients < 1 ? 1 : clients > CLIENTS_MAX ? CLIENTS_MAX : clients);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/* LMDB alone, as vecfs sets it up (full sync, appended rows of integer keys): what writing could reach at most. For every line "append N ROWS",
 * N vectors in transactions of ROWS; "commit N", N transactions of one. Prints vectors/s.
 * usage: peer_lmdb DIMENSION EMPTY-DIRECTORY */
#include <lmdb.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

static void need(int rc, const char *what)
{
	if (rc == 0)
		return;
	fprintf(stderr, "%s: %s\n", what, mdb_strerror(rc));
	exit(1);
}

static MDB_env *env;
static MDB_dbi rows;
static uint64_t serial;

static void open_env(const char *dir)
{
	MDB_txn *txn;

	need(mdb_env_create(&env), "create");
	need(mdb_env_set_mapsize(env, (size_t)64 << 30), "map size");
	need(mdb_env_open(env, dir, MDB_NORDAHEAD | MDB_NOTLS, 0600), "open");
	need(mdb_txn_begin(env, NULL, 0, &txn), "begin");
	need(mdb_dbi_open(txn, NULL, MDB_INTEGERKEY, &rows), "table");
	need(mdb_txn_commit(txn), "commit");
}

static double write_rows(const float *vector, unsigned dim, unsigned n, unsigned each)
{
	double start = bench_clock(CLOCK_MONOTONIC);

	for (unsigned i = 0; i < n; i += each) {
		MDB_txn *txn;
		need(mdb_txn_begin(env, NULL, 0, &txn), "begin");
		for (unsigned k = i; k < i + each && k < n; k++) {
			MDB_val key = { sizeof serial, &serial }, value = { dim * sizeof *vector, NULL };
			serial++;
			need(mdb_put(txn, rows, &key, &value, MDB_APPEND | MDB_RESERVE), "put");
			memcpy(value.mv_data, vector, dim * sizeof *vector);
		}
		need(mdb_txn_commit(txn), "commit");
	}
	return n / (bench_clock(CLOCK_MONOTONIC) - start);
}

int main(int argc, char **argv)
{
	unsigned dim, n, each;
	char line[128];

	if (argc != 3 || (dim = (unsigned)atoi(argv[1])) == 0)
		return 2;
	float *vector = calloc(dim, sizeof *vector);
	for (unsigned i = 0; i < dim; i++)
		vector[i] = (float)i;
	open_env(argv[2]);
	while (fgets(line, sizeof line, stdin)) {
		if (sscanf(line, "append %u %u", &n, &each) == 2)
			printf("%.1f\n", write_rows(vector, dim, n, each));
		else if (sscanf(line, "commit %u", &n) == 1)
			printf("%.1f\n", write_rows(vector, dim, n, 1));
		fflush(stdout);
	}
	mdb_env_close(env);
	free(vector);
	return 0;
}

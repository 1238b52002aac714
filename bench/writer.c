/* SPDX-License-Identifier: MIT */
/* Clients that put one vector a file, as cp does: open, write, close. For every line "N WRITERS" it writes N new files from so many threads, and
 * prints files/s.
 * usage: writer DIMENSION INDEX-DIRECTORY */
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"

#define WRITERS_MAX 64

struct writer { const char *index; unsigned dim, first, n; };

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* {"data": bin} */
static size_t make_record(uint8_t *out, unsigned dim, unsigned seed)
{
	static const uint8_t head[] = "\x81\xa4" "data" "\xc6";
	uint32_t bytes = dim * 4;
	uint8_t *p = out;

	memcpy(p, head, sizeof head - 1);
	p += sizeof head - 1;
	for (int shift = 24; shift >= 0; shift -= 8)
		*p++ = (uint8_t)(bytes >> shift);
	for (unsigned i = 0; i < dim; i++, p += 4) {
		seed = seed * 1664525 + 1013904223;
		float x = (float)(seed >> 8) / (1 << 24) - 0.5f;
		memcpy(p, &x, 4);
	}
	return (size_t)(p - out);
}

static void *run(void *arg)
{
	struct writer *w = arg;
	uint8_t *record = malloc(64 + 4 * (size_t)w->dim);
	char path[4096];

	for (unsigned i = w->first; i < w->first + w->n; i++) {
		size_t len = make_record(record, w->dim, i);
		snprintf(path, sizeof path, "%s/vectors/w%u.msgpack", w->index, i);
		int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		if (fd < 0)
			die(path);
		if (write(fd, record, len) != (ssize_t)len || close(fd))
			die(path);
	}
	free(record);
	return NULL;
}

int main(int argc, char **argv)
{
	struct writer w[WRITERS_MAX];
	pthread_t threads[WRITERS_MAX];
	unsigned dim, n, writers, next = 0;

	if (argc != 3 || (dim = (unsigned)atoi(argv[1])) == 0)
		return 2;
	while (scanf("%u %u", &n, &writers) == 2 && writers > 0 && writers <= WRITERS_MAX) {
		double start = bench_clock(CLOCK_MONOTONIC);
		for (unsigned i = 0; i < writers; i++, next += n / writers) {
			w[i] = (struct writer){ argv[2], dim, next, n / writers };
			if (pthread_create(&threads[i], NULL, run, &w[i]))
				die("thread");
		}
		for (unsigned i = 0; i < writers; i++)
			pthread_join(threads[i], NULL);
		printf("%.1f\n", n / writers * writers / (bench_clock(CLOCK_MONOTONIC) - start));
		fflush(stdout);
	}
	return 0;
}

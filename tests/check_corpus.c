/* SPDX-License-Identifier: MIT */
/* Every file of tests/files/{good,bad}-* through every fuzz target, whole and cut short and with a byte changed. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "fuzz/fuzz.h"

static void (*const targets[])(const uint8_t *, size_t) = {
	vf_fuzz_value, vf_fuzz_insert, vf_fuzz_question, vf_fuzz_change, vf_fuzz_config, vf_fuzz_name, vf_fuzz_disk,
};

#define CORPUS_FILE_MAX (1u << 16)

static void run_all(const uint8_t *data, size_t size)
{
	/* A copy of just that size, so that reading behind it is seen. */
	uint8_t *copy = malloc(size ? size : 1);

	memcpy(copy, data, size);
	for (size_t t = 0; t < sizeof targets / sizeof targets[0]; t++)
		targets[t](copy, size);
	free(copy);
}

static void mutate(uint8_t *data, size_t size, unsigned *seed)
{
	for (int round = 0; round < 40 && size; round++) {
		size_t at = (size_t)rand_r(seed) % size;
		uint8_t was = data[at];
		data[at] = (uint8_t)rand_r(seed);
		run_all(data, size);
		run_all(data, at);
		data[at] = was;
	}
}

START_TEST(no_file_of_the_corpus_breaks_a_promise)
{
	static uint8_t data[CORPUS_FILE_MAX];
	const char *top = getenv("SRCDIR");
	char path[4096];
	unsigned seed = 1, files = 0;

	snprintf(path, sizeof path, "%s/tests/files", top ? top : ".");
	DIR *dir = opendir(path);
	ck_assert_msg(dir != NULL, "%s", path);
	for (struct dirent *e; (e = readdir(dir)) != NULL;) {
		if (strncmp(e->d_name, "good-", 5) != 0 && strncmp(e->d_name, "bad-", 4) != 0)
			continue;
		snprintf(path, sizeof path, "%s/tests/files/%s", top ? top : ".", e->d_name);
		FILE *file = fopen(path, "rb");
		ck_assert_msg(file != NULL, "%s", path);
		size_t size = fread(data, 1, sizeof data, file);
		fclose(file);
		run_all(data, size);
		mutate(data, size, &seed);
		files++;
	}
	closedir(dir);
	ck_assert_uint_ge(files, 20);
}
END_TEST

CHECK_MAIN("corpus", no_file_of_the_corpus_breaks_a_promise)

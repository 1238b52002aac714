/* SPDX-License-Identifier: MIT */
/* index_kit.h - an index as a test of faults uses it: a directory of its own, requests as JSON text. No call here fails the test: what went
 * wrong is returned, since that is what the tests are about. */
#ifndef VECFS_TESTS_INDEX_KIT_H
#define VECFS_TESTS_INDEX_KIT_H

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vecfs/index.h"

/* In memory where that is possible: these tests sync thousands of times. */
static inline const char *kit_make_dir(char dir[64])
{
	strcpy(dir, access("/dev/shm", W_OK) == 0 ? "/dev/shm/vecfs-test.XXXXXX" : "/tmp/vecfs-test.XXXXXX");
	return mkdtemp(dir);
}

static inline void kit_path(char out[128], const char *dir, const char *name)
{
	snprintf(out, 128, "%s/%s", dir, name);
}

static inline void kit_remove_dir(const char *dir)
{
	char path[128];

	kit_path(path, dir, "data.mdb");
	unlink(path);
	kit_path(path, dir, "lock.mdb");
	unlink(path);
	rmdir(dir);
}

/* All of a file, malloc'ed; NULL on failure. */
static inline uint8_t *kit_read_file(const char *path, size_t *size)
{
	struct stat st;
	int fd = open(path, O_RDONLY);

	if (fd < 0 || fstat(fd, &st))
		return NULL;
	uint8_t *bytes = malloc((size_t)st.st_size + 1);
	bool whole = bytes && read(fd, bytes, (size_t)st.st_size) == st.st_size;
	close(fd);
	*size = (size_t)st.st_size;
	return whole ? bytes : NULL;
}

static inline bool kit_write_file(const char *path, const uint8_t *bytes, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	bool whole = fd >= 0 && write(fd, bytes, size) == (ssize_t)size;

	return fd >= 0 && close(fd) == 0 && whole;
}

static inline int kit_open(const char *dir, bool read_only, struct vf_linkers *linkers, struct vf_index **out, struct vf_err *err)
{
	struct vf_index_options options = { .bucket = "b", .name = "i", .read_only = read_only, .linkers = linkers };

	return vf_index_open(dir, &options, out, err);
}

/* ---- requests ---- */

static inline int kit_take(void *ctx, const struct vf_record *record, struct vf_err *err)
{
	return vf_batch_put(ctx, record, err);
}

/* A stream of records as insert takes it. */
static inline int kit_insert(struct vf_index *index, const char *json, struct vf_err *err)
{
	struct vf_ingest *ingest = NULL;
	struct vf_batch *batch = NULL;
	struct vf_receipt receipt;
	int rc;

	if ((rc = vf_batch_new(index, &batch, err)) == 0 && (rc = vf_ingest_new("b", "i", kit_take, batch, &ingest, err)) == 0 &&
	    (rc = vf_ingest_feed(ingest, vf_span_str(json), err)) == 0 && (rc = vf_ingest_end(ingest, err)) == 0)
		rc = vf_batch_apply(batch, &receipt, err);
	vf_ingest_free(&ingest);
	vf_batch_free(&batch);
	return rc;
}

static inline int kit_update(struct vf_index *index, const char *json, struct vf_err *err)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_batch *batch = NULL;
	struct vf_config config;
	struct vf_receipt receipt;
	struct vf_update update;
	struct vf_value value;
	int rc;

	if ((rc = vf_index_config(index, &config, err)))
		return rc;
	if ((rc = vf_value_decode(VF_JSON, vf_span_str(json), &arena, &value, err)) == 0 &&
	    (rc = vf_update_from_value(&value, &config, &arena, &update, err)) == 0 && (rc = vf_batch_new(index, &batch, err)) == 0 &&
	    (rc = vf_batch_update(batch, &update, err)) == 0)
		rc = vf_batch_apply(batch, &receipt, err);
	vf_batch_free(&batch);
	vf_config_free(&config);
	vf_arena_free(&arena);
	return rc;
}

static inline int kit_delete(struct vf_index *index, const char *json, struct vf_err *err)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_batch *batch = NULL;
	struct vf_config config;
	struct vf_receipt receipt;
	struct vf_delete request;
	struct vf_value value;
	int rc;

	if ((rc = vf_index_config(index, &config, err)))
		return rc;
	if ((rc = vf_value_decode(VF_JSON, vf_span_str(json), &arena, &value, err)) == 0 &&
	    (rc = vf_delete_from_value(&value, &config, &arena, &request, err)) == 0 && (rc = vf_batch_new(index, &batch, err)) == 0 &&
	    (rc = vf_batch_delete(batch, &request, err)) == 0)
		rc = vf_batch_apply(batch, &receipt, err);
	vf_batch_free(&batch);
	vf_config_free(&config);
	vf_arena_free(&arena);
	return rc;
}

/* The answer as text with a NUL behind it; `answer` is begun by the caller. */
static inline int kit_ask(struct vf_index *index, const char *json, struct vf_spool *answer, struct vf_err *err)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_question question;
	struct vf_config config;
	struct vf_value value;
	int rc;

	if ((rc = vf_index_config(index, &config, err)))
		return rc;
	if ((rc = vf_value_decode(VF_JSON, vf_span_str(json), &arena, &value, err)) == 0 &&
	    (rc = vf_question_from_value(&value, VF_JSON, &config, "i", &arena, &question, err)) == 0 &&
	    (rc = vf_index_ask(index, &question, answer, err)) == 0)
		rc = vf_spool_put(answer, "", 1, err);
	vf_config_free(&config);
	vf_arena_free(&arena);
	return rc;
}

#endif

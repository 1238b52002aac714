/* SPDX-License-Identifier: MIT */
/* Memory that runs out, at any allocation: of the program and of the libraries below it, but for CRoaring, which does not survive it (some
 * of its functions write through the NULL that they were given). Each operation succeeds or says ENOMEM, and one that says so has
 * changed nothing. malloc and its like are replaced here, which the sanitizers do not allow. */
#include <link.h>
#include <stdatomic.h>

#include "../src/index/early.h"
#include "check.h"
#include "index_kit.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define REPLACED 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define REPLACED 0
#endif
#endif
#ifndef REPLACED
#define REPLACED 1
#endif

/* ---- allocations that fail ---- */

/* The next `pass` allocations succeed, then `fail` of them do not. */
static atomic_long pass = -1, fail;
static atomic_long denials;

#if REPLACED
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

/* Where CRoaring lies, when it is a library of its own. */
static uintptr_t roaring_from, roaring_to;

static int find_roaring(struct dl_phdr_info *info, size_t size, void *ctx)
{
	(void)size;
	(void)ctx;
	if (!strstr(info->dlpi_name, "libroaring"))
		return 0;
	roaring_from = info->dlpi_addr;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		uintptr_t end = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;
		if (info->dlpi_phdr[i].p_type == PT_LOAD && end > roaring_to)
			roaring_to = end;
	}
	return 1;
}

static bool denied(const void *caller)
{
	if (atomic_load(&pass) < 0 || ((uintptr_t)caller >= roaring_from && (uintptr_t)caller < roaring_to) || atomic_fetch_sub(&pass, 1) > 0)
		return false;
	atomic_store(&pass, 0);
	if (atomic_fetch_sub(&fail, 1) <= 0) {
		atomic_store(&pass, -1);
		return false;
	}
	atomic_fetch_add(&denials, 1);
	errno = ENOMEM;
	return true;
}

__attribute__((visibility("default"))) void *malloc(size_t size)
{
	return denied(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

__attribute__((visibility("default"))) void *calloc(size_t n, size_t size)
{
	return denied(__builtin_return_address(0)) ? NULL : __libc_calloc(n, size);
}

__attribute__((visibility("default"))) void *realloc(void *p, size_t size)
{
	return denied(__builtin_return_address(0)) ? NULL : __libc_realloc(p, size);
}

__attribute__((visibility("default"))) int posix_memalign(void **out, size_t alignment, size_t size)
{
	void *p = denied(__builtin_return_address(0)) ? NULL : __libc_memalign(alignment, size);

	if (!p)
		return ENOMEM;
	*out = p;
	return 0;
}
#endif

static void arm(long after, long times)
{
	atomic_store(&fail, times);
	atomic_store(&pass, after);
}

static void disarm(void)
{
	atomic_store(&pass, -1);
}

/* ---- what is done ---- */

static char dir[64];
static struct vf_index *idx;
static struct vf_err err = VF_ERR_INIT;
static char story[256];      /* what is being done, for the message */

static int open_all(void)
{
	return idx ? 0 : kit_open(dir, false, NULL, &idx, &err);
}

static int insert(void)
{
	return kit_insert(idx, "{\"key\": \"new\", \"data\": [1, 2, 3], \"metadata\": {\"n\": 1, \"s\": \"word\"}}\n"
	                       "{\"key\": \"k3\", \"data\": [3, 2, 1], \"metadata\": {\"n\": 2}}\n", &err);
}

/* With vectors that are written before the verdict. */
static int insert_early(void)
{
	size_t usual = vf_early_part_bytes;

	vf_early_part_bytes = 1;
	int rc = kit_insert(idx, "{\"key\": \"e1\", \"data\": [1, 2, 3]}\n{\"key\": \"e2\", \"data\": [1, 3, 3]}\n"
	                         "{\"key\": \"k5\", \"data\": [3, 2, 1]}\n{\"key\": \"e1\", \"data\": [4, 4, 4]}\n", &err);
	vf_early_part_bytes = usual;
	return rc;
}

static int update(void)
{
	return kit_update(idx, "{\"filter\": {\"n\": {\"$gte\": 1}}, \"set\": {\"u\": [1, 2]}, \"unset\": [\"s\"]}", &err);
}

static int delete(void)
{
	return kit_delete(idx, "{\"filter\": {\"$or\": [{\"n\": 7}, {\"s\": {\"$startsWith\": \"wor\"}}]}}", &err);
}

static int ask_with(const char *question)
{
	struct vf_spool answer;

	vf_spool_init(&answer, NULL);
	int rc = kit_ask(idx, question, &answer, &err);
	vf_spool_free(&answer);
	return rc;
}

static int ask(void)
{
	return ask_with("{\"queryVector\": [1, 1, 1], \"topK\": 5, \"returnMetadata\": true, \"explain\": true}");
}

static int ask_filtered(void)
{
	return ask_with("{\"queryVector\": [1, 1, 1], \"filter\": {\"$not\": {\"n\": {\"$in\": [1, 2]}}}, \"facets\": [\"n\", \"s\"], \"recall\": 0.9}");
}

static int list(void)
{
	return ask_with("{\"filter\": {\"s\": {\"$exists\": false}}, \"prefix\": \"k\", \"returnData\": true}");
}

static int export(void)
{
	struct vf_spool out;

	vf_spool_init(&out, NULL);
	int rc = vf_index_export(idx, VF_EXPORT_JSONL, &out, &err);
	vf_spool_free(&out);
	return rc;
}

static int near(void)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_neighbour *neighbours;
	size_t n;
	int rc = vf_index_near(idx, vf_span_str("k1"), 5, &arena, &neighbours, &n, &err);

	vf_arena_free(&arena);
	return rc;
}

static int rekey(void)
{
	int rc = vf_index_rekey(idx, vf_span_str("k4"), vf_span_str("k4b"), true, &err);

	return rc == -ENOENT ? 0 : rc;
}

static int save(void)
{
	return vf_index_saved_put(idx, "q.json", vf_span_str("{\"topK\": 5}"), &err);
}

static int configure(void)
{
	return vf_index_configure(idx, vf_span_str("top_k = 7\nnon_filterable = s\n"), &err);
}

static int remove_one(void)
{
	int rc = vf_index_remove(idx, vf_span_str("k5"), &err);

	return rc == -ENOENT ? 0 : rc;
}

static int checkpoint(void)
{
	return vf_index_checkpoint(idx, &err);
}

static int stats(void)
{
	struct vf_buf out = VF_BUF_INIT;
	int rc = vf_index_stats(idx, &out, &err);

	vf_buf_free(&out);
	return rc;
}

static const struct { const char *name; int (*act)(void); bool changes; } acts[] = {
	{ "open", open_all, false }, { "ask", ask, false }, { "insert", insert, true }, { "insert early", insert_early, true }, { "ask with a filter", ask_filtered, false },
	{ "update", update, true }, { "list", list, false }, { "near", near, false }, { "rekey", rekey, true }, { "save", save, true },
	{ "delete", delete, true }, { "configure", configure, true }, { "export", export, false }, { "remove", remove_one, true },
	{ "checkpoint", checkpoint, false }, { "stats", stats, false },
};
#define ACTS (sizeof acts / sizeof acts[0])

/* ---- the same, seen from outside ---- */

static char *content(void)
{
	struct vf_spool out;
	struct vf_buf saved = VF_BUF_INIT;
	struct vf_saved stat;

	vf_spool_init(&out, NULL);
	ck_ok(vf_index_export(idx, VF_EXPORT_JSONL, &out, &err));
	if (vf_index_saved_get(idx, "q.json", &saved, &stat, &err) == 0)
		ck_ok(vf_spool_put(&out, saved.data, saved.len, &err));
	ck_ok(vf_spool_put(&out, "", 1, &err));
	char *text = strdup((char *)out.buf.data);
	vf_spool_free(&out);
	vf_buf_free(&saved);
	return text;
}

static void print_finding(void *ctx, const char *text)
{
	(void)ctx;
	fprintf(stderr, "%s: %s\n", story, text);
}

/* Does the a-th act with memory running out after `after` allocations. False: it did not need so many. */
static bool act_with_failure(size_t a, long after, long times)
{
	snprintf(story, sizeof story, "%s, allocations %ld to %ld fail", acts[a].name, after, after + times - 1);
	char *before = idx ? content() : NULL;
	long failures = atomic_load(&denials);
	arm(after, times);
	int rc = acts[a].act();
	disarm();
	bool reached = atomic_load(&denials) > failures;
	ck_assert_msg(rc == 0 || (reached && rc == -ENOMEM), "%s: %d %s", story, rc, err.text);
	if (rc && before) {
		char *now = content();
		ck_assert_msg(strcmp(now, before) == 0, "%s: said that it failed, and has changed something\n%s\n%s", story, before, now);
		free(now);
	}
	free(before);
	return reached;
}

static void copy_of(const uint8_t *data, size_t size)
{
	char path[128];

	ck_assert_ptr_nonnull(kit_make_dir(dir));
	kit_path(path, dir, "data.mdb");
	ck_assert(kit_write_file(path, data, size));
}

/* All acts, one of them with failures; then all of them again without; then the audit. */
static bool run(size_t a, long after, long times)
{
	bool reached = false;

	for (size_t i = 0; i < ACTS; i++)
		if (i == a) {
			reached = act_with_failure(i, after, times);
			ck_ok(acts[i].act());
		} else {
			snprintf(story, sizeof story, "%s, beside a failed %s (%ld)", acts[i].name, acts[a].name, after);
			ck_ok(acts[i].act());
		}
	vf_index_close(&idx);
	ck_assert_msg(vf_index_audit(dir, print_finding, NULL, &err) == 0, "%s: the audit finds something", story);
	return reached;
}

static uint8_t *make_template(size_t *size)
{
	char path[128], line[128], text[12000] = "";

	ck_assert_ptr_nonnull(kit_make_dir(dir));
	ck_ok(vf_index_create(dir, &err));
	ck_ok(kit_open(dir, false, NULL, &idx, &err));
	ck_ok(vf_index_configure(idx, vf_span_str("dimension = 3"), &err));
	for (int i = 0; i < 60; i++) {
		snprintf(line, sizeof line, "{\"key\": \"k%d\", \"data\": [%d, 1, %d], \"metadata\": {\"n\": %d, \"s\": \"w%d\"}}\n", i, i, 60 - i, i % 10, i % 4);
		strcat(text, line);
	}
	ck_ok(kit_insert(idx, text, &err));
	vf_index_close(&idx);
	kit_path(path, dir, "data.mdb");
	uint8_t *data = kit_read_file(path, size);
	ck_assert_ptr_nonnull(data);
	kit_remove_dir(dir);
	return data;
}

static void each_allocation(long times)
{
	size_t size;
	uint8_t *data = make_template(&size);

#if REPLACED
	/* Linked statically it cannot be told apart. */
	if (!dl_iterate_phdr(find_roaring, NULL)) {
		free(data);
		return;
	}
#endif

	for (size_t a = 0; a < ACTS; a++) {
		bool reached = true;
		/* Every one of the first, then ever more thinly: what comes late is more of the same. */
		for (long after = 0; reached && after < 5000; after += 1 + after / 20) {
			copy_of(data, size);
			reached = run(a, after, times);
			kit_remove_dir(dir);
		}
	}
	free(data);
	ck_assert_msg(!REPLACED || atomic_load(&denials) > 200, "only %ld allocations failed", atomic_load(&denials));
}

START_TEST(one_allocation_that_fails_is_an_error_and_changes_nothing)
{
	each_allocation(1);
}
END_TEST

START_TEST(memory_that_stays_out_is_an_error_and_changes_nothing)
{
	each_allocation(1000000);
}
END_TEST

CHECK_MAIN("oom", one_allocation_that_fails_is_an_error_and_changes_nothing, memory_that_stays_out_is_an_error_and_changes_nothing)

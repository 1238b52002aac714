/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../src/catalog/catalog_internal.h"
#include "check.h"

/* ---- a store a test ---- */

static char dir[64], path_buffer[PATH_MAX];
static struct vf_catalog *catalog;
static struct vf_err err = VF_ERR_INIT;

static const char *in_store(const char *name)
{
	snprintf(path_buffer, sizeof path_buffer, "%s/%s", dir, name);
	return path_buffer;
}

static int open_store(bool create, bool read_only)
{
	struct vf_catalog_options options = { .create = create, .read_only = read_only, .linker_threads = 1 };

	return vf_catalog_open(dir, &options, &catalog, &err);
}

static void begin(void)
{
	strcpy(dir, "/tmp/check_catalog.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_ok(open_store(true, false));
}

static void reopen(void)
{
	vf_catalog_close(&catalog);
	ck_ok(open_store(false, false));
}

static void end(void)
{
	vf_catalog_close(&catalog);
	ck_ok(vf_disk_remove_tree(AT_FDCWD, dir, &err));
}

static void make(const char *bucket, const char *index)
{
	ck_ok(vf_catalog_make(catalog, bucket, index, 1000, 100, 0755, &err));
}

static bool is_there(const char *bucket, const char *index)
{
	struct vf_dir_attr attr;
	int rc = vf_catalog_attr(catalog, bucket, index, &attr, &err);

	ck_assert(rc == 0 || rc == -ENOENT);
	return rc == 0;
}

static uint64_t id_of(const char *bucket, const char *index)
{
	struct vf_dir_attr attr;

	ck_ok(vf_catalog_attr(catalog, bucket, index, &attr, &err));
	return attr.id;
}

static int add_name(void *ctx, const char *name, const struct vf_dir_attr *attr)
{
	char *list = ctx;

	ck_assert_uint_gt(attr->id, 0);
	strcat(strcat(list, name), " ");
	return 0;
}

static void check_list(const char *bucket, const char *after, const char *want)
{
	char list[256] = "";

	ck_ok(vf_catalog_list(catalog, bucket, after, add_name, list, &err));
	ck_assert_str_eq(list, want);
}

static struct vf_index *hold(const char *bucket, const char *index)
{
	struct vf_index *held;

	ck_ok(vf_catalog_hold(catalog, bucket, index, &held, &err));
	return held;
}

/* ---- the tree ---- */

START_TEST(buckets_and_indexes_are_made_listed_in_byte_order_and_kept)
{
	begin();
	make("b", NULL);
	make("a", NULL);
	make("B\xc3\xa9", NULL);
	make("a", "two");
	make("a", "one");
	for (int round = 0; round < 2; round++) {
		check_list(NULL, NULL, "B\xc3\xa9 a b ");
		check_list(NULL, "a", "b ");
		check_list(NULL, "aa", "b ");
		check_list("a", NULL, "one two ");
		check_list("b", NULL, "");
		ck_fails(vf_catalog_list(catalog, "c", NULL, add_name, NULL, &err), ENOENT);
		ck_fails(vf_catalog_make(catalog, "a", NULL, 0, 0, 0700, &err), EEXIST);
		ck_fails(vf_catalog_make(catalog, "a", "one", 0, 0, 0700, &err), EEXIST);
		ck_fails(vf_catalog_make(catalog, "c", "one", 0, 0, 0700, &err), ENOENT);
		ck_fails(vf_catalog_make(catalog, ".hidden", NULL, 0, 0, 0700, &err), EINVAL);
		ck_fails(vf_catalog_make(catalog, "a", "x/y", 0, 0, 0700, &err), EINVAL);
		ck_fails(vf_catalog_remove(catalog, "a", NULL, &err), ENOTEMPTY);
		ck_fails(vf_catalog_remove(catalog, "a", "three", &err), ENOENT);
		reopen();
	}
	vf_catalog_release(catalog, hold("a", "one"));
	ck_ok(vf_catalog_remove(catalog, "a", "one", &err));
	ck_ok(vf_catalog_remove(catalog, "a", "two", &err));
	ck_ok(vf_catalog_remove(catalog, "a", NULL, &err));
	check_list(NULL, NULL, "B\xc3\xa9 b ");
	ck_assert_int_eq(access(in_store("a"), F_OK), -1);
	reopen();
	check_list(NULL, NULL, "B\xc3\xa9 b ");
	end();
}
END_TEST

START_TEST(a_number_is_never_given_twice)
{
	uint64_t last = 0;

	begin();
	for (int i = 0; i < 6; i++) {
		make("a", NULL);
		ck_assert_uint_gt(id_of("a", NULL), last);
		last = id_of("a", NULL);
		ck_ok(vf_catalog_remove(catalog, "a", NULL, &err));
		if (i % 2)
			reopen();
	}
	ck_assert_uint_eq(id_of(NULL, NULL), 0);
	catalog->next_id = DIR_ID_MAX;
	make("last", NULL);
	ck_fails(vf_catalog_make(catalog, "beyond", NULL, 0, 0, 0700, &err), ENOSPC);
	reopen();
	ck_fails(vf_catalog_make(catalog, "beyond", NULL, 0, 0, 0700, &err), ENOSPC);
	end();
}
END_TEST

START_TEST(owner_mode_and_times_are_kept)
{
	struct vf_dir_attr attr, got;
	const char *const names[][2] = { { NULL, NULL }, { "b", NULL }, { "b", "i" } };

	begin();
	make("b", NULL);
	make("b", "i");
	ck_ok(vf_catalog_attr(catalog, "b", "i", &got, &err));
	ck_assert_uint_eq(got.uid, 1000);
	ck_assert_uint_eq(got.gid, 100);
	ck_assert_uint_eq(got.mode, 0755);
	for (int i = 0; i < 3; i++) {
		attr = (struct vf_dir_attr){ 77, 4294967294u, 5, (mode_t)(S_IFDIR | 02750), -12345678901, 99 + i };
		ck_ok(vf_catalog_set_attr(catalog, names[i][0], names[i][1], &attr, &err));
	}
	for (int i = 0; i < 3; i++) {
		uint64_t id = id_of(names[i][0], names[i][1]);
		reopen();
		ck_ok(vf_catalog_attr(catalog, names[i][0], names[i][1], &got, &err));
		ck_assert_uint_eq(got.id, id);
		ck_assert_uint_eq(got.uid, 4294967294u);
		ck_assert_uint_eq(got.gid, 5);
		ck_assert_uint_eq(got.mode, 02750);
		ck_assert_int_eq(got.mtime_ns, -12345678901);
		ck_assert_int_eq(got.ctime_ns, 99 + i);
	}
	end();
}
END_TEST

START_TEST(a_directory_has_new_times_when_its_contents_change)
{
	struct vf_dir_attr before, after;

	begin();
	make("b", NULL);
	ck_ok(vf_catalog_attr(catalog, "b", NULL, &before, &err));
	make("b", "i");
	ck_ok(vf_catalog_attr(catalog, "b", NULL, &after, &err));
	ck_assert_int_gt(after.mtime_ns, before.mtime_ns);
	before = after;
	ck_ok(vf_catalog_rename(catalog, "b", "i", "b", "j", false, &err));
	ck_ok(vf_catalog_attr(catalog, "b", NULL, &after, &err));
	ck_assert_int_gt(after.mtime_ns, before.mtime_ns);
	before = after;
	ck_ok(vf_catalog_remove(catalog, "b", "j", &err));
	ck_ok(vf_catalog_attr(catalog, "b", NULL, &after, &err));
	ck_assert_int_gt(after.mtime_ns, before.mtime_ns);
	reopen();
	ck_ok(vf_catalog_attr(catalog, "b", NULL, &before, &err));
	ck_assert_int_eq(after.mtime_ns, before.mtime_ns);
	end();
}
END_TEST

/* ---- renaming ---- */

static void put_question(const char *bucket, const char *name)
{
	struct vf_index *index = hold(bucket, name);

	ck_ok(vf_index_saved_put(index, "q.json", vf_span_str("{}"), &err));
	vf_catalog_release(catalog, index);
}

START_TEST(renaming_keeps_the_number_and_replaces_only_what_is_empty)
{
	begin();
	make("a", NULL);
	make("b", NULL);
	make("a", "i");
	make("b", "j");
	make("b", "full");
	put_question("b", "full");
	put_question("a", "i");
	uint64_t bucket_id = id_of("a", NULL), index_id = id_of("a", "i");

	ck_fails(vf_catalog_rename(catalog, "a", NULL, "b", NULL, false, &err), ENOTEMPTY);
	ck_fails(vf_catalog_rename(catalog, "a", NULL, "b", NULL, true, &err), EEXIST);
	ck_fails(vf_catalog_rename(catalog, "x", NULL, "c", NULL, false, &err), ENOENT);
	ck_fails(vf_catalog_rename(catalog, "a", "i", "x", "i", false, &err), ENOENT);
	ck_fails(vf_catalog_rename(catalog, "a", "i", "b", "full", false, &err), ENOTEMPTY);
	ck_fails(vf_catalog_rename(catalog, "a", "i", "b", "j", true, &err), EEXIST);
	ck_fails(vf_catalog_rename(catalog, "a", "i", "b", NULL, false, &err), EINVAL);
	ck_fails(vf_catalog_rename(catalog, "a", "i", "b", ".j", false, &err), EINVAL);
	ck_ok(vf_catalog_rename(catalog, "a", "i", "a", "i", false, &err));
	ck_ok(vf_catalog_rename(catalog, "a", "i", "b", "j", false, &err));
	ck_assert_uint_eq(id_of("b", "j"), index_id);
	check_list("a", NULL, "");
	check_list("b", NULL, "full j ");
	ck_ok(vf_catalog_rename(catalog, "b", NULL, "a", NULL, false, &err));    /* a is empty now */
	check_list(NULL, NULL, "a ");
	ck_ok(vf_catalog_rename(catalog, "a", NULL, "c", NULL, true, &err));
	reopen();
	check_list(NULL, NULL, "c ");
	check_list("c", NULL, "full j ");
	ck_assert_uint_eq(id_of("c", "j"), index_id);
	ck_assert_uint_ne(id_of("c", NULL), bucket_id);
	vf_catalog_release(catalog, hold("c", "j"));
	end();
}
END_TEST

START_TEST(a_held_index_lives_on_renamed_and_removed)
{
	struct vf_saved saved;

	begin();
	make("a", NULL);
	make("a", "i");
	struct vf_index *index = hold("a", "i");
	ck_ok(vf_index_saved_put(index, "one.json", vf_span_str("{}"), &err));
	ck_ok(vf_catalog_rename(catalog, "a", "i", "a", "j", false, &err));
	ck_ok(vf_catalog_rename(catalog, "a", NULL, "b", NULL, false, &err));
	ck_ok(vf_index_saved_put(index, "two.json", vf_span_str("{}"), &err));
	struct vf_index *same = hold("b", "j");
	ck_assert_ptr_eq(same, index);
	vf_catalog_release(catalog, same);

	ck_ok(vf_catalog_remove(catalog, "b", "j", &err));
	ck_assert(!is_there("b", "j"));
	/* What was there can be read, what would be lost is refused. */
	ck_fails(vf_index_saved_put(index, "three.json", vf_span_str("{}"), &err), ENOENT);
	ck_ok(vf_index_saved_stat(index, "one.json", &saved, &err));
	make("b", "j");
	struct vf_index *other = hold("b", "j");
	ck_assert_ptr_ne(other, index);
	ck_fails(vf_index_saved_stat(other, "one.json", &saved, &err), ENOENT);
	vf_catalog_release(catalog, other);
	vf_catalog_release(catalog, index);
	ck_assert_int_eq(rmdir(in_store(TRASH_DIR)), 0);      /* nothing is left of it */
	end();
}
END_TEST

/* ---- open indexes ---- */

#define MANY 12

START_TEST(indexes_nobody_holds_are_closed_oldest_first)
{
	struct vf_index *held[MANY];
	char name[16];

	begin();
	catalog->idle_max = 3;
	make("b", NULL);
	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof name, "i%02d", i);
		make("b", name);
		held[i] = hold("b", name);
	}
	for (int i = 0; i < MANY; i++)
		vf_catalog_release(catalog, held[i]);
	ck_assert_uint_eq(catalog->idle, 3);
	const struct vf_dir *bucket = vf_dir_child(catalog->root, "b");
	for (int i = 0; i < MANY; i++)
		ck_assert_int_eq(bucket->children[i]->opened != NULL, i >= MANY - 3);
	vf_catalog_release(catalog, hold("b", "i09"));
	vf_catalog_release(catalog, hold("b", "i00"));
	for (int i = 0; i < MANY; i++)
		ck_assert_int_eq(bucket->children[i]->opened != NULL, i == 0 || i == 9 || i == 11);
	end();
}
END_TEST

static void *churn_thread(void *arg)
{
	uint64_t state = (uintptr_t)arg;

	for (int i = 0; i < 150; i++) {
		struct vf_err e = VF_ERR_INIT;
		struct vf_index *index;
		struct vf_saved saved;
		char name[16], other[16];

		state = state * 6364136223846793005u + 1442695040888963407u;
		snprintf(name, sizeof name, "i%u", (unsigned)(state >> 33) % 5);
		snprintf(other, sizeof other, "i%u", (unsigned)(state >> 40) % 5);
		switch ((state >> 50) % 8) {
		case 0:
			vf_catalog_make(catalog, "b", name, 0, 0, 0700, &e);
			break;
		case 1:
			vf_catalog_remove(catalog, "b", name, &e);
			break;
		case 2:
			vf_catalog_rename(catalog, "b", name, "b", other, false, &e);
			break;
		default:
			if (vf_catalog_hold(catalog, "b", name, &index, &e) == 0) {
				int rc = vf_index_saved_stat(index, "q.json", &saved, &e);
				ck_assert(rc == 0 || rc == -ENOENT);
				vf_catalog_release(catalog, index);
				e.code = 0;
			}
		}
		ck_assert_msg(e.code == 0 || e.code == ENOENT || e.code == EEXIST || e.code == ENOTEMPTY, "%d %s", e.code, e.text);
	}
	return NULL;
}

START_TEST(many_threads_hold_make_rename_and_remove_at_once)
{
	pthread_t threads[6];
	char before[256] = "", after[256] = "";

	begin();
	catalog->idle_max = 1;
	make("b", NULL);
	for (uintptr_t i = 0; i < 6; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, churn_thread, (void *)(i + 1)), 0);
	for (int i = 0; i < 6; i++)
		pthread_join(threads[i], NULL);
	ck_ok(vf_catalog_list(catalog, "b", NULL, add_name, before, &err));
	reopen();
	ck_ok(vf_catalog_list(catalog, "b", NULL, add_name, after, &err));
	ck_assert_str_eq(before, after);
	ck_assert_int_eq(rmdir(in_store(TRASH_DIR)), 0);
	end();
}
END_TEST

/* ---- the store ---- */

START_TEST(a_second_process_is_refused_with_the_pid_of_the_first)
{
	char pid[32];
	int status;

	begin();
	snprintf(pid, sizeof pid, "process %ld", (long)getpid());
	pid_t child = fork();
	if (child == 0) {
		struct vf_catalog_options options = { .create = true };
		struct vf_catalog *second = NULL;
		int rc = vf_catalog_open(dir, &options, &second, &err);
		options.read_only = true;
		int rc_reading = vf_catalog_open(dir, &options, &second, &err);
		_exit(rc == -EBUSY && rc_reading == -EBUSY && strstr(err.text, pid) ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	reopen();
	end();
}
END_TEST

START_TEST(what_was_interrupted_is_finished_at_the_next_start)
{
	begin();
	make("b", NULL);
	make("b", "i");
	make("b", "gone");
	vf_catalog_close(&catalog);
	/* As after a death between the rename and the deletion, and in the middle of a mkdir. */
	char to[PATH_MAX];
	strcpy(to, in_store(TRASH_DIR "/99"));
	ck_assert_int_eq(rename(in_store("b/gone"), to), 0);
	ck_assert_int_eq(mkdir(in_store(CONTROL_DIR "/new-100"), 0700), 0);
	ck_assert_int_eq(mkdir(in_store(CONTROL_DIR "/new-100/sub"), 0700), 0);
	ck_ok(open_store(false, true));        /* reading changes nothing */
	check_list("b", NULL, "i ");
	ck_assert_int_eq(access(to, F_OK), 0);
	vf_catalog_close(&catalog);
	ck_ok(open_store(false, false));
	check_list("b", NULL, "i ");
	ck_assert_int_eq(access(to, F_OK), -1);
	ck_assert_int_eq(access(in_store(CONTROL_DIR "/new-100"), F_OK), -1);
	end();
}
END_TEST

static void write_file(const char *name, const char *text)
{
	FILE *f = fopen(in_store(name), "w");

	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
}

START_TEST(lost_attributes_cost_owner_and_mode_but_no_index)
{
	begin();
	make("b", NULL);
	make("b", "i");
	make("b", "j");
	make("c", NULL);
	uint64_t id = id_of("c", NULL);
	vf_catalog_close(&catalog);
	unlink(in_store("b/.attr"));
	write_file("b/i/.attr", "id 7\nuid x\n");
	char text[200];
	snprintf(text, sizeof text, "id %d\nuid 1\ngid 1\nmode 0700\nmtime 1\nctime 1\n", (int)id);
	write_file("b/j/.attr", text);         /* a number that c has too */
	write_file(CONTROL_DIR "/next-id", "rubbish");
	uint64_t ids[4];
	for (int round = 0; round < 2; round++) {
		ck_ok(open_store(false, false));
		check_list(NULL, NULL, "b c ");
		check_list("b", NULL, "i j ");
		uint64_t now[4] = { id_of("b", NULL), id_of("b", "i"), id_of("b", "j"), id_of("c", NULL) };
		for (int i = 0; i < 4; i++)
			for (int k = 0; k < i; k++)
				ck_assert_uint_ne(now[i], now[k]);
		if (round)
			ck_assert_mem_eq(ids, now, sizeof ids);
		memcpy(ids, now, sizeof ids);
		vf_catalog_release(catalog, hold("b", "i"));
		vf_catalog_close(&catalog);
	}
	end();
}
END_TEST

static size_t read_file(const char *name, char *out, size_t size)
{
	FILE *f = fopen(in_store(name), "r");

	ck_assert_ptr_nonnull(f);
	size_t n = fread(out, 1, size - 1, f);
	fclose(f);
	out[n] = '\0';
	return n;
}

static void count_damage(void *ctx, const char *text, bool renewed)
{
	ck_assert(!renewed);
	ck_assert_ptr_nonnull(strstr(text, "b: its attributes are damaged"));
	++*(int *)ctx;
}

START_TEST(every_flipped_bit_of_attributes_is_noticed)
{
	int told = 0, want = 0;
	struct vf_catalog_options options = { .read_only = true, .linker_threads = 1, .damaged = count_damage, .damaged_ctx = &told };
	char text[512];

	begin();
	make("b", NULL);
	vf_catalog_close(&catalog);
	size_t n = read_file("b/.attr", text, sizeof text);
	for (size_t i = 0; i < n; i++)
		for (int bit = 0; bit < 8; bit++) {
			text[i] ^= (char)(1 << bit);
			/* A text with a NUL in it ends there. */
			FILE *f = fopen(in_store("b/.attr"), "w");
			ck_assert_uint_eq(fwrite(text, 1, n, f), n);
			fclose(f);
			text[i] ^= (char)(1 << bit);
			ck_ok(vf_catalog_open(dir, &options, &catalog, &err));
			vf_catalog_close(&catalog);
			ck_assert_int_eq(told, ++want);
		}
	write_file("b/.attr", text);
	ck_ok(vf_catalog_open(dir, &options, &catalog, &err));
	ck_assert_int_eq(told, want);
	vf_catalog_close(&catalog);
	*strstr(text, "sum ") = '\0';
	write_file("b/.attr", text);
	ck_ok(vf_catalog_open(dir, &options, &catalog, &err));
	ck_assert_int_eq(told, want + 1);
	end();
}
END_TEST

START_TEST(a_store_of_the_first_format_is_taken_as_it_is_and_becomes_one_of_today)
{
	static const char attr[] = "id 5\nuid 1000\ngid 100\nmode 0750\nmtime 1\nctime 2\n";
	struct vf_dir_attr got;
	char text[512];

	begin();
	make("b", NULL);
	vf_catalog_close(&catalog);
	write_file("b/.attr", attr);
	write_file(CONTROL_DIR "/format", "vecfs 1\n");
	ck_ok(open_store(false, true));
	ck_ok(vf_catalog_attr(catalog, "b", NULL, &got, &err));
	ck_assert_uint_eq(got.id, 5);
	ck_assert_uint_eq(got.mode & 07777, 0750);
	vf_catalog_close(&catalog);
	read_file(CONTROL_DIR "/format", text, sizeof text);
	ck_assert_str_eq(text, "vecfs 1\n");

	ck_ok(open_store(false, false));
	ck_ok(vf_catalog_attr(catalog, "b", NULL, &got, &err));
	ck_assert_uint_eq(got.id, 5);
	vf_catalog_close(&catalog);
	read_file(CONTROL_DIR "/format", text, sizeof text);
	ck_assert_str_eq(text, "vecfs 2\n");
	read_file("b/.attr", text, sizeof text);
	ck_assert_ptr_nonnull(strstr(text, "\nsum "));
	ck_ok(open_store(false, false));
	end();
}
END_TEST

START_TEST(a_store_of_a_newer_format_and_other_directories_are_refused)
{
	begin();
	vf_catalog_close(&catalog);
	write_file(CONTROL_DIR "/format", "vecfs 99\n");
	ck_fails(open_store(true, false), EINVAL);
	ck_assert_ptr_nonnull(strstr(err.text, "newer"));
	write_file(CONTROL_DIR "/format", "something\n");
	ck_fails(open_store(true, false), EIO);
	unlink(in_store(CONTROL_DIR "/format"));
	ck_fails(open_store(false, false), EIO);
	ck_ok(vf_disk_remove_tree(AT_FDCWD, dir, &err));

	ck_fails(open_store(false, false), ENOENT);
	ck_assert_int_eq(mkdir(dir, 0700), 0);
	ck_fails(open_store(false, false), ENOENT);
	write_file("letter.txt", "dear");
	ck_fails(open_store(true, false), EINVAL);
	ck_assert_int_eq(access(in_store(CONTROL_DIR), F_OK), -1);
	unlink(in_store("letter.txt"));
	rmdir(dir);
	ck_ok(open_store(true, false));
	end();
}
END_TEST

START_TEST(a_store_opened_for_reading_refuses_changes)
{
	struct vf_dir_attr attr;

	begin();
	make("b", NULL);
	make("b", "i");
	vf_catalog_close(&catalog);
	ck_ok(open_store(false, true));
	check_list("b", NULL, "i ");
	vf_catalog_release(catalog, hold("b", "i"));
	ck_ok(vf_catalog_attr(catalog, "b", NULL, &attr, &err));
	ck_fails(vf_catalog_make(catalog, "c", NULL, 0, 0, 0700, &err), EROFS);
	ck_fails(vf_catalog_remove(catalog, "b", "i", &err), EROFS);
	ck_fails(vf_catalog_rename(catalog, "b", "i", "b", "j", false, &err), EROFS);
	ck_fails(vf_catalog_set_attr(catalog, "b", NULL, &attr, &err), EROFS);
	end();
}
END_TEST

CHECK_MAIN("catalog",
	buckets_and_indexes_are_made_listed_in_byte_order_and_kept, a_number_is_never_given_twice, owner_mode_and_times_are_kept,
	a_directory_has_new_times_when_its_contents_change, renaming_keeps_the_number_and_replaces_only_what_is_empty,
	a_held_index_lives_on_renamed_and_removed, indexes_nobody_holds_are_closed_oldest_first,
	many_threads_hold_make_rename_and_remove_at_once, a_second_process_is_refused_with_the_pid_of_the_first,
	what_was_interrupted_is_finished_at_the_next_start, lost_attributes_cost_owner_and_mode_but_no_index,
	every_flipped_bit_of_attributes_is_noticed, a_store_of_the_first_format_is_taken_as_it_is_and_becomes_one_of_today,
	a_store_of_a_newer_format_and_other_directories_are_refused, a_store_opened_for_reading_refuses_changes)

/* SPDX-License-Identifier: MIT */
/* Bytes changed in the file of an index, at random and where it hurts. Nothing that is done with it crashes, hangs, or takes memory or disk without
 * a bound, no wrong record is handed out, and the audit either finds the damage or nothing is wrong. Each round runs in a process
 * of its own. DAMAGE_ROUNDS and DAMAGE_SEED look further. */
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "check.h"
#include "index_kit.h"
#include "vecfs/store.h"

#define RECORDS 400
#define DIM     24

/* Of one round. What a sound one takes is a few MiB, and under the sanitizers ten times that. */
#define CPU_SECONDS_MAX  60u
#define MEMORY_KIB_MAX   (256l << 10)
#define FILE_BYTES_MAX   (4l << 20)

static char dir[64];
static struct vf_err err = VF_ERR_INIT;

/* ---- the sound index ---- */

static float number(int record, int i)
{
	return (float)((record * 37 + i * 11) % 97) / 8.0f + 1.0f;
}

static void put_record(struct vf_buf *text, int i)
{
	ck_ok(vf_buf_printf(text, &err, "{\"key\": \"key-%04d\", \"metadata\": {\"n\": %d, \"s\": \"word %d\"}, \"data\": [", i, i, i % 7));
	for (int j = 0; j < DIM; j++)
		ck_ok(vf_buf_printf(text, &err, "%s%g", j ? ", " : "", number(i, j)));
	ck_ok(vf_buf_printf(text, &err, "]}\n"));
}

static uint8_t *make_index(size_t *size)
{
	struct vf_buf text = VF_BUF_INIT;
	struct vf_index *index;
	char path[128];

	ck_assert_ptr_nonnull(kit_make_dir(dir));
	ck_ok(vf_index_create(dir, &err));
	ck_ok(kit_open(dir, false, NULL, &index, &err));
	ck_ok(vf_index_configure(index, vf_span_str("dimension = 24"), &err));
	/* In several transactions, so that there are free pages too. */
	for (int i = 0; i < RECORDS; i++) {
		put_record(&text, i);
		if (i % 100 == 99) {
			ck_ok(vf_buf_put(&text, "", 1, &err));
			ck_ok(kit_insert(index, (char *)text.data, &err));
			vf_buf_clear(&text);
		}
	}
	ck_ok(kit_delete(index, "{\"filter\": {\"n\": {\"$lt\": 20}}}", &err));
	ck_ok(vf_index_saved_put(index, "q.json", vf_span_str("{\"topK\": 3}"), &err));
	vf_index_close(&index);
	vf_buf_free(&text);
	kit_path(path, dir, "data.mdb");
	uint8_t *data = kit_read_file(path, size);
	ck_assert_ptr_nonnull(data);
	return data;
}

/* ---- using it: in the child, where a wrong record ends it with WRONG ---- */

#define WRONG 3
#define FOUND 4

static void complain(const char *what)
{
	fprintf(stderr, "%s\n", what);
	_exit(WRONG);
}

static void ignore_finding(void *ctx, const char *text)
{
	(void)ctx;
	(void)text;
}

static void read_records(struct vf_index *index)
{
	struct vf_arena arena = VF_ARENA_INIT;
	struct vf_record record;
	char key[32];

	for (int i = 0; i < RECORDS; i++) {
		snprintf(key, sizeof key, "key-%04d", i);
		vf_arena_reset(&arena);
		if (vf_index_get(index, vf_span_str(key), &arena, &record, NULL, &err))
			continue;
		if (record.dim != DIM || !vf_span_is(record.key, key))
			complain("a record of another key or dimension was handed out");
		for (int j = 0; j < DIM; j++)
			if (record.vector[j] != number(i, j))
				complain("a wrong vector was handed out");
	}
	vf_arena_free(&arena);
}

static int count_key(void *ctx, struct vf_span key, uint64_t ino)
{
	(void)key;
	(void)ino;
	return ++*(unsigned *)ctx > 100 * RECORDS;
}

static void ask(struct vf_index *index, const char *question)
{
	struct vf_spool answer;

	vf_spool_init(&answer, NULL);
	kit_ask(index, question, &answer, &err);
	vf_spool_free(&answer);
}

static void export(struct vf_index *index)
{
	struct vf_spool out;

	vf_spool_init(&out, NULL);
	vf_index_export(index, VF_EXPORT_MSGPACK, &out, &err);
	vf_spool_free(&out);
}

static void use(struct vf_index *index, bool write)
{
	struct vf_buf stats = VF_BUF_INIT;
	unsigned keys = 0;

	read_records(index);
	vf_index_list(index, vf_span(NULL, 0), count_key, &keys, &err);
	if (keys > 100 * RECORDS)
		complain("a listing without end");
	ask(index, "{\"queryVector\": [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24], \"topK\": 50, \"returnMetadata\": true}");
	ask(index, "{\"filter\": {\"s\": {\"$startsWith\": \"word\"}, \"n\": {\"$gt\": 100}}, \"facets\": [\"s\"], \"returnData\": true, \"topK\": 400}");
	export(index);
	vf_index_stats(index, &stats, &err);
	vf_buf_free(&stats);
	if (!write)
		return;
	kit_insert(index, "{\"key\": \"key-0100x\", \"metadata\": {\"n\": 5}, \"data\": [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24]}", &err);
	kit_update(index, "{\"filter\": {\"n\": {\"$gt\": 300}}, \"set\": {\"m\": true}}", &err);
	kit_delete(index, "{\"filter\": {\"n\": {\"$lt\": 200}}}", &err);
	read_records(index);
}

/* By processor time: a busy machine is no hang. */
static void limit_time(void)
{
	ck_assert_int_eq(setrlimit(RLIMIT_CPU, &(struct rlimit){ CPU_SECONDS_MAX, CPU_SECONDS_MAX }), 0);
}

static _Noreturn void child(bool write)
{
	struct vf_index *index;

	limit_time();
	/* Damage that is outside of all that is used is harmless. */
	int64_t findings = vf_index_audit(dir, ignore_finding, NULL, &err);
	if (kit_open(dir, !write, NULL, &index, &err) == 0) {
		use(index, write);
		vf_index_close(&index);
	}
	_exit(findings ? FOUND : 0);
}

/* ---- repairing: what is there afterwards is sound, and what is not was told ---- */

struct told { unsigned lines; struct vf_buf text; };

static void note_line(void *ctx, const char *text)
{
	struct told *told = ctx;

	told->lines++;
	if (vf_buf_put_str(&told->text, text, &err) || vf_buf_put_str(&told->text, "\n", &err))
		complain("out of memory");
}

static void print_finding(void *ctx, const char *text)
{
	(void)ctx;
	fprintf(stderr, "  %s\n", text);
}

/* Every record is there, or its key was told, or damage was that took the key itself away. */
static void look_for_all(struct vf_index *index, const struct told *told, int64_t lost)
{
	struct vf_record_stat stat;
	char key[32];

	for (int i = 20; i < RECORDS; i++) {
		snprintf(key, sizeof key, "key-%04d", i);
		if (vf_index_stat(index, vf_span_str(key), &stat, &err) == 0 || strstr((char *)told->text.data, key))
			continue;
		if (lost == 0 && told->lines == 0)
			complain("a record vanished without a word");
	}
}

static _Noreturn void repairing_child(void)
{
	struct told told = { 0, VF_BUF_INIT };
	struct vf_index *index;

	limit_time();
	int64_t lost = vf_index_repair(dir, note_line, &told, &err);
	if (lost < 0 && err.code != EIO)
		complain(err.text);
	if (lost < 0)
		_exit(FOUND);
	if (vf_buf_put(&told.text, "", 1, &err))
		_exit(WRONG);
	if (vf_index_audit(dir, print_finding, NULL, &err) != 0)
		complain("a repaired index does not pass its check");
	if (kit_open(dir, false, NULL, &index, &err))
		complain("a repaired index cannot be opened");
	look_for_all(index, &told, lost);
	use(index, true);
	vf_index_close(&index);
	_exit(0);
}

/* ---- the rounds ---- */

struct tally { unsigned found, harmless; };

enum use { READ, WRITE, REPAIR };

static void run_child(enum use use_of, const char *what, struct tally *tally)
{
	struct rusage usage;
	int status;

	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0 && use_of == REPAIR)
		repairing_child();
	if (pid == 0)
		child(use_of == WRITE);
	ck_assert_int_eq(wait4(pid, &status, 0, &usage), pid);
	ck_assert_msg(WIFEXITED(status), "%s: signal %d%s", what, WTERMSIG(status), use_of == WRITE ? ", writing" : "");
	ck_assert_msg(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == FOUND, "%s: status %d", what, WEXITSTATUS(status));
	ck_assert_msg(usage.ru_maxrss <= MEMORY_KIB_MAX, "%s: took %ld KiB of memory", what, usage.ru_maxrss);
	tally->found += WEXITSTATUS(status) == FOUND;
	tally->harmless += WEXITSTATUS(status) == 0;
}

static void round_with(const uint8_t *data, size_t size, enum use use_of, const char *what, struct tally *tally)
{
	char path[128];
	struct stat st;

	kit_path(path, dir, "lock.mdb");
	unlink(path);
	kit_path(path, dir, "data.mdb");
	ck_assert(kit_write_file(path, data, size));
	run_child(use_of, what, tally);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_msg(st.st_blocks * 512l <= FILE_BYTES_MAX, "%s: the file has %lld blocks", what, (long long)st.st_blocks);
}

static unsigned long rounds(unsigned long usual)
{
	const char *said = getenv("DAMAGE_ROUNDS");

	return said ? strtoul(said, NULL, 10) : usual;
}

static unsigned seed_of(unsigned usual)
{
	const char *said = getenv("DAMAGE_SEED");

	return usual + (said ? 1000 * (unsigned)strtoul(said, NULL, 10) : 0);
}

static struct tally flip(unsigned flips_max, unsigned seed, enum use use_of)
{
	struct tally tally = { 0, 0 };
	size_t size;
	uint8_t *data = make_index(&size), *copy = malloc(size);
	char what[128];

	ck_assert_ptr_nonnull(copy);
	seed = seed_of(seed);
	for (unsigned long round = 0; round < rounds(60); round++) {
		memcpy(copy, data, size);
		unsigned flips = 1 + (unsigned)rand_r(&seed) % flips_max;
		size_t at = 0;
		for (unsigned i = 0; i < flips; i++) {
			at = (((size_t)rand_r(&seed) << 20) + (size_t)rand_r(&seed)) % size;
			/* Every other one in the head of a page, where the tree is. */
			if (rand_r(&seed) % 2)
				at = (at & ~(size_t)4095) + at % 64;
			copy[at] ^= (uint8_t)(1 + rand_r(&seed) % 255);
		}
		snprintf(what, sizeof what, "round %lu, %u bytes changed, the last at %zu of %zu", round, flips, at, size);
		round_with(copy, size, use_of, what, &tally);
	}
	free(copy);
	free(data);
	kit_path(what, dir, "data.mdb.damaged");
	unlink(what);
	kit_remove_dir(dir);
	return tally;
}

START_TEST(a_changed_byte_is_found_or_harmless)
{
	ck_assert_uint_gt(flip(1, 1, READ).found, 0);
}
END_TEST

START_TEST(many_changed_bytes_are_found_or_harmless)
{
	ck_assert_uint_gt(flip(200, 2, READ).found, 0);
}
END_TEST

START_TEST(a_damaged_index_that_is_written_to_neither_crashes_nor_hands_out_wrong_records)
{
	ck_assert_uint_gt(flip(20, 3, WRITE).found, 0);
}
END_TEST

START_TEST(a_repaired_index_is_sound_and_has_all_that_was_not_told_as_lost)
{
	struct tally tally = flip(4, 5, REPAIR);

	/* Only what makes the config or the head of the file unreadable is past repair. */
	ck_assert_uint_gt(tally.harmless, tally.found * 4);
}
END_TEST

START_TEST(a_file_cut_short_is_found)
{
	struct tally tally = { 0, 0 };
	unsigned seed = 4;
	size_t size;
	uint8_t *data = make_index(&size);
	char what[128];

	for (unsigned long round = 0; round < rounds(40); round++) {
		size_t left = (size_t)rand_r(&seed) % size;
		snprintf(what, sizeof what, "cut to %zu of %zu", left, size);
		round_with(data, left, round % 2 ? WRITE : READ, what, &tally);
	}
	free(data);
	kit_remove_dir(dir);
}
END_TEST

/* ---- where it hurts ---- */

#define PAGE_BYTES 4096u

/* One byte, alone; used for writing. */
static void change_byte(uint8_t *data, size_t size, size_t at, uint8_t by, struct tally *tally)
{
	char what[128];

	data[at] ^= by;
	snprintf(what, sizeof what, "%02x changed at %zu of %zu", by, at, size);
	round_with(data, size, WRITE, what, tally);
	data[at] ^= by;
}

/* What LMDB marks pages with while they are in memory: a marked page would be written to in place, or never be written. */
START_TEST(pages_marked_as_changed_in_memory_are_not_written_to)
{
	static const struct { size_t at; uint8_t bit; } marks[] = { { 10, 0x10 }, { 11, 0x40 }, { 11, 0x80 } };
	struct tally tally = { 0, 0 };
	size_t size;
	uint8_t *data = make_index(&size);

	for (size_t page = 2; page < size / PAGE_BYTES; page++)
		change_byte(data, size, page * PAGE_BYTES + marks[page % 3].at, marks[page % 3].bit, &tally);
	/* Pages that are free, and the insides of long values, may hold anything. */
	ck_assert_uint_gt(tally.found, 0);
	free(data);
	kit_remove_dir(dir);
}
END_TEST

/* By the number of its transaction LMDB chooses a head, and what is free. */
START_TEST(a_head_with_a_changed_transaction_is_found)
{
	struct tally tally = { 0, 0 };
	size_t size;
	uint8_t *data = make_index(&size);

	for (size_t i = 0; i < 2 * 8; i++)
		change_byte(data, size, i / 8 * PAGE_BYTES + 16 + 128 + i % 8, (uint8_t)(1u << i % 8), &tally);
	ck_assert_uint_eq(tally.found, 2 * 8);
	free(data);
	kit_remove_dir(dir);
}
END_TEST

/* A row that a sound transaction has put there, as damage puts it: in order, and wrong. */
static void put_row(enum vf_table table, struct vf_span key, struct vf_span value)
{
	struct vf_store *store;
	struct vf_txn *txn;

	ck_ok(vf_store_open(dir, false, false, &store, &err));
	ck_ok(vf_txn_write(store, &txn, &err));
	ck_ok(vf_put(txn, table, key, value, &err));
	ck_ok(vf_txn_commit(&txn, &err));
	vf_store_close(&store);
}

static void use_with_row(enum vf_table table, struct vf_span key, struct vf_span value)
{
	struct tally tally = { 0, 0 };
	size_t size;

	free(make_index(&size));
	put_row(table, key, value);
	run_child(READ, "a row too many, read", &tally);
	run_child(WRITE, "a row too many, written", &tally);
	ck_assert_uint_eq(tally.found, 2);
	kit_remove_dir(dir);
}

START_TEST(a_slot_far_behind_all_others_takes_no_memory)
{
	uint64_t slot = 1u << 26, serial = 400;

	use_with_row(VF_T_SLOTS, vf_span(&slot, sizeof slot), vf_span(&serial, sizeof serial));
}
END_TEST

START_TEST(a_posting_far_behind_all_others_takes_no_memory)
{
	/* Field n is 350, chunk 65535; slot 5 of it. */
	static const uint8_t key[] = { 1, 'n', 3, 0xc0, 0x75, 0xe0, 0, 0, 0, 0, 0, 0x80, 0, 0xff, 0xff }, row[] = { 1, 5, 0 };

	use_with_row(VF_T_POSTINGS, vf_span(key, sizeof key), vf_span(row, sizeof row));
}
END_TEST

CHECK_MAIN("damage", a_changed_byte_is_found_or_harmless, many_changed_bytes_are_found_or_harmless,
           a_damaged_index_that_is_written_to_neither_crashes_nor_hands_out_wrong_records,
           a_repaired_index_is_sound_and_has_all_that_was_not_told_as_lost, a_file_cut_short_is_found,
           pages_marked_as_changed_in_memory_are_not_written_to, a_head_with_a_changed_transaction_is_found,
           a_slot_far_behind_all_others_takes_no_memory, a_posting_far_behind_all_others_takes_no_memory)

/* SPDX-License-Identifier: MIT */
/* Every page of a file of LMDB 0.9, looked at from outside: are the trees trees, does each page belong to one place, is the list of free pages
 * one of pages that nobody uses. What passes can be written by LMDB, which copies and moves by the numbers on a page; what does not
 * pass is never written. The layout is that of MDB_meta, MDB_db, MDB_page and MDB_node in LMDB's mdb.c. */
#include "store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define META_MAGIC     0xBEEFC0DEu
#define META_VERSION   1u
#define PAGE_HEAD      16u
#define NODE_HEAD      8u
#define NO_PAGE        UINT64_MAX
#define DEPTH_MAX      31u

/* A page has one of these flags and no other: LMDB takes those of pages in memory off before it writes, and a page that came with them would be
 * changed where it lies, in a map that cannot be written to. */
enum { PAGE_BRANCH = 0x01, PAGE_LEAF = 0x02, PAGE_OVERFLOW = 0x04, PAGE_META = 0x08 };
enum { NODE_BIG = 0x01, NODE_TABLE = 0x02 };

struct tree_head {
	uint32_t pad;
	uint16_t flags, depth;
	uint64_t branches, leaves, overflows, entries, root;
};

struct meta {
	uint32_t magic, version;
	uint64_t address, map_size;
	struct tree_head free, main;
	uint64_t last_page, txn_id;
};
_Static_assert(sizeof(struct tree_head) == 48 && sizeof(struct meta) == 136, "as LMDB has them on disk");

struct pages {
	const char *dir;
	const uint8_t *map;
	size_t size;                       /* of the file */
	uint32_t page_size;
	uint64_t last_page, txn_id;
	uint64_t *used;                    /* a bit a page */
	void (*report)(void *ctx, const char *text);
	void *ctx;
	int64_t findings;
	uint64_t freed;                    /* the last transaction of the list of free pages */
};

/* One tree on its way down. */
struct walk {
	struct pages *pages;
	char name[24];
	const struct tree_head *head;
	bool integers, of_tables;
	uint64_t branches, leaves, overflows, entries;
	uint64_t wrong;                    /* findings of this tree: a broken branch would repeat itself for all below it */
	const uint8_t *last_key;
	size_t last_key_len;
	void (*each)(struct walk *walk, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len, unsigned flags);
};

#define WRONG_MAX 20u

static void find_fault(struct walk *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void find_fault(struct walk *w, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	int n = snprintf(text, sizeof text, "pages of %s: ", w->name);
	va_start(ap, fmt);
	vsnprintf(text + n, sizeof text - (size_t)n, fmt, ap);
	va_end(ap);
	w->pages->findings++;
	if (w->wrong++ < WRONG_MAX)
		w->pages->report(w->pages->ctx, text);
}

static uint16_t load_u16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof v);
	return v;
}

static uint32_t load_u32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof v);
	return v;
}

static uint64_t load_u64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof v);
	return v;
}

/* ---- pages ---- */

/* Takes pages for the tree; false and a finding when they are not there, or taken. */
static bool take_pages(struct walk *w, uint64_t number, uint64_t n)
{
	struct pages *p = w->pages;

	if (number < 2 || number > p->last_page || n > p->last_page - number + 1 || (number + n) * p->page_size > p->size) {
		find_fault(w, "page %llu (%llu of them) is not in [2, %llu], or past the end of the file", (unsigned long long)number,
		           (unsigned long long)n, (unsigned long long)p->last_page);
		return false;
	}
	for (uint64_t i = number; i < number + n; i++) {
		if (p->used[i / 64] >> i % 64 & 1) {
			find_fault(w, "page %llu belongs to another place as well", (unsigned long long)i);
			return false;
		}
		p->used[i / 64] |= (uint64_t)1 << i % 64;
	}
	return true;
}

static const uint8_t *take_page(struct walk *w, uint64_t number)
{
	if (!take_pages(w, number, 1))
		return NULL;
	const uint8_t *page = w->pages->map + number * w->pages->page_size;
	if (load_u64(page) != number) {
		find_fault(w, "page %llu says that it is page %llu", (unsigned long long)number, (unsigned long long)load_u64(page));
		return NULL;
	}
	return page;
}

static void check_key(struct walk *w, uint64_t number, size_t len, bool first_of_branch)
{
	if (first_of_branch && len == 0)
		return;
	if (w->integers ? len != 8 : len < 1 || len > KEY_BYTES_MAX)
		find_fault(w, "page %llu has a key of %zu bytes", (unsigned long long)number, len);
}

/* Keys of leaves rise through the whole tree. */
static void check_order(struct walk *w, uint64_t number, const uint8_t *key, size_t len)
{
	if (w->last_key) {
		size_t shorter = len < w->last_key_len ? len : w->last_key_len;
		int order = memcmp(key, w->last_key, shorter);
		bool rises = order > 0 || (order == 0 && len > w->last_key_len);
		if (w->integers && len == 8 && w->last_key_len == 8)
			rises = load_u64(key) > load_u64(w->last_key);
		if (!rises)
			find_fault(w, "the keys of page %llu are out of order", (unsigned long long)number);
	}
	w->last_key = key;
	w->last_key_len = len;
}

static const uint8_t *check_big(struct walk *w, const uint8_t *at, size_t len)
{
	uint64_t first = load_u64(at), needed = (PAGE_HEAD - 1 + len) / w->pages->page_size + 1;
	const uint8_t *page = take_page(w, first);

	if (!page)
		return NULL;
	/* A value that became shorter keeps the pages that it had. */
	uint64_t n = load_u32(page + 12);
	if (load_u16(page + 10) != PAGE_OVERFLOW || n < needed) {
		find_fault(w, "page %llu is not the first of %llu with a long value", (unsigned long long)first, (unsigned long long)needed);
		return NULL;
	}
	if (n > 1 && !take_pages(w, first + 1, n - 1))
		return NULL;
	w->overflows += n;
	return page + PAGE_HEAD;
}

/* Where a node of a leaf ends, 0 when it leaves its page. */
static size_t check_leaf_node(struct walk *w, uint64_t number, const uint8_t *page, size_t at)
{
	const uint8_t *node = page + at;
	size_t len = load_u16(node) | (size_t)load_u16(node + 2) << 16, key_len = load_u16(node + 6);
	unsigned flags = load_u16(node + 4);
	size_t end = at + NODE_HEAD + key_len + (flags & NODE_BIG ? 8 : len);

	if ((flags & ~(unsigned)(w->of_tables ? NODE_TABLE : NODE_BIG)) || end > w->pages->page_size) {
		find_fault(w, "page %llu has an entry with flags %x, %zu bytes of key and %zu of value", (unsigned long long)number, flags, key_len, len);
		return 0;
	}
	check_key(w, number, key_len, false);
	check_order(w, number, node + NODE_HEAD, key_len);
	w->entries++;
	const uint8_t *value = node + NODE_HEAD + key_len;
	if (flags & NODE_BIG)
		value = check_big(w, value, len);
	if (value && w->each)
		w->each(w, node + NODE_HEAD, key_len, value, len, flags);
	return end;
}

static void check_page(struct walk *w, uint64_t number, unsigned depth);

static size_t check_branch_node(struct walk *w, uint64_t number, const uint8_t *page, size_t at, bool first, unsigned depth)
{
	const uint8_t *node = page + at;
	size_t key_len = load_u16(node + 6), end = at + NODE_HEAD + key_len;
	uint64_t below = load_u16(node) | (uint64_t)load_u16(node + 2) << 16 | (uint64_t)load_u16(node + 4) << 32;

	if (end > w->pages->page_size) {
		find_fault(w, "page %llu has an entry with %zu bytes of key", (unsigned long long)number, key_len);
		return 0;
	}
	check_key(w, number, key_len, first);
	check_page(w, below, depth + 1);
	return end;
}

static void check_nodes(struct walk *w, uint64_t number, const uint8_t *page, bool is_leaf, unsigned depth)
{
	uint32_t size = w->pages->page_size, lower = load_u16(page + 12), upper = load_u16(page + 14);
	size_t taken = 0;

	if (lower < PAGE_HEAD || lower % 2 || lower > upper || upper > size) {
		find_fault(w, "page %llu has its free space from %u to %u", (unsigned long long)number, lower, upper);
		return;
	}
	uint32_t n = (lower - PAGE_HEAD) / 2;
	/* A branch of the list of free pages may have one entry only. */
	if (n < (is_leaf || w->name[0] == 'f' ? 1u : 2u))
		find_fault(w, "page %llu has %u entries", (unsigned long long)number, n);
	for (uint32_t i = 0; i < n; i++) {
		size_t at = load_u16(page + PAGE_HEAD + 2 * i);
		if (at < upper || at % 2 || at + NODE_HEAD > size) {
			find_fault(w, "page %llu has an entry at %zu", (unsigned long long)number, at);
			return;
		}
		size_t end = is_leaf ? check_leaf_node(w, number, page, at) : check_branch_node(w, number, page, at, i == 0, depth);
		if (!end)
			return;
		taken += (end - at + 1) & ~(size_t)1;
	}
	if (taken != size - upper)
		find_fault(w, "page %llu has %zu bytes of entries in %u", (unsigned long long)number, taken, size - upper);
}

static void check_page(struct walk *w, uint64_t number, unsigned depth)
{
	const uint8_t *page = w->wrong < WRONG_MAX ? take_page(w, number) : NULL;
	bool is_leaf = depth == w->head->depth;

	if (!page)
		return;
	if (load_u16(page + 10) != (is_leaf ? PAGE_LEAF : PAGE_BRANCH)) {
		find_fault(w, "page %llu has flags %x where a %s should be", (unsigned long long)number, load_u16(page + 10), is_leaf ? "leaf" : "branch");
		return;
	}
	*(is_leaf ? &w->leaves : &w->branches) += 1;
	check_nodes(w, number, page, is_leaf, depth);
}

/* ---- trees ---- */

static void check_tree(struct walk *w)
{
	const struct tree_head *head = w->head;

	if (head->root == NO_PAGE) {
		if (head->entries || head->depth)
			find_fault(w, "there is no first page, but %llu entries", (unsigned long long)head->entries);
		return;
	}
	if (head->depth < 1 || head->depth > DEPTH_MAX) {
		find_fault(w, "a depth of %u", head->depth);
		return;
	}
	check_page(w, head->root, 1);
	if (w->wrong == 0 && (w->entries != head->entries || w->branches != head->branches || w->leaves != head->leaves || w->overflows != head->overflows))
		find_fault(w, "%llu entries on %llu + %llu + %llu pages, its head says %llu on %llu + %llu + %llu", (unsigned long long)w->entries,
		           (unsigned long long)w->branches, (unsigned long long)w->leaves, (unsigned long long)w->overflows,
		           (unsigned long long)head->entries, (unsigned long long)head->branches, (unsigned long long)head->leaves,
		           (unsigned long long)head->overflows);
}

static bool flags_of(const char *name, unsigned *flags)
{
	for (int i = 0; i < VF_TABLES; i++)
		if (strcmp(vf_table_name((enum vf_table)i), name) == 0) {
			*flags = vf_table_flags((enum vf_table)i);
			return true;
		}
	return false;
}

/* A row of the table of tables. */
static void check_table(struct walk *main, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len, unsigned node_flags)
{
	struct walk w = { .pages = main->pages };
	struct tree_head head;
	unsigned flags;

	snprintf(w.name, sizeof w.name, "%.*s", (int)key_len, (const char *)key);
	if (node_flags != NODE_TABLE || len != sizeof head || !flags_of(w.name, &flags)) {
		find_fault(main, "there is a table that nobody knows, or its row has %zu bytes", len);
		return;
	}
	memcpy(&head, value, sizeof head);
	if (head.flags != flags)
		find_fault(&w, "the table has flags %x instead of %x", head.flags, flags);
	w.head = &head;
	w.integers = flags & MDB_INTEGERKEY;
	check_tree(&w);
}

/* A row of the list of free pages: by the transaction that freed them, their number, then the pages, falling. */
static void check_free(struct walk *w, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len, unsigned flags)
{
	struct pages *p = w->pages;
	uint64_t n = len >= 8 ? load_u64(value) : 0, last = NO_PAGE, txn_id = key_len == 8 ? load_u64(key) : 0;

	(void)flags;
	if (txn_id == 0 || txn_id > p->txn_id)
		find_fault(w, "transaction %llu is not in [1, %llu]", (unsigned long long)txn_id, (unsigned long long)p->txn_id);
	p->freed = txn_id > p->freed ? txn_id : p->freed;
	if (len % 8 || len < 8 || n != len / 8 - 1) {
		find_fault(w, "a row has %zu bytes for %llu pages", len, (unsigned long long)n);
		return;
	}
	for (uint64_t i = 1; i <= n; i++) {
		uint64_t page = load_u64(value + 8 * i);
		if (page < 2 || page > p->last_page || page >= last) {
			find_fault(w, "page %llu is not in [2, %llu], or out of order", (unsigned long long)page, (unsigned long long)p->last_page);
			return;
		}
		if (p->used[page / 64] >> page % 64 & 1)
			find_fault(w, "page %llu is in use, or free twice", (unsigned long long)page);
		p->used[page / 64] |= (uint64_t)1 << page % 64;
		last = page;
	}
}

static void check_all(struct pages *p, const struct meta *meta)
{
	struct walk main = { .pages = p, .name = "the table of tables", .head = &meta->main, .of_tables = true, .each = check_table };
	struct walk free_list = { .pages = p, .name = "free pages", .head = &meta->free, .integers = true, .each = check_free };

	if (meta->main.flags != 0)
		find_fault(&main, "its flags are %x instead of 0", meta->main.flags);
	check_tree(&main);
	/* Last, when it is known which pages are used. */
	check_tree(&free_list);
}

/* ---- the two first pages ---- */

static int fail_meta(const char *dir, unsigned i, const char *what, struct vf_err *err)
{
	return vf_fail(err, EIO, "the store in %s is damaged: the head page %u of its file %s", dir, i, what);
}

static int check_meta(const char *dir, unsigned i, const uint8_t *page, const struct meta *meta, struct vf_err *err)
{
	uint32_t size = meta->free.pad;

	if (load_u16(page + 10) != PAGE_META || load_u64(page) != i || meta->magic != META_MAGIC)
		return fail_meta(dir, i, "is none of LMDB's", err);
	if (meta->version != META_VERSION)
		return vf_fail(err, EINVAL, "%s was written by another version of LMDB (%u)", dir, meta->version);
	if (size < 512 || size > 32768 || (size & (size - 1)))
		return fail_meta(dir, i, "says an impossible size of pages", err);
	if ((meta->free.flags & ~0x4000u) != MDB_INTEGERKEY)
		return fail_meta(dir, i, "has impossible flags", err);
	/* The two take turns; before the first change both are of none. */
	if (meta->txn_id && meta->txn_id % 2 != i)
		return fail_meta(dir, i, "is of a transaction that does not belong there", err);
	return 0;
}

/* A sound file can be short by the pages that one transaction took and gave back, not by more. */
static bool is_plausible(const struct meta *meta, size_t file_size)
{
	return meta->last_page <= UINT64_MAX / 65536 && meta->last_page * meta->free.pad <= 2 * file_size + ((size_t)1 << 30);
}

static bool has_root(const struct tree_head *head, uint64_t last_page)
{
	return head->root == NO_PAGE || (head->root >= 2 && head->root <= last_page);
}

/* Not so of the older one where LMDB could not write it: it has put an old number of pages there, to be sure that nobody uses it. */
static bool has_roots(const struct meta *meta)
{
	return has_root(&meta->main, meta->last_page) && has_root(&meta->free, meta->last_page);
}

/* The newer of the two, as LMDB chooses; both have to be sound. */
static int read_meta(const char *dir, int fd, struct meta *out, size_t *file_size, struct vf_err *err)
{
	uint8_t page[PAGE_HEAD + sizeof *out];
	struct meta meta[2];
	struct stat st;
	int rc;

	if (fstat(fd, &st))
		return vf_fail(err, errno, "cannot look at the file in %s: %s", dir, strerror(errno));
	*file_size = (size_t)st.st_size;
	for (unsigned i = 0; i < 2; i++) {
		ssize_t n = pread(fd, page, sizeof page, i ? (off_t)meta[0].free.pad : 0);
		if (n < 0)
			return vf_fail(err, errno, "cannot read the file in %s: %s", dir, strerror(errno));
		if (n < (ssize_t)sizeof page)
			return fail_meta(dir, i, "is not there", err);
		memcpy(&meta[i], page + PAGE_HEAD, sizeof meta[i]);
		if ((rc = check_meta(dir, i, page, &meta[i], err)))
			return rc;
	}
	if (meta[0].free.pad != meta[1].free.pad)
		return fail_meta(dir, 1, "has another size of pages than the first", err);
	*out = meta[meta[0].txn_id < meta[1].txn_id];
	if (meta[0].txn_id + 1 != meta[1].txn_id && meta[1].txn_id + 1 != meta[0].txn_id && out->txn_id)
		return fail_meta(dir, 1, "does not follow or precede the other", err);
	unsigned newer = meta[0].txn_id < meta[1].txn_id;
	if (!is_plausible(out, *file_size))
		return fail_meta(dir, newer, "says that the file is far larger than it is", err);
	if (!has_roots(out))
		return fail_meta(dir, newer, "leads to a page that is not there", err);
	return 0;
}

static int open_data(const char *dir, const char *given, int flags, int *fd, struct vf_err *err)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof path, "%s/" DATA_FILE, dir) >= (int)sizeof path)
		return vf_fail(err, ENAMETOOLONG, "the path of the store is too long: %s", given);
	*fd = open(path, flags | O_CLOEXEC);
	return *fd < 0 ? vf_fail(err, errno, "cannot open the file in %s: %s", given, strerror(errno)) : 0;
}

int vf_pages_check_head(const struct vf_store *store, struct vf_err *err)
{
	struct meta meta;
	size_t size;
	int fd, rc = open_data(vf_store_dir(store), store->dir, O_RDONLY, &fd, err);

	if (rc)
		return rc;
	rc = read_meta(store->dir, fd, &meta, &size, err);
	close(fd);
	return rc;
}

/* ---- all of it ---- */

struct whole { struct pages *pages; const struct meta *meta; };

/* A disk that cannot be read is a bad address here. */
static int check_whole(void *ctx)
{
	const struct whole *whole = ctx;

	check_all(whole->pages, whole->meta);
	return 0;
}

/* As this head says, of a file of p->size bytes. */
static int check_as(struct pages *p, int fd, const struct meta *meta, struct vf_err *err)
{
	int rc = 0;

	p->page_size = meta->free.pad;
	p->last_page = meta->last_page;
	p->txn_id = meta->txn_id;
	p->used = calloc(p->last_page / 64 + 1, sizeof *p->used);
	if (!p->used)
		return vf_oom(err);
	void *map = mmap(NULL, p->size, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		free(p->used);
		return vf_fail(err, errno, "cannot map the file in %s: %s", p->dir, strerror(errno));
	}
	p->map = map;
	struct whole whole = { p, meta };
	if (vf_guard_call(check_whole, &whole))
		rc = vf_fail(err, EIO, "the store in %s is damaged: a page of its file cannot be read", p->dir);
	munmap(map, p->size);
	free(p->used);
	return rc;
}

static int check_file(struct pages *p, int fd, struct vf_err *err)
{
	struct meta meta;
	int rc = read_meta(p->dir, fd, &meta, &p->size, err);

	return rc ? rc : check_as(p, fd, &meta, err);
}

int64_t vf_store_check_pages(const struct vf_store *store, void (*report)(void *ctx, const char *text), void *ctx, struct vf_err *err)
{
	struct pages pages = { .dir = store->dir, .report = report, .ctx = ctx };
	int fd, rc = open_data(vf_store_dir(store), store->dir, O_RDONLY, &fd, err);

	if (rc)
		return rc;
	rc = check_file(&pages, fd, err);
	close(fd);
	return rc ? rc : pages.findings;
}

static void keep_first(void *ctx, const char *text)
{
	char *first = ctx;

	if (!first[0])
		snprintf(first, VF_ERR_TEXT_MAX / 2, "%s", text);
}

int vf_pages_check_once(struct vf_store *store, struct vf_err *err)
{
	char first[VF_ERR_TEXT_MAX / 2] = "";

	if (store->pages_sound)
		return 0;
	int64_t found = vf_store_check_pages(store, keep_first, first, err);
	if (found < 0)
		return (int)found;
	if (found)
		return vf_fail(err, EIO, "the store in %s is damaged and is not written to: %s", store->dir, first);
	store->pages_sound = true;
	return 0;
}

/* ---- a damaged head is written over with the sound one ---- */

struct head {
	uint8_t page[PAGE_HEAD + sizeof(struct meta)];
	struct meta meta;
	bool sound;                        /* by itself */
	bool clean;                        /* and so are the trees that it leads to */
	uint64_t freed;                    /* the last transaction that they say has freed pages */
};

static void read_head(const char *dir, int fd, unsigned i, off_t at, size_t file_size, struct head *out)
{
	struct vf_err ignored;

	*out = (struct head){ .sound = false };
	if (pread(fd, out->page, sizeof out->page, at) != (ssize_t)sizeof out->page)
		return;
	memcpy(&out->meta, out->page + PAGE_HEAD, sizeof out->meta);
	out->sound = check_meta(dir, i, out->page, &out->meta, &ignored) == 0 && is_plausible(&out->meta, file_size) && has_roots(&out->meta);
}

static void say_nothing(void *ctx, const char *text)
{
	(void)ctx, (void)text;
}

static void judge(const char *dir, int fd, size_t file_size, struct head *head)
{
	struct pages pages = { .dir = dir, .report = say_nothing, .size = file_size };
	struct vf_err ignored;

	head->clean = head->sound && check_as(&pages, fd, &head->meta, &ignored) == 0 && pages.findings == 0;
	head->freed = pages.freed;
}

/* Which of the two counts; -1: neither, or both as they are. */
static int sound_one(const char *dir, int fd, size_t file_size, struct head heads[2])
{
	struct vf_err ignored;
	struct meta meta;
	size_t size;

	if (heads[0].sound != heads[1].sound)
		return heads[1].sound;
	if (!heads[0].sound || read_meta(dir, fd, &meta, &size, &ignored) == 0)
		return -1;
	/* They do not belong together. */
	for (int i = 0; i < 2; i++)
		judge(dir, fd, file_size, &heads[i]);
	if (heads[0].clean != heads[1].clean)
		return heads[1].clean;
	return heads[0].clean && heads[0].freed != heads[1].freed ? heads[0].freed < heads[1].freed : -1;
}

/* The sound head under the other number, as one that is a transaction older. */
static void write_as(uint8_t *page, uint64_t number)
{
	struct meta meta;

	memcpy(&meta, page + PAGE_HEAD, sizeof meta);
	meta.txn_id -= meta.txn_id > 0;
	memcpy(page, &number, sizeof number);
	memcpy(page + PAGE_HEAD, &meta, sizeof meta);
}

/* Whether the one that is written over may have been the newer. */
static bool may_lose(const struct head *kept, const struct head *other)
{
	return other->meta.txn_id + 1 != kept->meta.txn_id && !(other->clean && other->freed < kept->freed);
}

static int mend(const char *dir, int fd, void (*report)(void *ctx, const char *text), void *ctx, struct vf_err *err)
{
	struct head heads[2];
	struct stat st;
	char text[128];

	if (fstat(fd, &st))
		return vf_fail(err, errno, "cannot look at the file in %s: %s", dir, strerror(errno));
	/* Where the second lies the first says, if it can be believed. */
	read_head(dir, fd, 0, 0, (size_t)st.st_size, &heads[0]);
	off_t second = heads[0].sound ? (off_t)heads[0].meta.free.pad : (off_t)sysconf(_SC_PAGESIZE);
	read_head(dir, fd, 1, second, (size_t)st.st_size, &heads[1]);
	int kept = sound_one(dir, fd, (size_t)st.st_size, heads);
	if (kept < 0)
		return 0;
	uint64_t number = !kept;
	bool loses = may_lose(&heads[kept], &heads[number]);
	write_as(heads[kept].page, number);
	if (pwrite(fd, heads[kept].page, sizeof heads[kept].page, number ? second : 0) != (ssize_t)sizeof heads[kept].page || fsync(fd))
		return vf_fail(err, errno, "cannot write the head page %u of the file in %s: %s", (unsigned)number, dir, strerror(errno));
	snprintf(text, sizeof text, "the head page %u of the file was damaged%s", (unsigned)number, loses ? "; the last change may be lost with it" : "");
	report(ctx, text);
	return loses;
}

int vf_store_mend_head(const char *dir, void (*report)(void *ctx, const char *text), void *ctx, struct vf_err *err)
{
	int fd, rc = open_data(dir, dir, O_RDWR, &fd, err);

	if (rc)
		return rc;
	rc = mend(dir, fd, report, ctx, err);
	close(fd);
	return rc;
}

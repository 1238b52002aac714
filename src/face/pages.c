/* SPDX-License-Identifier: MIT */
/* The bytes of a scratch file: pages made when first written, so that a far offset costs little. */
#include "face_internal.h"

#include <errno.h>
#include <stdlib.h>

#define PAGE 16384u

void vf_pages_init(struct vf_pages *pages, struct vf_budget *budget, uid_t uid)
{
	*pages = (struct vf_pages){ .budget = budget, .uid = uid };
}

static void free_page(struct vf_pages *pages, size_t i)
{
	if (!pages->page[i])
		return;
	free(pages->page[i]);
	pages->page[i] = NULL;
	pages->charged -= PAGE;
	vf_budget_give(pages->budget, pages->uid, PAGE);
}

void vf_pages_free(struct vf_pages *pages)
{
	for (size_t i = 0; i < pages->npages; i++)
		free_page(pages, i);
	free(pages->page);
	vf_budget_give(pages->budget, pages->uid, pages->charged);
	vf_pages_init(pages, pages->budget, pages->uid);
}

/* Slots for that many pages; the table is charged too. */
static int grow_table(struct vf_pages *pages, size_t n, struct vf_err *err)
{
	if (n <= pages->npages)
		return 0;
	size_t more = n < 2 * pages->npages ? 2 * pages->npages - pages->npages : n - pages->npages;
	int rc = vf_budget_take(pages->budget, pages->uid, more * sizeof(uint8_t *), err);
	if (rc)
		return rc;
	uint8_t **page = realloc(pages->page, (pages->npages + more) * sizeof *page);
	if (!page) {
		vf_budget_give(pages->budget, pages->uid, more * sizeof(uint8_t *));
		return vf_oom(err);
	}
	memset(page + pages->npages, 0, more * sizeof *page);
	pages->page = page;
	pages->npages += more;
	pages->charged += more * sizeof(uint8_t *);
	return 0;
}

static int make_page(struct vf_pages *pages, size_t i, struct vf_err *err)
{
	if (pages->page[i])
		return 0;
	int rc = vf_budget_take(pages->budget, pages->uid, PAGE, err);
	if (rc)
		return rc;
	pages->page[i] = calloc(1, PAGE);
	if (!pages->page[i]) {
		vf_budget_give(pages->budget, pages->uid, PAGE);
		return vf_oom(err);
	}
	pages->charged += PAGE;
	return 0;
}

static int check_size(uint64_t size, struct vf_err *err)
{
	return size <= VF_SCRATCH_FILE_BYTES_MAX ? 0 : vf_fail(err, EFBIG, "a temporary file has at most %u bytes, %llu were asked for",
	                                                         VF_SCRATCH_FILE_BYTES_MAX, (unsigned long long)size);
}

int vf_pages_write(struct vf_pages *pages, struct vf_span data, uint64_t offset, struct vf_err *err)
{
	int rc = offset > UINT64_MAX - data.len ? check_size(offset, err) : check_size(offset + data.len, err);

	if (rc || data.len == 0)
		return rc;
	size_t first = offset / PAGE, last = (offset + data.len - 1) / PAGE;
	rc = grow_table(pages, last + 1, err);
	for (size_t i = first; rc == 0 && i <= last; i++)
		rc = make_page(pages, i, err);
	if (rc)
		return rc;
	for (size_t done = 0; done < data.len;) {
		size_t at = (offset + done) % PAGE, n = data.len - done < PAGE - at ? data.len - done : PAGE - at;
		memcpy(pages->page[(offset + done) / PAGE] + at, data.data + done, n);
		done += n;
	}
	if (offset + data.len > pages->size)
		pages->size = offset + data.len;
	return 0;
}

size_t vf_pages_read(const struct vf_pages *pages, uint64_t offset, void *out, size_t len)
{
	uint8_t *to = out;

	if (offset >= pages->size)
		return 0;
	if (len > pages->size - offset)
		len = (size_t)(pages->size - offset);
	for (size_t done = 0; done < len;) {
		size_t i = (offset + done) / PAGE, at = (offset + done) % PAGE, n = len - done < PAGE - at ? len - done : PAGE - at;
		if (i < pages->npages && pages->page[i])
			memcpy(to + done, pages->page[i] + at, n);
		else
			memset(to + done, 0, n);
		done += n;
	}
	return len;
}

int vf_pages_cut(struct vf_pages *pages, uint64_t size, struct vf_err *err)
{
	int rc = check_size(size, err);

	if (rc)
		return rc;
	for (size_t i = (size + PAGE - 1) / PAGE; i < pages->npages; i++)
		free_page(pages, i);
	/* What a later lengthening shows again are zeros. */
	if (size % PAGE && size / PAGE < pages->npages && pages->page[size / PAGE])
		memset(pages->page[size / PAGE] + size % PAGE, 0, PAGE - size % PAGE);
	pages->size = size;
	return 0;
}

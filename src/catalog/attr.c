/* SPDX-License-Identifier: MIT */
#include "catalog_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#define ATTR_BYTES_MAX 1024u
/* The last line: of all before it. Stores of format 1 have none. */
#define SUM_LINE       "sum "
#define SUM_FORMAT     SUM_LINE "%016" PRIx64 "\n"

int vf_attr_write(int at, const char *name, const struct vf_dir_attr *attr, struct vf_err *err)
{
	char text[ATTR_BYTES_MAX];
	int len = snprintf(text, sizeof text, "id %" PRIu64 "\nuid %u\ngid %u\nmode %04o\nmtime %" PRId64 "\nctime %" PRId64 "\n",
	                   attr->id, (unsigned)attr->uid, (unsigned)attr->gid, (unsigned)(attr->mode & DIR_MODE_MASK),
	                   attr->mtime_ns, attr->ctime_ns);

	len += snprintf(text + len, sizeof text - (size_t)len, SUM_FORMAT, (uint64_t)XXH3_64bits(text, (size_t)len));
	return vf_disk_write(at, name, vf_span(text, (size_t)len), err);
}

/* Cuts the sum off; false when it does not hold, or is not there. */
static bool check_sum(char *text, bool with_sum)
{
	char want[sizeof SUM_LINE + 18], *line = strstr(text, "\n" SUM_LINE);

	if (!line)
		return !with_sum;
	line++;
	snprintf(want, sizeof want, SUM_FORMAT, (uint64_t)XXH3_64bits(text, (size_t)(line - text)));
	bool holds = strcmp(line, want) == 0;
	*line = '\0';
	return holds;
}

enum field { F_ID, F_UID, F_GID, F_MODE, F_MTIME, F_CTIME, FIELDS };

static const struct { const char *name; int base; int64_t min, max; } fields[FIELDS] = {
	[F_ID]    = { "id", 10, 0, DIR_ID_MAX },
	[F_UID]   = { "uid", 10, 0, UINT32_MAX },
	[F_GID]   = { "gid", 10, 0, UINT32_MAX },
	[F_MODE]  = { "mode", 8, 0, DIR_MODE_MASK },
	[F_MTIME] = { "mtime", 10, INT64_MIN, INT64_MAX },
	[F_CTIME] = { "ctime", 10, INT64_MIN, INT64_MAX },
};

/* One line "name value"; false when it is none of ours. */
static bool parse_line(char *line, int64_t values[FIELDS], unsigned *seen)
{
	char *blank = strchr(line, ' '), *end;

	if (!blank)
		return false;
	*blank = '\0';
	for (int i = 0; i < FIELDS; i++) {
		if (strcmp(line, fields[i].name) != 0)
			continue;
		errno = 0;
		values[i] = strtoll(blank + 1, &end, fields[i].base);
		*seen |= 1u << i;
		return end != blank + 1 && *end == '\0' && errno == 0 && values[i] >= fields[i].min && values[i] <= fields[i].max;
	}
	return false;
}

static bool parse_text(char *text, int64_t values[FIELDS])
{
	unsigned seen = 0;
	char *save = NULL;

	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (!parse_line(line, values, &seen))
			return false;
	return seen == (1u << FIELDS) - 1;
}

int vf_attr_read(int at, const char *name, bool with_sum, struct vf_dir_attr *out, struct vf_err *err)
{
	char text[ATTR_BYTES_MAX];
	int64_t values[FIELDS];
	int rc = vf_disk_read(at, name, text, sizeof text, err);

	if (rc)
		return rc;
	if (!check_sum(text, with_sum) || !parse_text(text, values))
		return vf_fail(err, EIO, "%s is damaged", name);
	*out = (struct vf_dir_attr){
		.id = (uint64_t)values[F_ID], .uid = (uid_t)values[F_UID], .gid = (gid_t)values[F_GID], .mode = (mode_t)values[F_MODE],
		.mtime_ns = values[F_MTIME], .ctime_ns = values[F_CTIME],
	};
	return 0;
}

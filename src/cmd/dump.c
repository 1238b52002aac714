/* SPDX-License-Identifier: MIT */
/* vecfs dump STORE BUCKET/INDEX: a msgpack stream of all records on stdout, without mounting. */
#include "cmd.h"

#include <errno.h>
#include <unistd.h>

static int write_all(const uint8_t *bytes, size_t len, struct vf_err *err)
{
	while (len) {
		ssize_t n = write(STDOUT_FILENO, bytes, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return vf_fail(err, errno, "cannot write to standard output: %s", strerror(errno));
		bytes += n;
		len -= (size_t)n;
	}
	return 0;
}

static int copy_out(const struct vf_spool *spool, struct vf_err *err)
{
	static uint8_t piece[1 << 16];
	uint64_t at = 0;

	for (;;) {
		int64_t n = vf_spool_read(spool, at, piece, sizeof piece);
		if (n < 0)
			return vf_fail(err, (int)-n, "cannot read back what was spooled: %s", strerror((int)-n));
		if (n == 0)
			return 0;
		int rc = write_all(piece, (size_t)n, err);
		if (rc)
			return rc;
		at += (uint64_t)n;
	}
}

static int dump(struct vf_catalog *catalog, const char *bucket, const char *name, struct vf_err *err)
{
	struct vf_index *index = NULL;
	struct vf_spool spool;
	int rc = vf_catalog_hold(catalog, bucket, name, &index, err);

	if (rc)
		return rc;
	vf_spool_init(&spool, vf_catalog_path(catalog));
	if ((rc = vf_index_export(index, VF_EXPORT_MSGPACK, &spool, err)) == 0 && (rc = vf_spool_finish(&spool, err)) == 0)
		rc = copy_out(&spool, err);
	vf_spool_free(&spool);
	vf_catalog_release(catalog, index);
	return rc;
}

int vf_cmd_dump(int argc, char **argv)
{
	struct vf_err err = VF_ERR_INIT;
	struct vf_catalog_options options = { .read_only = true };
	struct vf_catalog *catalog = NULL;
	const char *bucket, *index;

	if (argc != 3 || argv[1][0] == '-')
		return vf_cmd_usage("vecfs dump STORE BUCKET/INDEX");
	if (vf_cmd_split(argv[2], &bucket, &index, &err) || vf_catalog_open(argv[1], &options, &catalog, &err))
		return vf_cmd_failed(&err);
	int rc = dump(catalog, bucket, index, &err);
	vf_catalog_close(&catalog);
	return rc ? vf_cmd_failed(&err) : VF_EXIT_OK;
}

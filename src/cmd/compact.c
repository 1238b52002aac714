/* SPDX-License-Identifier: MIT */
/* vecfs compact STORE [BUCKET/INDEX]: gives freed disk space back. */
#include "cmd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct compact {
	const char *store;
	const char *only_bucket, *only_index;
	unsigned done;
};

static int compact_index(void *ctx, const char *bucket, const char *index, struct vf_err *err)
{
	struct compact *c = ctx;
	uint64_t before, after;
	char *dir;

	if (c->only_index && (strcmp(bucket, c->only_bucket) || strcmp(index, c->only_index)))
		return 0;
	if (asprintf(&dir, "%s/%s/%s", c->store, bucket, index) < 0)
		return vf_oom(err);
	int rc = vf_index_compact(dir, &before, &after, err);
	free(dir);
	if (rc)
		return vf_wrap(err, "%s/%s", bucket, index);
	c->done++;
	printf("%s/%s: %llu bytes, were %llu\n", bucket, index, (unsigned long long)after, (unsigned long long)before);
	return 0;
}

static int compact_store(const char *store, const char *bucket, const char *index, struct vf_err *err)
{
	struct vf_catalog_options options = { 0 };
	struct vf_catalog *catalog = NULL;
	int rc = vf_catalog_open(store, &options, &catalog, err);

	if (rc)
		return rc;
	struct compact c = { vf_catalog_path(catalog), bucket, index, 0 };
	rc = vf_cmd_each_index(catalog, compact_index, &c, err);
	if (rc == 0 && index && c.done == 0)
		rc = vf_fail(err, ENOENT, "there is no index %s/%s in %s", bucket, index, store);
	vf_catalog_close(&catalog);
	return rc;
}

int vf_cmd_compact(int argc, char **argv)
{
	struct vf_err err = VF_ERR_INIT;
	const char *bucket = NULL, *index = NULL;

	if (argc < 2 || argc > 3 || argv[1][0] == '-')
		return vf_cmd_usage("vecfs compact STORE [BUCKET/INDEX]");
	if (argc == 3 && vf_cmd_split(argv[2], &bucket, &index, &err))
		return vf_cmd_failed(&err);
	return compact_store(argv[1], bucket, index, &err) ? vf_cmd_failed(&err) : VF_EXIT_OK;
}

/* SPDX-License-Identifier: MIT */
#include "cmd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int vf_cmd_failed(const struct vf_err *err)
{
	fprintf(stderr, "vecfs: %s\n", err->text);
	return VF_EXIT_FAILED;
}

int vf_cmd_usage(const char *usage)
{
	fprintf(stderr, "usage: %s\n", usage);
	return VF_EXIT_USAGE;
}

int vf_cmd_absolute(const char *what, const char *path, char **out, struct vf_err *err)
{
	char *cwd;

	*out = NULL;
	/* A variable of a script that was not set. */
	if (path[0] == '\0')
		return vf_fail(err, EINVAL, "the path of the %s is empty", what);
	if (path[0] == '/')
		return (*out = strdup(path)) ? 0 : vf_oom(err);
	if (!(cwd = getcwd(NULL, 0)))
		return vf_fail(err, errno, "cannot tell the working directory, in which %s %s is: %s", what, path, strerror(errno));
	if (asprintf(out, "%s/%s", cwd, path) < 0)
		*out = NULL;
	free(cwd);
	return *out ? 0 : vf_oom(err);
}

int vf_cmd_split(char *place, const char **bucket, const char **index, struct vf_err *err)
{
	char *slash = strchr(place, '/');

	/* As a shell completes it. */
	if (slash && slash[1] && place[strlen(place) - 1] == '/')
		place[strlen(place) - 1] = '\0';
	if (!slash || slash == place || !slash[1] || strchr(slash + 1, '/'))
		return vf_fail(err, EINVAL, "an index is named BUCKET/INDEX, not '%s'", place);
	*slash = '\0';
	*bucket = place;
	*index = slash + 1;
	return 0;
}

/* ---- every index, one after the other ---- */

struct walk {
	struct vf_catalog *catalog;
	const char *bucket;
	int (*each)(void *ctx, const char *bucket, const char *index, struct vf_err *err);
	void *ctx;
	struct vf_err *err;
	int rc;
};

static int visit_index(void *ctx, const char *name, const struct vf_dir_attr *attr)
{
	struct walk *walk = ctx;

	(void)attr;
	walk->rc = walk->each(walk->ctx, walk->bucket, name, walk->err);
	return walk->rc < 0;
}

static int visit_bucket(void *ctx, const char *name, const struct vf_dir_attr *attr)
{
	struct walk *walk = ctx;

	(void)attr;
	walk->bucket = name;
	int rc = vf_catalog_list(walk->catalog, name, NULL, visit_index, walk, walk->err);
	if (rc < 0)
		walk->rc = rc;
	return walk->rc < 0;
}

int vf_cmd_each_index(struct vf_catalog *catalog, int (*each)(void *ctx, const char *bucket, const char *index, struct vf_err *err),
                      void *ctx, struct vf_err *err)
{
	struct walk walk = { .catalog = catalog, .each = each, .ctx = ctx, .err = err };
	int rc = vf_catalog_list(catalog, NULL, NULL, visit_bucket, &walk, err);

	return rc < 0 ? rc : walk.rc;
}

/* SPDX-License-Identifier: MIT */
/* The last failures, one line each, newest last: what `errors` shows. Also sent to the log.
 *
 *   2025-01-31T12:00:00.123Z uid=1000 pid=4711 cp write /docs/en/vectors/a.msgpack EINVAL byte 17: vector has 383 numbers, ...
 *
 * Blanks, control bytes and what is no UTF-8 are written as %XX in the command and the path, so that the line is text and splits at blanks. */
#include "face_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "vecfs/clock.h"
#include "vecfs/log.h"
#include "vecfs/name.h"

struct line {
	uid_t uid;
	uint64_t site_id;
	char *text;                     /* ends in a newline */
};

struct vf_ring {
	pthread_mutex_t lock;
	uint64_t n;                     /* lines ever */
	struct line lines[VF_ERRORS_KEPT_MAX];
};

int vf_ring_new(struct vf_ring **out, struct vf_err *err)
{
	struct vf_ring *ring = calloc(1, sizeof *ring);

	if (!ring)
		return vf_oom(err);
	pthread_mutex_init(&ring->lock, NULL);
	*out = ring;
	return 0;
}

void vf_ring_free(struct vf_ring **ring)
{
	if (!*ring)
		return;
	for (size_t i = 0; i < VF_ERRORS_KEPT_MAX; i++)
		free((*ring)->lines[i].text);
	pthread_mutex_destroy(&(*ring)->lock);
	free(*ring);
	*ring = NULL;
}

#define NAME(code) { code, #code }
static const struct { int code; const char *name; } errno_names[] = {
	NAME(EINVAL), NAME(EBUSY), NAME(EEXIST), NAME(ENOENT), NAME(ENOTEMPTY), NAME(ENAMETOOLONG), NAME(EFBIG), NAME(ENOSPC), NAME(EACCES),
	NAME(EPERM), NAME(EROFS), NAME(EIO), NAME(EPROTO), NAME(EXDEV), NAME(ENOMEM), NAME(ENOTDIR), NAME(EISDIR), NAME(ENODATA), NAME(ENOTSUP),
	NAME(ERANGE), NAME(E2BIG), NAME(EMFILE), NAME(ENFILE), NAME(EDQUOT), NAME(EOVERFLOW), NAME(EINTR), NAME(EAGAIN), NAME(ESTALE),
};

const char *vf_errno_name(int code)
{
	for (size_t i = 0; i < sizeof errno_names / sizeof errno_names[0]; i++)
		if (errno_names[i].code == code)
			return errno_names[i].name;
	return "E?";
}

pid_t vf_process_of(pid_t thread)
{
	char path[64], line[128];
	int process = 0;

	snprintf(path, sizeof path, "/proc/%d/status", (int)thread);
	FILE *f = fopen(path, "re");
	if (!f)
		return 0;
	while (fgets(line, sizeof line, f))
		if (sscanf(line, "Tgid: %d", &process) == 1)
			break;
	fclose(f);
	return (pid_t)process;
}

void vf_command_of(pid_t pid, char *out, size_t size)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, out, size - 1);
	if (fd >= 0)
		close(fd);
	if (n > 0 && out[n - 1] == '\n')
		n--;
	if (n <= 0)
		out[0] = '-', n = 1;
	out[n] = '\0';
}

static void escape(const char *s, char *out, size_t size)
{
	size_t n = 0, len = strlen(s);

	for (size_t i = 0; i < len && n + 4 < size;) {
		size_t bytes = vf_utf8_char((const uint8_t *)s + i, len - i);
		unsigned char c = (unsigned char)s[i];
		if (bytes == 0 || c <= ' ' || c == 0x7f) {
			n += (size_t)snprintf(out + n, size - n, "%%%02X", c);
			i++;
			continue;
		}
		memcpy(out + n, s + i, bytes);
		n += bytes;
		i += bytes;
	}
	out[n] = '\0';
}

static void put_time(char *out, size_t size)
{
	int64_t now = vf_clock_real_ns();
	time_t seconds = (time_t)(now / 1000000000);
	struct tm tm;
	char text[32];

	gmtime_r(&seconds, &tm);
	strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out, size, "%s.%03dZ", text, (int)(now % 1000000000 / 1000000));
}

static void put_where(const struct vf_err *err, char *out, size_t size)
{
	switch (err->unit) {
	case VF_PLACE_NONE: out[0] = '\0'; break;
	case VF_PLACE_BYTE: snprintf(out, size, " byte %llu", (unsigned long long)err->place); break;
	case VF_PLACE_LINE: snprintf(out, size, " line %llu", (unsigned long long)err->place); break;
	}
}

/* A sentence is one line of text, whatever bytes of the user's it quotes, and wherever it was cut. */
static void one_line(char *s)
{
	for (size_t bytes; *s; s += bytes ? bytes : 1) {
		bytes = vf_utf8_char((const uint8_t *)s, strlen(s));
		if (bytes == 0)
			*s = '?';
		else if ((unsigned char)*s < ' ' || *s == 0x7f)
			*s = ' ';
	}
}

static char *format_line(struct vf_call *call, const char *path)
{
	char when[48], command[64], escaped[200], where[48], site[VF_NAMES_PATH_MAX * 3], *text = NULL;

	put_time(when, sizeof when);
	vf_command_of(call->pid, command, sizeof command);
	escape(command, escaped, sizeof escaped);
	escape(path, site, sizeof site);
	put_where(&call->err, where, sizeof where);
	one_line(call->err.text);
	if (asprintf(&text, "%s uid=%u pid=%d %s %s %s %s%s: %s\n", when, (unsigned)call->uid, (int)call->pid, escaped, call->op, site,
	             vf_errno_name(call->err.code), where, call->err.text) < 0)
		return NULL;
	return text;
}

void vf_ring_add(struct vf_call *call, const struct vf_node *node, const char *path)
{
	struct vf_ring *ring = call->face->ring;
	char *text = format_line(call, path);

	if (!text)
		return;
	char *words = strchr(text, ' ');
	vf_log(LOG_WARNING, "%.*s", (int)strlen(words) - 2, words + 1);
	pthread_mutex_lock(&ring->lock);
	struct line *line = &ring->lines[ring->n++ % VF_ERRORS_KEPT_MAX];
	free(line->text);
	*line = (struct line){ call->uid, node->site ? node->site->id : 0, text };
	pthread_mutex_unlock(&ring->lock);
}

int vf_ring_render(struct vf_ring *ring, const struct vf_site *site, uid_t uid, struct vf_spool *out, struct vf_err *err)
{
	int rc = 0;

	pthread_mutex_lock(&ring->lock);
	uint64_t first = ring->n > VF_ERRORS_KEPT_MAX ? ring->n - VF_ERRORS_KEPT_MAX : 0;
	for (uint64_t i = first; rc == 0 && i < ring->n; i++) {
		const struct line *line = &ring->lines[i % VF_ERRORS_KEPT_MAX];
		if ((site && line->site_id != site->id) || (uid != 0 && line->uid != uid))
			continue;
		rc = vf_spool_put(out, line->text, strlen(line->text), err);
	}
	pthread_mutex_unlock(&ring->lock);
	return rc;
}

/* SPDX-License-Identifier: MIT */
#include "vecfs/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <syslog.h>

static bool log_to_syslog, log_debug;

void vf_log_open(bool to_syslog, bool debug)
{
	log_to_syslog = to_syslog;
	log_debug = debug;
	if (to_syslog)
		openlog("vecfs", LOG_PID, LOG_DAEMON);
}

void vf_log(int priority, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	if (priority == LOG_DEBUG && !log_debug)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (log_to_syslog)
		syslog(priority, "%s", text);
	else
		fprintf(stderr, "vecfs: %s\n", text);
}

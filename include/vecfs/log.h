/* SPDX-License-Identifier: MIT */
/* log.h - words for the operator: on stderr in the foreground, in syslog in the background. */
#ifndef VECFS_LOG_H
#define VECFS_LOG_H

#include <stdbool.h>

/* Priorities are those of syslog(3): LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO, LOG_DEBUG. */
void vf_log_open(bool to_syslog, bool debug);
void vf_log(int priority, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif

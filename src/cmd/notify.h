/* SPDX-License-Identifier: MIT */
/* notify.h - a word to the service manager (sd_notify protocol: a datagram to $NOTIFY_SOCKET). */
#ifndef VECFS_NOTIFY_H
#define VECFS_NOTIFY_H

/* Does nothing when nobody listens. */
void vf_notify(const char *state);

#endif

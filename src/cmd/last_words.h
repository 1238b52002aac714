/* SPDX-License-Identifier: MIT */
/* last_words.h - where a daemon was that dies. */
#ifndef VECFS_LAST_WORDS_H
#define VECFS_LAST_WORDS_H

/* From now on a fatal signal writes a backtrace to standard error before it ends the process, as it would have. Where somebody handles such a signal
 * already (a sanitizer), it stays so. */
void vf_last_words_prepare(void);

#endif

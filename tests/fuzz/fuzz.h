/* SPDX-License-Identifier: MIT */
/* fuzz.h - one function a kind of untrusted input. Each decodes, checks what it got, uses it, and aborts when a promise is broken.
 * The fuzzers (make fuzz) call them with what libFuzzer makes up, tests/check_corpus with what is in tests/files. */
#ifndef VECFS_FUZZ_H
#define VECFS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

void vf_fuzz_value(const uint8_t *data, size_t size);      /* msgpack and JSON values */
void vf_fuzz_insert(const uint8_t *data, size_t size);     /* the stream of `insert`; the first byte is the size of the pieces */
void vf_fuzz_question(const uint8_t *data, size_t size);
void vf_fuzz_change(const uint8_t *data, size_t size);     /* update and delete */
void vf_fuzz_config(const uint8_t *data, size_t size);
void vf_fuzz_name(const uint8_t *data, size_t size);
void vf_fuzz_disk(const uint8_t *data, size_t size);       /* values out of LMDB: quantizer, chunks of the graph */

#define FUZZ_PROMISE(truth) do { if (!(truth)) { fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #truth); abort(); } } while (0)

#endif

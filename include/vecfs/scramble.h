/* SPDX-License-Identifier: MIT */
/* scramble.h - numbers that look random and come again the same: that of 0, 1, 2, ... is a sequence, that of anything else a hash. */
#ifndef VECFS_SCRAMBLE_H
#define VECFS_SCRAMBLE_H

#include <stdint.h>

/* splitmix64 (Steele, Lea and Flood, 2014) */
static inline uint64_t vf_scramble(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

#endif

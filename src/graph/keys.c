/* SPDX-License-Identifier: MIT */
/* Distance and slot as one number, so that the nearest of many are found by comparing integers, and ties fall by slot. */
#include <stdlib.h>

#include "graph_internal.h"

uint64_t vf_key_of(float distance, uint32_t slot)
{
	uint32_t bits;

	/* Floats sort as their bits do once negative ones are turned round. -0 becomes 0 first. */
	distance += 0.0f;
	memcpy(&bits, &distance, sizeof bits);
	bits ^= bits >> 31 ? 0xffffffffu : 0x80000000u;
	return (uint64_t)bits << 32 | slot;
}

float vf_key_distance(uint64_t key)
{
	uint32_t bits = (uint32_t)(key >> 32);
	float distance;

	bits ^= bits >> 31 ? 0x80000000u : 0xffffffffu;
	memcpy(&distance, &bits, sizeof distance);
	return distance;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

void vf_keys_sort(uint64_t *keys, size_t count)
{
	if (count > VF_INSERTION_MAX) {
		qsort(keys, count, sizeof *keys, compare);
		return;
	}
	for (size_t i = 1; i < count; i++) {
		uint64_t key = keys[i];
		size_t k = i;
		for (; k > 0 && keys[k - 1] > key; k--)
			keys[k] = keys[k - 1];
		keys[k] = key;
	}
}

/* Hoare's selection; the pivot is drawn by a hash so that no order of the input is the bad one. */
void vf_keys_select(uint64_t *keys, size_t count, size_t want)
{
	size_t low = 0, high = count;
	uint64_t draw = 0x9e3779b97f4a7c15u;

	while (want > low && want < high && high - low > 1) {
		draw = draw * 6364136223846793005u + 1442695040888963407u;
		uint64_t pivot = keys[low + (draw >> 33) % (high - low)];
		size_t i = low, k = high - 1;
		for (;;) {
			while (keys[i] < pivot)
				i++;
			while (keys[k] > pivot)
				k--;
			if (i >= k)
				break;
			uint64_t swap = keys[i];
			keys[i++] = keys[k];
			keys[k--] = swap;
		}
		/* Left of `cut` nothing is above the pivot, from it on nothing below. When the two met they met at a pivot, which may go to
		 * either side: to the one that would be empty without it. */
		size_t cut = i == k && i == low ? i + 1 : i;
		if (want <= cut && cut < high)
			high = cut;
		else if (want >= cut && cut > low)
			low = cut;
		else
			break;
	}
}

int vf_compare_floats(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

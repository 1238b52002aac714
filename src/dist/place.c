/* SPDX-License-Identifier: MIT */
/* place.c - a number put into a rising array: what a walk does with every node that is near enough. */
#include "dist_internal.h"

#define RANK_LINEAR 48u

typedef float four_floats __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t four_ints __attribute__((vector_size(16)));

/* How many are nearer or equal: halved until comparing them all, four at a time, is cheaper than the next surprise to the
 * processor's prediction. */
static uint32_t rank_of(const float *near, uint32_t count, float distance)
{
	const four_floats wanted = { distance, distance, distance, distance };
	four_ints nearer = { 0 };
	uint32_t below = 0, rest = 0, i = 0;

	while (count > RANK_LINEAR) {
		uint32_t half = count / 2;
		below += near[below + half - 1] <= distance ? half : 0;
		count -= half;
	}
	near += below;
	for (; i + 4 <= count; i += 4)
		nearer -= *(const four_floats *)(const void *)(near + i) <= wanted;
	for (; i < count; i++)
		rest += near[i] <= distance;
	return below + rest + (uint32_t)(nearer[0] + nearer[1] + nearer[2] + nearer[3]);
}

/* Moves [at, count) one up, eight at a time from the end; the first eight, read before, go last and cover the remainder. Up to eight
 * places behind are scratch. memmove costs twice as much for some tens of numbers. */
static void make_place(void *numbers, uint32_t at, uint32_t count)
{
	char *first = (char *)numbers + 4 * (size_t)at, *end = (char *)numbers + 4 * (size_t)count;
	char head[32], block[32];

	memcpy(head, first, sizeof head);
	while (end - first > 32) {
		end -= 32;
		memcpy(block, end, sizeof block);
		memcpy(end + 4, block, sizeof block);
	}
	memcpy(first + 4, head, sizeof head);
}

uint32_t vf_place(float *near, uint32_t *node, uint32_t count, float distance, uint32_t id)
{
	uint32_t at = rank_of(near, count, distance);

	make_place(near, at, count);
	make_place(node, at, count);
	near[at] = distance;
	node[at] = id;
	return at;
}

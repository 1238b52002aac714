/* SPDX-License-Identifier: MIT */
/* The shortest text that reads back as the same number.
 *
 * A float32 needs at most 9 digits and a float64 at most 17 (David Matula, "In-and-out conversions", CACM 11, 1968). For float32 the
 * digits are found in double arithmetic, ten times as fast as printf and strtof, which remain for what double cannot decide. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "codec_internal.h"

/* digits * 10^exponent, digits without zeros at the end */
struct decimal {
	uint64_t digits;
	int exponent;
};

static struct decimal without_zeros(uint64_t digits, int exponent)
{
	while (digits && digits % 10 == 0) {
		digits /= 10;
		exponent++;
	}
	return (struct decimal){ digits, exponent };
}

static size_t put_zeros(char *out, int n)
{
	memset(out, '0', (size_t)n);
	return (size_t)n;
}

static size_t put_fixed(const char *digits, int n, int point, char *out)
{
	char *p = out;

	if (point <= 0) {
		*p++ = '0';
		*p++ = '.';
		p += put_zeros(p, -point);
		memcpy(p, digits, (size_t)n);
		return (size_t)(p + n - out);
	}
	int whole = point < n ? point : n;
	memcpy(p, digits, (size_t)whole);
	p += whole;
	p += put_zeros(p, point - whole);
	*p++ = '.';
	if (whole == n)
		*p++ = '0';
	memcpy(p, digits + whole, (size_t)(n - whole));
	return (size_t)(p + (n - whole) - out);
}

static size_t put_scientific(const char *digits, int n, int point, char *out)
{
	char *p = out;

	*p++ = digits[0];
	if (n > 1) {
		*p++ = '.';
		memcpy(p, digits + 1, (size_t)n - 1);
		p += n - 1;
	}
	return (size_t)(p - out) + (size_t)sprintf(p, "e%d", point - 1);
}

/* As people write it: 0.00012, 12.5, 1200.0, and with an exponent only far away from 1. */
static size_t put_decimal(bool negative, struct decimal d, char out[VF_NUMBER_TEXT_MAX])
{
	char reversed[20], digits[20];
	int n = 0, point;

	do
		reversed[n++] = (char)('0' + d.digits % 10);
	while (d.digits /= 10);
	for (int i = 0; i < n; i++)
		digits[i] = reversed[n - 1 - i];
	point = n + d.exponent;
	if (negative)
		*out = '-';
	return negative + (point > -5 && point <= 16 ? put_fixed : put_scientific)(digits, n, point, out + negative);
}

/* ---- by printf: any number ----
 * Any decimal of 6 (15) digits comes back from float32 (float64): one that needs fewer is found there, with zeros behind it. But
 * the smallest numbers have fewer bits, and need their first digits only. */

/* d.ddde[+-]xx, as %.*e gives it */
static struct decimal read_scientific(const char *text)
{
	uint64_t digits = 0;
	int after_point = 0;
	const char *p = text;

	for (bool point = false; *p != 'e'; p++) {
		if (*p >= '0' && *p <= '9') {
			digits = digits * 10 + (uint64_t)(*p - '0');
			after_point += point;
		} else {
			point = true;
		}
	}
	return without_zeros(digits, atoi(p + 1) - after_point);
}

static struct decimal print_float(float f)
{
	char text[40];

	for (int n = f < FLT_MIN ? 1 : 6; n <= 9; n++) {
		snprintf(text, sizeof text, "%.*e", n - 1, (double)f);
		if (strtof(text, NULL) == f)
			break;
	}
	return read_scientific(text);
}

static struct decimal print_double(double d)
{
	char text[40];

	for (int n = d < DBL_MIN ? 1 : 15; n <= 17; n++) {
		snprintf(text, sizeof text, "%.*e", n - 1, d);
		if (strtod(text, NULL) == d)
			break;
	}
	return read_scientific(text);
}

/* ---- in double arithmetic: most of float32 ---- */

/* Powers of ten that double holds exactly. */
static const double power10[] = { 1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
                                  1e19, 1e20, 1e21, 1e22 };
#define POWER10_MAX 22

static double scale(double x, int exponent)
{
	return exponent < 0 ? x / power10[-exponent] : x * power10[exponent];
}

/* x is a decimal, correctly rounded to double. Rounding it again to float gives what reading the decimal gives, unless
 * the first rounding fell onto the middle between two floats. */
static bool is_middle(double x)
{
	uint64_t bits;

	memcpy(&bits, &x, sizeof bits);
	return (bits & 0x1fffffff) == 0x10000000;
}

/* False: not to be decided here. */
static bool quick_float(float f, struct decimal *out)
{
	double x = (double)f;

	if (!(x >= 1e-12 && x < 1e15))
		return false;
	int size = (int)floor(log10(x)) + 1;
	for (int n = 6; n <= 9; n++) {
		int up = n - size;
		if (up > POWER10_MAX || up < -POWER10_MAX)
			return false;
		double digits = nearbyint(scale(x, up)), back = scale(digits, -up);
		if (is_middle(back))
			return false;
		if ((float)back == f) {
			*out = without_zeros((uint64_t)digits, -up);
			return true;
		}
	}
	return false;
}

size_t vf_text_of_float(float f, char out[VF_NUMBER_TEXT_MAX])
{
	struct decimal d = { 0, 0 };
	float positive = fabsf(f);

	if (positive > 0 && !quick_float(positive, &d))
		d = print_float(positive);
	return put_decimal(signbit(f), d, out);
}

size_t vf_text_of_double(double d, char out[VF_NUMBER_TEXT_MAX])
{
	struct decimal shortest = { 0, 0 };

	if (d != 0)
		shortest = print_double(fabs(d));
	return put_decimal(signbit(d), shortest, out);
}

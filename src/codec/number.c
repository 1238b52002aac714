/* SPDX-License-Identifier: MIT */
/* Numbers to their shortest text, and text to numbers.
 *
 * A float32 needs at most 9 digits and a float64 at most 17 (David Matula, "In-and-out conversions", CACM 11, 1968). Numbers of everyday
 * size are converted here in 128-bit integers, without rounding but once: five to twenty times as fast as printf and strtod,
 * which remain for the very large, the very small and the very long. Those take the decimal point from the locale: it is "C", no part
 * of the program calls setlocale. */
#include <endian.h>
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "codec_internal.h"

typedef unsigned __int128 wide;

/* digits * 10^exponent */
struct decimal {
	uint64_t digits;
	int exponent;
};

/* mantissa * 2^exponent; the mantissa has exactly as many bits as the kind of number (24, 53). */
struct binary {
	uint64_t mantissa;
	int exponent;
};

#define FLOAT_BITS  FLT_MANT_DIG
#define DOUBLE_BITS DBL_MANT_DIG

/* 5^27 is the highest that fits in 64 bits, so that 10^27 = 5^27 * 2^27 is exact. */
#define POWER5_MAX 27
static const uint64_t power5[POWER5_MAX + 1] = {
	1u, 5u, 25u, 125u, 625u, 3125u, 15625u, 78125u, 390625u, 1953125u, 9765625u, 48828125u, 244140625u, 1220703125u, 6103515625u,
	30517578125u, 152587890625u, 762939453125u, 3814697265625u, 19073486328125u, 95367431640625u, 476837158203125u, 2384185791015625u,
	11920928955078125u, 59604644775390625u, 298023223876953125u, 1490116119384765625u, 7450580596923828125u,
};

#define POWER10_MIN (-10)
#define POWER10_MAX 22     /* exact in float64, as all from 0 on */
static const double power10[] = {
	1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12,
	1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
};

/* ---- between decimal and binary ---- */

static int bits_of(wide n)
{
	uint64_t high = (uint64_t)(n >> 64), low = (uint64_t)n;

	return high ? 128 - __builtin_clzll(high) : low ? 64 - __builtin_clzll(low) : 0;
}

/* n * 2^exponent, and something more if `inexact`, to the nearest of `bits` bits; the even one in the middle. */
static struct binary round_binary(wide n, int exponent, bool inexact, int bits)
{
	int drop = bits_of(n) - bits;

	if (drop <= 0)
		return (struct binary){ (uint64_t)n << -drop, exponent + drop };
	uint64_t mantissa = (uint64_t)(n >> drop);
	wide rest = n & (((wide)1 << drop) - 1), half = (wide)1 << (drop - 1);
	if (rest > half || (rest == half && (inexact || (mantissa & 1))))
		mantissa++;
	if (mantissa >> bits)
		return (struct binary){ mantissa >> 1, exponent + drop + 1 };
	return (struct binary){ mantissa, exponent + drop };
}

/* What reading the decimal gives; digits are not 0, the exponent within +-POWER5_MAX. */
static struct binary binary_of(struct decimal d, int bits)
{
	if (d.exponent >= 0)
		return round_binary((wide)d.digits * power5[d.exponent], d.exponent, false, bits);
	/* Both with their highest bit set, so that the quotient has 63 or 64 bits. */
	uint64_t five = power5[-d.exponent];
	int up = __builtin_clzll(d.digits), five_up = __builtin_clzll(five);
	uint64_t divisor = five << five_up;
	wide dividend = (wide)(d.digits << up) << 63;
	uint64_t quotient = (uint64_t)(dividend / divisor);
	bool inexact = (wide)quotient * divisor != dividend;
	return round_binary(quotient, five_up - up - 63 + d.exponent, inexact, bits);
}

/* A positive normal number. */
static struct binary binary_of_double(double x, int bits)
{
	uint64_t raw;

	memcpy(&raw, &x, sizeof raw);
	uint64_t mantissa = (raw & 0xfffffffffffffu) | 1ull << 52;
	int drop = DOUBLE_BITS - bits;
	return (struct binary){ mantissa >> drop, (int)(raw >> 52) - 1075 + drop };
}

static double double_of(struct binary b)
{
	uint64_t raw = (uint64_t)(b.exponent + 1075) << 52 | (b.mantissa & 0xfffffffffffffu);
	double x;

	memcpy(&x, &raw, sizeof x);
	return x;
}

static struct decimal without_zeros(struct decimal d)
{
	while (d.digits && d.digits % 10 == 0) {
		d.digits /= 10;
		d.exponent++;
	}
	return d;
}

/* ---- the shortest decimal ---- */

#define QUICK_MIN 1e-10
#define QUICK_MAX 1e15

/* Digits before the point: 3 of 123.4, -1 of 0.0123. */
static int size_of(double x)
{
	struct binary b = binary_of_double(x, DOUBLE_BITS);
	int size = (((b.exponent + DOUBLE_BITS - 1) * 1233) >> 12) + 1;    /* log10(2) is 1233 / 4096; perhaps one too small */

	for (; x >= power10[size - POWER10_MIN]; size++)
		;
	return size;
}

/* The integer nearest to b * 10^up, and whether digits * 10^-up reads back as b. Both are times 2^-shift here, where all of it is exact:
 * reading gives b for what is nearer than half a step of its mantissa, which is 5^up there, and the step below a power of two is half. */
static bool try_digits(struct binary b, int bits, int up, uint64_t *digits)
{
	wide exact = (wide)b.mantissa * power5[up];
	int shift = b.exponent + up;

	if (shift >= 0) {
		*digits = (uint64_t)(exact << shift);
		return true;
	}
	*digits = (uint64_t)((exact + ((wide)1 << (-shift - 1))) >> -shift);
	wide found = (wide)*digits << -shift;
	bool below = found < exact;
	wide off = (below ? exact - found : found - exact) << (1 + (below && b.mantissa == 1ull << (bits - 1)));
	return off < power5[up] || (off == power5[up] && b.mantissa % 2 == 0);
}

/* Most readers of a float32 make a float64 first, and round that. Once in a while this leads to its neighbour: then it takes
 * more digits. */
static bool survives_two_roundings(struct decimal d, double x, int bits)
{
	return bits == DOUBLE_BITS || (double)(float)double_of(binary_of(d, DOUBLE_BITS)) == x;
}

/* As many digits as it takes, from `least` on. False: not of everyday size. */
static bool shorten(double x, int bits, int least, struct decimal *out)
{
	if (!(x >= QUICK_MIN && x < QUICK_MAX))
		return false;
	struct binary b = binary_of_double(x, bits);
	int size = size_of(x);
	for (int up = least - size; up <= DBL_DECIMAL_DIG - size; up++) {
		if (up < 0 || up > POWER5_MAX)
			return false;
		out->exponent = -up;
		if (try_digits(b, bits, up, &out->digits) && survives_two_roundings(*out, x, bits)) {
			*out = without_zeros(*out);
			return true;
		}
	}
	return false;
}

/* d.ddde[+-]xx, as %.*e gives it */
static struct decimal read_scientific(const char *text)
{
	struct decimal d = { 0, 0 };
	const char *p = text;

	for (bool point = false; *p != 'e'; p++) {
		if (*p >= '0' && *p <= '9') {
			d.digits = d.digits * 10 + (uint64_t)(*p - '0');
			d.exponent -= point;
		} else {
			point = true;
		}
	}
	d.exponent += atoi(p + 1);
	return without_zeros(d);
}

/* Any decimal of 6 (15) digits comes back from float32 (float64): one that needs fewer is found there, with zeros behind it.
 * But the smallest numbers have fewer bits, and need their first digits only. */
static struct decimal print_float(float f)
{
	char text[40];

	for (int n = f < FLT_MIN ? 1 : FLT_DIG; n <= DBL_DECIMAL_DIG; n++) {
		snprintf(text, sizeof text, "%.*e", n - 1, (double)f);
		if (strtof(text, NULL) == f && (float)strtod(text, NULL) == f)
			break;
	}
	return read_scientific(text);
}

static struct decimal print_double(double d)
{
	char text[40];

	for (int n = d < DBL_MIN ? 1 : DBL_DIG; n <= DBL_DECIMAL_DIG; n++) {
		snprintf(text, sizeof text, "%.*e", n - 1, d);
		if (strtod(text, NULL) == d)
			break;
	}
	return read_scientific(text);
}

/* ---- decimal to text ---- */

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
	char digits[20], *first = digits + sizeof digits;

	do
		*--first = (char)('0' + d.digits % 10);
	while (d.digits /= 10);
	int n = (int)(digits + sizeof digits - first), point = n + d.exponent;
	if (negative)
		*out = '-';
	return negative + (point > -5 && point <= 16 ? put_fixed : put_scientific)(first, n, point, out + negative);
}

size_t vf_text_of_float(float f, char out[VF_NUMBER_TEXT_MAX])
{
	struct decimal d = { 0, 0 };
	float positive = fabsf(f);

	if (positive > 0 && !shorten((double)positive, FLOAT_BITS, FLT_DIG, &d))
		d = print_float(positive);
	return put_decimal(signbit(f), d, out);
}

size_t vf_text_of_double(double d, char out[VF_NUMBER_TEXT_MAX])
{
	struct decimal shortest = { 0, 0 };
	double positive = fabs(d);

	if (positive > 0 && !shorten(positive, DOUBLE_BITS, DBL_DIG, &shortest))
		shortest = print_double(positive);
	return put_decimal(signbit(d), shortest, out);
}

/* ---- text to number ---- */

#define DIGITS_MAX 19      /* that are sure to fit in 64 bits */

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Digits appended to d; `count` is of those behind the first that is not 0. */
static const char *read_digits(const char *p, const char *end, struct decimal *d, int *count)
{
	const char *first = p;
	uint64_t digits = d->digits;

	while (digits == 0 && p < end && *p == '0')
		first = ++p;
	for (; p < end && is_digit(*p); p++)
		digits = digits * 10 + (uint64_t)(*p - '0');
	d->digits = digits;           /* overflowed when count is beyond DIGITS_MAX: then not used */
	*count += p - first < 1000 ? (int)(p - first) : 1000;
	return p;
}

static const char *read_exponent(const char *p, const char *end, int *exponent)
{
	bool negative = p < end && *p == '-';
	int n = 0;

	if (p < end && (*p == '-' || *p == '+'))
		p++;
	if (p == end || !is_digit(*p))
		return NULL;
	for (; p < end && is_digit(*p); p++)
		if (n < 10000)
			n = n * 10 + *p - '0';
	*exponent += negative ? -n : n;
	return p;
}

static bool give_integer(bool negative, uint64_t n, int count, struct vf_value *out)
{
	if (count > DIGITS_MAX || n > (uint64_t)INT64_MAX + negative)
		return false;
	out->kind = VF_INT;
	out->count = 0;
	out->integer = negative ? (int64_t)(0 - n) : (int64_t)n;
	return true;
}

/* The text is there for what is not of everyday size. */
static bool give_real(bool negative, struct decimal d, int count, const char *text, struct vf_value *out)
{
	double x = 0;

	if (count > DIGITS_MAX || d.exponent < -POWER5_MAX || d.exponent > POWER5_MAX)
		x = fabs(strtod(text, NULL));
	else if (d.digits >> DOUBLE_BITS == 0 && d.exponent <= 0 && -d.exponent <= POWER10_MAX)
		x = (double)d.digits / power10[-d.exponent - POWER10_MIN];        /* both exact, rounded once */
	else if (d.digits)
		x = double_of(binary_of(d, DOUBLE_BITS));
	if (isinf(x))
		return false;
	out->kind = VF_FLOAT;
	out->count = 0;
	out->real = negative ? -x : x;
	return true;
}

/* ---- numbers as vectors have them ---- */

static const uint64_t power10_whole[9] = { 1u, 10u, 100u, 1000u, 10000u, 100000u, 1000000u, 10000000u, 100000000u };

/* As many of the next eight bytes as are digits, at once: how long a number is no processor can foresee. Pairs, fours and the whole are made by
 * multiplications that leave their sums in the upper halves. */
static unsigned read_eight(const char *p, uint64_t *out)
{
	const uint64_t ones = 0x0101010101010101u;
	uint64_t n;

	memcpy(&n, p, sizeof n);
	n = le64toh(n);
	/* Below '0', or above '9'; what this carries into the bytes behind does not matter. */
	uint64_t other = ((n - '0' * ones) | (n + (0x7f - '9') * ones)) & 0x80 * ones;
	unsigned count = other ? (unsigned)__builtin_ctzll(other) / 8 : 8;
	*out = 0;
	if (count == 0)
		return 0;
	n = n << (64 - 8 * count) & 0x0f * ones;
	n = (n * (10 << 8 | 1)) >> 8 & 0x00ff00ff00ff00ffu;
	n = (n * (100 << 16 | 1)) >> 16 & 0x0000ffff0000ffffu;
	*out = (n * (10000ull << 32 | 1)) >> 32;
	return count;
}

/* d.dddd with up to 18 of them: what a vector is made of, in one go. NULL: something else. */
static const char *read_short(const char *p, const char *end, struct decimal *d)
{
	uint64_t digits, some;
	unsigned n = 8, count = 0;

	if (end - p < 2 + 24 + 1 || !is_digit(p[0]) || p[1] != '.')
		return NULL;
	digits = (uint64_t)(p[0] - '0');
	for (p += 2; n == 8 && count < 24; count += n, p += n) {
		n = read_eight(p, &some);
		digits = digits * power10_whole[n] + some;
	}
	if (count == 0 || count > DIGITS_MAX - 1 || (*p | 0x20) == 'e')
		return NULL;
	*d = (struct decimal){ digits, -(int)count };
	return p;
}

const char *vf_number_read(const char *text, const char *end, struct vf_value *out)
{
	bool negative = text < end && *text == '-', integer = true;
	const char *p = text + negative, *start = p;
	struct decimal d = { 0, 0 };
	int count = 0;

	const char *behind = read_short(p, end, &d);
	if (behind)
		return give_real(negative, d, 0, text, out) ? behind : NULL;
	p = read_digits(p, end, &d, &count);
	if (p == start || (*start == '0' && p > start + 1))
		return NULL;
	if (p < end && *p == '.') {
		const char *point = p++;
		p = read_digits(p, end, &d, &count);
		if (p == point + 1)
			return NULL;
		d.exponent = point + 1 - p > -10000 ? (int)(point + 1 - p) : -10000;
		integer = false;
	}
	if (p < end && (*p == 'e' || *p == 'E')) {
		p = read_exponent(p + 1, end, &d.exponent);
		integer = false;
	}
	/* What follows belongs to the text too: so strtod ends there. */
	if (!p || p == end)
		return NULL;
	return (integer ? give_integer(negative, d.digits, count, out) : give_real(negative, d, count, text, out)) ? p : NULL;
}

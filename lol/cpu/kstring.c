/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The memory functions that the compiler calls behind our back, without vector
 * registers: K runs while the guest kernel's are live.  They take the place of the C
 * library's for all of lol-k's own code.
 */
#include <stddef.h>
#include <stdint.h>

void *memcpy(void *restrict d, const void *restrict s, size_t n);
void *memmove(void *d, const void *s, size_t n);
void *memset(void *d, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);

void *memcpy(void *restrict d, const void *restrict s, size_t n)
{
	void *r = d;

	if (n <= 64) { /* rep movsb takes 10 ns to start */
		uint64_t w;
		for (; n >= 8; n -= 8, s = (const char *)s + 8, d = (char *)d + 8) {
			__builtin_memcpy(&w, s, 8);
			__builtin_memcpy(d, &w, 8);
		}
		if (n & 4) {
			uint32_t w4;
			__builtin_memcpy(&w4, s, 4);
			__builtin_memcpy(d, &w4, 4);
			s = (const char *)s + 4, d = (char *)d + 4;
		}
		if (n & 2) {
			uint16_t w2;
			__builtin_memcpy(&w2, s, 2);
			__builtin_memcpy(d, &w2, 2);
			s = (const char *)s + 2, d = (char *)d + 2;
		}
		if (n & 1)
			*(char *)d = *(const char *)s;
		return r;
	}
	asm volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n)::"memory");
	return r;
}

void *memmove(void *d, const void *s, size_t n)
{
	void *r = d;
	if ((uintptr_t)d - (uintptr_t)s >= n)
		return memcpy(d, s, n);
	d = (char *)d + n - 1;
	s = (const char *)s + n - 1;
	asm volatile("std; rep movsb; cld" : "+D"(d), "+S"(s), "+c"(n)::"memory");
	return r;
}

void *memset(void *d, int c, size_t n)
{
	void *r = d;
	asm volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
	return r;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const uint8_t *x = a, *y = b;
	uint64_t v, w;

	for (; n >= 8; n -= 8, x += 8, y += 8) { /* whole pages are compared */
		__builtin_memcpy(&v, x, 8);
		__builtin_memcpy(&w, y, 8);
		if (v != w)
			break;
	}
	for (; n; n--, x++, y++)
		if (*x != *y)
			return *x < *y ? -1 : 1;
	return 0;
}

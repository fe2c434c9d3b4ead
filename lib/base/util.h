/* SPDX-License-Identifier: Apache-2.0 */
/* Small helpers of every file: cleanup by attribute, array sizes, paths, the clock. */
#ifndef DMM_BASE_UTIL_H
#define DMM_BASE_UTIL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

static inline void close_ptr(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
static inline void free_ptr(void *p)
{
	free(*(void **)p);
}
static inline void fclose_ptr(FILE **f)
{
	if (*f)
		fclose(*f);
}
#define _cleanup_close_ __attribute__((cleanup(close_ptr)))
#define _cleanup_free_ __attribute__((cleanup(free_ptr)))
#define _cleanup_fclose_ __attribute__((cleanup(fclose_ptr)))

/* Is the path a the same as b, or a directory above it? Both without a slash at the end. */
static inline bool path_above(const char *a, const char *b)
{
	size_t n = strlen(a);

	return strncmp(a, b, n) == 0 && (b[n] == '\0' || b[n] == '/');
}

static inline uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec;
}

/* In network byte order, at any address. */
static inline uint16_t be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}
static inline uint32_t be32(const uint8_t *p)
{
	return (uint32_t)be16(p) << 16 | be16(p + 2);
}
static inline void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}
static inline void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v);
}

/* CLOCK_MONOTONIC: the clock of bpf_ktime_get_ns(). */
static inline uint64_t now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

/* CLOCK_REALTIME: since 1970, to be told to people. */
static inline uint64_t realtime_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}

#endif

// SPDX-License-Identifier: BSD-2-Clause
/*
 * /lol-setup, which lol-run puts beside us where it has host directories for the guest. One item a line, a verb and words;
 * every word is percent-encoded as on the port lol.ctl (proto.c):
 *
 *   env NAME=VALUE, cwd DIR, winsize ROWS COLS   as there
 *   clock TSC NS                                 when the time stamp counter was at TSC it was NS since 1970: a real-time clock
 *                                                tells whole seconds only, and files on the host would come from the future
 *   readonly DEV                                 this block device is not to be written
 *   share TAG ro|rw PATH                         mount this share at PATH of the guest
 *   submount PARENT TAG PATH                     the same at PATH of the share PARENT (or of the root, by its tag)
 */
#include "lol-init.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define FILE_NAME "/lol-setup"
#define READONLY_WAIT_MS 10000
#define READONLY_STEP_MS 5

static char *read_all(void)
{
	int fd = open(FILE_NAME, O_RDONLY | O_CLOEXEC);
	off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
	char *text = size > 0 ? calloc(1, (size_t)size + 1) : NULL;

	if (text && pread(fd, text, (size_t)size, 0) != size) {
		free(text);
		text = NULL;
	}
	if (fd >= 0)
		close(fd);
	return text;
}

/* The words of a line, decoded; returns how many, at most max. */
static int split(char *line, char **word, int max)
{
	char *state = NULL;
	int n = 0;

	for (char *w = strtok_r(line, " ", &state); w && n < max; w = strtok_r(NULL, " ", &state))
		if (text_decode(w))
			word[n++] = w;
	return n;
}

/* The kernel may still be looking for it, and must not find it writable. */
static void set_readonly(char *text)
{
	char *word[1];
	bool named = split(text, word, 1) == 1;
	int fd = -1;

	for (int ms = READONLY_WAIT_MS; named && fd < 0 && ms > 0; ms -= READONLY_STEP_MS) {
		fd = open(word[0], O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			nanosleep(&(struct timespec){.tv_nsec = READONLY_STEP_MS * 1000000l}, NULL);
	}
	if (fd >= 0) {
		ioctl(fd, BLKROSET, &(int){1});
		close(fd);
	}
}

static uint64_t now_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* The counter is the host's own, so it tells what time has passed since lol-run looked at both. */
static void set_clock(char *text)
{
	char *word[2];

	if (split(text, word, 2) != 2)
		return;
	uint64_t tsc = strtoull(word[0], NULL, 10), ns = strtoull(word[1], NULL, 10);
	uint64_t tsc0 = __builtin_ia32_rdtsc(), ns0 = now_ns(CLOCK_MONOTONIC_RAW), ns1;
	do
		ns1 = now_ns(CLOCK_MONOTONIC_RAW);
	while (ns1 - ns0 < 300000);
	uint64_t tsc1 = __builtin_ia32_rdtsc();
	if (tsc1 <= tsc0 || tsc1 < tsc)
		return;
	ns += (uint64_t)((unsigned __int128)(tsc1 - tsc) * (ns1 - ns0) / (tsc1 - tsc0));
	clock_settime(CLOCK_REALTIME, &(struct timespec){(time_t)(ns / 1000000000), (long)(ns % 1000000000)});
}

static struct share *make_share(const char *verb, char *text)
{
	char *word[3];

	if (split(text, word, 3) != 3)
		return NULL;
	struct share *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	if (strcmp(verb, "submount") == 0)
		*s = (struct share){.parent = word[0], .tag = word[1], .path = word[2]};
	else
		*s = (struct share){.tag = word[0], .ro = strcmp(word[1], "ro") == 0, .path = word[2]};
	return s;
}

struct share *setup_read(struct job *job)
{
	struct share *first = NULL, **end = &first;
	char *text = read_all(), *state = NULL;

	/* The text stays: the list points into it. */
	for (char *line = text ? strtok_r(text, "\n", &state) : NULL; line; line = strtok_r(NULL, "\n", &state)) {
		char *space = strchr(line, ' ');

		if (!space)
			continue;
		*space = '\0';
		if (strcmp(line, "share") == 0 || strcmp(line, "submount") == 0) {
			*end = make_share(line, space + 1);
			if (*end)
				end = &(*end)->next;
		} else if (strcmp(line, "readonly") == 0) {
			set_readonly(space + 1);
		} else if (strcmp(line, "clock") == 0) {
			set_clock(space + 1);
		} else {
			job_item(job, line, space + 1);
		}
	}
	return first;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What K and the zygote write to their standard error, a pipe to us, goes on to ours: bounded and printable, since a guest
 * kernel that has taken K over can write there what it likes, for ever.
 */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "machine_int.h"

#define MESSAGES_MAX 262144u /* bytes in all */

static bool take(struct machine *m)
{
	char text[4096];
	ssize_t n = read(m->spawn.messages, text, sizeof(text));

	if (n <= 0)
		return n < 0 && errno == EINTR;
	for (ssize_t i = 0; i < n && m->messages < MESSAGES_MAX; i++) {
		if ((text[i] < ' ' || text[i] > '~') && text[i] != '\n' && text[i] != '\t')
			text[i] = '?';
		fputc(text[i], stderr);
		if (++m->messages == MESSAGES_MAX)
			fprintf(stderr,
				"\nlol-run: the process of the guest kernel says more than %u KiB: the rest is dropped\n",
				MESSAGES_MAX / 1024);
	}
	fflush(stderr);
	return true;
}

static void on_messages(void *arg, uint32_t events)
{
	struct machine *m = arg;

	(void)events;
	if (!take(m) && errno != EAGAIN)
		loop_del_fd(m->loop, m->spawn.messages); /* all of them have ended */
}

int messages_start(struct machine *m)
{
	return loop_add_fd(m->loop, m->spawn.messages, EPOLLIN, on_messages, m);
}

void messages_end(struct machine *m)
{
	if (m->spawn.messages < 0)
		return;
	while (take(m))
		;
	if (m->loop)
		loop_del_fd(m->loop, m->spawn.messages);
	close(m->spawn.messages);
	m->spawn.messages = -1;
}

// SPDX-License-Identifier: BSD-2-Clause
/* Keys of the kernel's command line, /proc/cmdline, quoted as the kernel takes them: key="a b". */
#include "lol-init.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static const char *cmdline(void)
{
	static char text[4097];
	static bool have;

	if (have)
		return text;
	have = true;
	int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return text;
	ssize_t n = read(fd, text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	close(fd);
	return text;
}

/* Copy the next word of *at to word, quotes taken away; false at the end. */
static bool next_word(const char **at, char *word, size_t size)
{
	const char *s = *at;
	bool quoted = false;
	size_t n = 0;

	while (*s == ' ' || *s == '\n' || *s == '\t')
		s++;
	if (!*s)
		return false;
	for (; *s && (quoted || (*s != ' ' && *s != '\n' && *s != '\t')); s++) {
		if (*s == '"')
			quoted = !quoted;
		else if (n < size - 1)
			word[n++] = *s;
	}
	word[n] = '\0';
	*at = s;
	return true;
}

const char *cmdline_get(const char *key)
{
	const char *at = cmdline(), *value = NULL;
	size_t len = strlen(key);
	char word[1024];

	while (next_word(&at, word, sizeof(word))) {
		if (strcmp(word, "--") == 0)
			break; /* the rest is init's arguments */
		if (strncmp(word, key, len) != 0)
			continue;
		if (word[len] == '=')
			value = strdup(word + len + 1);
		else if (word[len] == '\0')
			value = "";
	}
	return value;
}

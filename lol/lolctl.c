/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lolctl: talk to running VMs through their control sockets (lol-control(7)).
 *
 * lolctl.c          the command line, one request and its answer
 * lolctl_ls.c       ls
 * lolctl_watch.c    stats --watch
 * lolctl_console.c  console
 */
#include "lolctl.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "config.h"
#include "control.h"
#include "control_dir.h"
#include "control_words.h"
#include "drop_root.h"
#include "options.h"

#define ANSWER_MAX (4u << 20) /* bytes */
#define STOP_SECONDS 60

/* ---- one request ---- */

static int send_all(int fd, const char *bytes, size_t len)
{
	while (len) {
		ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		bytes += n;
		len -= (size_t)n;
	}
	return 0;
}

/* One line into a buffer that grows; nothing behind it is taken. */
static char *read_line(int fd, int timeout_ms, struct lol_error *err)
{
	size_t len = 0, size = 0;
	char *line = NULL;

	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		if (len == size) {
			char *more = size < ANSWER_MAX ? realloc(line, size + 65536) : NULL;
			if (!more)
				break;
			line = more;
			size += 65536;
		}
		int ready = poll(&p, 1, timeout_ms);
		if (ready < 0 && errno == EINTR)
			continue;
		if (ready == 0) {
			lol_error(err, -ETIMEDOUT, "no answer after %d s; is it stopped or very busy?",
				  timeout_ms / 1000);
			free(line);
			return NULL;
		}
		ssize_t n = recv(fd, line + len, size - len, MSG_PEEK);
		if (n <= 0)
			break;
		char *end = memchr(line + len, '\n', (size_t)n);
		size_t take = end ? (size_t)(end - line) - len + 1 : (size_t)n;
		n = recv(fd, line + len, take, 0);
		if (n <= 0)
			break;
		len += (size_t)n;
		if (end) {
			line[len - 1] = 0;
			return line;
		}
	}
	lol_error(err, -EPIPE, "the VM has ended; 'lolctl ls' lists those that run");
	free(line);
	return NULL;
}

json_t *lolctl_ask(int fd, const json_t *request, int timeout_ms, struct lol_error *err)
{
	char *text = json_dumps(request, JSON_COMPACT), *line = NULL;
	json_t *answer = NULL;
	json_error_t error;

	if (!text || asprintf(&line, "%s\n", text) < 0)
		line = NULL;
	free(text);
	if (!line || send_all(fd, line, strlen(line))) { /* in one piece: who reads once has all of it */
		free(line);
		lol_error(err, -EPIPE, "the VM has ended; 'lolctl ls' lists those that run");
		return NULL;
	}
	free(line);
	line = read_line(fd, timeout_ms, err);
	if (!line)
		return NULL;
	answer = json_loads(line, 0, &error);
	free(line);
	if (!json_is_object(answer)) {
		json_decref(answer);
		lol_error(err, -EPROTO, "its answer is no JSON object; is it a VM of another version?");
		return NULL;
	}
	return answer;
}

/* ---- the command line ---- */

struct call {
	const char *verb, *name;
	bool json, watch, force, shrink;
	unsigned seconds; /* stop: how long to wait */
	unsigned nwords;
	const char *words[6]; /* for control_request() */
};

static void print_help(FILE *out)
{
	fputs("Usage: lolctl COMMAND [NAME] [ARGUMENT] [OPTION]...\n"
	      "Talk to running virtual machines of lol-run; NAME is their --name, or the process ID of lol-run.\n"
	      "\n"
	      "  ls                    list them\n"
	      "  status NAME           what the VM is and does\n"
	      "  pause NAME            stop all virtual CPUs\n"
	      "  resume NAME           let them go on\n"
	      "  stop NAME             ask the guest to power off, and wait for that\n"
	      "  console NAME          attach to the console; Ctrl-A x detaches\n"
	      "  stats NAME            counters\n"
	      "  sysrq NAME KEY        the guest kernel's magic system request\n"
	      "  balloon NAME [SIZE]   memory that the guest is to use; without SIZE: that it uses\n"
	      "  disks NAME            the disks; one whose file has another size is resized in the guest\n"
	      "  resize NAME DISK SIZE another size for a disk: vda, or its file\n"
	      "  dump NAME FILE        a vmcore for crash and drgn\n"
	      "\n"
	      "      --force           stop: end the VM at once\n"
	      "      --shrink          resize: also to less, what is behind the new end is lost\n"
	      "      --timeout SECONDS stop: wait so long (default: 60)\n"
	      "      --json            ls, status, stats and others: the answer as JSON\n"
	      "      --watch           stats: again every second\n"
	      "      --version         print the version\n"
	      "      --help            print this help\n",
	      out);
}

/* The answer, or NULL after an error message; NAME stands in front of it. */
static json_t *call_vm(const struct call *call, const json_t *request, int timeout_ms, int *fd)
{
	struct lol_error err;
	json_t *answer;

	*fd = control_connect(call->name, &err);
	if (*fd < 0) {
		lol_fail(0, "%s", err.text);
		return NULL;
	}
	answer = lolctl_ask(*fd, request, timeout_ms, &err);
	if (!answer) {
		lol_fail(0, "%s: %s", call->name, err.text);
	} else if (!json_is_true(json_object_get(answer, "ok"))) {
		const char *why = json_string_value(json_object_get(answer, "error"));
		lol_fail(0, "%s: %s", call->name, why ? why : "refused");
		json_decref(answer);
		answer = NULL;
	}
	if (!answer)
		close(*fd);
	return answer;
}

/* The connection ends with the VM. Half of the patience over, ask once more: by other means, see lolctl(1). */
static int wait_for_end(const struct call *call, int fd)
{
	static const char again[] = "{\"do\":\"stop\"}\n";
	struct timespec now;
	bool asked = false;
	time_t half, end;
	char byte;

	clock_gettime(CLOCK_MONOTONIC, &now);
	half = now.tv_sec + (time_t)(call->seconds + 1) / 2;
	end = now.tv_sec + (time_t)call->seconds;
	for (;;) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (!asked && now.tv_sec >= half && now.tv_sec < end)
			asked = send_all(fd, again, sizeof(again) - 1) <= 0;
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int ready = now.tv_sec >= end ? 0 : poll(&p, 1, (int)MIN((long)(end - now.tv_sec) * 1000, 1000L));
		if (ready > 0 && recv(fd, &byte, 1, 0) <= 0)
			return LOL_EXIT_OK;
		if (ready == 0 && now.tv_sec >= end)
			return lol_fail(1, "%s: has not powered off after %u s; use --timeout, or --force", call->name,
					call->seconds);
	}
}

static int print_answer(const struct call *call, const json_t *answer)
{
	char *text = call->json ? json_dumps(answer, JSON_INDENT(2)) : control_text(call->verb, answer);

	if (text)
		fputs(text, stdout);
	if (call->json)
		fputc('\n', stdout);
	free(text);
	return fflush(stdout) || ferror(stdout)
		       ? lol_fail(1, "standard output: cannot be written; is it full or closed?")
		       : LOL_EXIT_OK;
}

static int run_call(struct call *call)
{
	static char path[PATH_MAX + 4096];
	struct lol_error err;
	json_t *request, *answer;
	char cwd[PATH_MAX];
	int fd, status;

	if (!strcmp(call->verb, "dump") && call->words[1] && call->words[1][0] != '/') { /* lol-run is elsewhere */
		if (!getcwd(cwd, sizeof(cwd)))
			return lol_fail(1, "dump: the current directory: %s; give a full path", strerror(errno));
		snprintf(path, sizeof(path), "%s/%s", cwd, call->words[1]);
		call->words[1] = path;
	}
	if (call->force)
		call->words[call->nwords++] = "--force";
	if (call->shrink)
		call->words[call->nwords++] = "--shrink";
	request = control_request(call->nwords, call->words, &err);
	if (!request)
		return lol_fail(LOL_EXIT_USAGE, "%s", err.text);
	if (call->watch) {
		status = lolctl_watch(call->name, request, call->json);
		json_decref(request);
		return status;
	}
	if (!strcmp(call->verb, "console"))
		json_object_set_new(request, "history", json_true());
	bool slow = !strcmp(call->verb, "dump") || !strcmp(call->verb, "pause") || !strcmp(call->verb, "resize");
	answer = call_vm(call, request, slow ? -1 : 10000, &fd);
	json_decref(request);
	if (!answer)
		return 1;
	if (!strcmp(call->verb, "console"))
		status = lolctl_console(call->name, fd);
	else if (!strcmp(call->verb, "stop") || !strcmp(call->verb, "quit"))
		status = wait_for_end(call, fd);
	else
		status = print_answer(call, answer);
	json_decref(answer);
	close(fd);
	return status;
}

static int wrong(const char *what, const char *why)
{
	return lol_fail(LOL_EXIT_USAGE, "%s: %s; 'lolctl --help' lists what there is", what, why);
}

/* Options may stand anywhere; -1: go on. */
static int take_option(struct call *call, const char *word, const char *next, int *used)
{
	struct lol_error err;

	if (!strcmp(word, "--json"))
		call->json = true;
	else if (!strcmp(word, "--watch"))
		call->watch = true;
	else if (!strcmp(word, "--force"))
		call->force = true;
	else if (!strcmp(word, "--shrink"))
		call->shrink = true;
	else if (!strcmp(word, "--timeout")) {
		if (!next || parse_number(next, 0, 86400, &call->seconds, &err))
			return lol_fail(LOL_EXIT_USAGE, "--timeout: %s",
					next ? err.text : "needs a number of seconds; give one");
		*used = 2;
	} else if (!strcmp(word, "--help")) {
		print_help(stdout);
		return fflush(stdout) || ferror(stdout) ? LOL_EXIT_USAGE : LOL_EXIT_OK;
	} else if (!strcmp(word, "--version")) {
		printf("lolctl (%s) %s\n", PACKAGE_NAME, PACKAGE_VERSION);
		return fflush(stdout) || ferror(stdout) ? LOL_EXIT_USAGE : LOL_EXIT_OK;
	} else {
		return wrong(word, "no such option");
	}
	return -1;
}

static int run(int argc, char **argv)
{
	struct call call = {.seconds = STOP_SECONDS};
	const char *operands[4];
	unsigned n = 0;
	bool only_operands = false;

	for (int i = 1, used; i < argc; i += used) {
		used = 1;
		if (!only_operands && !strcmp(argv[i], "--")) {
			only_operands = true;
		} else if (!only_operands && argv[i][0] == '-' && argv[i][1]) {
			int status = take_option(&call, argv[i], argv[i + 1], &used);
			if (status >= 0)
				return status;
		} else if (n == ARRAY_LEN(operands)) {
			return wrong(argv[i], "too many words");
		} else {
			operands[n++] = argv[i];
		}
	}
	if (!n)
		return wrong("lolctl", "no command");
	call.verb = operands[0];
	if (call.force && strcmp(call.verb, "stop"))
		return wrong("--force", "only for stop");
	if (call.shrink && strcmp(call.verb, "resize"))
		return wrong("--shrink", "only for resize");
	if (call.watch && strcmp(call.verb, "stats"))
		return wrong("--watch", "only for stats");
	if (!strcmp(call.verb, "ls"))
		return n == 1 ? lolctl_ls(call.json) : wrong(operands[1], "too many words");
	if (n < 2) {
		struct lol_error err;
		json_t *request = control_request(1, operands, &err);
		json_decref(request);
		if (!request && strstr(err.text, "no such command"))
			return wrong(call.verb, "no such command");
		return wrong(call.verb, "whose? A NAME is missing");
	}
	call.name = operands[1];
	call.words[call.nwords++] = operands[0];
	for (unsigned i = 2; i < n; i++)
		call.words[call.nwords++] = operands[i];
	return run_call(&call);
}

int main(int argc, char **argv)
{
	struct lol_error err;

	lol_program = "lolctl";
	signal(SIGPIPE, SIG_IGN);
	if (drop_root(&err)) /* VMs that root starts belong to that user too */
		return lol_fail(LOL_EXIT_USAGE, "%s", err.text);
	return run(argc, argv);
}

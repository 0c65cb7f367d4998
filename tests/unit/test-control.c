// SPDX-License-Identifier: BSD-2-Clause
/* The control socket's server against clients of all kinds, the words of the control prompt, and the directory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "control.h"
#include "control_dir.h"
#include "control_words.h"

/* ---- a server whose requests say what they got ---- */

static struct loop *loop;
static struct control *control;
static struct control_client *later; /* asked "later", unanswered */
static struct control_client *stream;
static unsigned asked, gone;
static char streamed[65536];
static size_t nstreamed, stream_takes;

static void request(void *ctx, struct control_client *c, const char *what, const json_t *args)
{
	assert_ptr_equal(ctx, &asked);
	asked++;
	if (!strcmp(what, "echo")) {
		control_answer(c, json_pack("{s:O}", "args", (json_t *)args));
	} else if (!strcmp(what, "later")) {
		later = c;
	} else if (!strcmp(what, "large")) {
		char *text = malloc(300001);
		memset(text, 'x', 300000);
		text[300000] = 0;
		control_answer(c, json_pack("{s:s}", "text", text));
		free(text);
	} else if (!strcmp(what, "stream")) {
		control_stream_begin(c);
		control_answer(c, NULL);
		control_stream_write(c, (const uint8_t *)"hello", 5);
		stream = c;
	} else {
		control_fail(c, "%s: no", what);
	}
}

static size_t stream_bytes(void *ctx, struct control_client *c, const uint8_t *bytes, size_t len)
{
	size_t n = MIN(len, stream_takes);

	(void)ctx;
	assert_ptr_equal(c, stream);
	memcpy(streamed + nstreamed, bytes, n);
	nstreamed += n;
	stream_takes -= n;
	return n;
}

static void on_gone(void *ctx, struct control_client *c)
{
	(void)ctx;
	gone++;
	if (c == later)
		later = NULL;
	if (c == stream)
		stream = NULL;
}

static void on_again(void *ctx, struct control_client *c)
{
	(void)ctx;
	stream = c;
}

static const struct control_ops ops = {request, stream_bytes, on_gone, on_again};

static int setup(void **state)
{
	(void)state;
	asked = gone = 0;
	nstreamed = 0;
	stream_takes = sizeof(streamed);
	later = stream = NULL;
	loop = loop_create();
	control = control_create(-1, &ops);
	return !loop || !control || control_set_loop(control, loop, &asked);
}

static int teardown(void **state)
{
	(void)state;
	control_destroy(control);
	loop_destroy(loop);
	return 0;
}

static void turn(void)
{
	for (int i = 0; i < 20; i++)
		loop_turn(loop, 0);
}

static int client(void)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	control_add_client(control, pair[0]);
	return pair[1];
}

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
	turn();
}

/* All that there is to read. */
static const char *heard(int fd)
{
	static char text[1 << 20];
	size_t len = 0;
	ssize_t n;

	turn();
	while ((n = recv(fd, text + len, sizeof(text) - 1 - len, 0)) > 0) {
		len += (size_t)n;
		turn();
	}
	text[len] = 0;
	return text;
}

static bool is_closed(int fd)
{
	char byte;

	turn();
	return recv(fd, &byte, 1, 0) == 0;
}

#define assert_has(text, piece) \
	do { \
		const char *has_ = text; \
		if (!strstr(has_, piece)) \
			fail_msg("'%.200s' lacks '%s'", has_, piece); \
	} while (0)

/* ---- lines ---- */

static void test_requests(void **state)
{
	int fd = client();

	(void)state;
	say(fd, "{\"do\":\"echo\",\"id\":7,\"key\":\"t\"}\n");
	const char *text = heard(fd);
	assert_has(text, "\"ok\":true");
	assert_has(text, "\"id\":7");
	assert_has(text, "\"key\":\"t\"");
	assert_int_equal(text[strlen(text) - 1], '\n');

	/* In pieces, with CR, with empty lines; several at once, answered in order. */
	say(fd, "{\"do\":");
	assert_string_equal(heard(fd), "");
	say(fd, "\"no\"}\r\n\n\r\n{\"do\":\"echo\",\"id\":[1]}\n{\"do\":\"x\",\"id\":\"z\"}\n");
	assert_string_equal(heard(fd), "{\"ok\":false,\"error\":\"no: no\"}\n"
				       "{\"args\":{\"do\":\"echo\",\"id\":[1]},\"ok\":true,\"id\":[1]}\n"
				       "{\"ok\":false,\"error\":\"x: no\",\"id\":\"z\"}\n");
	close(fd);
}

static void test_nonsense(void **state)
{
	static const char *const lines[] = {"hello\n",
					    "{\n",
					    "[]\n",
					    "17\n",
					    "\"do\"\n",
					    "{}\n",
					    "{\"do\":3}\n",
					    "{\"do\":null}\n",
					    "{\"do\":\"echo\",\"do\":\"echo\"}\n",
					    "{\"do\":\"\xff\"}\n",
					    "null\n",
					    "{\"do\":\"a\\u0000b\"}\n"};
	int fd = client();

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		say(fd, lines[i]);
		assert_has(heard(fd), "{\"ok\":false,\"error\":\"");
	}
	assert_int_equal(asked, 0);
	/* Deeper than any parser's stack. */
	char *deep = malloc(60001);
	memset(deep, '[', 60000);
	deep[60000] = 0;
	say(fd, deep);
	say(fd, "\n");
	assert_has(heard(fd), "\"ok\":false");
	free(deep);
	say(fd, "{\"do\":\"echo\"}\n");
	assert_has(heard(fd), "\"ok\":true");
	close(fd);
}

static void test_endless_line(void **state)
{
	char piece[4097];
	int fd = client();
	unsigned sent = 0;

	(void)state;
	memset(piece, 'x', 4096);
	piece[4096] = 0;
	while (sent < 4 * CONTROL_LINE_MAX && send(fd, piece, 4096, MSG_NOSIGNAL) > 0) {
		sent += 4096;
		turn();
	}
	assert_has(heard(fd), "longer than");
	assert_true(is_closed(fd));
	assert_true(sent <= 2 * CONTROL_LINE_MAX);
	close(fd);
}

/* ---- time ---- */

static void test_later(void **state)
{
	int fd = client();

	(void)state;
	say(fd, "{\"do\":\"later\",\"id\":1}\n{\"do\":\"echo\",\"id\":2}\n");
	assert_string_equal(heard(fd), "");
	assert_int_equal(asked, 1); /* the second one waits for the answer to the first */
	control_answer(later, NULL);
	assert_has(heard(fd), "{\"ok\":true,\"id\":1}\n{\"args\":");
	assert_int_equal(asked, 2);

	/* A client that leaves is not answered any more. */
	say(fd, "{\"do\":\"later\"}\n");
	assert_non_null(later);
	close(fd);
	turn();
	assert_null(later);
	assert_int_equal(gone, 1);

	/* One that only says that it has nothing more to ask is. */
	fd = client();
	say(fd, "{\"do\":\"later\"}\n");
	shutdown(fd, SHUT_WR);
	turn();
	control_fail(later, "no %d", 3);
	assert_string_equal(heard(fd), "{\"ok\":false,\"error\":\"no 3\"}\n");
	assert_true(is_closed(fd));
	close(fd);
}

static void test_fire_and_forget(void **state)
{
	int fd = client();

	(void)state;
	assert_true(send(fd, "{\"do\":\"echo\"}\n", 14, 0) == 14);
	close(fd);
	turn();
	assert_int_equal(asked, 1);
}

/* Somebody who asks and never reads is not asked for more, and nobody else notices. */
static void test_slow_reader(void **state)
{
	int fd = client(), other = client();
	unsigned sent = 0;

	(void)state;
	while (sent < 1000 && send(fd, "{\"do\":\"large\"}\n", 15, MSG_NOSIGNAL) == 15) {
		sent++;
		turn();
	}
	assert_true(asked < 50);
	say(other, "{\"do\":\"echo\"}\n");
	assert_has(heard(other), "\"ok\":true");
	close(fd);
	close(other);
	turn();
}

static void test_many(void **state)
{
	int fds[100];

	(void)state;
	for (int i = 0; i < 100; i++) {
		fds[i] = client();
		turn();
	}
	say(fds[99], "{\"do\":\"echo\"}\n");
	assert_has(heard(fds[99]), "\"ok\":true");
	assert_true(is_closed(fds[0]));
	assert_false(is_closed(fds[99 - (int)CONTROL_CLIENTS_MAX + 1]));
	for (int i = 0; i < 100; i++)
		close(fds[i]);
	/* All places taken by those who wait for something: a new one is refused. */
	for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		fds[i] = client();
		say(fds[i], "{\"do\":\"later\"}\n");
	}
	fds[99] = client();
	assert_has(heard(fds[99]), "too many connections");
	assert_true(is_closed(fds[99]));
	for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++)
		close(fds[i]);
	close(fds[99]);
	turn();
	assert_int_equal(gone, CONTROL_CLIENTS_MAX);
}

/* ---- streams ---- */

static void test_stream(void **state)
{
	int fd = client();

	(void)state;
	say(fd, "{\"do\":\"stream\"}\nabc\n{\"do\":");
	assert_string_equal(heard(fd), "{\"ok\":true}\nhello");
	assert_int_equal(nstreamed, 10);
	assert_memory_equal(streamed, "abc\n{\"do\":", 10);
	assert_int_equal(asked, 1);

	/* No room for input: it waits, and comes later. */
	stream_takes = 0;
	say(fd, "later");
	assert_int_equal(nstreamed, 10);
	stream_takes = 100;
	control_stream_resume(stream);
	assert_int_equal(nstreamed, 15);

	/* A reader that does not read misses something, and is told. */
	uint8_t block[65536];
	memset(block, 'y', sizeof(block));
	for (int i = 0; i < 100; i++)
		control_stream_write(stream, block, sizeof(block));
	size_t len = 0;
	bool told = false;
	for (const char *text; (text = heard(fd))[0];) {
		len += strlen(text);
		told |= strstr(text, " bytes were skipped]") != NULL;
	}
	assert_true(told);
	assert_true(len > CONTROL_OUT_MAX && len < 100 * sizeof(block));
	close(fd);
	turn();
	assert_null(stream);
	assert_int_equal(gone, 1);
}

/* The guest restarts: a new loop, the same clients. */
static void test_restart(void **state)
{
	int fd = client(), waiting = client(), attached = client();

	(void)state;
	say(waiting, "{\"do\":\"later\"}\n");
	say(attached, "{\"do\":\"stream\"}\n");
	assert_int_equal(control_set_loop(control, NULL, NULL), 0);
	assert_int_equal(gone, 2);
	loop_destroy(loop);
	loop = loop_create();
	assert_int_equal(send(fd, "{\"do\":\"echo\"}\n", 14, 0), 14);
	assert_int_equal(control_set_loop(control, loop, &asked), 0);
	assert_has(heard(fd), "\"ok\":true");
	assert_has(heard(waiting), "the guest has ended");
	assert_non_null(stream);
	control_stream_write(stream, (const uint8_t *)" again", 6);
	assert_has(heard(attached), "hello again");
	close(fd);
	close(waiting);
	close(attached);
	turn();
}

static void local_answer(void *arg, const json_t *answer)
{
	*(bool *)arg = json_is_true(json_object_get(answer, "ok"));
}

static void test_local(void **state)
{
	bool ok = false;
	struct control_client *c = control_local(local_answer, &ok);

	(void)state;
	assert_true(control_is_local(c));
	control_answer(c, NULL);
	assert_true(ok);
	control_fail(c, "no");
	assert_false(ok);
	control_local_free(c);
}

/* ---- words ---- */

static void words(const char *expected, unsigned n, const char *a, const char *b, const char *c)
{
	const char *const list[] = {a, b, c, "--shrink", "more"};
	struct lol_error err = {""};
	json_t *request = control_request(n, list, &err);
	char *text = request ? json_dumps(request, JSON_COMPACT | JSON_SORT_KEYS) : NULL;

	if (expected[0] == '{')
		assert_string_equal(text ? text : err.text, expected);
	else if (text)
		fail_msg("%s %s was taken: %s", a, b ? b : "", text);
	else
		assert_has(err.text, expected);
	free(text);
	json_decref(request);
}

static void test_words(void **state)
{
	(void)state;
	words("{\"do\":\"status\"}", 1, "status", NULL, NULL);
	words("{\"do\":\"stop\",\"force\":true}", 2, "stop", "--force", NULL);
	words("{\"do\":\"sysrq\",\"key\":\"t\"}", 2, "sysrq", "t", NULL);
	words("{\"do\":\"balloon\"}", 1, "balloon", NULL, NULL);
	words("{\"do\":\"balloon\",\"size\":536870912}", 2, "balloon", "512M", NULL);
	words("{\"do\":\"dump\",\"file\":\"/x/y z\"}", 2, "dump", "/x/y z", NULL);
	words("{\"disk\":\"vda\",\"do\":\"resize\",\"size\":2147483648}", 3, "resize", "vda", "2G");
	words("{\"disk\":\"vda\",\"do\":\"resize\",\"shrink\":true,\"size\":1048576}", 4, "resize", "vda", "1");
	words("no such command", 1, "staus", NULL, NULL);
	words("no such command", 0, NULL, NULL, NULL);
	words("takes less", 2, "status", "x", NULL);
	words("takes less", 3, "stop", "--force", "x");
	words("not --force", 2, "stop", "now", NULL);
	words("something is missing", 1, "sysrq", NULL, NULL);
	words("one character", 2, "sysrq", "tt", NULL);
	words("one character", 2, "sysrq", "\n", NULL);
	words("balloon 12X", 2, "balloon", "12X", NULL);
	words("UTF-8", 2, "dump", "\xff", NULL);
	words("UTF-8", 2, "dump", "", NULL);
	words("something is missing", 2, "resize", "vda", NULL);
	words("resize 2X", 3, "resize", "vda", "2X");
	words("UTF-8", 3, "resize", "\xff", "2G");
	words("takes less", 5, "resize", "vda", "2G");
}

static void test_text(void **state)
{
	json_t *answer = json_pack("{s:b, s:s, s:I, s:[s,s], s:f}", "ok", 1, "kernel", "a\x1b[31mb", "memory",
				   (json_int_t)1 << 30, "command", "x", "y", "uptime", 3661.5);
	char *text = control_text("status", answer);

	(void)state;
	assert_string_equal(text, "kernel\ta?[31mb\nmemory\t1 GiB\ncommand\tx y\nuptime\t01:01:01\n");
	free(text);
	text = control_text("pause", answer);
	assert_string_equal(text, "");
	free(text);
	json_decref(answer);
	answer = json_pack("{s:b, s:s}", "ok", 0, "error", "no\nway");
	text = control_text("pause", answer);
	assert_string_equal(text, "no?way\n");
	free(text);
	json_decref(answer);
}

/* ---- the directory ---- */

static void test_directory(void **state)
{
	char dir[] = "/tmp/test-control.XXXXXX", path[256], lol[256];
	struct control_place one, two;
	struct lol_error err;

	(void)state;
	assert_non_null(mkdtemp(dir));
	setenv("XDG_RUNTIME_DIR", dir, 1);
	assert_int_equal(control_listen("vm", &one, &err), 0);
	snprintf(lol, sizeof(lol), "%s/lol", dir);
	snprintf(path, sizeof(path), "%s/lol/vm.sock", dir);
	struct stat st;
	assert_int_equal(lstat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);

	/* Taken; found; gone. */
	assert_int_equal(control_listen("vm", &two, &err), -EADDRINUSE);
	int fd = control_connect("vm", &err);
	assert_true(fd >= 0);
	close(fd);
	char **names = control_names(&err);
	assert_string_equal(names[0], "vm");
	assert_null(names[1]);
	control_free_names(names);
	control_unlisten(&one);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(control_connect("vm", &err), -ENOENT);
	assert_int_equal(control_connect("../vm", &err), -ENOENT);
	assert_int_equal(control_connect("", &err), -ENOENT);

	/* What a killed VM leaves counts as nothing. */
	assert_int_equal(control_listen("vm", &one, &err), 0);
	close(one.fd);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(control_connect("vm", &err), -ENOENT);
	assert_int_equal(access(path, F_OK), -1);
	usleep(20000); /* inode numbers are used again; the time tells */
	assert_int_equal(control_listen("vm", &two, &err), 0);
	one.fd = open("/dev/null", O_RDONLY);
	control_unlisten(&one); /* is not ours any more: stays */
	assert_int_equal(access(path, F_OK), 0);
	control_unlisten(&two);

	/* A VM that is about to listen is waited for: it has the lock. */
	int begun[2];
	char byte;
	assert_int_equal(pipe(begun), 0);
	pid_t child = fork();
	if (child == 0) {
		struct sockaddr_un un = {.sun_family = AF_UNIX};
		int lock = open(lol, O_RDONLY), s = socket(AF_UNIX, SOCK_STREAM, 0);
		snprintf(un.sun_path, sizeof(un.sun_path), "%.107s", path);
		if (flock(lock, LOCK_EX) || bind(s, (struct sockaddr *)&un, sizeof(un)) || write(begun[1], "b", 1) != 1)
			_exit(1);
		usleep(200000);
		_exit(listen(s, 1) || flock(lock, LOCK_UN) || accept(s, NULL, NULL) < 0);
	}
	assert_int_equal(read(begun[0], &byte, 1), 1);
	fd = control_connect("vm", &err);
	assert_true(fd >= 0);
	int ended;
	assert_int_equal(waitpid(child, &ended, 0), child);
	assert_int_equal(ended, 0);
	close(fd);
	close(begun[0]);
	close(begun[1]);
	unlink(path);

	/* Something else in its place is left alone. */
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	assert_int_equal(control_listen("vm", &one, &err), -EADDRINUSE);
	unlink(path);

	/* Too long for a socket. */
	char name[65];
	memset(name, 'n', 64);
	name[64] = 0;
	char deep[256];
	snprintf(deep, sizeof(deep), "%s/%s", dir, name);
	mkdir(deep, 0700);
	setenv("XDG_RUNTIME_DIR", deep, 1);
	assert_int_equal(control_listen(name, &one, &err), -ENAMETOOLONG);
	assert_has(err.text, "107");

	/* A directory that others can write to is not used. */
	chmod(deep, 0777);
	char *used = control_dir(&err);
	assert_true(!used || strncmp(used, deep, strlen(deep)));
	if (used)
		rmdir(used); /* unless somebody needs it */
	free(used);
	char command[300];
	snprintf(command, sizeof(command), "rm -r %s", dir);
	assert_int_equal(system(command), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_requests, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nonsense, setup, teardown),
		cmocka_unit_test_setup_teardown(test_endless_line, setup, teardown),
		cmocka_unit_test_setup_teardown(test_later, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fire_and_forget, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slow_reader, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stream, setup, teardown),
		cmocka_unit_test_setup_teardown(test_restart, setup, teardown),
		cmocka_unit_test(test_local),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_directory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

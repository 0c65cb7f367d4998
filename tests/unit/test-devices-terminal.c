/* SPDX-License-Identifier: BSD-2-Clause */
/* The terminal on a pty, on pipes and files, and outputs that are slow, full or gone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "outstream.h"
#include "terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static struct loop *loop;
static struct terminal *term;
static char input[1 << 20];
static size_t ninput, input_room;
static unsigned ends, changes, quits, commands, resizes;
static int last_signal;
static uint16_t last_rows, last_cols;

static size_t on_input(void *ctx, const uint8_t *bytes, size_t len)
{
	size_t n = MIN(len, input_room);
	(void)ctx;
	assert_true(ninput + n <= sizeof(input));
	memcpy(input + ninput, bytes, n);
	ninput += n;
	input_room -= n;
	return n;
}

static void on_end(void *ctx)
{
	(void)ctx;
	ends++;
}

static void on_changed(void *ctx)
{
	(void)ctx;
	changes++;
}

static void on_quit(void *ctx)
{
	(void)ctx;
	quits++;
}

static bool on_command(void *ctx, const char *line)
{
	(void)ctx;
	commands++;
	if (strcmp(line, "status"))
		return false;
	terminal_message(term, "all is well\n");
	return true;
}

static void on_resized(void *ctx, uint16_t rows, uint16_t cols)
{
	(void)ctx;
	resizes++;
	last_rows = rows;
	last_cols = cols;
}

static void on_signal(void *ctx, int signo)
{
	(void)ctx;
	last_signal = signo;
}

static const struct terminal_ops ops = {.input = on_input,
					.input_end = on_end,
					.output_changed = on_changed,
					.quit = on_quit,
					.command = on_command,
					.resized = on_resized,
					.signalled = on_signal};

static void start(int in, int out, bool raw)
{
	ninput = 0;
	input_room = SIZE_MAX;
	ends = changes = quits = commands = resizes = 0;
	last_signal = 0;
	loop = loop_create();
	struct terminal_config c = {.loop = loop, .in_fd = in, .out_fd = out, .raw = raw, .ops = &ops};
	term = terminal_create(&c);
	assert_non_null(term);
}

static void stop(void)
{
	terminal_destroy(term);
	loop_destroy(loop);
}

static void turn(int n)
{
	while (n--)
		loop_turn(loop, 20);
}

static void expect_input(const char *text, size_t len)
{
	turn(2);
	if (ninput != len || memcmp(input, text, len))
		fail_msg("input is '%.*s' (%zu), not '%s'", (int)ninput, input, ninput, text);
	ninput = 0;
}

/* ---- pipes and files ---- */

static void test_pipe(void **state)
{
	int in[2], out[2];
	(void)state;
	assert_int_equal(pipe(in) | pipe(out), 0);
	start(in[0], out[1], true);
	/* Binary clean: Ctrl-A is a byte like any other where there is no terminal. */
	assert_int_equal(write(in[1], "a\1x\0\377b", 6), 6);
	expect_input("a\1x\0\377b", 6);
	assert_int_equal(quits, 0);
	/* Back-pressure: only what fits is read from the pipe. */
	char block[16384];
	memset(block, 'z', sizeof(block));
	input_room = 10;
	assert_int_equal(write(in[1], block, sizeof(block)), sizeof(block));
	turn(3);
	assert_int_equal(ninput, 10);
	int left;
	ioctl(in[0], FIONREAD, &left);
	assert_in_range(left, 1, sizeof(block) - 11);
	input_room = SIZE_MAX;
	close(in[1]);
	turn(1);
	assert_int_equal(ends, 0);
	terminal_input_resume(term);
	turn(10);
	assert_int_equal(ninput, sizeof(block));
	assert_int_equal(ends, 1);
	assert_true(terminal_input_ended(term));
	uint16_t rows, cols;
	assert_false(terminal_size(term, &rows, &cols));
	/* The caller's descriptors were left in peace. */
	assert_false(fcntl(out[1], F_GETFL) & O_NONBLOCK);
	stop();
	close(in[0]);
	close(out[0]);
	close(out[1]);
}

static void test_file_and_null(void **state)
{
	(void)state;
	FILE *f = tmpfile(), *o = tmpfile();
	fputs("from a file", f);
	fflush(f);
	rewind(f);
	start(fileno(f), fileno(o), true);
	for (int i = 0; i < 10 && !ends; i++)
		loop_turn(loop, 20);
	assert_int_equal(ends, 1);
	expect_input("from a file", 11);
	assert_int_equal(terminal_write(term, (const uint8_t *)"to a file", 9), 9);
	assert_true(terminal_output_empty(term));
	stop();
	char text[16] = "";
	assert_int_equal(pread(fileno(o), text, sizeof(text), 0), 9);
	assert_string_equal(text, "to a file");
	fclose(f);
	fclose(o);
	int null = open("/dev/null", O_RDWR);
	start(null, null, true);
	turn(2);
	assert_int_equal(ends, 1);
	assert_int_equal(terminal_write(term, (const uint8_t *)"x", 1), 1);
	stop();
	close(null);
	start(-1, STDOUT_FILENO, true);
	assert_true(terminal_input_ended(term));
	stop();
}

/* A slow reader gets every byte, in order; the loop never waits for it. */
static void slow_reader(int reader, int writer)
{
	static uint8_t data[1 << 20];
	size_t sent = 0, got = 0;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 2654435761u >> 13);
	start(-1, writer, false);
	for (int rounds = 0; got < sizeof(data); rounds++) {
		size_t n =
			sent < sizeof(data) ? terminal_write(term, data + sent, MIN(sizeof(data) - sent, 30000ul)) : 0;
		sent += n;
		if (n && sent < sizeof(data))
			continue;
		uint8_t bytes[777];
		struct pollfd p = {.fd = reader, .events = POLLIN};
		while (poll(&p, 1, 0) == 1) {
			ssize_t r = read(reader, bytes, sizeof(bytes));
			assert_true(r > 0);
			assert_memory_equal(bytes, data + got, (size_t)r);
			got += (size_t)r;
		}
		loop_turn(loop, 5);
		assert_true(rounds < 5000);
	}
	assert_true(terminal_output_empty(term));
	assert_true(changes > 0);
	stop();
}

static void test_slow_readers(void **state)
{
	int p[2];
	(void)state;
	assert_int_equal(pipe(p), 0);
	slow_reader(p[0], p[1]);
	close(p[0]);
	close(p[1]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, p), 0);
	slow_reader(p[0], p[1]);
	close(p[0]);
	close(p[1]);
	struct termios raw;
	assert_int_equal(openpty(&p[0], &p[1], NULL, NULL, NULL), 0);
	tcgetattr(p[1], &raw);
	cfmakeraw(&raw);
	tcsetattr(p[1], TCSANOW, &raw);
	slow_reader(p[0], p[1]); /* as a user's terminal */
	slow_reader(p[1], p[0]); /* as the master of `--console pty` */
	close(p[0]);
	close(p[1]);
}

static void test_broken_pipe(void **state)
{
	int p[2];
	(void)state;
	assert_int_equal(pipe(p), 0);
	start(-1, p[1], false);
	uint8_t data[65536] = {0};
	while (terminal_write(term, data, sizeof(data)) == sizeof(data))
		;
	assert_false(terminal_output_empty(term));
	close(p[0]);
	turn(2);
	assert_int_equal(terminal_output_error(term), EPIPE);
	assert_true(terminal_output_empty(term));
	assert_int_equal(changes, 1);
	assert_int_equal(terminal_write(term, data, sizeof(data)), sizeof(data));
	turn(1);
	stop();
	close(p[1]);
	int full = open("/dev/full", O_WRONLY);
	start(-1, full, false);
	assert_int_equal(terminal_write(term, data, 5), 5);
	assert_int_equal(terminal_output_error(term), ENOSPC);
	stop();
	close(full);
}

/* ---- a terminal: in a child that has the pty as its controlling terminal ---- */

static int master, slave;

static void in_session(void (*body)(void))
{
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		setsid();
		assert_int_equal(openpty(&master, &slave, NULL, NULL, &(struct winsize){.ws_row = 24, .ws_col = 80}),
				 0);
		assert_int_equal(ioctl(slave, TIOCSCTTY, 0), 0);
		signal(SIGHUP, SIG_DFL);
		body();
		/* Not through cmocka: the child has failed by an abort, if it has. */
		fflush(NULL);
		_exit(0);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

#define CHECK(x) \
	do { \
		if (!(x)) { \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); \
			_exit(1); \
		} \
	} while (0)

static void type(const char *keys)
{
	CHECK(write(master, keys, strlen(keys)) == (ssize_t)strlen(keys));
	turn(2);
}

/* What the user sees since the last call. */
static const char *screen(void)
{
	static char text[65536];
	size_t n = 0;
	struct pollfd p = {.fd = master, .events = POLLIN};
	turn(1);
	while (poll(&p, 1, 20) == 1 && n < sizeof(text) - 1) {
		ssize_t r = read(master, text + n, sizeof(text) - 1 - n);
		if (r <= 0)
			break;
		n += (size_t)r;
	}
	text[n] = 0;
	return text;
}

static bool is_raw(void)
{
	struct termios t;
	CHECK(tcgetattr(slave, &t) == 0);
	return !(t.c_lflag & (ICANON | ISIG | ECHO)) && !(t.c_oflag & OPOST);
}

static void keys_body(void)
{
	start(slave, slave, true);
	CHECK(is_raw());
	type("ls\r\3\32");
	CHECK(ninput == 5 && !memcmp(input, "ls\r\3\32", 5));
	ninput = 0;
	type("\1\1a");
	CHECK(ninput == 2 && !memcmp(input, "\1a", 2));
	type("\1h");
	CHECK(strstr(screen(), "Ctrl-A x") && quits == 0);
	type("\1z"); /* nothing */
	CHECK(quits == 0);
	type("\1");
	type("x");
	CHECK(quits == 1);
	/* A guest that does not read: Ctrl-A x still works. */
	input_room = 0;
	for (int i = 0; i < 100; i++)
		type("0123456789012345678901234567890123456789012345678901234567890123456789");
	screen();
	type("\1x");
	CHECK(quits == 2);
	uint16_t rows, cols;
	CHECK(terminal_size(term, &rows, &cols) && rows == 24 && cols == 80);
	stop();
	CHECK(!is_raw());
}

static void prompt_body(void)
{
	start(slave, slave, true);
	type("\1c");
	CHECK(strstr(screen(), "(lol) "));
	/* Output of the guest waits meanwhile. */
	CHECK(terminal_write(term, (const uint8_t *)"guest", 5) == 0);
	type("stax\177tus\r");
	CHECK(commands == 1);
	CHECK(strstr(screen(), "\r\nall is well\r\n(lol) "));
	type("nonsense\r");
	CHECK(strstr(screen(), "no command 'nonsense': try help"));
	type("help\r");
	CHECK(strstr(screen(), "leave the prompt"));
	type("abc\25\r"); /* Ctrl-U */
	CHECK(commands == 3);
	unsigned before = changes;
	type("continue\r");
	CHECK(changes > before);
	CHECK(terminal_write(term, (const uint8_t *)"guest", 5) == 5);
	CHECK(strstr(screen(), "guest"));
	type("k");
	CHECK(ninput == 1 && input[0] == 'k');
	type("\1cquit\r");
	CHECK(quits == 1);
	stop();
}

static void signals_body(void)
{
	start(slave, slave, true);
	CHECK(is_raw());
	kill(getpid(), SIGTERM);
	turn(1);
	CHECK(last_signal == SIGTERM);
	ioctl(master, TIOCSWINSZ, &(struct winsize){.ws_row = 50, .ws_col = 132});
	turn(2);
	CHECK(resizes == 1 && last_rows == 50 && last_cols == 132);
	/* Stopped from outside and continued: cooked in between, raw again. */
	pid_t self = getpid(), helper = fork();
	if (helper == 0) {
		int status = 1;
		for (int i = 0; i < 300; i++) {
			char path[64], line[256] = "";
			snprintf(path, sizeof(path), "/proc/%d/stat", self);
			FILE *f = fopen(path, "r");
			bool stopped =
				f && fgets(line, sizeof(line), f) && strrchr(line, ')') && strrchr(line, ')')[2] == 'T';
			if (f)
				fclose(f);
			if (stopped) {
				status = is_raw();
				break;
			}
			usleep(10000);
		}
		kill(self, SIGCONT);
		_exit(status);
	}
	kill(self, SIGTSTP);
	turn(3);
	CHECK(is_raw());
	int status;
	CHECK(waitpid(helper, &status, 0) == helper && status == 0);
	/* The emergency exit. */
	terminal_restore();
	CHECK(!is_raw());
	stop();
}

static void hangup_body(void)
{
	signal(SIGHUP, SIG_IGN); /* as under nohup */
	start(slave, slave, true);
	close(master);
	turn(3);
	CHECK(ends == 1);
	CHECK(last_signal == 0);
	CHECK(terminal_write(term, (const uint8_t *)"x", 1) == 1);
	turn(1);
	stop();
}

/* LeakSanitizer asks this: a child that ends in the middle of things has nothing to tidy up. */
static bool leaks_wanted;
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
	return leaks_wanted;
}

static void exit_body(void)
{
	/* A child ends by exit() with the terminal raw. */
	pid_t pid = fork();
	if (pid == 0) {
		leaks_wanted = true;
		start(slave, slave, true);
		CHECK(is_raw());
		exit(0);
	}
	int status;
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(!is_raw());
}

static void test_keys(void **state)
{
	(void)state;
	in_session(keys_body);
}

static void test_prompt(void **state)
{
	(void)state;
	in_session(prompt_body);
}

static void test_signals(void **state)
{
	(void)state;
	in_session(signals_body);
}

static void test_hangup(void **state)
{
	(void)state;
	in_session(hangup_body);
}

static void test_exit(void **state)
{
	(void)state;
	in_session(exit_body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pipe),         cmocka_unit_test(test_file_and_null),
		cmocka_unit_test(test_slow_readers), cmocka_unit_test(test_broken_pipe),
		cmocka_unit_test(test_keys),         cmocka_unit_test(test_prompt),
		cmocka_unit_test(test_signals),      cmocka_unit_test(test_hangup),
		cmocka_unit_test(test_exit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

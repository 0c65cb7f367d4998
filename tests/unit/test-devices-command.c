/* SPDX-License-Identifier: BSD-2-Clause */
/* `-- COMMAND`: the host's side against an agent played by the test, over the queues of a virtio-console. */
#include "test-virtio-driver.h"
#include "command.h"

#include <fcntl.h>
#include <linux/virtio_console.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

enum { CTL = 1, IN, OUT, ERR };

static struct guest g;
static struct command *cmd;
static struct driver_queue rx[COMMAND_PORTS], tx[COMMAND_PORTS], ctl_rx, ctl_tx;
static char got[COMMAND_PORTS][1 << 20]; /* what the agent has read from a port */
static size_t ngot[COMMAND_PORTS];
static int host_open[COMMAND_PORTS]; /* as the agent was told */
static int in[2], out[2], errs[2];
static unsigned dones;
static int done_status;
static char done_error[256];

static void on_done(void *ctx, int status, const char *error)
{
	(void)ctx;
	dones++;
	done_status = status;
	snprintf(done_error, sizeof(done_error), "%s", error ? error : "(none)");
}

static void control(uint32_t port, uint16_t event, uint16_t value)
{
	struct virtio_console_control m = {.id = port, .event = event, .value = value};
	static gpa_t gpa;
	if (!gpa || gpa >= g.next)
		gpa = guest_alloc(&g, sizeof(m));
	memcpy(at(&g, gpa, sizeof(m)), &m, sizeof(m));
	queue_add(&ctl_tx, (struct buffer[]){{gpa, sizeof(m)}}, 1, 0);
	queue_kick(&ctl_tx);
	queue_wait(&ctl_tx);
}

static void offer(struct driver_queue *q, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		queue_add(q, (struct buffer[]){{guest_alloc(&g, 4096), 4096}}, 0, 1);
	queue_kick(q);
}

/* The agent's interrupt handler: take what has come, give the buffers back. */
static void agent_reads(void)
{
	struct vring_used_elem e;
	while (queue_used(&ctl_rx, &e)) {
		struct virtio_console_control m;
		memcpy(&m, at(&g, ctl_rx.desc[e.id].addr, sizeof(m)), sizeof(m));
		if (m.event == VIRTIO_CONSOLE_PORT_OPEN)
			host_open[m.id] = m.value;
		queue_publish(&ctl_rx, (uint16_t)e.id);
	}
	for (unsigned p = CTL; p <= ERR; p++) {
		bool any = false;
		while (queue_used(&rx[p], &e)) {
			assert_true(ngot[p] + e.len <= sizeof(got[p]));
			memcpy(got[p] + ngot[p], at(&g, rx[p].desc[e.id].addr, e.len), e.len);
			ngot[p] += e.len;
			queue_publish(&rx[p], (uint16_t)e.id);
			any = true;
		}
		if (any)
			queue_kick(&rx[p]);
	}
}

static void spin(int turns)
{
	while (turns--) {
		loop_turn(g.loop, 2);
		agent_reads();
	}
}

static void agent_boot(void)
{
	assert_true(driver_negotiate(&g, device_features(&g)));
	for (unsigned p = 0; p < COMMAND_PORTS; p++) {
		queue_start(&rx[p], &g, p ? 2 * p + 2 : 0, 16);
		queue_start(&tx[p], &g, p ? 2 * p + 3 : 1, 16);
	}
	queue_start(&ctl_rx, &g, 2, 32);
	queue_start(&ctl_tx, &g, 3, 32);
	driver_ok(&g);
	offer(&ctl_rx, 32);
	for (unsigned p = 0; p < COMMAND_PORTS; p++)
		offer(&rx[p], 16);
	control(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	for (unsigned p = 0; p < COMMAND_PORTS; p++)
		control(p, VIRTIO_CONSOLE_PORT_READY, 1);
	for (unsigned p = 0; p < COMMAND_PORTS; p++)
		control(p, VIRTIO_CONSOLE_PORT_OPEN, 1);
	spin(2);
}

static void agent_writes(unsigned port, const void *bytes, uint32_t len)
{
	gpa_t gpa = guest_alloc(&g, len);
	memcpy(at(&g, gpa, len), bytes, len);
	queue_add(&tx[port], (struct buffer[]){{gpa, len}}, 1, 0);
	queue_kick(&tx[port]);
}

static void agent_says(const char *line)
{
	agent_writes(CTL, line, (uint32_t)strlen(line));
}

static void start_with(char *const *argv, const char *const *env, const char *cwd)
{
	static const struct command_ops ops = {.done = on_done};
	char err[DEVICE_ERR];
	memset(ngot, 0, sizeof(ngot));
	memset(got, 0, sizeof(got));
	memset(host_open, 0xff, sizeof(host_open));
	dones = 0;
	guest_start(&g);
	assert_int_equal(pipe(in) | pipe(out) | pipe(errs), 0);
	struct command_config c = {.loop = g.loop,
				   .argv = argv,
				   .env = env,
				   .cwd = cwd,
				   .in_fd = in[0],
				   .out_fd = out[1],
				   .err_fd = errs[1],
				   .ops = &ops};
	cmd = command_create(&c, err);
	assert_non_null(cmd);
	struct console_port_config ports[COMMAND_PORTS] = {0};
	command_ports(cmd, ports);
	struct virtio_env venv = guest_env(&g);
	guest_plug(&g, virtio_console_create(&venv, ports, COMMAND_PORTS, err));
	command_set_console(cmd, g.dev);
}

static void start(void)
{
	start_with((char *[]){"cat", NULL}, NULL, NULL);
	agent_boot();
	agent_says("ready\n");
	spin(2);
}

static void stop(void)
{
	struct virtio_dev *dev = g.dev;
	command_set_console(cmd, NULL);
	g.dev = NULL;
	virtio_destroy(dev);
	command_destroy(cmd);
	guest_end(&g);
	for (int i = 0; i < 2; i++) {
		close(in[i]);
		close(out[i]);
		close(errs[i]);
	}
}

static size_t read_all(int fd, char *text, size_t size)
{
	size_t n = 0;
	struct pollfd p = {.fd = fd, .events = POLLIN};
	while (n < size && poll(&p, 1, 0) == 1) {
		ssize_t r = read(fd, text + n, size - n);
		if (r <= 0)
			break;
		n += (size_t)r;
	}
	return n;
}

static void expect_text(int fd, const char *text)
{
	char seen[4096];
	size_t n = read_all(fd, seen, sizeof(seen));
	if (n != strlen(text) || memcmp(seen, text, n))
		fail_msg("'%.*s', not '%s'", (int)n, seen, text);
}

static void test_job(void **state)
{
	(void)state;
	char *argv[] = {"/bin/echo", "a b", "100%", "", "t\xc3\xa4glich\n\x7f", NULL};
	const char *env[] = {"LANG=C.UTF-8", NULL};
	start_with(argv, env, "/some where");
	agent_boot();
	spin(2);
	assert_int_equal(ngot[CTL], 0);
	agent_says("rea");
	agent_says("dy\n");
	spin(2);
	const char *want =
		"arg /bin/echo\narg a%20b\narg 100%25\narg \narg t%C3%A4glich%0A%7F\nenv LANG=C.UTF-8\ncwd /some%20where\nrun\n";
	assert_string_equal(got[CTL], want);
	agent_says("ready\n"); /* once */
	spin(2);
	assert_int_equal(ngot[CTL], strlen(want));
	stop();
}

static void test_streams(void **state)
{
	(void)state;
	start();
	assert_int_equal(write(in[1], "in\0\1x\377", 6), 6);
	spin(3);
	assert_int_equal(ngot[IN], 6);
	assert_memory_equal(got[IN], "in\0\1x\377", 6);
	assert_int_equal(host_open[IN], 1);
	close(in[1]);
	in[1] = -1;
	spin(3);
	assert_int_equal(host_open[IN], 0);
	agent_writes(OUT, "to stdout\n", 10);
	agent_writes(ERR, "to stderr\n", 10);
	agent_says("exit 7\n");
	spin(3);
	expect_text(out[0], "to stdout\n");
	expect_text(errs[0], "to stderr\n");
	assert_int_equal(dones, 1);
	assert_int_equal(done_status, 7);
	assert_string_equal(done_error, "(none)");
	command_guest_stopped(cmd);
	assert_int_equal(dones, 1);
	stop();
}

/* A megabyte to a guest that takes its time, then the end of file behind it. */
static void test_long_input(void **state)
{
	static char data[300000];
	(void)state;
	start();
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 2654435761u >> 11);
	fcntl(in[1], F_SETFL, O_NONBLOCK);
	size_t sent = 0;
	for (int turns = 0; ngot[IN] < sizeof(data); turns++) {
		assert_true(turns < 10000);
		if (in[1] >= 0) {
			ssize_t n = write(in[1], data + sent, sizeof(data) - sent);
			if (n > 0)
				sent += (size_t)n;
			if (sent == sizeof(data)) {
				close(in[1]);
				in[1] = -1;
			}
		}
		loop_turn(g.loop, 0);
		if (turns % 3 == 0)
			agent_reads();
	}
	assert_memory_equal(got[IN], data, sizeof(data));
	spin(3);
	assert_int_equal(host_open[IN], 0);
	stop();
}

/* `exit` overtakes output that the host's reader has not taken: the end waits for it. */
static void test_slow_stdout(void **state)
{
	static char data[400000], seen[sizeof(data)];
	(void)state;
	start();
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 2654435761u >> 9);
	gpa_t gpa = guest_alloc(&g, sizeof(data));
	memcpy(at(&g, gpa, sizeof(data)), data, sizeof(data));
	for (unsigned i = 0; i < 8; i++)
		queue_add(&tx[OUT], (struct buffer[]){{gpa + i * 50000, 50000}}, 1, 0);
	/* Not even notified of: the exit alone must find it. */
	agent_says("exit 0\n");
	spin(5);
	assert_int_equal(dones, 0);
	/* The guest powers off and resets its devices. */
	reg_write(&g, VIRTIO_MMIO_STATUS, 0);
	memset(at(&g, gpa, sizeof(data)), 0, sizeof(data));
	spin(3);
	assert_int_equal(dones, 0);
	size_t n = 0;
	for (int turns = 0; !dones; turns++) {
		assert_true(turns < 1000);
		n += read_all(out[0], seen + n, 3000);
		loop_turn(g.loop, 0);
	}
	n += read_all(out[0], seen + n, sizeof(seen) - n);
	assert_int_equal(n, sizeof(data));
	assert_memory_equal(seen, data, sizeof(data));
	assert_int_equal(done_status, 0);
	stop();
}

struct late_reader {
	int fd;
	size_t bytes;
};

static void *read_late(void *arg)
{
	struct late_reader *r = arg;
	static char bytes[1 << 16];
	ssize_t n;
	usleep(50000);
	while ((n = read(r->fd, bytes, sizeof(bytes))) > 0)
		r->bytes += (size_t)n;
	return NULL;
}

/* The same when the guest is gone and the loop no longer runs. */
static void test_slow_reader_after_the_end(void **state)
{
	(void)state;
	start();
	gpa_t gpa = guest_alloc(&g, 400000);
	for (unsigned i = 0; i < 8; i++) {
		queue_add(&tx[OUT], (struct buffer[]){{gpa, 50000}}, 1, 0);
		queue_add(&tx[ERR], (struct buffer[]){{gpa, 40000}}, 1, 0);
	}
	agent_says("exit 9\n");
	spin(3);
	assert_int_equal(dones, 0);
	struct late_reader readers[2] = {{out[0], 0}, {errs[0], 0}};
	pthread_t threads[2];
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, read_late, &readers[i]), 0);
	command_guest_stopped(cmd);
	assert_int_equal(dones, 1);
	assert_int_equal(done_status, 9);
	close(out[1]);
	close(errs[1]);
	out[1] = errs[1] = -1;
	struct virtio_dev *dev = g.dev;
	g.dev = NULL;
	virtio_destroy(dev);
	command_destroy(cmd); /* closes the last descriptors of the pipes' writing ends */
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(readers[0].bytes, 400000);
	assert_int_equal(readers[1].bytes, 320000);
	guest_end(&g);
	close(in[0]);
	close(in[1]);
	close(out[0]);
	close(errs[0]);
}

static void test_stdout_reader_goes(void **state)
{
	static char data[50000];
	(void)state;
	start();
	close(out[0]);
	out[0] = -1;
	agent_writes(OUT, data, sizeof(data));
	agent_writes(OUT, data, sizeof(data));
	spin(3);
	assert_int_equal(host_open[OUT], 0);
	assert_int_equal(host_open[ERR], 1);
	agent_writes(OUT, data, sizeof(data)); /* nowhere, but taken */
	spin(2);
	assert_int_equal(tx[OUT].used->idx, 3);
	agent_says("exit 141\n");
	spin(2);
	assert_int_equal(done_status, 141);
	stop();
}

static void test_endings(void **state)
{
	(void)state;
	start();
	agent_says("error cannot%20start%1B[2Jit\n");
	spin(2);
	assert_int_equal(done_status, -1);
	assert_string_equal(done_error, "cannot start?[2Jit");
	stop();
	start();
	agent_writes(OUT, "last words", 10);
	command_guest_stopped(cmd);
	spin(1);
	assert_int_equal(dones, 1);
	assert_int_equal(done_status, -1);
	assert_string_equal(done_error, "(none)");
	expect_text(out[0], "last words");
	stop();
	/* The last line is in its queue, not notified of. */
	start();
	gpa_t gpa = guest_alloc(&g, 8);
	memcpy(at(&g, gpa, 8), "exit 33\n", 8);
	queue_add(&tx[CTL], (struct buffer[]){{gpa, 8}}, 1, 0);
	command_guest_stopped(cmd);
	assert_int_equal(done_status, 33);
	stop();
}

static void test_nonsense(void **state)
{
	(void)state;
	start();
	static char data[20000];
	memset(data, 'A', sizeof(data));
	agent_writes(CTL, data, sizeof(data));
	agent_says("\nexit 256\nexit -1\nexit 1000\nexit\nexit x\nexit 3 4\n\n\nexit 0x1\nEXIT 1\n%\nnews 1 2 3\n");
	spin(3);
	assert_int_equal(dones, 0);
	agent_says("exit 255\nexit 1\nerror x\n");
	spin(3);
	assert_int_equal(dones, 1);
	assert_int_equal(done_status, 255);
	stop();
}

static void test_signals(void **state)
{
	(void)state;
	start();
	size_t before = ngot[CTL];
	kill(getpid(), SIGINT);
	spin(3);
	assert_string_equal(got[CTL] + before, "signal 2\n");
	kill(getpid(), SIGINT); /* the second one is ours */
	int stopped = 0;
	for (int i = 0; i < 5 && !stopped; i++)
		stopped = loop_turn(g.loop, 2);
	assert_int_equal(stopped, 1);
	assert_int_equal(loop_run(g.loop), 128 + SIGINT);
	stop();
	/* Before COMMAND runs there is nobody to pass it on to. */
	start_with((char *[]){"cat", NULL}, NULL, NULL);
	kill(getpid(), SIGTERM);
	assert_int_equal(loop_run(g.loop), 128 + SIGTERM);
	stop();
}

static void test_input_ends_first(void **state)
{
	(void)state;
	start_with((char *[]){"cat", NULL}, NULL, NULL);
	close(in[1]);
	in[1] = -1;
	for (int i = 0; i < 3; i++)
		loop_turn(g.loop, 1);
	agent_boot();
	assert_int_equal(host_open[IN], 0);
	assert_int_equal(host_open[OUT], 1);
	stop();
}

int main(void)
{
	signal(SIGINT, SIG_DFL); /* a shell's background jobs ignore it */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_job),
		cmocka_unit_test(test_streams),
		cmocka_unit_test(test_long_input),
		cmocka_unit_test(test_slow_stdout),
		cmocka_unit_test(test_slow_reader_after_the_end),
		cmocka_unit_test(test_stdout_reader_goes),
		cmocka_unit_test(test_endings),
		cmocka_unit_test(test_nonsense),
		cmocka_unit_test(test_signals),
		cmocka_unit_test(test_input_ends_first),
	};
	device_report_to = quiet;
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the control socket and the control prompt can ask of a VM: one function a request (lol-control(7)).
 *
 * The socket belongs to the session, which lasts over restarts of the guest; what a request does, it does to the machine
 * of now. Whatever takes time is answered by a callback; a client that leaves meanwhile is forgotten (on_gone).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "control_words.h"
#include "machine_int.h"

/* ---- status, stats ---- */

static double seconds_since(const struct timespec *then)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (double)(now.tv_sec - then->tv_sec) + (double)(now.tv_nsec - then->tv_nsec) / 1e9;
}

/* Host memory behind guest RAM: a memfd's blocks. */
static json_int_t resident(const struct machine *m)
{
	struct stat st;

	return fstat(m->ram_fd, &st) ? 0 : (json_int_t)st.st_blocks * 512;
}

static const char *state(const struct machine *m)
{
	unsigned holders = m->parking.holders;

	return holders & PARK_PANIC  ? "panicked"
	       : holders & PARK_USER ? "paused"
	       : holders & PARK_GDB  ? "stopped in gdb"
	       : holders & PARK_DUMP ? "being dumped"
				     : "running";
}

static void do_status(struct machine *m, struct control_client *c, const json_t *args)
{
	const struct lol_options *o = m->opts;
	const char *pty = m->session->port ? console_port_pty(m->session->port) : NULL;
	int netns = m->session->netns.pid;
	json_t *command = o->command ? json_array() : NULL;

	(void)args;
	for (char **word = o->command; command && *word; word++) {
		json_t *text = json_string(*word);
		json_array_append_new(command, text ? text : json_string("?"));
	}
	control_answer(c,
		       json_pack("{s:s, s:I, s:s, s:s, s:I, s:I, s:I, s:f, s:I, s:s?, s:s, s:s*, s:b, s:o*, s:o*}",
				 "name", m->session->name, "pid", (json_int_t)getpid(), "version", PACKAGE_VERSION,
				 "state", state(m), "cpus", (json_int_t)m->ctl_cpus, "memory", (json_int_t)m->ram.size,
				 "resident", resident(m), "uptime", seconds_since(&m->session->started), "restarts",
				 (json_int_t)m->session->restarts, "kernel", o->kernel, "console",
				 console_kind_names[o->console.kind], "pty", pty, "isolated", m->spawn.isolated,
				 "netns", netns ? json_integer(netns) : NULL, "command", command));
}

static void do_stats(struct machine *m, struct control_client *c, const json_t *args)
{
	struct kstats s = stats_sum(m);
	json_t *counters = json_object();

	(void)args;
#define X(n) json_object_set_new(counters, #n, json_integer((json_int_t)s.n));
	KSTATS(X)
#undef X
	control_answer(c, json_pack("{s:f, s:I, s:o}", "uptime", seconds_since(&m->session->started), "resident",
				    resident(m), "counters", counters));
}

/* ---- pause, resume ---- */

/* Who waits for the guest to come to rest. */
static void on_paused(void *arg, int error)
{
	if (error == -ECANCELED)
		control_fail(arg, "pause: somebody has resumed the guest meanwhile");
	else if (error)
		control_fail(
			arg,
			"pause: the guest does not come to rest; it stays paused as far as it is, 'resume' lets it go on");
	else
		control_answer(arg, NULL);
}

static void do_pause(struct machine *m, struct control_client *c, const json_t *args)
{
	(void)args;
	park_hold(m, PARK_USER);
	if (park_when_at_rest(m, on_paused, c))
		control_fail(c, "pause: too many are waiting for that; try again");
}

static void do_resume(struct machine *m, struct control_client *c, const json_t *args)
{
	(void)args;
	park_release(m, PARK_USER);
	if (m->parking.holders)
		control_fail(c, "resume: the guest is %s; it goes on when that is over", state(m));
	else
		control_answer(c, NULL);
}

/* ---- stop, sysrq ---- */

bool machine_sysrq(struct machine *m, char key)
{
	uint32_t none = 0;

	if (power_ask(m->power, (uint8_t)key)) {
		machine_raise(m, POWER_LINE);
		return true;
	}
	if (!atomic_compare_exchange_strong(&m->ctl->uart_break, &none, (uint32_t)(uint8_t)key << 8 | 1))
		return false;
	machine_kick(m);
	return true;
}

static void do_sysrq(struct machine *m, struct control_client *c, const json_t *args)
{
	const char *key = json_string_value(json_object_get(args, "key"));

	if (!key || strlen(key) != 1 || key[0] <= ' ' || key[0] > '~')
		control_fail(c, "sysrq: \"key\" is not one printing character; give one, such as t");
	else if (!machine_sysrq(m, key[0]))
		control_fail(c, "sysrq: the guest has not taken the last one yet; try again");
	else
		control_answer(c, NULL);
}

#define STOP_TICK_NS 500000000ull

/*
 * Where the guest kernel has no power button, or nobody has heeded it: sync, remount read-only, power off. Each is only
 * begun by its request, so they come one after the other; the kernel says when the second is done.
 */
static void on_stop_tick(void *arg)
{
	struct machine *m = arg;

	m->stop_ticks++;
	if (m->stop_ticks == 1)
		machine_sysrq(m, 'u');
	if (m->stop_ticks >= 2 && (console_tail_has(m, "Emergency Remount complete") || m->stop_ticks >= 8)) {
		machine_sysrq(m, 'o');
		loop_mod_timer_ns(m->loop, m->stop_timer, 0, 0);
	}
}

static void begin_stop(struct machine *m)
{
	park_release(m, PARK_USER);
	if (m->command) {
		command_signal(m->command, SIGTERM);
	} else if (!m->stop_asked && power_ask(m->power, POWER_BUTTON)) {
		machine_raise(m, POWER_LINE);
	} else if (m->stop_timer < 0) {
		machine_sysrq(m, 's');
		m->stop_timer = loop_add_timer_ns(m->loop, STOP_TICK_NS, STOP_TICK_NS, on_stop_tick, m);
	} else {
		m->stop_ticks = 0;
		loop_mod_timer_ns(m->loop, m->stop_timer, STOP_TICK_NS, STOP_TICK_NS);
	}
	m->stop_asked = true;
}

static void do_stop(struct machine *m, struct control_client *c, const json_t *args)
{
	if (json_is_true(json_object_get(args, "force")))
		loop_stop(m->loop, RUN_STATUS);
	else
		begin_stop(m);
	control_answer(c, NULL);
}

static void do_quit(struct machine *m, struct control_client *c, const json_t *args)
{
	(void)args;
	loop_stop(m->loop, RUN_STATUS);
	control_answer(c, NULL);
}

/* ---- the console ---- */

static void do_console(struct machine *m, struct control_client *c, const json_t *args)
{
	if (control_is_local(c)) {
		control_fail(c, "console: this is the VM's terminal already; 'continue' goes back to it");
		return;
	}
	control_stream_begin(c);
	control_answer(c, NULL);
	console_watch(m, c, json_is_true(json_object_get(args, "history")));
}

/* ---- the rest ---- */

static json_t *balloon_answer(struct machine *m)
{
	struct balloon_info info;
	json_t *answer;

	virtio_balloon_info(m->balloon, &info);
	answer = json_pack("{s:I, s:I, s:I}", "size", info.used, "target", info.target, "returned", info.returned);
	if (info.stats.age_ns == UINT64_MAX)
		return answer;
	json_object_set_new(answer, "age", json_real((double)info.stats.age_ns / 1e9));
	if (info.stats.free != UINT64_MAX)
		json_object_set_new(answer, "free", json_integer((json_int_t)info.stats.free));
	if (info.stats.available != UINT64_MAX)
		json_object_set_new(answer, "available", json_integer((json_int_t)info.stats.available));
	return answer;
}

static void do_balloon(struct machine *m, struct control_client *c, const json_t *args)
{
	const json_t *size = json_object_get(args, "size");
	json_int_t bytes = json_integer_value(size);
	int ret = 0;

	if (!m->balloon) {
		control_fail(c, "balloon: this VM was started with --balloon off");
		return;
	}
	if (size)
		ret = bytes > 0 ? virtio_balloon_set_target(m->balloon, (uint64_t)bytes) : -ERANGE;
	if (ret == -ERANGE)
		control_fail(c, "balloon: the guest can use %llu to %llu MiB; give a size of these",
			     (unsigned long long)(MIN(BALLOON_GUEST_MIN, m->ram.size) >> 20),
			     (unsigned long long)(m->ram.size >> 20));
	else if (ret)
		control_fail(c, "balloon: the guest has no driver for it (yet); try again when it has booted");
	else
		control_answer(c, size ? NULL : balloon_answer(m));
	if (size && !ret && m->ahead)
		ram_ahead_hold(m->ahead, (uint64_t)bytes < m->ram.size);
}

static void do_disks(struct machine *m, struct control_client *c, const json_t *args)
{
	json_t *list = json_array();
	struct lol_error err;

	(void)args;
	if (disks_resize(m, &err)) {
		json_decref(list);
		control_fail(c, "%s", err.text);
		return;
	}
	for (unsigned i = 0; i < m->ndisks; i++) {
		const char *file = disk_file(&m->opts->disks[i]);
		json_array_append_new(list, json_pack("{s:s%, s:I}", "file", file, strlen(file), "size",
						      (json_int_t)disk_bytes(m, i)));
	}
	control_answer(c, json_pack("{s:o}", "disks", list));
}

static void do_resize(struct machine *m, struct control_client *c, const json_t *args)
{
	const char *name = json_string_value(json_object_get(args, "disk"));
	const json_t *size = json_object_get(args, "size");
	int disk = name ? disk_find(m, name) : -1;
	struct lol_error err;

	if (!json_is_integer(size) || json_integer_value(size) < 0)
		control_fail(c, "resize: \"size\" is not a number of bytes; give one");
	else if (disk < 0)
		control_fail(c, "resize: no disk %.600s; 'disks' lists them, or say vda for the first",
			     name ? name : "is named");
	else if (disk_resize(m, (unsigned)disk, (uint64_t)json_integer_value(size),
			     json_is_true(json_object_get(args, "shrink")), &err))
		control_fail(c, "%s", err.text);
	else
		control_answer(c, json_pack("{s:I}", "size", (json_int_t)disk_bytes(m, (unsigned)disk)));
}

static void on_dumped(void *arg, const char *error)
{
	if (error)
		control_fail(arg, "%s", error);
	else
		control_answer(arg, NULL);
}

static void do_dump(struct machine *m, struct control_client *c, const json_t *args)
{
	const char *file = json_string_value(json_object_get(args, "file"));
	struct lol_error err;

	if (!file || !*file)
		control_fail(c, "dump: \"file\" is not the name of a file; give one");
	else if (dump_begin(m, file, json_is_true(json_object_get(args, "raw")), on_dumped, c, &err))
		control_fail(c, "%s", err.text);
}

static const struct {
	const char *what;
	void (*fn)(struct machine *m, struct control_client *c, const json_t *args);
} requests[] = {
	{"status", do_status},   {"stats", do_stats}, {"pause", do_pause}, {"resume", do_resume},
	{"stop", do_stop},       {"quit", do_quit},   {"sysrq", do_sysrq}, {"console", do_console},
	{"balloon", do_balloon}, {"dump", do_dump},   {"disks", do_disks}, {"resize", do_resize},
};

static void on_request(void *ctx, struct control_client *c, const char *what, const json_t *args)
{
	for (size_t i = 0; i < ARRAY_LEN(requests); i++)
		if (!strcmp(requests[i].what, what)) {
			requests[i].fn(ctx, c, args);
			return;
		}
	control_fail(c, "%.40s: no such request; lol-control(7) lists them", what);
}

static size_t on_stream(void *ctx, struct control_client *c, const uint8_t *bytes, size_t len)
{
	(void)c;
	return console_input(ctx, bytes, len);
}

static void on_gone(void *ctx, struct control_client *c)
{
	park_forget(ctx, c);
	dump_forget(ctx, c);
	console_unwatch(ctx, c);
}

/* The guest has restarted under the eyes of a `lolctl console`. */
static void on_again(void *ctx, struct control_client *c)
{
	console_watch(ctx, c, false);
}

static const struct control_ops control_ops = {
	.request = on_request, .stream = on_stream, .gone = on_gone, .again = on_again};

/* ---- the control prompt ---- */

/* A request from the prompt; freed with its answer, or with the machine. */
struct asked {
	struct machine *m;
	struct control_client *c;
	int slot;
	char what[16];
};

static void on_local_answer(void *arg, const json_t *answer)
{
	struct asked *a = arg;
	char *text = control_text(a->what, answer);

	if (text && a->m->prompt)
		terminal_message(a->m->prompt, "%s", text);
	free(text);
	a->m->asked[a->slot] = NULL;
	control_local_free(a->c);
	free(a);
}

bool machine_prompt(struct machine *m, struct terminal *t, const char *line)
{
	char copy[256], *words[5], *save = NULL;
	struct lol_error err;
	unsigned n = 0;
	int slot = 0;

	if (!strcmp(line, "help")) {
		terminal_message(t, CONTROL_VERBS);
		return true;
	}
	snprintf(copy, sizeof(copy), "%s", line);
	for (char *word = strtok_r(copy, " \t", &save); word && n < ARRAY_LEN(words);
	     word = strtok_r(NULL, " \t", &save))
		words[n++] = word;
	json_t *request = control_request(n, (const char *const *)words, &err);
	if (!request) {
		if (n)
			terminal_message(t, "%s\n", err.text);
		return true;
	}
	while (slot < PROMPT_ASKED_MAX && m->asked[slot])
		slot++;
	struct asked *a = slot < PROMPT_ASKED_MAX ? calloc(1, sizeof(*a)) : NULL;
	if (a)
		a->c = control_local(on_local_answer, a);
	if (a && a->c) {
		m->prompt = t;
		a->m = m;
		a->slot = slot;
		snprintf(a->what, sizeof(a->what), "%s", words[0]);
		m->asked[slot] = a;
		on_request(m, a->c, words[0], request);
	} else {
		terminal_message(t, "too much is asked already\n");
		free(a);
	}
	json_decref(request);
	return true;
}

void machine_prompt_end(struct machine *m)
{
	for (int i = 0; i < PROMPT_ASKED_MAX; i++)
		if (m->asked[i]) {
			on_gone(m, m->asked[i]->c);
			control_local_free(m->asked[i]->c);
			free(m->asked[i]);
			m->asked[i] = NULL;
		}
}

/* ---- the session ---- */

int session_create(struct session *s, const struct lol_options *opts, const struct console_end_ops *console,
		   struct lol_error *err)
{
	char pid[32];

	*s = (struct session){.place = {.fd = -1}};
	clock_gettime(CLOCK_BOOTTIME, &s->started);
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	snprintf(s->name, sizeof(s->name), "%s", opts->name ? opts->name : pid);
	int ret = control_listen(s->name, &s->place, err);
	if (ret && opts->name)
		return ret;
	if (ret && opts->verbosity >= 0)
		lol_fail(0, "%s (lolctl will not find this VM)", err->text);
	s->control = control_create(s->place.fd, &control_ops);
	if (!s->control)
		return lol_error(err, -ENOMEM, "control socket: out of memory; end other programs");
	if (opts->console.kind != CONSOLE_STDIO)
		s->port = console_port_create(&opts->console, s->place.link, console, err);
	return opts->console.kind == CONSOLE_STDIO || s->port ? 0 : -EINVAL;
}

void session_destroy(struct session *s)
{
	control_destroy(s->control);
	console_port_destroy(s->port);
	control_unlisten(&s->place);
	disks_forget(s);
	netns_stop(&s->netns);
}

/* SPDX-License-Identifier: BSD-2-Clause */
#include "gdb/server.h"

#include <arpa/inet.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "gdb/server_int.h"

#define OUT_MAX (64u << 20) /* bytes that wait for a client that does not read */

/* ---- the target behind a session ---- */

struct vcpu_state *server_state(struct gdb_server *g, unsigned cpu)
{
	struct park *p = &g->m->ctl->park[cpu];

	return cpu < g->m->ctl_cpus && atomic_load(&p->started) && atomic_load(&p->at_rest) ? &p->state : NULL;
}

gpa_t server_cr3(struct gdb_server *g, unsigned cpu)
{
	const struct vcpu_state *s = server_state(g, cpu);
	return s ? s->cr3 : g->mem.boot.init_top_pgt;
}

static struct vcpu_state *target_state(void *ctx, unsigned cpu)
{
	return server_state(ctx, cpu);
}

static void target_changed(void *ctx, unsigned cpu, uint32_t what)
{
	struct gdb_server *g = ctx;
	atomic_fetch_or(&g->m->ctl->park[cpu].changed, what);
}

static bool target_read(void *ctx, unsigned cpu, bool physical, uint64_t addr, void *buf, size_t n)
{
	struct gdb_server *g = ctx;
	gpa_t cr3 = server_cr3(g, cpu);

	if (physical ? !gmem_read_physical(&g->mem, addr, buf, n) : !gmem_read(&g->mem, cr3, addr, buf, n))
		return false;
	points_show(g, cr3, physical, addr, buf, n);
	return true;
}

static bool target_write(void *ctx, unsigned cpu, bool physical, uint64_t addr, const void *buf, size_t n)
{
	struct gdb_server *g = ctx;
	gpa_t cr3 = server_cr3(g, cpu);

	if (physical ? !gmem_write_physical(&g->mem, addr, buf, n) : !gmem_write(&g->mem, cr3, addr, buf, n))
		return false;
	points_keep(g, cr3, physical, addr, n);
	return true;
}

static const char *target_describe(void *ctx, unsigned cpu)
{
	const struct vcpu_state *s = server_state(ctx, cpu);
	return !s ? "not started" : s->cpl ? "user" : "kernel";
}

/* ---- stopping ---- */

static void report_hard(struct gdb_server *g, unsigned cpu, const struct hard_point *p)
{
	static const enum gdb_why why[] = {[POINT_HARDWARE] = WHY_HARDWARE,
					   [POINT_WRITE] = WHY_WATCH_WRITE,
					   [POINT_READ] = WHY_WATCH_READ,
					   [POINT_ACCESS] = WHY_WATCH_ACCESS};

	gdb_session_stopped(g->session, cpu, why[p->kind], p->addr);
}

static void report(struct gdb_server *g, unsigned cpu)
{
	struct park *p = &g->m->ctl->park[cpu];
	int hit = -1;

	g->unreported[cpu] = false;
	switch (p->reason) {
	case PARK_WATCH:
	case PARK_STEPPED:
		if (g->hw_set)
			hit = hw_hit(g, cpu);
		if (hit < 0)
			gdb_session_stopped(g->session, cpu, WHY_STEPPED, 0);
		else
			report_hard(g, cpu, &g->hard[hit]);
		break;
	case PARK_USER_WATCH:
		for (unsigned i = 0; i < ARRAY_LEN(g->hard) && hit < 0; i++)
			if (g->hard[i].used && g->hard[i].addr == p->addr)
				hit = (int)i;
		if (hit < 0)
			gdb_session_stopped(g->session, cpu, WHY_STEPPED, 0);
		else
			report_hard(g, cpu, &g->hard[hit]);
		break;
	case PARK_BREAK:
		gdb_session_stopped(g->session, cpu, WHY_BREAKPOINT, p->addr);
		break;
	default:
		gdb_session_stopped(g->session, cpu, WHY_ASKED, 0);
	}
}

static void flush(struct gdb_server *g);

static void on_rest(void *arg, int error)
{
	struct gdb_server *g = arg;
	int best = -1;

	if (!g->session)
		return;
	if (error) { /* K is stuck in something, or hostile: ask again, the user can still end the VM */
		fprintf(stderr, "lol-run: gdb: the guest does not come to rest; waiting on\n");
		machine_kick(g->m);
		park_when_at_rest(g->m, on_rest, g);
		return;
	}
	for (unsigned i = 0; i < g->target.ncpus; i++) {
		struct park *p = &g->m->ctl->park[i];
		g->unreported[i] = atomic_load(&p->at_rest) && p->reason != PARK_ASKED;
		if (g->unreported[i] && g->went >> i & 1 && (best < 0 || p->reason > g->m->ctl->park[best].reason))
			best = (int)i;
	}
	report(g, best >= 0 ? (unsigned)best : server_state(g, g->session->cpu) ? g->session->cpu : 0);
	flush(g);
}

static void target_stop(void *ctx)
{
	struct gdb_server *g = ctx;

	park_hold(g->m, PARK_GDB);
	park_when_at_rest(g->m, on_rest, g);
}

void gdb_panicked(struct machine *m)
{
	struct gdb_server *g = m->gdb;

	if (!g || !g->session || !g->session->running)
		return;
	g->session->cpu = m->panicked_cpu;
	target_stop(g);
}

void gdb_doorbell(struct machine *m)
{
	struct gdb_server *g = m->gdb;

	if (!g || m->parking.holders & PARK_GDB)
		return;
	for (unsigned i = 0; i < m->ctl_cpus; i++) {
		struct park *p = &m->ctl->park[i];
		if (!atomic_load(&p->at_rest) || p->reason == PARK_ASKED || m->parking.stay >> i & 1)
			continue;
		if (g->session)
			target_stop(g);
		else
			park_wake(m, i); /* a breakpoint that has just been removed */
		return;
	}
}

static void on_again(void *arg)
{
	struct gdb_server *g = arg;

	for (unsigned i = 0; i < g->target.ncpus; i++) {
		if (!g->unreported[i])
			continue;
		report(g, i);
		flush(g);
		return;
	}
}

static void target_go(void *ctx, const enum gdb_go *how, const struct gdb_range *range)
{
	struct gdb_server *g = ctx;
	struct machine *m = g->m;
	uint64_t stay = 0;

	if (m->parking.holders & PARK_PANIC) { /* it never goes on, and gdb is not to wait for that */
		target_stop(g);
		return;
	}
	/* What another vCPU has met at the same time comes first. */
	for (unsigned i = 0; i < g->target.ncpus; i++) {
		const struct vcpu_state *s = server_state(g, i);
		if (!g->unreported[i] || how[i] == GO_STAY)
			continue;
		if (s && how[i] != GO_STAY && m->ctl->park[i].reason == PARK_BREAK && s->rip == m->ctl->park[i].addr &&
		    points_at(g, s->rip)) {
			loop_mod_timer_ns(m->loop, g->again, 1, 0);
			return;
		}
		g->unreported[i] = false;
	}
	for (unsigned i = 0; i < g->target.ncpus; i++) {
		m->ctl->park[i].go = how[i] == GO_STEP ? PARK_GO_STEP : PARK_GO_ON;
		/* A watchpoint that a step hits is seen here only, so each step ends here then. */
		m->ctl->park[i].range[0] = g->hw_set ? 0 : range[i].start;
		m->ctl->park[i].range[1] = g->hw_set ? 0 : range[i].end;
		if (!g->unreported[i]) /* said; one that stays must not say it again */
			m->ctl->park[i].reason = PARK_ASKED;
		stay |= how[i] == GO_STAY ? 1ull << i : 0;
	}
	m->parking.stay = stay;
	g->went = ~stay;
	park_release(m, PARK_GDB);
}

/* ---- the client ---- */

static void drop_client(struct gdb_server *g)
{
	struct machine *m = g->m;

	park_forget(m, g);
	loop_mod_timer_ns(m->loop, g->again, 0, 0);
	if (g->session)
		points_remove_all(g);
	gdb_session_destroy(g->session);
	g->session = NULL;
	loop_del_fd(m->loop, g->client_fd);
	close(g->client_fd);
	g->client_fd = -1;
	m->parking.stay = 0;
	for (unsigned i = 0; i < g->target.ncpus; i++)
		m->ctl->park[i].go = PARK_GO_ON;
	park_release(m, PARK_GDB);
	park_wake_all(m);
}

/* The last breakpoints can be taken out only while the guest rests. */
static void on_rest_for_leave(void *arg, int error)
{
	(void)error;
	drop_client(arg);
}

static void leave(struct gdb_server *g)
{
	park_forget(g->m, g);
	loop_mod_fd(g->m->loop, g->client_fd, 0);
	park_hold(g->m, PARK_GDB);
	park_when_at_rest(g->m, on_rest_for_leave, g);
}

static void target_detach(void *ctx)
{
	(void)ctx; /* the session is over, which flush() sees */
}

static void target_end(void *ctx)
{
	struct gdb_server *g = ctx;
	loop_stop(g->m->loop, RUN_POWEROFF);
}

static void flush(struct gdb_server *g)
{
	struct gdb_out *o = &g->session->out;

	while (g->sent < o->len) {
		ssize_t n = send(g->client_fd, o->data + g->sent, o->len - g->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN && o->len - g->sent < OUT_MAX) {
			loop_mod_fd(g->m->loop, g->client_fd,
				    EPOLLOUT); /* no more questions until the answers are gone */
			return;
		}
		if (n < 0 || o->failed) {
			leave(g);
			return;
		}
		g->sent += (size_t)n;
	}
	g->sent = 0;
	o->len = 0;
	if (g->session->over)
		leave(g);
	else
		loop_mod_fd(g->m->loop, g->client_fd, EPOLLIN);
}

static void on_client(void *arg, uint32_t events)
{
	struct gdb_server *g = arg;
	uint8_t buf[16384];

	if (!g->session || events & EPOLLOUT) {
		if (g->session)
			flush(g);
		return;
	}
	ssize_t n = recv(g->client_fd, buf, sizeof(buf), MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		leave(g);
		return;
	}
	gdb_session_input(g->session, buf, (size_t)n);
	flush(g);
}

static void on_rest_for_attach(void *arg, int error)
{
	struct gdb_server *g = arg;

	if (error) {
		park_when_at_rest(g->m, on_rest_for_attach, g);
		return;
	}
	g->session = gdb_session_create(&g->target);
	g->sent = 0;
	memset(g->unreported, 0, sizeof(g->unreported));
	if (!g->session) {
		drop_client(g);
		return;
	}
	if (g->m->panicked)
		g->session->cpu = g->session->why_cpu = g->m->panicked_cpu;
	loop_mod_fd(g->m->loop, g->client_fd, EPOLLIN);
}

static void on_listen(void *arg, uint32_t events)
{
	static const char busy[] = "another debugger is attached to this guest; detach it first";
	struct gdb_server *g = arg;
	int one = 1, fd = accept4(g->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd < 0)
		return;
	if (g->client_fd >= 0 || loop_add_fd(g->m->loop, fd, 0, on_client, g)) {
		struct gdb_out o = {0}, text = {0};
		gdb_out_format(&text, "E.%s", busy);
		gdb_out_text(&o, "+");
		gdb_packet_frame(&o, text.data, text.len);
		send(fd, o.data, o.len, MSG_NOSIGNAL | MSG_DONTWAIT);
		shutdown(fd, SHUT_WR);
		gdb_out_free(&text);
		gdb_out_free(&o);
		close(fd);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* fails on unix sockets, which need it not */
	g->client_fd = fd;
	park_hold(g->m, PARK_GDB);
	park_when_at_rest(g->m, on_rest_for_attach, g);
}

/* ---- start and end ---- */

static gva_t moved(uint64_t va)
{
	return va >= 0xffffffff80000000ull ? va - 0xffffffff80000000ull : va;
}

/* gdb relocates a file by its first two loadable segments, and all others as the second. */
static void find_segments(struct gdb_server *g, const char *path)
{
	Elf64_Ehdr eh;
	Elf64_Phdr ph;
	unsigned found = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (pread(fd, &eh, sizeof(eh), 0) == sizeof(eh))
		for (unsigned i = 0; i < eh.e_phnum && found < 2; i++) {
			if (pread(fd, &ph, sizeof(ph), (off_t)(eh.e_phoff + i * sizeof(ph))) != sizeof(ph))
				break;
			if (ph.p_type != PT_LOAD)
				continue;
			*(found++ ? &g->target.data_segment : &g->target.text_segment) = moved(ph.p_vaddr);
		}
	close(fd);
}

static int listen_on(struct gdb_server *g, const struct lol_gdb *opts, struct lol_error *err)
{
	struct sockaddr_in in = {
		.sin_family = AF_INET, .sin_port = htons(opts->port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int one = 1;
	bool local = opts->kind == GDB_UNIX;

	g->listen_fd = socket(local ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (g->listen_fd < 0)
		return lol_error(err, -errno, "--gdb: socket: %s; close some files or raise ulimit -n",
				 strerror(errno));
	if (local) {
		struct stat st;
		snprintf(un.sun_path, sizeof(un.sun_path), "%s", opts->path);
		if (lstat(opts->path, &st) == 0 &&
		    S_ISSOCK(st.st_mode)) /* of a VM that was killed; a live one's name is taken over */
			unlink(opts->path);
	} else {
		setsockopt(g->listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	}
	mode_t mask = umask(0177);
	int ret = bind(g->listen_fd, local ? (struct sockaddr *)&un : (struct sockaddr *)&in,
		       local ? sizeof(un) : sizeof(in));
	umask(mask);
	if (ret < 0 && !local)
		return lol_error(err, -errno, "--gdb: port %u: %s; choose another with --gdb=PORT", opts->port,
				 strerror(errno));
	if (ret < 0)
		return lol_error(err, -errno, "--gdb: %s: %s; choose another path", opts->path, strerror(errno));
	if (local)
		g->unlink_path = opts->path;
	if (listen(g->listen_fd, 4) < 0)
		return lol_error(err, -errno, "--gdb: listen: %s; choose another port", strerror(errno));
	return 0;
}

int gdb_create(struct machine *m, struct lol_error *err)
{
	const struct lol_gdb *opts = &m->opts->gdb;
	struct gdb_server *g;
	int ret;

	if (opts->kind == GDB_OFF)
		return 0;
	g = m->gdb = calloc(1, sizeof(*g));
	if (!g)
		return lol_error(err, -ENOMEM, "--gdb: out of memory; close something");
	g->m = m;
	g->client_fd = g->listen_fd = -1;
	g->target = (struct gdb_target){.ctx = g,
					.ncpus = m->ctl_cpus,
					.read = target_read,
					.write = target_write,
					.state = target_state,
					.changed = target_changed,
					.insert = points_insert,
					.remove = points_remove,
					.stop = target_stop,
					.go = target_go,
					.monitor = monitor_command,
					.describe = target_describe,
					.detach = target_detach,
					.end = target_end};
	gmem_init(&g->mem, &m->ram, m->ctl);
	find_segments(g, m->opts->kernel);
	g->again = loop_add_timer_ns(m->loop, 0, 0, on_again, g);
	if ((ret = listen_on(g, opts, err)))
		return ret;
	if (g->again < 0 || (ret = loop_add_fd(m->loop, g->listen_fd, EPOLLIN, on_listen, g)))
		return lol_error(err, ret, "epoll: %s; close some files or raise ulimit -n", strerror(-ret));
	if (opts->wait)
		park_hold(m, PARK_GDB);
	return 0;
}

void gdb_destroy(struct machine *m, unsigned status)
{
	struct gdb_server *g = m->gdb;

	if (!g)
		return;
	if (g->session && !g->session->over) {
		gdb_session_ended(g->session, status);
		struct gdb_out *o = &g->session->out;
		if (o->len > g->sent)
			send(g->client_fd, o->data + g->sent, o->len - g->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
	}
	gdb_session_destroy(g->session);
	if (g->client_fd >= 0)
		close(g->client_fd);
	if (g->listen_fd >= 0)
		close(g->listen_fd);
	if (g->unlink_path)
		unlink(g->unlink_path);
	for (unsigned i = 0; i < KBREAK_MAX; i++)
		free(g->soft[i].agent);
	gmem_fini(&g->mem);
	free(g);
	m->gdb = NULL;
}

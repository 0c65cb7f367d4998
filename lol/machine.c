/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The monitor's view of one VM: guest RAM, the shared control page, the devices, and the
 * doorbell through which K asks for things.  K may be hostile: every field that it writes
 * is read once and checked.
 */
#include "machine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/memfd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "fdpass.h"
#include "machine_int.h"
#include "ram_file.h"
#include "mmu/ushare.h"
#include "mmu/zygote.h"

/* ---- interrupts ---- */

static void kick(struct machine *m)
{
	if (m->k_pidfd >= 0 && atomic_load(&m->ctl->k_tid))
		syscall(SYS_pidfd_send_signal, m->k_pidfd, SIGUSR1, NULL, 0);
}

static void raise_line(void *ctx, unsigned line)
{
	struct machine *m = ctx;

	if (!(atomic_fetch_or(&m->ctl->irq_raised, 1u << line) & 1u << line) && !atomic_load(&m->ctl->k_polls))
		kick(m);
}

/* ---- the doorbell ---- */

static void answer(struct machine *m, struct krpc *r)
{
	uint32_t op = r->op, size = r->size;
	enum bus_space space = r->port ? BUS_PORT : BUS_MMIO;
	uint64_t addr = r->addr, value = r->value;

	if (size != 1 && size != 2 && size != 4 && size != 8)
		size = 1;
	if (op == KRPC_READ)
		r->value = bus_read(&m->bus, space, addr, size);
	else if (op == KRPC_WRITE)
		bus_write(&m->bus, space, addr, value, size);
	atomic_store(&r->state, KRPC_ANSWERED);
	syscall(SYS_futex, &r->state, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void ring_notifications(struct machine *m)
{
	for (unsigned i = 0; i < m->ndevices; i++) {
		uint32_t queues = atomic_exchange(&m->ctl->notify[i], 0);
		while (queues) {
			unsigned q = (unsigned)__builtin_ctz(queues);
			queues &= queues - 1;
			virtio_mmio_notify(m->devices[i], q);
		}
	}
}

static void on_doorbell(void *arg, uint32_t events)
{
	struct machine *m = arg;
	uint64_t n;

	(void)events;
	if (read(m->doorbell, &n, sizeof(n)) < 0 && errno == EINTR)
		return;
	if (atomic_load(&m->ctl->uart_tx_bell)) {
		atomic_store(&m->ctl->uart_tx_bell, 0);
		console_drain(m);
	}
	ring_notifications(m);
	for (unsigned i = 0; i < m->ctl_cpus; i++)
		if (atomic_load(&m->ctl->rpc[i].state) == KRPC_ASKED) {
			m->asking = i;
			answer(m, &m->ctl->rpc[i]);
		}
	park_doorbell(m);
	if (atomic_load(&m->ctl->stop))
		loop_stop(m->loop, RUN_STOPPED);
}

/* ---- the processes ---- */

static void on_zygote(void *arg, uint32_t events)
{
	struct machine *m = arg;
	struct zygote_msg msg;
	int fd;
	ssize_t n = fd_receive(m->spawn.monitor_sock, &msg, sizeof(msg), MSG_DONTWAIT, &fd);

	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n != sizeof(msg)) {
		snprintf(m->death, sizeof(m->death), "the processes of the VM were killed");
		loop_stop(m->loop, RUN_DIED);
		return;
	}
	if (msg.what == ZYG_K_STARTED && fd >= 0) {
		m->k_pidfd = fd;
	} else if (msg.what == ZYG_K_DIED) {
		if (WIFSIGNALED(msg.status))
			snprintf(m->death, sizeof(m->death),
				 "the process of the guest kernel was ended by signal %d (%s)", WTERMSIG(msg.status),
				 strsignal(WTERMSIG(msg.status)));
		else
			snprintf(m->death, sizeof(m->death), "the process of the guest kernel ended with status %d",
				 WEXITSTATUS(msg.status));
		loop_stop(m->loop, atomic_load(&m->ctl->stop) ? RUN_STOPPED : RUN_DIED);
	} else if (msg.what == ZYG_ERROR) {
		msg.text[sizeof(msg.text) - 1] = 0;
		snprintf(m->death, sizeof(m->death), "%s: %s", msg.text, strerror(msg.err));
		loop_stop(m->loop, RUN_DIED);
	}
}

static void on_power(void *ctx, enum power_event event)
{
	struct machine *m = ctx;

	console_drain(m);
	/* A panic early in the boot, before the kernel has its notifier, is a reset behind these words. */
	if ((event == POWER_PANIC || (event == POWER_RESET && console_tail_has(m, "Kernel panic - not syncing"))) &&
	    machine_panic(m))
		return;
	if (event != POWER_PANIC)
		loop_stop(m->loop, event == POWER_OFF ? RUN_POWEROFF : RUN_RESET);
}

/* ---- memory ---- */

#ifndef MFD_EXEC /* Linux 6.3 */
#define MFD_NOEXEC_SEAL 8u
#define MFD_EXEC 16u
#endif

/* Sealed in its size: K has the descriptor too, and must not make our mapping end in SIGBUS. */
static int memfd(const char *name, uint64_t size, bool exec)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | (exec ? MFD_EXEC : MFD_NOEXEC_SEAL));

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd >= 0 &&
	    (ftruncate(fd, (off_t)size) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static int make_memory(struct machine *m, struct lol_error *err)
{
	uint64_t mem = m->opts->mem;
	struct sysinfo host;

	/* More than the host has is fine as long as the guest does not use it, but not out of all proportion. */
	if (sysinfo(&host) == 0 && mem / 2 > (uint64_t)(host.totalram + host.totalswap) * host.mem_unit)
		return lol_error(err, -ENOMEM,
				 "guest memory: %llu MiB are more than twice what the host has; use a smaller --mem",
				 (unsigned long long)(mem >> 20));
	m->ram_fd = ram_file_create(mem + PATCH_AREA);
	m->ram_in_pieces = m->ram_fd >= 0;
	if (!m->ram_in_pieces)
		m->ram_fd = memfd("lol-ram", mem + PATCH_AREA, true);
	m->ctl_fd = memfd("lol-ctl", ALIGN_UP(sizeof(struct kctl), PAGE_SIZE), false);
	m->ushare_fd = memfd("lol-ushare", UBELLS_OFFSET + PAGE_SIZE, false);
	m->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (m->ram_fd < 0 || m->ctl_fd < 0 || m->ushare_fd < 0 || m->doorbell < 0)
		return lol_error(err, -errno, "guest memory: %s; LoL needs memfd_create and %llu MiB", strerror(errno),
				 (unsigned long long)(mem >> 20));
	m->ram = (struct guest_ram){.size = mem, .low = MIN(mem, RAM_LOW_MAX), .fd = m->ram_fd};
	int ret = pmem_open(m, err);
	if (ret)
		return ret;
	m->ram.base = mmap(NULL, ram_span(&m->ram), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m->ram.base != MAP_FAILED && (mmap(m->ram.base, mem, PROT_READ | PROT_WRITE,
					       MAP_SHARED | MAP_NORESERVE | MAP_FIXED, m->ram_fd, 0) == MAP_FAILED ||
					  !pmem_map(m))) {
		munmap(m->ram.base, ram_span(&m->ram));
		m->ram.base = MAP_FAILED;
	}
	m->ctl = mmap(NULL, sizeof(struct kctl), PROT_READ | PROT_WRITE, MAP_SHARED, m->ctl_fd, 0);
	if (m->ram.base == MAP_FAILED || m->ctl == MAP_FAILED)
		return lol_error(err, -ENOMEM, "guest memory: %llu MiB cannot be mapped; use a smaller --mem",
				 (unsigned long long)(mem >> 20));
	madvise(m->ram.base, mem, MADV_HUGEPAGE);
	return 0;
}

static void on_work(void *arg)
{
	ram_ahead_wake(((struct machine *)arg)->ahead);
}

/*
 * Without it everything works: no error. With one CPU there is nothing to be won. On K's CPU, wherever K is, the two would share
 * the time that each piece takes, and K would evade its 5 ms as those of a competitor.
 */
static int take_memory_ahead(struct machine *m)
{
	struct ram_ahead_cpus cpus = {.all = m->cpus};

	if (!m->ram_in_pieces || CPU_COUNT(&m->cpus) < 2)
		return 0;
	if (m->ctl_cpus == 1) {
		cpus.home = &m->ctl->k_home;
		cpus.avoid[0] = m->near.k_cpu;
		cpus.avoid[1] = m->near.u_cpu;
	}
	m->ahead = ram_ahead_start(m->ram_fd, m->ram.base, m->ram.size, &cpus, RAM_AHEAD_SLOW_NS);
	return m->ahead ? loop_add_prepare(m->loop, on_work, m) : 0;
}

/* ---- the clock ---- */

/* A pair of readings as close together as possible: the best of several. */
static void clock_pair(uint64_t *tsc, uint64_t *ns)
{
	uint64_t best = ~0ull;

	for (int i = 0; i < 16; i++) {
		uint64_t a = __builtin_ia32_rdtsc(), t = clock_ns(CLOCK_MONOTONIC_RAW), b = __builtin_ia32_rdtsc();
		if (b - a < best) {
			best = b - a;
			*tsc = a + (b - a) / 2;
			*ns = t;
		}
	}
}

/* The TSC's frequency; loading the kernel takes most of the 20 ms that this wants. */
static uint32_t tsc_khz(uint64_t tsc0, uint64_t ns0)
{
	uint64_t tsc, ns;

	while (clock_ns(CLOCK_MONOTONIC_RAW) - ns0 < 20000000)
		usleep(1000);
	clock_pair(&tsc, &ns);
	return (uint32_t)((tsc - tsc0) * 1000000 / (ns - ns0));
}

/* ---- devices ---- */

static struct virtio_env device_env(struct machine *m)
{
	unsigned n = m->ndevices;
	return (struct virtio_env){m->loop, &m->ram, {raise_line, m, dev_irq(n)}, &m->ctl->isr[n]};
}

static int attach(struct machine *m, struct virtio_dev *dev, const char *why, struct lol_error *err)
{
	if (!dev)
		return lol_error(err, -EINVAL, "%s", why);
	if (m->ndevices == MAX_VIRTIO || virtio_mmio_attach(&m->bus, m->ndevices, dev))
		return lol_error(err, -ENOSPC, "devices: there are more than %d; use fewer disks and shares",
				 MAX_VIRTIO);
	m->devices[m->ndevices++] = dev;
	return 0;
}

static int make_devices(struct machine *m, struct lol_error *err)
{
	char why[DEVICE_ERR] = "";
	int ret;

	bus_init(&m->bus);
	m->rtc = rtc_create(&m->bus);
	m->power = power_create(&m->bus, on_power, m);
	if (!m->rtc || !m->power)
		return lol_error(err, -ENOMEM, "devices: out of memory; close something");
	if ((ret = disks_create(m, err)))
		return ret;
	struct virtio_env env = device_env(m);
	if ((ret = attach(m, virtio_rng_create(&env, why), why, err)))
		return ret;
	if ((ret = shares_create(m, err)) || (ret = console_create(m, err)))
		return ret;
	if ((ret = net_create(m, err)))
		return ret;
	if (m->opts->balloon == BALLOON_OFF)
		return 0;
	env = device_env(m);
	m->balloon = virtio_balloon_create(&env, m->opts->balloon == BALLOON_ON, why);
	return attach(m, m->balloon, why, err);
}

int machine_attach(struct machine *m, struct virtio_dev *dev, const char *why, struct lol_error *err)
{
	return attach(m, dev, why, err);
}

struct virtio_env machine_device_env(struct machine *m)
{
	return device_env(m);
}

void machine_raise(struct machine *m, unsigned line)
{
	raise_line(m, line);
}

void machine_kick(struct machine *m)
{
	kick(m);
}

/* ---- put together, run, take apart ---- */

static void command_line(struct machine *m, char *out, size_t size)
{
	const char *append = m->opts->append ? m->opts->append : "";
	int n = snprintf(out, size, "console=ttyS0 noreplace-smp nokaslr panic=-1 reboot=k tsc=reliable");

	for (unsigned i = 0; i < m->ndevices && n < (int)size; i++)
		n += snprintf(out + n, size - (size_t)n, " virtio_mmio.device=0x200@0x%llx:%u",
			      DEV_MMIO_BASE + i * DEV_MMIO_STRIDE, dev_irq(i));
	n += init_command_line(m, out + n, size - (size_t)n);
	n += net_command_line(m, out + n, n < (int)size ? size - (size_t)n : 0);
	if (n < (int)size)
		snprintf(out + n, size - (size_t)n, " %s", append);
}

static int load(struct machine *m, struct lol_error *err)
{
	struct loader_blob blobs[2];
	unsigned n = 0;
	char cmdline[4096];
	int ret = 0;

	if (m->opts->initrd) {
		ret = init_map_file(m->opts->initrd, &blobs[n++], err);
		if (ret)
			return ret;
	}
	if (!ret && (m->opts->command || m->opts->rootfs)) {
		ret = init_archive(m, err);
		if (ret)
			return ret;
		blobs[n++] = (struct loader_blob){m->init.data, m->init.len};
	}
	command_line(m, cmdline, sizeof(cmdline));
	ret = loader_load(&m->ram, m->opts->kernel, m->opts->cpus, cmdline, blobs, n, &m->ctl->boot, err);
	if (m->opts->initrd)
		munmap((void *)blobs[0].data, blobs[0].size);
	return ret;
}

static int start(struct machine *m, struct lol_error *err)
{
	uint64_t tsc0 = 0, ns0 = 0;
	int ret;

	clock_pair(&tsc0, &ns0);
	m->loop = loop_create();
	if (!m->loop)
		return lol_error(err, -errno, "epoll: %s; close some files or raise ulimit -n", strerror(errno));
	park_init(m);
	if ((ret = make_memory(m, err)) || (ret = make_devices(m, err)) || (ret = load(m, err)))
		return ret;
	m->boot = m->ctl->boot;
	m->ctl->ram_size = m->ram.size;
	m->ctl->ram_low = m->ram.low;
	m->ctl->npmem = m->ram.npmem;
	memcpy(m->ctl->pmem, m->ram.pmem, sizeof(m->ctl->pmem));
	m->ctl->ncpus = m->ctl_cpus = m->opts->cpus;
	m->ctl->ndevices = m->ndevices;
	m->ctl->verbose = m->opts->verbosity > 0 ? (uint32_t)m->opts->verbosity : 0;
	if ((ret = gdb_create(m, err)))
		return ret;
	handoff_choose(m);
	m->ctl->tsc_khz = tsc_khz(tsc0, ns0);
	if ((ret = spawn_start(&m->spawn, m->ram_fd, m->ctl_fd, m->ushare_fd, m->doorbell, m->pmem_fd, err)))
		return ret;
	if (!m->spawn.isolated && m->opts->verbosity > 0)
		fprintf(stderr,
			"lol-run: user namespaces: the host forbids them; the guest runs behind its seccomp filters alone\n");
	if ((ret = loop_add_fd(m->loop, m->doorbell, EPOLLIN, on_doorbell, m)) ||
	    (ret = loop_add_fd(m->loop, m->spawn.monitor_sock, EPOLLIN, on_zygote, m)) || (ret = messages_start(m)) ||
	    (ret = near_start(m)) || (ret = take_memory_ahead(m)))
		return lol_error(err, ret, "epoll: %s; close some files or raise ulimit -n", strerror(-ret));
	if ((ret = control_set_loop(m->session->control, m->loop, m)))
		return lol_error(err, ret, "control socket: %s; close some files or raise ulimit -n", strerror(-ret));
	return 0;
}

static void take_apart(struct machine *m)
{
	ram_ahead_stop(m->ahead);
	near_stop(m);
	spawn_stop(&m->spawn);
	messages_end(m);
	machine_prompt_end(m);
	control_set_loop(m->session->control, NULL, NULL);
	gdb_destroy(m, 0);
	park_fini(m);
	for (unsigned i = 0; i < m->ndevices; i++)
		virtio_destroy(m->devices[i]);
	console_destroy(m);
	rtc_destroy(m->rtc);
	power_destroy(m->power);
	bus_fini(&m->bus);
	disks_destroy(m);
	shares_destroy(m);
	if (m->loop)
		loop_destroy(m->loop);
	cpio_free(&m->init);
	if (m->ctl && m->ctl != MAP_FAILED)
		munmap(m->ctl, sizeof(*m->ctl));
	if (m->ram.base && m->ram.base != MAP_FAILED)
		munmap(m->ram.base, ram_span(&m->ram));
	int fds[] = {m->ram_fd, m->ctl_fd, m->ushare_fd, m->doorbell, m->k_pidfd};
	for (unsigned i = 0; i < ARRAY_LEN(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

/* What K said when it stopped, made printable. */
static const char *report(struct machine *m, char *buf, size_t size)
{
	size_t n = 0;

	for (; n + 1 < size && n < sizeof(m->ctl->report) && m->ctl->report[n]; n++)
		buf[n] = m->ctl->report[n] >= ' ' && m->ctl->report[n] < 127 ? m->ctl->report[n] : '?';
	buf[n] = 0;
	return buf;
}

/* Exit status for the way the loop ended; -1: the guest wants to start again. */
static int verdict(struct machine *m, int how)
{
	char text[1024];
	uint32_t stop = atomic_load(&m->ctl->stop);

	console_drain(m);
	if (how >= RUN_STATUS)
		return how - RUN_STATUS;
	if (m->panicked || (how == RUN_RESET && console_tail_has(m, "Kernel panic - not syncing"))) {
		console_show_tail(m);
		return lol_fail(LOL_EXIT_PANIC, "guest kernel: panicked; its last lines are above");
	}
	if (how == RUN_POWEROFF || (how == RUN_STOPPED && stop == KSTOP_POWEROFF))
		return command_status(m);
	if (how == RUN_RESET)
		return m->opts->command ? command_status(m) : -1;
	if (how == RUN_STOPPED && stop == KSTOP_RESET) {
		console_show_tail(m);
		return lol_fail(LOL_EXIT_PANIC, "guest kernel: %s", report(m, text, sizeof(text)));
	}
	if (how == RUN_STOPPED && stop == KSTOP_START)
		return lol_fail(LOL_EXIT_USAGE, "%s", report(m, text, sizeof(text)));
	console_show_tail(m);
	if (how == RUN_STOPPED)
		return lol_fail(LOL_EXIT_BUG, "%s", report(m, text, sizeof(text)));
	return lol_fail(LOL_EXIT_BUG, "%s; what was flushed is on the disks", m->death);
}

/* The guest has fallen over without a word (a triple fault): what is left of it is memory. */
static void dump_at_end(struct machine *m, int how)
{
	struct lol_error err;

	dump_end(m);
	if (how == RUN_STOPPED && atomic_load(&m->ctl->stop) == KSTOP_RESET && m->opts->dump_on_panic && !m->panicked &&
	    dump_now(m, m->opts->dump_on_panic, &err))
		lol_fail(0, "%s", err.text);
}

static int run_once(const struct lol_options *opts, struct session *session)
{
	struct machine m = {.opts = opts,
			    .session = session,
			    .stop_timer = -1,
			    .ram_fd = -1,
			    .ctl_fd = -1,
			    .ushare_fd = -1,
			    .doorbell = -1,
			    .k_pidfd = -1,
			    .pmem_fd = {-1, -1, -1, -1},
			    .spawn = {.zygote = -1, .monitor_sock = -1, .messages = -1}};
	struct lol_error err;
	int status;

	if (start(&m, &err)) {
		status = lol_fail(LOL_EXIT_USAGE, "%s", err.text);
	} else {
		int how = loop_run(m.loop);
		dump_at_end(&m, how);
		if (opts->stats)
			stats_write(&m);
		status = verdict(&m, how);
	}
	take_apart(&m);
	return status;
}

int machine_run(const struct lol_options *opts)
{
	struct session session;
	struct lol_error err;
	int status = -1;
	sigset_t ending, old;

	/* A signal that comes between the end of one loop and the next one's beginning waits for that; nothing may be left behind. */
	sigemptyset(&ending);
	sigaddset(&ending, SIGINT);
	sigaddset(&ending, SIGTERM);
	sigaddset(&ending, SIGHUP);
	sigaddset(&ending, SIGQUIT);
	sigprocmask(SIG_BLOCK, &ending, &old);
	if (session_create(&session, opts, &machine_console_ops, &err))
		status = lol_fail(LOL_EXIT_USAGE, "%s", err.text);
	while (status == -1) {
		status = run_once(opts, &session);
		session.restarts++;
	}
	session_destroy(&session);
	sigprocmask(SIG_SETMASK, &old, NULL);
	return status;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Whose turn it is: handing over between a vCPU's thread in K and a U.  Runs in K, site context.
 *
 * Spinning on two CPUs, a hand-over takes 0.1 us; asleep on one CPU 2 to 3 us; a sleeper on another CPU, which has to be
 * woken by an interrupt, 20 to 40 us.  So K waits on a CPU of its own and spins, for a bounded time, as long as that pays,
 * and else comes home to the CPU of its U's, where both sleep:
 *
 *  - when user code mostly runs longer than a spin, so that K would mostly sleep and be woken from afar;
 *  - when somebody else wants K's CPU: a spinner would take half of it from him. The host's scheduler tells how long K's
 *    thread was ready but did not run. After a while K tries again, after a longer one each time.
 *
 * Both CPUs are chosen by the monitor (lol/stats.c); without two of them nobody spins. With several vCPUs K spins
 * while there are two host CPUs for each of those that are not halted.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "cpu/k.h"
#include "mmu/uproc.h"

K_ALLOW(futex);
K_ALLOW(sched_yield);
K_ALLOW(clock_gettime);
K_ALLOW(getrandom);
K_ALLOW(pidfd_send_signal);
K_ALLOW(sched_setaffinity, SCMP_A0(SCMP_CMP_EQ, 0)); /* of the thread itself */
K_ALLOW_EACH(i, i < MAX_VCPUS && vcpus[i], pread64, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)vcpus[i]->handoff.schedstat));
/* Pipes of U's, which come from the zygote: numbers that K starts without; pmem it may write anyway. */
K_ALLOW(write, SCMP_A0(SCMP_CMP_GE, FD_MONITOR));

#define QUICK_LOOKS 1000
#define OP_US 4        /* allowance for each operation of a batch */
#define SHARE_ONE 1024 /* shares of waits, in 1/1024; each wait counts 1/32 */
#define LONG_HOME 300  /* so many long waits: come home */
#define LONG_AWAY 100  /* so few: spin again */
/* How often the scheduler is asked: some time slices, or one turn of a neighbour looks like more. */
#define CHECK_US 20000
#define WAKE_NS 50000 /* what a wake-up from afar takes also counts as having been ready */
#define COMPETITOR \
	(SHARE_ONE / \
	 4) /* K was kept waiting for more than a quarter of the time; each look counts a quarter, too: bursts pass */
#define SUSPECT (COMPETITOR - 32) /* back from home: one bad look will do */
#define BACKOFF_MIN_US 20000
#define BACKOFF_MAX_US 500000
#define KILL_TRIES 200000 /* of 0.2 ms and more */
#define STUB_NS 500000000 /* of CPU time: the stub alone never takes that long */

static uint32_t u_spin_max(void)
{
	return MIN(kctl->spin_us * U_SPIN_PER_US, UINT16_MAX); /* the stub takes so many bits */
}

static uint32_t u_spin_min(void)
{
	return MIN(U_SPIN, u_spin_max());
}

void handoff_init(struct vcpu *v)
{
	struct handoff *h = &v->handoff;

	h->schedstat = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
	h->backoff = us_to_tsc(BACKOFF_MIN_US);
	h->check_at = rdtsc() + us_to_tsc(CHECK_US);
	h->u_spin = u_spin_min();
}

static void go_to(int cpu)
{
	uint64_t set[16] = {0};

	if (cpu < 0 || cpu >= (int)sizeof(set) * 8)
		return;
	set[cpu / 64] = 1ull << cpu % 64;
	sys3(SYS_sched_setaffinity, 0, sizeof(set), set); /* a wish: cpusets may forbid it */
}

static void move(struct vcpu *v, bool home)
{
	STAT(handoff_moves);
	v->handoff.home = home;
	if (v->id == 0)
		atomic_store_explicit(&kctl->k_home, home, memory_order_relaxed);
	go_to(home ? kctl->u_cpu[v->id] : kctl->k_cpu[v->id]);
}

/* Time in ns that this thread was ready to run and did not: the second number of schedstat (the host's sched-stats.rst). */
static uint64_t kept_waiting(const struct handoff *h)
{
	char text[96];
	long n = h->schedstat < 0 ? -1 : sys6(SYS_pread64, h->schedstat, (long)text, sizeof(text), 0, 0, 0);
	uint64_t val = 0;
	long i = 0;

	while (i < n && text[i] != ' ')
		i++;
	for (i++; i < n && text[i] >= '0' && text[i] <= '9'; i++)
		val = val * 10 + (uint64_t)(text[i] - '0');
	return val;
}

/* Has K on its own CPU a competitor? */
static void look_at_scheduler(struct vcpu *v, uint64_t now)
{
	struct handoff *h = &v->handoff;
	uint64_t monitor = atomic_load_explicit(&kctl->monitor_ns, memory_order_relaxed);
	uint64_t waited = kept_waiting(h), ns = waited - h->waited, passed = now - h->checked;
	uint64_t wakes = h->sleeps * (uint64_t)WAKE_NS;

	h->waited = waited;
	h->checked = now;
	h->sleeps = 0;
	h->check_at = now + us_to_tsc(CHECK_US);
	if (atomic_load_explicit(&kctl->monitor_near, memory_order_relaxed))
		wakes += monitor - h->monitor; /* it serves K: no competitor */
	h->monitor = monitor;
	if (h->rested) { /* ready meanwhile it was for the sake of who stopped it */
		h->rested = false;
		return;
	}
	ns = ns > wakes ? (ns - wakes) * tsc_khz / 1000000 : 0;
	if (h->home || !passed)
		return;
	h->kept += ((int32_t)MIN(ns * SHARE_ONE / passed, (uint64_t)SHARE_ONE) - h->kept) / 4;
	if (h->kept > COMPETITOR) {
		h->home_until = now + h->backoff;
		h->backoff = MIN(h->backoff * 2, us_to_tsc(BACKOFF_MAX_US));
		h->kept = SUSPECT;
		move(v, true);
	} else if (now > h->home_until + 4 * h->backoff) {
		h->backoff = us_to_tsc(BACKOFF_MIN_US);
	}
}

/* Are more CPUs wanted than there are? */
static bool no_room(void)
{
	return several_vcpus() && atomic_load_explicit(&vcpus_active, memory_order_relaxed) * 2 > kctl->host_cpus;
}

/* After a wait: does K still sit on the right CPU? */
static void review(struct vcpu *v, bool was_long)
{
	struct handoff *h = &v->handoff;

	h->long_share += ((was_long ? SHARE_ONE : 0) - h->long_share) / 32;
	if (!was_long && ++h->waits % 64)
		return;
	uint64_t now = rdtsc();
	if (now > h->check_at)
		look_at_scheduler(v, now);
	if (!h->home && h->long_share > LONG_HOME)
		move(v, true);
	else if (h->home && h->long_share < LONG_AWAY && now > h->home_until && !no_room()) {
		move(v, false);
		h->waited = kept_waiting(h);
		h->checked = now;
		h->sleeps = 0;
		h->check_at = now + us_to_tsc(CHECK_US);
	}
}

static bool over(struct ushare *s)
{
	return atomic_load_explicit(&s->turn, memory_order_acquire) != TURN_U;
}

/* The zygote says so, and gives K the turn; K may just have given it away. */
static bool dead(struct ushare *s)
{
	return atomic_load_explicit(&s->dead, memory_order_relaxed);
}

/* Spin until it is K's turn, or for the bound. The first looks come without a pause, which costs 30 to 60 ns. */
static bool spin(struct ushare *s, unsigned ops)
{
	for (unsigned i = 0; i < QUICK_LOOKS; i++)
		if (over(s))
			return true;
	uint64_t limit = rdtsc() + us_to_tsc(kctl->spin_us + ops * OP_US);
	do {
		if (over(s))
			return true;
		__builtin_ia32_pause();
	} while (rdtsc() < limit);
	return false;
}

void user_nap(long ns)
{
	uint32_t never = 0;
	struct timespec ts = {0, ns};

	sys6(SYS_futex, (long)&never, FUTEX_WAIT_PRIVATE, 0, (long)&ts, 0, 0);
}

void user_signal(struct uproc *u)
{
	u->kicked = true;
	sys6(SYS_pidfd_send_signal, u->pidfd, U_SIG_KICK, 0, 0, 0, 0);
}

/* Kill the process of a U; when this returns it runs no more: the zygote has buried it. */
void user_kill(struct uproc *u)
{
	sys6(SYS_pidfd_send_signal, u->pidfd, 9, 0, 0, 0, 0);
	for (unsigned i = 0; sys6(SYS_pidfd_send_signal, u->pidfd, 0, 0, 0, 0, 0) != -ESRCH; i++) {
		user_nap(200000);
		if (i > KILL_TRIES)
			k_stop(KSTOP_BUG, "a process of guest user code does not die; is the host out of CPU time?");
	}
	u->loose = false;
}

/* CPU time of a U's process. Time that passes says nothing: the host may be busy, the VM stopped. (clock_gettime(2), clocks of processes.) */
static uint64_t ran_ns(const struct uproc *u)
{
	struct timespec ts = {0};

	sys3(SYS_clock_gettime, (long)((~(unsigned)u->pid << 3) | 2), (long)&ts, 0);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* The process of guest code that does not play by the rules. */
static bool end_it(struct uproc *u)
{
	STAT(u_ended);
	user_kill(u);
	return false;
}

/* Wait until it is K's turn; ops: operations that the U has to do first. False: the U is dead. */
static bool wait_turn(struct vcpu *v, struct uproc *u, uint32_t cmd, unsigned ops)
{
	struct ushare *s = u->s;
	bool spins = kctl->spin_us && !v->handoff.home;

	if (!spins || !spin(s, ops)) {
		uint64_t start = rdtsc(), ran = 0;
		for (unsigned looks = 0; !over(s) && !dead(s); looks++) {
			/* Guest code may have scribbled over what the stub's wait goes by. A process that begins (no command) takes no kick. */
			bool stub_only = cmd && !(cmd & UCMD_RESUME);
			if (looks > 2 && cmd && (stub_only || atomic_load(&s->u_sleeps))) {
				s->slot = u->slot;
				user_signal(u);
			}
			if (stub_only && looks == 2)
				ran = ran_ns(u);
			if (stub_only && looks > 2 && ran_ns(u) > ran + STUB_NS)
				end_it(u);
			STAT(k_sleeps);
			v->handoff.sleeps++;
			atomic_store(&s->k_sleeps, 1);
			/* The time-out only matters when guest code scribbles over k_sleeps. */
			struct timespec ts = {0, 100000000};
			if (!over(s))
				sys6(SYS_futex, (long)&s->turn, FUTEX_WAIT, TURN_U, (long)&ts, 0, 0);
		}
		atomic_store_explicit(&s->k_sleeps, 0, memory_order_relaxed);
		if (kctl->spin_us)
			review(v, spins || rdtsc() - start > us_to_tsc(kctl->spin_us));
	} else {
		review(v, false);
	}
	return !dead(s);
}

/*
 * The U that ran last fell asleep while the guest kernel worked for it (a large page is 0.1 ms of zeroes): a wake-up from here
 * takes longer than to spin on, if what it waits for is mostly near.
 */
static void adapt_u_spin(struct handoff *h, const struct ushare *s)
{
	uint64_t late = rdtsc() - *(volatile const uint64_t *)&s->slept_at;

	if (h->idled || late > us_to_tsc(kctl->spin_us))
		h->u_spin = MAX(h->u_spin / 2, u_spin_min());
	else
		h->u_spin = MIN(h->u_spin * 2, u_spin_max());
	h->idled = false;
}

/*
 * Let u sleep no longer. When another U of this vCPU still spins on the CPU that u needs,
 * its own thread rings the bell and then makes room: a wake-up on the same CPU costs a
 * tenth of one from here.
 */
static void wake(struct vcpu *v, struct uproc *u)
{
	_Atomic uint32_t *bell = upool_bell(u->slot);
	struct uproc *old = v->last_u;
	bool other = old && old != u && old->alive;

	atomic_fetch_add(bell, 1);
	v->last_u = u;
	if (other && !atomic_load(&old->s->u_sleeps) && atomic_load(&old->s->turn) == TURN_K) {
		STAT(u_switches);
		old->s->next = u->slot;
		old->s->cmd = UCMD_HANDOFF | (atomic_load(&u->s->u_sleeps) ? UCMD_RING : 0);
		atomic_store(&old->s->turn, TURN_U);
		old->handing_off = true;
		/* It may have fallen asleep meanwhile: it must hear of its last duty all the same. */
		if (atomic_load(&old->s->u_sleeps))
			sys6(SYS_futex, (long)upool_bell(old->slot), FUTEX_WAKE, 1, 0, 0, 0);
		return;
	}
	if (atomic_load(&u->s->u_sleeps)) {
		STAT(u_sleeps);
		if (old == u)
			adapt_u_spin(&v->handoff, u->s);
		sys6(SYS_futex, (long)bell, FUTEX_WAKE, 1, 0, 0, 0);
	}
}

/* Has u taken its last word, to ring a bell? Guest code that holds it up forever loses its process. */
static bool handed_off(struct vcpu *v, struct uproc *u)
{
	uint64_t look_at = rdtsc() + tsc_khz * 100, ran = 0;

	while (!over(u->s) && !dead(u->s)) {
		__builtin_ia32_pause();
		if (v->handoff.home || !kctl->spin_us)
			sys3(SYS_sched_yield, 0, 0, 0); /* it may need this CPU */
		if (rdtsc() > look_at) {
			uint64_t now = ran_ns(u);
			if (!ran)
				ran = now;
			if (now > ran + STUB_NS)
				return end_it(u);
			look_at = rdtsc() + tsc_khz * 100;
			user_signal(u);
		}
	}
	u->handing_off = false;
	return !dead(u->s) && over(u->s);
}

static uint64_t new_token(struct uproc *u)
{
	if (!u->ntokens) {
		if (sys3(SYS_getrandom, u->token, sizeof(u->token), 0) != sizeof(u->token))
			k_bug("getrandom failed");
		u->ntokens = ARRAY_LEN(u->token);
	}
	return u->token[--u->ntokens] >> 1 | 1; /* not 0, and an eventfd has room for it */
}

/*
 * Guest code can say that it waits and run on. It then sees the slice, but not the pipe, which only the stub can read; and
 * it cannot say that it has run a batch, as the token comes with it.
 */
static bool send_batch(struct uproc *u, uint64_t *token)
{
	STAT_ADD(u_batch_ops, u->queued);
	*token = new_token(u);
	u->batch[u->queued++] = (struct ubatch_op){.nr = UBATCH_DONE, .arg = {*token}};
	long n = u->queued * sizeof(u->batch[0]);
	u->queued = 0;
	return sys3(SYS_write, u->pipe, u->batch, n) == n;
}

bool user_run(struct vcpu *v, struct uproc *u, uint32_t cmd)
{
	struct ushare *s = u->s;
	uint64_t token = 0;
	unsigned ops = u->queued;

	if (!u->alive || dead(s) || (u->handing_off && !handed_off(v, u))) {
		u->queued = 0; /* nobody is left to do it, and whoever queues counts on room after a flush */
		return false;
	}
	if (!v->handoff.home && kctl->spin_us && no_room()) {
		v->handoff.home_until = rdtsc() + v->handoff.backoff;
		move(v, true);
	}
	uint32_t looks = kctl->spin_us && !v->handoff.home ? v->handoff.u_spin : 0;
	if (s->spin != looks)
		s->spin = looks;
	if (cmd & UCMD_BATCH && !send_batch(u, &token))
		return end_it(u);
	if (cmd & UCMD_RESUME) {
		u->loose = true;
		if (s->back != u->first.back)
			s->back = u->first.back;
	}
	if (cmd & UCMD_FAST) {
		s->rax = u->first.rax;
		s->rcx = u->first.rcx;
		s->rip = u->first.rip;
		s->efl = u->first.efl;
	}
	s->cmd = cmd;
	atomic_store(&s->turn, TURN_U); /* a full fence before the look at u_sleeps */
	if (v->last_u != u || atomic_load(&s->u_sleeps))
		wake(v, u);
	bool ok = wait_turn(v, u, cmd, cmd & UCMD_BATCH ? ops : 0);
	atomic_store_explicit(&v->in_user, NULL, memory_order_release); /* others may wait for this, see upatch.c */
	if (ok && cmd & UCMD_BATCH && *(volatile uint64_t *)&s->batch_done != token)
		return end_it(u);
	if (cmd & UCMD_BATCH && s->batch_err) {
		/* The host refused a change: too many mappings, or no memory. Not dropped here: our callers walk its record. */
		s->batch_err = 0;
		u->broken = true;
	} else if (ok && cmd & UCMD_BATCH && u->window_queued) {
		u->window_queued = false;
		u->window = true;
	}
	return ok;
}

/*
 * Is the thread of u asleep at its bell? Nobody but it can sleep there (usandbox.c), but any guest program may ring. So it is
 * set aside, to a word of our own: as long as it sleeps there it is K who writes the turn. It goes back to its bell with
 * K's turn in its slice, and so behind a wake-up runs no further than the stub's wait.
 */
static bool asleep(struct vcpu *v, struct uproc *u)
{
	static uint32_t aside[MAX_VCPUS];
	_Atomic uint32_t *bell = upool_bell(u->slot);
	uint32_t *ours = &aside[v->id];

	if (!atomic_load_explicit(&u->s->u_sleeps, memory_order_relaxed) ||
	    sys6(SYS_futex, (long)bell, FUTEX_CMP_REQUEUE, 0, 1, (long)ours, atomic_load(bell)) != 1)
		return false;
	atomic_store(&u->s->turn, TURN_K);
	sys6(SYS_futex, (long)ours, FUTEX_CMP_REQUEUE, 0, 1, (long)bell, 0);
	return true;
}

void user_park(struct vcpu *v, bool leaving)
{
	struct uproc *u = v->last_u;

	if (!u || !u->loose || !u->alive)
		return;
	STAT(u_parks);
	/* Behind a change of address space the guest saves vector registers: one round trip for both. */
	uint32_t cmd = UCMD_PARK | (leaving ? fpu_save_cmd(v, u) : 0);
	if (!asleep(v, u)) {
		uint64_t token = new_token(u);
		if (sys3(SYS_write, u->tokens, &token, sizeof(token)) != sizeof(token) || !user_run(v, u, cmd) ||
		    *(volatile uint64_t *)&u->s->token != token)
			end_it(u);
		else if (cmd & UCMD_XSAVE)
			u->fpu_saved = true;
	}
	u->loose = false;
}

/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The U processes of a VM: found by (CR3, vCPU), made by the zygote, recycled by age.
 *
 * The U's of a vCPU are its TLB for user addresses.  A flush concerns the flushing vCPU's own U's, just as invlpg and CR3
 * writes concern one CPU on hardware: the guest's shootdown makes every other vCPU flush for itself, and takes it out of
 * user code for that.  So a vCPU's U's, their shadows and batches are touched by its own thread only, without locks;
 * other vCPUs kick them and set stale_copies (upatch.c).
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "mmu/upatch.h"
#include "mmu/zygote.h"

K_ALLOW(close);
K_ALLOW(getrandom);
K_ALLOW(sendto, SCMP_A0(SCMP_CMP_EQ, FD_ZYGOTE), SCMP_A4(SCMP_CMP_EQ, 0));
K_ALLOW(recvmsg, SCMP_A0(SCMP_CMP_EQ, FD_ZYGOTE));

#define POOL_MAX 128 /* processes, but 4 for each vCPU at least; guest address spaces beyond it share them by age */
static struct uproc pool[MAX_U];
static unsigned pool_used[MAX_VCPUS], quota; /* vCPU n has the slots from n * quota on */
static uint64_t clock_now[MAX_VCPUS];
#define SYNC_US 20000            /* a look at all that 128 U's have mapped takes 1 ms */
#define START_TRIES 400          /* 5 ms each */
static struct klock zygote_lock; /* a question and its answer */
static uint8_t *slices;          /* the ushare memfd */

/* Shadow nodes: one reserved stretch of memory, handed out by page. */
#define SHNODE_MAX 65536
static struct shnode *nodes, *free_list;
static uint32_t nodes_used;
static struct klock nodes_lock;

void upool_init(void)
{
	uhot_init();
	_Static_assert(MAX_VCPUS * 4 <= MAX_U && POOL_MAX <= MAX_U, "slots");
	quota = MAX(POOL_MAX / kctl->ncpus, 4u);
	nodes = mmap(NULL, sizeof(*nodes) * SHNODE_MAX, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	slices = mmap(NULL, UBELLS_OFFSET + PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, FD_USHARE, 0);
	if (nodes == MAP_FAILED || slices == MAP_FAILED)
		k_stop(KSTOP_START, "cannot reserve memory for the shadow tables");
}

struct uproc *upool_by_slot(unsigned slot)
{
	return slot < MAX_U && pool[slot].s ? &pool[slot] : NULL;
}

_Atomic uint32_t *upool_bell(unsigned slot)
{
	return (_Atomic uint32_t *)(slices + UBELLS_OFFSET) + slot;
}

struct shnode *shnode_alloc(void)
{
	k_lock(&nodes_lock);
	struct shnode *n = free_list;
	if (n) {
		free_list = n->down[0];
		n->down[0] = NULL;
	} else if (nodes_used < SHNODE_MAX) {
		n = &nodes[nodes_used++];
	}
	k_unlock(&nodes_lock);
	return n;
}

/* Nodes come back with zeros only where resync emptied them; umap_drop frees full ones. */
void shnode_free(struct shnode *n)
{
	for (unsigned i = 0; i < 512; i++)
		n->entry[i] = 0;
	k_lock(&nodes_lock);
	n->down[0] = free_list;
	free_list = n;
	k_unlock(&nodes_lock);
}

/* Ask the zygote for a process; the answer carries its pidfd, the pipe for its batches, the eventfd for its tokens. */
static bool ask_zygote(struct uproc *u)
{
	struct u_request r = {.slot = u->slot, .cpu = kctl->u_cpu[u->vcpu]};
	struct zygote_msg m;
	struct iovec in = {&m, sizeof(m)};
	union {
		char buf[CMSG_SPACE(3 * sizeof(int))];
		struct cmsghdr align;
	} c;
	struct msghdr mh = {.msg_iov = &in, .msg_iovlen = 1, .msg_control = c.buf, .msg_controllen = sizeof(c.buf)};

	for (int i = 0; i < 4; i++)
		r.secret[i] = u->secret[2 * i] | (uint64_t)u->secret[2 * i + 1] << 32;
	if (sys6(SYS_sendto, FD_ZYGOTE, (long)&r, sizeof(r), MSG_NOSIGNAL, 0, 0) != sizeof(r))
		return false;
	long n;
	do
		n = sys3(SYS_recvmsg, FD_ZYGOTE, &mh, MSG_CMSG_CLOEXEC);
	while (n == -EINTR);
	struct cmsghdr *cm = CMSG_FIRSTHDR(&mh);
	if (n != sizeof(m) || m.what != ZYG_U || m.err || !cm || cm->cmsg_type != SCM_RIGHTS ||
	    cm->cmsg_len != CMSG_LEN(3 * sizeof(int)))
		return false;
	u->pid = m.status;
	u->pidfd = ((int *)CMSG_DATA(cm))[0];
	u->pipe = ((int *)CMSG_DATA(cm))[1];
	u->tokens = ((int *)CMSG_DATA(cm))[2];
	return true;
}

static bool start(struct vcpu *v, struct uproc *u)
{
	struct ushare *s = u->s;

	for (unsigned i = 0; i < sizeof(*s) / 8; i++)
		((volatile uint64_t *)s)[i] = 0;
	atomic_store(&s->turn, TURN_U);
	s->spin = kctl->spin_us ? U_SPIN : 0; /* until K says */
	s->slot = u->slot;
	if (sys3(SYS_getrandom, u->secret, sizeof(u->secret), 0) != sizeof(u->secret))
		k_bug("getrandom failed");
	k_lock(&zygote_lock);
	bool made = ask_zygote(u);
	k_unlock(&zygote_lock);
	if (!made)
		return false;
	atomic_store(&s->dead, 0); /* of the one before */
	u->queued = 0;
	u->alive = true;
	for (int i = 0; i < 4; i++)
		u->seg[i] = 0;
	u->fs_base = u->gs_base = 0;
	u->fpu_saved = false;
	u->strange = true;
	u->maps = 0;
	STAT(u_created);
	/* Its first word says that it has taken its filter. */
	return user_run(v, u, 0);
}

static void bury(struct vcpu *v, struct uproc *u)
{
	user_kill(u); /* only its slice says that it is dead, and guest code can write that */
	u->alive = false;
	u->maps = 0;
	umap_drop(v, u);
	upatch_let_go(u);
	u->window = u->window_queued = false;
	sys3(SYS_close, u->pidfd, 0, 0);
	sys3(SYS_close, u->pipe, 0, 0);
	sys3(SYS_close, u->tokens, 0, 0);
}

static struct uproc *oldest(unsigned vcpu)
{
	struct uproc *best = &pool[vcpu * quota];

	for (struct uproc *u = best; u < &pool[vcpu * quota + pool_used[vcpu]]; u++)
		if (u->used < best->used)
			best = u;
	return best;
}

struct uproc *upool_get(struct vcpu *v, gpa_t root)
{
	struct uproc *own = &pool[v->id * quota], *u = NULL;

	root &= PTE_ADDR;
	for (unsigned i = 0; i < pool_used[v->id] && !u; i++)
		if (own[i].root == root)
			u = &own[i];
	if (!u) {
		if (pool_used[v->id] < quota) {
			u = &own[pool_used[v->id]++];
			u->slot = (unsigned)(u - pool);
			u->vcpu = v->id;
			__atomic_store_n(&u->s, (struct ushare *)(slices + (size_t)u->slot * USHARE_SIZE),
					 __ATOMIC_RELEASE);
		} else {
			u = oldest(v->id);
			STAT(u_evicted);
			if (v->fpu_in == u)
				fpu_save(v);
			umap_drop(v, u);
		}
		u->root = root;
		u->strange = true;
	}
	if (u->alive && atomic_load(&u->s->dead)) {
		if (v->fpu_in == u)
			v->fpu_in = NULL;
		bury(v, u);
	}
	for (int tries = 0; !u->alive; tries++) {
		if (start(v, u))
			break;
		if (tries > START_TRIES)
			k_stop(KSTOP_BUG,
			       "cannot make a process for guest user code; is the limit of processes (ulimit -u) reached?");
		if (!u->alive)
			user_nap(5000000); /* others may end meanwhile */
	}
	u->used = ++clock_now[v->id];
	return u;
}

void upool_wipe(struct vcpu *v, struct uproc *u)
{
	uint8_t *s = (uint8_t *)u->s;
	unsigned frames = u->kicked ? USHARE_ALTSTACK_SIZE : USHARE_FRAMES;

	u->strange = u->kicked = false;
	__builtin_memset(u->own, 0, sizeof(u->own));
	__builtin_memset(s + US_OWN, 0, sizeof(*u->s) - US_OWN);
	__builtin_memset(u->s->regs, 0, sizeof(u->s->regs));
	u->s->call_addr = 0;
	__builtin_memset(s + USHARE_STACK_TOP - 64, 0, 64);
	/* A frame has nothing new of vector registers in their initial state: what another program had there stays in it. */
	__builtin_memset(s + USHARE_ALTSTACK + USHARE_ALTSTACK_SIZE - frames, 0, frames);
	if (v->fpu_in != u) {
		__builtin_memset(s + USHARE_XAREA, 0, xstate_size(xcr0_allowed()));
		u->fpu_saved = false;
	}
}

void upool_flush(struct vcpu *v, gpa_t root, bool other)
{
	struct uproc *own = &pool[v->id * quota];

	for (unsigned i = 0; i < pool_used[v->id]; i++)
		if (own[i].root == (root & PTE_ADDR)) {
			own[i].resync = true;
			own[i].strange |= other;
		}
}

void upool_flush_everything(struct vcpu *v)
{
	struct uproc *own = &pool[v->id * quota];

	for (unsigned i = 0; i < pool_used[v->id]; i++)
		own[i].resync = true;
}

bool upool_sync_others(struct vcpu *v, struct uproc *u)
{
	static uint64_t again[MAX_VCPUS];
	struct uproc *own = &pool[v->id * quota];

	if (rdtsc() < again[v->id])
		return false;
	for (unsigned i = 0; i < pool_used[v->id]; i++) {
		if (&own[i] == u || !own[i].alive)
			continue;
		own[i].resync = true;
		umap_sync(v, &own[i]);
	}
	again[v->id] = rdtsc() + us_to_tsc(SYNC_US);
	return true;
}

void upool_invlpg(struct vcpu *v, gva_t va)
{
	struct uproc *own = &pool[v->id * quota];

	for (unsigned i = 0; i < pool_used[v->id]; i++) {
		struct uproc *u = &own[i];
		if (u->root != (v->cr3 & PTE_ADDR))
			continue;
		if (u->ninval == INVAL_MAX)
			u->resync = true;
		else
			u->inval[u->ninval++] = va;
	}
}

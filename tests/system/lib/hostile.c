/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest kernel that attacks the host. It is an ELF file as lol-run takes it (hostile.ld) and runs as K's own code, with all of
 * K's memory, so it needs no instruction of the guest's: "syscall" is one of the host. Its command line:
 *
 *   attack=NAME handler=HEX kctl=HEX seed=N pid=N path=PATH secret=TEXT
 *
 * handler: lol-k's handler of SIGSYS and SIGSEGV, which it takes over; kctl: lol-k's pointer to the control page; pid, path: a
 * process and a file outside that are to stay as they are; secret: what must not be found in here. What it finds out
 * goes to stderr, which K may write. It ends by exit_group(42), if nothing else has ended it before.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#define DIRECT_MAP 0x400000000000ull
#define VMALLOC 0x490000000000ull
#define DEVICES 0xd0000000ull
#define BOOT_CMDLINE (DIRECT_MAP + *(volatile uint32_t *)(DIRECT_MAP + boot_params + 0x228))
#define FD_DOORBELL 6
#define FD_ZYGOTE 7
#define ENOSYS 38
#define SIGILL 4
#define SIGSYS 31

/* ---- what the loader wants to see ---- */

#define SYMBOL(name) uint64_t name = 1
SYMBOL(kernel_map_base);
SYMBOL(fixaddr_top);
SYMBOL(cpu_entry_area_base);
SYMBOL(page_offset_base);
SYMBOL(vmalloc_base);
SYMBOL(vmemmap_base);
uint64_t early_top_pgt[512] __attribute__((aligned(4096)));
uint64_t init_top_pgt[512] __attribute__((aligned(4096)));
uint64_t level3_kernel_pgt[512] __attribute__((aligned(4096)));
static uint64_t level3[512] __attribute__((aligned(4096))), level2[512] __attribute__((aligned(4096))),
	level1[512] __attribute__((aligned(4096)));
static uint8_t stack[65536] __attribute__((aligned(64), used));
uint64_t boot_params;

asm(".section .note.ivmm, \"a\"\n"
    ".long 4, 8, 1\n"
    ".asciz \"LoL\"\n"
    ".long 1, 0\n"
    ".text\n"
    ".macro function name\n"
    "	.globl \\name\n"
    "	.type \\name, @function\n"
    "\\name:\n"
    "	ret\n"
    "	.size \\name, . - \\name\n"
    ".endm\n"
    "function ivmm_copy_from_user\n"
    "function ivmm_copy_to_user\n"
    "function copy_from_kernel_nofault\n"
    "function copy_fpstate_to_sigframe\n"
    "function __fpu_restore_sig\n"
    ".globl common_startup_64\n"
    "common_startup_64:\n"
    "	lea stack+65536-64(%rip), %rsp\n"
    "	mov %rsi, boot_params(%rip)\n"
    "	jmp attack\n"
    ".globl a_site\n" /* one of the table, never run */
    "a_site: cli\n"
    "	.byte 0x0f, 0x1f, 0x80, 0, 0, 0, 0\n"
    ".section .ivmm.sites, \"a\"\n"
    "	.long a_site - .\n"
    "	.byte 1, 0, 1, 8\n"
    ".text\n");

void *absolute = &boot_params; /* so that there are relocations */

/* ---- small things ---- */

static long host(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 asm("r10") = d, r8 asm("r8") = e, r9 asm("r9") = f;
	long ret;
	asm volatile("syscall"
		     : "=a"(ret)
		     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
		     : "rcx", "r11", "memory");
	return ret;
}

static long host80(long nr, long a, long b, long c)
{
	long ret;
	asm volatile("int $0x80" : "=a"(ret) : "a"(nr), "b"(a), "c"(b), "d"(c) : "memory", "r8", "r9", "r10", "r11");
	return ret;
}

static size_t length(const char *s)
{
	size_t n = 0;
	while (s[n])
		n++;
	return n;
}

static void say(const char *text)
{
	host(SYS_write, 2, (long)text, (long)length(text), 0, 0, 0);
}

static void say_number(const char *text, uint64_t n, const char *rest)
{
	char digits[24];
	unsigned i = sizeof(digits) - 1;

	digits[i] = 0;
	do
		digits[--i] = (char)('0' + n % 10);
	while (n /= 10);
	say(text);
	say(digits + i);
	say(rest);
}

void *memcpy(void *to, const void *from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((uint8_t *)to)[i] = ((const uint8_t *)from)[i];
	return to;
}

void *memset(void *to, int c, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((volatile uint8_t *)to)[i] = (uint8_t)c;
	return to;
}

/* The value of NAME= on the command line, as a string that ends at a blank; NULL: none. */
static const char *argument(const char *name)
{
	const char *p = (const char *)BOOT_CMDLINE;

	for (; *p; p++) {
		size_t i = 0;
		while (name[i] && p[i] == name[i])
			i++;
		if (!name[i] && p[i] == '=')
			return p + i + 1;
	}
	return NULL;
}

static bool is(const char *value, const char *text)
{
	while (*text && *value == *text)
		value++, text++;
	return !*text && (!*value || *value == ' ');
}

static uint64_t number(const char *name, unsigned base)
{
	const char *p = argument(name);
	uint64_t n = 0;

	for (; p && *p && *p != ' '; p++)
		n = n * base + (uint64_t)(*p <= '9' ? *p - '0' : *p - 'a' + 10);
	return n;
}

static uint64_t seed;
static uint64_t any(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	return seed ^= seed << 17;
}

static __attribute__((noreturn)) void end(void)
{
	for (;;)
		host(SYS_exit_group, 42, 0, 0, 0, 0, 0);
}

/* Does the host have memory here? A futex that reads the word and finds another value says so, without a fault. */
static bool readable(uint64_t va)
{
	long ret = host(SYS_futex, (long)(va & ~3ull), 128 /* FUTEX_WAIT, private */, 0x5a5a1234, 0, 0, 0);
	return ret == -11;
}

/* ---- lol-k's handler is ours ---- */

static uint64_t resume; /* where to go on after a fault; 0: nowhere */

/* As the host calls it: signal, siginfo, ucontext. */
static void handler(int sig, void *info, void *context)
{
	uint64_t *regs = (uint64_t *)((char *)context + 40); /* uc_mcontext: r8 ... rax is 13, rip 16 */

	(void)info;
	/* uprobe and uretprobe go by all filters, and send SIGILL to whoever does not come from where they belong */
	if (sig == SIGSYS || sig == SIGILL)
		regs[13] = (uint64_t)-ENOSYS;
	else if (resume)
		regs[16] = resume;
	else
		end();
}

static void take_over(void)
{
	uint8_t *code = (uint8_t *)number("handler", 16);
	uint8_t jump[12] = {0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xe0};
	uint64_t to = (uint64_t)handler, page = (uint64_t)code & ~4095ull;

	if (host(SYS_mprotect, (long)page, 8192, 7, 0, 0, 0)) {
		say("hostile: lol-k's text cannot be written\n");
		end();
	}
	memcpy(jump + 2, &to, 8);
	memcpy(code, jump, sizeof(jump));
}

static bool poke(volatile uint64_t *p, uint64_t value)
{
	volatile bool ok = false;

	asm volatile("lea 1f(%%rip), %%rax\n\tmov %%rax, %0" : "=m"(resume)::"rax");
	*p = value;
	ok = true;
	asm volatile("1:" ::
			     : "memory", "rax", "rcx", "rdx", "rbx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12",
			       "r13", "r14", "r15");
	resume = 0;
	return ok;
}

/* ---- system calls ---- */

/* Those that end this process or take its descriptors, with any arguments, are left out. */
static bool is_left_out(unsigned nr)
{
	return nr == SYS_exit || nr == SYS_exit_group || nr == SYS_rt_sigreturn || nr == SYS_close ||
	       nr == SYS_munmap || nr == SYS_mprotect;
}

static void attack_syscalls(void)
{
	static char path[256];
	const char *given = argument("path");
	long pid = (long)number("pid", 10), p = (long)path;
	/* open and creat; openat; kill, ptrace and process_vm_*; descriptors; sockets; the rest by nonsense */
	const long arguments[][6] = {{p, 0x242, 0666, 0, 0, 0}, {-100, p, 0x242, 0666, 0, 0}, {pid, 9, 0, 0, 0, 0},
				     {16, pid, 0, 0, 0, 0},     {0, 1, 2, 3, 4, 5},           {1, 1, 0, 0, 0, 0},
				     {p, p, p, 0, 0, 0},        {-1, -1, -1, -1, -1, -1}};
	unsigned tried = 0;

	for (unsigned i = 0; given && i + 1 < sizeof(path) && given[i] && given[i] != ' '; i++)
		path[i] = given[i];
	take_over();
	say("hostile: begin\n");
	for (unsigned nr = 0; nr < 600; nr++) {
		bool open = false;
		for (unsigned k = 0; k < sizeof(arguments) / sizeof(*arguments) && !is_left_out(nr); k++) {
			const long *a = arguments[k];
			if (nr == SYS_futex && k != 7) /* some of them would wait */
				continue;
			open |= host(nr, a[0], a[1], a[2], a[3], a[4], a[5]) != -ENOSYS;
			tried++;
		}
		if (open)
			say_number("hostile: open ", nr, "\n");
		for (unsigned k = 0; k < sizeof(arguments) / sizeof(*arguments); k++) {
			const long *a = arguments[k];
			if (host(nr | 0x40000000, a[0], a[1], a[2], a[3], a[4], a[5]) != -ENOSYS)
				say_number("hostile: open as x32 ", nr, "\n");
			if (nr < 500 && host80(nr, a[0], a[1], a[2]) != -ENOSYS)
				say_number("hostile: open by int 0x80 ", nr, "\n");
			tried += 2;
		}
	}
	say_number("hostile: end, ", tried, " calls\n");
}

/* ---- K's memory ---- */

#define PAGES 16384
static uint64_t todo[PAGES], seen[PAGES * 4];
static unsigned nseen;

static bool is_new(uint64_t page)
{
	if (nseen == PAGES * 3)
		return false;
	unsigned h = (unsigned)((page >> 12) * 0x9e3779b97f4a7c15ull >> 48) % (PAGES * 4);

	while (seen[h] && seen[h] != page)
		h = (h + 1) % (PAGES * 4);
	if (seen[h])
		return false;
	seen[h] = page;
	nseen++;
	return true;
}

/* From the stack, the thread's data and lol-k itself along everything that looks like a pointer; not guest memory. */
static unsigned collect(void)
{
	unsigned n = 0;
	uint64_t fs, start[] = {number("handler", 16), number("kctl", 16), 0};

	asm volatile("rdfsbase %0" : "=r"(fs));
	start[2] = fs;
	for (unsigned i = 0; i < 3; i++)
		if (is_new(start[i] & ~4095ull))
			todo[n++] = start[i] & ~4095ull;
	for (unsigned i = 0; i < n; i++) {
		const uint64_t *words = (const uint64_t *)todo[i];
		for (unsigned k = 0; k < 514; k++) {
			uint64_t page = (k < 512 ? words[k] : k == 512 ? todo[i] - 4096 : todo[i] + 4096) & ~4095ull;
			bool guest = page < 0x7f000000 || (page >= DIRECT_MAP && page < 0x720000000000ull);
			if (n < PAGES && !guest && page < 0x800000000000ull && is_new(page) && readable(page))
				todo[n++] = page;
		}
	}
	return n;
}

static void attack_scan(void)
{
	const char *secret = argument("secret");
	unsigned n = collect(), found = 0, len = 0;

	while (secret[len] && secret[len] != ' ')
		len++;
	for (unsigned i = 0; i < n; i++)
		for (unsigned at = 0; at + len <= 4096; at++) {
			const char *p = (const char *)todo[i] + at;
			unsigned k = 0;
			/* the other way round: so that this copy of it, on the command line, is not what is found */
			while (k < len && p[k] == secret[len - 1 - k])
				k++;
			found += k == len;
		}
	say_number("hostile: pages read ", n, "\n");
	if (found)
		say("hostile: secret found\n");
}

static void attack_scribble(void)
{
	unsigned n = collect(), wrote = 0;
	uint64_t mine, control = *(uint64_t *)number("kctl", 16) & ~4095ull;

	take_over();
	asm volatile("mov %%rsp, %0" : "=r"(mine));
	for (unsigned i = 0; i < n; i++)
		for (unsigned k = 0; k < 512 && (todo[i] < control || todo[i] >= control + (4u << 20)); k++)
			wrote += poke((uint64_t *)todo[i] + k, any());
	say_number("hostile: words written ", wrote, "\n");
}

/* ---- the control page ---- */

static void attack_control(void)
{
	uint64_t *kctl = (uint64_t *)*(uint64_t *)number("kctl", 16), one = 1;
	unsigned long which = seed, pages = 0;

	take_over();
	while (readable((uint64_t)kctl + pages * 4096) && pages < 1024)
		pages++;
	/* A page at the beginning, where most of it is; or all of the rest. */
	unsigned long first = which <= 8 ? (which - 1) * 512 : 8 * 512, words = which <= 8 ? 512 : (pages - 8) * 512;
	seed = seed * 0x9e3779b97f4a7c15ull | 1;
	for (unsigned round = 0; round < 3000; round++) {
		for (unsigned i = 0; i < 40; i++) {
			uint64_t value = any();
			switch (any() % 4) {
			case 0:
				value &= 0xff;
				break;
			case 1:
				value &= 0x300000003ull;
				break;
			case 2:
				value = -value % 64;
				break;
			}
			*(volatile uint64_t *)&kctl[first + any() % words] = value;
		}
		host(SYS_write, FD_DOORBELL, (long)&one, 8, 0, 0, 0);
		if (round % 16 == 0)
			host(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
	}
	say_number("hostile: pages of control ", pages, "\n");
}

/* ---- devices, as the architecture reaches them: ports, registers, virtqueues ---- */

static void out(uint16_t port, uint32_t value, unsigned size)
{
	if (size == 1)
		asm volatile("outb %%al, %%dx" ::"a"(value), "d"(port));
	else if (size == 2)
		asm volatile("outw %%ax, %%dx" ::"a"(value), "d"(port));
	else
		asm volatile("outl %%eax, %%dx" ::"a"(value), "d"(port));
}

static uint32_t in(uint16_t port, unsigned size)
{
	uint32_t value = 0;
	if (size == 1)
		asm volatile("inb %%dx, %%al" : "+a"(value) : "d"(port));
	else if (size == 2)
		asm volatile("inw %%dx, %%ax" : "+a"(value) : "d"(port));
	else
		asm volatile("inl %%dx, %%eax" : "+a"(value) : "d"(port));
	return value;
}

static void put(uint64_t va, uint64_t value, unsigned size)
{
	if (size == 1)
		asm volatile("movb %b0, (%1)" ::"a"(value), "r"(va) : "memory");
	else if (size == 2)
		asm volatile("movw %w0, (%1)" ::"a"(value), "r"(va) : "memory");
	else if (size == 4)
		asm volatile("movl %k0, (%1)" ::"a"(value), "r"(va) : "memory");
	else
		asm volatile("movq %q0, (%1)" ::"a"(value), "r"(va) : "memory");
}

static uint32_t get(uint64_t va)
{
	uint32_t value;
	asm volatile("movl (%1), %0" : "=a"(value) : "r"(va) : "memory");
	return value;
}

static uint64_t gpa_of(const void *p)
{
	return (uint64_t)p & 0x7fffffff; /* the image is at its physical addresses */
}

static void map_devices(void)
{
	early_top_pgt[VMALLOC >> 39] = gpa_of(level3) | 0x63;
	level3[VMALLOC >> 30 & 511] = gpa_of(level2) | 0x63;
	level2[VMALLOC >> 21 & 511] = gpa_of(level1) | 0x63;
	for (unsigned i = 0; i < 32; i++)
		level1[i] = (DEVICES + i * 4096ull) | 0x73;
}

#define QUEUES 0x4000000ull /* guest memory for them */
static uint64_t address(void)
{
	switch (any() % 8) {
	case 0:
		return any();
	case 1:
		return 0xffffffffffffff00ull | (any() & 0xff);
	case 2:
		return DEVICES + any() % 0x10000;
	default:
		return QUEUES + 0x10000 + any() % 0x40000;
	}
}

/* Bring a device up in order, then fill its queues with what may or may not be a chain. */
static void start_device(uint64_t base, unsigned queues)
{
	put(base + 0x70, 0, 4);
	put(base + 0x70, 3, 4);
	for (unsigned sel = 0; sel < 2; sel++) {
		put(base + 0x14, sel, 4);
		uint32_t features = get(base + 0x10);
		put(base + 0x24, sel, 4);
		put(base + 0x20, any() & 1 ? features : features & (any() | (sel ? 1u : 0)), 4);
	}
	put(base + 0x70, 11, 4);
	for (unsigned q = 0; q < queues; q++) {
		uint64_t page = DIRECT_MAP + QUEUES + q * 4096ull;
		for (unsigned i = 0; i < 16; i++) {
			*(volatile uint64_t *)(page + i * 16) = address();
			*(volatile uint32_t *)(page + i * 16 + 8) = (uint32_t)(any() & 1 ? any() % 600 : any());
			*(volatile uint16_t *)(page + i * 16 + 12) = (uint16_t)(any() % 8);
			*(volatile uint16_t *)(page + i * 16 + 14) = (uint16_t)(any() % 18);
			*(volatile uint16_t *)(page + 0x104 + i * 2) = (uint16_t)(any() % 18);
		}
		*(volatile uint32_t *)(page + 0x100) = (uint32_t)(any() & 7 ? 3u << 16 : any());
		put(base + 0x30, q, 4);
		put(base + 0x38, any() & 7 ? 16 : any(), 4);
		uint64_t at = any() & 15 ? QUEUES + q * 4096ull : address();
		for (unsigned part = 0; part < 3; part++) {
			put(base + 0x80 + part * 16, at + part * 0x100, 4);
			put(base + 0x84 + part * 16, at >> 32, 4);
		}
		put(base + 0x44, 1, 4);
	}
	put(base + 0x70, 15, 4);
	for (unsigned i = 0; i < 0x40000; i += 8) /* requests: small numbers look like headers */
		*(volatile uint64_t *)(DIRECT_MAP + QUEUES + 0x10000 + i) =
			any() & 1 ? any() : any() & 0x0000000f000000ffull;
	for (unsigned i = 0; i < 40; i++)
		put(base + 0x50, any() % (queues + 1), 4);
}

static void attack_devices(void)
{
	static const unsigned sizes[] = {1, 2, 4, 8};

	map_devices();
	for (unsigned round = 0; round < 30; round++)
		for (unsigned device = 0; device < 16; device++) {
			uint64_t base = VMALLOC + device * 4096ull;
			start_device(base, 6);
			for (unsigned i = 0; i < 40; i++) {
				unsigned size = sizes[any() % 4];
				uint64_t offset = any() % 0x200 & ~(uint64_t)(size - 1);
				if (any() & 1)
					put(base + offset, any() & 1 ? any() : any() % 32, size);
				else
					get(base + (offset & ~3ull));
			}
		}
	say("hostile: devices\n");
	/* Ports: all but those that reset or end the machine. */
	for (unsigned i = 0; i < 20000; i++) {
		uint16_t port = (uint16_t)(any() % 4 ? any() % 0x400 : any());
		unsigned size = sizes[any() % 3];
		if ((port >= 0x60 && port <= 0x64) || (port >= 0xcf6 && port <= 0xcf9) ||
		    (port >= 0x4c49 && port <= 0x4c4f))
			continue;
		if (any() & 1)
			out(port, (uint32_t)any(), size);
		else
			in(port, size);
	}
	say("hostile: ports\n");
}

/* ---- the zygote ---- */

static void attack_zygote(void)
{
	uint64_t message[64];
	unsigned answers = 0;

	for (unsigned round = 0; round < 400; round++) { /* each leaves processes that take CPU time from this one */
		for (unsigned i = 0; i < 64; i++)
			message[i] = any() & 1 ? any() : any() % 300;
		long size = any() & 1 ? 48 : (long)(any() % sizeof(message));
		if (any() & 1)
			*(uint32_t *)message = (uint32_t)(any() % 300); /* a slot that there is, more often than not */
		host(SYS_sendto, FD_ZYGOTE, (long)message, size, 0x40 /* MSG_DONTWAIT */, 0, 0);
		struct {
			uint64_t base, len;
		} iov = {(uint64_t)message, sizeof(message)};
		uint64_t header[7] = {0, 0, (uint64_t)&iov, 1, 0, 0, 0};
		host(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
		while (host(SYS_recvmsg, FD_ZYGOTE, (long)header, 0x40, 0, 0, 0) > 0)
			answers++;
	}
	say_number("hostile: answers ", answers, "\n");
}

/* ---- mappings without end ---- */

static void attack_maps(void)
{
	unsigned n = 0;

	for (uint64_t va = 0x720000000000ull; n < 200000; va += 8192, n++)
		if (host(SYS_mmap, (long)va, 4096, 3, 0x11 /* shared, fixed */, 3, 0) < 0)
			break;
	say_number("hostile: mappings ", n, "\n");
	in(0x71, 1);
}

static void attack_close(void)
{
	for (unsigned fd = 0; fd < 64; fd++)
		if (fd != 2)
			host(SYS_close, fd, 0, 0, 0, 0, 0);
	say("hostile: closed\n");
}

static void attack_stderr(void)
{
	char text[4096];

	for (unsigned i = 0; i < sizeof(text); i++)
		text[i] = (char)i; /* also what a terminal would act upon */
	for (unsigned i = 0; i < 5000; i++)
		host(SYS_write, 2, (long)text, sizeof(text), 0, 0, 0);
}

__attribute__((used)) void attack(void);
void attack(void)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} attacks[] = {{"syscalls", attack_syscalls}, {"scan", attack_scan},       {"scribble", attack_scribble},
		       {"control", attack_control},   {"devices", attack_devices}, {"zygote", attack_zygote},
		       {"maps", attack_maps},         {"close", attack_close},     {"stderr", attack_stderr}};
	const char *name = argument("attack");

	seed = number("seed", 10) + 1;
	for (unsigned i = 0; name && i < sizeof(attacks) / sizeof(*attacks); i++)
		if (is(name, attacks[i].name))
			attacks[i].run();
	end();
}

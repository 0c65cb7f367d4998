// SPDX-License-Identifier: BSD-2-Clause
/*
 * Probes in programs (uprobes): the kernel puts a breakpoint into the text of a running program and steps over what it has
 * displaced, also where LoL has rewritten the system call beside it. Kernels with CONFIG_UPROBE_EVENTS have them (--debug).
 */
#include "guest-test.h"

#include <linux/perf_event.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* getppid with the number's mov before, and a number for edi behind: what the sites' tests call, but in the text of this file. */
long probed(void);
extern const char probed_call[], probed_behind[], probed_end[];
asm(".pushsection .text\n"
    ".balign 256\n"
    "probed:\n"
    "	xor %edi, %edi\n"
    "	mov $110, %eax\n"
    "probed_call:\n"
    "	syscall\n"
    "probed_behind:\n"
    "	add $0x1234, %edi\n"
    "	add %rdi, %rax\n"
    "probed_end:\n"
    "	ret\n"
    ".balign 256\n"
    ".popsection\n");

#define CALLS 400

static int uprobe_type(void)
{
	FILE *f;
	int type = -1;

	mkdir("/sys", 0755);
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	f = fopen("/sys/bus/event_source/devices/uprobe/type", "r");
	if (f && fscanf(f, "%d", &type) != 1)
		type = -1;
	if (f)
		fclose(f);
	return type;
}

/* Offset in this file of an address in its text, for a static program that is not relocated. */
static uint64_t offset_of(const char *va)
{
	char line[256];
	uint64_t found = 0;
	FILE *f = fopen("/proc/self/maps", "r");

	CHECK(f != NULL);
	while (fgets(line, sizeof(line), f)) {
		unsigned long start, end, offset;
		if (sscanf(line, "%lx-%lx %*s %lx", &start, &end, &offset) == 3 && (uintptr_t)va >= start &&
		    (uintptr_t)va < end)
			found = (uintptr_t)va - start + offset;
	}
	fclose(f);
	return found;
}

static int probe_at(int type, const char *va, pid_t pid)
{
	static char path[] = "/proc/self/exe";
	char file[256];
	ssize_t n = readlink(path, file, sizeof(file) - 1);

	CHECK(n > 0);
	file[n] = 0;
	struct perf_event_attr attr = {
		.type = (uint32_t)type, .size = sizeof(attr), .config1 = (uintptr_t)file, .config2 = offset_of(va)};
	int fd = (int)syscall(SYS_perf_event_open, &attr, pid, -1, -1, 0);
	CHECK(fd >= 0);
	return fd;
}

static uint64_t count_of(int fd)
{
	uint64_t count = 0;

	CHECK_EQ(read(fd, &count, sizeof(count)), sizeof(count));
	close(fd);
	return count;
}

static void calls(void)
{
	for (int i = 0; i < CALLS; i++)
		CHECK_EQ(probed(), getppid() + 0x1234);
}

TEST_LIMIT(probes_beside_a_system_call, 120)
{
	int type = uprobe_type();
	const char *places[] = {(const char *)probed, probed_call - 5, probed_call, probed_behind, probed_end};

	if (type < 0)
		SKIP("the kernel has no uprobes");
	calls(); /* the site is rewritten */
	for (unsigned round = 0; round < 3; round++)
		for (size_t i = 0; i < ARRAY_LEN(places); i++) {
			int fd = probe_at(type, places[i], 0);
			calls();
			CHECK_EQ(count_of(fd), CALLS);
			calls(); /* it is gone */
		}
}

TEST_LIMIT(probes_of_a_running_program, 120)
{
	int type = uprobe_type(), st;
	volatile uint32_t *turns = map_shared(PAGE);

	if (type < 0)
		SKIP("the kernel has no uprobes");
	pid_t pid = fork_ok();
	if (!pid)
		for (;;) {
			CHECK_EQ(probed(), getppid() + 0x1234);
			++*turns;
		}
	for (unsigned round = 0; round < 60; round++) {
		uint32_t before = *turns;
		while (*turns < before + 20)
			sched_yield();
		int fd = probe_at(type, round % 2 ? probed_call : probed_behind, pid);
		before = *turns;
		while (*turns < before + 20)
			sched_yield();
		CHECK(count_of(fd) >= 19); /* the call that was under way may have been behind the place */
	}
	kill(pid, SIGKILL);
	CHECK_EQ(waitpid(pid, &st, 0), pid);
	CHECK(WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL);
}

int main(int argc, char **argv)
{
	return run_tests(argc, argv);
}

// SPDX-License-Identifier: BSD-2-Clause
/* Dumps: the file's structure, what is moved to link addresses and what is not, holes, and hostile guest memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dump.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/procfs.h>
#include <sys/stat.h>
#include <sys/user.h>
#include <unistd.h>

#define MIB (1ull << 20)
#define IMAGE (16 * MIB)
#define IMAGE_END (18 * MIB)
#define PGD IMAGE
#define PUD (IMAGE + 0x1000)
#define PMD (IMAGE + 0x2000)
#define PTE (IMAGE + 0x3000)
#define INFO (IMAGE + 0x4000) /* vmcoreinfo_data, vmcoreinfo_size */
#define TEXT (20 * MIB)       /* where the text of vmcoreinfo is */

static struct dump_source src;
static struct vcpu_state vcpu[2];
static uint8_t *file;
static size_t file_size;

static void put_word(gpa_t gpa, uint64_t value)
{
	memcpy(ram_ptr(&src.ram, gpa, 8), &value, 8);
}

static int setup(void **state)
{
	uint64_t size = 32 * MIB;

	(void)state;
	memset(&src, 0, sizeof(src));
	memset(vcpu, 0, sizeof(vcpu));
	src = (struct dump_source){.ram = {.size = size, .low = size, .fd = memfd_create("ram", MFD_CLOEXEC)},
				   .image = IMAGE,
				   .image_end = IMAGE_END,
				   .top_pgt = PGD,
				   .vmcoreinfo_data = INFO,
				   .vmcoreinfo_size = INFO + 8,
				   .nvcpus = 2,
				   .vcpus = vcpu};
	if (src.ram.fd < 0 || ftruncate(src.ram.fd, (off_t)size))
		return -1;
	src.ram.base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, src.ram.fd, 0);
	/* The first 512 GiB: image in the first GiB, two module pages in the second. */
	put_word(PGD, PUD | 3);
	put_word(PUD, 0x12345003);
	put_word(PUD + 8, PMD | 3);
	put_word(PMD, PTE | 3);
	put_word(PTE, 0x5003);
	put_word(PTE + 16, 0x6003);
	return src.ram.base == MAP_FAILED;
}

static int teardown(void **state)
{
	(void)state;
	munmap(src.ram.base, src.ram.size);
	close(src.ram.fd);
	free(file);
	file = NULL;
	return 0;
}

static int dump(struct lol_error *err)
{
	int fd = memfd_create("dump", MFD_CLOEXEC), ret = dump_write(fd, &src, err);
	struct stat st;

	fstat(fd, &st);
	file_size = (size_t)st.st_size;
	free(file);
	file = calloc(1, file_size + 1);
	assert_int_equal(pread(fd, file, file_size, 0), file_size);
	/* Holes are holes. */
	if (!ret)
		assert_true(st.st_blocks * 512 < 2 * (off_t)MIB);
	close(fd);
	return ret;
}

/* Where a virtual address is in the file. */
static const uint8_t *at(gva_t va)
{
	const Elf64_Ehdr *head = (const void *)file;
	const Elf64_Phdr *ph = (const void *)(file + head->e_phoff);

	for (unsigned i = 0; i < head->e_phnum; i++)
		if (ph[i].p_type == PT_LOAD && va - ph[i].p_vaddr < ph[i].p_filesz)
			return file + ph[i].p_offset + (va - ph[i].p_vaddr);
	return NULL;
}

static uint64_t word(gpa_t gpa)
{
	uint64_t value;

	assert_non_null(at(K_DIRECT_MAP + gpa));
	memcpy(&value, at(K_DIRECT_MAP + gpa), 8);
	return value;
}

static const void *note(const char *name, uint32_t type, unsigned which, size_t *len)
{
	const Elf64_Ehdr *head = (const void *)file;
	const Elf64_Phdr *ph = (const void *)(file + head->e_phoff);
	const uint8_t *p = file + ph[0].p_offset, *end = p + ph[0].p_filesz;

	assert_int_equal(ph[0].p_type, PT_NOTE);
	while (p < end) {
		const Elf64_Nhdr *n = (const void *)p;
		const uint8_t *desc = p + sizeof(*n) + ALIGN_UP(n->n_namesz, 4);
		if (!strcmp((const char *)p + sizeof(*n), name) && n->n_type == type && !which--) {
			*len = n->n_descsz;
			return desc;
		}
		p = desc + ALIGN_UP(n->n_descsz, 4);
	}
	assert_true(p == end);
	return NULL;
}

static void test_moved(void **state)
{
	static const struct {
		uint64_t word, dumped;
	} words[] = {
		{0, 0},
		{1, 1},
		{IMAGE, DUMP_MAP_BASE + IMAGE},
		{IMAGE + 12345, DUMP_MAP_BASE + IMAGE + 12345},
		{IMAGE_END - 1, DUMP_MAP_BASE + IMAGE_END - 1},
		{IMAGE_END, IMAGE_END},
		{IMAGE - 1, IMAGE - 1},
		{K_DIRECT_MAP + IMAGE, K_DIRECT_MAP + IMAGE},
		{0xffffffff81000000, 0xffffffff81000000},
		{K_MODULES + 0x10, DUMP_MAP_BASE + K_MODULES + 0x10}, /* mapped */
		{K_MODULES + 0x1010, K_MODULES + 0x1010},             /* not */
		{K_MODULES + 0x2ff8, DUMP_MAP_BASE + K_MODULES + 0x2ff8},
		{K_LOW_END, K_LOW_END},
		{~0ull, ~0ull},
	};
	struct lol_error err;

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(words); i++)
		put_word(30 * MIB + i * 8, words[i].word);
	memcpy(ram_ptr(&src.ram, IMAGE + 0x10000, 5), "image", 5);
	assert_int_equal(dump(&err), 0);
	for (unsigned i = 0; i < ARRAY_LEN(words); i++)
		if (word(30 * MIB + i * 8) != words[i].dumped)
			fail_msg("%llx became %llx", (unsigned long long)words[i].word,
				 (unsigned long long)word(30 * MIB + i * 8));
	assert_memory_equal(at(DUMP_MAP_BASE + IMAGE + 0x10000), "image", 5);
	/* The page table leads there, too. */
	assert_int_equal(word(PGD + 511 * 8), PUD | 3);
	assert_int_equal(word(PUD + 510 * 8), 0x12345003);
	assert_int_equal(word(PUD + 511 * 8), PMD | 3);

	src.raw = true;
	assert_int_equal(dump(&err), 0);
	for (unsigned i = 0; i < ARRAY_LEN(words); i++)
		assert_int_equal(word(30 * MIB + i * 8), words[i].word);
	assert_int_equal(word(PGD + 511 * 8), 0);
	assert_memory_equal(at(IMAGE + 0x10000), "image", 5);
}

static void test_registers(void **state)
{
	struct user_regs_struct regs;
	struct elf_prstatus status;
	struct lol_error err;
	const void *p;
	size_t len;

	(void)state;
	for (int i = 0; i < 16; i++)
		vcpu[1].r[i] = (uint64_t)i + 100;
	vcpu[1].r[4] = IMAGE + 8;
	vcpu[1].rip = IMAGE + 0x100;
	vcpu[1].rflags = 0x246;
	vcpu[1].gs_base = 0x400001000000;
	vcpu[1].sel[SEG_CS] = 0x10;
	vcpu[0].rip = IMAGE + 0x100;
	vcpu[0].cpl = 3;
	assert_int_equal(dump(&err), 0);
	p = note("CORE", NT_PRSTATUS, 1, &len);
	assert_non_null(p);
	assert_int_equal(len, sizeof(status));
	memcpy(&status, p, len);
	memcpy(&regs, &status.pr_reg, sizeof(regs));
	assert_int_equal(status.pr_pid, 2);
	assert_int_equal(regs.rax, 100);
	assert_int_equal(regs.rcx, 101);
	assert_int_equal(regs.rsp, DUMP_MAP_BASE + IMAGE + 8);
	assert_int_equal(regs.r15, 115);
	assert_int_equal(regs.rip, DUMP_MAP_BASE + IMAGE + 0x100);
	assert_int_equal(regs.eflags, 0x246);
	assert_int_equal(regs.gs_base, 0x400001000000);
	assert_int_equal(regs.cs, 0x10);
	memcpy(&status, note("CORE", NT_PRSTATUS, 0, &len), sizeof(status));
	memcpy(&regs, &status.pr_reg, sizeof(regs));
	assert_int_equal(regs.rip, IMAGE + 0x100); /* user code has addresses like these, too */
	assert_null(note("CORE", NT_PRSTATUS, 2, &len));
}

static void test_vmcoreinfo(void **state)
{
	static const char text[] =
		"OSRELEASE=6.12\nSYMBOL(_stext)=1000000\nSYMBOL(mem_section)=40000feb3000\nKERNELOFFSET=80000000\n"
		"NUMBER(phys_base)=5\nSIZE(page)=64\nodd line\nSYMBOL(swapper_pg_dir)=11fffff\nSYMBOL(x)=";
	struct lol_error err;
	const char *p;
	size_t len;

	(void)state;
	strcpy(ram_ptr(&src.ram, TEXT, sizeof(text)), text);
	put_word(INFO, K_DIRECT_MAP + TEXT);
	put_word(INFO + 8, sizeof(text) - 1);
	assert_int_equal(dump(&err), 0);
	p = note("VMCOREINFO", 0, 0, &len);
	static const char expected[] =
		"OSRELEASE=6.12\nSYMBOL(_stext)=ffffffff81000000\nSYMBOL(mem_section)=40000feb3000\nKERNELOFFSET=0\n"
		"NUMBER(phys_base)=0\nSIZE(page)=64\nodd line\nSYMBOL(swapper_pg_dir)=ffffffff811fffff\nSYMBOL(x)=0\n";
	assert_int_equal(len, sizeof(expected) - 1);
	assert_memory_equal(p, expected, len);
}

/* Whatever the guest has in these places, a dump comes out. */
static void test_hostile(void **state)
{
	static const struct {
		uint64_t data, size;
	} infos[] = {
		{0, 0},      {~0ull, ~0ull},          {K_DIRECT_MAP + TEXT, ~0ull}, {K_DIRECT_MAP + 32 * MIB - 8, 4096},
		{TEXT, 100}, {K_DIRECT_MAP - 1, 100}, {K_DIRECT_MAP + TEXT, 16384}, {K_VMALLOC - 1, 2},
	};
	struct lol_error err;
	size_t len;

	(void)state;
	/* 16 KiB of lines that become longer. */
	char *text = ram_ptr(&src.ram, TEXT, 20000);
	for (size_t i = 0; i + 18 <= 20000; i += 18)
		memcpy(text + i, "SYMBOL(y)=1000001\n", 18);
	for (size_t i = 0; i < ARRAY_LEN(infos); i++) {
		put_word(INFO, infos[i].data);
		put_word(INFO + 8, infos[i].size);
		assert_int_equal(dump(&err), 0);
		assert_non_null(note("VMCOREINFO", 0, 0, &len));
	}
	memset(text, 'x', 20000); /* no line at all */
	assert_int_equal(dump(&err), 0);
	/* Tables that lead nowhere, or to themselves. */
	for (int i = 0; i < 512; i++) {
		put_word(PUD + (gpa_t)i * 8, PUD | 3);
		put_word(PMD + (gpa_t)i * 8, ~0ull);
	}
	assert_int_equal(dump(&err), 0);
	put_word(PUD + 8, PMD | 3);
	assert_int_equal(dump(&err), 0);
	put_word(PGD, 0x000ffffffffff003);
	assert_int_equal(dump(&err), 0);
	src.top_pgt = ~0ull;
	src.vmcoreinfo_data = src.vmcoreinfo_size = ~0ull;
	assert_int_equal(dump(&err), 0);
	src.top_pgt = src.image = src.image_end = src.vmcoreinfo_data = 0;
	assert_int_equal(dump(&err), 0);
}

static void test_cancelled(void **state)
{
	_Atomic bool cancel = true;
	struct lol_error err;

	(void)state;
	src.cancel = &cancel;
	assert_int_equal(dump(&err), -ECANCELED);
	assert_true(memcmp(file, ELFMAG, 4));
}

static void test_full(void **state)
{
	int fd = memfd_create("dump", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct lol_error err;

	(void)state;
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), 0);
	assert_int_equal(dump_write(fd, &src, &err), -EPERM);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_moved, setup, teardown),
		cmocka_unit_test_setup_teardown(test_registers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_vmcoreinfo, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hostile, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancelled, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

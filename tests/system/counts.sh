#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# --stats after a load of processes, pipes and files: what should not trap does not. Counts, never times.
# shellcheck disable=SC2016 # what stands in single quotes is for the guest's shell
. "$(dirname "$0")/lib/guest.sh"

stat_of() {
	sed -n "s/^ *\"$1\": \([0-9]*\),*$/\1/p" "$LOL_TMP/stats.json"
}

boot 120 -q -m 256M -i "$(shell_initrd)" --stats="$LOL_TMP/stats.json" -- sh -c '
	i=0
	while [ $i -lt 60 ]; do
		seq 1 300 | sort -r | wc -l >/dev/null
		ls -lR /bin >/dev/null
		i=$((i + 1))
	done
	echo loaded'
expect_status 0
expect loaded

calls=$(stat_of site_calls) traps=$(stat_of site_traps) sites=$(stat_of sites)
[ "$sites" -gt 1000 ] || fail "only $sites sites"
[ "$calls" -gt 10000 ] || fail "only $calls calls of sites"
[ $((traps * 100)) -lt "$calls" ] || fail "$traps of $((calls + traps)) sensitive instructions trapped"
[ "$(stat_of mmio_sites)" -gt 50 ] || fail "only $(stat_of mmio_sites) accesses to registers of devices by sites"
[ "$(stat_of mmio_traps)" = 0 ] || fail "$(stat_of mmio_traps) accesses to registers of devices trapped"
all=$(stat_of u_syscalls) fast=$(stat_of u_fast_syscalls)
[ $((fast * 100)) -gt $((all * 80)) ] || fail "only $fast of $all system calls came without a signal"
short=$(stat_of u_short_returns)
[ $((short * 100)) -gt $((fast * 80)) ] || fail "after only $short of $fast system calls no register went through shared memory"

# More pages with system calls than LoL rewrites at a time: those that are gone make room, and the last ones are rewritten too.
if which cc >/dev/null; then
	mkdir -p "$LOL_TMP/root/bin"
	cat >"$LOL_TMP/pages.c" <<'END'
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#define PAGES 500
int main(void)
{
	static const unsigned char code[] = {0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0x3d, 1, 2, 3, 4, 0xc3}; /* getpid, cmp, ret */
	for (int file = 0; file < 6; file++) {
		int fd = memfd_create("text", 0); /* stays, as the page cache of a file does */
		for (int i = 0; i < PAGES; i++)
			if (pwrite(fd, code, sizeof(code), i * 4096) != sizeof(code) || pwrite(fd, (int[]){file, i}, 8, i * 4096 + 64) != 8)
				return 1;
		ftruncate(fd, PAGES * 4096);
		unsigned char *p = mmap(NULL, PAGES * 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
		for (int call = 0; call < 100; call++)
			for (int i = 0; i < PAGES; i++)
				((void (*)(void))(p + i * 4096))();
		munmap(p, PAGES * 4096);
	}
	puts("called");
	return 0;
}
END
	cc -static -O1 -o "$LOL_TMP/root/bin/pages" "$LOL_TMP/pages.c" || fail "pages.c"
	"$LOL_GUEST" initrd build "$LOL_TMP/pages.gz" --add "$LOL_TMP/root" || fail initrd
	boot 120 -q -m 256M -i "$LOL_TMP/pages.gz" --stats="$LOL_TMP/stats.json" -- /bin/pages
	expect_status 0
	expect called
	all=$(stat_of u_syscalls) fast=$(stat_of u_fast_syscalls) evicted=$(stat_of u_copies_evicted)
	[ "$all" -gt 300000 ] && [ $((fast * 100)) -gt $((all * 90)) ] || fail "only $fast of $all system calls came without a signal"
	[ "$evicted" -gt 0 ] || fail "no copy has made room"
	echo "$all system calls, $((all - fast)) with a signal, $evicted copies made room"

	# Large mappings: a file that is read from end to end (11 faults for 4096 pages, with 64 pages each it would be 64), and
	# pages of large folios, which take as many operations of the host as there are folios.
	cat >"$LOL_TMP/mappings.c" <<'END'
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>
#define SIZE (16ul << 20)
int main(int argc, char **argv)
{
	static char block[4096];
	int fd = open("/tmp/file", O_RDWR | O_CREAT, 0600);
	for (long i = 0; i < SIZE / 4096; i++) {
		memcpy(block, &i, sizeof(i));
		if (write(fd, block, 4096) != 4096)
			return 1;
	}
	for (int turn = 0; turn < 20; turn++) {
		char *p = argc > 1 ? mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
				   : mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
		if (argc > 1)
			madvise(p, SIZE, MADV_HUGEPAGE);
		for (long i = 0; i < SIZE / 4096; i++) {
			volatile long *word = (long *)(p + i * 4096);
			if (argc > 1)
				*word = i;
			if (*word != i)
				return 2;
		}
		munmap(p, SIZE);
	}
	struct utsname name;
	uname(&name);
	printf("mapped by %s\n", name.release);
	return 0;
}
END
	cc -static -O1 -o "$LOL_TMP/root/bin/mappings" "$LOL_TMP/mappings.c" || fail "mappings.c"
	"$LOL_GUEST" initrd build "$LOL_TMP/mappings.gz" --add "$LOL_TMP/root" || fail initrd
	for what in "" anonymous; do
		# shellcheck disable=SC2086 # a word or none
		boot 120 -q -m 256M -i "$LOL_TMP/mappings.gz" --stats="$LOL_TMP/stats.json" -- /bin/mappings $what
		expect_status 0
		expect "mapped by"
		faults=$(stat_of u_pf_injected) fills=$(stat_of u_fills)
		echo "${what:-file}: $faults faults, $fills fills for 20 times 4096 pages"
		! grep -q "mapped by 6\.1\." "$CONSOLE" || continue # without the kit's patch for this
		[ "$faults" -lt 600 ] || fail "${what:-file}: $faults faults that the guest served for 20 times 4096 pages"
		grep -q "mapped by 6\.12\." "$CONSOLE" || continue # nor this one
		[ "$fills" -lt 1200 ] || fail "${what:-file}: $fills fills for 20 times 4096 pages"
	done
fi
echo passed

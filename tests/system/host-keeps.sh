#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# A guest that forks and maps without end: what it takes of the host is bounded (docs/threat-model.md), by number of processes and
# in memory: that of the guest, 64 MiB, and so much for each U. Looked at from outside, while tests/guest/limits.c does its worst.
# timeout: 600
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/lib/guest.sh"
cd "$LOL_TMP" || exit 1
which cc >/dev/null || skip "no C compiler"
RAM_MIB=512 FIXED_MIB=64 U_MIB=14 PROCESSES_MAX=132 # 128 U's, lol-run, the zygote, K and what waits for them

mkdir -p root/t
bash "$TESTS/guest/build" "$LOL_TMP/root/t" >build.log 2>&1 || { tail -n 3 build.log; skip "the guest tests cannot be compiled (apt-get install gcc libc6-dev)"; }
find root/t -type f ! -name limits -delete
chmod -R a+rX root
"$LOL_GUEST" initrd build limits.gz --add root || fail initrd

# KiB that the processes below PID take: private memory and page tables of each, and the files that they share, once.
taken_kib() {
	local pid fd kib=0 file files=" "
	for pid in $(tree_pids "$1"); do
		kib=$((kib + $(awk '/^(RssAnon|VmPTE):/ { n += $2 } END { print n + 0 }' "/proc/$pid/status" 2>/dev/null || echo 0)))
	done
	for pid in $(tree_pids "$1"); do
		for fd in "/proc/$pid/fd"/*; do
			file=$(stat -L -c '%d:%i' "$fd" 2>/dev/null) || continue
			[[ $(readlink "$fd" 2>/dev/null) == *memfd:lol-* && $files != *" $file "* ]] || continue
			files+="$file "
			kib=$((kib + $(stat -L -c %b "$fd" 2>/dev/null || echo 0) / 2))
		done
		[ "$files" = " " ] || break # the first has them all
	done
	echo "$kib"
}

for load in fork_bomb scattered_pages alternating_rights; do
	timeout -k 10 280 "$LOL_RUN" "$LOL_KERNEL" -q -m ${RAM_MIB}M -i limits.gz -- /t/limits $load </dev/null >out.$load 2>err.$load &
	vm=$! most=0 most_kib=0
	while kill -0 $vm 2>/dev/null; do
		n=$(tree_pids $vm | wc -l) kib=$(taken_kib $vm)
		[ "$n" -le $most ] || most=$n
		[ "$kib" -le $most_kib ] || most_kib=$kib
		[ "$n" -le $PROCESSES_MAX ] || fail "$load: $n processes"
		[ "$kib" -le $(((RAM_MIB + FIXED_MIB + U_MIB * n) * 1024)) ] || fail "$load: $((kib / 1024)) MiB in $n processes"
		sleep 0.3
	done
	wait $vm || fail "$load: $(cat out.$load err.$load)"
	grep -q "^ok $load" out.$load || fail "$load did not run: $(cat out.$load)"
	[ $most -ge 4 ] && [ $most_kib -gt 20000 ] || fail "$load: looked at $most processes, $most_kib KiB"
	echo "$load: at most $most processes, $((most_kib / 1024)) MiB"
done
echo passed

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
all=$(stat_of u_syscalls) fast=$(stat_of u_fast_syscalls)
[ $((fast * 100)) -gt $((all * 80)) ] || fail "only $fast of $all system calls came without a signal"
echo passed

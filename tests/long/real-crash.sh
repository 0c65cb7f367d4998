#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# A guest writes SQLite transactions with synchronous=EXTRA and is killed in the middle: the monitor, K or a U, by SIGKILL.
# Afterwards the file system recovers, the database is whole and every transaction that was reported as committed is there;
# no process of the VM is left. LOL_CRASH_ROUNDS sets the rounds (default: 6).
# timeout: 3000
# shellcheck source=tests/long/real/vm.sh
. "$(dirname "$0")/real/vm.sh"

prepare
disk=$LOL_TMP/disk.img
cp --sparse=always "$IMAGE" "$disk" && chmod a+rw "$disk" || fail "no room for a copy of the image"

gone() { # PID...: false when one of them still runs 3 s later
	local pid i
	for pid in "$@"; do
		for ((i = 0; i < 30; i++)); do
			[ -e "/proc/$pid" ] && ! grep -q '^State:.*Z' "/proc/$pid/status" 2>/dev/null || break
			sleep 0.1
		done
		[ $i -lt 30 ] || { echo "process $pid ($(cat "/proc/$pid/comm")) is left"; return 1; }
	done
}

modes=(DELETE WAL TRUNCATE)
victims=(lol-run lol-k lol-run lol-u)
committed=0
for ((round = 1; round <= ${LOL_CRASH_ROUNDS:-6}; round++)); do
	mode=${modes[round % 3]} victim=${victims[round % 4]}
	printf 'import sys; sys.argv = ["", "%s"]\n' "$mode" | cat - "$REAL/crash-writer.py" >"$LOL_TMP/writer.py"
	on_image 300 "$disk" -- python3 - <"$LOL_TMP/writer.py" >"$LOL_TMP/commits" 2>"$ERRORS" &
	timer=$!
	for ((i = 0; i < 600; i++)); do
		grep -q '^commit' "$LOL_TMP/commits" 2>/dev/null && break
		sleep 0.1
	done
	[ $i -lt 600 ] || fail "the guest has not begun to write after 60 s"
	sleep "$((1 + RANDOM % 3)).$((RANDOM % 10))"
	mapfile -t processes < <(vm_processes $timer | tail -n +2)
	target=
	for pid in "${processes[@]}"; do
		[ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$victim" ] && target=$pid # of several, the last
	done
	[ "$target" ] || fail "no process $victim among ${processes[*]}"
	kill -KILL "$target"
	# A program whose U was killed in the middle of user code dies; in a system call it gets another one and goes on.
	if [ "$victim" = lol-u ]; then
		for ((i = 0; i < 50; i++)); do
			alive $timer || break
			sleep 0.1
		done
		if alive $timer; then
			before=$(stat -c %s "$LOL_TMP/commits")
			sleep 2
			[ "$(stat -c %s "$LOL_TMP/commits")" -gt "$before" ] || fail "a U was killed and the VM hangs"
			echo "round $round: the program goes on"
			mapfile -t processes < <(vm_processes $timer | tail -n +2)
			for pid in "${processes[@]}"; do
				[ "$(cat "/proc/$pid/comm" 2>/dev/null)" != lol-run ] || kill -KILL "$pid"
			done
		fi
	fi
	wait $timer
	status=$?
	[ $status != 124 ] || fail "a process was killed and the VM hangs"
	gone "${processes[@]}" || fail "processes are left"
	last=$(grep -a '^commit [0-9]*$' "$LOL_TMP/commits" | tail -n 1 | cut -d' ' -f2)
	[ -n "$last" ] || last=$committed
	on_image 120 "$disk" -- bash -c 'sqlite3 /srv/crash.db "PRAGMA integrity_check; SELECT max(n) FROM t; SELECT count(*) FROM t WHERE n > (SELECT max(n) - 400 FROM t)"; dmesg | grep -iE "EXT4-fs error|corrupt" >&2; sync' \
		>"$LOL_TMP/check" 2>"$ERRORS" </dev/null || fail "round $round: the guest does not come up again"
	mapfile -t check <"$LOL_TMP/check"
	printf 'round %d: %s killed (status %s), journal %s, last commit seen %s, in the database %s, %s rows\n' \
		$round "$victim" $status "$mode" "$last" "${check[1]:-?}" "${check[2]:-?}"
	[ "${check[0]:-}" = ok ] || fail "integrity_check: ${check[*]}"
	[ "${check[1]:-0}" -ge "$last" ] || fail "committed transactions are lost"
	[ "${check[1]}" -lt 400 ] || [ "${check[2]}" = 400 ] || fail "rows are missing"
	[ ! -s "$ERRORS" ] || fail "the file system complains"
	committed=$last
done
PATH=$PATH:/usr/sbin:/sbin
if command -v e2fsck >/dev/null; then
	e2fsck -fn "$disk" >"$LOL_TMP/fsck" 2>&1 || { tail -n 20 "$LOL_TMP/fsck"; fail "e2fsck finds errors"; }
	echo "e2fsck: clean"
fi

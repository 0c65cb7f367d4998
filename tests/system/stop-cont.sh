#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# SIGSTOP and SIGCONT to a VM's processes, as job control, a freezer or a tracer do: the host then restarts what they were
# waiting in (restart_syscall where the wait has a time-out), and the guest goes on as if nothing had been.
# timeout: 200
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/lib/guest.sh"
cd "$LOL_TMP" || exit 1
initrd=$(shell_initrd)

mkfifo input
for handoff in auto sleep; do
	: >"$CONSOLE"
	# Computes, sleeps, prints, each for a while, until all stops have been.
	# shellcheck disable=SC2016 # for the guest's shell
	"$LOL_RUN" "$LOL_KERNEL" -q -m 256M -i "$initrd" --handoff $handoff -- sh -c 'echo ready; n=0
		while ! read -t 0.05 -n 1 word; do # one byte: what comes in part when time is up is lost
			i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done
			n=$((n + 1)); echo "round $n"
		done; echo "word $word"; exit 42' <input >"$CONSOLE" 2>"$ERRORS" &
	pid=$!
	exec 3>input
	wait_for_text 60 ready "$CONSOLE"
	for ((round = 0; round < 30; round++)); do
		mapfile -t pids < <(tree_pids "$pid")
		case $((round % 3)) in
		0) some=("${pids[@]}") ;;
		1) some=("$pid") ;;
		*) mapfile -t some < <(for p in "${pids[@]}"; do grep -qx lol-k "/proc/$p/comm" 2>/dev/null && echo "$p"; done) ;;
		esac
		kill -STOP "${some[@]}" 2>/dev/null
		sleep 0.03
		kill -CONT "${some[@]}" 2>/dev/null
		sleep 0.07
	done
	echo e >&3
	exec 3>&-
	wait "$pid"
	STATUS=$?
	expect_status 42
	expect "word e"
	[ ! -s "$ERRORS" ] || fail "$handoff: stderr"
done
echo passed

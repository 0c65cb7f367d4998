#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# A guest kernel that attacks the host (lib/hostile.c): system calls of the host, K's memory, the control page, device registers and
# virtqueues, the zygote. lol-run ends in order with a line that says why, and no file, socket or process outside is touched.
# timeout: 1500
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/lib/guest.sh"
cd "$LOL_TMP" || exit 1
if ! which cc nm >/dev/null; then skip "no C compiler"; fi

cc -std=gnu17 -O1 -Wall -Wextra -ffreestanding -fno-pie -no-pie -static -nostdlib -mcmodel=kernel -mno-red-zone -mgeneral-regs-only \
	-mfsgsbase -fno-stack-protector -fcf-protection=none -fno-tree-loop-distribute-patterns -Wl,--emit-relocs -Wl,--build-id=none \
	-Wl,-T,"$TESTS/system/lib/hostile.ld" -o hostile "$TESTS/system/lib/hostile.c" 2>cc.log ||
	{ tail -n 3 cc.log; skip "the hostile kernel cannot be compiled"; }
for lol_k in "${LOL_LIBEXEC:-$(dirname "$LOL_RUN")/../libexec/lol}/lol-k" "$(dirname "$LOL_RUN")/lol-k"; do
	[ ! -x "$lol_k" ] || break
done
address() { nm "$lol_k" | awk -v name="$1" '$3 == name { sub(/^0*/, "", $1); print $1 }'; }
handler=$(address sync_handler) kctl=$(address kctl)
[ "$handler" ] && [ "$kctl" ] || skip "$lol_k has no symbols"

# What is outside: files, a process, a socket that somebody listens on, a secret of lol-run's.
mkdir outside shared
echo "as it was" >outside/file
chmod 666 outside/file
echo "as it was" >shared/file
truncate -s 4M disk.img
sleep 1000 &
process=$!
python3 - outside/socket <<'END' &
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen()
s.accept()
open("connected", "w")
END
listener=$!
trap 'kill $process $listener 2>/dev/null; rm -rf "$LOL_TMP"/{outside,shared}' EXIT
for ((i = 0; i < 200; i++)); do
	[ ! -S outside/socket ] || break
	sleep 0.05
done
secret=quite-secret-$RANDOM$RANDOM
export LOL_TEST_SECRET=$secret
state() { ls -lin --time-style=full-iso outside shared disk.img && cat outside/file shared/file && sha256sum disk.img; }
before=$(state)

# attack NAME SEED [OPTION]...
attack() {
	local name=$1 seed=$2 initrd
	shift 2
	initrd=$(shell_initrd)
	run timeout -k 60 500 ${TRACE:-} "$LOL_RUN" hostile -q -m 256M -i "$initrd" "$@" -a "attack=$name seed=$seed handler=$handler kctl=$kctl" \
		-a "pid=$process path=$LOL_TMP/outside/file secret=$(rev <<<"$secret")" -- true </dev/null
	case $STATUS in
	0 | 125 | 126 | 127) ;;
	124) fail "$name $seed: not over after 500 s" ;;
	*) fail "$name $seed: status $STATUS" ;;
	esac
	[ "$STATUS" = 0 ] || grep -q '^lol-run: ' "$ERRORS" || fail "$name $seed: no reason given"
	[ "$(state)" = "$before" ] || fail "$name $seed: something outside has changed"
	alive $process || fail "$name $seed: a process outside is gone"
	[ ! -e connected ] || fail "$name $seed: a socket outside was connected to"
	! pgrep -f "^lol-[ku]? .*$LOL_TMP" >/dev/null || fail "$name $seed: processes are left"
}
says() { grep -qaE -e "hostile: $1" "$ERRORS" || fail "$2: it has not come to: $1"; }

# What it can call with its own arguments: write (to pipes of U's), sched_yield, getpid, sched_setaffinity (itself), restart_syscall,
# timer_settime, getrandom, clock_gettime, pidfd_send_signal (to U's), and uprobe, which goes by all filters of the host and does nothing. Futexes it can, too, but they are not tried with all arguments.
check_calls() {
	local nr
	says "end, [0-9]+ calls" syscalls
	! grep -qE 'open (as|by)' "$ERRORS" || fail "another set of numbers is open"
	for nr in $(sed -n 's/^hostile: open \([0-9]*\)$/\1/p' "$ERRORS"); do
		case $nr in
		1 | 24 | 39 | 202 | 203 | 219 | 223 | 228 | 318 | 335 | 336 | 424) ;;
		*) fail "system call $nr is open to the guest kernel" ;;
		esac
	done
}
attack syscalls 0
check_calls
# The same, looked at from outside: what is not on the list never ran.
if which strace >/dev/null && strace -qq -o /dev/null true 2>/dev/null; then
	TRACE="strace -f -qq -o $LOL_TMP/trace" attack syscalls 0
	check_calls
	python3 - trace <<'END' || fail "a system call of K's was not refused"
import re, sys
may = set("write sched_yield getpid clock_gettime sched_setaffinity restart_syscall timer_settime getrandom pidfd_send_signal futex rt_sigreturn uprobe uretprobe syscall_0x14f syscall_0x150".split())
inside, name, bad, seen = None, None, set(), 0
for line in open(sys.argv[1], errors="replace"):
	pid, text = line.rstrip("\n").split(None, 1)
	if not inside and 'write(2, "hostile: begin' in text: # the first one; the monitor passes it on
		inside = pid
	if pid != inside:
		continue
	if '"hostile: end' in text:
		break
	if text.startswith("--- "):
		if name and not re.match(r"--- SIG(SYS|ILL)\b", text):
			bad.add(name)
		name = None
		continue
	found = re.match(r"(<\.\.\. )?(\w+)", text)
	if found.group(1) and found.group(2) == name: # the rest of the line of a call
		continue
	if name:
		bad.add(name)
	name = found.group(2)
	seen += 1
	if name in may:
		name = None
print(seen, "system calls seen from outside", "; not refused:" if bad else "", *sorted(bad))
sys.exit(bool(bad) or seen < 10000)
END
else
	echo "strace cannot be used here: not looked at from outside"
fi

attack scan 0
says "pages read [0-9]{3}" scan
! grep -qa "secret found" "$ERRORS" || fail "the environment of lol-run is in K's memory"
attack maps 0
says "mappings [0-9]{4}" maps
attack close 0
says closed close
attack stderr 0
[ "$(stat -c %s "$ERRORS")" -lt 300000 ] || fail "stderr: $(stat -c %s "$ERRORS") bytes of K's on our standard error"
grep -q "the rest is dropped" "$ERRORS" || fail "stderr: not said that something is dropped"
! LC_ALL=C grep -qP '[^\t\n -~]' "$ERRORS" || fail "stderr: bytes that a terminal acts upon"
attack zygote 1 --cpus 2
says "answers" zygote
for seed in 1 2; do attack scribble $seed --cpus $seed; done
for seed in 0 1 2 3 4 5 6 7 8; do attack control $seed --cpus $((seed % 3 + 1)); done
for seed in 1 2 3; do
	attack devices $seed --disk disk.img,ro --disk disk.img,snapshot --share shared,ro --net user --vsock "$LOL_TMP/vsock" --balloon manual
	says "devices" devices
	says "ports" devices
done
echo passed

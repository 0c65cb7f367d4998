#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# timeout: 240
# A running VM and lolctl: all its commands, clients that misbehave, a killed VM, names that are taken.
# shellcheck disable=SC2016 # what stands in single quotes is for the guest's shell
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/lib/guest.sh"
# shellcheck source=tests/system/lib/control.sh
. "$(dirname "$0")/lib/control.sh"

initrd=$(guest_initrd 'echo guest is up
(while :; do :; done) & # keeps one CPU in user code
(i=0
while :; do
	i=$((i + 1))
	read -r up rest </proc/uptime
	echo "tick $i $up"
	sleep 1
done) &
while read -r line; do
	eval "$line"
done')

begin vm -m 256M -c 2 -i "$initrd" --console null
wait_for_state vm running

wait_for_console vm "tick 3 "

# What it says about itself.
ctl status vm
expect_status 0
for line in $'name\tvm' "pid	$PID" $'state\trunning' $'cpus\t2' $'memory\t256 MiB' "kernel	$LOL_KERNEL" $'console\tnull' $'restarts\t0'; do
	grep -qxF "$line" "$CONSOLE" || fail "status lacks: $line"
done
ctl ls
[[ $(cat "$CONSOLE") == vm$'\t'$PID$'\t'running$'\t'2$'\t'256M$'\t'* ]] || fail "ls"
ctl ls --json
python_ok "d[0]['name'] == 'vm' and d[0]['memory'] == 268435456"
ctl stats vm --json
python_ok "d['counters']['u_syscalls'] > 0 and d['resident'] > 0"
ctl stats vm
grep -qE '^irqs	[0-9]+$' "$CONSOLE" || fail "stats"
run timeout 5 "$LOLCTL" stats vm --watch
grep -qE 'hlt [0-9]+/s' "$CONSOLE" || fail "stats --watch"

# The console: what was said before, what is said now, what we say; the end of our input is not the end.
attach() { timeout -s INT "$1" "$LOLCTL" console vm >"$LOL_TMP/attached" 2>"$ERRORS"; }
(sleep 1; echo 'echo sum $((20 + 3))'; sleep 3) | attach 6
grep -q '^sum 23' "$LOL_TMP/attached" || fail "lolctl console: no answer"
grep -q '^guest is up' "$LOL_TMP/attached" || fail "lolctl console: the beginning is not remembered"

# Paused, nothing moves; resumed, everything goes on.
ctl pause vm
expect_status 0
ctl status vm
expect $'state\tpaused'
ctl pause vm
expect_status 0
ticks() { # that the console has had so far; on a busy host not all of them come at once
	local i n=0
	for i in 1 2 3 4 5; do
		attach 2 </dev/null
		n=$(grep -c tick "$LOL_TMP/attached")
		[ "$n" -lt "$1" ] || break
	done
	echo "$n"
}
before=$(ticks 3)
sleep 2
[ "$(ticks "$before")" = "$before" ] || fail "the guest ticks while it is paused"
ctl resume vm
expect_status 0
ctl status vm
expect $'state\trunning'
attach 4 </dev/null
[ "$(grep -c tick "$LOL_TMP/attached")" -gt "$before" ] || fail "the guest does not tick after resume"
for ((i = 0; i < 50; i++)); do
	ctl pause vm && ctl resume vm
	expect_status 0
done

# Refused: one line, status 1.
refused() {
	local hint=$1
	shift
	ctl "$@"
	expect_status 1
	[ "$(wc -l <"$ERRORS")" = 1 ] || fail "lolctl $*: not one line"
	expect_error "$hint"
}
refused "lolctl: nothere: no such VM" status nothere
printf '{"do":"fly"}\n{"do":"sysrq","key":"too long"}\nnonsense\n' | raw vm >"$LOL_TMP/raw"
[ "$(grep -c '"ok":false' "$LOL_TMP/raw")" = 3 ] || fail "wrong requests: $(cat "$LOL_TMP/raw")"

# A second VM of that name.
wrong "another VM has this name" -q -m 256M -i "$initrd" --console null --name vm "$LOL_KERNEL"

# Clients that misbehave hold up nobody: half a line, an endless line, nothing at all, many, and one that does not read.
python3 - "$(socket_of vm)" <<'END' || fail "misbehaving clients"
import json, socket, sys, time
path = sys.argv[1]
def connect():
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    s.settimeout(20)
    return s
half = connect(); half.sendall(b'{"do":')
endless = connect()
try:
    for i in range(1000):
        endless.sendall(b'x' * 65536)
    sys.exit("an endless line is taken")
except OSError:
    pass
deaf = connect(); deaf.setblocking(False)
try:
    for i in range(100000):
        deaf.send(b'{"do":"stats"}\n')
except OSError:
    pass
crowd = [connect() for i in range(200)]
watcher = connect(); watcher.sendall(b'{"do":"console","history":true}\n')
s = connect()
for i in range(100):
    s.sendall(b'{"do":"status","id":%d}\n' % i)
f = s.makefile()
for i in range(100):
    answer = json.loads(f.readline())
    assert answer['ok'] and answer['id'] == i, answer
END
ctl status vm
expect_status 0

# Ended at once.
ctl stop vm --force
expect_status 0
ended 0
[ -z "$(ls -A "$CONTROL_DIR")" ] || fail "left in the control directory: $(ls "$CONTROL_DIR")"

# Killed: what stays is no obstacle.
begin vm -m 256M -i "$initrd" --console pty
wait_for_state vm running
[ -c "$CONTROL_DIR/vm.pty" ] || fail "the pty is not linked"
kill -KILL "$PID"
ended 137
[ -S "$CONTROL_DIR/vm.sock" ] || fail "a killed VM should leave its socket, or this test tests nothing"
begin vm -m 256M -i "$initrd" --console null
wait_for_state vm running
kill -KILL "$PID"
ended 137
ctl ls
[ ! -s "$CONSOLE" ] || fail "ls shows a killed VM"
[ -z "$(ls -A "$CONTROL_DIR")" ] || fail "left in the control directory: $(ls "$CONTROL_DIR")"

# Crashed: the monitor by a signal as its own fault would send it, the guest by a panic. The next of that name starts.
begin vm -m 256M -i "$initrd" --console pty
wait_for_state vm running
kill -SEGV "$PID"
ended 139
for verb in status pause resume stats; do refused "no such VM" $verb vm; done
[ -z "$(ls -A "$CONTROL_DIR")" ] || fail "left in the control directory: $(ls "$CONTROL_DIR")"
begin vm -m 256M -i "$initrd" --console pty
wait_for_state vm running
kill -ABRT "$PID"
ended 134
begin vm -m 256M -i "$initrd" --console pty # on top of what that has left
wait_for_console vm "guest is up"
ctl sysrq vm c
expect_status 0
ended 126
[ -z "$(ls -A "$CONTROL_DIR")" ] || fail "left in the control directory: $(ls "$CONTROL_DIR")"

# Asked to power off: by its init, by the kernel where init does not care, with what is in memory written back.
if grep -qa lol_asked "$(dirname "$LOL_KERNEL")/System.map" 2>/dev/null; then
	begin vm -m 256M -i "$(guest_initrd '
trap "echo the init shuts down; sync; poweroff -f" USR2
echo guest is up
while :; do sleep 0.2; done')" --console "file=$LOL_TMP/log"
	wait_for_text 60 "guest is up" "$LOL_TMP/log"
	ctl sysrq vm h
	expect_status 0
	wait_for_text 30 "sysrq: HELP" "$LOL_TMP/log"
	ctl pause vm
	ctl stop vm
	expect_status 0
	ended 0
	grep -q "the init shuts down" "$LOL_TMP/log" || fail "init was not asked"

	truncate -s 16M "$LOL_TMP/disk"
	mke2fs -q -F "$LOL_TMP/disk" || skip "no mke2fs; install e2fsprogs"
	begin vm -m 256M -i "$(guest_initrd '
mkdir /m && mount -t ext4 /dev/vda /m && echo data >/m/file
echo guest is up
while :; do sleep 1; done')" -d "$LOL_TMP/disk" --console "file=$LOL_TMP/log"
	wait_for_text 60 "guest is up" "$LOL_TMP/log"
	ctl stop vm --timeout 0
	expect_status 1
	expect_error "has not powered off"
	ctl stop vm --timeout 60
	expect_status 0
	ended 0
	[ "$(debugfs -R 'cat file' "$LOL_TMP/disk" 2>/dev/null)" = data ] || fail "what was in memory is lost"
fi

# COMMAND gets SIGTERM, and its status is the VM's.
begin vm -q -m 256M -i "$(shell_initrd)" -- sh -c 'trap "exit 9" TERM; echo ready; while :; do sleep 0.1; done'
wait_for_text 60 ready "$LOL_TMP/vm.out"
ctl stop vm
expect_status 0
ended 9

# A path that is too long for a socket.
deep=$LOL_TMP/$(printf '%0100d' 0)
mkdir -m 700 "$deep"
XDG_RUNTIME_DIR=$deep wrong "can have 107" -q -m 256M -i "$initrd" --console null --name vm "$LOL_KERNEL"
wrong "at most 107" -q -m 256M -i "$initrd" --console "unix=$deep/console" "$LOL_KERNEL"
finish

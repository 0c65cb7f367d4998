# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# For system tests with lolctl, after guest.sh. The control directory is the test's own.
#
#   begin NAME ARGUMENT...        lol-run --name NAME in the background; its output in $LOL_TMP/NAME.out, NAME.err; pid of lol-run in $PID
#   ended STATUS                  wait for the one begun last, and look at its exit status
#   ctl ARGUMENT...               lolctl, as with run
#   wait_for_state NAME STATE     until lolctl status says so
#   wait_for_console NAME TEXT    until it is among the last that the serial console has said
#   socket_of NAME                path of its socket
#   raw NAME                      requests from stdin, answers to stdout
#   python_ok EXPRESSION          the JSON in $CONSOLE, as d, is so

LOLCTL=${LOLCTL:-$(dirname "$LOL_RUN")/lolctl}
command -v python3 >/dev/null || skip "no python3; install python3-minimal"
[ "$EUID" != 0 ] || skip "started by root, lol-run is somebody else, who has no directory here"
XDG_RUNTIME_DIR=$LOL_TMP/run
export XDG_RUNTIME_DIR
CONTROL_DIR=$XDG_RUNTIME_DIR/lol
mkdir -m 700 "$XDG_RUNTIME_DIR"

begin() {
	local name=$1
	shift
	timeout -k 10 150 "$LOL_RUN" --name "$name" "$LOL_KERNEL" "$@" </dev/null >"$LOL_TMP/$name.out" 2>"$LOL_TMP/$name.err" &
	JOB=$! PID='' NAME=$name
	local i
	for ((i = 0; i < 300; i++)); do
		PID=$(ps -o pid= --ppid "$JOB" | tr -d ' ' | head -n 1)
		[ "$PID" ] && [ -S "$CONTROL_DIR/$name.sock" ] && return
		kill -0 "$JOB" 2>/dev/null || break
		sleep 0.1
	done
	cat "$LOL_TMP/$name.err"
	fail "$name does not start"
}

ended() {
	local status
	wait "$JOB"
	status=$?
	[ "$status" = "$1" ] && return
	tail -n 20 "$LOL_TMP/$NAME.err"
	fail "$NAME ended with status $status, not $1"
}

ctl() {
	run timeout -k 10 90 "$LOLCTL" "$@"
}

wait_for_state() {
	local i
	for ((i = 0; i < 300; i++)); do
		ctl status "$1"
		grep -qxF "state	$2" "$CONSOLE" && return
		sleep 0.1
	done
	fail "$1 is not $2"
}

wait_for_console() {
	local end=$((SECONDS + 60))
	while [ $SECONDS -lt $end ]; do
		timeout -s INT 1 "$LOLCTL" console "$1" </dev/null >"$CONSOLE" 2>"$ERRORS"
		grep -qF -e "$2" "$CONSOLE" && return
		sleep 0.1 # it answers at once as long as there is no such VM
	done
	fail "$1 does not say $2"
}

socket_of() {
	echo "$CONTROL_DIR/$1.sock"
}

raw() {
	python3 -c '
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(60)
s.connect(sys.argv[1])
s.sendall(sys.stdin.buffer.read())
s.shutdown(socket.SHUT_WR)
while True:
    b = s.recv(65536)
    if not b:
        break
    sys.stdout.buffer.write(b)' "$(socket_of "$1")"
}

python_ok() {
	python3 -c "import json, sys
d = json.load(open(sys.argv[1]))
sys.exit(0 if ($1) else 1)" "$CONSOLE" || fail "not so: $1"
}

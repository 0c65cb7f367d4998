# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# For tests of the gdb server: . "$(dirname "$0")/lib/gdb.sh". On top of guest.sh:
#
#   gdb_boot [ARGUMENT-OF-LOL-RUN]...   start a guest in the background, with --gdb on $GDB_SOCKET
#   in_gdb [-ex COMMAND]...             a gdb in batch mode, attached; its output in $GDB_OUT
#   in_gdb_interrupted ...              the same, and one Ctrl-C when it has said "going on" and waits for the guest
#   saw TEXT, saw_not TEXT              a fixed string is in gdb's output
#   saw_like REGEX                      an extended regular expression is in it
#   guest_ends [STATUS]                 wait for the guest's end
#   guest_ticks                         see that the guest, which prints "tick" for ever, goes on; then end it

# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "${BASH_SOURCE[0]}")/guest.sh"

command -v gdb >/dev/null || skip "no gdb here"
mkdir -p "$LOL_TMP/gdb" && chmod 1777 "$LOL_TMP/gdb" # lol-run started by root is somebody else
GDB_SOCKET=$LOL_TMP/gdb/sock GDB_OUT=$LOL_TMP/gdb.out GUEST_PID=

# A test that fails leaves no guest and no gdb behind. timeout hands TERM on, and KILL 10 s later.
clean_up() {
	local pid
	for pid in $(jobs -pr); do
		kill "$pid" && wait "$pid"
	done 2>/dev/null
	[ -z "$LOL_TMP_OWN" ] || rm -rf "$LOL_TMP"
}
trap clean_up EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

gdb_boot() {
	timeout -k 10 "${GDB_SECONDS:-120}" "$LOL_RUN" -q -m 256M --gdb="unix:$GDB_SOCKET" "$LOL_KERNEL" "$@" >"$CONSOLE" 2>"$ERRORS" </dev/null &
	GUEST_PID=$!
	local i
	for ((i = 0; i < 300; i++)); do
		[ ! -S "$GDB_SOCKET" ] || return 0
		alive "$GUEST_PID" || fail "lol-run ended"
		sleep 0.1
	done
	fail "no gdb server after 30 s"
}

in_gdb() {
	timeout -k 10 "${GDB_SECONDS:-120}" gdb -nx -batch ${GDB_SAFE:+-iex "add-auto-load-safe-path $GDB_SAFE"} -ex 'set pagination off' -ex 'set confirm off' -ex 'set width 0' \
		-ex "target remote $GDB_SOCKET" "$@" "${GDB_FILE:-$LOL_KERNEL}" >"$GDB_OUT" 2>&1 </dev/null ||
		gdb_fail "gdb: status $?"
}

# waits PID: until it has slept for a second on end, and run not at all. However busy the machine is, it has nothing to do then.
waits() {
	local i now last='' same=0
	for ((i = 0; i < 600 && same < 5; i++)); do
		sleep 0.2
		now=$(awk '/^State:/ { s = $2 } /ctxt_switches:/ { n += $2 } END { print s, n }' "/proc/$1/status" 2>/dev/null)
		[[ $now = S* && $now = "$last" ]] && same=$((same + 1)) || same=0
		last=$now
	done
	[ "$same" = 5 ] || gdb_fail "gdb does not wait for the guest"
}

# As in_gdb, with Ctrl-C when gdb has said "going on" and then waits for the guest. Exactly one: gdb takes a second one before the
# answer for the wish to give up. So the signal is sent past timeout, which would hand it to gdb and to the group gdb is in.
in_gdb_interrupted() {
	local pid gdb
	rm -f "$GDB_OUT"
	timeout -k 10 "${GDB_SECONDS:-120}" gdb -nx -batch ${GDB_SAFE:+-iex "add-auto-load-safe-path $GDB_SAFE"} -ex 'set pagination off' -ex 'set confirm off' -ex 'set width 0' \
		-ex "target remote $GDB_SOCKET" "$@" "${GDB_FILE:-$LOL_KERNEL}" >"$GDB_OUT" 2>&1 </dev/null &
	pid=$!
	wait_for_text 60 "going on" "$GDB_OUT"
	gdb=$(ps -o pid= --ppid "$pid" | tr -d " ")
	[ "$gdb" ] || gdb_fail "gdb is gone"
	waits "$gdb"
	kill -INT "$gdb"
	wait "$pid" || gdb_fail "gdb: status $?"
}

gdb_fail() {
	echo "--- gdb:"
	tail -n 60 "$GDB_OUT"
	fail "$@"
}

saw() {
	grep -qF -e "$1" "$GDB_OUT" || gdb_fail "gdb does not say: $1"
}

saw_not() {
	! grep -qF -e "$1" "$GDB_OUT" || gdb_fail "gdb says: $1"
}

saw_like() {
	grep -qE -e "$1" "$GDB_OUT" || gdb_fail "gdb says nothing like: $1"
}

# The guest prints "tick" all the time: it goes on, and gdb ends it.
guest_ticks() {
	local n
	n=$(grep -c tick "$CONSOLE")
	local i
	for ((i = 0; i < 600; i++)); do
		[ "$(grep -c tick "$CONSOLE")" -gt $((n + 1)) ] && break
		sleep 0.1
	done
	[ "$i" -lt 600 ] || fail "the guest does not go on"
	in_gdb -ex 'monitor quit'
	wait "$GUEST_PID"
}

guest_ends() {
	wait "$GUEST_PID"
	STATUS=$?
	expect_status "${1:-0}"
}

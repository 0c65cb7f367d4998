#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# --vsock: from the guest to unix sockets of the host and back, many at once, more bytes than any buffer holds, and ends in
# every order.
# timeout: 400
# shellcheck disable=SC2016 # what stands in single quotes is for the guest's shell
# shellcheck source=tests/system/lib/net.sh
. "$(dirname "$0")/lib/net.sh"
trap end_background EXIT
cd "$LOL_TMP" || exit 1
[ "$EUID" != 0 ] || chmod 777 .
initrd=$(socket_initrd) || exit
path=$LOL_TMP/v

with_vsock() { # LINES
	boot 120 -q -m 256M -i "$initrd" --vsock "$path" -- sh -c "set -e; $1" </dev/null
}

listen_on() { # PORT [COUNT]: echo where COUNT is given, else what comes is in host.PORT, and host.PORT.in is sent
	: >>"host.$1.in"
	"$LOL_TMP/sock" listen "unix:${path}_$1" ${2:+"$2"} <"host.$1.in" >"host.$1" 2>"host.$1.err" &
	BACKGROUND+=($!)
	wait_for_text 20 listening "host.$1.err"
	chmod 777 "${path}_$1" # lol-run started by root is somebody else
}

# The guest has its address, and is refused where nobody listens.
with_vsock 'cat /sys/class/misc/vsock/dev >/dev/null; sock connect vsock:2:77 2>&1 || echo refused'
expect_status 0
expect refused
[ ! -e "$path" ] || fail "the socket was left behind"

# Guest to host, both directions at once, 30 MB each.
head -c 30000000 /dev/urandom >host.1000.in
listen_on 1000
with_vsock 'head -c 30000000 /dev/urandom >/data; md5sum </data; sock connect vsock:2:1000 </data | md5sum'
expect_status 0
wait "${BACKGROUND[-1]}"
[ "$(sed -n 1p "$CONSOLE")" = "$(md5sum <host.1000)" ] || fail "to the host: not what was sent"
[ "$(sed -n 2p "$CONSOLE")" = "$(md5sum <host.1000.in)" ] || fail "to the guest: not what was sent"

# Twenty at once.
listen_on 1001 20
with_vsock 'head -c 500000 /dev/urandom >/data
	for i in $(seq 20); do sock connect vsock:2:1001 </data >/back.$i & done; wait
	for i in $(seq 20); do cmp /data /back.$i; done; echo all the same'
expect_status 0
expect_output "all the same"

# Host to guest.
guest='sock listen vsock:4294967295:22 100 & sleep 300'
timeout -k 10 300 "$LOL_RUN" "$LOL_KERNEL" -q -m 256M -i "$initrd" --vsock "$path,cid=42" -- sh -c "$guest" >vm.out 2>vm.err </dev/null &
vm=$!
BACKGROUND+=("$vm")
wait_for_text 60 listening vm.err
[ "$(stat -c %a "$path")" = 600 ] || fail "the socket's mode"
head -c 5000000 /dev/urandom >data
to_guest() { # PORT FILE
	(printf 'CONNECT %s\n' "$1" && cat "$2") | timeout 60 "$LOL_TMP/sock" connect "unix:$path"
}
for i in 1 2 3 4 5 6; do
	to_guest 22 data >back.$i &
	pids[i]=$!
done
for i in 1 2 3 4 5 6; do
	wait "${pids[i]}" || fail "host to guest: status $?"
	[[ $(head -n 1 back.$i | tr -d '\0') == "OK "* ]] || fail "no OK"
	tail -c 5000000 back.$i | cmp -s - data || fail "host to guest: not what was sent"
done

# Nobody there; no greeting; one in pieces; one without an end.
[ -z "$(to_guest 23 /dev/null)" ] || fail "a port without a listener"
for line in 'HELLO 22' 'CONNECT' 'CONNECT x' 'CONNECT 99999999999' "$(printf '%0100d' 1)" ''; do
	[ -z "$(printf '%s\n' "$line" | timeout 20 "$LOL_TMP/sock" connect "unix:$path" 2>/dev/null)" ] || fail "greeting '$line'"
done
[ "$( (printf 'CONN'; sleep 0.3; printf 'ECT 22'; sleep 0.3; printf '\nhi') | timeout 20 "$LOL_TMP/sock" connect "unix:$path" | tail -n 1)" = hi ] ||
	fail "a greeting in pieces"
# A client that goes away in the middle, several times; the VM goes on.
for i in 1 2 3 4 5; do
	(printf 'CONNECT 22\n' && cat data data data) | timeout 0.2 "$LOL_TMP/sock" connect "unix:$path" >/dev/null 2>&1
done
to_guest 22 data | tail -c 5000000 | cmp -s - data || fail "after clients that were killed"

wrong "listens there" "$LOL_KERNEL" -i "$initrd" --vsock "$path"
kill "$vm"
wait "$vm"
[ ! -e "$path" ] || fail "the socket was left behind"
echo text >file
wrong "not a socket" "$LOL_KERNEL" -i "$initrd" --vsock "$LOL_TMP/file"
wrong "write to" "$LOL_KERNEL" -i "$initrd" --vsock "$LOL_TMP/nowhere/v"
wrong "96 bytes" "$LOL_KERNEL" -i "$initrd" --vsock "$(printf '%0100d' 0)"
wrong "3 to" "$LOL_KERNEL" -i "$initrd" --vsock "$path,cid=2"
finish

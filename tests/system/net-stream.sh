#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# --net stream: two VMs on one path reach each other, whoever starts first; the end of one takes the other's link away, its
# return brings it back. A peer that talks nonsense loses the connection and nothing else.
# timeout: 600
# shellcheck disable=SC2016 # what stands in single quotes is for the guest's shell
# shellcheck source=tests/system/lib/net.sh
. "$(dirname "$0")/lib/net.sh"
own_network "$0" ''
cd "$LOL_TMP" || exit 1
initrd=$(socket_initrd) || exit
link=$LOL_TMP/link

up='ip addr add 10.9.0.$me/24 dev eth0; ip link set eth0 up; '
answer='for i in $(seq 600); do ping -c 1 -W 1 10.9.0.$peer >/dev/null 2>&1 && break; usleep 100000; done
	ping -c 3 -W 5 10.9.0.$peer >/dev/null && echo reached; '

# A stays; it serves a file, and says each change of its link.
start a -n "stream,path=$link" -- sh -c "me=1 peer=2; $up"'
	mkdir /www; head -c 8000000 /dev/urandom >/www/big; md5sum </www/big | cut -c1-32; httpd -h /www
	sock udp-echo 7 &
	last= n=0; while :; do now=$(cat /sys/class/net/eth0/carrier); [ "$now" = "$last" ] || echo "link $((n += 1)): $now"; last=$now; usleep 50000; done'
a=$PID
wait_for_text 60 "link 1: 0" a.out
sum=$(head -n 1 a.out)
[ "$(stat -c %a "$link")" = 600 ] || fail "the socket's mode"

transfer='wget -q -O - http://10.9.0.$peer/big | md5sum | cut -c1-32'
in_b() { # LINES
	boot 120 -q -m 256M -i "$initrd" -n "stream,path=$link" -- sh -c "me=2 peer=1; $up $answer $1" </dev/null
	expect_status 0
}
in_b "$transfer"
expect_output "reached
$sum"
wait_for_text 60 "link 3: 0" a.out

# It was B that connected. Now it returns, and after that with a usual card.
in_b "$transfer"
expect_output "reached
$sum"
boot 120 -q -m 256M -i "$initrd" -n "stream,path=$link,mtu=1500" -- sh -c "me=2 peer=1; $up $answer $transfer" </dev/null
expect_status 0
expect_output "reached
$sum"

# The one that listens is killed and returns: the other one has looked for it meanwhile, or taken the path over.
start b -n "stream,path=$link" -- sh -c "me=2 peer=1; $up $answer"'
	while ping -c 1 -W 1 10.9.0.1 >/dev/null 2>&1; do :; done; echo lost; '"$answer"
b=$PID
wait_for_text 60 reached b.out
kill -KILL "$(pgrep -P "$a")" # below timeout(1)
wait "$a" 2>/dev/null
wait_for_text 60 lost b.out
start a2 -n "stream,path=$link" -- sh -c "me=1 peer=2; $up $answer sleep 300"
wait_for_text 60 reached a2.out
wait "$b"
STATUS=$?
expect_status 0
[ "$(grep -c reached b.out)" = 2 ] || fail "the peer did not come back"
kill "$PID"
wait "$PID"
[ ! -e "$link" ] || fail "the socket file was left behind"

# A peer that sends no frames, in pieces and at once.
start c -n "stream,path=$link" -- sh -c "me=1 peer=2; $up echo ready; $answer"
wait_for_text 60 ready c.out
head -c 300000 /dev/zero | timeout 20 "$LOL_TMP/sock" connect "unix:$link" >/dev/null
head -c 300000 /dev/urandom | timeout 20 "$LOL_TMP/sock" connect "unix:$link" >/dev/null 2>&1
printf '\0\0' | timeout 1 "$LOL_TMP/sock" connect "unix:$link" >/dev/null
in_b true
wait "$PID"
STATUS=$?
expect_status 0

# Wrong paths.
echo text >file
wrong "not a socket" "$LOL_KERNEL" -i "$initrd" -n "stream,path=$LOL_TMP/file"
[ "$(cat file)" = text ] || fail "a file was taken for a dead socket"
wrong "write to" "$LOL_KERNEL" -i "$initrd" -n "stream,path=$LOL_TMP/nowhere/link"
wrong "at most 107 bytes" "$LOL_KERNEL" -i "$initrd" -n "stream,path=$(printf '%0110d' 0)"
wrong "no socket is named" "$LOL_KERNEL" -i "$initrd" -n stream
finish

#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# --net stream to passt, where it is installed: what is sent arrives, with frames of every size, also when passt is kept from
# reading for a while and its socket fills up; the guest sees when it ends, and when it is back.
# timeout: 300
# shellcheck disable=SC2016 # what stands in single quotes is for the guest's shell
# shellcheck source=tests/system/lib/net.sh
. "$(dirname "$0")/lib/net.sh"
own_network "$0" 'echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start
	ip link add way0 type dummy 2>/dev/null || ip tuntap add mode tap name way0 2>/dev/null || { echo "no dummy and no tap interfaces here"; exit 77; }
	ip addr add 10.5.0.2/24 dev way0 && ip link set way0 up && ip route add default via 10.5.0.1 dev way0'
which passt >/dev/null || skip "no passt; install passt"
cd "$LOL_TMP" || exit 1
initrd=$(socket_initrd) || exit
mkdir www
head -c 30000000 /dev/urandom >www/big
sum=$(md5sum <www/big | cut -c1-32)
web=$(free_port) up=$(free_port)
serve www "$web"
# The router's address is the host's loopback.
passt -f -q -t "$up:80" -s "$LOL_TMP/passt" >passt.err 2>&1 &
passt=$!
BACKGROUND+=("$passt")
for ((i = 0; i < 100; i++)); do
	[ -S passt ] && break
	sleep 0.1
done
[ -S passt ] || skip "passt does not start here: $(tail -n 1 passt.err)"

for mtu in 65520 1500; do
	start guest -n "stream,path=$LOL_TMP/passt,mtu=$mtu" -- sh -c 'ip addr add 10.5.0.2/24 dev eth0; ip link set eth0 up; ip route add default via 10.5.0.1
		wget -q -O /big http://10.5.0.1:'"$web"'/big; md5sum </big | cut -c1-32; mkdir /www; mv /big /www; httpd -h /www; echo ready; sleep 300'
	wait_for_text 60 "$sum" guest.out
	wait_for_text 60 ready guest.out
	(for ((i = 0; i < 20; i++)); do # while the guest sends
		kill -STOP "$passt"
		sleep 0.02
		kill -CONT "$passt"
		sleep 0.02
	done) &
	[ "$(fetch "$up" /big | md5sum | cut -c1-32)" = "$sum" ] || fail "mtu $mtu: not what the guest has sent"
	wait $!
	kill "$PID"
	wait "$PID"
done

start last -n "stream,path=$LOL_TMP/passt" -- sh -c 'ip link set eth0 up; cat /sys/class/net/eth0/carrier; ip addr add 10.5.0.2/24 dev eth0; ip route add default via 10.5.0.1
	wait_for() { while [ "$(cat /sys/class/net/eth0/carrier)" != $1 ]; do usleep 50000; done; }
	wait_for 0; echo gone; wait_for 1; wget -q -O - http://10.5.0.1:'"$web"'/big | md5sum | cut -c1-32'
wait_for_text 60 1 last.out
kill "$passt"
wait_for_text 60 gone last.out
wait "$passt"
passt -f -q -s "$LOL_TMP/passt" >passt.err 2>&1 &
BACKGROUND+=($!)
wait_for_text 60 "$sum" last.out
wait "$PID" || fail "status $?"
echo passed

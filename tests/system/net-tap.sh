#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# --net tap: interfaces of this test's own network namespace, the host's stack on the other end with all its offloads.
# timeout: 400
# shellcheck disable=SC2016 # what stands in single quotes is for the guest's shell
# shellcheck source=tests/system/lib/net.sh
. "$(dirname "$0")/lib/net.sh"
own_network "$0" '
	ip tuntap add mode tap user root name tap0 2>/dev/null || { echo "no tap interfaces here"; exit 77; }
	ip addr add 10.8.0.1/24 dev tap0 && ip link set tap0 up &&
	ip tuntap add mode tap multi_queue user root name tap1 &&
	ip addr add 10.8.1.1/24 dev tap1 && ip link set tap1 up &&
	ip tuntap add mode tun user root name tun0 &&
	{ ip link add dummy0 type dummy; ip link add bridge0 type bridge; } 2>/dev/null # the host may have neither
	{ while [ -e "$LOL_TMP" ] && [ ! -e "$LOL_TMP/delete" ]; do sleep 0.1; done; ip link del tap0; } &'
{ : <>/dev/net/tun; } 2>/dev/null || skip "/dev/net/tun is not for user $(id -u) here"
cd "$LOL_TMP" || exit 1
initrd=$(socket_initrd) || exit
web=8080
mkdir www
head -c 30000000 /dev/urandom >www/big
sum=$(md5sum <www/big | cut -c1-32)
busybox httpd -f -p "0.0.0.0:$web" -h www &
BACKGROUND+=($!)
wait_for_port "$web"

up='ip addr add 10.8.$net.2/24 dev eth0; ip link set eth0 up; '
start guest -n tap,ifname=tap0 -- sh -c "net=0; $up"'
	ls /sys/class/net/eth0/queues | wc -l
	wget -q -O - http://10.8.0.1:8080/big | md5sum | cut -c1-32; ping -c 3 -s 20000 10.8.0.1 >/dev/null && echo answered
	mkdir /www; head -c 30000000 /dev/urandom >/www/big; md5sum </www/big | cut -c1-32; httpd -h /www; echo ready
	while [ "$(cat /sys/class/net/eth0/carrier)" = 1 ]; do usleep 50000; done; echo gone'
wait_for_text 90 ready guest.out
[ "$(head -n 3 guest.out)" = "2
$sum
answered" ] || fail "from the host"
# The host connects: bash has only names that it resolves itself, and addresses.
fetch_guest() (
	exec 3<>/dev/tcp/10.8.0.2/80 && printf 'GET /big HTTP/1.0\r\n\r\n' >&3
	while read -r line <&3 && [ "$line" != $'\r' ]; do :; done
	timeout 60 cat <&3
)
[ "$(fetch_guest | md5sum | cut -c1-32)" = "$(sed -n 4p guest.out)" ] || fail "to the host"
ping -c 3 -s 9000 -q 10.8.0.2 >/dev/null || fail "the guest does not answer"

wrong "in use" "$LOL_KERNEL" -i "$initrd" -n tap,ifname=tap0
touch delete
wait_for_text 30 gone guest.out
wait "$PID"
STATUS=$?
expect_status 0
grep -q "interface is gone" guest.err || fail "nothing said about the interface"

# One that was made for several queues.
boot 60 -q -m 256M -i "$initrd" -n tap,ifname=tap1 -- sh -c "net=1; $up wget -q -O - http://10.8.1.1:8080/big | md5sum | cut -c1-32" </dev/null
expect_status 0
expect_output "$sum"

# iperf3 both ways, where it is installed: it must get through, how fast is no matter here.
if which iperf3 >/dev/null && mkdir -p tools && add_program tools iperf3 && "$LOL_GUEST" initrd build tools.gz --add tools; then
	iperf3 -s -p 5201 >/dev/null 2>&1 &
	BACKGROUND+=($!)
	wait_for_port 5201
	for spec in tap,ifname=tap1 user user,mtu=1500; do
		host=10.8.1.1 bring=$up
		[ "$spec" = tap,ifname=tap1 ] || host=10.0.2.2 bring=
		boot 90 -q -m 256M -i tools.gz -n "$spec" -- sh -c "net=1; $bring
			iperf3 -c $host -n 30M >/dev/null && iperf3 -c $host -n 30M -R >/dev/null && echo both ways" </dev/null
		expect_status 0
		expect_output "both ways"
	done
fi

wrong "there is none" "$LOL_KERNEL" -i "$initrd" -n tap,ifname=tap7
for other in tun0 dummy0 bridge0 lo; do
	[ ! -e "/proc/sys/net/ipv4/conf/$other" ] || wrong "something else" "$LOL_KERNEL" -i "$initrd" -n "tap,ifname=$other"
done
wrong "no interface is named" "$LOL_KERNEL" -i "$initrd" -n tap
finish

#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# --net tap,netns=new: an ordinary user's tap interface, in a namespace that the VM brings along. What is done there is done
# by nsenter, as the manual says.
# timeout: 300
# shellcheck disable=SC2016 # what stands in single quotes is for the guest's shell
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/lib/guest.sh"
# shellcheck source=tests/system/lib/control.sh
. "$(dirname "$0")/lib/control.sh"
PATH=$PATH:/usr/sbin:/sbin
which ip nsenter >/dev/null || skip "no ip and nsenter; install iproute2 and util-linux"
unshare -Urn true 2>/dev/null || skip "no user namespaces here"
{ : <>/dev/net/tun; } 2>/dev/null || skip "/dev/net/tun is not for user $(id -u) here"
cd "$LOL_TMP" || exit 1
initrd=$(shell_initrd)
before=$(ip -o link | wc -l)

inside() { # COMMAND: in the namespace of the VM begun last
	nsenter --preserve-credentials -t "$netns" -U -n "$@"
}
keeper_of() { # NAME
	ctl status "$1"
	netns=$(sed -n 's/^netns	//p' "$CONSOLE")
	[ "$netns" ] || fail "no word of the namespace"
}
up='ip addr add 10.7.0.2/24 dev eth0; ip link set eth0 up; '

# The address and the MTU that were asked for, the guest's own tools and the host's stack, both ways, with offloads.
begin traffic -q -m 256M -i "$initrd" -n tap,netns=new,addr=10.7.0.1/24,mtu=9000 -- sh -c "$up"'
	cat /sys/class/net/eth0/mtu; mkdir /www; head -c 9000000 /dev/urandom >/www/big; md5sum </www/big | cut -c1-32; httpd -h /www; echo ready
	until wget -q -O - http://10.7.0.1:8080/big >/got 2>/dev/null; do usleep 100000; done; md5sum </got | cut -c1-32'
wait_for_text 60 ready traffic.out
keeper_of traffic
[ "$(ip -o link | wc -l)" = "$before" ] || fail "an interface in the host's own network"
inside ip -o link show tap0 | grep -q 'mtu 9000.*state UNKNOWN\|mtu 9000.*state UP' || fail "tap0 is not up with MTU 9000"
inside ip -o addr show tap0 | grep -q '10\.7\.0\.1/24' || fail "tap0 has no address"
inside ping -c 2 -W 5 -q 10.7.0.2 >/dev/null || fail "the guest does not answer"
mkdir www
inside busybox wget -q -O www/big http://10.7.0.2/big || fail "from the guest"
sum=$(md5sum <www/big | cut -c1-32)
nsenter --preserve-credentials -t "$netns" -U -n busybox httpd -f -p 8080 -h www &
server=$!
ended 0
kill "$server"
[ "$(cat traffic.out)" = "9000
$sum
ready
$sum" ] || fail "the guest has: $(cat traffic.out)"
none_left "$netns"

# A guest that restarts finds the namespace as it was; two cards are in one.
again=$(guest_initrd "$up"'ip link set eth1 up
	ping -c 1 -W 2 10.7.5.1 >/dev/null; ip route add default via 10.7.0.1; until ping -c 1 -W 2 10.7.5.1 >/dev/null; do :; done; echo reached
	ping -c 1 -W 2 10.7.6.1 >/dev/null || reboot -f')
begin again -m 256M -i "$again" -n tap,netns=new,ifname=one,addr=10.7.0.1/24 -n tap,netns=new,ifname=two
keeper_of again
inside ip link show two >/dev/null || fail "no second card"
inside ip addr add 10.7.5.1/32 dev one || fail "no address can be set"
for ((i = 0; i < 300; i++)); do
	ctl status again
	grep -qx 'restarts	[1-9]' "$CONSOLE" && break
	sleep 0.1
done
inside ip addr add 10.7.6.1/32 dev one || fail "gone with the guest's restart"
ended 0
none_left "$netns"

# Whatever becomes of lol-run.
begin killed -q -m 256M -i "$initrd" -n tap,netns=new -- sleep 100
keeper_of killed
kill -KILL "$PID"
none_left "$netns"

wrong "choose another name" "$LOL_KERNEL" -i "$initrd" -n tap,netns=new,ifname=lo
wrong "choose another name" "$LOL_KERNEL" -i "$initrd" -n tap,netns=new -n tap,netns=new
wrong "choose another address" "$LOL_KERNEL" -i "$initrd" -n tap,netns=new,addr=224.0.0.1/24
wrong "addr=10.0.0.1/24" "$LOL_KERNEL" -i "$initrd" -n tap,netns=new,addr=10.0.0.1
wrong "only netns=new" "$LOL_KERNEL" -i "$initrd" -n tap,netns=old,ifname=tap0
finish

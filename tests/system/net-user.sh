#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# --net user: the guest has an address at once, reaches servers of the host, and is reached through hostfwd.
# timeout: 400
# shellcheck disable=SC2016 # what stands in single quotes is for the guest's shell
# shellcheck source=tests/system/lib/net.sh
. "$(dirname "$0")/lib/net.sh"
own_network "$0" ''
cd "$LOL_TMP" || exit 1
initrd=$(socket_initrd) || exit
web=$(free_port)
mkdir www
head -c 20000000 /dev/urandom >www/big
sum=$(md5sum <www/big | cut -c1-32)
serve www "$web"

with_net() { # SPEC LINES
	boot 120 -q -m 256M -i "$initrd" -n "$1" -- sh -c "set -e; $2" </dev/null
}

# An address, a route and a name server before COMMAND starts; the host by its own address in the guest.
with_net user 'ip -o addr show eth0 | grep -o "10.0.2.15/24"; ip route | grep -o "default via 10.0.2.2"
	cat /etc/resolv.conf; cat /sys/class/net/eth0/mtu'
expect_status 0
expect_quiet
expect_output "10.0.2.15/24
default via 10.0.2.2
nameserver 10.0.2.3
21880"

# TCP with the large segments that fit its card, and with a usual one; what comes is what was sent.
for spec in user user,mtu=1500,mac=02:00:00:00:00:01; do
	with_net "$spec" "wget -q -O - http://10.0.2.2:$web/big | md5sum | cut -c1-32"
	expect_status 0
	expect_output "$sum"
done

# ICMP echo, by one of the namespace's groups; small, and larger than a page.
with_net user 'ping -c 2 -s 8 -W 5 10.0.2.2 >/dev/null; ping -c 1 -s 5000 -W 5 10.0.2.2 >/dev/null; echo answered'
expect_status 0
expect_output answered

# IPv6: an address by router advertisement, the host answers.
with_net user 'for i in $(seq 100); do ip -6 addr show dev eth0 | grep -q "inet6 fec0::" && break; sleep 0.1; done
	ping -6 -c 1 -W 5 fec0::2 >/dev/null; echo answered'
expect_status 0
expect_output answered

# Addresses: as given, else by name and card.
with_net user,mac=52:54:00:12:34:56 'cat /sys/class/net/eth0/address'
expect_output 52:54:00:12:34:56
mac_of() {
	boot 60 -q -m 256M -i "$initrd" --name "$1" -n user -n user -- cat /sys/class/net/eth0/address /sys/class/net/eth1/address </dev/null
	expect_status 0
	cat "$CONSOLE"
}
first=$(mac_of one) again=$(mac_of one) other=$(mac_of two)
[ "$first" = "$again" ] || fail "another address for the same name: $first, then $again"
[ "$(sort -u <<<"$first"$'\n'"$other" | wc -l)" = 4 ] || fail "two cards with one address: $first $other"

# Into the guest: TCP with a real transfer, from 127.0.0.1 only; UDP there and back.
tcp=$(free_port) udp=$(free_port)
start served -n "user,hostfwd=tcp:127.0.0.1:$tcp-:80,hostfwd=udp:127.0.0.1:$udp-:7" -- sh -c '
	mkdir /www; head -c 20000000 /dev/urandom >/www/big; md5sum </www/big | cut -c1-32
	sock udp-echo 7 & httpd -h /www; echo ready; sleep 300'
wait_for_text 60 ready served.out
[ "$(fetch "$tcp" /big | md5sum | cut -c1-32)" = "$(head -n 1 served.out)" ] || fail "hostfwd: what came is not what the guest has"
for i in 1 2 3 4 5; do
	answer=$(exec 3<>"/dev/udp/127.0.0.1/$udp" && echo "datagram $i" >&3 && timeout 10 dd bs=100 count=1 status=none <&3)
	[ "$answer" = "datagram $i" ] && break
done
[ "$answer" = "datagram $i" ] || fail "no answer to a datagram through hostfwd"

# The port is taken now.
wrong "in use" "$LOL_KERNEL" -i "$initrd" -n "user,hostfwd=tcp:127.0.0.1:$tcp-:22"
kill "$PID"
wait "$PID"
# And with the end of the VM it is free.
with_net "user,hostfwd=tcp:127.0.0.1:$tcp-:22" true
expect_status 0

# A flood from the guest, and one into it: the console goes on, and the VM can still be ended.
start flooded -n "user,hostfwd=udp:127.0.0.1:$udp-:9" -- sh -c '
	ping -f -q 10.0.2.2 >/dev/null 2>&1 & ping -f -q -s 1400 10.0.2.77 >/dev/null 2>&1 &
	for i in $(seq 20); do echo tick $i; usleep 100000; done; echo through'
(exec 3<>"/dev/udp/127.0.0.1/$udp" && while :; do echo "0123456789" >&3; done) 2>/dev/null &
flood=$!
BACKGROUND+=("$flood")
wait_for_text 120 through flooded.out
kill "$flood"
wait "$PID"
STATUS=$?
expect_status 0

# What cannot work says so in one line.
wrong "root's" "$LOL_KERNEL" -i "$initrd" -n user,hostfwd=tcp::80-:80
wrong "address of this host" "$LOL_KERNEL" -i "$initrd" -n "user,hostfwd=tcp:192.0.2.1:$web-:80"
wrong "hostfwd=" "$LOL_KERNEL" -i "$initrd" -n user,hostfwd=sctp::80-:80
wrong "1280 to 65520" "$LOL_KERNEL" -i "$initrd" -n user,mtu=100
wrong "user, tap" "$LOL_KERNEL" -i "$initrd" -n bridge
wrong "first one even" "$LOL_KERNEL" -i "$initrd" -n user,mac=01:00:00:00:00:00
finish

#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# --net user, from the guest to servers of the host: datagrams, names through the card's name server, TCP over IPv6, and iperf3
# both ways where it is installed. The host's name server is the test's own.
# timeout: 300
# shellcheck disable=SC2016 # what stands in single quotes is for the guest's shell
# shellcheck source=tests/system/lib/net.sh
. "$(dirname "$0")/lib/net.sh"
own_network "$0" 'echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start'
cd "$LOL_TMP" || exit 1
initrd=$(socket_initrd) || exit
mkdir www
head -c 5000000 /dev/urandom >www/big
sum=$(md5sum <www/big | cut -c1-32)

echo "nameserver 127.0.0.1" >resolv.conf
unshare -Urm mount --bind resolv.conf /etc/resolv.conf 2>/dev/null || skip "no /etc/resolv.conf, or none that can be covered"
cat >with-names <<END
#!/bin/sh
exec unshare -Urm sh -c 'mount --bind $LOL_TMP/resolv.conf /etc/resolv.conf && exec "\$@"' - $LOL_RUN "\$@"
END
chmod +x with-names
LOL_RUN=$LOL_TMP/with-names

"$LOL_TMP/sock" dns 53 192.0.2.33 &
BACKGROUND+=($!)
"$LOL_TMP/sock" udp-echo 4007 &
BACKGROUND+=($!)
busybox httpd -f -p '[::1]:4080' -h www &
BACKGROUND+=($!)
sleep 0.5
boot 120 -q -m 256M -i "$initrd" -n user -- sh -c '
	sock udp-ask 10.0.2.2 4007 "a datagram"
	nslookup -type=a some.name.example 10.0.2.3 | grep -o "192.0.2.33" | head -n 1
	for i in $(seq 100); do ip -6 addr show dev eth0 | grep -q "inet6 fec0::.*global dynamic" && ip -6 route | grep -q ^default && break; usleep 100000; done
	wget -q -O - "http://[fec0::2]:4080/big" | md5sum | cut -c1-32' </dev/null
expect_status 0
expect_output "a datagram
192.0.2.33
$sum"

if which iperf3 >/dev/null && mkdir -p tools && add_program tools iperf3 && "$LOL_GUEST" initrd build tools.gz --add tools; then
	iperf3 -s -p 4201 >/dev/null 2>&1 &
	BACKGROUND+=($!)
	wait_for_port 4201
	for spec in user user,mtu=1500; do
		boot 90 -q -m 256M -i tools.gz -n "$spec" -- sh -c 'iperf3 -c 10.0.2.2 -p 4201 -n 30M >/dev/null &&
			iperf3 -c 10.0.2.2 -p 4201 -n 30M -R >/dev/null && echo both ways' </dev/null
		expect_status 0
		expect_output "both ways"
	done
fi
echo passed

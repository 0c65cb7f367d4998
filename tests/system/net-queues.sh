#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Several queues: a pair for each vCPU or as many as were asked for, each of them with its own connections, both ways; their
# number changes while frames come and go (the card's command queue).
# timeout: 300
# shellcheck disable=SC2016 # what stands in single quotes is for the guest's shell
# shellcheck source=tests/system/lib/net.sh
. "$(dirname "$0")/lib/net.sh"
own_network "$0" ''
PATH=$PATH:/usr/sbin:/sbin
which ethtool >/dev/null || skip "no ethtool; install ethtool"
cd "$LOL_TMP" || exit 1
mkdir tools www
add_program tools ethtool || fail ethtool
initrd=tools.gz
"$LOL_GUEST" initrd build $initrd --add tools >&2 || fail "no initrd"
head -c 10000000 /dev/urandom >www/big
sum=$(md5sum <www/big | cut -c1-32)
web=$(free_port)
serve www "$web"

# How many there are.
queues() { # EXPECTED OPTION...
	local expected=$1
	shift
	boot 60 -q -m 256M -i "$initrd" "$@" -- sh -c 'ls /sys/class/net/eth0/queues | xargs; ethtool -l eth0 | grep Combined | xargs' </dev/null
	expect_status 0
	expect_output "$expected"
}
queues "rx-0 tx-0
Combined: 1 Combined: 1" -n user
queues "rx-0 rx-1 tx-0 tx-1
Combined: 2 Combined: 2" -n user -c 2
# More pairs than vCPUs: the guest's kernel uses one for each.
queues "rx-0 rx-1 tx-0 tx-1
Combined: 4 Combined: 2" -n user,queues=4 -c 2

# Each vCPU sends on its own queue: the driver counts its notifications. (That answers come back there is in the unit test: this
# kernel counts nothing by which it could be seen.) Then the number changes under load; with one pair everything is on that.
boot 150 -q -m 256M -c 2 -i "$initrd" -n user -- sh -c '
	get() { taskset $1 wget -q -O - http://10.0.2.2:'"$web"'/big | md5sum | cut -c1-32; }
	kicks() { ethtool -S eth0 | sed -n "s/^ *tx\(_queue_\)*$1_kicks: //p"; }
	remember() { before=$(kicks $1); }
	moved() { n=$(($(kicks $1) - before)); [ $n -gt 20 ] && echo "on $1" || echo "on $1 only $n"; }
	remember 0; get 1; moved 0
	remember 1; get 2; moved 1
	get 1 >a & get 2 >b &
	for i in 1 2 1 2 1 2; do ethtool -L eth0 combined $i; usleep 50000; done
	wait; cat a b
	ethtool -L eth0 combined 1; remember 0; get 2; moved 0' </dev/null
expect_status 0
expect_output "$sum
on 0
$sum
on 1
$sum
$sum
$sum
on 0"
echo passed

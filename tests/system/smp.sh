#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Several vCPUs, up to 64 and so more than the host has: boot, parallel threads, migration, litmus tests, hot-unplug also under load,
# NMIs, power-off, reboot, panic.
# shellcheck disable=SC2016 # what stands in single quotes is for the guest's shell
# timeout: 1200
. "$(dirname "$0")/lib/guest.sh"

mkdir -p "$LOL_TMP/smp/t"
if which cc >/dev/null && cc -O2 -Wall -Wextra -static -pthread -o "$LOL_TMP/smp/t/smp" "$TESTS/guest/smp.c" >"$LOL_TMP/cc.log" 2>&1; then
	program=yes
else
	program=
	echo "no C compiler with static libraries: without the test program"
fi
chmod -R a+rX "$LOL_TMP/smp"
"$LOL_GUEST" initrd build "$LOL_TMP/smp.gz" --add "$LOL_TMP/smp" >&2 || fail initrd

smp() {
	local cpus=$1
	shift
	# A vCPU that waits for its turn on a busy host looks stalled: there is no clock of stolen time.
	boot "${LIMIT:-120}" -q -m 512M --cpus "$cpus" -a "rcupdate.rcu_cpu_stall_timeout=120" -i "$LOL_TMP/smp.gz" -- "$@" </dev/null
}

for cpus in 2 4 7 64; do
	LIMIT=600 smp $cpus sh -c 'echo "sees $(nproc) cpus, $(grep -c ^processor /proc/cpuinfo) in cpuinfo"
		dmesg | grep -E "WARNING|BUG:|Oops|Call Trace|rcu: .*stall" && echo KERNEL COMPLAINS'
	expect "sees $cpus cpus, $cpus in cpuinfo"
	expect_not "KERNEL COMPLAINS"
	[ "$program" ] && [ $cpus -le 4 ] || continue
	LIMIT=400 smp $cpus /t/smp
	expect_status 0
	expect "all ok"
done

smp 4 sh -c '
	cd /sys/devices/system/cpu
	echo 0 >cpu1/online; echo 0 >cpu3/online; echo "left $(nproc)"
	echo 1 >cpu3/online; echo 1 >cpu1/online; echo "again $(nproc)"
	for i in 1 2 3 4 5; do echo 0 >cpu2/online; echo 1 >cpu2/online; done
	for c in 0 1 2 3; do taskset $((1 << c)) sh -c "grep Cpus_allowed_list /proc/self/status"; done
	echo l >/proc/sysrq-trigger
	sleep 1
	dmesg | grep -c "NMI backtrace for cpu"
	dmesg | grep -E "WARNING|BUG:|Oops|rcu: .*stall" && echo KERNEL COMPLAINS
	echo end'
expect_status 0
expect "left 2"
expect "again 4"
for c in 0 1 2 3; do expect "Cpus_allowed_list:	$c"; done
expect end
expect_not "KERNEL COMPLAINS"

# CPUs come and go while processes compute, fork and sleep on them, some bound to a CPU that goes.
smp 4 sh -c '
	cd /sys/devices/system/cpu
	for c in 0 1 2 3; do
		taskset $((1 << c)) sh -c "echo >>/tmp/on; i=0; while [ ! -e /tmp/stop ]; do i=\$((i + 1)); done; echo computed \$((i > 0))" &
		taskset $((1 << c)) sh -c "echo >>/tmp/on; i=0; while [ ! -e /tmp/stop ]; do (:); i=\$((i + 1)); done; echo forked \$((i > 0))" &
		taskset $((1 << c)) sh -c "echo >>/tmp/on; i=0; while [ ! -e /tmp/stop ]; do usleep 1000; i=\$((i + 1)); done; echo slept \$((i > 0))" &
	done
	while [ $(wc -l </tmp/on) -lt 12 ]; do usleep 10000; done # each on its CPU before one is taken away
	for i in 1 2 3; do
		for c in 1 2 3; do echo 0 >cpu$c/online; done
		echo "alone $(nproc)"
		for c in 1 2 3; do echo 1 >cpu$c/online; done
	done
	>/tmp/stop
	wait
	dmesg | grep -E "WARNING|BUG:|Oops|Call Trace|rcu: .*stall" && echo KERNEL COMPLAINS
	echo "end with $(nproc)"'
expect_status 0
for what in "alone 1:3" "computed 1:4" "forked 1:4" "slept 1:4" "end with 4:1"; do
	[ "$(grep -c "^${what%:*}$" "$CONSOLE")" = "${what#*:}" ] || fail "not ${what#*:} times: ${what%:*}"
done
expect_not "KERNEL COMPLAINS"

boot 120 -q -m 256M --cpus 4 -a maxcpus=2 -i "$(shell_initrd)" -- sh -c 'echo "online $(cat /sys/devices/system/cpu/online)"; echo 1 >/sys/devices/system/cpu/cpu3/online; echo "then $(nproc)"' </dev/null
expect "online 0-1"
expect "then 3"

smp 3 sh -c 'echo c >/proc/sysrq-trigger'
expect_status 126
# a reset ends a guest that has a command, and so does a power-off
smp 3 sh -c 'echo b >/proc/sysrq-trigger; sleep 60'
expect_status 127
boot 120 -m 256M --cpus 3 -i "$(guest_initrd 'echo "ends on $(nproc)"')" </dev/null
expect_status 0
expect "ends on 3"
echo passed

#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The guest tests all at once in one guest, again and again, in little memory and in much: what is right alone has to be
# right under load too. LOL_STRESS_SECONDS: for each of the two guests (default 300).
# timeout: 1800
# shellcheck disable=SC2016 # what stands in single quotes is for the guest's shell
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/../system/lib/guest.sh"
cd "$LOL_TMP" || exit 1
which cc >/dev/null || skip "no C compiler"
seconds=${LOL_STRESS_SECONDS:-300}

mkdir -p root/t
bash "$TESTS/guest/build" "$LOL_TMP/root/t" >build.log 2>&1 || { tail -n 3 build.log; skip "the guest tests cannot be compiled"; }
# Clocks are about time, which a guest under such a load does not have; what is known to fail is known.
known=$(grep -v '^#' "$TESTS/guest/known" | cut -d' ' -f1 | paste -sd'|')
cat >root/t/storm <<END
#!/bin/sh
# Where eight programs share a CPU, one whose threads yield all the time comes to its turn rarely, natively too.
export GUEST_TEST_PATIENCE=8
end=\$((\$(cut -d. -f1 /proc/uptime) + $seconds))
loop() {
	n=0
	while [ \$(cut -d. -f1 /proc/uptime) -lt \$end ]; do
		/t/\$1 >/tmp/\$1.out 2>&1 || grep -E -B 1 '^not ok|^# not finished' /tmp/\$1.out | grep -vE "not ok ($known)\\\$" | sed "s/^/\$1: /"
		grep -q '^# [0-9]* tests' /tmp/\$1.out || { echo "\$1: died"; tail -n 3 /tmp/\$1.out; }
		n=\$((n + 1))
	done
	echo "\$1 \$n rounds"
}
for t in proc sig mm fpu thread trace abi ipc; do loop \$t & done
wait
dmesg | grep -E -B 3 -A 12 'WARNING|BUG:|Oops|Call Trace|segfault at 0 ip 0000000000000000' | grep -v 'traps:' | head -n 40
echo storm over
END
chmod -R a+rX root
chmod 755 root/t/storm
"$LOL_GUEST" initrd build tests.cpio.gz --add root || fail "initrd"

for mem in 384M 2G; do
	boot $((seconds + 240)) -q -m $mem -i tests.cpio.gz -- /t/storm </dev/null
	echo "--- $mem"
	cat "$CONSOLE"
	expect_status 0
	expect "storm over"
	expect_not "not ok"
	expect_not "died"
	for word in WARNING BUG: Oops "Call Trace"; do expect_not "$word"; done
done
echo passed

#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Several vCPUs under load, LOL_STRESS_SECONDS (default: 1200) in all, half with 2 and half with 4 of them: stress-ng --verify in
# the kit's kernel, then in one with lockdep, which also runs rcutorture and locktorture while its CPUs come and go. No message of
# the kernel's, no failure of a test. LOL_LOCKDEP_KERNEL names the directory of a kernel that is built already.
# timeout: 7200
# shellcheck disable=SC2016 # what stands in single quotes is for the guest's shell
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/../system/lib/guest.sh"
cd "$LOL_TMP" || exit 1
which stress-ng >/dev/null || skip "stress-ng is missing; install with: apt-get install stress-ng"
part=$((${LOL_STRESS_SECONDS:-1200} / 12))
[ $part -ge 10 ] || part=10

lockdep=${LOL_LOCKDEP_KERNEL:-$LOL_TMP/lockdep}
[ -e "$lockdep/vmlinux" ] || "$LOL_GUEST" kernel build --lockdep --out "$lockdep" || fail "kernel build --lockdep"

# stress-ng with its libraries; the modules go where insmod finds them without an index.
mkdir -p root/m root/usr/bin unpacked
cp "$(which stress-ng)" root/usr/bin/
ldd "$(which stress-ng)" | grep -o '/[^ ]*' | while read -r file; do
	mkdir -p "root$(dirname "$file")" && cp -L "$file" "root$file" || exit 1
done
tar -C unpacked -xzf "$lockdep/modules.tar.gz" || fail "$lockdep/modules.tar.gz"
find unpacked -name '*tor*.ko' -exec cp {} root/m/ ';'
[ -e root/m/rcutorture.ko ] && [ -e root/m/locktorture.ko ] || fail "the kernel has no torture modules"

cat >root/m/lib <<'END'
complaints() { # what the kernel must not say
	dmesg | grep -E 'WARNING|BUG|Oops|Call Trace|possible (recursive|circular|irq)|inconsistent lock state|suspicious RCU|detected.* stall|kthread starved|soft lockup|blocked for more|CSD lock|!!!|End of test: [^S]' |
		head -n 40 | sed 's/^/COMPLAINT: /'
}
END
cat >root/m/stress <<'END'
#!/bin/sh
. /m/lib
mkdir -p /tmp/work && cd /tmp/work
if stress-ng --verify --oom-avoid --timeout "$1" --cpu 2 --cpu-method all --futex 2 --pthread 2 --pthread-max 64 --mmap 2 --mmap-bytes 32M \
	--fork 2 --membarrier 2 --sigq 1 --sigsegv 1 --sigpending 1 --sigrt 1 --sigchld 1 --sigsuspend 1 >/tmp/log 2>&1; then
	grep -iE 'fail|corrupt|mismatch' /tmp/log | grep -v 'failed: 0' | sed 's/^/COMPLAINT: /'
else
	echo "COMPLAINT: stress-ng: status $?"
	tail -n 20 /tmp/log
fi
complaints
echo "over on $(nproc)"
END
# The tests of forward progress measure times, which a guest on a busy host does not have.
cat >root/m/torture <<'END'
#!/bin/sh
. /m/lib
module=$1 seconds=$2
shift 2
insmod /m/torture.ko 2>/dev/null
insmod /m/$module.ko stat_interval=15 stutter=5 onoff_holdoff=5 onoff_interval=500 "$@" || echo "COMPLAINT: $module: insmod"
sleep "$seconds"
rmmod $module || echo "COMPLAINT: $module: rmmod"
dmesg | grep -E 'End of test|Writer|rtc:' | tail -n 2
[ "$(dmesg | grep -c 'End of test: SUCCESS')" = 1 ] || echo "COMPLAINT: $module: no success"
complaints
echo "over on $(nproc)"
END
chmod 755 root/m/*
chmod -R a+rX root
"$LOL_GUEST" initrd build stress.gz --add root || fail initrd

# in_kernel VMLINUX CPUS SECONDS COMMAND...
in_kernel() {
	local kernel=$1 cpus=$2 seconds=$3
	shift 3
	echo "--- $(basename "$(dirname "$kernel")"), $cpus vCPUs: $*"
	LOL_KERNEL=$kernel boot $((seconds * 2 + 600)) -q -m 1G --cpus "$cpus" -i stress.gz -a log_buf_len=8M -- "$@" </dev/null
	grep -E '^over|End of test' "$CONSOLE"
	expect_status 0
	expect_not COMPLAINT
	expect "over on $cpus"
}

for cpus in 2 4; do
	in_kernel "$LOL_KERNEL" $cpus $((part * 3)) /m/stress $((part * 3))
	in_kernel "$lockdep/vmlinux" $cpus $part /m/stress $part
	in_kernel "$lockdep/vmlinux" $cpus $part /m/torture rcutorture $part fwd_progress=0
	in_kernel "$lockdep/vmlinux" $cpus $((part / 2)) /m/torture locktorture $((part / 2)) torture_type=spin_lock_irq
	in_kernel "$lockdep/vmlinux" $cpus $((part / 2)) /m/torture locktorture $((part / 2)) torture_type=mutex_lock
done
echo passed

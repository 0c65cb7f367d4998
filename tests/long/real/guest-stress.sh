# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# stress-ng --verify. STRESS_SECONDS is for all of it together.
: "${STRESS_SECONDS:=60}"
one=$((STRESS_SECONDS / 6))
[ $one -ge 5 ] || one=5

stress() { # NAME ARGUMENT...
	local name=$1
	shift
	check "stress-$name" $((one + 120)) stress-ng --verify --metrics-brief --timeout $one --oom-avoid "$@"
	[ ! -e "/tmp/log/stress-$name" ] || grep -iE 'fail|unsuccess|corrupt|mismatch' "/tmp/log/stress-$name" | grep -vE 'failed: 0' | sed 's/^/    /'
}

mkdir -p /root/work/stress && cd /root/work/stress || exit 1
stress cpu --cpu 2 --cpu-method all --matrix 1 --vecmath 1 --fp-error 1
stress vm --vm 2 --vm-bytes 128M --vm-method all
stress fork --fork 2 --vfork 1 --exec 2 --clone 1 --wait 1
stress signal --sigq 1 --sigsegv 1 --sigfpe 1 --sigpending 1 --sigrt 1 --signest 1 --sigsuspend 1 --sigchld 1 --sigtrap 1 --sigabrt 1
stress mmap --mmap 2 --mmap-bytes 64M --mmapfork 1 --mremap 1 --mprotect 1 --madvise 1 --munmap 1
stress mixed --pthread 1 --futex 1 --pipe 1 --switch 1 --timer 1 --poll 1 --fault 1 --shm 1 --memfd 1 --hdd 1 --hdd-bytes 32M --sem 1 --context 1 --ptrace 1
DMESG_EXPECTED='segfault|traps:|general protection' done_with_checks

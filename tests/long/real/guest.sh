# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# Runs in the guest, in front of one of the guest-*.sh: both come through stdin to bash -s.
#
#   check NAME SECONDS COMMAND...   runs it in /root/work; says "ok NAME" or "FAIL NAME" with the end of its output
#   done_with_checks                dmesg is looked at, and the exit status says whether all was well

export HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export DEBIAN_FRONTEND=noninteractive
FAILURES=0
mkdir -p /root/work /tmp/log
cd /root/work || exit 1

check() {
	local name=$1 seconds=$2 start=$SECONDS status
	shift 2
	case " ${ONLY:-$name} " in *" $name "*) ;; *) return ;; esac
	(timeout -k 5 "$seconds" "$@") >"/tmp/log/$name" 2>&1 </dev/null
	status=$?
	if [ $status = 0 ]; then
		printf 'ok %s (%d s)\n' "$name" $((SECONDS - start))
	else
		FAILURES=$((FAILURES + 1))
		printf 'FAIL %s: status %d after %d s\n' "$name" $status $((SECONDS - start))
		tail -n "${TAIL:-25}" "/tmp/log/$name" | sed 's/^/    /'
		dmesg | tail -n 3 | sed 's/^/    kernel: /'
	fi
}

# script NAME SECONDS: as check, with the command on stdin, for bash -e.
script() {
	local file=/tmp/log/$1.sh
	cat >"$file"
	check "$1" "$2" bash -e "$file"
}

done_with_checks() {
	if dmesg | grep -E 'WARNING:|BUG:|Oops|Call Trace|rcu.*stall|soft lockup|hung_task|general protection|segfault|I/O error|EXT4-fs error' |
		grep -vE "${DMESG_EXPECTED:-no such line}" >/tmp/log/dmesg; then
		FAILURES=$((FAILURES + 1))
		echo "FAIL dmesg:"
		head -n 30 /tmp/log/dmesg | sed 's/^/    /'
	fi
	exit $((FAILURES > 0))
}

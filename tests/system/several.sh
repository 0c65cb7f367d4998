#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Several machines at once claim CPUs of their own for their user sides, and take those of machines that have ended. In a network namespace,
# where nobody else's machines are seen.
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/lib/guest.sh"

if [ "${1:-}" != inside ]; then
	unshare -Urn true 2>/dev/null || skip "no user namespaces here"
	[ "$(nproc)" -ge 2 ] || skip "one CPU"
	shell_initrd >/dev/null
	unshare -Urn "$0" inside
	exit
fi

declare -A machine=() # by name: pid
start() { # NAME OPTION...
	local name=$1
	shift
	"$LOL_RUN" "$LOL_KERNEL" -q -m 128M -i "$(shell_initrd)" "$@" -- sh -c 'echo started; exec sleep 600' </dev/null >"$LOL_TMP/$name" 2>"$ERRORS" &
	machine[$name]=$!
	wait_for_text 60 started "$LOL_TMP/$name"
}
cpu_of() { # NAME: where its user code runs
	local pid
	for pid in $(tree_pids "${machine[$1]}"); do
		[ "$(cat "/proc/$pid/comm" 2>/dev/null)" != lol-u ] || sed -n 's/^Cpus_allowed_list:\t//p' "/proc/$pid/status"
	done | sort | uniq -c | sort -rn | awk 'NR == 1 {print $2}' # the zygote may be anywhere
}
end() { # NAME
	kill "${machine[$1]}"
	wait "${machine[$1]}"
	unset "machine[$1]"
}
trap 'for name in "${!machine[@]}"; do end "$name"; done' EXIT

start a
start b
a=$(cpu_of a) b=$(cpu_of b)
[[ $a$b =~ ^[0-9]+$ ]] || fail "user code is not bound to one CPU: '$a', '$b'"
[ "$a" != "$b" ] || fail "two machines on CPU $a"
echo "a: $a, b: $b"

end a
start c
[ "$(cpu_of c)" != "$b" ] || fail "the place of the one that has ended is not taken"
if [ "$(nproc)" = 2 ]; then
	start d
	start e
	cpus=$(for name in b c d e; do cpu_of $name; done | sort | uniq -c | awk '{print $1}' | sort -u)
	[ "$cpus" = 2 ] || fail "four machines on two CPUs are not two and two"
fi

# Who may use one CPU only uses that.
taskset -c "$a" "$LOL_RUN" "$LOL_KERNEL" -q -m 128M -i "$(shell_initrd)" -- true </dev/null || fail "on one CPU"
echo passed

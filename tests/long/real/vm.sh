# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# For the tests real-*.sh: common.sh, the image, and guests whose script comes through stdin.
#
#   guest_script NAME SECONDS [VARIABLE=VALUE]...   run guest-NAME.sh on a snapshot of the image; lines as they come
#   vm_processes PID                                lol-run PID and all its descendants

# shellcheck source=tests/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../lib/common.sh"
# shellcheck source=tests/long/real/image.sh
. "$(dirname "${BASH_SOURCE[0]}")/image.sh"

INITRD=$LOL_TMP/initrd.gz

prepare() {
	[ -r "$LOL_KERNEL" ] || skip "$LOL_KERNEL: no kernel"
	"$LOL_GUEST" initrd build "$INITRD" 2>"$LOL_TMP/initrd.log" || fail "lol-guest initrd build: $(tail -n 1 "$LOL_TMP/initrd.log")"
	real_image
	chmod a+rx "$LOL_TMP"
	chmod a+r "$INITRD"
}

# on_image SECONDS SPEC [OPTION]... -- COMMAND...
on_image() {
	local seconds=$1 spec=$2
	shift 2
	timeout -k 10 "$seconds" "$LOL_RUN" "$LOL_KERNEL" -q -m 1G -i "$INITRD" --disk "$spec" -a "lol.root=/dev/vda" "$@"
}

guest_script() {
	local name=$1 seconds=$2 variable status
	shift 2
	{
		for variable in "$@"; do printf 'export %q\n' "$variable"; done
		cat "$REAL/guest.sh" "$REAL/guest-$name.sh"
	} >"$LOL_TMP/script"
	on_image "$seconds" "$IMAGE,snapshot" -- bash -s <"$LOL_TMP/script" 2>"$ERRORS" | tee "$CONSOLE"
	status=${PIPESTATUS[0]}
	[ "$status" != 124 ] || fail "not done after $seconds s"
	[ "$status" = 0 ] || { tail -n 20 "$ERRORS"; echo "FAIL: status $status"; exit 1; }
}

# All descendants of a process, with itself.
vm_processes() {
	local pid
	echo "$1"
	for pid in $(cat /proc/"$1"/task/*/children 2>/dev/null); do vm_processes "$pid"; done
}

# kB of host memory of the VM beyond its RAM: the share (PSS) of all its processes in all mappings but guest RAM, and their
# page tables. The memfd of guest RAM goes on behind the guest's 1 GiB with what counts here.
vm_overhead() {
	local pid total=0 n
	for pid in $(vm_processes "$1"); do
		n=$(awk '/^[0-9a-f]+-[0-9a-f]+ / { ram = $0 ~ /memfd:lol-ram/ && $3 < "40000000" && length($3) == 8 }
			/^Pss:/ { if (!ram) s += $2 }
			/^VmPTE:/ { s += $2 }
			END { print s + 0 }' "/proc/$pid/smaps" "/proc/$pid/status" 2>/dev/null)
		total=$((total + ${n:-0}))
	done
	echo $total
}

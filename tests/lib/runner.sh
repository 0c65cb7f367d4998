# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# Counting tests, and running a directory of them. Needs progress.sh, CORRAL, and as_vm for who runs the tests.
#
# A test is an executable *.sh: exit status 0 passed, 77 skipped (its last line says why), else failed. It may change its
# time limit with a line "# timeout: SECONDS". It gets LOL_RUN, LOL_KERNEL, LOL_GUEST, LOL_LIBEXEC and an empty directory of its own,
# LOL_TMP. Whatever processes it leaves behind are ended, and it fails for them.

PASSED=0 FAILED=0 SKIPPED=0
FAILED_NAMES=()

count() {
	case $1 in
	passed) PASSED=$((PASSED + 1)) ;;
	skipped) SKIPPED=$((SKIPPED + 1)) ;;
	*) FAILED=$((FAILED + 1)) FAILED_NAMES+=("$2") ;;
	esac
}

# The very last line of a run.
summary() {
	local name
	for name in "${FAILED_NAMES[@]}"; do
		printf 'failed: %s\n' "$name"
	done
	printf '%d passed, %d failed' "$PASSED" "$FAILED"
	[ "$SKIPPED" = 0 ] || printf ', %d skipped' "$SKIPPED"
	printf '\n'
	[ "$FAILED" = 0 ]
}

# run_test FILE NAME DEFAULT-TIMEOUT
run_test() {
	local file=$1 name=$2 timeout=$3 log=$OWN_STATE/logs/${2//\//-}.log own tmp status
	own=$(sed -n 's/^# timeout: *\([0-9][0-9]*\).*/\1/p' "$file" | head -n 1)
	tmp=$(as_vm mktemp -d "$VM_STATE/tmp/${name##*/}.XXXXXX") || die "$VM_STATE/tmp: cannot be written"
	LOL_TMP=$tmp watch_job "$name" 0 "$log" as_vm "$CORRAL" "${own:-$timeout}" "$file"
	status=$?
	as_vm sh -c 'chmod -R u+rwx "$1"; rm -rf "$1"' - "$tmp" 2>/dev/null
	case $status in
	0) count passed "$name" && result ok "$name" "$TOOK" ;;
	77) count skipped "$name" && result skipped "$name" "$TOOK" "$(tail -n 1 "$log")" ;;
	*)
		count failed "$name"
		case $status in
		99) result FAILED "$name" "$TOOK" "left processes behind" ;;
		124) result FAILED "$name" "$TOOK" "not finished after ${own:-$timeout} s" ;;
		125) result FAILED "$name" "$TOOK" "status 125; could it be started?" ;;
		*) result FAILED "$name" "$TOOK" "status $status" ;;
		esac
		show_end_of "$log"
		;;
	esac
}

# run_tests_in DIRECTORY PREFIX DEFAULT-TIMEOUT [PATTERN]...: those whose name contains one of the patterns, or all.
run_tests_in() {
	local dir=$1 prefix=$2 timeout=$3 file name pattern wanted
	shift 3
	for file in "$dir"/*.sh; do
		[ -e "$file" ] || continue
		name=$prefix/$(basename "$file" .sh)
		wanted=$([ $# = 0 ] && echo yes)
		for pattern in "$@"; do
			[[ $name == *"$pattern"* ]] && wanted=yes
		done
		[ "$wanted" ] && run_test "$file" "$name" "$timeout"
	done
}

#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The guest tests (tests/guest/*.c) inside a guest: every one is ok, skipped, or in tests/guest/known. LOL_GUEST_TESTS names
# some of the programs.
# timeout: 900
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/lib/guest.sh"
cd "$LOL_TMP" || exit 1
which cc >/dev/null || skip "no C compiler"

mkdir -p root/t
bash "$TESTS/guest/build" "$LOL_TMP/root/t" >build.log 2>&1 || { tail -n 3 build.log; skip "the guest tests cannot be compiled (apt-get install gcc libc6-dev)"; }
chmod -R a+rX root
"$LOL_GUEST" initrd build tests.cpio.gz --add root || fail "initrd"

bad=0
for name in ${LOL_GUEST_TESTS:-$(cd root/t && echo *)}; do
	start=$SECONDS
	run timeout -k 10 300 "$LOL_RUN" "$LOL_KERNEL" -q -m 1G --cpus "${LOL_GUEST_CPUS:-1}" -i tests.cpio.gz -- "/t/$name" </dev/null
	printf '%-8s status %d, %d ok, %d skipped, %d s\n' "$name" "$STATUS" "$(grep -c '^ok ' "$CONSOLE")" "$(grep -c '^skip ' "$CONSOLE")" $((SECONDS - start))
	grep '^# .*\.[ch]:' "$CONSOLE"
	while read -r test reason; do
		if grep -qx "not ok $test" "$CONSOLE"; then
			echo "known: $test: $reason"
			sed -i "s/^not ok $test\$/known $test/" "$CONSOLE"
		fi
	done < <(grep -v '^#' "$TESTS/guest/known")
	case $STATUS in
	0) ;;
	1) grep '^not ok' "$CONSOLE" && bad=$((bad + 1)) ;;
	*) tail -n 3 "$CONSOLE" && bad=$((bad + 1)) ;;
	esac
	[ ! -s "$ERRORS" ] || { tail -n 5 "$ERRORS" && bad=$((bad + 1)); }
done
CONSOLE=/dev/null ERRORS=/dev/null
[ "$bad" = 0 ] || fail "$bad programs failed"
echo passed

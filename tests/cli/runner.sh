#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The runner of ./run-tests counts right: passing, failing, skipped, hanging, unstartable and littering tests.
. "$(dirname "$0")/../lib/common.sh"
cd "$LOL_TMP" || exit 1

OWN_STATE=$LOL_TMP VM_STATE=$LOL_TMP CORRAL=$LOL_BUILD/tests/lib/corral
mkdir logs steps tmp some
# shellcheck source=tests/lib/progress.sh
. "$TESTS/lib/progress.sh"
# shellcheck source=tests/lib/runner.sh
. "$TESTS/lib/runner.sh"
as_vm() (cd "$VM_STATE" && exec "$@")

mark=$((1000000 + $$)) # processes of this run of the test

make_test() {
	printf '#!/usr/bin/env bash\n%s\n' "$2" >"some/$1.sh"
	chmod 755 "some/$1.sh"
}
make_test passes '[ -d "$LOL_TMP" ] && [ -z "$(ls -A "$LOL_TMP")" ] && touch "$LOL_TMP/x" && mkdir -m 0 "$LOL_TMP/locked"'
make_test interrupts '(kill -INT $BASHPID; sleep 20); [ $? = 130 ]'
make_test fails 'echo this is why; exit 3'
make_test skips 'echo blah; echo no such thing here; exit 77'
make_test hangs "# timeout: 1
sleep $mark"
make_test litters "setsid sleep $mark >/dev/null 2>&1 & exit 0"
make_test dies 'kill -SEGV $$'
make_test unstartable ''
chmod 644 some/unstartable.sh

exec 3>report
progress_begin
trap '' INT QUIT # as for a job in the background
run_tests_in some some 20
exec 4>&1 >total
summary
status=$?
exec >&4 4>&-
progress_end
cat report total

[ "$(tail -n 1 total)" = "2 passed, 5 failed, 1 skipped" ] || fail "another last line"
[ $status = 1 ] || fail "summary returned $status"
grep -q '^ok *some/passes ' report || fail "passes"
grep -q '^ok *some/interrupts ' report || fail "SIGINT is ignored in tests"
grep -q '^FAILED *some/fails .*(status 3)' report || fail "fails"
grep -q '| this is why' report || fail "the log of a failed test is not shown"
grep -q '^skipped *some/skips .*(no such thing here)' report || fail "the reason of a skipped test is not shown"
grep -q '^FAILED *some/hangs .*(not finished after 1 s)' report || fail "hangs"
grep -q '^FAILED *some/litters .*(left processes behind)' report || fail "litters"
grep -q '^FAILED *some/dies .*(status 139)' report || fail "dies"
grep -q '^failed: some/litters$' total || fail "names of the failed"
[ -z "$(ls -A tmp)" ] || fail "directories of tests are left behind"
! pgrep -fx "sleep $mark" >/dev/null || fail "processes are left behind"

# Only some, and all of them good.
PASSED=0 FAILED=0 SKIPPED=0 FAILED_NAMES=()
exec 3>report
progress_begin
run_tests_in some some 20 passes skips
progress_end
[ "$(summary)" = "1 passed, 0 failed, 1 skipped" ] || fail "selection"
summary >/dev/null || fail "summary fails without failures"
echo passed

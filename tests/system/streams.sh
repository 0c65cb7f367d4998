#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# -- COMMAND in a pipeline: three streams kept apart, every byte, both directions at once, either end closed early.
# timeout: 300
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/lib/guest.sh"

in_guest 60 tr a-z A-Z < <(echo hi)
expect_status 0
expect_output HI
expect_quiet

in_guest 60 sh -c 'echo out; echo err >&2; echo more' </dev/null
expect_output $'out\nmore'
[ "$(cat "$ERRORS")" = err ] || fail "stderr is not just what the command wrote to it"

# By name, as scripts do it.
in_guest 60 sh -c 'echo out >/dev/stdout; echo err >/dev/stderr; cat /dev/stdin' < <(echo in)
expect_output $'out\nin'
[ "$(cat "$ERRORS")" = err ] || fail "/dev/stderr"

# Every byte value, 50 megabytes of them, in and out at once.
head -c 50000000 /dev/urandom >"$LOL_TMP/data"
in_guest 120 cat <"$LOL_TMP/data"
expect_status 0
cmp "$LOL_TMP/data" "$CONSOLE" || fail "bytes changed on their way"
expect_quiet
rm "$LOL_TMP/data"

# Both outputs full at once.
in_guest 120 sh -c 'head -c 2000000 /dev/zero | tee /dev/stderr' </dev/null
expect_status 0
[ "$(stat -c %s "$CONSOLE") $(stat -c %s "$ERRORS")" = "2000000 2000000" ] || fail "output got lost"

# The command does not want its input: the one who writes it must end as with a local command.
in_guest 60 head -n 1 < <(yes 2>/dev/null)
expect_status 0
expect_output y

# The reader does not want all output: the command gets SIGPIPE.
timeout -k 10 60 "$LOL_RUN" "$LOL_KERNEL" -q -m 256M -i "$(shell_initrd)" -- cat /dev/zero </dev/null 2>"$ERRORS" |
	head -c 100000 >"$CONSOLE"
STATUS=${PIPESTATUS[0]}
expect_status 141
[ "$(stat -c %s "$CONSOLE")" = 100000 ] || fail "output got lost"

# Without a stdin at all: an end of file, or a refusal in one line.
run timeout -k 10 60 "$LOL_RUN" "$LOL_KERNEL" -q -m 256M -i "$(shell_initrd)" -- sh -c 'cat; exit 3' <&-
[ "$STATUS" = 3 ] || { expect_status 125 && expect_error "lol-run: std"; }
echo passed

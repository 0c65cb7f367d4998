#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# -- COMMAND: exit statuses, arguments, environment, signals.
# timeout: 300
# shellcheck disable=SC2016 # what stands in single quotes is for the guest's shell
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/lib/guest.sh"

status_of() { # STATUS COMMAND...
	local status=$1
	shift
	in_guest 60 "$@" </dev/null
	expect_status "$status"
}

status_of 42 sh -c 'exit 42'
expect_output ''
expect_quiet
status_of 0 true
status_of 123 sh -c 'exit 123'
status_of 137 sh -c 'kill -KILL $$'
status_of 139 sh -c 'kill -SEGV $$'
status_of 127 no-such-program
expect_error "not found"
status_of 126 /bin
expect_error "/bin"
status_of 0 sh -c 'poweroff; sleep 60'

status_of 0 printf '%s|' "a b" "" 'x"y' '%41 $HOME' $'tab\tand\nline' 'é'
printf 'a b||x"y|%%41 $HOME|tab\tand\nline|é|' | cmp -s - "$CONSOLE" || fail "arguments changed on their way"

status_of 0 sh -c 'id -u; pwd; sleep 1000 & echo started'
expect_output $'0\n/\nstarted'

# A signal to lol-run is one for the command.
for signal in TERM INT; do
	: >"$CONSOLE"
	env --default-signal=TERM,INT timeout -k 10 100 "$LOL_RUN" "$LOL_KERNEL" -q -m 256M -i "$(shell_initrd)" -- \
		sh -c 'trap "echo got it; exit 9" '"$signal"'; echo ready; while :; do sleep 0.1; done' \
		>"$CONSOLE" 2>"$ERRORS" </dev/null &
	timer=$!
	wait_for_text 60 ready "$CONSOLE"
	pkill "-$signal" -P "$timer"
	wait "$timer"
	STATUS=$?
	expect_status 9
	expect "got it"
done
echo passed

#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# -- COMMAND on a terminal: the command has one too, of the same size, and Ctrl-C is a signal in the guest.
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/lib/guest.sh"
which script >/dev/null || skip "no script(1); install bsdutils"

# script gives a terminal whose input is what we type.
on_terminal() { # COMMAND-LINE-OF-THE-GUEST; input from stdin
	printf '#!/bin/sh\nstty rows 33 cols 111\nexec timeout -k 10 60 "%s" "%s" -q -m 256M -i "%s" -- %s\n' \
		"$LOL_RUN" "$LOL_KERNEL" "$(shell_initrd)" "$1" >"$LOL_TMP/go"
	chmod 755 "$LOL_TMP/go"
	: >"$CONSOLE"
	script -qefc "$LOL_TMP/go" /dev/null >"$CONSOLE" 2>"$ERRORS"
	STATUS=$?
}

typed() {
	wait_for_text 60 "ready" "$CONSOLE"
	for line in "$@"; do
		sleep 0.7
		printf '%b' "$line"
	done
	sleep 3
}

on_terminal "sh -c 'stty size; tty; test -t 0 && test -t 1 && test -t 2 && echo all three; echo ready; exec sh'" \
	< <(typed 'sleep 1000\n' '\003' 'echo rc=$?\n' 'exit 5\n')
expect_status 5
expect "33 111"
expect "/dev/pts/"
expect "all three"
expect "rc=130"
echo passed

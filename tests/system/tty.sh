#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# -- COMMAND on a terminal: the command has one too, of the same size, and Ctrl-C is a signal in the guest.
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/lib/guest.sh"
which script >/dev/null || skip "no script(1); install bsdutils"

# script gives a terminal whose input is what we type. It starts its command by a shell ($SHELL, or sh). A shell that stays
# between the two would leave lol-run in a process group of timeout's own making, in the background of the terminal, where no
# program may read: hence exec and --foreground, whatever the shell.
on_terminal() { # COMMAND-LINE-OF-THE-GUEST; input from stdin
	printf '#!/bin/sh\nstty rows 33 cols 111\nexec timeout --foreground -k 10 120 "%s" "%s" -q -m 256M -i "%s" -- %s\n' \
		"$LOL_RUN" "$LOL_KERNEL" "$(shell_initrd)" "$1" >"$LOL_TMP/go"
	chmod 755 "$LOL_TMP/go"
	: >"$CONSOLE"
	SHELL=/bin/sh script -qefc "exec $LOL_TMP/go" /dev/null >"$CONSOLE" 2>"$ERRORS"
	STATUS=$?
}

# The shell's prompt has the status of its last command.
on_terminal "sh -c 'stty size; tty; test -t 0 && test -t 1 && test -t 2 && echo all three; PS1=\"[\\\$?] \" exec sh'" \
	< <(typed '[0] ' 'echo sleep""ing; sleep 1000\n' 'sleeping' '\003' '[130] ' 'echo the" "end; exit 5\n')
expect_status 5
expect "33 111"
expect "/dev/pts/"
expect "all three"
echo passed

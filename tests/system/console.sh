#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The serial console: what is typed reaches a shell, which has job control; a lot of output arrives whole.
# shellcheck disable=SC2016 # what stands in single quotes is for the guest's shell
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/lib/guest.sh"

typed() {
	wait_for_text 60 "Enter 'help'" "$CONSOLE"
	for line in "$@"; do
		sleep 0.5
		printf '%b' "$line"
	done
	sleep 2
}

boot 90 -m 256M -i "$(shell_initrd)" < <(typed 'echo sum $((20+3))\n' 'tty\n' 'sleep 1000\n' '\003' 'echo rc=$?\n' \
	'seq 1 3000 | tail -n 2500\n' 'exit\n')
expect_status 0
expect "sum 23"
expect "/dev/ttyS0"
expect "rc=130"
[ "$(tr -d '\r' <"$CONSOLE" | grep -cxE '[0-9]{3,4}')" = 2500 ] || fail "output got lost"
expect_not "job control turned off"
echo passed

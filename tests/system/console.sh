#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The serial console: what is typed reaches a shell, which has job control; a lot of output arrives whole.
# shellcheck disable=SC2016 # what stands in single quotes is for the guest's shell
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/lib/guest.sh"

boot 150 -m 256M -i "$(shell_initrd)" < <(typed "Enter 'help'" 'PS1="<\\$?> "\n' '<0> ' 'tty\n' /dev/ttyS0 'echo sum $((20+3)); echo sleep""ing; sleep 1000\n' \
	sleeping '\003' '<130> ' 'seq 1 3000 | tail -n 2500; echo the" "end; exit\n')
expect_status 0
expect "sum 23"
expect "/dev/ttyS0"
[ "$(tr -d '\r' <"$CONSOLE" | grep -cxE '[0-9]{3,4}')" = 2500 ] || fail "output got lost"
expect_not "job control turned off"
echo passed

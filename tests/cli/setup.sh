#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# ./run-tests and ./quickstart: their arguments, what they find missing, and the private directories they insist on.
. "$(dirname "$0")/../lib/common.sh"
SOURCE=$(cd "$TESTS/.." && pwd)
cd "$LOL_TMP" || exit 1

for script in run-tests quickstart; do
	run "$SOURCE/$script" --help
	expect_status 0
	expect "Usage: ./$script"
	run "$SOURCE/$script" --nonsense
	expect_status 125
	[[ $(cat "$ERRORS") == "$script: --nonsense: "*"; "* ]] || fail "$script --nonsense"
done
run "$SOURCE/quickstart" --
expect_status 125
run "$SOURCE/run-tests" --fuzz-seconds 0
expect_status 125
run "$SOURCE/run-tests" --list cli/setup
expect_status 0
[ "$(cat "$CONSOLE")" = cli/setup ] || fail "--list"

# Without tools: one line with what to install, and nothing is done.
mkdir bin
for tool in bash basename cat chmod chown cut dirname env getent head id ls mkdir nproc rm sed setpriv sleep stat tail tr wc; do
	ln -s "$(command -v $tool)" bin/
done
run env -i PATH="$LOL_TMP/bin" LOL_STATE="$LOL_TMP/state" HOME="$LOL_TMP" "$LOL_TMP/bin/bash" "$SOURCE/run-tests" </dev/null
expect_status 125
[ "$(wc -l <"$ERRORS")" = 1 ] || fail "not one line about what is missing"
expect_error " gcc "
expect_error " autoconf "

# shellcheck source=tests/lib/setup.sh
. "$TESTS/lib/setup.sh"
[ "$(missing_packages 'a command:sh' 'b command:no-such-command
c header:no/such.h' 'd file:/dev/null')" = ' b c' ] || fail "missing_packages"

VM_GID=$(id -g)
try_dir() { (private_dir "$EUID" "$1") 2>"$ERRORS"; }
try_dir "$LOL_TMP/new" || fail "a new directory"
[ "$(stat -c %a new)" = 700 ] || fail "a new directory is not private"
try_dir "$LOL_TMP/new" || fail "the same again"
ln -s new link
! try_dir "$LOL_TMP/link" || fail "took a symbolic link"
chmod 755 new
! try_dir "$LOL_TMP/new" || fail "took a directory that others can enter"
touch file
chmod 700 file
! try_dir "$LOL_TMP/file" || fail "took a file"
echo passed

#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# timeout: 3600
# A gigabyte through a command in a guest, every byte in its place; 100 MB on the serial console, to a pipe, a file, a
# socket and a pty, with nothing lost.
# shellcheck disable=SC2016 # what stands in single quotes is for the guest's shell
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/../system/lib/guest.sh"
command -v openssl >/dev/null || skip "no openssl; install openssl"

# A gigabyte that never repeats, without taking room on a disk.
bytes() { openssl enc -aes-128-ctr -nosalt -K "$(printf '%032x' "$1")" -iv "$(printf '%032x' 0)" -in /dev/zero 2>/dev/null | head -c 1000000000; }

there=$(bytes 1 | sha256sum)
back=$(bytes 1 | timeout -k 10 900 "$LOL_RUN" "$LOL_KERNEL" -q -m 256M -i "$(shell_initrd)" -- cat | sha256sum)
[ "$there" = "$back" ] || fail "a gigabyte through cat is not the same"
echo "in and out: ok"

# lines FILE: 1 to 12900000 (101.1 MB with the line ends of a terminal), each once and in order
initrd=$(guest_initrd 'seq 1 12900000; poweroff -f')
wanted=$(seq 1 12900000 | sha256sum)
whole() { [ "$(tr -d '\r' | grep -xE '[0-9]+' | sha256sum)" = "$wanted" ] || fail "$1: output got lost"; }

timeout -k 10 900 "$LOL_RUN" "$LOL_KERNEL" -q -m 256M -i "$initrd" </dev/null 2>"$ERRORS" | whole pipe || exit 1
echo "pipe: ok"
run timeout -k 10 900 "$LOL_RUN" "$LOL_KERNEL" -q -m 256M -i "$initrd" --console "file=$LOL_TMP/log" </dev/null
expect_status 0
whole file <"$LOL_TMP/log"
rm "$LOL_TMP/log"
echo "file: ok"
command -v python3 >/dev/null || skip "no python3; install python3-minimal"
initrd=$(guest_initrd 'echo guest is up; read -r line; seq 1 12900000; poweroff -f')
mkdir -m 700 "$LOL_TMP/run"
export XDG_RUNTIME_DIR=$LOL_TMP/run
for kind in "unix=$LOL_TMP/serial" pty; do
	end=$LOL_TMP/serial
	[ $kind != pty ] || end=$LOL_TMP/run/lol/long.pty
	timeout -k 10 900 "$LOL_RUN" "$LOL_KERNEL" -q -m 256M -i "$initrd" --name long --console "$kind" </dev/null 2>"$ERRORS" &
	for ((i = 0; i < 300; i++)); do
		[ -e "$end" ] && break
		sleep 0.1
	done
	python3 -c '
import os, socket, stat, sys, time
if stat.S_ISSOCK(os.stat(sys.argv[1]).st_mode):
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    fd = s.fileno()
else:
    fd = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
time.sleep(10) # it may be past its boot: the line waits in the terminal
os.write(fd, b"\n")
while True:
    try:
        piece = os.read(fd, 65536)
    except OSError: # the end of a pty
        break
    if not piece:
        break
    sys.stdout.buffer.write(piece)' "$end" | whole "${kind%%=*}" || exit 1
	wait
	echo "${kind%%=*}: ok"
done
echo passed

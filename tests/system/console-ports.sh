#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# timeout: 170
# --console pty, unix=, file=, null: somebody comes, types, reads slowly or not at all, leaves and comes back; what was
# said while nobody was there is gone, and what was said to somebody is whole. The size of a terminal follows.
# shellcheck disable=SC2016 # what stands in single quotes is for the guest's shell
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/lib/guest.sh"
# shellcheck source=tests/system/lib/control.sh
. "$(dirname "$0")/lib/control.sh"

initrd=$(guest_initrd 'echo guest is up; while read -r line; do eval "$line"; done')

cat >"$LOL_TMP/peer.py" <<'END'
# peer.py PATH [LINE TEXT]...: opens a pty or socket; for each pair types LINE and reads until TEXT comes; then leaves.
# With TEXT "@eof": reads to the end. LINE "@slow": the rest is read slowly.
import os, socket, stat, sys, time
path = sys.argv[1]
if stat.S_ISSOCK(os.stat(path).st_mode):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    fd = s.fileno()
else:
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
    time.sleep(0.5) # lol-run looks at it now and then
got = b''
slow = 0
for line, text in zip(sys.argv[2::2], sys.argv[3::2]):
    if line == '@slow':
        slow = float(text)
        continue
    os.write(fd, line.encode() + b'\n')
    start = len(got)
    while text == '@eof' or text.encode() not in got[start:]:
        time.sleep(slow)
        try:
            piece = os.read(fd, 4096)
        except OSError: # the master's end has gone
            piece = b''
        if not piece:
            if text == '@eof':
                break
            sys.exit('ended before ' + text)
        got += piece
sys.stdout.buffer.write(got.replace(b'\r\n', b'\n'))
END
peer() { timeout 100 python3 "$LOL_TMP/peer.py" "$@"; }

# whole FILE N: the lines 1 to N, each once and in order
whole() {
	[ "$(grep -xE '[0-9]+' "$1")" = "$(seq 1 "$2")" ] || fail "output got lost: $(grep -cxE '[0-9]+' "$1") lines of $2"
}

for kind in pty "unix=$LOL_TMP/serial"; do
	begin vm -q -m 256M -i "$initrd" --console "$kind"
	end=$LOL_TMP/serial
	[ "$kind" = pty ] && end=$CONTROL_DIR/vm.pty
	wait_for_console vm "guest is up" # also: nobody at it holds the guest up
	peer "$end" 'echo sum $((20 + 3))' $'\nsum 23' >"$LOL_TMP/got" || fail "$kind: first visit"
	peer "$end" 'seq 1 20000; echo done' $'\ndone' >"$LOL_TMP/got" || fail "$kind: second visit"
	whole "$LOL_TMP/got" 20000
	# Somebody goes in the middle of a flood, and the flood goes by; then somebody reads slowly, to the guest's end.
	peer "$end" 'seq 1 100000; echo o""ver' $'\n100\r' >/dev/null || fail "$kind: third visit"
	wait_for_console vm over
	peer "$end" @slow 0.002 'seq 1 3000; poweroff -f' @eof >"$LOL_TMP/got" || fail "$kind: last visit"
	whole "$LOL_TMP/got" 3000
	ended 0
	[ ! -e "$end" ] && [ ! -L "$end" ] || fail "$kind: the name stays behind"
done
grep -q '^lol-run: console: /dev/pts/[0-9]' "$LOL_TMP/vm.err" && fail "the name of a pty for a socket"

# Of a VM that was killed, the socket stays; it is no obstacle. Something else there is.
begin vm -q -m 256M -i "$initrd" --console "unix=$LOL_TMP/serial"
wait_for_console vm "guest is up"
wrong "Address already in use" -q -m 256M -i "$initrd" --console "unix=$LOL_TMP/serial" "$LOL_KERNEL"
kill -KILL "$PID"
ended 137
begin vm -q -m 256M -i "$initrd" --console "unix=$LOL_TMP/serial"
[ "$(stat -c %a "$LOL_TMP/serial")" = 600 ] || fail "others can connect to the console"
wait_for_console vm "guest is up"
ctl stop vm --force
ended 0
touch "$LOL_TMP/file"
wrong "Address already in use" -q -m 256M -i "$initrd" --console "unix=$LOL_TMP/file" "$LOL_KERNEL"
wrong "No such file" -q -m 256M -i "$initrd" --console unix=/nowhere/console "$LOL_KERNEL"

# A file, with lolctl as the keyboard; a full one is no reason to stop.
begin vm -q -m 256M -i "$initrd" --console "file=$LOL_TMP/log"
wait_for_text 60 "guest is up" "$LOL_TMP/log"
(echo 'seq 1 20000; poweroff -f' | timeout 30 "$LOLCTL" console vm) >/dev/null 2>&1
ended 0
tr -d '\r' <"$LOL_TMP/log" >"$LOL_TMP/got"
whole "$LOL_TMP/got" 20000
begin vm -q -m 256M -i "$initrd" --console file=/dev/full
wait_for_console vm "guest is up"
grep -q 'console file=/dev/full: No space left' "$LOL_TMP/vm.err" || fail "nothing said of a full disk"
ctl stop vm --force
ended 0

# The size of COMMAND's terminal, at first and later.
python3 - "$LOL_RUN" "$LOL_KERNEL" "$(shell_initrd)" <<'END' >"$CONSOLE" || fail "size of the terminal"
import fcntl, os, pty, select, signal, struct, sys, termios, time
run, kernel, initrd = sys.argv[1:]
def size(rows, cols):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', rows, cols, 0, 0))
def until(text):
    global got
    end = time.time() + 60
    while text not in got:
        if time.time() > end or not select.select([fd], [], [], 60)[0]:
            print(got.decode(errors='replace'))
            sys.exit('no ' + text.decode())
        got += os.read(fd, 4096)
pid, fd = pty.fork()
if pid == 0:
    time.sleep(0.5) # for the first size
    os.execv(run, [run, '-q', '-m', '256M', '-i', initrd, kernel, '--', 'sh', '-c',
        'trap "stty size" WINCH; stty size; echo ready; while :; do sleep 0.1; done'])
got = b''
size(31, 101)
until(b'ready')
assert b'31 101' in got, got
for rows, cols in (40, 132), (24, 80), (51, 201):
    size(rows, cols)
    until(b'%d %d\r\n' % (rows, cols))
os.write(fd, b'\x01x') # ends the VM
while True:
    try:
        if not os.read(fd, 4096):
            break
    except OSError:
        break
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
END

# The control prompt has lolctl's commands.
python3 - "$LOL_RUN" "$LOL_KERNEL" "$initrd" <<'END' >"$CONSOLE" || fail "control prompt"
import os, pty, select, sys, time
run, kernel, initrd = sys.argv[1:]
def until(text):
    global got
    end = time.time() + 60
    while text not in got:
        if time.time() > end or not select.select([fd], [], [], 60)[0]:
            print(got.decode(errors='replace'))
            sys.exit('no ' + text.decode())
        got += os.read(fd, 4096)
    got = got[got.index(text) + len(text):]
pid, fd = pty.fork()
if pid == 0:
    os.execv(run, [run, '-q', '-m', '256M', '-i', initrd, '--name', 'prompt', kernel])
got = b''
until(b'guest is up\r\n')
os.write(fd, b'\x01c')
for typed, answer in ((b'pause', b'pause\r\n'), (b'status', b'state\tpaused\r\n'), (b'resume', b'resume\r\n'), (b'status', b'state\trunning\r\n'),
                      (b'stats', b'u_syscalls\t'), (b'help', b'sysrq KEY'), (b'sysrq', b'something is missing'), (b'fly', b'no such command'),
                      (b'console', b"VM's terminal already"), (b'pause now', b'takes less than that')):
    os.write(fd, typed + b'\r')
    until(answer)
os.write(fd, b'continue\recho $((20 + 3)) is\r')
until(b'\n23 is')
os.write(fd, b'\x01cquit\r')
while True:
    try:
        if not os.read(fd, 4096):
            break
    except OSError:
        break
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
END
[ -z "$(ls -A "$CONTROL_DIR")" ] || fail "left in the control directory: $(ls "$CONTROL_DIR")"
finish

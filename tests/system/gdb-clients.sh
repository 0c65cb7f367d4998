#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Clients that behave badly: they vanish at a stop, in the middle of a packet, while the guest runs; they send garbage, and too
# much of it; they want what is not there. The guest goes on, and the next client is served.
# shellcheck source=tests/system/lib/gdb.sh
. "$(dirname "$0")/lib/gdb.sh"

address=$(nm "$LOL_KERNEL" | sed -n 's/^f*\([0-9a-f]\{8\}\) [tT] vfs_write$/\1/p')
[ -n "$address" ] || skip "no nm, or no vfs_write"
address=$((16#$address - 16#80000000))

cat >"$LOL_TMP/clients.py" <<END
import random, socket, sys, time
PATH = "$GDB_SOCKET"

def connect():
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60)
    s.connect(PATH)
    return s

def send(s, payload):
    s.sendall(b"\$" + payload + b"#%02x" % (sum(payload) & 255))

def packet(s):
    data = b""
    while not (len(data) > 3 and data[-3:-2] == b"#"):
        byte = s.recv(1)
        if not byte:
            return None
        if data or byte == b"\$":
            data += byte
    return data[1:-3]

def ask(s, payload):
    send(s, payload)
    return packet(s)

def retry():
    # the last client may still be on its way out
    for i in range(600):
        s = connect()
        try:
            answer = ask(s, b"?")
        except OSError:
            answer = None                # refused, and closed already
        if answer and not answer.startswith(b"E."):
            return s
        s.close()
        time.sleep(0.1)
    sys.exit("never served again")

s = retry()
assert ask(s, b"Z0,5,1").startswith(b"E"), "unmapped"
assert ask(s, b"Z0,6fffffff0000,1").startswith(b"E")
assert ask(s, b"Z2,4000ffffffff0000,8").startswith(b"E") or ask(s, b"z2,4000ffffffff0000,8") == b"OK"
assert ask(s, b"m8000000000000000,8").startswith(b"E")
assert ask(s, b"M8000000000000000,1:00").startswith(b"E")
assert ask(s, b"mffffffffffffffff,8").startswith(b"E")
for i in range(5):                       # four debug registers
    answer = ask(s, b"Z1,%x,1" % ($address + 16 * i))
    assert answer == b"OK" if i < 4 else b"debug registers" in answer, answer
for i in range(4):
    assert ask(s, b"z1,%x,1" % ($address + 16 * i)) == b"OK"
assert ask(s, b"z1,%x,1" % $address).startswith(b"E")
target = ("Z0,%x,1" % $address).encode()
assert ask(s, target) == b"OK"
s.close()                                # gone, with its breakpoint
s = retry()
assert ask(s, target) == b"OK"
send(s, b"vCont;c")
assert packet(s).startswith(b"T05")      # hit, and gone at the stop
s.close()
s = retry()
assert ask(s, target) == b"OK"
send(s, b"vCont;c")
s.close()                                # gone while the guest runs
s = retry()
s.sendall(b"\$m1000")                     # gone in the middle of a packet
s.close()
s = retry()
s.sendall(b"\$" + b"x" * 5000000 + b"#00")
s.sendall(b"+" * 1000)
assert ask(s, b"qC") is not None
s.close()
random.seed(1)
for i in range(20):
    s = retry()
    s.sendall(bytes(random.randrange(256) for k in range(3000)))
    s.close()
s = retry()
other = connect()
assert b"another debugger" in other.recv(200)
assert ask(s, b"qAttached") == b"1"
assert ask(s, b"D") == b"OK"
print("all served")
END
gdb_boot -i "$(shell_initrd)" -- sh -c 'while :; do sleep 0.3; echo tick; done'
wait_for_text 100 tick "$CONSOLE" # early in the boot low addresses are mapped
GDB_OUT=$LOL_TMP/clients.out
timeout -k 10 120 gdb -nx -batch -x "$LOL_TMP/clients.py" >"$GDB_OUT" 2>&1 </dev/null || gdb_fail "clients"
saw "all served"
guest_ticks
echo passed

# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# For tests of the network: . "$(dirname "$0")/lib/net.sh", and then
#
#   own_network "$0" 'LINES'          go on in a user and network namespace made for this test; LINES are run first, by root of
#                                     that namespace, with the loopback interface up. Without namespaces: skip
#   port=$(free_port)                 a TCP and UDP port of 127.0.0.1 that nobody uses
#   serve DIR PORT                    an HTTP server on 127.0.0.1 in the background
#   fetch PORT PATH                   what an HTTP server on 127.0.0.1 has there, to stdout
#   add_program DIR PROGRAM...        PROGRAM with its libraries into DIR, for an initrd
#   initrd=$(socket_initrd)           the usual initrd with sock (lib/sock.c); for the host it is $LOL_TMP/sock
#   start NAME ARGUMENT...            a VM in the background, with NAME.out, NAME.err; its pid in PID
#
# What is started in the background is ended with the test.

# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "${BASH_SOURCE[0]}")/guest.sh"
PATH=$PATH:/usr/sbin:/sbin
BACKGROUND=()

own_network() {
	local script=$1 lines=$2 as_user=()
	if [ "${LOL_OWN_NETWORK:-}" ]; then
		trap end_background EXIT
		return
	fi
	# Root by hand: the user that lol-run would become.
	if [ "$EUID" = 0 ]; then
		chown 65534:65534 "$LOL_TMP"
		as_user=(setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all)
		# Elsewhere /dev/net/tun is for everybody; here it is at least for this test.
		[ -c /dev/net/tun ] && [ -z "$(find /dev/net/tun -perm -6)" ] && as_user=(unshare -m sh -c '
			mount -t tmpfs none /dev/net && mknod -m 666 /dev/net/tun c 10 200 && exec "$@"' - "${as_user[@]}")
	fi
	which ip unshare >/dev/null || skip "no ip and unshare; install iproute2 and util-linux"
	unshare -Urn true 2>/dev/null || skip "no user namespaces here"
	unshare -Urn unshare -U --map-user=65534 --map-group=65534 true 2>/dev/null || skip "no nested user namespaces here"
	# The outer namespace is root's, for the set-up; the inner one maps to an ordinary user again, as lol-run wants it.
	LOL_OWN_NETWORK=yes "${as_user[@]}" unshare -Urn bash -c '
		ip link set lo up || exit
		echo "0 0" >/proc/sys/net/ipv4/ping_group_range # unprivileged ICMP echo
		eval "$2" || exit
		unshare -U --map-user=65534 --map-group=65534 bash "$1"' - "$script" "$lines"
	exit
}

end_background() {
	local status=$? pid file
	# What the VMs in the background have said belongs to a failure.
	for file in "$LOL_TMP"/*.out "$LOL_TMP"/*.err; do
		[ "$status" = 0 ] || [ ! -s "$file" ] || { echo "--- end of ${file##*/}:" && tail -n 20 "$file"; }
	done
	for pid in "${BACKGROUND[@]}"; do
		kill "$pid" 2>/dev/null
	done
	wait 2>/dev/null
}
in_use() {
	(exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

free_port() {
	local port i
	for ((i = 0; i < 100; i++)); do
		port=$((20000 + RANDOM % 10000))
		in_use "$port" || { echo "$port" && return; }
	done
	fail "no free port"
}

wait_for_port() { # PORT
	local i
	for ((i = 0; i < 300; i++)); do
		in_use "$1" && return
		sleep 0.1
	done
	fail "nobody listens on port $1"
}

serve() {
	busybox httpd -f -p "127.0.0.1:$2" -h "$1" &
	BACKGROUND+=($!)
	wait_for_port "$2"
}

fetch() (
	exec 3<>"/dev/tcp/127.0.0.1/$1" || exit
	printf 'GET %s HTTP/1.0\r\n\r\n' "$2" >&3
	while read -r -t 60 line <&3 && [ "$line" != $'\r' ]; do :; done
	timeout 60 cat <&3
)

add_program() {
	local dir=$1 file lib
	shift
	for file; do
		file=$(command -v "$file") || return
		mkdir -p "$dir/bin"
		cp -L "$file" "$dir/bin/"
		for lib in $(ldd "$file" | grep -oE '/[^ )]+'); do
			mkdir -p "$dir${lib%/*}"
			cp -L "$lib" "$dir$lib"
		done
	done
}

socket_initrd() {
	local out=$LOL_TMP/socket.cpio.gz
	if [ ! -e "$out" ]; then
		which gcc >/dev/null || skip "no gcc; install gcc"
		mkdir -p "$LOL_TMP/socket/bin"
		gcc -O1 -static -o "$LOL_TMP/sock" "$TESTS/system/lib/sock.c" && cp "$LOL_TMP/sock" "$LOL_TMP/socket/bin" || fail "gcc lib/sock.c"
		"$LOL_GUEST" initrd build "$out" --add "$LOL_TMP/socket" >&2 || fail "no initrd"
	fi
	echo "$out"
}

start() {
	local name=$1
	shift
	timeout -k 10 300 "$LOL_RUN" "$LOL_KERNEL" -q -m 256M -i "$initrd" "$@" >"$name.out" 2>"$name.err" </dev/null &
	PID=$!
	BACKGROUND+=("$PID")
}

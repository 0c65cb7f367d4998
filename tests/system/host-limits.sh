#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Hosts that forbid or lack something: LoL works without it, or says in one line what it needs. Never a hang, never a crash.
# timeout: 300
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/lib/guest.sh"
cd "$LOL_TMP" || exit 1
which cc >/dev/null || skip "no C compiler"
cc -O1 -Wall -D_GNU_SOURCE -o deny "$TESTS/system/lib/deny.c" || fail "deny.c"
initrd=$(shell_initrd)
mkdir run tmp
chmod 700 run
export XDG_RUNTIME_DIR=$LOL_TMP/run TMPDIR=$LOL_TMP/tmp
truncate -s 8M disk.img

lol() { # PREFIX... -- ARGUMENTS-OF-LOL-RUN
	local -a prefix=()
	while [ "$1" != -- ]; do
		prefix+=("$1")
		shift
	done
	shift
	run timeout -k 10 60 "${prefix[@]}" "$LOL_RUN" "$LOL_KERNEL" -q -m 256M -i "$initrd" "$@" </dev/null
}

works() {
	expect_status 0
	expect_output "$1"
}

# Works, or is refused in one line that names what is missing.
works_or_says() { # OUTPUT PATTERN
	if [ "$STATUS" = 125 ]; then
		[ "$(wc -l <"$ERRORS")" = 1 ] || fail "not one line on stderr"
		[[ $(cat "$ERRORS") == "lol-run: "*"; "* ]] || fail "not 'lol-run: WHAT AND WHY; HINT'"
		grep -qiE -e "$2" "$ERRORS" || fail "stderr lacks: $2"
		echo "refused: $(cat "$ERRORS")"
	else
		works "$1"
	fi
}

lol ./deny nothing -- -- echo fine
works fine

# Disks without io_uring.
lol ./deny io_uring -- -d disk.img -- sh -c 'echo through >/dev/vda; sync; head -c 7 /dev/vda'
expect_status 0
[ "$(head -c 7 disk.img)" = through ] || fail "without io_uring the write did not arrive"

# Without user namespaces: the other walls stand.
lol ./deny userns -- -- echo fine
works fine

# Containers: those of ordinary users, where root is one of them and nobody else exists, and Docker's and Podman's default seccomp profile.
for container in "unshare -Ur" "unshare -Urmpf --mount-proc" "unshare -U"; do
	if $container true 2>/dev/null; then
		# shellcheck disable=SC2086 # words
		lol $container -- -- sh -c 'id -u; echo fine'
		works $'0\nfine'
	else
		echo "no '$container' here"
	fi
done
lol ./deny docker -- -d disk.img -- sh -c 'echo docker >/dev/vda; sync; echo fine'
works fine
[ "$(head -c 6 disk.img)" = docker ] || fail "behind Docker's profile the write did not arrive"

# Podman itself, as far as this machine lets it work: a container with nothing but LoL and the libraries that it needs.
if which podman >/dev/null; then
	mkdir -p root/bin root/lol root/proc root/dev root/sys root/tmp root/run root/etc
	chmod 1777 root/tmp
	cp "$(which busybox)" root/bin/ && ln -s busybox root/bin/sh
	echo root:x:0:0::/tmp:/bin/sh >root/etc/passwd
	cp -r "$(dirname "$LOL_RUN")/.." root/lol/inst && cp "$LOL_KERNEL" root/lol/vmlinux && cp "$initrd" root/lol/initrd
	while read -r library; do
		mkdir -p "root$(dirname "$library")" && cp -L "$library" "root$library"
	done < <(ldd "$LOL_RUN" "$LOL_LIBEXEC"/lol-[ku] 2>/dev/null | grep -o '/[^ ]*\.so[^ ]*' | sort -u)
	mkdir -m 700 podxdg
	podman=(env XDG_RUNTIME_DIR="$LOL_TMP/podxdg" podman --root "$LOL_TMP/pod" --runroot "$LOL_TMP/podrun" --cgroup-manager=cgroupfs)
	which runc >/dev/null && podman+=(--runtime runc) # works with more kinds of cgroups than crun
	if timeout 60 "${podman[@]}" run --rm --network=none --rootfs root /bin/sh -c true </dev/null >podman.log 2>&1; then
		run timeout -k 10 60 "${podman[@]}" run --rm --network=none --rootfs root /lol/inst/bin/lol-run /lol/vmlinux -q -m 256M -i /lol/initrd -- echo fine </dev/null
		works fine
		echo "podman: fine"
	else
		echo "podman does not work here: $(tail -n 1 podman.log)"
	fi
	"${podman[@]}" unshare rm -rf "$LOL_TMP/pod" "$LOL_TMP/podrun" 2>/dev/null
	"${podman[@]}" system migrate >/dev/null 2>&1 # ends the process that keeps its namespace
	rm -rf root
fi

lol ./deny seccomp -- -- echo fine
[ "$STATUS" = 125 ] || fail "without seccomp the guest is not confined, yet the status is $STATUS"
works_or_says fine "seccomp"

lol ./deny memfd -- -- echo fine
works_or_says fine "memfd|memory"

# Too little memory: address space, then what the host has at all.
lol prlimit --as=67108864 -- -- echo fine
works_or_says fine "mem|memory|allocate|map"
# More than the host has: guests use little of what they see, so this may work; it must not end badly.
host_mib=$(awk '/MemTotal|SwapTotal/ { kb += $2 } END { print int(kb / 1024) }' /proc/meminfo)
run timeout -k 2 60 "$LOL_RUN" "$LOL_KERNEL" -q -m "$((host_mib * 3 / 2))M" -i "$initrd" -- echo fine </dev/null
works_or_says fine "mem"

# Few descriptors, few processes (root has no such limit).
lol prlimit --nofile=8 -- -- echo fine
works_or_says fine "file|ulimit|descriptor|open"
if [ "$(id -u)" != 0 ]; then
	lol prlimit --nproc=1 -- -- echo fine
	works_or_says fine "process|fork|clone|resource"
fi

# No /dev/shm and no home to write to.
lol env -i HOME=/nonexistent PATH=/usr/bin:/bin -- -- echo fine
works fine
if unshare -rm true 2>/dev/null; then
	# noexec everywhere where files could be put
	# shellcheck disable=SC2016 # for the inner shell
	run timeout -k 10 60 unshare -rm sh -c 'mount -t tmpfs -o noexec,nosuid t /dev/shm && mount -t tmpfs -o noexec,mode=1777 t /run &&
		exec unshare --user --map-user=1000 --map-group=1000 "$@"' sh "$LOL_RUN" "$LOL_KERNEL" -q -m 256M -i "$initrd" -- echo fine </dev/null
	if grep -q 'unshare:\|mount:' "$ERRORS"; then
		echo "no mounts in a user namespace here: not tested with /dev/shm noexec"
	else
		works fine
	fi
fi

# Signals ignored by the caller, as under nohup; odd umask; a closed stderr.
lol nohup -- -- echo fine
expect_status 0
(umask 777 && run timeout -k 10 60 "$LOL_RUN" "$LOL_KERNEL" -q -m 256M -i "$initrd" -- echo fine </dev/null && exit "$STATUS") || fail "umask 777"
timeout -k 10 60 "$LOL_RUN" "$LOL_KERNEL" -q -m 256M -i "$initrd" -- echo fine </dev/null >"$CONSOLE" 2>&- || [ $? = 125 ] || fail "closed stderr"
left=$(find run tmp -mindepth 1 ! -type d)
[ -z "$left" ] || fail "left behind: $left"
echo passed

#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# --share: reading and writing, owners, ro, never outside of the directory, ends of the server, and what cannot be shared.
# timeout: 400
# shellcheck disable=SC2016 # what stands in single quotes is for the guest's shell
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/lib/guest.sh"
PATH=$PATH:/usr/sbin
which diod >/dev/null || skip "no diod"
cd "$LOL_TMP" || exit 1
initrd=$(shell_initrd)
mkdir dir outside
echo hello >dir/file
echo secret >outside/secret

shared() { # SHARE-SPEC LINES
	boot 120 -q -m 256M -i "$initrd" -s "$1" -- sh -c "$2" </dev/null
}

# Both directions; who is root in the guest is the user here.
shared dir 'cd /mnt/share0 && cat file && stat -c %u file && echo from-guest >new && mkdir d && mv new d/ && ln d/new d/second &&
	ln -s d/new link && chmod 640 d/new && chown 0:0 d/new && cat link && head -c 300000 /dev/urandom >big && md5sum big | cut -c1-32'
expect_status 0
expect_output "hello
0
from-guest
$(md5sum <dir/big | cut -c1-32)"
[ "$(stat -c '%u %a %h' dir/d/new)" = "$(id -u) 640 2" ] || fail "d/new is $(stat -c '%u %a %h' dir/d/new)"
[ "$(readlink dir/link)" = d/new ] || fail "the link"

# Changes of the host are seen at once, and the other way round; appended, truncated, mapped.
cat >conversation <<'END'
cd /mnt/share0
echo ready >ready
i=0
while [ ! -e answer ] && [ $i -lt 300 ]; do sleep 0.1; i=$((i + 1)); done
cat answer
echo more >>answer
END
timeout -k 10 120 "$LOL_RUN" "$LOL_KERNEL" -q -m 256M -i "$initrd" -s dir -- sh -c "$(cat conversation)" >out 2>&1 </dev/null &
pid=$!
for ((i = 0; i < 600; i++)); do
	[ ! -e dir/ready ] || break
	sleep 0.1
done
echo answered >dir/answer.new
mv dir/answer.new dir/answer
wait $pid || fail "conversation: $(cat out)"
[ "$(cat out)" = answered ] && [ "$(cat dir/answer)" = $'answered\nmore' ] || fail "conversation: $(cat out dir/answer)"

# What only looks like a way out. Links are the guest's to follow; nobody else's owner, no devices.
ln -s "$PWD/outside/secret" dir/absolute
ln -s ../outside/secret dir/relative
shared dir 'cd /mnt/share0; for f in absolute relative ../outside/secret d/../../outside/secret; do cat $f 2>/dev/null; done
	mknod null c 1 3 2>/dev/null && echo device; chown 1000 file 2>/dev/null && echo owner; mkfifo fifo && echo fifo'
expect_output fifo
rm dir/fifo

# A directory that the host keeps exchanging for a link to the outside, while the guest reads through it.
mkdir dir/way
echo allowed >dir/way/secret
(while [ ! -e stop ]; do
	mv dir/way dir/way.real && ln -s "$PWD/outside" dir/way && rm dir/way && mv dir/way.real dir/way
done) 2>/dev/null &
swapper=$!
shared dir 'cd /mnt/share0; i=0; while [ $i -lt 600 ]; do cat way/secret 2>/dev/null; i=$((i + 1)); done | sort -u'
touch stop
wait $swapper
expect_not secret

# ro is the host's decision, whatever the guest mounts.
rm -rf dir/[a-z]*
echo kept >dir/file
chmod 666 dir/file
shared dir,ro,tag=other 'mount -o remount,rw /mnt/other 2>/dev/null; umount /mnt/other
	mount -t 9p -o trans=virtio,version=9p2000.L other /mnt/other || exit 9; cd /mnt/other || exit 9
	echo x 2>/dev/null >>file && echo written; echo x 2>/dev/null >new && echo made; rm -f file 2>/dev/null && echo removed
	chmod 600 file 2>/dev/null && echo moded; mv file other 2>/dev/null && echo moved; ln file l 2>/dev/null && echo linked
	touch -d 2001-01-01 file 2>/dev/null && echo touched; truncate -s 0 file 2>/dev/null && echo truncated; cat file'
expect_status 0
expect_output kept
[ "$(stat -c %a dir/file)" = 666 ] && [ "$(ls dir)" = file ] || fail "a ro share was changed"

# Two of them, and a name with odd characters in it.
mkdir "b c,d%"
echo odd >"b c,d%/file"
boot 120 -q -m 256M -i "$initrd" -s dir -s "b c,,d%" -- cat /mnt/share0/file /mnt/share1/file </dev/null
expect_output $'kept\nodd'

# In the guest of a host's root a share is where it is on the host.
boot 120 -q -s dir -- sh -c "echo through >$PWD/dir/through; echo not >$PWD/not" </dev/null
expect_status 0
[ "$(cat dir/through)" = through ] && [ ! -e not ] || fail "the share below the root"

# It vanishes under the guest: errors, not a hang.
mkdir gone
touch gone/file
: >out
timeout -k 10 120 "$LOL_RUN" "$LOL_KERNEL" -q -m 256M -i "$initrd" -s gone -- sh -c 'cd /mnt/share0; echo up; while [ -e file ]; do sleep 0.1; done
	ls >/dev/null 2>&1; echo x 2>/dev/null >new && echo written; echo done' >out 2>&1 </dev/null &
pid=$!
wait_for_text 60 up out
rm -rf gone
wait $pid || fail "a vanished share: $(cat out)"
[ "$(cat out)" = $'up\ndone' ] || fail "a vanished share: $(cat out)"

# Its server dies: I/O errors, one line.
: >out
timeout -k 10 120 "$LOL_RUN" "$LOL_KERNEL" -q -m 256M -i "$initrd" -s dir -- sh -c 'cd /mnt/share0; echo up; while ls file >/dev/null 2>&1; do sleep 0.1; done
	cat file >/dev/null 2>&1 || echo error' >out 2>"$ERRORS" </dev/null &
pid=$!
wait_for_text 60 up out
for p in $(tree_pids $pid); do
	[ "$(cat "/proc/$p/comm")" != diod ] || kill -KILL "$p"
done
wait $pid || fail "a dead server: $(cat out)"
[ "$(cat out)" = $'up\nerror' ] || fail "a dead server: $(cat out)"
[ "$(grep -c "I/O errors there" "$ERRORS")" = 1 ] || fail "a dead server is not reported: $(cat "$ERRORS")"

# What cannot be.
wrong "No such file" "$LOL_KERNEL" -i "$initrd" -s nothing
wrong "directory" "$LOL_KERNEL" -i "$initrd" -s dir/file
wrong "" "$LOL_KERNEL" -i "$initrd" -s dir,rw
wrong "directory" "$LOL_KERNEL" --rootfs dir/file
wrong "No such file" "$LOL_KERNEL" --rootfs nothing
mkdir closed && chmod 000 closed
[ -r closed ] || wrong "denied|access" "$LOL_KERNEL" -i "$initrd" -s closed
chmod 700 closed
long=dir/$(printf 'x%.0s' {1..300})
wrong "too long" "$LOL_KERNEL" -i "$initrd" -s "$long"
if unshare -rm true 2>/dev/null; then
	# As on a host without diod; what unshare cannot do is no failure.
	run timeout -k 10 60 unshare -rm sh -c 'mount -t tmpfs t /usr/sbin && mount -t tmpfs t /usr/local/sbin &&
		exec unshare --user --map-user=1000 --map-group=1000 "$@"' sh "$LOL_RUN" "$LOL_KERNEL" -q -i "$initrd" -s dir -- true </dev/null
	if ! grep -q 'unshare:\|mount:' "$ERRORS"; then
		expect_status 125
		expect_error "apt-get install diod"
		[ "$(wc -l <"$ERRORS")" = 1 ] || fail "not one line"
	fi
fi

# Hosts with other walls: no user namespaces; some without rights; and without Landlock either.
if which cc >/dev/null && cc -O1 -D_GNU_SOURCE -o deny "$TESTS/system/lib/deny.c" 2>/dev/null; then
	for walls in userns mount; do
		timeout -k 10 120 ./deny $walls "$LOL_RUN" "$LOL_KERNEL" -q -m 256M -i "$initrd" -s dir -- \
			sh -c 'cd /mnt/share0; cat file; echo new >made; cat /mnt/share0/absolute 2>/dev/null; ls .. >/dev/null' >"$CONSOLE" 2>"$ERRORS" </dev/null
		STATUS=$?
		expect_status 0
		[ "$(cat dir/made)" = new ] || fail "$walls: nothing was written"
		expect_output kept
		rm dir/made
		run timeout -k 10 60 ./deny $walls,landlock "$LOL_RUN" "$LOL_KERNEL" -q -m 256M -i "$initrd" -s dir -- true </dev/null
		expect_status 125
		expect_error "neither user namespaces nor Landlock"
		[ "$(wc -l <"$ERRORS")" = 1 ] || fail "not one line"
		run timeout -k 10 120 ./deny $walls,landlock "$LOL_RUN" "$LOL_KERNEL" -q -- cat dir/file </dev/null
		expect_status 0
		expect_output kept
	done
fi
finish

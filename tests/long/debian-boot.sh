#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# lol-guest image build makes a Debian image; lol-run boots it to the login prompt, root logs in on the serial console,
# works, shuts down; the file system is clean, what was written is there at the next boot, no unit failed, no kernel warning.
# LOL_DEBIAN_IMAGE=FILE takes an image that exists; LOL_DEBIAN_SUITE another release.
# timeout: 1500
# shellcheck disable=SC2016 # what stands in single quotes is for the guest's shell
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/../system/lib/guest.sh"
cd "$LOL_TMP" || exit 1
PATH=$PATH:/usr/sbin:/sbin
for tool in mmdebstrap fakeroot mke2fs; do
	which $tool >/dev/null || skip "$tool is missing"
done

if [ -n "${LOL_DEBIAN_IMAGE:-}" ]; then
	cp --sparse=always "$LOL_DEBIAN_IMAGE" debian.img || fail "$LOL_DEBIAN_IMAGE"
else
	start=$SECONDS
	"$LOL_GUEST" image build debian.img --suite "${LOL_DEBIAN_SUITE:-bookworm}" --size 1500M || fail "image build"
	echo "image: $((SECONDS - start)) s"
	left=$(find . -maxdepth 1 -name '.lol-image*')
	[ -z "$left" ] || fail "left behind: $left"
fi
e2fsck -fn debian.img >fsck.out 2>&1 || fail "a new image is not clean: $(tail -n 2 fsck.out)"

# Type a line at a prompt: wait until the console has one more of it.
typed() { # lines "SECONDS|PROMPT|LINE"
	local seconds prompt line i
	while IFS='|' read -r seconds prompt line; do
		for ((i = 0; i < seconds * 5; i++)); do
			[ "$(tail -c +"$((seen + 1))" "$CONSOLE" | grep -caF -e "$prompt")" -gt 0 ] && break
			sleep 0.2
		done
		seen=$(stat -c %s "$CONSOLE")
		sleep 0.3
		printf '%s\n' "$line"
	done
}

# Open for reading and writing: the guest's standard input does not end with the last line.
mkfifo typed && exec 9<>typed || fail "mkfifo"
session() { # NAME LINES
	local name=$1 seen=0 start=$SECONDS
	: >"$CONSOLE"
	typed <<<"$2" >&9 &
	timeout -k 10 400 "$LOL_RUN" "$LOL_KERNEL" -m 512M -d debian.img -a "root=/dev/vda rw" \
		<typed >"$CONSOLE" 2>"$ERRORS"
	STATUS=$?
	kill $! 2>/dev/null
	wait $!
	echo "$name: $((SECONDS - start)) s, status $STATUS"
	cp "$CONSOLE" "$name.console"
	expect_status 0
	expect_not "Kernel panic"
	expect "Power down"
	e2fsck -fn debian.img >fsck.out 2>&1 || { cat fsck.out; fail "$name: the file system is not clean after the shutdown"; }
}

# The console has the lines typed, too: what must not be there is typed with quotes inside.
session first '200|lol login:|root
60|root@lol|PS1="READY> "
30|READY>|systemctl is-system-running --wait; systemctl --failed --no-legend --plain | sed "s/^/FAILED""-UNIT /"
90|READY>|echo "os $(. /etc/os-release; echo $ID)"; id -un; findmnt -no FSTYPE /; dpkg -l | grep -c ^ii
30|READY>|journalctl -k -p warning --no-pager -q | sed "s/^/KERNEL /" | head -n 20
30|READY>|dmesg | grep -E "WARNING|BUG:|Oops|Call Trace" && echo KERNEL "COMPLAINS"
30|READY>|head -c 5000000 /dev/urandom >/root/data; md5sum /root/data >/root/sum; systemd-analyze
60|READY>|ls -l /etc/shadow /usr/bin/su; touch /home/x; su nobody -s /bin/sh -c "cat /etc/shadow; id -u"
30|READY>|poweroff'
expect "os debian"
expect "running"
expect "ext4"
expect "-rwsr-xr-x"
expect_not "KERNEL COMPLAINS"
expect_not "FAILED-UNIT "
grep -a 'Startup finished' first.console
expect "65534"
grep -aqE 'rw-r-----.* root +shadow .*/etc/shadow' "$CONSOLE" || fail "owner and mode of /etc/shadow"

session second '200|lol login:|root
60|root@lol|PS1="READY> "
30|READY>|md5sum -c /root/sum && echo KEPT WHOLE
60|READY>|reboot_test=1; systemctl poweroff'
expect "KEPT WHOLE"

# The same image by a command, without systemd.
boot 120 -q -m 512M -d debian.img,snapshot -- sh -c 'md5sum -c /root/sum; apt-get --version | head -n 1 | cut -d" " -f1' </dev/null
expect_status 0
expect_output $'/root/data: OK\napt'
echo passed

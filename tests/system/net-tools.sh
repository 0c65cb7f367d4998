#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# What people use: curl, rsync and ssh from the host into a guest through hostfwd, each where it is installed.
# timeout: 300
# shellcheck disable=SC2016 # what stands in single quotes is for the guest's shell
# shellcheck source=tests/system/lib/net.sh
. "$(dirname "$0")/lib/net.sh"
own_network "$0" ''
cd "$LOL_TMP" || exit 1
have=()
for tool in curl rsync ssh; do
	! which $tool >/dev/null || have+=("$tool")
done
[[ " ${have[*]} " != *" ssh "* ]] || which sshd >/dev/null || have=("${have[@]/ssh/}")
[ "${have[*]// /}" ] || skip "none of curl, rsync, ssh with sshd is installed"
wants() {
	[[ " ${have[*]} " == *" $1 "* ]]
}

# A guest with a file, a web server, an rsync daemon and an sshd; this user's key is the only one that may come in.
mkdir -p tools/etc/ssh tools/root/.ssh tools/run/sshd tools/data
head -c 6000000 /dev/urandom >tools/data/big
seq 1 300 | while read -r i; do echo "file $i" >"tools/data/$i"; done
! wants rsync || add_program tools rsync || fail "rsync"
if wants ssh; then
	add_program tools sshd || fail "sshd"
	for part in /usr/lib/openssh/sshd-session /usr/lib/openssh/sshd-auth /usr/libexec/openssh/sshd-session; do # of newer ones
		[ ! -x $part ] || { mkdir -p "tools${part%/*}" && add_program tools $part && cp $part "tools${part%/*}/"; }
	done
	ssh-keygen -q -t ed25519 -N '' -f key && ssh-keygen -q -t ed25519 -N '' -f tools/etc/ssh/host || fail ssh-keygen
	cp key.pub tools/root/.ssh/authorized_keys
	printf 'root:x:0:0::/root:/bin/sh\nsshd:x:101:65534::/run/sshd:/bin/false\n' >tools/etc/passwd
	printf 'root:x:0:\nnogroup:x:65534:\n' >tools/etc/group
	printf 'HostKey /etc/ssh/host\nUsePAM no\nStrictModes no\nPidFile none\n' >tools/etc/ssh/sshd_config
fi
printf '[data]\npath = /data\nuse chroot = no\nread only = yes\nuid = 0\ngid = 0\n' >tools/etc/rsyncd.conf
initrd=tools.gz
"$LOL_GUEST" initrd build $initrd --add tools >&2 || fail "no initrd"

web=$(free_port) sync=$(free_port) shell=$(free_port)
start guest -n "user,hostfwd=tcp:127.0.0.1:$web-:80,hostfwd=tcp:127.0.0.1:$sync-:873,hostfwd=tcp:127.0.0.1:$shell-:22" -- sh -c '
	chown -R 0:0 /root /etc /data /run/sshd 2>/dev/null; mkdir -p /run/sshd; chmod 600 /etc/ssh/host; chmod 755 /run/sshd
	httpd -h /data
	[ ! -x /bin/rsync ] || rsync --daemon --config=/etc/rsyncd.conf
	[ ! -x /bin/sshd ] || /bin/sshd -f /etc/ssh/sshd_config
	echo ready; sleep 300'
wait_for_text 60 ready guest.out

if wants curl; then
	curl -s --max-time 60 "http://127.0.0.1:$web/big" | cmp -s - tools/data/big || fail "curl: not what is there"
	[ "$(curl -s --max-time 60 "http://127.0.0.1:$web/[1-50]" | wc -l)" = 50 ] || fail "curl: many small files"
	echo "curl"
fi
if wants rsync; then
	timeout 60 rsync -r "rsync://127.0.0.1:$sync/data/" copy || fail "rsync"
	diff -r tools/data copy >/dev/null || fail "rsync: not what is there"
	echo "rsync"
fi
if wants ssh; then
	ssh_guest=(timeout 60 ssh -F none -i key -p "$shell" -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=known
		-o LogLevel=ERROR root@127.0.0.1)
	[ "$("${ssh_guest[@]}" 'uname -n; exit 7'; echo $?)" = $'lol\n7' ] || fail "ssh: no command"
	"${ssh_guest[@]}" 'cat >/tmp/up; cat /tmp/up' <tools/data/big | cmp -s - tools/data/big || fail "ssh: not what was sent"
	echo "ssh"
fi
kill "$PID"
wait "$PID"
echo passed

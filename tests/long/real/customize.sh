# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=sh
# Run by lol-guest image build: $1 is the folder of the new system. Puts the packages and sources of LOL_REAL_PAYLOAD into
# /srv/real, and a git repository of 1,000 commits, some of them merges, made by git itself.
set -e
mkdir -p "$1/srv/real"
cp -r "$LOL_REAL_PAYLOAD/debs" "$LOL_REAL_PAYLOAD/sources" "$1/srv/real/"
cat >"$1/srv/real/history.awk" <<'END'
# A stream for git fast-import: 1,000 commits on 40 files, each 25th one merges a side branch.
function text(s) {printf "data %d\n%s\n", length(s), s}
function commit(branch, mark, from, merge, n,    i, body) {
	printf "commit %s\nmark :%d\ncommitter A U Thor <a@example.org> %d +0000\n", branch, mark, 1600000000 + n * 60
	text("Change " n)
	if (from) printf "from :%d\n", from
	if (merge) printf "merge :%d\n", merge
	body = ""
	for (i = 0; i < 20 + n % 50; i++) body = body "line " i * n % 997 " of version " n "\n"
	printf "M 100644 inline dir%d/file%d.txt\n", n % 7, n % 40
	text(body)
}
BEGIN {
	for (n = 1; n <= 1000; n++) {
		if (n % 25 == 24 && n < 1000) {commit("refs/heads/side", n, last, 0, n); side = n; continue}
		commit("refs/heads/main", n, last, side, n)
		last = n; side = 0
	}
	print "done"
}
END
mkdir -p "$1/srv/real/history"
chroot "$1" sh -e -c '
	cd /srv/real/history
	export HOME=/root GIT_CONFIG_NOSYSTEM=1
	git init -q -b main .
	awk -f ../history.awk | git fast-import --quiet --done
	[ "$(git rev-list --all --count)" = 1000 ]
	git reset -q --hard main'

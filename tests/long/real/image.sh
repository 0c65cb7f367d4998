# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# The Debian image of the tests real-*.sh: compilers, interpreters, servers, debuggers; in /srv/real the sources of Lua and
# zlib, some .debs to install, and a git repository of 1,000 commits.
#
#   real_image    sets IMAGE; builds it where the cache has none of the same inputs (some minutes, 3 GB)
#
# Kept as ${XDG_CACHE_HOME:-~/.cache}/lol/real/HASH.img. LOL_REAL_IMAGE=FILE names one instead. Root downloads what is from
# Debian's archive through apt's own client with directories of ours; no file of the system is changed.

REAL=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
REAL_PACKAGES=build-essential,libreadline-dev,python3,libpython3.11-testsuite,git,sqlite3,strace,gdb,golang-go,nodejs,stress-ng
REAL_PACKAGES+=,redis-server,redis-tools,perl,file,time,zlib1g-dev,netbase
REAL_SOURCES='lua5.4 zlib'
REAL_DEBS='hello tree jq libjq1 libonig5 figlet'
REAL_SUITE=bookworm

say() { printf '%s\n' "$*"; }

# The directory for what lasts; root's home may be closed to the user that lol-run becomes.
real_cache() {
	local dir=${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/lol/real
	[ "$(id -u)" != 0 ] || dir=/var/tmp/lol-real-0
	mkdir -p "$dir" || skip "$dir: cannot be made; set XDG_CACHE_HOME"
	chmod 755 "$dir"
	echo "$dir"
}

# One file a line: the scripts that decide what is in the image.
real_hash() {
	{
		echo "1 $REAL_PACKAGES $REAL_SOURCES $REAL_DEBS $REAL_SUITE"
		cat "$REAL/customize.sh"
	} | sha256sum | cut -c 1-16
}

real_mirror() {
	cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
		grep -oE '[a-z]+://[^ ]*/debian/?( |$)' | head -n 1 | tr -d ' '
}

# Debian's source and binary packages to $1, below a private apt.
real_download() {
	local out=$1 apt=$1/apt mirror=${LOL_DEBIAN_MIRROR:-$(real_mirror)} key=/usr/share/keyrings/debian-archive-keyring.gpg
	[ "$mirror" ] || skip "no Debian mirror in /etc/apt; set LOL_DEBIAN_MIRROR=URL"
	[ -r $key ] || skip "$key is missing; install debian-archive-keyring"
	mkdir -p "$apt"/{etc/preferences.d,state/lists/partial,cache/archives/partial} "$out"/{debs,sources}
	: >"$apt/state/status"
	printf '%s [arch=amd64 signed-by='"$key"'] '"$mirror $REAL_SUITE"' main\n' deb deb-src >"$apt/etc/sources.list"
	cat >"$apt/apt.conf" <<-END
		Dir::State "$apt/state";
		Dir::State::status "$apt/state/status";
		Dir::Cache "$apt/cache";
		Dir::Etc "$apt/etc";
		Dir::Etc::sourceparts "-";
		APT::Architecture "amd64";
		APT::Sandbox::User "root";
		Acquire::Languages "none";
	END
	apt-config dump | grep -E '^Acquire::https?::' >>"$apt/apt.conf"
	(
		export APT_CONFIG=$apt/apt.conf
		apt-get -q -o APT::Update::Error-Mode=any update &&
			cd "$out/sources" && apt-get -q source --download-only $REAL_SOURCES &&
			cd "$out/debs" && apt-get -q download $REAL_DEBS
	) >"$out/log" 2>&1 || { tail -n 5 "$out/log"; skip "Debian's packages cannot be downloaded"; }
	rm -rf "$apt"
}

real_image() {
	local cache hash payload
	IMAGE=${LOL_REAL_IMAGE:-}
	if [ "$IMAGE" ]; then
		[ -r "$IMAGE" ] || skip "$IMAGE: not readable"
		return
	fi
	cache=$(real_cache) || exit $?
	hash=$(real_hash)
	IMAGE=$cache/$hash.img
	[ ! -s "$IMAGE" ] || return 0
	for tool in mmdebstrap mke2fs fakeroot apt-get; do
		PATH=$PATH:/usr/sbin:/sbin command -v $tool >/dev/null || skip "$tool is missing"
	done
	[ "$(df -Pk "$cache" | awk 'NR == 2 { print $4 }')" -gt 9000000 ] || skip "$cache: less than 9 GB free"
	say "making the image: Debian with compilers and interpreters, some minutes"
	payload=$(mktemp -d /var/tmp/lol-real-payload.XXXXXX)
	# shellcheck disable=SC2064
	trap "rm -rf '$payload'; ${REAL_TRAP:-:}" EXIT
	chmod 755 "$payload"
	real_download "$payload"
	chmod -R a+rX "$payload"
	rm -f "$cache"/*.img.new
	LOL_REAL_PAYLOAD=$payload "$LOL_GUEST" image build "$LOL_TMP/real.img" --size 6G --suite $REAL_SUITE --packages "$REAL_PACKAGES" \
		--script "$REAL/customize.sh" || fail "lol-guest image build failed"
	rm -rf "$payload"
	chmod a+rw "$LOL_TMP/real.img"
	mv -f "$LOL_TMP/real.img" "$IMAGE"
	find "$cache" -name '*.img' ! -name "$hash.img" -delete
}

# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# What ./quickstart and ./run-tests have in common: from a checkout to an installed LoL and a default guest kernel.
# Sourced with SOURCE set to the checkout. Steps that are done already cost next to nothing.
#
# Who does what: root only installs packages. After that a root that came through sudo becomes that user again. Plain root
# (a container, a CI machine) builds, but guests and the kernel build belong to VM_UID, which is nobody (65534) then.
# A directory that an ordinary user writes to is no place for root to write to, so there are two:
#
#   OWN_STATE  of the caller: logs, progress of earlier runs, and the build when the checkout cannot be written
#   VM_STATE   of the user of the guests: inst/ (LoL, installed), tests/ (copied), home/, tmp/
#
# For an ordinary user both are ~/.cache/lol/dev or, where there is no home, /var/tmp/lol-UID. LOL_STATE=PATH puts them
# at PATH-UID instead.

# shellcheck source=tests/lib/progress.sh
. "$SOURCE/tests/lib/progress.sh"

BUILD_NEEDS='
gcc command:gcc
libc6-dev header:stdio.h
make command:make
autoconf command:autoconf
automake command:automake
pkg-config command:pkg-config
libelf-dev header:libelf.h
libzydis-dev header:Zydis/Zydis.h
libseccomp-dev header:seccomp.h
libslirp-dev header:slirp/libslirp.h
libnbd-dev header:libnbd.h
liburing-dev header:liburing.h
libjansson-dev header:jansson.h
libcmocka-dev header:cmocka.h
'
# What lol-guest and lol-run ask for.
GUEST_NEEDS='
bc command:bc
bison command:bison
flex command:flex
perl command:perl
patch command:patch
xz-utils command:xz
kmod command:depmod
debian-archive-keyring file:/usr/share/keyrings/debian-archive-keyring.gpg
busybox-static file:/bin/busybox
util-linux command:setpriv
util-linux command:flock
diod file:/usr/sbin/diod
qemu-system-common command:qemu-storage-daemon
qemu-utils command:qemu-img
'

# What tests use; quickstart does without.
TEST_NEEDS='
bsdutils command:script
gdb command:gdb
curl command:curl
e2fsprogs command:mke2fs
fio command:fio
iproute2 command:ip
iputils-ping command:ping
iperf3 command:iperf3
ethtool command:ethtool
procps command:pgrep
python3-minimal command:python3
rsync command:rsync
strace command:strace
'
LONG_TEST_NEEDS='
mmdebstrap command:mmdebstrap
fakeroot command:fakeroot
stress-ng command:stress-ng
qemu-system-x86 command:qemu-system-x86_64
cpio command:cpio
libcap-dev header:sys/capability.h
libpopt-dev header:popt.h
libnuma-dev header:numa.h
'

# ---- users and directories ----

# private_dir UID DIR: a directory at a name that others could have taken must be UID's alone.
private_dir() {
	local uid=$1 dir=$2
	if mkdir -m 700 "$dir" 2>/dev/null && [ "$uid" != "$EUID" ]; then
		chown "$uid:$VM_GID" "$dir"
	fi
	if [ -L "$dir" ] || [ "$(stat -c '%u %a %F' "$dir" 2>/dev/null)" != "$uid 700 directory" ]; then
		die "$dir: not a private directory (mode 0700) of user $uid; remove it, or set LOL_STATE to another place"
	fi
}

# vm_command COMMAND...: sets VM_COMMAND to what runs COMMAND as the user of the guests, with an environment of use to it.
vm_command() {
	local keep=() name path=$PATH
	VM_COMMAND=("$@")
	[ "$VM_HOME" ] || return 0
	for name in TERM LANG ${!LC_@} ${!LOL_@} http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
		[ "${!name+set}" ] && keep+=("$name=${!name}")
	done
	[ "$EUID" = 0 ] && path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
	VM_COMMAND=(env -i PATH="$path" HOME="$VM_HOME" "${keep[@]}" "$@")
	[ "$VM_UID" = "$EUID" ] ||
		VM_COMMAND=(setpriv --reuid="$VM_UID" --regid="$VM_GID" --clear-groups --inh-caps=-all -- "${VM_COMMAND[@]}")
}

# as_vm COMMAND...: run it so, in VM_STATE.
as_vm() (
	vm_command "$@"
	cd "$VM_STATE" && exec "${VM_COMMAND[@]}"
)

# The rest of a script that sudo started, as the user who did so. become_caller SCRIPT [ARGUMENT]...
become_caller() {
	local home groups=--clear-groups
	[ "$EUID" = 0 ] && [[ ${SUDO_UID:-0} =~ ^[1-9][0-9]*$ && ${SUDO_GID:-0} =~ ^[1-9][0-9]*$ ]] || return 0
	home=$(getent passwd "$SUDO_UID" | cut -d: -f6)
	[ "$home" ] && groups=--init-groups
	local command=(setpriv --reuid="$SUDO_UID" --regid="$SUDO_GID" $groups --inh-caps=-all
		env -u SUDO_UID -u SUDO_GID -u SUDO_USER -u SUDO_COMMAND -u XDG_RUNTIME_DIR HOME="${home:-/nonexistent}")
	"${command[@]}" test -r "$1" && exec "${command[@]}" "$@"
}

# VM_HOME is empty where the caller's own home and environment serve.
find_directories() {
	VM_UID=$EUID VM_GID=$(id -g) VM_HOME=
	[ "$EUID" = 0 ] && VM_UID=65534 VM_GID=65534
	if [ "$EUID" != 0 ] && [ -z "${LOL_STATE:-}" ] && [ -O "${HOME:-}" ] && [ -w "$HOME" ]; then
		OWN_STATE=${XDG_CACHE_HOME:-$HOME/.cache}/lol/dev
		VM_STATE=$OWN_STATE
		mkdir -p "${OWN_STATE%/*}" || die "${OWN_STATE%/*}: cannot be made; set LOL_STATE to another place"
	else
		OWN_STATE=${LOL_STATE:-/var/tmp/lol}-$EUID
		VM_STATE=${LOL_STATE:-/var/tmp/lol}-$VM_UID
		VM_HOME=$VM_STATE/home
	fi
	private_dir "$EUID" "$OWN_STATE"
	private_dir "$VM_UID" "$VM_STATE"
	mkdir -p "$OWN_STATE/logs" "$OWN_STATE/steps" && as_vm mkdir -p home tmp || die "$VM_STATE: cannot be written"
	PREFIX=$VM_STATE/inst
	local data=$VM_HOME/.local/share
	[ "$VM_HOME" ] || data=${XDG_DATA_HOME:-$HOME/.local/share}
	# shellcheck disable=SC2034 # for the caller
	KERNEL=$data/lol/kernels/default/vmlinux
}

# ---- packages ----

is_there() {
	local name=${1#*:} dir
	case $1 in
	command:*) command -v "$name" >/dev/null ;;
	file:*) [ -e "$name" ] ;;
	header:*)
		for dir in /usr/include /usr/include/*-linux-gnu /usr/local/include; do
			[ -e "$dir/$name" ] && return 0
		done
		return 1
		;;
	esac
}

# Debian names of what is missing of the lists given.
missing_packages() {
	local package test
	while read -r package test; do
		[ -z "$package" ] || is_there "$test" || printf ' %s' "$package"
	done < <(printf '%s\n' "$@")
}

# apt_install BECOME-ROOT... -- PACKAGE...
apt_install() {
	local become=()
	while [ "$1" != -- ]; do
		become+=("$1")
		shift
	done
	shift
	local install=("${become[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@")
	"${install[@]}" && return
	"${become[@]}" apt-get update && "${install[@]}"
}

# ensure_packages NEEDS...: install what is missing for these lists, or end with what to install.
ensure_packages() {
	local missing become=()
	read -ra missing <<<"$(missing_packages "$@")"
	[ ${#missing[@]} = 0 ] && return
	local hint="missing: ${missing[*]}; install with: apt-get install ${missing[*]}"
	command -v apt-get >/dev/null || die "missing, by their names in Debian: ${missing[*]}; install them first"
	if [ "$EUID" != 0 ]; then
		command -v sudo >/dev/null || die "$hint"
		# sudo may ask for the password, on the terminal, before the step takes the terminal away.
		sudo -n true 2>/dev/null || { [ -t 0 ] && sudo true; } || die "$hint"
		become=(sudo -n)
	fi
	step "installing ${missing[*]}" 100 apt_install "${become[@]}" -- "${missing[@]}" || die "$hint"
	[ -z "$(missing_packages "$@")" ] || die "$hint"
}

# ---- build ----

# The sources where the build can use them: the checkout itself, or a copy when it cannot be written or has been
# configured in place.
find_sources() {
	TREE=$SOURCE BUILD=$SOURCE/build
	if [ -w "$SOURCE" ] && [ ! -e "$SOURCE/config.status" ] && { [ ! -e "$BUILD" ] || [ -w "$BUILD/." ]; } &&
		{ [ ! -e "$SOURCE/build-aux" ] || [ -w "$SOURCE/build-aux" ]; }; then
		return
	fi
	TREE=$OWN_STATE/src BUILD=$OWN_STATE/build
	rm -rf "$TREE" && mkdir "$TREE" &&
		tar -C "$SOURCE" --exclude=./.git --exclude='./build*' --exclude=./configure --exclude=./config.status --exclude=./Makefile \
			--exclude=./config.h --exclude=./stamp-h1 --exclude=./autom4te.cache --exclude='*.o' -cf - . |
		tar -C "$TREE" -xf - || die "$SOURCE: cannot be copied to $TREE"
}

configure_and_make() {
	local arguments="--prefix=$PREFIX $*"
	if [ ! -e "$TREE/configure" ] || [ "$TREE/configure.ac" -nt "$TREE/configure" ]; then
		"$TREE/autogen.sh" || return
	fi
	mkdir -p "$BUILD" && cd "$BUILD" || return
	if [ ! -e Makefile ] || [ "$(cat lol-configured 2>/dev/null)" != "$arguments" ]; then
		rm -f lol-configured
		"$TREE/configure" --prefix="$PREFIX" "$@" && printf '%s\n' "$arguments" >lol-configured || return
	fi
	make -j"$(nproc)"
}

# Into PREFIX, by the user of the guests: the checkout may be unreadable to that user, and VM_STATE is no place for root
# to write to.
install_for_vm() {
	local stage=$OWN_STATE/stage
	rm -rf "$stage" && mkdir "$stage" && make -C "$BUILD" install DESTDIR="$stage" || return
	# Guests that run may not find it gone.
	diff -r "$stage$PREFIX" "$PREFIX" >/dev/null 2>&1 && return
	tar -C "$stage$PREFIX" -cf - . | as_vm sh -c 'rm -rf "$1" && mkdir "$1" && tar -C "$1" -xf -' - "$PREFIX" &&
		rm -rf "$stage"
}

# build_lol [CONFIGURE-ARGUMENT]...
build_lol() {
	find_sources
	step "building LoL" 150 configure_and_make "$@" || return
	step "installing LoL" 40 install_for_vm
}

# ---- guest kernel ----

# The kit knows what is up to date, and on a terminal it shows its progress itself.
build_kernel() {
	local start
	if [ -z "$TERMINAL" ]; then
		step "guest kernel" 0 as_vm "$PREFIX/bin/lol-guest" kernel build
		return
	fi
	now
	start=$NOW
	as_vm "$PREFIX/bin/lol-guest" kernel build 2>&3
	local status=$? word=ok
	[ $status = 0 ] || word=FAILED
	now
	result $word "guest kernel" $((NOW - start))
	return $status
}

# One at a time: build and installation are shared. The lock ends with the process, or with setup_end.
setup_begin() {
	umask 022
	PATH=$PATH:/usr/sbin:/sbin
	find_directories
	progress_begin
	exec {LOCK}<"$VM_STATE"
	if command -v flock >/dev/null && ! flock -n "$LOCK"; then
		printf '        another run uses %s; waiting for its end\n' "$VM_STATE" >&3
		flock "$LOCK"
	fi
}

setup_end() {
	exec {LOCK}<&-
	progress_end
}

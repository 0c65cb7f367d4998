# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# lol-guest kernel build: from a Debian source package, a tarball or a directory to an installed vmlinux. Sourced by
# lol-guest, which has die, wrong, say, progress and the places of things.
#
# A build is a function of its inputs, so its directory is named by their hash: the source's identity, the patches, the
# configuration, the afterburner and the compiler. What is in it says how far it came: src/.ready (unpacked and patched),
# src/build (make's own knowledge), out/about (complete). Nothing is done twice, whenever it was interrupted.

DEFAULT_SOURCE=debian:6.12
SPACE_MIB=3000     # of the cache while a kernel is built
OBJECTS=1950       # lines that make prints; a guess for the first build of a version
SOURCE_FILES=56000 # of a kernel tree without the other architectures, likewise
NOT_NEEDED=(Documentation/[a-z]\* tools/testing
	arch/{alpha,arc,arm,arm64,csky,hexagon,loongarch,m68k,microblaze,mips,nios2,openrisc,parisc,powerpc,riscv,s390,sh,sparc,xtensa}/\*.{c,h,S,dts,dtsi,dtso})

# ---- what must be there ----

need_packages() {
	local missing='' line
	while read -r line; do
		# shellcheck disable=SC2086
		set -- $line
		case $2 in
		*.h) [ -n "$(find /usr/include /usr/local/include -maxdepth 3 -path "*/$2" -print -quit 2>/dev/null)" ] || missing+=" $1" ;;
		*) command -v "$2" >/dev/null || missing+=" $1" ;;
		esac
	done <<-END
		gcc gcc
		make make
		bc bc
		bison bison
		flex flex
		perl perl
		patch patch
		xz-utils xz
		binutils readelf
		util-linux flock
		libelf-dev gelf.h
		libc6-dev stdio.h
	END
	[ -z "$missing" ] || die "missing:$missing; install with: apt-get install$missing"
}

need_space() {
	local free
	mkdir -p "$CACHE" 2>/dev/null || die "$CACHE: cannot be made; set XDG_CACHE_HOME to a directory that can be written"
	case $CACHE in
	*[[:space:]:]*) die "$CACHE: make cannot work below a name with a space or colon; set XDG_CACHE_HOME to another directory" ;;
	esac
	[ -w "$CACHE" ] || die "$CACHE: cannot be written; set XDG_CACHE_HOME to another directory"
	free=$(df -Pm "$CACHE" | awk 'NR == 2 {print $4}')
	[ "$free" -ge $SPACE_MIB ] || die "$CACHE: a kernel build takes $SPACE_MIB MiB and $free are free; set XDG_CACHE_HOME to a larger disk"
}

# ---- long steps ----

CHILD='' FINISHED='' ITEMS_PATTERN='' ITEMS_TOTAL=0

on_exit() {
	local status=$?
	trap - EXIT
	trap '' INT TERM HUP
	if [ -n "$CHILD" ]; then
		kill -TERM -- "-$CHILD" 2>/dev/null || true
		wait "$CHILD" 2>/dev/null || true
	fi
	progress_off
	[ -n "$FINISHED" ] || [ $status -le 128 ] || say "$PROG: interrupted; the same command goes on where it was"
	exit $status
}

catch_signals() {
	trap on_exit EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	trap 'exit 129' HUP
}

# How far: lines of the log that match ITEMS_PATTERN out of ITEMS_TOTAL; the rest takes as long as the first part did.
show_progress() { # WHAT SECONDS-SO-FAR
	local n percent left=''
	n=$(grep -c "$ITEMS_PATTERN" "$LOG" || true)
	percent=$((n * 100 / ITEMS_TOTAL))
	[ $percent -le 99 ] || percent=99
	if [ -t 2 ]; then
		[ "$percent" -lt 3 ] || left=", about $(minutes $(($2 * (100 - percent) / percent))) left"
		progress "$(printf '%s: %d of about %d, %d %%%s' "$1" "$n" "$ITEMS_TOTAL" "$percent" "$left")"
	elif [ $((percent / 10)) -gt "$TENTHS" ] && [ "$2" -ge 20 ]; then
		TENTHS=$((percent / 10))
		say "$1: ${TENTHS}0 %"
	fi
}

minutes() { # SECONDS
	if [ "$1" -lt 100 ]; then
		echo "$1 s"
	else
		echo "$((($1 + 30) / 60)) min"
	fi
}

# long_step WHAT COMMAND...: a process group of its own, its messages in LOG.
long_step() {
	local what=$1 start=$SECONDS status=0 TENTHS=0
	shift
	[ -t 2 ] || say "$what"
	: >"$LOG"
	set -m
	if [ -n "$VERBOSE" ]; then
		"$@" > >(tee -a "$LOG" >&2) 2>&1 &
	else
		"$@" >>"$LOG" 2>&1 &
	fi
	CHILD=$!
	set +m
	while kill -0 "$CHILD" 2>/dev/null; do
		[ -n "$VERBOSE" ] || [ "$ITEMS_TOTAL" = 0 ] || show_progress "$what" $((SECONDS - start))
		sleep 0.5
	done
	wait "$CHILD" || status=$?
	CHILD=
	progress_off
	return $status
}

# The line of LOG that says why.
reason() {
	grep -m 1 -E '(error:|Error |\*\*\* |FAILED|fatal|No space|cannot|^E: )' "$LOG" || tail -n 1 "$LOG"
}

# ---- Debian's source packages, without the system's apt configuration ----

# Prints URI and keyring of the Debian mirror that the system uses.
debian_mirror() {
	local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	if [ -n "${LOL_DEBIAN_MIRROR:-}" ]; then
		echo "$LOL_DEBIAN_MIRROR $keyring"
		return
	fi
	cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null | awk -v keyring="$keyring" '
		function offer(uri, key) {
			if (!found && uri ~ /^[a-z]+:.*\/debian\/?$/) {found = 1; print uri, key == "" ? keyring : key}
		}
		function stanza() {if (on) offer(uris, signed); on = 1; uris = signed = ""}
		BEGIN {on = 1}
		/^[ \t]*#/ {next}
		/^deb[ \t]/ {sub(/\[[^]]*\]/, ""); offer($2, ""); next}
		/^[ \t]*$/ {stanza(); next}
		/^Types:/ {stanza(); if (" " $0 " " !~ / deb /) on = 0}
		/^Enabled:[ \t]*no/ {on = 0}
		/^URIs:/ {uris = $2}
		/^Signed-By:[ \t]*\// {signed = $2}
		END {stanza()}'
}

private_apt() { # SUITE
	local dir=$CACHE/apt mirror
	mirror=$(debian_mirror)
	[ -n "$mirror" ] || die "no Debian mirror in /etc/apt; set LOL_DEBIAN_MIRROR=URL, or give --source a tarball or directory of Linux"
	command -v apt-get >/dev/null || die "missing: apt-get, to get Debian's source package; give --source a tarball or directory of Linux"
	[ -r "${mirror#* }" ] || die "${mirror#* }: missing; install with: apt-get install debian-archive-keyring"
	mkdir -p "$dir"/{etc/preferences.d,state/lists/partial,cache/archives/partial}
	: >"$dir/state/status"
	echo "deb [arch=amd64 signed-by=${mirror#* }] ${mirror%% *} $1 main" >"$dir/etc/sources.list"
	cat >"$dir/apt.conf" <<-END
		Dir::State "$dir/state";
		Dir::State::status "$dir/state/status";
		Dir::Cache "$dir/cache";
		Dir::Etc "$dir/etc";
		Dir::Etc::sourceparts "-";
		Dir::Etc::netrc "/etc/apt/auth.conf";
		Dir::Etc::netrcparts "/etc/apt/auth.conf.d";
		APT::Architecture "amd64";
		APT::Sandbox::User "root";
		Acquire::Languages "none";
	END
	# Proxies, certificates, and whether an archive's lists may be old, are the system's.
	apt-config dump | grep -E '^Acquire::(https?::|Check-(Valid-Until|Date) )' >>"$dir/apt.conf" || true
	export APT_CONFIG=$dir/apt.conf
	ITEMS_TOTAL=0
	LOG=$CACHE/apt/log
	long_step "looking for linux-source-$SERIES in Debian $1" apt-get -q -o APT::Update::Error-Mode=any update
}

# Sets DEB, the newest source package of SERIES (or the version asked for) in the cache.
find_deb() { # FULL-VERSION or nothing
	DEB=$(find "$CACHE/deb" -maxdepth 1 -name "linux-source-${SERIES}_${1:-*}_all.deb" 2>/dev/null | sort -V | tail -n 1)
	[ -n "$DEB" ]
}

get_deb() { # debian[:VERSION]
	local version=${1#debian} suite suites full='' package
	version=${version#:}
	version=${version:-${DEFAULT_SOURCE#debian:}}
	[[ $version =~ ^([0-9]+\.[0-9]+)(\.[0-9][0-9a-z.~+-]*)?$ ]] || wrong "--source $1: give debian:6.12 or debian:6.1"
	SERIES=${BASH_REMATCH[1]}
	[ -z "${BASH_REMATCH[2]}" ] || full=$version
	[ -z "$REFRESH" ] || [ -n "$full" ] || version=
	if [ -n "$version" ] && find_deb "$full"; then
		return
	fi
	case $SERIES in
	6.1) suites='bookworm' ;;
	6.12) suites='trixie bookworm-backports' ;;
	*) suites='trixie-backports sid' ;;
	esac
	package=linux-source-$SERIES${full:+=$full}
	mkdir -p "$CACHE/deb"
	for suite in $suites; do
		private_apt "$suite" || die "Debian's package lists: $(reason); check the network and the mirror in /etc/apt"
		[ -n "$(apt-cache madison "linux-source-$SERIES" 2>/dev/null)" ] || continue
		(cd "$CACHE/deb" && long_step "downloading $package, 150 MB" apt-get -q download "$package") ||
			die "$package: download failed: $(reason)"
		find_deb "$full" && return
	done
	die "linux-source-$SERIES: not in Debian ($suites); give --source debian:6.12, a tarball or a directory"
}

# ---- source ----

# Sets SOURCE_KIND, SOURCE_FROM and SOURCE_ID, what the source is to the hash of inputs.
find_source() { # SOURCE
	case $1 in
	debian | debian:*)
		get_deb "$1"
		SOURCE_KIND=deb SOURCE_FROM=$DEB
		SOURCE_ID=$(basename "$DEB" _all.deb)
		SOURCE_ID="debian ${SOURCE_ID/_/ }"
		;;
	*)
		[ -e "$1" ] || die "--source $1: no such file; give debian:6.12, a tarball or a directory of Linux sources"
		SOURCE_FROM=$(readlink -f "$1")
		if [ -d "$1" ]; then
			if [ ! -f "$1/Kbuild" ] || [ ! -d "$1/arch/x86" ]; then die "--source $1: is not a source tree of Linux"; fi
			SOURCE_KIND=dir
			progress "looking at $1"
			SOURCE_ID="directory $SOURCE_FROM $(cd "$1" && find . -path ./.git -prune -o -type f -printf '%P %s %T@\n' | sort | sha256sum | cut -c 1-16)"
		else
			SOURCE_KIND=tar
			progress "looking at $1"
			SOURCE_ID="tarball ${1##*/} $(sha256sum <"$1" | cut -c 1-16)"
		fi
		;;
	esac
}

# The version in the source, before it is unpacked. The Makefile is near the end of a tarball, so the name serves there.
source_series() {
	case $SOURCE_KIND in
	deb) echo "$SERIES" ;;
	dir) awk '$1 == "VERSION" {v = $3} $1 == "PATCHLEVEL" {print v "." $3; exit}' "$SOURCE_FROM/Makefile" ;;
	tar) grep -o '[0-9]\+\.[0-9]\+' <<<"${SOURCE_FROM##*/}" | sed -n 1p || true ;;
	esac
}

# The patches for a version of Linux: those of the newest version that is not newer. Directories are named by it.
patch_dir() { # VERSION
	local dir best='' series
	series=$(grep -o '^[0-9]\+\.[0-9]\+' <<<"$1")
	for dir in "$KIT"/kernel/[0-9]*/; do
		dir=${dir%/}
		[ "$(printf '%s\n' "${dir##*/}" "$series" | sort -V | tail -n 1)" = "$series" ] || continue
		[ -z "$best" ] || [ "$(printf '%s\n' "${best##*/}" "${dir##*/}" | sort -V | tail -n 1)" = "${dir##*/}" ] || continue
		best=$dir
	done
	[ -n "$best" ] && printf '%s\n' "$best"
}

unpack() { # TO
	local exclude=("${NOT_NEEDED[@]/#/--exclude=*/}")
	case $SOURCE_KIND in
	deb) dpkg-deb --fsys-tarfile "$SOURCE_FROM" | tar -xO "./usr/src/linux-source-$SERIES.tar.xz" |
		tar -xvJ --no-same-owner --strip-components=1 "${exclude[@]}" -C "$1" ;;
	tar) tar -xv --no-same-owner --strip-components=1 "${exclude[@]}" -C "$1" -f "$SOURCE_FROM" ;;
	dir) tar -C "$SOURCE_FROM" --exclude=./.git "${exclude[@]/#--exclude=\*\//--exclude=./}" -cf - . | tar -xv --no-same-owner -C "$1" ;;
	esac
}

patch_source() { # TREE
	local file
	if [ -e "$1/arch/x86/kernel/cpu/lol.c" ]; then
		say "the source has the kit's changes already"
		return
	fi
	for file in "$PATCHES"/*.patch; do
		patch -d "$1" -p1 -s -f --no-backup-if-mismatch <"$file" >>"$LOG" 2>&1 ||
			die "${file##*/}: does not apply to this source ($(grep -m 1 FAILED "$LOG" || tail -n 1 "$LOG")); give a --source of Linux ${PATCHES##*/}"
	done
}

prepare_source() {
	[ ! -e "$BUILD/src/.ready" ] || return 0
	rm -rf "$BUILD/src"
	mkdir -p "$BUILD/src"
	ITEMS_PATTERN=. ITEMS_TOTAL=$SOURCE_FILES
	long_step "unpacking $SOURCE_ID" unpack "$BUILD/src" || die "$SOURCE_FROM: cannot be unpacked: $(tail -n 1 "$LOG")"
	[ -f "$BUILD/src/Kbuild" ] || die "$SOURCE_FROM: is not a source tree of Linux"
	[ ! -e "$BUILD/src/.config" ] || make -s -C "$BUILD/src" mrproper >>"$LOG" 2>&1
	[ -n "$PLAIN" ] || patch_source "$BUILD/src"
	touch "$BUILD/src/.ready"
}

# ---- configuration ----

# Of several lines for a symbol the last one counts.
merge_fragments() { # FILE...
	awk -F= '/^CONFIG_/ {if (!($1 in v)) order[n++] = $1; v[$1] = $0} END {for (i = 0; i < n; i++) print v[order[i]]}' "$@"
}

configure() {
	local file line name
	make_kernel -s KCONFIG_ALLCONFIG="$BUILD/fragment" allnoconfig >"$LOG" 2>&1 || die "configuration: $(reason); all of it is in $LOG"
	[ -n "$PLAIN" ] || grep -qx CONFIG_LOL_GUEST=y "$BUILD/src/build/.config" ||
		die "the configuration excludes CONFIG_LOL_GUEST (as KASAN, RANDOMIZE_BASE, PTDUMP or X86_5LEVEL do); take that out of the fragments"
	for file in "${FRAGMENTS[@]}"; do
		while read -r line; do
			name=${line%%=*}
			if [ "${line#*=}" = n ]; then
				grep -q "^$name=" "$BUILD/src/build/.config" || continue
			else
				grep -qxF "$line" "$BUILD/src/build/.config" && continue
			fi
			say "$PROG: note: $line of $file has no effect: unknown, implied otherwise, or what it depends on is off"
		done < <(grep '^CONFIG_' "$file" || true)
	done
}

# ---- build ----

make_kernel() {
	make -C "$BUILD/src" O=build ARCH=x86_64 CC="gcc${AFTERBURN_DIR:+ -B$AFTERBURN_DIR}" LOCALVERSION= \
		KBUILD_BUILD_USER=lol KBUILD_BUILD_HOST=lol KBUILD_BUILD_VERSION=1 \
		KBUILD_BUILD_TIMESTAMP="$(date -u -r "$BUILD/src/Makefile")" "$@"
}

# Everything that the result depends on, as text; its hash is the build's name.
describe_inputs() {
	echo "source $SOURCE_ID"
	[ -n "$PLAIN" ] || (cd "$PATCHES" && sha256sum -- *.patch)
	merge_fragments "${KIT_FRAGMENTS[@]}" "${FRAGMENTS[@]}" | sha256sum
	# Without what depends on the place of the build.
	if [ -n "$AFTERBURN_DIR" ]; then
		objcopy -S -R .note.gnu.build-id "$AFTERBURN" "$CACHE/afterburn/strip.$$" && sha256sum <"$CACHE/afterburn/strip.$$"
		rm -f "$CACHE/afterburn/strip.$$"
	fi
	gcc --version | sed -n 1p
	ld --version | sed -n 1p
}

compile() {
	local known=$CACHE/kernels/objects-$RELEASE
	ITEMS_PATTERN='^  [A-Z]' ITEMS_TOTAL=$(cat "$known" 2>/dev/null || echo $OBJECTS)
	LOG=$BUILD/make.log
	# What an interrupted build has done counts.
	ITEMS_TOTAL=$((ITEMS_TOTAL - $(find "$BUILD/src/build" -name '*.o' | wc -l)))
	[ $ITEMS_TOTAL -ge 100 ] || ITEMS_TOTAL=100
	[ -n "$(find "$BUILD/src/build" -name '*.o' -print -quit)" ] || FRESH=1
	long_step "compiling Linux $RELEASE" make_kernel -j"$JOBS" vmlinux modules ${DEBUG:+scripts_gdb} || die "make failed: $(reason); all of it is in $LOG"
	[ -z "${FRESH:-}" ] || grep -c "$ITEMS_PATTERN" "$LOG" >"$known"
}

# Bytes of a file as one number, least significant byte first: elf_number FILE OFFSET BYTES
elf_number() {
	local byte n=0 shift=0
	for byte in $(od -An -v -tu1 -j "$2" -N "$3" "$1"); do
		n=$((n | byte << shift)) shift=$((shift + 8))
	done
	echo "$n"
}

# percpu_first VMLINUX: the segment of per-cpu data, linked at 0, becomes the first program header.
# A debugger that is told where a kernel was moved is told so for the first segment and for the second; all others move as the
# second. Per-cpu data does not move, everything else does. Nothing else looks at the order (only the kernel's own
# decompressor would, and it has a copy of its own).
percpu_first() {
	local file=$1 phoff count i at header=56
	phoff=$(elf_number "$file" 32 8) count=$(elf_number "$file" 56 2)
	for ((i = 0; i < count; i++)); do
		at=$((phoff + i * header))
		[ "$(elf_number "$file" "$at" 4)" = 1 ] && [ "$(elf_number "$file" $((at + 16)) 8)" = 0 ] || continue
		[ "$i" != 0 ] || return 0
		{
			dd if="$file" bs=1 skip="$at" count=$header
			dd if="$file" bs=1 skip="$phoff" count=$((i * header))
		} 2>/dev/null >"$file.headers" && dd if="$file.headers" of="$file" bs=1 seek="$phoff" conv=notrunc 2>/dev/null || return
		rm -f "$file.headers"
		return 0
	done
}

# Since Linux 6.16 "vmlinux" has lost its relocations. With debug information, the relocations of that are of no use, and gdb
# looks for its scripts beside the file.
copy_vmlinux() { # TREE TO
	local vmlinux=$1/vmlinux
	[ ! -e "$1/vmlinux.unstripped" ] || vmlinux=$1/vmlinux.unstripped
	if [ -n "$DEBUG" ]; then
		objcopy -R '.rela.debug_*' "$vmlinux" "$2/vmlinux"
		mkdir -p "$2/scripts"
		cp -rL "$1/scripts/gdb" "$2/scripts/"
		cp -L "$1/vmlinux-gdb.py" "$2/"
		find "$2/scripts" ! -name '*.py' -type f -delete
	else
		cp "$vmlinux" "$2/vmlinux"
	fi
}

collect() {
	local tree=$BUILD/src/build out=$BUILD/out
	rm -rf "$out" "$BUILD/stage"
	mkdir -p "$out" "$BUILD/stage"
	LOG=$BUILD/log
	make_kernel -s INSTALL_MOD_PATH="$BUILD/stage" INSTALL_MOD_STRIP=1 modules_install >"$LOG" 2>&1 || die "modules: $(reason); all of it is in $LOG"
	find "$BUILD/stage" -type l -lname "$BUILD/*" -delete
	# Without kmod on this host, busybox may know how.
	[ -e "$BUILD/stage/lib/modules/$RELEASE/modules.dep" ] || busybox depmod -b "$BUILD/stage" "$RELEASE" >>"$LOG" 2>&1 || true
	tar -C "$BUILD/stage" --owner=0 --group=0 --sort=name --mtime="@$(stat -c %Y "$BUILD/src/Makefile")" -cf - . | gzip -9n >"$out/modules.tar.gz"
	rm -rf "$BUILD/stage"
	cp "$tree/System.map" "$out/"
	cp "$tree/.config" "$out/config"
	copy_vmlinux "$tree" "$out"
	percpu_first "$out/vmlinux" || die "$out/vmlinux: cannot be changed; is the disk full?"
	[ -n "$PLAIN$NO_AFTERBURNER" ] || would_run "$out/vmlinux" || die "the kernel that was built $REASON"
	{
		echo "release: $RELEASE"
		echo "source: $SOURCE_ID"
		echo "id: $ID"
		echo "abi: ${ABI:-none}"
		echo "sites: $(site_count "$out/vmlinux")"
		[ -n "$PLAIN" ] || echo "patches: $(count_patches "$PATCHES")"
	} >"$out/about"
}

# ---- installation ----

# finish_scripts TO: the kernel's script gets LoL's behind it, that of today also where the kernel is of yesterday.
finish_scripts() {
	[ -n "$DEBUG" ] || return 0
	{ sed '/^# ---- appended by lol-guest/,$d' "$BUILD/out/vmlinux-gdb.py" && cat "$KIT/kernel/lol-gdb.py"; } >"$1/vmlinux-gdb.py.new" &&
		mv "$1/vmlinux-gdb.py.new" "$1/vmlinux-gdb.py" || die "$1/vmlinux-gdb.py: cannot be written"
}

install_kernel() {
	local name=$RELEASE${PLAIN:+-plain}${NO_AFTERBURNER:+-no-afterburner}${DEBUG:+-debug}${LOCKDEP:+-lockdep} to
	[ ${#FRAGMENTS[@]} = 0 ] || name+=-${ID:0:6}
	to=${OUT:-$DATA/$name}
	if [ -n "$OUT" ]; then
		mkdir -p "$to" || die "--out $to: cannot be made; give a directory that can be written"
		cp -r "$BUILD/out"/* "$to/" || die "--out $to: cannot be written"
		finish_scripts "$to"
	else
		mkdir -p "$DATA" || die "$DATA: cannot be made; set XDG_DATA_HOME to a directory that can be written, or use --out"
		if ! cmp -s "$BUILD/out/about" "$to/about"; then
			rm -rf "$to.new"
			cp -r "$BUILD/out" "$to.new"
			rm -rf "$to"
			mv "$to.new" "$to"
		fi
		finish_scripts "$to"
		if [ -n "$PLAIN$NO_AFTERBURNER" ]; then
			:
		elif [ -n "$MAKE_DEFAULT" ] || [ ! -e "$DATA/default/vmlinux" ] ||
			{ [ "$SOURCE" = "$DEFAULT_SOURCE" ] && [ -z "$DEBUG$LOCKDEP" ] && [ ${#FRAGMENTS[@]} = 0 ]; }; then
			ln -sfn "$name" "$DATA/default.new"
			mv -T "$DATA/default.new" "$DATA/default"
		fi
	fi
	say "$to/vmlinux: Linux $RELEASE, $(sed -n 's/^sites: //p' "$to/about") sites$([ "$(readlink "$DATA/default")" != "${to##*/}" ] || [ -n "$OUT" ] || echo ', the default')"
}

parse_options() {
	SOURCE=$DEFAULT_SOURCE JOBS=$(nproc) OUT='' MAKE_DEFAULT='' REFRESH='' KEEP='' VERBOSE='' DEBUG='' LOCKDEP='' PLAIN='' NO_AFTERBURNER=''
	FRAGMENTS=()
	while [ $# -gt 0 ]; do
		case $1 in
		--*=*)
			set -- "${1%%=*}" "${1#*=}" "${@:2}"
			continue
			;;
		-j?*)
			set -- -j "${1#-j}" "${@:2}"
			continue
			;;
		--source | --config | --out | -j | --jobs)
			[ $# -ge 2 ] || wrong "kernel build: $1 needs a value"
			case $1 in
			--source) SOURCE=$2 ;;
			--config) FRAGMENTS+=("$2") ;;
			--out) OUT=$2 ;;
			*) JOBS=$2 ;;
			esac
			shift
			;;
		--default) MAKE_DEFAULT=1 ;;
		--refresh) REFRESH=1 ;;
		--keep) KEEP=1 ;;
		--debug) DEBUG=1 ;;
		--lockdep) LOCKDEP=1 ;;
		--plain) PLAIN=1 ;;
		--no-afterburner) NO_AFTERBURNER=1 ;;
		-v | --verbose) VERBOSE=1 ;;
		*) wrong "kernel build: no option $1" ;;
		esac
		shift
	done
	[ "$SOURCE" != debian ] || SOURCE=$DEFAULT_SOURCE
	[[ $JOBS =~ ^[1-9][0-9]{0,3}$ ]] || wrong "kernel build: --jobs $JOBS: give a number of processes"
	local file
	for file in "${FRAGMENTS[@]}"; do
		if [ ! -f "$file" ] || [ ! -r "$file" ]; then die "--config $file: cannot be read"; fi
		! grep -nvE '^(CONFIG_[A-Za-z0-9_]+=.+|[[:space:]]*(#.*)?)$' "$file" >/dev/null ||
			die "--config $file: line $(grep -nvE '^(CONFIG_[A-Za-z0-9_]+=.+|[[:space:]]*(#.*)?)$' "$file" | sed -n 1p | cut -d: -f1) is not CONFIG_NAME=VALUE"
	done
	[ -z "$OUT" ] || [ ! -e "$OUT" ] || [ -d "$OUT" ] || die "--out $OUT: is not a directory"
}

kernel_build() {
	local series inputs
	parse_options "$@"
	need_packages
	need_space
	find_kit
	catch_signals
	AFTERBURN_DIR=
	[ -n "$PLAIN$NO_AFTERBURNER" ] || find_afterburn_dir
	find_source "$SOURCE"
	series=$(source_series)
	[ -n "$series" ] || die "--source $SOURCE: its version is not in its name; unpack it and give the directory"
	PATCHES=$(patch_dir "$series") || die "--source $SOURCE: Linux $series is older than the oldest that the kit has patches for ($(patch_versions))"
	# What a version of Linux needs otherwise is beside its patches.
	KIT_FRAGMENTS=("$KIT/kernel/config/base.config")
	[ ! -e "$PATCHES/config" ] || KIT_FRAGMENTS+=("$PATCHES/config")
	[ -z "$DEBUG" ] || KIT_FRAGMENTS+=("$KIT/kernel/config/debug.config")
	[ -z "$LOCKDEP" ] || KIT_FRAGMENTS+=("$KIT/kernel/config/lockdep.config")
	inputs=$(describe_inputs)
	ID=$(sha256sum <<<"$inputs" | cut -c 1-16)
	BUILD=$CACHE/kernels/$ID
	mkdir -p "$BUILD"
	exec {LOCK}>"$BUILD/lock"
	flock -n "$LOCK" || { say "another lol-guest builds this kernel; waiting for it"; flock "$LOCK"; }
	printf '%s\n' "$inputs" >"$BUILD/inputs"
	LOG=$BUILD/log
	# The tree of a build that was not to be kept is gone.
	if [ ! -e "$BUILD/out/about" ] || { [ -n "$KEEP" ] && [ ! -e "$BUILD/src/build/vmlinux" ]; }; then
		prepare_source
		merge_fragments "${KIT_FRAGMENTS[@]}" "${FRAGMENTS[@]}" >"$BUILD/fragment"
		mkdir -p "$BUILD/src/build"
		[ -e "$BUILD/src/build/.config" ] || configure
		RELEASE=$(make_kernel -s kernelrelease 2>>"$LOG") || die "make failed: $(reason)"
		compile
		collect
		[ -n "$KEEP" ] || rm -rf "$BUILD/src"
	fi
	RELEASE=$(sed -n 's/^release: //p' "$BUILD/out/about")
	install_kernel
	FINISHED=1
}

patch_versions() {
	local dir
	for dir in "$KIT"/kernel/[0-9]*/; do
		basename "$dir"
	done | sort -V | sed -n 1p
}

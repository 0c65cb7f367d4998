#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Makes ./configure from configure.ac. Needed once after a checkout; make does it by itself after that.
set -e
cd "$(dirname "$0")"

missing=
command -v autoconf >/dev/null 2>&1 || missing="$missing autoconf"
command -v automake >/dev/null 2>&1 || missing="$missing automake"
if command -v aclocal >/dev/null 2>&1; then
	dirs=$(aclocal --print-ac-dir; cat "$(aclocal --print-ac-dir)/dirlist" 2>/dev/null || :)
	found=
	for dir in $dirs /usr/share/aclocal; do
		[ -e "$dir/pkg.m4" ] && found=yes
	done
	[ "$found" ] || missing="$missing pkg-config"
fi
if [ "$missing" ]; then
	echo "autogen.sh: missing:$missing; on Debian and Ubuntu: apt-get install$missing" >&2
	exit 1
fi

mkdir -p build-aux
exec autoreconf --install --force "$@"

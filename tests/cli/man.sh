#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The manual and --help name the same options, both ways; lol.conf(5) names the same settings.
. "$(dirname "$0")/../lib/common.sh"
MAN=$TESTS/../man

# Long options and letters of the option list of an mdoc page.
options_of() {
	sed -n '/^\.Sh OPTIONS/,/^\.Sh [^O]/p' "$1" | grep '^\.It Fl' | grep -o 'Fl [-A-Za-z][-a-z]*' |
		sed 's/^Fl /-/' | sort
}

run "$LOL_RUN" --help
expect_status 0
grep -oE '^ +(-[a-z], )?--[a-z-]+' "$CONSOLE" | tr -d ' ' | tr ',' '\n' | sort >"$LOL_TMP/help"
[ -s "$LOL_TMP/help" ] || fail "--help lists no options"
options_of "$MAN/lol-run.1" >"$LOL_TMP/page"
diff "$LOL_TMP/help" "$LOL_TMP/page" || fail "options differ: < --help, > lol-run.1"

# Every long option is a setting, but for the two that only print.
{ grep '^--' "$LOL_TMP/help" | sed 's/^--//' | grep -vxE 'help|version'; echo kernel; } | sort >"$LOL_TMP/settings"
sed -n '/^\.Sh SETTINGS/,/^\.Sh [^S]/p' "$MAN/lol.conf.5" | sed -n 's/^\.It Ic \([a-z-]*\).*/\1/p' | sort >"$LOL_TMP/page"
diff "$LOL_TMP/settings" "$LOL_TMP/page" || fail "settings differ: < --help, > lol.conf.5"

# And lol-run takes each of them.
mkdir -p "$XDG_CONFIG_HOME/lol"
while read -r setting; do
	echo "$setting = no such value, surely" >"$XDG_CONFIG_HOME/lol/lol.conf"
	run "$LOL_RUN" --dry-run
	! grep -q "no such setting" "$ERRORS" || fail "lol.conf: $setting is unknown"
done <"$LOL_TMP/page"
rm "$XDG_CONFIG_HOME/lol/lol.conf"

# lolctl: options and commands.
LOLCTL=$(dirname "$LOL_RUN")/lolctl
run "$LOLCTL" --help
expect_status 0
grep -oE '^ +--[a-z]+' "$CONSOLE" | tr -d ' ' | sort >"$LOL_TMP/help"
options_of "$MAN/lolctl.1" >"$LOL_TMP/page"
diff "$LOL_TMP/help" "$LOL_TMP/page" || fail "options differ: < lolctl --help, > lolctl.1"
grep -oE '^  [a-z]+' "$CONSOLE" | tr -d ' ' | sort >"$LOL_TMP/help"
sed -n 's/^\.It Cm \([a-z]*\).*/\1/p' "$MAN/lolctl.1" | sort >"$LOL_TMP/page"
diff "$LOL_TMP/help" "$LOL_TMP/page" || fail "commands differ: < lolctl --help, > lolctl.1"
# Each command but ls, which looks at all sockets, is a request.
grep -vx ls "$LOL_TMP/help" | while read -r verb; do
	grep -qx "\.It Cm $verb" "$MAN/lol-control.7" || fail "lol-control.7 lacks $verb"
done || exit 1

# The guest kit's options: its help texts together, and its page.
KIT=$TESTS/../guest-kit
if [ -e "$KIT/lol-guest" ]; then
	{ bash "$KIT/lol-guest" --help; bash "$KIT/lol-guest" image --help; } 2>/dev/null | sed 's,lol-run .*,,' |
		grep -oE '(^|[^-])--[a-z]+(-[a-z]+)*' | grep -o -- '--.*' | grep -vx -- --help | sort -u >"$LOL_TMP/help"
	grep -oE 'Fl -[a-z]+(-[a-z]+)*' "$MAN/lol-guest.1" | sed 's/^Fl /-/' | sort -u >"$LOL_TMP/page"
	diff "$LOL_TMP/help" "$LOL_TMP/page" || fail "options differ: < lol-guest --help, > lol-guest.1"
fi

if command -v mandoc >/dev/null; then
	# Dates and references to pages that are not installed are of no interest.
	mandoc -T lint -W warning "$MAN"/*.[1-9] >"$LOL_TMP/lint" 2>&1
	[ ! -s "$LOL_TMP/lint" ] || { cat "$LOL_TMP/lint"; fail "mandoc -T lint"; }
fi
echo passed

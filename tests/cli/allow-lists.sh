#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The allow-lists of the sandboxes: each of K's sources declares the system calls that it makes and no others, each system call
# instruction of the stub behind the filter has a rule, the build has collected all of it, and docs/threat-model.md names every call.
set -u
cd "${srcdir:-.}" || exit 99
builddir=${abs_builddir:-$OLDPWD}
bad=0
complain() {
	echo "$*"
	bad=1
}

# One line for each K_ALLOW, whatever number of lines it has in its source.
declarations() {
	sed -n '/^K_ALLOW/{:more;/);/!{N;b more;};s/\n[ \t]*/ /g;s/);.*/);/p;}' lol/cpu/*.c lol/mmu/*.c
}

for file in lol/cpu/*.c lol/mmu/*.c; do
	made=$(grep -oE '\bsys[36]\(SYS_[a-z0-9_]+' "$file" | sed 's/.*SYS_//' | sort -u)
	declared=$(sed -n 's/^K_ALLOW(\([a-z0-9_]*\).*/\1/p; s/^K_ALLOW_EACH([^,]*,[^,]*, *\([a-z0-9_]*\).*/\1/p' "$file" | sort -u)
	case $file in
	lol/cpu/trap.c) declared=$(grep -vxE 'rt_sigreturn|restart_syscall' <<<"$declared") ;; # nobody's own calls, it says why
	esac
	[ "$made" = "$declared" ] || complain "$file makes ${made//$'\n'/ }, declares ${declared//$'\n'/ }"
done

# Up to stub_start, whose calls come before the filter.
places=$(sed '/^stub_start:/,$d' lol/mmu/stub.S | grep -cE '^\s*syscall$')
rules=$(sed -n 's/^U_ALLOW(\(STUB_SYS_[A-Z]*\),.*)$/\1/p' lol/mmu/stub.S | sort -u | wc -l)
[ "$places" = "$rules" ] || complain "lol/mmu/stub.S: $places system call instructions, $rules of them with a rule"

collected=$(cat "$builddir/lol/cpu/k-allow.inc" "$builddir/lol/mmu/u-allow.inc")
while read -r line; do
	grep -qxF -e "$line" <<<"$collected" || complain "not collected: $line"
done < <(declarations; grep '^U_ALLOW(STUB' lol/mmu/stub.S)
[ "$(declarations | wc -l)" = "$(cat lol/cpu/*.c lol/mmu/*.c | grep -c '^ *K_ALLOW')" ] || complain "there are K_ALLOW that are no declaration of a call"
while read -r call; do
	sed -n '/^## What each sandbox allows/,/^## A guest/p' docs/threat-model.md | grep -q "\`$call\`" || complain "docs/threat-model.md does not name $call"
done < <(sed -E 's/^K_ALLOW\(([a-z0-9_]+).*/\1/; s/^K_ALLOW_EACH\([^,]*,[^,]*, *([a-z0-9_]+).*/\1/; s/^U_ALLOW\([A-Z_]*, ([a-z_]+).*/\1/' <<<"$collected" | sort -u)
[ "$rules" -gt 5 ] || complain "$rules rules in lol/mmu/stub.S"
exit $bad

# SPDX-License-Identifier: BSD-2-Clause
# The assembler's stand-in, and the checker of what it made. Whoever builds a kernel makes a link "as" to
# lol-afterburn in a folder of its own, for gcc -B.

pkglibexec_PROGRAMS += lol-afterburn

lol_afterburn_rewriter = guest-kit/afterburn.h guest-kit/afterburn-emit.c guest-kit/afterburn-extable.c \
	guest-kit/afterburn-insn.c guest-kit/afterburn-scan.c
lol_afterburn_SOURCES = guest-kit/afterburn.c $(lol_afterburn_rewriter)

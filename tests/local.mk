# SPDX-License-Identifier: BSD-2-Clause
# make check: unit tests (cmocka, with sanitizers) and tests of the commands. tests/system and tests/long boot guests and
# are run by ./run-tests. Another folder's fragment adds a unit test of its own like this:
#
#   if HAVE_CMOCKA
#   check_PROGRAMS += tests/unit/test-pic
#   TESTS += tests/unit/test-pic
#   endif
#   tests_unit_test_pic_SOURCES = tests/unit/test-pic.c lol/cpu/pic.c
#   tests_unit_test_pic_CFLAGS = $(UNIT_CFLAGS)
#   tests_unit_test_pic_LDADD = $(UNIT_LIBS)
#
# and a fuzz target, tests/fuzz/fuzz-NAME.c with perhaps a dictionary tests/fuzz/NAME.dict and a directory of inputs
# tests/fuzz/seeds-NAME, like this:
#
#   fuzz_programs += tests/fuzz/fuzz-elf
#   tests/fuzz/fuzz-elf: lol/elf.c lol/elf.h
#   tests/fuzz/fuzz-elf: FUZZ_LIBS = -lelf
#
# Only one that includes lol/x.c, for what is static there, says so: tests/fuzz/fuzz-x: FUZZ_LEFT_OUT = lol/x.c

TEST_EXTENSIONS = .sh
SH_LOG_COMPILER = bash
AM_TESTS_ENVIRONMENT = LOL_BUILD='$(abs_top_builddir)'; LOL_SOURCE='$(abs_top_srcdir)'; export LOL_BUILD LOL_SOURCE;

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-options
TESTS += tests/unit/test-options
endif
tests_unit_test_options_SOURCES = tests/unit/test-options.c tests/lib/words.h $(lol_options_sources)
tests_unit_test_options_CPPFLAGS = $(AM_CPPFLAGS) $(lol_paths_cppflags)
tests_unit_test_options_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_options_LDADD = $(UNIT_LIBS)

# Runs a test so that no process of it stays behind; for ./run-tests.
noinst_PROGRAMS += tests/lib/corral
tests_lib_corral_SOURCES = tests/lib/corral.c

EXTRA_DIST += tests/lib/busybox-initrd tests/lib/common.sh tests/lib/progress.sh tests/lib/runner.sh tests/lib/setup.sh

cli_tests = tests/cli/allow-lists.sh tests/cli/errors.sh tests/cli/lolctl.sh tests/cli/root.sh tests/cli/man.sh tests/cli/runner.sh tests/cli/setup.sh tests/cli/bench.sh
TESTS += $(cli_tests)
EXTRA_DIST += $(cli_tests)

# What ./run-tests asks for.
print-tests:
	@echo $(TESTS)
.PHONY: print-tests

# ---- fuzz targets: make fuzz FUZZ_SECONDS=60 ----

fuzz_programs += tests/fuzz/fuzz-options
tests/fuzz/fuzz-options: $(lol_options_sources)
EXTRA_DIST += tests/fuzz/fuzz-options.c tests/fuzz/options.dict

FUZZ_FLAGS = -g -O1 -std=gnu17 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all
FUZZ_LIBS =
FUZZ_LEFT_OUT = # of the prerequisites: what the target includes itself
FUZZ_SECONDS = 10

tests/fuzz/fuzz-%: tests/fuzz/fuzz-%.c
	@$(MKDIR_P) tests/fuzz
	$(AM_V_GEN)$(FUZZ_CC) $(FUZZ_FLAGS) $(DEFAULT_INCLUDES) $(AM_CPPFLAGS) $(lol_paths_cppflags) \
		-o $@ $(filter-out $(addprefix %,$(FUZZ_LEFT_OUT)),$(filter %.c,$^)) $(FUZZ_LIBS)

if HAVE_FUZZER
fuzz-programs: $(fuzz_programs)
fuzz: $(fuzz_programs)
	@set -e; for program in $(fuzz_programs); do \
		name=$${program##*/fuzz-}; dict=$(srcdir)/tests/fuzz/$$name.dict; seeds=$(srcdir)/tests/fuzz/seeds-$$name; \
		$(MKDIR_P) tests/fuzz/corpus-$$name; \
		echo "$$program, $(FUZZ_SECONDS) s"; \
		$$program -max_total_time=$(FUZZ_SECONDS) -timeout=10 -max_len=4096 -print_final_stats=1 \
			-artifact_prefix=tests/fuzz/$$name- $$(test -e $$dict && echo -dict=$$dict) \
			tests/fuzz/corpus-$$name $$(test -d $$seeds && echo $$seeds); \
	done
else
fuzz-programs:
fuzz:
	@echo "no compiler with libFuzzer was found by configure; install clang and configure again"; exit 77
endif
.PHONY: fuzz fuzz-programs
CLEANFILES += $(fuzz_programs)

clean-local: clean-fuzz
clean-fuzz:
	-rm -rf tests/fuzz/corpus-*
.PHONY: clean-fuzz

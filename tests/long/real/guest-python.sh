# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# Python's own regression tests of what leans on the kernel most. What fails here and not on bare hardware in the same
# image (no network but loopback, root) is a bug of LoL.
set -f
mkdir -p /root/py
cd /root/py || exit 1

# No virtual machine device for vsock is there: then this test waits for ever.
IGNORE='-i ThreadedVSOCKSocketStreamTest -i *.ThreadedVSOCKSocketStreamTest.*'
for t in test_os test_signal test_threading test_subprocess test_mmap test_socket; do
	# shellcheck disable=SC2086
	TAIL=40 check $t 900 python3 -m test -v --timeout 600 $IGNORE $t
	grep -E '^(Ran |OK|FAILED|FAIL:|ERROR:|test .* failed)' "/tmp/log/$t" | sed 's/^/    /'
done
done_with_checks

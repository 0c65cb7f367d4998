#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Python's own regression tests of processes, signals, threads, mmap, sockets.
# timeout: 6200
# shellcheck source=tests/long/real/vm.sh
. "$(dirname "$0")/real/vm.sh"

prepare
guest_script python 5000

#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# strace and gdb on programs of the guest.
# timeout: 3000
# shellcheck source=tests/long/real/vm.sh
. "$(dirname "$0")/real/vm.sh"

prepare
guest_script debug 1800

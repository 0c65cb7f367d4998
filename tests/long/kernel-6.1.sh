#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# All system tests with the kit's Linux 6.1.
# timeout: 3600
# shellcheck source=tests/long/lib/system-tests.sh
. "$(dirname "$0")/lib/system-tests.sh"
other_kernel 6.1

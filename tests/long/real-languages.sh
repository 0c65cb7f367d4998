#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Go, Node, Perl and static programs.
# timeout: 3600
# shellcheck source=tests/long/real/vm.sh
. "$(dirname "$0")/real/vm.sh"

prepare
guest_script languages 2400

#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Packages installed from a folder of .debs; Lua and zlib compiled, with tests.
# timeout: 4200
# shellcheck source=tests/long/real/vm.sh
. "$(dirname "$0")/real/vm.sh"

prepare
guest_script compile 3000

#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# git fsck of 1,000 commits, SQLite, Redis.
# timeout: 3600
# shellcheck source=tests/long/real/vm.sh
. "$(dirname "$0")/real/vm.sh"

prepare
guest_script data 2400

#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The guest tests with two vCPUs: those in which processes and threads meet, and the attacks.
# timeout: 900
export LOL_GUEST_CPUS=2
LOL_GUEST_TESTS=${LOL_GUEST_TESTS:-abi attack fpu ipc mm proc sig thread trace} exec bash "$(dirname "$0")/guest-programs.sh"

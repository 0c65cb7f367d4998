#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# bench/run: its arguments, and the report from raw data that is known; micro's own checks. Measures nothing.
. "$(dirname "$0")/../lib/common.sh"
BENCH=$(cd "$TESTS/../bench" && pwd)
command -v python3 >/dev/null || skip "no python3"
cd "$LOL_TMP" || exit 1
export PYTHONDONTWRITEBYTECODE=1

run "$BENCH/run" --help
expect_status 0
expect "--readme"
for program in boot net; do
	run "$BENCH/$program" --help
	expect_status 0
	expect "--rounds"
done
for arguments in "--worlds moon" "--only nothing" "--cpus x" "--cpus 99999" "--rounds -1"; do
	# shellcheck disable=SC2086 # two words
	run "$BENCH/run" --out out $arguments
	[ "$STATUS" = 125 ] || fail "$arguments: status $STATUS, not 125"
	[[ $(cat "$ERRORS") == "bench/run: "*"; bench/run --help shows how" ]] || fail "$arguments: message"
done

# Two rounds, one rate and one time; a line that was cut off; a failure that a later round mended and one that none did.
mkdir out
line() { # WORLD ROW ROUND VALUE UNIT CHECK
	printf '{"world": "%s", "row": "%s", "round": %s, "size": 1, "load": 0.5, "value": %s, "unit": "%s", "least": %s, "greatest": %s, "check": "%s"}\n' \
		"$1" "$2" "$3" "$4" "$5" "$4" "$4" "$6"
}
{
	echo '{"world": "lol", "row": "getppid", "round": 1, "size": 1, "error": "was unwell"}'
	for round in 1 2; do
		line native getppid $round 100 ns 0
		line lol getppid $round 150 ns 0
		line uml getppid $round 9000 ns 0
		line native redis $round 50000 /s 7
		line lol redis $round 25000 /s 7
	done
	echo '{"world": "lol", "row": "avx512", "round": 1, "size": 1, "skip": "cannot"}'
	echo '{"world": "lol", "ro'
} >out/raw.jsonl
run "$BENCH/run" --report --out out
expect_status 0
grep -qF '| getppid | 100 ns ±0 % | 9 us ±0 % | 150 ns ±0 % | 1.50 x | 2 x yes | 60.00 x |' out/table.md || fail "$(cat out/table.md)"
grep -qF '| redis-benchmark SET, 10 clients | 50 k/s ±0 % | - | 25 k/s ±0 % | 2.00 x | 2 x yes | - |' out/table.md || fail "$(cat out/table.md)"
grep -qF '| 100 % (1) | - | 50 % (1) |' out/table.md || fail "mean: $(cat out/table.md)"
for plot in micro macro; do
	python3 -c 'import sys, xml.dom.minidom; xml.dom.minidom.parse(sys.argv[1])' out/$plot.svg || fail "$plot.svg is no XML"
done

# A session of LoL with CPUs far apart has a column of its own; if all are, they are what there is.
cp out/raw.jsonl whole
session() { # ID VALUE DISTANCE FAR
	line lol getppid 1 "$2" ns 0 | sed "s/}\$/, \"session\": \"$1\"}/"
	echo "{\"session\": \"$1\", \"distance\": [80, $3], \"far\": $4}"
}
{ session s1 150 90 false; session s2 450 400 true; } >>out/raw.jsonl
run "$BENCH/run" --report --out out
grep -qF '| getppid | 100 ns ±0 % | 9 us ±0 % | 150 ns ±0 % | 1.50 x | 2 x yes | 60.00 x | 450 ns, 4.50 x |' out/table.md || fail "far: $(cat out/table.md)"
grep -qF '1 with 90 to 90 ns; 1 with 400 to 400 ns, far apart' out/table.md || fail "distances: $(cat out/table.md)"
{ grep -v '"world": "lol"' whole; session s2 450 400 true; } >out/raw.jsonl
run "$BENCH/run" --report --out out
grep -qF '| getppid | 100 ns ±0 % | 9 us ±0 % | 450 ns ±0 % | 4.50 x | 2 x no | 20.00 x |' out/table.md || fail "all far: $(cat out/table.md)"
mv whole out/raw.jsonl

# A result that differs between worlds, and a row that failed.
line qemu redis 1 900 /s 8 >>out/raw.jsonl
echo '{"world": "uml", "row": "lua", "round": 1, "size": 1, "error": "no compiler"}' >>out/raw.jsonl
run "$BENCH/run" --report --out out
expect_status 1
expect_error "redis: results differ"
expect_error "lua in uml: no compiler"

# The C compiler's part.
gcc -std=gnu17 -D_GNU_SOURCE -O2 -pthread -Wall -Wextra -Werror -o micro "$BENCH/micro.c" || fail "micro.c"
for row in $(./micro list); do
	run timeout 60 ./micro "$row" 1
	[ "$STATUS" = 77 ] && continue
	expect_status 0
	[[ $(cat "$CONSOLE") =~ ^[0-9.]+\ [0-9.]+\ [0-9.]+\ [0-9]+\ [0-9a-f]+\ [0-9]+$ ]] || fail "$row: $(cat "$CONSOLE")"
done
gcc -std=gnu17 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -o primitives "$BENCH/host-primitives.c" || fail "host-primitives.c"
run ./primitives --cpus
expect_status 125
if [ "$(nproc)" -gt 1 ]; then
	run ./primitives --distance 1
	expect_status 0
	[[ $(cat "$CONSOLE") =~ ^[0-9]+$ ]] || fail "distance: $(cat "$CONSOLE")"
fi
[ "$(./micro list | tr '\n' ' ')" = "$(cd "$BENCH" && python3 -c 'import worlds; print(*worlds.MICRO, end=" ")')" ] || fail "the rows of micro and of worlds.py"
echo passed

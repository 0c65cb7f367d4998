# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# Steps with their time, an estimate while they run, and an end without leftovers when we are interrupted.
# Needs OWN_STATE. How far a step is, its log tells: the number of lines is much the same from run to run, and the last
# run's number is remembered. All of it is printed to descriptor 3.

PROGRAM=${0##*/}
STEP_GROUP= # process group of the running step
ANNOUNCE_S=20

die() {
	printf '%s: %s\n' "$PROGRAM" "$*" >&2
	exit 125
}

# Tenths of seconds since the epoch, and a number of them as text.
now() {
	printf -v NOW %s "${EPOCHREALTIME/[.,]/}"
	NOW=$((NOW / 100000))
}
seconds() { printf '%d.%d s' $(($1 / 10)) $(($1 % 10)); }
rough() {
	if [ "$1" -ge 600 ]; then
		printf '%d min' $((($1 + 300) / 600))
	else
		printf '%d s' $((($1 + 9) / 10))
	fi
}

end_step() {
	[ "$STEP_GROUP" ] || return 0
	kill -TERM -- "-$STEP_GROUP" 2>/dev/null
	local i
	for ((i = 0; i < 30; i++)); do
		kill -0 -- "-$STEP_GROUP" 2>/dev/null || break
		sleep 0.2
	done
	kill -KILL -- "-$STEP_GROUP" 2>/dev/null
	STEP_GROUP=
}

progress_begin() {
	trap 'clear_line; printf "%s: interrupted\n" "$PROGRAM" >&2; trap - INT; end_step; exit 130' INT
	trap 'end_step; exit 143' TERM
	trap 'end_step; exit 129' HUP
	trap end_step EXIT
	TERMINAL=
	[ -t 3 ] && [ "${TERM:-dumb}" != dumb ] && TERMINAL=yes
}

progress_end() {
	trap - INT TERM HUP EXIT
	exec 3>&-
}

clear_line() { [ -z "${TERMINAL:-}" ] || printf '\r\033[K' >&3; }

# progress_line NAME ELAPSED EXPECTED-LINES LOG: what is left follows from "NN %" at the end of the last line, reckoned from
# the first line with the same beginning, else from the number of lines.
progress_line() {
	local name=$1 elapsed=$2 expected=$3 log=$4 lines left='' last
	lines=$(wc -l <"$log")
	last=$(tail -n 1 "$log" | tr -cd '[:print:]' | sed 's/^  *//' | cut -c 1-50)
	if [[ $last =~ ^(.*[^0-9])([1-9][0-9]?)\ %$ ]]; then
		[ "${BASH_REMATCH[1]%: }" = "$PHASE" ] &&
			left=", about $(rough $(((elapsed - PHASE_START) * (100 - BASH_REMATCH[2]) / BASH_REMATCH[2]))) left"
	else
		[ "$last" = "$PHASE" ] || PHASE=$last PHASE_START=$elapsed
		if [ "$lines" -gt 0 ] && [ "$lines" -lt "$expected" ]; then
			left=", about $(rough $((elapsed * (expected - lines) / lines))) left"
		fi
	fi
	if [ "$TERMINAL" ]; then
		printf '\r\033[K        %s: %s%s  %s' "$name" "$(rough "$elapsed")" "$left" "$last" >&3
	elif [ $((elapsed / 10 / ANNOUNCE_S)) -gt "$ANNOUNCED" ]; then
		ANNOUNCED=$((elapsed / 10 / ANNOUNCE_S))
		printf '        %s: %s%s  %s\n' "$name" "$(rough "$elapsed")" "$left" "$last" >&3
	fi
}

# result WORD NAME TENTHS [REMARK]
result() {
	clear_line
	printf '%-7s %s  %s%s\n' "$1" "$2" "$(seconds "$3")" "${4:+  ($4)}" >&3
}

show_end_of() { tail -n 60 "$1" | sed 's/^/        | /' >&3; }

# watch_job NAME EXPECTED-LINES LOG COMMAND...: run it in a process group of its own with its output in LOG. Sets TOOK.
watch_job() {
	local name=$1 expected=$2 log=$3 status start elapsed
	shift 3
	now
	start=$NOW ANNOUNCED=0 PHASE='' PHASE_START=0
	set -m
	(trap - INT TERM HUP EXIT; "$@") >"$log" 2>&1 </dev/null &
	STEP_GROUP=$!
	set +m
	while kill -0 "$STEP_GROUP" 2>/dev/null; do
		now
		elapsed=$((NOW - start))
		if [ "$elapsed" -lt 20 ]; then
			sleep 0.05
		else
			progress_line "$name" "$elapsed" "$expected" "$log"
			sleep 0.5
		fi
	done
	wait "$STEP_GROUP"
	status=$?
	end_step
	now
	TOOK=$((NOW - start))
	return $status
}

# step NAME EXPECTED-LINES COMMAND...: one line with the result; on failure the end of the log, unless STEP_BRIEF is set.
step() {
	local name=$1 expected=$2 id=$1 memo log status
	shift 2
	id=${id//[!A-Za-z0-9]/-}
	log=$OWN_STATE/logs/${id:0:60}.log memo=$OWN_STATE/steps/${id:0:60}
	[ -s "$memo" ] && read -r expected <"$memo"
	watch_job "$name" "$expected" "$log" "$@"
	status=$?
	# shellcheck disable=SC2034 # for the caller
	STEP_LOG=$log
	if [ $status = 0 ]; then
		result ok "$name" "$TOOK"
		# A step that found its work done says nothing about the next one that does it.
		[ "$expected" != 0 ] && [ "$(wc -l <"$log")" -gt $((expected / 2)) ] && wc -l <"$log" >"$memo"
	else
		result FAILED "$name" "$TOOK" "log: $log"
		[ "${STEP_BRIEF:-}" ] || show_end_of "$log"
	fi
	return $status
}

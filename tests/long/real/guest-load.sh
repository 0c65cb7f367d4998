# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# Everything at once for LOAD_SECONDS: compiling, Redis, stress-ng --verify.
: "${LOAD_SECONDS:=60}"
end=$((SECONDS + LOAD_SECONDS))

stress-ng --verify --timeout $LOAD_SECONDS --oom-avoid --cpu 1 --vm 1 --vm-bytes 96M --fork 1 --sigq 1 --mmap 1 --mmap-bytes 32M \
	>/tmp/log/stress 2>&1 &
stress=$!
(
	mkdir -p redis
	redis-server --dir redis --save '' --appendonly yes --daemonize yes --logfile redis.log
	sleep 2
	while [ $SECONDS -lt $end ]; do
		timeout 300 redis-benchmark --csv -n 2000 -c 10 -t set,get,incr,lpush || exit 1
	done
	redis-cli shutdown
) >/tmp/log/redis 2>&1 &
redis=$!
(
	dpkg-source -x /srv/real/sources/zlib_*.dsc zlib
	cd zlib || exit 1
	./configure || exit 1
	sum=
	while [ $SECONDS -lt $end ] || [ -z "$sum" ]; do
		make clean
		make -j2 minigzip || exit 1
		new=$(cat ./*.o | sha256sum)
		[ "${sum:-$new}" = "$new" ] || { echo "other object files than before"; exit 1; }
		sum=$new
		echo round done
	done
) >/tmp/log/compile 2>&1 &
compile=$!

for job in stress redis compile; do
	wait ${!job}
	status=$?
	if [ $status = 0 ]; then
		echo "ok load-$job"
	else
		FAILURES=$((FAILURES + 1))
		echo "FAIL load-$job: status $status"
		tail -n 20 /tmp/log/$job | sed 's/^/    /'
	fi
done
echo "compile rounds: $(grep -c 'round done' /tmp/log/compile)"
done_with_checks

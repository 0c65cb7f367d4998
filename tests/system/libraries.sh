#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Programs of different C libraries and languages, static and dynamic: they do what they do on the host, and their system calls come
# without signals. musl and Go where they are installed (apt-get install musl-tools golang-go).
# shellcheck source=tests/system/lib/guest.sh
. "$(dirname "$0")/lib/guest.sh"
cd "$LOL_TMP" || exit 1
which cc >/dev/null || skip "no C compiler"

cat >calls.c <<'END'
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t caught;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long sum;

static void handler(int sig)
{
	caught += sig == SIGUSR1;
}

static void *thread(void *arg)
{
	for (int i = 0; i < 500; i++) {
		pthread_mutex_lock(&mutex);
		sum += (long)arg;
		pthread_mutex_unlock(&mutex);
		usleep(1);
	}
	return arg;
}

int main(void)
{
	pthread_t t[4];
	char line[64];
	struct stat st;
	int fds[2], status, good = 0;

	signal(SIGUSR1, handler);
	for (int i = 0; i < 2000; i++)
		raise(SIGUSR1), good += getppid() > 0;
	for (long i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, thread, (void *)(i + 1));
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	for (int i = 0; i < 100; i++) {
		if (pipe(fds))
			return 1;
		pid_t pid = fork();
		if (!pid) {
			snprintf(line, sizeof(line), "child %d", i);
			_exit(write(fds[1], line, strlen(line) + 1) < 0 ? 200 : i);
		}
		ssize_t n = read(fds[0], line, sizeof(line));
		waitpid(pid, &status, 0);
		good += n > 6 && atoi(line + 6) == i && WEXITSTATUS(status) == i;
		close(fds[0]), close(fds[1]);
	}
	for (int i = 0; i < 5000; i++)
		good += stat("/", &st) == 0 && S_ISDIR(st.st_mode);
	printf("caught %d sum %ld good %d\n", (int)caught, sum, good);
	return 0;
}
END
cat >calls.go <<'END'
package main

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
)

func main() {
	var wait sync.WaitGroup
	var mutex sync.Mutex
	good := 0
	for i := 0; i < 8; i++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for j := 0; j < 1000; j++ {
				info, err := os.Stat("/")
				mutex.Lock()
				if err == nil && info.IsDir() {
					good++
				}
				mutex.Unlock()
			}
		}()
	}
	wait.Wait()
	for i := 0; i < 20; i++ {
		out, err := exec.Command("/bin/echo", fmt.Sprint(i)).Output()
		if err == nil && string(out) == fmt.Sprintln(i) {
			good++
		}
	}
	fmt.Println("good", good)
}
END

mkdir -p root/t
programs=()
try() { # NAME COMPILER...: the program is root/t/NAME
	local name=$1
	shift
	"$@" >build.log 2>&1 || { tail -n 3 build.log; fail "$*"; }
	programs+=("$name")
}
try glibc-static cc -static -O2 -pthread -o root/t/glibc-static calls.c
try glibc cc -O2 -pthread -o root/t/glibc calls.c
ldd root/t/glibc | grep -o '/[^ ]*' | while read -r file; do
	mkdir -p "root$(dirname "$file")" && cp -L "$file" "root$file" || exit 1
done
if which musl-gcc >/dev/null; then
	try musl-static musl-gcc -static -O2 -o root/t/musl-static calls.c
	try musl musl-gcc -O2 -o root/t/musl calls.c
	loader=$(readelf -l root/t/musl | sed -n 's/.*interpreter: \(.*\)]/\1/p')
	mkdir -p "root$(dirname "$loader")" && cp -L "$loader" "root$loader" || fail "musl's $loader"
fi
if which go >/dev/null; then
	export GOCACHE=$LOL_TMP/go GOPATH=$LOL_TMP/go GO111MODULE=off GOFLAGS=-p=2
	CGO_ENABLED=0 try go go build -o root/t/go calls.go
fi
chmod -R a+rX root
"$LOL_GUEST" initrd build programs.gz --add root || fail initrd

for name in "${programs[@]}"; do
	"root/t/$name" >native 2>&1 || [ "$name" = musl ] || fail "$name fails on the host"
	[ -s native ] || echo "caught 2000 sum 5000 good 7100" >native
	for cpus in 1 2; do
		boot 120 -q -m 256M --cpus $cpus -i programs.gz --stats="$LOL_TMP/stats.json" -- "/t/$name" </dev/null
		expect_status 0
		cmp native "$CONSOLE" || fail "$name, $cpus vCPUs: $(head -n 1 "$CONSOLE")"
		all=$(sed -n 's/^ *"u_syscalls": \([0-9]*\),*$/\1/p' stats.json) fast=$(sed -n 's/^ *"u_fast_syscalls": \([0-9]*\),*$/\1/p' stats.json)
		# raise() comes back by rt_sigreturn, which is left as it is: 2000 of them.
		[ "$all" -gt 5000 ] && [ $(((fast + 2000) * 100)) -gt $((all * 70)) ] || fail "$name, $cpus vCPUs: only $fast of $all system calls came without a signal"
		echo "$name, $cpus vCPUs: $all system calls, $fast without a signal"
	done
done
echo passed

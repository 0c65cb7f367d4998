# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# Go (many goroutines, garbage collection, signals, network on loopback), Node (JIT, workers), static programs.

script go 600 <<'END'
export GOFLAGS=-mod=mod GO111MODULE=off GOCACHE=/tmp/gocache
mkdir -p go && cd go
cat >main.go <<'G'
package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func check(ok bool, what string) {
	if !ok {
		fmt.Println("wrong:", what)
		os.Exit(1)
	}
	fmt.Println("right:", what)
}

type tree struct{ l, r *tree }

func build(d int) *tree {
	if d == 0 {
		return &tree{}
	}
	return &tree{build(d - 1), build(d - 1)}
}
func (t *tree) count() int {
	if t.l == nil {
		return 1
	}
	return 1 + t.l.count() + t.r.count()
}

func main() {
	var n int64
	var wg sync.WaitGroup
	for i := 0; i < 10000; i++ {
		wg.Add(1)
		go func(i int) { defer wg.Done(); runtime.Gosched(); atomic.AddInt64(&n, int64(i)) }(i)
	}
	wg.Wait()
	check(n == 49995000, "10000 goroutines")

	// a loop without calls is preempted by signals; with one processor that takes seconds on bare hardware too
	stop := int32(0)
	for i := 0; i < 2; i++ {
		go func() { for x := 0; atomic.LoadInt32(&stop) == 0; x++ {} }()
	}
	t := time.Now()
	runtime.GC()
	check(time.Since(t) < 100*time.Second, "GC among busy loops")
	atomic.StoreInt32(&stop, 1)

	long := build(16)
	for i := 0; i < 60; i++ {
		if build(12).count() != 8191 {
			check(false, "short-lived trees")
		}
	}
	check(long.count() == 131071, "trees under GC")
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	check(ms.NumGC > 1, "GC has run")

	c := make(chan os.Signal, 100)
	signal.Notify(c, syscall.SIGUSR1)
	for i := 0; i < 20; i++ {
		syscall.Kill(os.Getpid(), syscall.SIGUSR1)
		<-c
	}
	check(true, "signals")

	func() {
		defer func() { check(recover() != nil, "nil dereference is a panic") }()
		var p *tree
		fmt.Println(p.l)
	}()

	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(err == nil, "listen")
	go func() {
		for {
			k, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer k.Close()
				s := bufio.NewScanner(k)
				for s.Scan() {
					fmt.Fprintf(k, "echo %s\n", s.Text())
				}
			}()
		}
	}()
	var bad int64
	for i := 0; i < 50; i++ {
		wg.Add(1)
		go func(i int) {
			defer wg.Done()
			k, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				atomic.AddInt64(&bad, 1)
				return
			}
			defer k.Close()
			r := bufio.NewReader(k)
			for j := 0; j < 20; j++ {
				fmt.Fprintf(k, "%d.%d\n", i, j)
				s, _ := r.ReadString('\n')
				if s != fmt.Sprintf("echo %d.%d\n", i, j) {
					atomic.AddInt64(&bad, 1)
				}
			}
		}(i)
	}
	wg.Wait()
	check(bad == 0, "50 connections")
	for i := 0; i < 20; i++ {
		out, err := exec.Command("echo", fmt.Sprint(i)).Output()
		if err != nil || string(out) != fmt.Sprintf("%d\n", i) {
			check(false, "exec")
		}
	}
	tick := time.NewTicker(5 * time.Millisecond)
	t = time.Now()
	for i := 0; i < 100; i++ {
		<-tick.C
	}
	d := time.Since(t)
	check(d >= 495*time.Millisecond, fmt.Sprint("ticker ", d))
}
G
go version
go build -o m main.go
for i in 1 2; do ./m; done
CGO_ENABLED=0 go build -o mstatic main.go && ./mstatic
END

script node 600 <<'END'
cat >n.js <<'J'
const {Worker, isMainThread, workerData, parentPort} = require('worker_threads');
const assert = require('assert'), crypto = require('crypto'), net = require('net'), zlib = require('zlib'), cp = require('child_process');
function fib(n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
function hot(n) { let s = 0; for (let i = 0; i < n; i++) s = (s * 31 + (i ^ (s >> 3))) | 0; return s; }
if (!isMainThread) {
  const a = new Int32Array(workerData.shared);
  for (let i = 0; i < 20000; i++) Atomics.add(a, 0, 1);
  parentPort.postMessage(fib(workerData.n));
} else (async () => {
  const first = hot(1000);
  for (let i = 0; i < 300; i++) assert.strictEqual(hot(1000), first);      // becomes JIT code on the way
  assert.strictEqual(hot(30000000), hot(30000000));
  const shared = new SharedArrayBuffer(4);
  const r = await Promise.all([22, 23, 24, 25, 22, 23, 24, 25].map(n => new Promise((ok, no) => {
    const w = new Worker(__filename, {workerData: {n, shared}}); w.on('message', ok); w.on('error', no); })));
  assert.deepStrictEqual(r, [17711, 28657, 46368, 75025, 17711, 28657, 46368, 75025]);
  assert.strictEqual(new Int32Array(shared)[0], 160000);
  const b = crypto.randomBytes(1 << 20);
  assert(zlib.gunzipSync(zlib.gzipSync(b)).equals(b));
  assert.strictEqual(crypto.createHash('sha256').update('abc').digest('hex'), 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
  const key = crypto.pbkdf2Sync('a', 'b', 20000, 32, 'sha512'), iv = Buffer.alloc(12);
  const e = crypto.createCipheriv('aes-256-gcm', key, iv), d = crypto.createDecipheriv('aes-256-gcm', key, iv);
  const x = Buffer.concat([e.update(b), e.final()]); d.setAuthTag(e.getAuthTag());
  assert(Buffer.concat([d.update(x), d.final()]).equals(b));
  let garbage = []; for (let i = 0; i < 2000000; i++) { garbage.push({i, s: 'x' + i}); if (garbage.length > 50000) garbage = []; }
  const wasm = new WebAssembly.Module(new Uint8Array([0,97,115,109,1,0,0,0,1,7,1,96,2,127,127,1,127,3,2,1,0,7,7,1,3,97,100,100,0,0,10,9,1,7,0,32,0,32,1,106,11]));
  const add = new WebAssembly.Instance(wasm).exports.add;
  for (let i = 0; i < 100000; i++) assert.strictEqual(add(i, 1), i + 1);
  await new Promise((ok, no) => { const s = net.createServer(c => c.pipe(c)).listen(0, '127.0.0.1', () => {
    const c = net.connect(s.address().port, '127.0.0.1', () => { c.end(b); }); const got = [];
    c.on('data', q => got.push(q)); c.on('end', () => { assert(Buffer.concat(got).equals(b)); s.close(); ok(); }); c.on('error', no); }); });
  for (let i = 0; i < 10; i++) assert.strictEqual(cp.execSync('echo ' + i).toString(), i + '\n');
  console.log('node is well');
})().catch(e => { console.error(e); process.exit(1); });
J
node --version
node n.js
node --jitless -e 'console.log(1)'
END

script static 120 <<'END'
cat >s.c <<'C'
#include <stdio.h>
#include <string.h>
#include <setjmp.h>
#include <signal.h>
#include <math.h>
#include <pthread.h>
static sigjmp_buf env;
static __thread int tls = 5;
static void on(int s) { siglongjmp(env, s); }
static void *th(void *p) { tls += 1; return (void *)(long)(tls + (p != 0)); }
int main(int argc, char **argv)
{
	signal(SIGSEGV, on); signal(SIGFPE, on); signal(SIGILL, on);
	volatile int zero = argc - 1, n = 0;
	for (int i = 0; i < 100; i++) {
		if (sigsetjmp(env, 1) == 0) { *(volatile int *)(long)zero = 1; } else n++;
		if (sigsetjmp(env, 1) == 0) { zero = 7 / zero; } else n++;
		if (sigsetjmp(env, 1) == 0) { __builtin_trap(); } else n++;
	}
	void *r; pthread_t t; pthread_create(&t, 0, th, 0); pthread_join(t, &r);
	printf("%d %ld %d %.6f %p\n", n, (long)r, tls, sin(1.0) * sqrt(2.0), argc > 5 ? (void *)main : 0);
	return 0;
}
C
gcc -O2 -static -no-pie -o s-nopie s.c -lm -lpthread
gcc -O2 -static-pie -o s-pie s.c -lm -lpthread
gcc -O2 -no-pie -o s-dyn s.c -lm -lpthread
file s-nopie | grep 'statically linked'
./s-nopie
for f in s-nopie s-pie s-dyn; do [ "$(./$f)" = "300 6 5 1.190020 (nil)" ]; done
END

script perl 120 <<'END'
perl -e 'my $s=0; for my $i (1..1000000) { $s += $i } die unless $s == 500000500000; my %h; $h{$_ % 1000} .= "x" for 1..100000; die unless length($h{7}) == 100;
  for (1..50) { my $p = fork; if (!$p) { exit 3 } waitpid $p, 0; die unless $? >> 8 == 3 } local $SIG{ALRM} = sub { die "alarm\n" }; eval { alarm 1; select undef,undef,undef,10 }; die "no alarm" unless $@ eq "alarm\n"; print "perl is well\n"'
END

done_with_checks

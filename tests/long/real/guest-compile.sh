# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# Packages installed from a folder; Lua and zlib compiled. zlib has its own tests; Lua 5.4 in Debian has none with it, so it
# gets a program of ours, and two builds by different optimisation must agree.

script dpkg-install 120 <<'END'
cd /srv/real/debs
dpkg -i hello_*.deb
[ "$(hello)" = "Hello, world!" ]
END

script apt-install 300 <<'END'
cd /srv/real/debs
apt-get install -y --no-install-recommends ./tree_*.deb ./jq_*.deb ./libjq1_*.deb ./libonig5_*.deb ./figlet_*.deb
[ "$(echo '{"a":[1,2,3]}' | jq -c '.a|map(.*2)')" = "[2,4,6]" ]
figlet ok
tree -L 1 /srv | grep real
apt-get remove -y figlet
! command -v figlet
dpkg --verify jq libjq1 tree
END

script lua 600 <<'END'
dpkg-source --skip-patches -x /srv/real/sources/lua5.4_*.dsc lua # as upstream: Debian builds with libtool
cd lua
make -C src -j2 linux-readline
[ "$(src/lua -e 'print(1+1)')" = 2 ]
cat >t.lua <<'LUA'
-- closures, coroutines, gc, string functions, integer and float arithmetic
local function fib(n) return n < 2 and n or fib(n - 1) + fib(n - 2) end
assert(fib(24) == 46368)
local co = coroutine.wrap(function() for i = 1, 100000 do coroutine.yield(i) end end)
local sum = 0
for i = 1, 100000 do sum = sum + co() end
assert(sum == 5000050000)
local t = {}
for i = 1, 200000 do t[i] = {i, tostring(i)} end
for i = 1, 200000 do assert(t[i][1] == tonumber(t[i][2])) end
t = nil
collectgarbage()
assert(collectgarbage("count") < 20000)
assert(("x"):rep(1000):gsub("x", "yy") == ("y"):rep(2000))
assert(2^53 == 9007199254740992 and 7 // 2 == 3 and -7 % 3 == 2 and math.maxinteger + 1 == math.mininteger)
table.sort(setmetatable({}, {}))
local r = {}
for i = 1, 50000 do r[i] = (i * 7919) % 50021 end
table.sort(r)
for i = 2, #r do assert(r[i - 1] <= r[i]) end
assert(not pcall(error, "x"))
assert(io.popen("echo hi"):read("a") == "hi\n")
local f = assert(io.open("out.txt", "w")); for i = 1, 10000 do f:write(i, "\n") end f:close()
local n = 0; for l in io.lines("out.txt") do n = n + tonumber(l) end; assert(n == 50005000)
print "lua is well"
LUA
src/lua t.lua
src/luac -l t.lua >/dev/null
END

script zlib 600 <<'END'
dpkg-source -x /srv/real/sources/zlib_*.dsc zlib
cd zlib
./configure
make -j2
make test
tar cf ../x.tar /usr/share/perl /usr/lib/git-core 2>/dev/null
./minigzip64 -9 <../x.tar >../x.gz
./minigzip64 -d <../x.gz | cmp - ../x.tar
gzip -t ../x.gz
gzip -dc ../x.gz | cmp - ../x.tar
rm -f ../x.tar ../x.gz
END

script big-compile 600 <<'END'
# One large file, twice with the same result, and the program gives the same with and without optimisation.
python3 - >big.c <<'PY'
print('#include <stdio.h>')
for i in range(400):
    print(f'static int f{i}(int a, int b) {{ int s = {i}; for (int k = 0; k < b; k++) {{ s += a * k + (s >> {i%13}); if (s & {1 << (i%20)}) s ^= {i*7919}; }} return s; }}')
print('int main(void) { unsigned s = 0;')
for i in range(400):
    print(f's = s * 31 + f{i}({i%17}, {i%11});')
print('printf("%u\\n", s); return 0; }')
PY
gcc -O2 -c big.c -o a.o
gcc -O2 -c big.c -o b.o
cmp a.o b.o
gcc -O0 big.c -o big0 && gcc a.o -o big2
[ "$(./big0)" = "$(./big2)" ]
END

done_with_checks

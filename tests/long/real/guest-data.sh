# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# git, SQLite and Redis.

script git-fsck 300 <<'END'
cd /srv/real/history
[ "$(git rev-list --all --count)" = 1000 ]
git fsck --full --strict
git gc --quiet --aggressive
git fsck --full --strict
[ -z "$(git status --porcelain)" ]
END

script git-work 600 <<'END'
git clone -q /srv/real/history clone
cd clone
git config user.email a@example.org
git config user.name A
for i in $(seq 60); do
	echo "line $i" >>dir0/file0.txt
	git commit -qam "commit $i"
done
git log --oneline -n 61 | wc -l
git checkout -qb side HEAD~30
echo side >dir1/side.txt
git add dir1/side.txt
git commit -qm side
git rebase -q main
[ "$(git rev-list --count main..side)" = 1 ]
git fsck --full
git grep -q 'version 1000$'
git diff --stat HEAD~20 | tail -n 1
git bundle create ../all.bundle --all
git bundle verify ../all.bundle
END

script sqlite 300 <<'END'
rm -f t.db
sqlite3 t.db <<SQL
PRAGMA journal_mode=WAL;
CREATE TABLE t(id INTEGER PRIMARY KEY, a INT, b TEXT);
WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x<200000) INSERT INTO t SELECT x, (x*7919)%100003, hex(randomblob(20)) FROM c;
CREATE INDEX ta ON t(a);
SQL
[ "$(sqlite3 t.db 'PRAGMA integrity_check')" = ok ]
[ "$(sqlite3 t.db 'SELECT count(*),sum(id) FROM t')" = '200000|20000100000' ]
[ "$(sqlite3 t.db 'SELECT count(*) FROM t WHERE a=5')" = "$(sqlite3 t.db 'SELECT count(*) FROM t WHERE a+0=5')" ]
# writers side by side
sqlite3 t.db 'CREATE TABLE w(p INT, n INT)'
for p in 1 2 3 4; do
	(for n in $(seq 40); do sqlite3 -cmd '.timeout 60000' t.db "INSERT INTO w VALUES($p,$n)"; done) &
done
wait
[ "$(sqlite3 t.db 'SELECT count(*),sum(n) FROM w')" = '160|3280' ]
[ "$(sqlite3 t.db 'PRAGMA integrity_check')" = ok ]
END

script redis 300 <<'END'
mkdir -p redis
redis-server --dir redis --port 6379 --save '' --appendonly yes --daemonize yes --logfile redis.log
for i in $(seq 50); do redis-cli ping 2>/dev/null | grep -q PONG && break; sleep 0.2; done
redis-benchmark --csv -n 20000 -c 20 -t ping,set,get,incr,lpush,rpop,sadd,hset,spop,mset
redis-benchmark --csv -n 20000 -P 16 -t set,get
redis-cli set counter 0
for i in 1 2 3 4; do (seq 2000 | sed 's/.*/INCR counter/' | redis-cli >/dev/null) & done
wait %1 %2 %3 %4 2>/dev/null || wait
[ "$(redis-cli get counter)" = 8000 ]
redis-cli bgsave; sleep 2
redis-cli bgrewriteaof; sleep 2
redis-cli shutdown
sleep 1
redis-server --dir redis --port 6379 --save '' --appendonly yes --daemonize yes --logfile redis.log
for i in $(seq 50); do redis-cli ping 2>/dev/null | grep -q PONG && break; sleep 0.2; done
[ "$(redis-cli get counter)" = 8000 ]
redis-cli shutdown
! grep -iE 'crash|bug report|stack trace' redis/redis.log
END

done_with_checks

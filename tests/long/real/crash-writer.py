# SPDX-License-Identifier: BSD-2-Clause
# Runs in the guest: transactions, each one's number is printed after its commit has returned. synchronous=EXTRA: with FULL the removal
# of a journal, which is the commit in mode DELETE, is not flushed, and a transaction may come undone (SQLite's documentation of the pragma).
import sqlite3, sys
mode = sys.argv[1]
db = sqlite3.connect('/srv/crash.db', isolation_level=None)
db.execute('PRAGMA journal_mode=' + mode)
db.execute('PRAGMA synchronous=EXTRA')
db.execute('CREATE TABLE IF NOT EXISTS t(n INTEGER PRIMARY KEY, a INT, b BLOB)')
db.execute('CREATE INDEX IF NOT EXISTS ta ON t(a)')
n = db.execute('SELECT coalesce(max(n),0) FROM t').fetchone()[0]
print('start', n, flush=True)
while True:
    n += 1
    db.execute('BEGIN')
    db.execute('INSERT INTO t VALUES(?,?,randomblob(?))', (n, n * 7919 % 10007, n % 5000))
    db.execute('DELETE FROM t WHERE n = ?', (n - 400,))
    db.execute('COMMIT')
    print('commit', n, flush=True)

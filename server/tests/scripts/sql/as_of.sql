-- What only Cairn has, and what has no result of its own.
CREATE TABLE t (a int PRIMARY KEY, b text);
INSERT INTO t VALUES (1, 'old'), (2, 'old');
VACUUM;
VACUUM t;
VACUUM (ANALYZE) t;
VACUUM FULL t;
ANALYZE;
ANALYZE t;
ANALYZE nosuch;
VACUUM nosuch;
BEGIN;
ANALYZE t;
VACUUM t;
ROLLBACK;
SELECT * FROM t ORDER BY a;
--! cairn: PostgreSQL has no reads in the past
SELECT count(*) FROM t AS OF SYSTEM TIME '-0s';
--! cairn: PostgreSQL has no reads in the past
SELECT count(*) FROM t AS OF SYSTEM TIME '2999-01-01';
--! cairn: PostgreSQL has no reads in the past
SELECT count(*) FROM t AS OF SYSTEM TIME 'nonsense';
--! cairn: PostgreSQL has no reads in the past
SELECT now() - follower_read_timestamp();
--! cairn: PostgreSQL has no reads in the past
BEGIN AS OF SYSTEM TIME '-0s';
--! cairn: PostgreSQL has no reads in the past
INSERT INTO t VALUES (3, 'past');
--! cairn: PostgreSQL has no reads in the past
ROLLBACK;
-- EXPLAIN runs nothing, EXPLAIN ANALYZE does.
PREPARE p (int, text) AS INSERT INTO t VALUES ($1, $2) RETURNING *;
EXECUTE p (5, 'five');
EXECUTE p (5, 'five');
EXECUTE p (6);
EXECUTE nosuch (1);
PREPARE p AS SELECT 1;
DEALLOCATE p;
DEALLOCATE p;
PREPARE q AS SELECT a + $1 FROM t WHERE b = $2 ORDER BY a;
EXECUTE q (10, 'old');
EXECUTE q ('x', 'old');
ALTER TABLE t ADD COLUMN c int DEFAULT 3;
EXECUTE q (20, 'old');
PREPARE star AS SELECT * FROM t ORDER BY a LIMIT 1;
EXECUTE star;
ALTER TABLE t ADD COLUMN d int;
EXECUTE star;
DEALLOCATE ALL;
EXECUTE q (1, 'old');
DISCARD ALL;
-- The same through every key and without.
CREATE TABLE pk (k text, n int, v int, PRIMARY KEY (k, n));
CREATE TABLE hidden (k text, n int, v int);
CREATE TABLE indexed (k text, n int, v int);
CREATE INDEX ON indexed (k, n DESC);
CREATE INDEX ON indexed (v);
CREATE TABLE uniq (k text, n int, v int, UNIQUE (n, k), UNIQUE (v));
INSERT INTO pk SELECT 'k' || i % 3, i, i * 2 FROM generate_series(1, 30) AS g(i);
INSERT INTO hidden SELECT * FROM pk;
INSERT INTO indexed SELECT * FROM hidden;
INSERT INTO uniq SELECT * FROM indexed;
UPDATE pk SET v = v + 1000, n = n + 100 WHERE k = 'k1' AND n > 5;
UPDATE hidden SET v = v + 1000, n = n + 100 WHERE k = 'k1' AND n > 5;
UPDATE indexed SET v = v + 1000, n = n + 100 WHERE k = 'k1' AND n > 5;
UPDATE uniq SET v = v + 1000, n = n + 100 WHERE k = 'k1' AND n > 5;
DELETE FROM pk WHERE v % 3 = 0;
DELETE FROM hidden WHERE v % 3 = 0;
DELETE FROM indexed WHERE v % 3 = 0;
DELETE FROM uniq WHERE v % 3 = 0;
SELECT k, count(*), sum(n), sum(v), min(n), max(v) FROM pk GROUP BY k ORDER BY k;
SELECT k, count(*), sum(n), sum(v), min(n), max(v) FROM hidden GROUP BY k ORDER BY k;
SELECT k, count(*), sum(n), sum(v), min(n), max(v) FROM indexed GROUP BY k ORDER BY k;
SELECT k, count(*), sum(n), sum(v), min(n), max(v) FROM uniq GROUP BY k ORDER BY k;
SELECT * FROM pk EXCEPT SELECT * FROM hidden;
SELECT * FROM indexed EXCEPT ALL SELECT * FROM uniq;
SELECT * FROM pk WHERE k = 'k1' ORDER BY n DESC LIMIT 2;
SELECT * FROM indexed WHERE k = 'k1' ORDER BY n DESC LIMIT 2;
SELECT * FROM uniq WHERE n IN (106, 7, 112) ORDER BY n;
SELECT n FROM indexed WHERE v BETWEEN 10 AND 20 ORDER BY v;
SELECT n FROM uniq WHERE v BETWEEN 10 AND 20 ORDER BY v;
BEGIN;
DELETE FROM uniq WHERE k = 'k2';
INSERT INTO uniq SELECT * FROM pk WHERE k = 'k2';
UPDATE uniq SET k = 'k3' WHERE k = 'k2' AND n > 20;
SELECT k, count(*) FROM uniq GROUP BY k ORDER BY k;
SELECT n FROM uniq WHERE n = 29 AND k = 'k3';
SELECT n FROM uniq WHERE n = 29 AND k = 'k2';
ROLLBACK;
SELECT k, count(*) FROM uniq GROUP BY k ORDER BY k;

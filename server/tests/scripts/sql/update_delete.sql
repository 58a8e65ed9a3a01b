CREATE TABLE t (a int PRIMARY KEY, b int UNIQUE, c text);
CREATE TABLE h (a int, b int, c text);
CREATE INDEX h_a ON h (a);
INSERT INTO t SELECT i, i * 10, 'x' FROM generate_series(1, 5) AS g(i);
INSERT INTO h SELECT a, b, c FROM t;
UPDATE t SET c = 'y' WHERE a = 1;
--! unordered
UPDATE t SET c = c || a RETURNING a, c;
UPDATE t SET a = a + 100 WHERE a = 1 RETURNING *;
UPDATE t SET a = a + 1000;
SELECT * FROM t ORDER BY a;
UPDATE t SET a = a - 1 WHERE a > 1100;
UPDATE t SET a = a + 1;
SELECT a FROM t ORDER BY a;
UPDATE t SET b = 20 WHERE b = 30;
UPDATE t SET b = CASE b WHEN 20 THEN 30 WHEN 30 THEN 20 ELSE b END;
SELECT b FROM t ORDER BY a;
UPDATE t SET a = 7;
UPDATE t SET a = NULL;
UPDATE t SET nosuch = 1;
--! differs: the error has a position
UPDATE t SET a = 1, a = 2;
UPDATE t SET a = 'x';
--! differs: assignment to a part of a column is not supported
UPDATE t SET t.a = 1;
UPDATE nosuch SET a = 1;
UPDATE t SET c = b, b = a WHERE a = 1003 RETURNING *;
UPDATE t SET (b, c) = (77, 'pair') WHERE a = 1003 RETURNING *;
--! differs: a parenthesized value is a row of one
UPDATE t SET (b, c) = (1) WHERE a = 1003;
UPDATE t SET b = (SELECT max(b) + 1 FROM t) WHERE a = 1003 RETURNING b;
UPDATE t SET b = (SELECT a FROM t) WHERE a = 1003;
UPDATE t SET c = DEFAULT WHERE a = 1003 RETURNING c;
UPDATE t SET b = b / 0 WHERE a = 1003;
UPDATE t SET b = 2147483647 + b WHERE a = 1003;
UPDATE t SET c = 'same' WHERE false;
UPDATE t AS x SET c = 'alias' WHERE x.a = 1003 RETURNING x.a, x.c;
UPDATE t AS x SET c = 'alias' WHERE t.a = 1003;
UPDATE h SET a = a + 1 WHERE a > 0;
SELECT * FROM h ORDER BY a;
SELECT a FROM h WHERE a = 6;
UPDATE h SET a = a + 1 WHERE a = 2;
SELECT a, count(*) FROM h GROUP BY a ORDER BY a;
--! unordered
UPDATE h SET c = t.c FROM t WHERE t.b = h.b RETURNING h.b, h.c, t.a;
UPDATE h SET c = s.m FROM (SELECT max(c) AS m FROM t) AS s;
SELECT DISTINCT c FROM h;
UPDATE h SET a = 1 FROM h AS h2 WHERE h.a = h2.a + 1 AND h.a = 5 RETURNING h.a, h2.a;
--! unordered
DELETE FROM h WHERE a = 3 RETURNING *;
DELETE FROM h USING t WHERE h.b = t.b AND t.b = 50 RETURNING h.a, t.c;
DELETE FROM h WHERE b IN (SELECT b FROM t WHERE b < 30);
DELETE FROM h AS x WHERE x.a > 1000;
DELETE FROM h WHERE nosuch = 1;
SELECT * FROM h ORDER BY a, b;
DELETE FROM h;
DELETE FROM h;
DELETE FROM t WHERE a = 1003 AND EXISTS (SELECT 1 FROM h);
--! unordered
DELETE FROM t WHERE NOT EXISTS (SELECT 1 FROM h WHERE h.a = t.a) AND b > 45 RETURNING b;
WITH w AS (SELECT min(a) AS a FROM t) DELETE FROM t USING w WHERE t.a = w.a RETURNING t.a;
SELECT count(*) FROM t;
-- The key that was freed can be used again, also within a transaction.
BEGIN;
DELETE FROM t;
INSERT INTO t VALUES (1, 1, 'again');
UPDATE t SET a = 2, b = 2;
INSERT INTO t VALUES (1, 1, 'again');
DELETE FROM t WHERE a = 2;
INSERT INTO t VALUES (2, 2, 'and again');
SELECT * FROM t ORDER BY a;
SELECT * FROM t WHERE b = 2;
COMMIT;
SELECT * FROM t ORDER BY b DESC;
-- TRUNCATE.
CREATE TABLE s (id serial PRIMARY KEY, v int UNIQUE);
INSERT INTO s (v) VALUES (1), (2);
TRUNCATE s;
INSERT INTO s (v) VALUES (1) RETURNING id;
TRUNCATE s RESTART IDENTITY;
INSERT INTO s (v) VALUES (1) RETURNING id;
BEGIN;
TRUNCATE s, t;
SELECT count(*) FROM s;
INSERT INTO s VALUES (1, 1);
ROLLBACK;
SELECT * FROM s;
SELECT count(*) FROM t;
BEGIN;
INSERT INTO s VALUES (50, 50);
TRUNCATE s;
INSERT INTO s VALUES (51, 1);
COMMIT;
SELECT * FROM s;
SELECT * FROM s WHERE v = 1;
--! differs: the error has a position
TRUNCATE nosuch;
--! differs: the error has a position
TRUNCATE t, nosuch;
SELECT count(*) FROM t;
-- Each row counts once, also where nothing of the other table is wanted.
CREATE TABLE once (a int PRIMARY KEY, b int);
INSERT INTO once VALUES (1, 1), (2, 2);
CREATE TABLE often (a int);
INSERT INTO often VALUES (1), (1), (2), (2), (2);
UPDATE once SET b = b + 1 FROM often WHERE often.a = once.a;
SELECT * FROM once ORDER BY a;
DELETE FROM once USING often WHERE often.a = once.a;
SELECT * FROM once;

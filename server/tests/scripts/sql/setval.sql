-- setval acts at once within its own statement.
CREATE SEQUENCE q;
SELECT setval('q', 10), nextval('q');
SELECT nextval('q'), currval('q'), lastval();
SELECT setval('q', 20, false), nextval('q'), nextval('q');
SELECT nextval('q'), setval('q', 5), nextval('q'), setval('q', 7, false), nextval('q');
SELECT nextval('q');
-- Rows are evaluated one after the other.
SELECT setval('q', 100), nextval('q'), i FROM generate_series(1, 3) AS g(i);
SELECT setval('q', 102);
SELECT setval('q', 40, false), currval('q');
SELECT nextval('q');
SELECT setval('q', 0);
SELECT setval('q', NULL);
SELECT nextval('q');
CREATE TABLE t (a int DEFAULT nextval('q'), b int8);
INSERT INTO t (b) VALUES (setval('q', 50)), (NULL);
SELECT min(a) > 40, max(a) > 40, count(b) FROM t;
-- What a failed statement or transaction did stays.
SELECT setval('q', 200), 1 / (nextval('q') - 201);
SELECT nextval('q');
BEGIN;
SELECT setval('q', 300), nextval('q');
ROLLBACK;
SELECT nextval('q');
CREATE SEQUENCE small MAXVALUE 3;
SELECT setval('small', 3), nextval('small');
SELECT setval('small', 2);
SELECT nextval('small');
SELECT nextval('small');
SELECT setval('small', 4);
SELECT setval('t'::regclass, 1);
CREATE SEQUENCE r;
SELECT nextval('r'), i, nextval('r') FROM generate_series(1, 3) AS g(i);
SELECT nextval('r') + 100 * nextval('r'), currval('r'), lastval() FROM generate_series(1, 2) AS g(i);
SELECT CASE WHEN i % 2 = 0 THEN nextval('r') END, coalesce(nullif(i, 3), nextval('r')), nextval('r')
FROM generate_series(1, 4) AS g(i);
CREATE TABLE two (a int DEFAULT nextval('r'), b int DEFAULT nextval('r'), c int);
INSERT INTO two (c) SELECT i FROM generate_series(1, 3) AS g(i);
INSERT INTO two (c) VALUES (4), (5);
INSERT INTO two SELECT nextval('r'), nextval('r'), i FROM generate_series(6, 7) AS g(i) RETURNING a, b, c;
UPDATE two SET a = nextval('r'), b = nextval('r');
SELECT b - a, count(*) FROM two GROUP BY 1;
-- Rows that LIMIT leaves out are not evaluated.
SELECT setval('r', 1, false);
SELECT nextval('r') FROM generate_series(1, 10) LIMIT 2;
SELECT nextval('r') FROM two ORDER BY c LIMIT 2;
SELECT nextval('r') FROM two LIMIT 3;
SELECT nextval('r');
DROP TABLE two;
DROP SEQUENCE r;
ALTER TABLE t ALTER COLUMN a DROP DEFAULT;
DROP SEQUENCE q, small;

-- setval acts at once within its own statement.
CREATE SEQUENCE q;
SELECT setval('q', 10), nextval('q');
SELECT nextval('q'), currval('q'), lastval();
SELECT setval('q', 20, false), nextval('q'), nextval('q');
SELECT nextval('q'), setval('q', 5), nextval('q'), setval('q', 7, false), nextval('q');
SELECT nextval('q');
--! differs: the rows of a batch are evaluated column by column
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
ALTER TABLE t ALTER COLUMN a DROP DEFAULT;
DROP SEQUENCE q, small;

-- A portal returns what was there when it was bound, however late its rows are fetched.
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t SELECT i, 'old' FROM generate_series(1, 6) i;
BEGIN;
UPDATE t SET v = 'mine' WHERE id <= 3;
--! bind p
SELECT id, v FROM t ORDER BY id;
--! fetch
p 1;
INSERT INTO t VALUES (0, 'later'), (7, 'later');
UPDATE t SET v = 'later' WHERE id IN (2, 4);
DELETE FROM t WHERE id = 5;
--! fetch
p 2;
SELECT id, v FROM t ORDER BY id;
--! fetch
p 0;
--! fetch
p 0;
COMMIT;
--! fetch
p 0;
SELECT id, v FROM t ORDER BY id;
-- It was bound before it is first fetched.
BEGIN;
--! bind early
SELECT id, v FROM t ORDER BY id;
UPDATE t SET v = 'newer' WHERE id < 3;
--! bind between
SELECT count(*) FROM t WHERE v = 'newer';
DELETE FROM t WHERE id > 3;
--! fetch
early 0;
--! fetch
between 0;
SELECT id, v FROM t ORDER BY id;
-- One row by its key.
--! bind point
SELECT v FROM t WHERE id = 1;
UPDATE t SET v = 'newest' WHERE id = 1;
--! fetch
point 0;
ROLLBACK;
-- A change begins when it is executed.
CREATE TABLE u (id int PRIMARY KEY, v text);
INSERT INTO u VALUES (1, 'one'), (2, 'two'), (3, 'three');
BEGIN;
--! bind change
UPDATE u SET v = v || '!' RETURNING id, v;
UPDATE u SET v = 'first' WHERE id = 3;
--! fetch
change 1;
UPDATE u SET v = 'second' WHERE id = 2;
--! fetch
change 0;
SELECT id, v FROM u ORDER BY id;
ROLLBACK;
-- Rolling back to a savepoint takes nothing back that a portal from before it sees, and ends those from behind it.
BEGIN;
UPDATE t SET v = 'before' WHERE id = 2;
--! bind outer
SELECT id, v FROM t ORDER BY id;
--! fetch
outer 1;
SAVEPOINT s;
UPDATE t SET v = 'inside' WHERE id IN (2, 3);
--! bind inner
SELECT id, v FROM t ORDER BY id;
--! fetch
inner 3;
ROLLBACK TO s;
UPDATE t SET v = 'again' WHERE id = 4;
--! fetch
outer 0;
--! fetch
inner 1;
ROLLBACK TO s;
SELECT id, v FROM t ORDER BY id;
ROLLBACK;
-- A savepoint that is released does not.
BEGIN;
SAVEPOINT s;
UPDATE t SET v = 'kept' WHERE id = 2;
--! bind inner
SELECT id, v FROM t ORDER BY id;
--! fetch
inner 1;
RELEASE s;
UPDATE t SET v = 'more';
--! fetch
inner 0;
COMMIT;
-- An error behind the savepoint leaves it.
BEGIN;
--! bind outer
SELECT id, v FROM t ORDER BY id;
--! fetch
outer 1;
SAVEPOINT s;
DELETE FROM t;
SELECT 1 / 0;
--! fetch
outer 1;
ROLLBACK TO s;
--! fetch
outer 1;
COMMIT;
-- By an index, and sorted.
CREATE INDEX t_v ON t (v);
BEGIN;
--! bind indexed
SELECT v, id FROM t WHERE v >= 'a' ORDER BY v, id;
--! bind joined
SELECT a.id, b.v FROM t a JOIN t b ON b.id = a.id ORDER BY a.id;
--! bind sub
SELECT id, (SELECT max(v) FROM t) FROM t ORDER BY id DESC;
--! fetch
indexed 1;
--! fetch
joined 1;
--! fetch
sub 1;
UPDATE t SET v = 'zzz';
DELETE FROM t WHERE id = 6;
--! fetch
indexed 2;
--! fetch
joined 2;
--! fetch
sub 2;
INSERT INTO t VALUES (8, 'eight');
--! fetch
indexed 0;
--! fetch
joined 0;
--! fetch
sub 0;
ROLLBACK;
-- At READ COMMITTED others' commits stay out of it, too.
BEGIN ISOLATION LEVEL READ COMMITTED;
UPDATE t SET v = 'mine' WHERE id = 1;
--! bind p
SELECT id, v FROM t ORDER BY id;
--! fetch
p 1;
--! session other
UPDATE t SET v = 'other' WHERE id = 3;
DELETE FROM t WHERE id = 6;
--! session main
UPDATE t SET v = 'mine again' WHERE id = 2;
SELECT id, v FROM t ORDER BY id;
--! fetch
p 0;
SELECT id, v FROM t ORDER BY id;
COMMIT;
-- Many rows, beyond what is read ahead, and a change that does not fit memory.
CREATE TABLE big (id int PRIMARY KEY, v text);
INSERT INTO big SELECT i, repeat('x', 500) FROM generate_series(1, 20000) i;
BEGIN;
--! bind p
SELECT id, length(v) FROM big ORDER BY id;
--! bind totals
SELECT count(*), sum(length(v)), min(id), max(id) FROM big;
--! fetch
p 1;
UPDATE big SET v = repeat('y', 1000);
SAVEPOINT s;
DELETE FROM big WHERE id % 2 = 0;
--! bind half
SELECT count(*), sum(length(v)) FROM big;
ROLLBACK TO s;
INSERT INTO big SELECT i, 'new' FROM generate_series(20001, 30000) i;
--! bind later
SELECT count(*), sum(length(v)) FROM big;
--! fetch
totals 0;
--! fetch
half 0;
--! fetch
later 0;
--! fetch
p 2;
ROLLBACK;
DROP TABLE t, u, big;

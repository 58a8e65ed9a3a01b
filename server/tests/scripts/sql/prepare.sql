-- EXECUTE: arguments, their conversion, what it returns.
CREATE TABLE t (a int PRIMARY KEY, b text, c numeric(6, 2));
INSERT INTO t VALUES (1, 'one', 1.5), (2, 'two', 2.5), (3, NULL, NULL);
PREPARE get (int) AS SELECT a, b, c FROM t WHERE a = $1;
EXECUTE get (1);
EXECUTE get (1 + 1);
EXECUTE get ('3');
EXECUTE get (NULL);
EXECUTE get (2.4);
EXECUTE get (abs(-2)::int8);
EXECUTE get ('two');
EXECUTE get (text 'two');
EXECUTE get (now());
EXECUTE get;
EXECUTE get ();
EXECUTE get (1, 2);
EXECUTE get (a);
EXECUTE get ((SELECT 1));
EXECUTE get (count(*));
EXECUTE get (sum(1));
EXECUTE get ($1);
EXECUTE nosuch (1);
EXECUTE nosuch;
-- Types from the context, or unknown.
PREPARE put AS INSERT INTO t VALUES ($1, $2, $3);
EXECUTE put (4, 'four', 4.555);
EXECUTE put ('5', 5, 5);
EXECUTE put (5, 'five', 12345.6);
EXECUTE put (4, 'again', 0);
PREPARE mixed (unknown, text) AS UPDATE t SET b = b || $2 WHERE a >= $1 RETURNING a, b;
--! unordered
EXECUTE mixed (2, '!');
--! unordered
EXECUTE mixed (2, 3);
PREPARE gone AS DELETE FROM t WHERE a = ANY ($1);
EXECUTE gone ('{1,2}');
EXECUTE gone (ARRAY[3]);
SELECT * FROM t ORDER BY a;
PREPARE undetermined AS SELECT $2 + 1;
PREPARE wrong (nosuch) AS SELECT 1;
PREPARE wrong AS SELECT nosuch;
PREPARE wrong AS SET TimeZone = 'UTC';
PREPARE wrong AS EXECUTE get (1);
PREPARE get AS SELECT 1;
-- In a transaction; an error ends it.
BEGIN;
EXECUTE put (10, 'ten', NULL);
EXECUTE get (10);
EXECUTE get (10, 11);
EXECUTE get (10);
ROLLBACK;
EXECUTE get (10);
-- A sequence's values as arguments.
CREATE SEQUENCE s;
EXECUTE put (nextval('s') + 100, 'next', nextval('s'));
SELECT * FROM t WHERE a > 100;
-- The plan follows the table; the result may not.
PREPARE star AS SELECT * FROM t WHERE a = 4;
PREPARE named AS SELECT a, b FROM t WHERE a = 4;
EXECUTE star;
ALTER TABLE t ADD COLUMN d int DEFAULT 7;
EXECUTE star;
EXECUTE named;
ALTER TABLE t DROP COLUMN d;
EXECUTE star;
--! simple
EXECUTE named; EXECUTE get (4);
CREATE TABLE u (a int);
PREPARE from_u AS SELECT a FROM u;
DROP TABLE u;
EXECUTE from_u;
CREATE TABLE u (a int);
INSERT INTO u VALUES (7);
EXECUTE from_u;
DROP SEQUENCE s;
DEALLOCATE get;
EXECUTE get (4);
DEALLOCATE ALL;

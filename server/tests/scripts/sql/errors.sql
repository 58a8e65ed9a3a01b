-- SQLSTATE, message and position.
CREATE TABLE t (a int PRIMARY KEY, b text, c numeric(5,2));
SELEC 1;
SELECT 1 +;
SELECT (1;
SELECT 'open;
SELECT "open;
SELECT 1 FROM;
SELECT * FROM t WHERE;
SELECT a b c FROM t;
INSERT INTO t VALUE (1);
INSERT t VALUES (1);
UPDATE t a = 1;
DELETE t;
CREATE TABLE x (a int,);
CREATE TABLE x a int;
DROP t;
SELECT nosuch FROM t;
SELECT t.nosuch FROM t;
SELECT nosuch.a FROM t;
SELECT * FROM nosuch;
SELECT * FROM nosuch.t;
SELECT nosuch();
SELECT length(1);
--! differs: length of text in another encoding is not supported
SELECT length('a', 'b');
SELECT 'é', nosuch FROM t;
SELECT 1 + 'x';
SELECT 1 + true;
SELECT a + b FROM t;
SELECT a = b FROM t;
SELECT a || b FROM t;
SELECT -b FROM t;
SELECT NOT a FROM t;
SELECT 'x'::int;
SELECT '99999999999'::int;
SELECT '1.5'::int;
SELECT 1.5::int, 2.5::int, -1.5::int, 2147483647.4::int;
SELECT 2147483647.5::int;
SELECT 32768::int2;
SELECT 2147483647 + 1;
SELECT -2147483648 - 1;
SELECT 2147483647 * 2;
SELECT 9223372036854775807 + 1;
SELECT (-9223372036854775808)::int8 / -1;
SELECT (-2147483648)::int / -1;
SELECT (-2147483648)::int % -1;
SELECT abs(-2147483648);
SELECT -(-32768::int2);
SELECT 1 / 0;
SELECT 1 % 0;
SELECT 1.0 / 0;
SELECT 1::float8 / 0;
SELECT 0::float8 / 0;
SELECT 1e308 * 10::float8;
SELECT 1e308::float8 * 10;
SELECT 1e-320::float8 * 1e-10;
SELECT '1e400'::float8;
SELECT '1e39'::float4;
SELECT 1e39::float8::float4;
SELECT 1e200::float8::int8;
SELECT 'NaN'::float8::int;
SELECT 'NaN'::numeric::int;
SELECT 'Infinity'::numeric::int8;
SELECT 'true'::bool, 't'::bool, 'yes'::bool, 'on'::bool, '1'::bool, 'of'::bool;
SELECT 'maybe'::bool;
SELECT 'o'::bool;
SELECT '2023-02-29'::date;
SELECT '2023-13-01'::date;
--! differs: another wording
SELECT '10000000-01-01'::date;
SELECT 'x'::date;
SELECT '25:00'::time;
SELECT '2024-01-01 24:00:01'::timestamp;
SELECT '2024-01-01 12:00 Nowhere/City'::timestamptz;
SELECT '294277-01-01'::timestamp;
SELECT '4714-11-23 BC'::timestamp;
SELECT 'zzz'::uuid;
SELECT 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1'::uuid;
SELECT '{a0eebc999c0b4ef8bb6d6bb9bd380a11}'::uuid;
SELECT '\x0'::bytea;
SELECT '\xzz'::bytea;
SELECT 'a\'::bytea;
SELECT '\101b\\'::bytea;
SELECT '123456'::varchar(3), 'ab'::char(4), 'abcdef'::char(2);
INSERT INTO t VALUES (1, 'x', 1000);
INSERT INTO t VALUES (1, 'x', 999.995);
--! simple
INSERT INTO t VALUES (1, 'x', 'Infinity');
INSERT INTO t VALUES (1, 'x', 'NaN') RETURNING c;
SELECT '12.5'::numeric(3,1), '12.55'::numeric(3,1), 0.05::numeric(1,1);
SELECT 12345::numeric(3);
SELECT 12345::numeric(3,-2), 99950::numeric(3,-2);
SELECT 1::numeric(2,4);
SELECT 0.001::numeric(2,4);
SELECT sqrt(-1);
SELECT ln(0);
SELECT 0 ^ -1;
SELECT (-8) ^ 0.5;
SELECT substring('abc', 1, -1);
SELECT chr(0);
SELECT repeat('x', 2000000000);
SELECT to_date('x', 'YYYY');
SELECT extract(nosuch FROM now());
SELECT date_trunc('nosuch', now());
SELECT CASE WHEN true THEN 1 ELSE 'x' END;
SELECT coalesce(1, 'x');
SELECT coalesce(1, true);
SELECT greatest(1, 'x');
SELECT nullif(1, 'x');
SELECT 1 IN ('x');
SELECT 1 IN (true);
SELECT 1 BETWEEN 'a' AND 2;
SELECT 'abc' LIKE 'a\';
SELECT 'abc' LIKE 'a_c' ESCAPE 'xx';
SELECT 'a' ~ '(';
SELECT cast('x' AS nosuch);
SELECT cast(1 AS date);
SELECT cast(now() AS int);
SELECT true::int8;
SELECT 1::bool, 0::bool, true::int;
SELECT 5::int8::bool;
--! differs: the error has no position
--! simple
SELECT $1;
SELECT a FROM t GROUP BY b;
SELECT * FROM t, t;
SELECT 1 AS a ORDER BY nosuch;
SELECT 'a' COLLATE nosuch;
SELECT 'a' < 'B' COLLATE "C";
--! differs: the error has a position
SELECT E'\xff';
--! differs: another wording
SELECT E'\u0000';
--! differs: another wording
SELECT E'\ud800';
--! differs: another wording
SELECT U&'\zzzz';
--! differs: another wording
SELECT 0x1F;
--! differs: another wording
SELECT 1_000;
SELECT 1e;
--! differs: another wording
SELECT 123abc;
SELECT 1.e1, .5, 5., 1e-3, 00012;
SELECT 99999999999999999999, pg_typeof(99999999999999999999), pg_typeof(2147483648), pg_typeof(1.0), pg_typeof(1e2);
--! differs: type bit is not supported
SELECT B'101';
SELECT 1 = ANY (ARRAY[1, 2]), 3 <> ALL ('{1,2}'::int[]);
SELECT /* a /* nested */ comment */ 1 -- and a line
;
;
SELECT 1;
--! differs: the error has no position
--! simple
SELECT a FROM t LIMIT $1;

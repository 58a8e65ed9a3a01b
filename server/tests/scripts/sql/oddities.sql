-- Found by random statements given to both servers.

-- A boolean joins a text as its cast, not as its output.
SELECT 'x' || true, false || 'x'::text, quote_literal(true), concat('x', true), format('%s', true);

-- Shifts are C's, of an int.
SELECT 1::int2 << 15, 1::int2 << 16, (-1)::int2 << 30, (-1)::int2 >> 20, 1 << 31, 1 << 32, 1::int8 << 63, 1::int8 << 64;

-- Escapes of regular expressions.
SELECT 'a\b' ~ 'a\b', 'a b' ~ 'a\y', 'ab' ~ 'a\y', 'a\b' ~ 'a\Bb', 'a1' ~ '^\w\d$', 'ä' ~ '\w', 'ä' ~ '\W', E'a\tb' ~ 'a\sb', E'a\tb' ~ 'a\tb';
SELECT 'a-b' ~ '^[\w-]+$', 'A' ~ '\x41', 'A' ~ '\u0041', 'a]b' ~ '[\]]', 'foo bar' ~ '\mbar\M', 'a.b' ~ 'a\.b', 'axb' ~ 'a\.b', 'é1' ~ '\y1';
SELECT 'x' ~ 'a\q';
SELECT 'x' ~ 'a\';

-- The type and the name of a result.
SELECT nullif('a'::varchar(3), 'b'::varchar(3)), nullif(1, 1.5), nullif(2::int2, 3::int8), nullif('a', 'b'), nullif(1, NULL), nullif(NULL, 1);
SELECT nullif('a'::char(3), 'a'), nullif(1.0, 1), nullif(date '2020-01-01', timestamp '2020-01-01');
SELECT @(1.5::float4), @(-1.5::float8), @(-3), abs('-0'::float4);
SELECT true, false, (SELECT true), (SELECT 1)::int8, (SELECT 1 AS one), (SELECT 2)::text, true::int;

-- A NULL of a type does not convert to every other.
SELECT NULL::int8::timestamptz;
SELECT CAST(NULL::uuid AS int);
SELECT NULL::int::bool, NULL::text::date, NULL::int4::int8, NULL::varchar(3)::int;
CREATE TABLE nulls (a int, b text, c date);
INSERT INTO nulls VALUES (NULL, NULL, NULL), (NULL::int2, NULL::varchar, NULL::date);
INSERT INTO nulls SELECT NULL, NULL, NULL;
SELECT a FROM nulls UNION SELECT NULL;
SELECT CASE WHEN a IS NULL THEN NULL ELSE 1 END FROM nulls LIMIT 1;

-- The digits of a standard deviation.
SELECT stddev(x), variance(x), stddev_pop(x), var_pop(x) FROM (VALUES (1), (2), (4)) v (x);
SELECT stddev(x), variance(x), stddev_pop(x), var_pop(x) FROM (VALUES (1::int8), (2469135780246)) v (x);
SELECT stddev(x), variance(x), stddev_pop(x), var_pop(x) FROM (VALUES (1::int2), (32767)) v (x);
SELECT stddev(x), stddev_pop(x) FROM (VALUES (0.001), (0.002), (0.0030)) v (x);

-- There is no age of the infinite past.
SELECT age('infinity'::timestamp, '2020-01-01'::timestamp);
SELECT age('-infinity'::timestamptz, '2020-01-01'::timestamptz);

--! differs: Cairn has no such types
CREATE TABLE documents (a jsonb);
--! differs: Cairn has no such types
SELECT '1.2.3.4'::inet;

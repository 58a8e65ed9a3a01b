CREATE TABLE t (id int PRIMARY KEY, g text, i2 int2, i int, i8 int8, f4 float4, f8 float8, n numeric(10,3), b bool, d date, ts timestamp, x bytea);
SELECT count(*), count(i), sum(i), avg(i), min(i), max(i), bool_and(b), bool_or(b), every(b), string_agg(g, ',') FROM t;
SELECT sum(i2), sum(i8), sum(f4), sum(f8), sum(n), avg(f8), avg(n), stddev(i), variance(f8) FROM t;
SELECT g, count(*) FROM t GROUP BY g;
SELECT count(*) FROM t HAVING count(*) > 0;
SELECT count(*) FROM t HAVING count(*) = 0;
INSERT INTO t VALUES
  (1, 'a', 1, 1, 1, 1.5, 1.5, 1.100, true, '2020-01-01', '2020-01-01 10:00', '\x01'),
  (2, 'a', 2, 2, 2, 2.5, 2.5, 2.200, false, '2021-01-01', '2021-01-01 10:00', '\x02'),
  (3, 'b', 32767, 2147483647, 9223372036854775807, 1e30, 1e300, 9999999.999, true, '-infinity', 'infinity', '\xff'),
  (4, 'b', 32767, 2147483647, 9223372036854775807, 1e30, 1e300, 9999999.999, NULL, 'infinity', '-infinity', ''),
  (5, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
  (6, NULL, 7, 7, 7, 'NaN', 'Infinity', 'NaN', false, '2020-02-29', '2020-02-29', '\x00');
SELECT count(*), count(i), sum(i2), sum(i), sum(i8), avg(i2), avg(i), avg(i8) FROM t;
SELECT sum(f4), sum(f8), sum(n), avg(f4), avg(f8), avg(n) FROM t WHERE id < 3;
--! differs: PostgreSQL overflows in a sum of squares that avg does not need
SELECT sum(f4), sum(f8), sum(n), avg(f4), avg(f8), avg(n) FROM t;
SELECT min(i2), max(i8), min(f4), max(f4), min(f8), max(f8), min(n), max(n), min(g), max(g), min(d), max(d), min(ts), max(ts) FROM t;
SELECT bool_and(b), bool_or(b), every(b) FROM t WHERE id IN (1, 2);
SELECT bool_and(b), bool_or(b) FROM t WHERE id IN (1, 4);
SELECT g, count(*), count(i), sum(i), avg(n), min(d), max(ts) FROM t GROUP BY g ORDER BY g;
SELECT g, sum(i) FROM t GROUP BY g HAVING sum(i) > 5 ORDER BY g NULLS FIRST;
SELECT g FROM t GROUP BY g HAVING count(*) = 2 ORDER BY 1;
SELECT g, i % 2 AS odd, count(*) FROM t GROUP BY g, odd ORDER BY 1, 2;
SELECT g, i % 2, count(*) FROM t GROUP BY 1, 2 ORDER BY 1, 2;
SELECT i % 2 + 1 FROM t GROUP BY i % 2 ORDER BY 1;
SELECT upper(g) || 'x', count(*) FROM t GROUP BY upper(g) ORDER BY 1;
SELECT g, i FROM t GROUP BY g;
SELECT id, g, count(*) FROM t GROUP BY id ORDER BY id LIMIT 2;
SELECT g FROM t GROUP BY 3;
SELECT g AS i FROM t GROUP BY i;
SELECT sum(i) FROM t GROUP BY sum(i);
SELECT g FROM t WHERE count(*) > 1 GROUP BY g;
SELECT sum(sum(i)) FROM t;
SELECT g FROM t ORDER BY count(*);
SELECT g FROM t GROUP BY g ORDER BY count(*) DESC, g;
SELECT count(*) AS n, g FROM t GROUP BY g ORDER BY n, g;
SELECT DISTINCT count(*) FROM t GROUP BY g;
SELECT count(DISTINCT g), count(DISTINCT f4), sum(DISTINCT i), avg(DISTINCT i2), min(DISTINCT i) FROM t;
SELECT count(*) FILTER (WHERE b), sum(i) FILTER (WHERE g = 'a'), count(*) FILTER (WHERE NULL) FROM t;
SELECT count(i, g) FROM t;
SELECT sum(g) FROM t;
SELECT sum(*) FROM t;
SELECT nosuch(i) FROM t;
SELECT max(b) FROM t;
SELECT avg(d) FROM t;
SELECT string_agg(g, '-') FROM t WHERE id < 3;
SELECT string_agg(g, NULL) FROM t WHERE id < 3;
SELECT array_agg(id) FROM t WHERE id < 3;
SELECT 1 FROM t HAVING true;
SELECT i FROM t HAVING true;
SELECT count(*) + 1, -sum(i2), coalesce(sum(i) FILTER (WHERE false), 0) FROM t;
SELECT (SELECT sum(i2) FROM t AS t2 WHERE t2.g = t.g) FROM t ORDER BY id;
SELECT g, (SELECT count(*) FROM t AS t2 WHERE t2.g = t.g) FROM t GROUP BY g ORDER BY g;
SELECT count(*) FROM (SELECT DISTINCT g, b FROM t) AS x;
SELECT count(*) FROM t, t AS t2;
--! differs: GROUPING SETS is not supported
SELECT g, count(*) FROM t GROUP BY ROLLUP (g);
SELECT stddev(i2), stddev_pop(i2), stddev_samp(i2), variance(i2), var_pop(i2), var_samp(i2) FROM t WHERE id < 3;
SELECT stddev(i2), var_pop(i2), stddev(f8), variance(n) FROM t WHERE id = 1;
SELECT variance(f8), stddev(f8), variance(n), stddev(n) FROM t WHERE id < 3;
SELECT sum(i8 + 1) FROM t;
SELECT sum(i::int8 * 9000000000000000000) FROM t;
SELECT bit_and(i2), bit_or(i2) FROM t;
-- Grouping by what is equal but not the same.
CREATE TABLE q (n numeric, f float8, c char(4), z text);
INSERT INTO q VALUES (1, 0.0, 'a', 'a'), (1.0, -0.0, 'a ', 'a '), (1.00, 'NaN', 'b', 'a'), ('NaN', 'NaN', 'b', NULL), (NULL, NULL, NULL, '');
SELECT n = 1, count(*) FROM q GROUP BY n ORDER BY 1, 2;
SELECT f = 0, count(*) FROM q GROUP BY f ORDER BY 1, 2;
SELECT c, count(*) FROM q GROUP BY c ORDER BY 1;
SELECT z, count(*) FROM q GROUP BY z ORDER BY 1;
SELECT count(DISTINCT n), count(DISTINCT f), count(DISTINCT c), count(DISTINCT z) FROM q;
SELECT count(*) FROM q AS a JOIN q AS b ON a.n = b.n;
SELECT count(*) FROM q AS a JOIN q AS b ON a.f = b.f;
SELECT count(*) FROM q AS a JOIN q AS b ON a.c = b.c;
SELECT count(*) FROM q AS a JOIN q AS b ON a.c = b.z;
SELECT count(*) FROM q AS a JOIN q AS b ON a.n = b.f;
SELECT n + 0 FROM q WHERE n = 1 INTERSECT SELECT 1;

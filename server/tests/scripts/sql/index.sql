-- Indexes on filled tables, of every kind of table.
CREATE TABLE k (a int PRIMARY KEY, b int, c text);
CREATE TABLE h (a int, b int, c text);
CREATE TABLE m (a int, b int, c text, PRIMARY KEY (c, a));
INSERT INTO k SELECT i, i % 7, 'r' || i FROM generate_series(1, 100) AS g(i);
INSERT INTO h SELECT a, b, c FROM k;
INSERT INTO m SELECT a, b, c FROM k;
INSERT INTO k VALUES (101, NULL, NULL);
INSERT INTO h VALUES (101, NULL, NULL), (101, NULL, NULL);
INSERT INTO m VALUES (101, NULL, 'n');
CREATE INDEX k_b ON k (b);
CREATE INDEX h_b ON h (b);
CREATE INDEX m_b ON m (b DESC);
--! differs: another duplicate is met first
CREATE UNIQUE INDEX k_b_u ON k (b);
--! differs: another duplicate is met first
CREATE UNIQUE INDEX h_b_u ON h (b);
CREATE UNIQUE INDEX m_b_u ON m (b, a);
CREATE UNIQUE INDEX h_a_u ON h (a);
CREATE UNIQUE INDEX h_c_u ON h (c);
CREATE UNIQUE INDEX k_c_u ON k (c);
SELECT a FROM k WHERE b = 3 ORDER BY a LIMIT 3;
SELECT a FROM h WHERE b = 3 ORDER BY a LIMIT 3;
SELECT a FROM m WHERE b = 3 ORDER BY a LIMIT 3;
SELECT count(*) FROM k WHERE b IS NULL;
SELECT count(*) FROM h WHERE b IS NULL;
SELECT count(*) FROM h WHERE b IS NOT NULL;
SELECT a, b FROM k WHERE b >= 5 ORDER BY b DESC, a LIMIT 4;
SELECT b FROM m ORDER BY b DESC LIMIT 3;
SELECT b FROM m ORDER BY b DESC NULLS LAST LIMIT 3;
SELECT b FROM m ORDER BY b LIMIT 3;
SELECT b FROM k ORDER BY b DESC LIMIT 2;
SELECT min(b), max(b) FROM k;
INSERT INTO h VALUES (1, 1, 'r1');
INSERT INTO h VALUES (1, 1, NULL);
INSERT INTO m VALUES (1, 1, 'other');
UPDATE m SET b = 100 WHERE a = 5;
SELECT a FROM m WHERE b = 100;
SELECT count(*) FROM m WHERE b = 5;
UPDATE k SET b = b + 1 WHERE b = 3;
SELECT count(*) FROM k WHERE b = 3;
SELECT count(*) FROM k WHERE b = 4;
DELETE FROM k WHERE b = 4;
SELECT count(*) FROM k WHERE b = 4;
SELECT count(*) FROM k;
CREATE INDEX k_b ON k (b);
CREATE INDEX IF NOT EXISTS k_b ON k (b);
CREATE INDEX ON k (b, c);
CREATE INDEX ON k (b, c);
--! differs: the error has a position
CREATE INDEX ON k (nosuch);
--! differs: the error has a position
CREATE INDEX ON nosuch (a);
SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname;
DROP INDEX k_b, k_b_c_idx;
SELECT count(*) FROM k WHERE b = 5;
DROP INDEX k_pkey;
-- A dropped index leaves nothing that a new one could take for its own.
CREATE INDEX k_b ON k (c);
SELECT a FROM k WHERE c = 'r50';
SELECT a FROM k WHERE c > 'r98' ORDER BY c;
-- Every type as a key, ascending and descending, ordered by the index.
CREATE TABLE keys (id int PRIMARY KEY, i2 int2, i8 int8, f4 float4, f8 float8, n numeric, t text, v varchar(9), c char(4), b bool,
  x bytea, d date, ts timestamp, tz timestamptz, u uuid);
INSERT INTO keys VALUES
  (1, -5, -5, -5.5, -5.5, -5.50, 'a', 'a', 'a', false, '\x00', '2000-01-01', '2000-01-01', '2000-01-01 00:00:00+00', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'),
  (2, 5, 5, 5.5, 5.5, 5.5, 'B', 'B', 'B', true, '\x0001', '1999-12-31', '1999-12-31 23:59:59.999999', '1999-12-31 19:00:00-05', '00000000-0000-0000-0000-000000000001'),
  (3, 0, 0, 'NaN', 'NaN', 'NaN', '', '', '', NULL, '', 'infinity', 'infinity', 'infinity', NULL),
  (4, 32767, 9223372036854775807, 'Infinity', 'Infinity', 'Infinity', 'é', 'é', 'é', true, '\xff', '-infinity', '-infinity', '-infinity', 'ffffffff-ffff-ffff-ffff-ffffffffffff'),
  (5, -32768, -9223372036854775808, '-Infinity', '-Infinity', '-Infinity', 'ab', 'ab', 'ab', false, '\xff00', '0044-03-15 BC', '0044-03-15 12:00 BC', '0044-03-15 12:00:00+00 BC', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a10'),
  (6, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
  (7, 1, 1, -0.0, -0.0, 0.000, E'a\tb', 'a b', 'a b', NULL, '\x61', '5874897-12-31', '294276-12-31 23:59:59.999999', '294276-12-31 23:59:59.999999+00', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12'),
  (8, 2, 2, 1e-30, 1e-300, 1e-50, 'a', 'a', 'a', false, '\x00', '4713-01-01 BC', '4713-01-01 BC', '4713-01-01 00:00:00+00 BC', NULL);
CREATE INDEX ON keys (i2);
CREATE INDEX ON keys (i8 DESC);
CREATE INDEX ON keys (f4);
CREATE INDEX ON keys (f8 DESC NULLS LAST);
CREATE INDEX ON keys (n);
CREATE INDEX ON keys (t);
CREATE INDEX ON keys (v DESC);
CREATE INDEX ON keys (c NULLS FIRST);
CREATE INDEX ON keys (b);
CREATE INDEX ON keys (x);
CREATE INDEX ON keys (d DESC);
CREATE INDEX ON keys (ts);
CREATE INDEX ON keys (tz);
CREATE INDEX ON keys (u);
SELECT id, i2 FROM keys ORDER BY i2;
SELECT id, i8 FROM keys ORDER BY i8 DESC;
SELECT id, f4 FROM keys ORDER BY f4;
SELECT id, f8 FROM keys ORDER BY f8 DESC NULLS LAST;
SELECT id, n FROM keys ORDER BY n;
SELECT id, t FROM keys ORDER BY t, id;
SELECT id, v FROM keys ORDER BY v DESC, id;
SELECT id, c FROM keys ORDER BY c NULLS FIRST, id;
SELECT id, b FROM keys ORDER BY b, id;
SELECT id, x FROM keys ORDER BY x, id;
SELECT id, d FROM keys ORDER BY d DESC, id;
SELECT id, ts FROM keys ORDER BY ts;
SELECT id, tz FROM keys ORDER BY tz;
SELECT id, u FROM keys ORDER BY u, id;
SELECT id FROM keys WHERE i2 < 0 ORDER BY id;
SELECT id FROM keys WHERE i8 >= 5 ORDER BY id;
SELECT id FROM keys WHERE f4 = 'NaN' ORDER BY id;
SELECT id FROM keys WHERE f4 > 5 ORDER BY id;
SELECT id FROM keys WHERE f8 = 0 ORDER BY id;
SELECT id FROM keys WHERE f8 < 0 ORDER BY id;
SELECT id FROM keys WHERE n = 0 ORDER BY id;
SELECT id FROM keys WHERE n > 5 ORDER BY id;
SELECT id FROM keys WHERE n BETWEEN -6 AND 5.50 ORDER BY id;
SELECT id FROM keys WHERE t = 'a' ORDER BY id;
SELECT id FROM keys WHERE t >= 'a' AND t < 'b' ORDER BY id;
SELECT id FROM keys WHERE t LIKE 'a%' ORDER BY id;
SELECT id FROM keys WHERE c = 'a' ORDER BY id;
SELECT id FROM keys WHERE c = 'a   ' ORDER BY id;
SELECT id FROM keys WHERE c > 'a' ORDER BY id;
SELECT id FROM keys WHERE b ORDER BY id;
SELECT id FROM keys WHERE NOT b ORDER BY id;
SELECT id FROM keys WHERE b IS NOT TRUE ORDER BY id;
SELECT id FROM keys WHERE x >= '\x00' AND x < '\x01' ORDER BY id;
SELECT id FROM keys WHERE d < '2000-01-01' ORDER BY id;
SELECT id FROM keys WHERE d > '0001-12-31 BC' AND d < 'infinity' ORDER BY id;
SELECT id FROM keys WHERE ts = '2000-01-01' ORDER BY id;
SELECT id FROM keys WHERE tz = '2000-01-01 00:00:00+00' ORDER BY id;
SELECT id FROM keys WHERE tz = '1999-12-31 19:00:00' ORDER BY id;
--! differs: a date is compared with a timestamp by conversion, which has its limits
SELECT id FROM keys WHERE d = timestamp '2000-01-01 00:00:00' ORDER BY id;
SELECT id FROM keys WHERE ts > date '1999-12-31' ORDER BY id;
SELECT id FROM keys WHERE u < 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11' ORDER BY id;
-- Comparisons with another type than the key's.
SELECT id FROM keys WHERE i2 = 5.0 ORDER BY id;
SELECT id FROM keys WHERE i2 < 4.5 ORDER BY id;
SELECT id FROM keys WHERE i2 > 100000 ORDER BY id;
SELECT id FROM keys WHERE i2 < 3000000000 ORDER BY id;
SELECT id FROM keys WHERE i8 = 5::float8 ORDER BY id;
SELECT id FROM keys WHERE i8 > 9223372036854775806.5 ORDER BY id;
SELECT id FROM keys WHERE f4 = 5.5 ORDER BY id;
SELECT id FROM keys WHERE f4 < 1e-30 ORDER BY id;
SELECT id FROM keys WHERE f4 <= 1e-30::float4 ORDER BY id;
SELECT id FROM keys WHERE n = 5.5::float8 ORDER BY id;
SELECT id FROM keys WHERE n IN (5, 5.5, NULL) ORDER BY id;
SELECT id FROM keys WHERE t IN ('a', 'B', 'zz') ORDER BY id;
SELECT id FROM keys WHERE id IN (3, 1, 3, 9) ORDER BY id DESC;
SELECT id FROM keys WHERE id = ANY ('{2,4,6}') ORDER BY id;
SELECT id FROM keys WHERE id > ALL ('{2,4,6}') ORDER BY id;
SELECT id FROM keys WHERE id = 1 OR id = 5 ORDER BY id;
SELECT id FROM keys WHERE (id, i2) > (2, 3) ORDER BY id;
SELECT id FROM keys WHERE id = 2147483648 ORDER BY id;
SELECT id FROM keys WHERE id > -2147483649 ORDER BY id LIMIT 1;
SELECT id FROM keys WHERE id = '4' ORDER BY id;
SELECT id FROM keys WHERE id = 'x' ORDER BY id;

-- Rows and pairs of rows that go in batches by their size.
CREATE TABLE wide (id int PRIMARY KEY, t text);
INSERT INTO wide SELECT g, repeat(md5(g::text), 40000) FROM generate_series(1, 12) g;
SELECT count(*), sum(length(t)), min(id), max(id) FROM wide;
SELECT id, length(t) FROM wide ORDER BY t || 'x' LIMIT 3;
SELECT id, length(t) FROM wide ORDER BY md5(t) DESC;
SELECT count(*), sum(length(t)), sum(g) FROM wide, generate_series(1, 10) g;
SELECT count(*), sum(length(t)), sum(g) FROM wide JOIN generate_series(1, 120) g ON id = g % 12 + 1;
SELECT count(*), sum(length(a.t)), sum(length(b.t)) FROM wide a LEFT JOIN wide b ON a.id <= b.id AND a.t <> b.t;
SELECT count(*), sum(length(a.t)), sum(length(b.t)) FROM wide a FULL JOIN wide b ON a.id = b.id + 6 AND a.t <> b.t;
-- Keys that many rows share: more pairs than one look-up holds.
CREATE TABLE many (k int, v int);
INSERT INTO many SELECT g % 2, g FROM generate_series(1, 1500) g;
SELECT count(*), sum(a.v), sum(b.v) FROM many a JOIN many b ON a.k = b.k;
SELECT count(*), sum(a.v), sum(b.v), count(b.k) FROM many a LEFT JOIN many b ON a.k = b.k + 1;
SELECT count(*), sum(a.v), sum(b.v), count(a.k) FROM many a FULL JOIN many b ON a.k = b.k + 1;
SELECT count(*), sum(a.v) FROM many a WHERE EXISTS (SELECT 1 FROM many b WHERE a.k = b.k AND a.v < b.v);
SELECT count(*), sum(a.v) FROM many a WHERE NOT EXISTS (SELECT 1 FROM many b WHERE a.k = b.k AND a.v < b.v);
SELECT a.v, b.v FROM many a JOIN many b ON a.k = b.k ORDER BY a.v, b.v DESC LIMIT 3;
--! differs: nothing spills to disk yet
SELECT count(*) FROM (SELECT id, g FROM wide, generate_series(1, 5) g ORDER BY t || g OFFSET 1) s;

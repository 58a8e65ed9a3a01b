CREATE TABLE k (a int PRIMARY KEY, b text, c numeric);
CREATE TABLE h (a int, b text DEFAULT 'dflt', c numeric);
CREATE TABLE s (id serial, a int UNIQUE, b bool, d date, x bytea);
COPY k FROM STDIN;
1	one	1.5
2	\N	-3
3		\N
4	tab\there\\ \x41\101 \n newline	0
\.
SELECT * FROM k ORDER BY a;
COPY k TO STDOUT;
COPY k (b, a) TO STDOUT WITH (DELIMITER '|', NULL 'nil');
COPY (SELECT a, b FROM k WHERE a < 3 ORDER BY a DESC) TO STDOUT WITH (FORMAT csv, HEADER);
--! differs: FORCE_QUOTE is not supported
COPY k TO STDOUT WITH (FORMAT csv, FORCE_QUOTE (b));
COPY k TO STDOUT CSV HEADER NULL 'NULL' QUOTE '''';
COPY h (a) FROM STDIN;
1
1
2
\.
SELECT * FROM h ORDER BY a;
COPY h (c, a) FROM STDIN WITH (FORMAT csv);
1.25,3
,4
"7",5
\.
COPY h FROM STDIN WITH (FORMAT csv, HEADER, NULL 'nil');
a,b,c
6,"quo""ted, comma",nil
7,nil,1
8,"nil",2
9,,3
10,"two
lines",4
\.
SELECT * FROM h ORDER BY a, b;
COPY h TO STDOUT CSV;
COPY k FROM STDIN;
5	ok	1
1	dup	1
\.
COPY k FROM STDIN;
5	ok	1
5	dup within	1
\.
COPY k FROM STDIN;
5	ok	x
\.
COPY k FROM STDIN;
5	too few
\.
COPY k FROM STDIN;
5	too	1	many
\.
--! differs: the context does not repeat the line
COPY k FROM STDIN;
\N	null key	1
\.
COPY k FROM STDIN;
99999999999	overflow	1
\.
--! differs: the columns of a line are counted first
COPY k FROM STDIN;

\.
--! differs: the error has a position
COPY k (a, nosuch) FROM STDIN;
1	2
\.
--! differs: the error has a position
COPY nosuch FROM STDIN;
1
\.
--! differs: the error has a position
COPY k (a, a) FROM STDIN;
1	1
\.
--! differs: the context does not repeat the line
COPY k FROM STDIN WITH (FORMAT csv);
5,"open,1
\.
COPY k FROM STDIN WITH (FORMAT nosuch);
1
\.
COPY k FROM STDIN WITH (DELIMITER 'ab');
1
\.
COPY k FROM STDIN WITH (FORMAT csv, QUOTE 'ab');
1
\.
COPY k FROM STDIN;
\.
SELECT count(*) FROM k;
COPY s (a, b, d, x) FROM STDIN;
10	t	2020-01-01	\\x0102
20	f	0044-03-15 BC	\\x
30	\N	infinity	\N
\.
SELECT * FROM s ORDER BY id;
COPY s TO STDOUT;
COPY s (a) FROM STDIN;
10
\.
COPY s (a) FROM STDIN;
\N
\N
\.
SELECT count(*), count(a), count(DISTINCT id) FROM s;
COPY s (b) FROM STDIN;
maybe
\.
BEGIN;
COPY k FROM STDIN;
50	in transaction	1
\.
UPDATE k SET c = 99 WHERE a = 50;
COPY (SELECT * FROM k WHERE a = 50) TO STDOUT;
COPY k FROM STDIN;
50	dup of own	1
\.
SELECT 1;
ROLLBACK;
SELECT count(*) FROM k;
BEGIN;
INSERT INTO k VALUES (60, 'mine', 1);
COPY k FROM STDIN;
60	dup	1
\.
ROLLBACK;
COPY (INSERT INTO k VALUES (70, 'returned', 1) RETURNING a, b) TO STDOUT;
COPY (SELECT 1, 'a,b', NULL, '"', '', ' x ', E'a\nb', true, 1.50) TO STDOUT CSV;
COPY (SELECT 1, E'a\tb', NULL, '\', '', E'a\nb', E'\r\b\f\v', true, 1.50) TO STDOUT;
COPY (VALUES (1, 'x'), (2, 'y')) TO STDOUT (FORMAT text, DELIMITER ',');
COPY (SELECT 1) FROM STDIN;
1
\.
COPY k FROM STDIN (FORMAT csv, DELIMITER ';', NULL '-', HEADER true);
x;y;z
80;-;1
81;"-";2
\.
SELECT * FROM k WHERE a >= 80 ORDER BY a;
COPY h FROM STDIN;
100	crlf	1
101	end	2
\.
CREATE UNIQUE INDEX h_a ON h (a) ;
DELETE FROM h WHERE a = 1;
CREATE UNIQUE INDEX h_a ON h (a);
COPY h FROM STDIN;
1	fine	1
100	dup	2
\.
SELECT count(*) FROM h WHERE a = 1;
COPY h FROM STDIN;
1	fine	1
\.
SELECT b FROM h WHERE a = 1;

-- Lines are statements; a number before a colon is the session that runs it (1 where there is none).
-- `!crash` ends the node as a power failure would and starts it again, with new sessions.
-- Nothing here waits for another session, reads a clock or draws a random number: then the real node
-- and the simulated one must answer alike, and end with the same rows in the same families.
CREATE TABLE accounts (id bigint PRIMARY KEY, owner text NOT NULL UNIQUE, balance numeric(12, 2) NOT NULL)
CREATE TABLE refused (id int CHECK (id > 0))
CREATE TABLE refused (id bigint REFERENCES accounts (id))
CREATE INDEX accounts_balance ON accounts (balance)
CREATE TABLE notes (words text, size int DEFAULT 7, told boolean)
CREATE TABLE items (id serial PRIMARY KEY, account bigint, price double precision, made date)
INSERT INTO accounts VALUES (1, 'ada', 100), (2, 'bob', 50.5), (3, 'cy', 0)
INSERT INTO accounts VALUES (4, 'ada', 1)
INSERT INTO accounts VALUES (4, 'dee', 1e20)
INSERT INTO accounts VALUES (4, NULL, 1)
INSERT INTO notes VALUES ('über', 1, true), ('', NULL, false), (NULL, 3, NULL)
INSERT INTO notes (words) VALUES ('default') RETURNING words, size, told
INSERT INTO items (account, price, made) SELECT 1 + g % 3, g * 1.5, date '2024-02-28' + g FROM generate_series(0, 40) g
SELECT count(*), sum(price), min(made), max(made) FROM items
SELECT a.owner, count(*), sum(i.price) FROM accounts a JOIN items i ON i.account = a.id GROUP BY a.owner ORDER BY a.owner
INSERT INTO items (account, made) VALUES (99, 'no date')
UPDATE accounts SET balance = balance - 60 WHERE id = 2
UPDATE accounts SET balance = balance * 1.01 WHERE balance > 10 RETURNING id, balance
SELECT * FROM nowhere
SELECT balance + owner FROM accounts
SELECT 1 / (id - 1) FROM accounts
BEGIN
UPDATE accounts SET balance = balance - 10 WHERE id = 1
SAVEPOINT s
UPDATE accounts SET balance = balance - 1000 WHERE id = 1
ROLLBACK TO s
UPDATE accounts SET balance = balance + 10 WHERE id = 2
SELECT id, balance FROM accounts ORDER BY id
COMMIT
-- Write skew: one of the two must not commit.
1: BEGIN
2: BEGIN
1: SELECT sum(balance) FROM accounts
2: SELECT sum(balance) FROM accounts
1: UPDATE accounts SET balance = 1 WHERE id = 3
2: UPDATE accounts SET balance = 2 WHERE id = 1
1: COMMIT
2: COMMIT
2: ROLLBACK
-- A read below a newer version, then a write of it.
1: BEGIN
1: SELECT balance FROM accounts WHERE id = 1
2: UPDATE accounts SET balance = balance + 1 WHERE id = 2
1: SELECT balance FROM accounts WHERE id = 2
1: UPDATE accounts SET balance = balance + 1 WHERE id = 2
1: ROLLBACK
1: BEGIN ISOLATION LEVEL READ COMMITTED
1: SELECT balance FROM accounts WHERE id = 2
2: UPDATE accounts SET balance = balance + 1 WHERE id = 2
1: UPDATE accounts SET balance = balance + 1 WHERE id = 2 RETURNING balance
1: COMMIT
!crash
SELECT * FROM accounts ORDER BY id
SELECT * FROM notes ORDER BY size NULLS FIRST
INSERT INTO notes VALUES ('after the crash', 9, true)
INSERT INTO items (account, price) VALUES (2, 1e100) RETURNING account, price, made
DELETE FROM items WHERE price BETWEEN 10 AND 20 OR made > '2024-03-20'
ALTER TABLE accounts ADD COLUMN kind text DEFAULT 'plain'
UPDATE accounts SET kind = 'rich' WHERE balance > 80
CREATE UNIQUE INDEX items_unique ON items (account)
CREATE INDEX items_made ON items (made, price DESC)
SELECT id, owner, kind FROM accounts ORDER BY kind, id
SELECT account, count(*) FROM items GROUP BY account HAVING count(*) > 3 ORDER BY 1
WITH big AS (SELECT * FROM items WHERE price > 30) SELECT max(made) FROM big
SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2
SET timezone = 'Europe/Berlin'
SELECT timestamptz '2024-07-01 12:00+00', interval '1 day 2 hours', 0.1::float8 + 0.2, E'tab\there'
!crash
SELECT count(*), sum(price) FROM items
SELECT * FROM accounts ORDER BY id

-- Statements of many rows: what goes in bulk behaves as what goes row by row.
create table numbers (n int primary key, half int, name text not null);
insert into numbers select g, g / 2, 'number ' || g from generate_series(1, 20000) g;
select count(*), sum(n), min(name), max(name) from numbers;

-- A duplicate far behind: within the statement, with an existing row, in the last rows; nothing is left.
create table target (n int primary key, half int unique, name text default 'nobody');
insert into target (n, half) select n, n from numbers where n > 19000;
insert into target (n, half) select n, n from numbers;
select count(*) from target;
insert into target (n, half) select n, half + 100000 from numbers where n < 19000;
insert into target (n, half) select 5, null from numbers;
insert into target select n + 100000, -n, null from numbers where n < 5000 union all select 100001, -100000, 'again';
insert into numbers select n + 100000, half, case when n = 17000 then null else name end from numbers;
select count(*), count(name), min(n), max(n) from target;
select count(*), max(n) from numbers;

-- A statement does not read what it writes.
insert into numbers select n + 20000, half, name from numbers;
select count(*), count(distinct n), max(n) from numbers;
begin;
insert into numbers select n + 40000, half, name from numbers;
savepoint half_way;
insert into numbers select n + 80000, half, name from numbers;
select count(*) from numbers;
delete from numbers where n > 159000;
insert into numbers select n + 100000, 7, name from numbers where n between 59001 and 60000;
select count(*), count(*) filter (where half = 7) from numbers where n > 158990;
rollback to half_way;
select count(*), max(n) from numbers;
update numbers set half = 0 where n > 79995;
insert into numbers select n, 1, name from numbers where n > 79000;
rollback;
select count(*), max(n) from numbers;

-- Tables without a key keep every row; defaults and sequences count on.
create table heap (word text, id serial, at int default 7);
insert into heap (word) select name from numbers where n <= 3000;
insert into heap select 'x', 0 from numbers;
select count(*), count(distinct id), max(id), sum(at) from heap;
create table copied as select * from heap;
insert into copied select * from copied;
select count(*) from copied;

-- Indexes over filled tables.
create index on heap (word);
create unique index on heap (id);
delete from heap where id = 0;
create unique index heap_word on heap (word);
select id from heap where word = 'number 2999';
update heap set id = 1 where id = 2;
delete from copied where id <> 0;
alter table copied add primary key (word);
alter table heap add primary key (id);
insert into heap select 'y' || id, id from heap;
select count(*), sum(id) from heap where id > 1500;
drop table numbers, target, heap, copied;

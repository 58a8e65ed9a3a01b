-- What pg_dump, psql and drivers send.
SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', 'public', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
SET default_tablespace = '';
SET default_table_access_method = heap;
SET extra_float_digits = 3;
SET synchronize_seqscans TO off;
SET quote_all_identifiers = off;
SET jit = off;
SET escape_string_warning = off;
SET lc_messages = 'C';
SET synchronous_commit = on;
SET random_page_cost = 4;
SET random_page_cost = 4.0;
SET seq_page_cost TO DEFAULT;
-- Not heard at this level: notices.
DROP TABLE IF EXISTS nosuch;
COMMIT;
SET client_min_messages = error;
COMMIT;
RESET client_min_messages;
-- What would have no effect is refused.
--! differs: the planner counts no pages
SET random_page_cost = 1.1;
--! differs: the planner counts no pages
SET seq_page_cost = 2;
--! differs: there is one way
SET synchronize_seqscans = on;
--! differs: there is one way
SET jit = on;
--! differs: there is one way
SET lc_time = 'en_US.UTF-8';
--! differs: there is one way
SET quote_all_identifiers = on;
--! differs: commits are durable
SET synchronous_commit = off;
--! differs: commits are durable
SET synchronous_commit = 0;
SET synchronous_commit = sometimes;
SET synchronous_commit = yes;
SHOW synchronous_commit;
--! simple
SET client_min_messages = debug; SHOW client_min_messages; RESET client_min_messages;
SET client_min_messages = info;
SHOW client_min_messages;
RESET client_min_messages;
--! differs: there is one way
SELECT set_config('xmloption', 'document', false);
--! differs: another error
SET default_tablespace = 'nosuch';
--! differs: another error
SET default_table_access_method = 'nosuch';
SET nosuch = 1;
-- A table that loses nothing is all that UNLOGGED can ask for, but the client is told.
--! cairn: it has another answer
CREATE UNLOGGED TABLE u (a int);
--! cairn: it has another answer
CREATE UNLOGGED TABLE IF NOT EXISTS u (a int);
--! differs: sequences survive
CREATE UNLOGGED SEQUENCE us;

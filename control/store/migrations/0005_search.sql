-- Search at full size: header words with weights, the index of body text and its queue, pieces of addresses.

create extension if not exists pg_trgm;                 -- trusted: the database's owner may

-- The header words of one mail. Its four lines are the words of the subject (weight A), of sender and From field (B),
-- of the recipient (C), of the attachments' names (D): `subject:` and `from:` ask the one index by weight.
create function header_words(lines text) returns tsvector language sql immutable parallel safe as $$
    select setweight(to_tsvector('simple', split_part(lines, E'\n', 1)), 'A')
        || setweight(to_tsvector('simple', split_part(lines, E'\n', 2)), 'B')
        || setweight(to_tsvector('simple', split_part(lines, E'\n', 3)), 'C')
        || to_tsvector('simple', split_part(lines, E'\n', 4))
$$;

create function words_of(text) returns text language sql immutable parallel safe as $$
    select regexp_replace($1, '[\W_]+', ' ', 'g')
$$;

update quarantine set words = header_words(
    words_of(subject) || E'\n' || words_of(sender || ' ' || header_from) || E'\n' || words_of(recipient)
    || E'\n' || words_of(array_to_string(attachments, ' '))
);
drop function words_of;

-- Everything that free words find in a mail once its body was read: header words (A) and body text (D). Once a
-- transaction; the recipient is in it only where there is one alone, for two may be of different customers.
create table body_words (
    received_at timestamptz not null,
    txn         text not null,
    words       tsvector compression lz4 not null,
    primary key (received_at, txn)
) partition by range (received_at);
create index on body_words using gin (words);

-- Mails whose bodies are still to be read, in the order they came. The janitor takes them from the front.
create table body_queue (
    number      bigint generated always as identity primary key,
    received_at timestamptz not null,
    txn         text not null,
    queued_at   timestamptz not null default clock_timestamp()
);

-- A trigger, for two doors write rows (ingest, and later mail that ended here) and none may forget the queue.
create function queue_bodies() returns trigger language plpgsql as $$
begin
    insert into body_queue (received_at, txn) select distinct received_at, txn from fresh;
    return null;
end
$$;
create trigger queue_bodies after insert on quarantine
    referencing new table as fresh for each statement execute function queue_bodies();

insert into body_queue (received_at, txn) select distinct received_at, txn from quarantine order by 1, 2;

create index on rollups (domain, day);

create or replace function make_partitions(day date) returns void language plpgsql set lock_timeout = '5s' as $$
declare
    parent text;
    part   text;
begin
    perform pg_advisory_xact_lock(hashtextextended('partitions', 0));
    foreach parent in array array['quarantine', 'mail_records', 'messages', 'body_words'] loop
        part := parent || to_char(day, '_YYYYMMDD');
        if to_regclass(part) is null then
            execute format('create table %I (like %I including all)', part, parent);
            execute format(
                'alter table %I attach partition %I for values from (%L) to (%L)',
                parent, part, to_char(day, 'YYYY-MM-DD 00:00+00'), to_char(day + 1, 'YYYY-MM-DD 00:00+00')
            );
        end if;
    end loop;
end
$$;

select make_partitions(to_date(right(c.relname, 8), 'YYYYMMDD'))
from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'messages'::regclass;

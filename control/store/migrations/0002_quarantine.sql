-- The quarantine: one row a recipient, one body a mail; tracking; jobs; what was stored.
-- Times of partitioned tables are UTC; a day's partitions are made by make_partitions (at the end of this file).

-- id = transaction ULID || '.' || recipient number; received_at is the ULID's time, which prunes partitions.
create table quarantine (
    received_at  timestamptz not null,
    id           text not null,
    txn          text not null,
    domain       integer not null,                      -- domains.number; 0 when the account serves it no longer
    account_id   text not null,
    sender       text not null,
    recipient    text not null,
    subject      text not null,
    header_from  text not null,
    reason       text not null,
    filter       text not null,
    reason_text  text not null,
    score        real not null,
    node         text not null,
    client_ip    inet not null,
    size_bytes   integer not null,
    attachments  text[] not null default '{}',
    status       text not null default 'kept' check (status in ('kept', 'released', 'deleted')),
    generation   bigint not null,
    revision     bigint not null,
    pack         text not null,                         -- object name; '' when the body was lost
    pack_offset  bigint not null,
    pack_bytes   integer not null,
    body_sha256  bytea not null,
    words        tsvector not null,
    primary key (received_at, id)
) partition by range (received_at);
create index on quarantine (domain, received_at desc, id desc);
create index on quarantine (account_id, received_at desc, id desc);
create index on quarantine using gin (words);

-- The full verdict record of a kept mail, once a transaction.
create table mail_records (
    received_at timestamptz not null,
    txn         text not null,
    record      bytea not null,                         -- zstd of the record's JSON
    primary key (received_at, txn)
) partition by range (received_at);

-- Tracking: every transaction's recipients, delivered ones included.
create table messages (
    received_at timestamptz not null,
    txn         text not null,
    n           smallint not null,
    domain      integer not null,
    account_id  text not null,
    sender      text not null,
    recipient   text not null,
    subject     text not null,
    message_id  text not null,
    outcome     text not null,
    reason      text not null,
    text        text not null,
    reply       text not null,
    score       real not null,
    node        text not null,
    client_ip   inet not null,
    helo        text not null,
    tls         text not null,
    size_bytes  integer not null,
    generation  bigint not null,
    revision    bigint not null,
    next_hop    text not null,
    judgements  bytea not null,                         -- zstd of JSON
    primary key (received_at, txn, n)
) partition by range (received_at);
create index on messages (domain, received_at desc, txn desc);
create index on messages (account_id, received_at desc, txn desc);

create table rollups (
    day     date not null,
    domain  integer not null,
    outcome text not null,
    reason  text not null,
    mails   bigint not null,
    bytes   bigint not null,
    primary key (day, domain, outcome, reason)
);

-- Mail kept for later delivery; its body lies in a pack like any other.
create table later (
    id              text primary key,                   -- txn || '.' || n
    txn             text not null,
    received_at     timestamptz not null,
    domain          integer not null,
    account_id      text not null,
    sender          text not null,
    recipient       text not null,
    pack            text not null,
    pack_offset     bigint not null,
    pack_bytes      integer not null,
    record          bytea not null,
    attempts        integer not null default 0,
    next_attempt_at timestamptz not null default now(),
    last_reply      text not null default '',
    state           text not null default 'waiting' check (state in ('waiting', 'running', 'done', 'cancelled', 'expired'))
);
create index on later (next_attempt_at) where state = 'waiting';
create index on later (txn);

create table jobs (
    id          text primary key,                       -- ULID
    account_id  text not null,
    act         text not null check (act in ('release')),
    item        text not null,                          -- quarantine id
    options     jsonb not null default '{}',
    state       text not null default 'queued' check (state in ('queued', 'running', 'done', 'failed', 'unknown')),
    outcome     text not null default '',
    dot_sent    boolean not null default false,         -- committed before the final dot goes out
    created_by  text not null,
    created_at  timestamptz not null default now(),
    started_at  timestamptz,
    ended_at    timestamptz
);
create unique index jobs_one_open on jobs (item, act) where state in ('queued', 'running');
create index on jobs (state, created_at);
create index on jobs (item, id desc);

create table packs (
    name       text primary key,
    day        date not null,
    class      text not null,
    bytes      bigint not null,
    mails      integer not null,
    created_at timestamptz not null default now()
);

-- What was stored, as position ranges per stream, apart from the rows: a deleted mail never returns.
create table stored_ranges (
    node   text not null,
    epoch  text not null,
    ranges int8multirange not null default '{}',
    primary key (node, epoch)
);

-- Records that could not be stored, as they came, for the operator; node.epoch.position is the id.
create table poison (
    id          text primary key,
    node        text not null,
    at          timestamptz not null default now(),
    error       text not null,
    record      bytea not null,
    pack        text not null,                          -- its body; '' when it has none or it was lost
    pack_offset bigint not null,
    pack_bytes  integer not null
);

-- Makes the partitions of one day (UTC) where they are missing; harmless again. Made apart and then attached, which
-- leaves readers and writers of the parent at work; CREATE TABLE … PARTITION OF would lock them all out.
create function make_partitions(day date) returns void language plpgsql set lock_timeout = '5s' as $$
declare
    parent text;
    part   text;
begin
    perform pg_advisory_xact_lock(hashtextextended('partitions', 0));
    foreach parent in array array['quarantine', 'mail_records', 'messages'] loop
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

-- The days around this one; the receiver keeps them ahead from here on.
select make_partitions((now() at time zone 'utc')::date + ahead) from generate_series(-1, 3) as ahead;

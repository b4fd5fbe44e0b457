-- The quarantine's acts: a bin, holds, undo, acts over a whole search, and what leaves with a domain.

-- deleted_at: since when it lies in the bin; hold: neither deleted nor expired until it is taken off.
alter table quarantine add column deleted_at timestamptz, add column hold boolean not null default false;
create index on quarantine (deleted_at) where deleted_at is not null;

-- A release starts at not_before, until then it can be taken back; recipient is another address than the item's own.
alter table jobs add column not_before timestamptz not null default now(),
    add column recipient text not null default '',
    add column bulk text,
    drop constraint jobs_state_check,
    add constraint jobs_state_check check (state in ('queued', 'running', 'done', 'failed', 'unknown', 'cancelled'));
drop index jobs_one_open;
create unique index jobs_one_open on jobs (item, act, recipient) where state in ('queued', 'running');
create index on jobs (bulk) where bulk is not null;

-- What was done with one item, and what has to be known to take it back.
create table acts (
    id         text primary key,                       -- ULID
    item       text not null,
    account_id text not null,                          -- the item's
    act        text not null check (act in ('release', 'delete', 'block')),
    author     text not null,
    door       text not null,
    at         timestamptz not null default clock_timestamp(),
    detail     jsonb not null default '{}',            -- job, entry (id), displaced (the entry that it took the place of)
    undone_at  timestamptz,
    undone_by  text
);
create index on acts (item, id desc);

-- One act over everything that a search finds, or over chosen items.
create table bulk_acts (
    id         text primary key,                       -- ULID
    account_id text,                                   -- whose items; null: the operator's, of all accounts
    author     text not null,
    role       text not null,
    door       text not null,
    act        text not null check (act in ('release', 'delete', 'restore', 'export')),
    query      jsonb not null default '{}',
    options    jsonb not null default '{}',
    state      text not null default 'listing'
        check (state in ('listing', 'running', 'done', 'cancelled', 'undoing', 'undone', 'failed')),
    cursor     text not null default '',               -- while listing: the page that comes next
    listed     boolean not null default false,         -- whether all that the search finds is in bulk_act_items
    not_before timestamptz not null default now(),
    error      text not null default '',
    created_at timestamptz not null default now(),
    ended_at   timestamptz
);
create index on bulk_acts (id) where state in ('listing', 'running', 'undoing');

create table bulk_act_items (
    bulk        text not null references bulk_acts on delete cascade,
    n           integer not null,                      -- from 1, newest mail first
    item        text not null,
    received_at timestamptz not null,
    outcome     text not null default 'waiting'
        check (outcome in ('waiting', 'queued', 'done', 'same', 'failed', 'cancelled', 'undone')),
    reason      text not null default '',
    primary key (bulk, n),
    unique (bulk, item)
);
create index on bulk_act_items (bulk, outcome, n);

-- A domain whose mail is neither deleted nor expired.
create table legal_holds (
    domain     text primary key,
    account_id text not null,
    number     integer not null,                       -- domains.number, kept when the domain itself goes
    note       text not null default '',
    created_by text not null,
    created_at timestamptz not null default now()
);

-- Mail that has to go at once: of a domain that was deleted, or of one mailbox.
create table leaving (
    id         text primary key,                       -- ULID
    account_id text not null,
    domain     integer not null,                       -- domains.number
    recipient  text not null default '',               -- lower case; '' for every recipient
    created_by text not null,
    created_at timestamptz not null default now(),
    removed    bigint not null default 0,
    done_at    timestamptz
);
create index on leaving (id) where done_at is null;

alter table accounts add column quota_bytes bigint check (quota_bytes > 0);

-- Bulk changes: one merge patch into many domains' settings, written in small transactions that yield to others.

create table bulk_changes (
    id         text primary key,                       -- ULID
    account_id text,                                   -- who may see it; null: the operator's
    author     text not null,
    role       text not null,
    door       text not null check (door in ('panel', 'api', 'cli')),
    patch      jsonb not null,
    state      text not null default 'running' check (state in ('running', 'done', 'stopped')),
    generation bigint not null default 0,              -- with revision: the last one it wrote
    revision   bigint not null default 0,
    created_at timestamptz not null default now(),
    ended_at   timestamptz
);
create index on bulk_changes (created_at) where state = 'running';

create table bulk_items (
    bulk       text not null references bulk_changes on delete cascade,
    domain     text not null,
    outcome    text not null default 'waiting' check (outcome in ('waiting', 'changed', 'same', 'failed')),
    reason     text not null default '',
    primary key (bulk, domain)
);
create index on bulk_items (bulk, domain) where outcome = 'waiting';

-- Accounts, people, settings with history and outbox, the fleet.

create table accounts (
    id         text primary key,                       -- ULID
    name       text not null,
    created_at timestamptz not null default now()
);

create table users (
    id         text primary key,
    account_id text not null references accounts on delete cascade,
    email      text not null unique check (email = lower(email)),
    password   text not null,                          -- argon2id
    role       text not null check (role in ('owner', 'admin', 'operator')),
    created_at timestamptz not null default now()
);

create table sessions (
    token_hash bytea primary key,                      -- sha256 of the cookie
    user_id    text not null references users on delete cascade,
    csrf       text not null,
    created_at timestamptz not null default now(),
    seen_at    timestamptz not null default now(),
    client_ip  inet,
    user_agent text not null default ''
);

create table api_tokens (
    id         text primary key,
    token_hash bytea not null unique,
    account_id text references accounts on delete cascade,  -- null: the operator's, sees all
    name       text not null,
    created_at timestamptz not null default now(),
    used_at    timestamptz
);

create table domains (
    name       text primary key check (name = lower(name)), -- A-label form
    account_id text not null references accounts on delete cascade,
    number     integer generated always as identity unique, -- short key of partitioned tables
    next_hops  jsonb not null,
    created_at timestamptz not null default now()
);
create index on domains (account_id, name);

-- One row a layer: scope 'system' (name ''), 'account' (account id), 'domain' (domain name).
create table layers (
    scope    text not null check (scope in ('system', 'account', 'domain')),
    name     text not null,
    settings jsonb not null default '{}',
    locks    jsonb not null default '[]',
    entries  jsonb not null default '{}',               -- shards of the allow and deny entries
    recipients jsonb,                                   -- shards of the listed recipients; null: any local part is taken
    revision bigint not null,
    hash     text not null,                             -- digest of the canonical bytes at this revision
    primary key (scope, name)
);

create table entries (
    id                 text primary key,
    scope              text not null check (scope in ('system', 'account', 'domain')),
    name               text not null,
    kind               text not null check (kind in ('allow', 'deny')),
    match              text not null,
    expires            timestamptz,
    authenticated_only boolean not null default false,
    note               text not null default '',
    created_at         timestamptz not null default now(),
    unique (scope, name, match)                         -- one answer a sender: readers find an entry by its match
);

create table recipients (
    domain     text not null references domains on delete cascade,
    local_part text not null,
    settings   jsonb not null default '{}',
    primary key (domain, local_part)
);

-- The row whose lock orders revisions: held to commit, so commit order is revision order.
create table revision_counter (
    only_row   boolean primary key default true check (only_row),
    generation bigint not null default 1,
    revision   bigint not null default 0
);
insert into revision_counter default values;

create table history (
    revision bigint primary key,
    scope    text not null,
    name     text not null,
    account_id text not null default '',                -- who owned it then: a domain's next owner sees none of it
    at       timestamptz not null default clock_timestamp(),
    author   text not null,
    door     text not null check (door in ('panel', 'api', 'cli', 'mail', 'system')),
    act      text not null,
    before   jsonb,                                     -- what the act changed, as it was and as it is
    after    jsonb,
    hash     text not null default ''                   -- digest of the layer's canonical bytes from here on; '' once deleted
);
create index on history (scope, name, hash);
create index on history (scope, name, revision desc);

-- What the publisher puts into etcd, in order of revision. A null value deletes the key.
create table outbox (
    revision     bigint not null,
    position     smallint not null default 0,
    key          text not null,
    value        bytea,
    bulk         boolean not null default false,
    committed_at timestamptz not null default clock_timestamp(),
    primary key (revision, position)
);

create table shards (
    hash       text primary key,
    body       bytea not null,
    created_at timestamptz not null default now()
);

create table nodes (
    name       text primary key,
    state      text not null default 'joined' check (state in ('joined', 'draining', 'drained')),
    spool_host text not null,
    spool_port integer not null,
    smtp_host  text not null,
    smtp_port  integer not null,
    scrape     jsonb not null default '{}',             -- process -> metrics URL
    cert_serial text not null default '',
    joined_at  timestamptz not null default now()
);

create table join_tokens (
    token_hash bytea primary key,
    expires_at timestamptz not null,
    used_at    timestamptz,
    created_by text not null
);

create table audit (
    at         timestamptz not null default clock_timestamp(),
    account_id text,
    author     text not null,
    door       text not null,
    act        text not null,
    object     text not null,
    detail     jsonb not null default '{}'
);
create index on audit (account_id, at desc);
create index on audit (object, at desc);

-- Which rows came from which position of a stream: a node may take a record back whose sender it told to come again.
-- Kept for a day; a node says so within seconds, or when it is connected again.

create table placed (
    node        text not null,
    epoch       text not null,
    position    bigint not null,
    n           smallint not null,                      -- the recipient in its transaction
    txn         text not null,
    received_at timestamptz not null,
    at          timestamptz not null default now(),
    primary key (node, epoch, position, n)
);
create index on placed using brin (at);

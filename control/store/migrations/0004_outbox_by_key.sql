-- The last value of a key, which the publisher reads with every change and the compare for all keys.

create index on outbox (key, revision desc, position desc);

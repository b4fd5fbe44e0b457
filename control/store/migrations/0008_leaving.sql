-- When it was last looked whether the rest of a mail that has to go is still on hold.
alter table leaving add column looked_at timestamptz;

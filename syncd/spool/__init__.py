"""The replicated spool: refused mail is on two disks before the sender is told."""

"""Metrics of follow, spool and publisher."""

from prometheus_client import Counter, Gauge, Histogram

from monitoring.metrics import FAST_S, at_zero

FOLLOW_STATES = ("unsynced", "loading", "live", "stale")

follow_revision = Gauge("syncd_follow_revision", "Last settings revision applied to the last-known-good store.")
follow_generation = Gauge("syncd_follow_generation", "Generation of that revision.")
follow_state = Gauge("syncd_follow_state", "1 for the state follow is in, 0 for the others.", ["state"])
follow_heard_seconds = Gauge("syncd_follow_heard_seconds", "Seconds since etcd was last heard.")
follow_unreadable = Gauge("syncd_follow_unreadable", "Values this node's declarations could not read.")
follow_digest_agrees = Gauge("syncd_follow_digest_agrees", "1 when our digest equals the published one.")
follow_reloads = Counter("syncd_follow_reloads_total", "Full loads by cause.", ["cause"])
at_zero(follow_reloads, ("first", "cluster", "back", "compacted", "digest", "unreadable", "ahead"))
follow_in_rotation = Gauge("syncd_follow_in_rotation", "1 while this node takes new sessions.")
follow_in_rotation.set(1)
follow_last_in_rotation = Gauge(
    "syncd_follow_last_in_rotation", "1 while this node should leave rotation and is the last one in it."
)
follow_rotations = Counter("syncd_follow_rotations_total", "Times this node left rotation, and came back.", ["act"])
at_zero(follow_rotations, ("left", "returned"))
follow_ignored = Counter("syncd_follow_ignored_total", "Keys that changed in etcd without a publisher.")
follow_events = Counter("syncd_follow_events_total", "Keys changed by watch events.")

publish_revision = Gauge("syncd_publish_revision", "Last revision this publisher put into etcd.")
publish_lag = Gauge("syncd_publish_lag", "Outbox rows that etcd does not hold yet.")
publish_seconds = Histogram(
    "syncd_publish_seconds", "Commit in PostgreSQL to acknowledged by etcd.", ["lane"], buckets=FAST_S
)
at_zero(publish_seconds, ("interactive", "bulk"))
publish_stopped = Gauge(
    "syncd_publish_stopped", "1 while PostgreSQL is not the database that was published: was it restored?"
)
publish_repairs = Counter("syncd_publish_repairs_total", "Keys repaired by the periodic compare.")

spool_records = Gauge("syncd_spool_records", "Unreleased records of this node's own stream.")
spool_bytes = Gauge("syncd_spool_bytes", "Bytes of unreleased records of this node's own stream.")
spool_oldest_seconds = Gauge("syncd_spool_oldest_seconds", "Age of the oldest unreleased record.")
spool_unreplicated_bytes = Gauge("syncd_spool_unreplicated_bytes", "Bytes of mail that only this node holds.")
spool_held_foreign = Gauge("syncd_spool_held_records", "Records held for peers.")
spool_set_aside = Gauge("syncd_spool_set_aside", "Damaged records set aside.")
spool_disk_free_bytes = Gauge("syncd_spool_disk_free_bytes", "Free bytes where the journal lies.")
spool_submitted = Counter("syncd_spool_submitted_total", "Records by kind and answer.", ["kind", "answer"])
at_zero(spool_submitted, ("kept", "later", "event"), ("secured", "not_secured", "journalled"))
spool_conflicts = Counter("syncd_spool_conflicts_total", "Known positions that came with another id: two writers.")
spool_alone = Counter("syncd_spool_alone_total", "Records answered as secured with one copy, as configured.")
spool_taken_over = Counter("syncd_spool_taken_over_total", "Records of a lost peer that the quarantine has from us.")
spool_held_seconds = Histogram("syncd_spool_held_seconds", "Submit to second copy held.", buckets=FAST_S)
spool_stored_seconds = Histogram("syncd_spool_stored_seconds", "Submit to stored in the quarantine.", buckets=FAST_S)
spool_fsync_seconds = Histogram("syncd_spool_fsync_seconds", "One group commit.", buckets=FAST_S)
spool_fsync_records = Histogram(
    "syncd_spool_fsync_records", "Records per group commit.", buckets=(1, 2, 4, 8, 16, 32, 64, 128)
)
ledger_opened = Counter("syncd_ledger_opened_total", "Recipients of transactions workers reported as begun.")
ledger_closed = Counter("syncd_ledger_closed_total", "Recipients of transactions workers reported as ended.")
ledger_unknown = Counter("syncd_ledger_unknown_total", "Recipients in flight in workers that died.")

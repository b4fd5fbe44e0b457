"""Metrics of panel, receiver and janitor."""

from prometheus_client import Counter, Gauge, Histogram

from monitoring.metrics import FAST_S, at_zero

http_requests = Counter(
    "control_http_requests_total", "HTTP requests by door and status class.", ["door", "status_class"]
)
at_zero(http_requests, ("panel", "api", "internal"), ("2xx", "3xx", "4xx", "5xx"))
http_seconds = Histogram("control_http_seconds", "Time to answer an HTTP request.", ["door"], buckets=FAST_S)
settings_changes = Counter("control_settings_changes_total", "Settings revisions written, by door.", ["door"])
at_zero(settings_changes, ("panel", "api", "cli", "mail"))
propagation_seconds = Histogram(
    "control_propagation_seconds", "Commit of a settings change to the report of the last member.", buckets=FAST_S
)
receipt_age_seconds = Gauge("control_receipt_age_seconds", "Age of a member's last receipt.", ["node"])
receipts_unreadable = Counter("control_receipts_unreadable_total", "Receipts or META values that could not be read.")
members = Gauge("control_members", "Member nodes by state.", ["state"])

receiver_records = Counter("control_receiver_records_total", "Records received by kind.", ["kind"])
at_zero(receiver_records, ("kept", "later", "event"))
receiver_stored = Counter("control_receiver_stored_total", "Records packed and committed.")
receiver_backlog = Gauge("control_receiver_backlog", "Records held but not yet stored.")
receiver_poison = Counter("control_receiver_poison_total", "Records set aside because they could not be stored.")
ingest_seconds = Histogram("control_ingest_seconds", "One ingest batch, pack and rows.", buckets=FAST_S)
packs_open_bytes = Gauge("control_packs_open_bytes", "Bytes of packs that the object store does not hold yet.")
bodies_lag = Gauge("control_bodies_lag_seconds", "Age of the oldest kept mail whose body is not in the search index.")
bodies_indexed = Counter("control_bodies_indexed_total", "Kept mails whose bodies were put into the search index.")
bodies_unread = Counter("control_bodies_unread_total", "Bodies that broke the reader's bounds; found by header alone.")
bodies_lost = Counter("control_bodies_lost_total", "Bodies that were damaged before they reached a pack.")

jobs = Counter("control_jobs_total", "Jobs that ended, by act and state.", ["act", "state"])
at_zero(jobs, ("release", "deliver"), ("done", "failed", "unknown"))
jobs_waiting = Gauge("control_jobs_waiting", "Jobs queued or running.")
later_waiting = Gauge("control_later_waiting", "Mails kept for later delivery.")

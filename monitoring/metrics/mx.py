"""Metrics of an MX worker."""

from prometheus_client import Counter, Gauge, Histogram

from monitoring.metrics import FAST_S, at_zero

OUTCOMES = ("delivered", "kept", "later", "refused", "deferred", "abandoned")
"""Where a recipient that was answered 250 at RCPT can end (promise 1); `unknown` is the spool's to count."""

ledger_entered = Counter("mx_ledger_entered_total", "Recipients answered 250 at RCPT.")
ledger_recipients = Counter(
    "mx_ledger_recipients_total", "Recipients that reached their one final outcome.", ["outcome"]
)
at_zero(ledger_recipients, OUTCOMES)
ledger_in_flight = Gauge("mx_ledger_in_flight", "Recipients answered 250 at RCPT whose transaction is still open.")
ledger_drift = Gauge("mx_ledger_drift", "Entered minus outcomes minus in flight; must be 0.")

connections = Counter("mx_smtp_connections_total", "SMTP connections by how they began.", ["result"])
at_zero(connections, ("accepted", "refused"))
replies = Counter("mx_smtp_replies_total", "Replies to SMTP commands by class.", ["code_class"])
at_zero(replies, ("2xx", "3xx", "4xx", "5xx"))
session_errors = Counter("mx_session_errors_total", "Exceptions in a session outside any filter, answered 451.")
reply_seconds = Histogram("mx_reply_seconds", "From the final dot to our reply.", buckets=FAST_S)
secure_seconds = Histogram("mx_secure_seconds", "From handing a copy to the spool to its answer.", buckets=FAST_S)
secure_failures = Counter("mx_secure_failures_total", "Copies that were not on two disks in time.")
events_dropped = Counter(
    "mx_events_dropped_total", "Events that the spool did not take in time; mail is never dropped."
)

verdicts = Counter("mx_filter_verdicts_total", "Verdicts by filter, mode and action.", ["filter", "mode", "action"])
filter_seconds = Histogram("mx_filter_seconds", "Time a filter's look took.", ["filter"], buckets=FAST_S)
filter_unsure = Counter("mx_filter_unsure_total", "Looks or judgements that failed or timed out.", ["filter"])

cache_requests = Counter("mx_cache_requests_total", "Policy reads by the tier that answered.", ["tier", "result"])
at_zero(cache_requests, ("memory",), ("hit", "miss"))
at_zero(cache_requests, ("memcached",), ("hit", "miss", "error", "junk"))
at_zero(cache_requests, ("lastgood",), ("hit", "error"))
settings_revision = Gauge("mx_settings_revision", "Settings revision this worker judges by.")
settings_age_seconds = Gauge("mx_settings_age_seconds", "Seconds since follow last heard from etcd.")

relay_attempts = Counter("mx_relay_attempts_total", "Relay transactions by the class of their last reply.", ["result"])
at_zero(relay_attempts, ("2xx", "4xx", "5xx", "no_answer"))
relay_seconds = Histogram("mx_relay_seconds", "Time of one relay transaction.", buckets=FAST_S)
relay_connections = Counter(
    "mx_relay_connections_total", "Connections to next hops: opened, reused, found stale, waited for.", ["how"]
)
at_zero(relay_connections, ("opened", "reused", "stale", "waited"))
dns_queries = Counter("mx_dns_queries_total", "DNS look-ups by result.", ["result"])
at_zero(dns_queries, ("cache", "answer", "absent", "timeout", "breaker", "error"))

parser_messages = Counter("mx_parser_messages_total", "Messages taken apart for the filters, by result.", ["result"])
at_zero(parser_messages, ("parsed", "limits", "late", "broken", "busy"))
parser_seconds = Histogram("mx_parser_seconds", "Time to take a message apart, once it had its turn.", buckets=FAST_S)
parser_children = Gauge("mx_parser_children", "Processes of this worker that take messages apart.")

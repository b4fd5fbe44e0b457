"""Metrics of every process of ours."""

from prometheus_client import Counter

log_lines_lost = Counter(
    "monitoring_log_lines_lost_total", "Log lines that could not be written: the disk is full, or the pipe is gone."
)

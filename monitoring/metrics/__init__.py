"""Every metric of the fleet, declared once: name, help text, labels from closed sets.

One module per prefix: `mx`, `syncd`, `control`, and `monitoring` for what all have. A process imports only
the modules of the package it runs, so that a node does not export the control plane's zeros. Counters with
labels are created at 0 for each member of their closed set by `at_zero`.
"""

from collections.abc import Iterable
from itertools import product

from prometheus_client import Counter, Histogram

FAST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
"""Histogram buckets in seconds for anything a sender or a customer waits for."""


def at_zero(metric: Counter | Histogram, *label_sets: Iterable[str]) -> None:
    """Make every combination of `label_sets` exist at 0, so that `rate()` sees the first event."""
    for labels in product(*label_sets):
        metric.labels(*labels)

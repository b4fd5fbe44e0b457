"""Faults of the settings' way under 20 changes a second, every part real. FAULTS=long: as often as in a long run."""

import os

LONG = os.environ.get("FAULTS") == "long"


def times(short: int, long: int) -> int:
    """How often, in this form of the run."""
    return long if LONG else short

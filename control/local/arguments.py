"""The command line that all programs of a local cluster share: `--var DIR --port-base N`."""

import argparse
from pathlib import Path

from control.local.layout import Layout


def layout(description: str | None) -> Layout:
    """The cluster named on this process's command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--var", type=Path, required=True, help="directory of the cluster")
    parser.add_argument("--port-base", type=int, required=True, help="its first port")
    given = parser.parse_args()
    return Layout(given.var.absolute(), given.port_base)

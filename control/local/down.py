"""`make down` and `make clean`: end the cluster of this VAR; `--clean` also removes all it has written."""

import argparse
import shutil
import sys
import time
from pathlib import Path

from control.local import show
from control.local.layout import Layout, Unusable
from control.local.supervise import Supervisor
from control.local.up import GROUP


def main() -> int:
    """End it; 0 also when nothing ran."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clean", action="store_true", help="remove its files too")
    given = parser.parse_args()
    try:
        layout = Layout.from_environment()
        down(layout)
        if given.clean:
            clean(layout)
    except Unusable as error:
        show.failed("make clean" if given.clean else "make down", error)
        return 1
    return 0


def down(layout: Layout) -> None:
    """Stop nodes first, then the rest, then the supervisor: what is refused meanwhile still finds its quarantine."""
    began = time.monotonic()
    supervisor = Supervisor(layout)
    if not supervisor.runs():
        ended = supervisor.clear()
        show.note(ended[0] if ended and "ended" in ended[0] else f"no cluster runs in {layout.var}")
        return
    groups = {str(info["group"]) for info in supervisor.processes().values()} - {"roster"}
    for group in sorted(groups, key=lambda group: group == GROUP):
        supervisor.stop_group(group)
    supervisor.shut_down()
    show.done("stopped", began)


def clean(layout: Layout) -> None:
    """Remove everything that the cluster has written. Raises Unusable for a directory that holds no cluster of ours."""
    if not layout.var.exists():
        return
    if not (layout.var / "supervisor").exists():
        raise Unusable(f"{layout.var} holds no cluster: not removed")
    for path in {layout.var, layout.run, layout.postgres_data}:
        _remove(path)
    show.note(f"removed {layout.var}")


def _remove(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)


if __name__ == "__main__":
    sys.exit(main())

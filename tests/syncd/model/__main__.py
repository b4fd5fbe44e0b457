"""`make model-sync STEPS=200000`: the long form; what happened and how it ended goes to var/model-sync.json."""

import argparse
import datetime
import json
import os
import subprocess
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from tests.syncd.model import quiet
from tests.syncd.model.runs import run

RUN = 20_000
"""Steps with one seed; then the next one."""
ROOT = Path(__file__).parents[3]


def main() -> int:
    """Run, report, write the file; 1 when something that has to hold did not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    quiet()
    report = _run(arguments.seed, arguments.steps)
    path = Path(os.environ.get("VAR") or ROOT / "var") / "model-sync.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    return 0 if report["result"] == "holds" else 1


def _run(seed: int, steps: int) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    began, done, result = time.monotonic(), 0, "holds"
    while done < steps:
        try:
            counts += run(seed, min(RUN, steps - done))
        except AssertionError:
            result = f"broken with seed {seed}:\n{traceback.format_exc()}"
            break
        done, seed = done + min(RUN, steps - done), seed + 1
        print(f"{done} of {steps} steps", file=sys.stderr)
    return {
        "tree": _tree(),
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "last_seed": seed,
        "steps": done,
        "seconds": round(time.monotonic() - began, 1),
        "counts": dict(counts.most_common()),
        "result": result,
    }


def _tree() -> str:
    """The hash of the tree that was tested, "+" behind it when the work tree differs."""
    tree, changed = _git("rev-parse", "HEAD^{tree}"), _git("status", "--porcelain", "--", "syncd", "control", "tests")
    return f"{tree}{'+' if changed else ''}" if tree else "not a git checkout"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())

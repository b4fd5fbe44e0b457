"""`python -m tests.syncd.spool.model`: the long form. Resumable: seeds that ran for this tree are not run again.

Writes one line a piece of seeds to `var-spool-model/<tree>.jsonl`: seeds, steps, what happened, what broke. Ends when
both --steps and --seeds are reached; exit status 1 when a promise was broken.
"""

import argparse
import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tests.drill.__main__ import tree_hash
from tests.syncd.spool.model.running import PIECE, piece


def main() -> int:
    """Run what is missing; 0 when every promise held."""
    parser = argparse.ArgumentParser(prog="python -m tests.syncd.spool.model", description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seeds", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--results", type=Path, default=Path("var-spool-model"))
    given = parser.parse_args()
    given.results.mkdir(exist_ok=True)
    path = given.results / f"{tree_hash()}.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {row["first"] for row in rows}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(given.processes, context, max_tasks_per_child=1) as pool:
        missing = [first for first in range(0, given.seeds, PIECE) if first not in done]
        for done_one in as_completed([pool.submit(piece, first) for first in missing]):
            rows.append(done_one.result())
            with path.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            _say(rows)
    first = given.seeds
    while sum(row["steps"] for row in rows) < given.steps:
        rows.append(piece(first))
        first += PIECE
    _say(rows, end="\n")
    broken = [words for row in rows for words in row["broken"]]
    print("\n".join(broken) or f"no promise was broken ({path})")
    return 1 if broken else 0


def _say(rows: list[dict[str, Any]], end: str = "\r") -> None:
    seeds, steps = sum(row["seeds"] for row in rows), sum(row["steps"] for row in rows)
    print(f"{seeds} seeds, {steps} steps, {sum(len(row['broken']) for row in rows)} broken", end=end, flush=True)


if __name__ == "__main__":
    sys.exit(main())

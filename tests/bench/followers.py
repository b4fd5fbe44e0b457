"""`python -m tests.bench.followers --count 25 --first 0 --etcd host:port --directory dir`: many nodes in one process.

For the bench of 10 and 50 nodes on one machine: real followers, each with a store of its own, without workers.
"""

import argparse
import asyncio
from contextlib import ExitStack
from pathlib import Path

import uvloop

from monitoring import log
from mx.follow import readable
from syncd import config
from syncd.follow import Follower
from syncd.lastgood import Writer
from syncd.memcache import Memcache
from syncd.warm import Warmer


def main() -> None:
    """Follow until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--first", type=int, required=True)
    parser.add_argument("--etcd", required=True)
    parser.add_argument("--directory", type=Path, required=True)
    arguments = parser.parse_args()
    log.configure("followers")
    uvloop.run(_follow(arguments.count, arguments.first, arguments.etcd, arguments.directory))


async def _follow(count: int, first: int, etcd: str, directory: Path) -> None:
    place = config.Etcd(endpoints=(etcd,))
    with ExitStack() as stores:
        async with asyncio.TaskGroup() as tasks:
            for number in range(first, first + count):
                name = f"mx{number + 1}"
                store = stores.enter_context(Writer(directory / name))
                warmer = Warmer(Memcache(str(directory / "no-memcached")))
                tasks.create_task(Follower(name, place, store, readable, warmer).run())


if __name__ == "__main__":
    main()

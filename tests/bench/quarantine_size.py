"""Bytes a kept mail takes: its pack part on spam that the dictionary was not trained on, its rows and their indexes."""

import asyncio
import gzip
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg

from control.quarantine import dictionary
from control.quarantine.frames import Press
from tests.bench.quarantine_mails import read
from tests.bench.quarantine_store import Plan, packs_of

_TABLES = (
    "select sum(pg_relation_size(c.oid)) as heap, sum(pg_indexes_size(c.oid)) as indexes,"
    " sum(pg_table_size(c.oid) - pg_relation_size(c.oid)) as beside, sum(c.reltuples)::float8 as rows"
    " from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = to_regclass($1) and c.reltuples > 0"
)
_INDEXES = (
    "select case when n.relname like '%pieces%' then 'pieces' when n.relname like '%words%' then 'words'"
    " else 'domain, account, id' end as name, sum(pg_relation_size(n.oid)) as bytes"
    " from pg_inherits i join pg_index x on x.indrelid = i.inhrelid join pg_class n on n.oid = x.indexrelid"
    " where i.inhparent = 'quarantine'::regclass group by 1 order by 1"
)


def train(plan: Plan, directory: Path) -> None:
    """Have a dictionary, made of every second mail of the corpus."""
    place = packs_of(directory)
    if not asyncio.run(place.newest_number()):
        asyncio.run(dictionary.store(place, _mails(plan)[::2]))


def table(plan: Plan, directory: Path) -> Iterator[str]:
    """Bytes, as Markdown."""
    yield from _packed(plan, directory)
    yield from asyncio.run(_rows(plan))


def _packed(plan: Plan, directory: Path) -> Iterator[str]:
    unseen = _mails(plan)[1::2]
    raw = sum(map(len, unseen))
    pressed = {
        "zstd with the dictionary, entry and all (the pack part)": Press(
            asyncio.run(packs_of(directory).newest_dictionary())
        ),
        "zstd without one, entry and all": Press(),
    }
    yield f"\n| {len(unseen)} spams the dictionary was not trained on | bytes a mail | of raw | CPU µs a mail |"
    yield "|---|---|---|---|"
    yield f"| raw | {raw / len(unseen):,.0f} | 100 % | |"
    for name, size, cost_us in (
        ("gzip -6 a mail", *_timed(lambda: sum(len(gzip.compress(mail, 6)) for mail in unseen), len(unseen))),
        *(
            (name, *_timed(lambda press=press: sum(len(press.entry("0" * 26, mail)) for mail in unseen), len(unseen)))
            for name, press in pressed.items()
        ),
    ):
        yield f"| {name} | {size / len(unseen):,.0f} | {size / raw:.1%} | {cost_us:,.0f} |"


async def _rows(plan: Plan) -> list[str]:
    connection = await asyncpg.connect(plan.dsn)
    lines = ["\n| table | rows | heap B/row | TOAST and maps B/row | indexes B/row |", "|---|---|---|---|---|"]
    try:
        for name in ("quarantine", "mail_records", "messages", "body_words"):
            await connection.execute(f"analyze {name}", timeout=600)
            found = await connection.fetchrow(_TABLES, name)
            if found["rows"]:
                each = [float(found[part]) / found["rows"] for part in ("heap", "beside", "indexes")]
                lines.append(f"| {name} | {found['rows']:,.0f} | " + " | ".join(f"{part:,.0f}" for part in each) + " |")
        whole = float((await connection.fetchrow(_TABLES, "quarantine"))["rows"]) or 1
        sizes = [f"{row['name']} {float(row['bytes']) / whole:,.0f}" for row in await connection.fetch(_INDEXES)]
        lines.append(f"\nIndexes of `quarantine`, bytes a row: {', '.join(sizes)}.")
    finally:
        await connection.close()
    return lines


def _timed(work: Callable[[], int], mails: int) -> tuple[int, float]:
    begun = time.process_time()
    size = work()
    return size, (time.process_time() - begun) / mails * 1e6


def _mails(plan: Plan) -> list[bytes]:
    return [text.encode("latin-1") for text in read(plan.corpus)]

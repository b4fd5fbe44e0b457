"""`mxctl spool`: looks into a journal on the host where it lies, without a service and without touching it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from control.cli.api import Trouble
from control.cli.show import result, table
from syncd.spool.messages import Item
from syncd.spool.survey import Segment, content, survey

app = typer.Typer(help="Journals of refused mail on this host: list, verify, export.", no_args_is_help=True)

RECORD = ("node", "epoch", "position", "kind", "id", "bytes", "sender", "recipients", "subject", "withdrawn")
SEGMENT = ("segment", "node", "epoch", "bytes", "records", "withdrawn", "damaged", "torn_bytes")
Journal = Annotated[Path, typer.Argument(help="journal_dir of a node or of the receiver, or a directory below it.")]


@app.command("list")
def list_(
    directory: Journal,
    records: Annotated[bool, typer.Option("--records", help="Every record, not every file.")] = False,
) -> None:
    """What lies in a journal; records that were released show until their file goes."""
    found = list(_survey(directory))
    if records:
        shown = [_told(each, *record) for each in found for record in each.records]
        result({"records": shown}, table(RECORD, ([row[name] for name in RECORD] for row in shown)))
        return
    segments = [_summary(each) for each in found]
    result({"segments": segments}, table(SEGMENT, ([row[name] for name in SEGMENT] for row in segments)))


@app.command()
def verify(directory: Journal) -> None:
    """Read every byte; exit status 1 when something that was written whole is not sound any more."""
    found = list(_survey(directory))
    aside = sorted(str(path) for path in directory.rglob("*.bad"))
    bad = [_summary(each) | {"places": each.damaged, "why": each.trouble} for each in found if not each.is_sound]
    answer = {
        "segments": len(found), "records": sum(len(each.records) for each in found), "unsound": bad, "set_aside": aside
    }  # fmt: skip
    lines = [f"{len(found)} segments, {answer['records']} sound records, {len(aside)} pieces were set aside before"]
    for each in bad:
        places = ", ".join(f"bytes {first} to {last}" for first, last in each["places"])
        lines.append(f"UNSOUND {each['segment']}: {each['why'] or places}")
    result(answer, lines)
    if bad:
        raise typer.Exit(1)


@app.command()
def export(
    directory: Journal,
    into: Annotated[Path, typer.Argument(help="A directory, made if it is not there.")],
    only: Annotated[str, typer.Option("--id", help="Records of this transaction alone.")] = "",
    withdrawn: Annotated[bool, typer.Option("--withdrawn", help="Also those whose senders were told 451.")] = False,
) -> None:
    """Write every mail as .eml beside its record as .json. Events, which have no mail, are left out."""
    taken_back = _withdrawn(directory)
    try:
        into.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = [
            _write(into, found, item, at)
            for found in _survey(directory)
            for item, at in found.records
            if item.body_bytes and (withdrawn or _place(found, item) not in taken_back) and only in ("", _id(item))
        ]
    except (OSError, ValueError) as error:
        raise Trouble(f"not exported: {error}", 5) from error
    result({"written": made}, [f"{len(made)} mails in {into}"])
    if only and not made:
        raise typer.Exit(1)


def _survey(directory: Path) -> Iterator[Segment]:
    try:
        yield from survey(directory)
    except OSError as error:
        raise Trouble(str(error), 2) from error


def _withdrawn(directory: Path) -> set[tuple[str, str, int]]:
    return {_where(found, number) for found in _survey(directory) for number in found.withdrawn}


def _place(found: Segment, item: Item) -> tuple[str, str, int]:
    return _where(found, item.number)


def _where(found: Segment, number: int) -> tuple[str, str, int]:
    assert found.stream
    return found.stream.node, found.stream.epoch, number


def _id(item: Item) -> str:
    """A record's id; what is no letter or digit in it is not believed, for it becomes a file's name."""
    return "".join(each for each in item.id.decode("ascii", "ignore") if each.isascii() and each.isalnum())


def _summary(found: Segment) -> dict[str, Any]:
    return {
        "segment": str(found.path),
        "node": found.stream.node if found.stream else "?",
        "epoch": found.stream.epoch if found.stream else "?",
        "bytes": found.size_bytes,
        "records": len(found.records),
        "withdrawn": len(found.withdrawn),
        "damaged": len(found.damaged),
        "torn_bytes": found.torn_bytes,
    }


def _told(found: Segment, item: Item, at: int) -> dict[str, Any]:
    """A record as it is shown; of one whose header cannot be read only what stands before it."""
    node, epoch, position = _place(found, item)
    record = _record(found, item, at)
    return {
        "node": node, "epoch": epoch, "position": position, "kind": item.kind.value, "id": _id(item), "at": item.at,
        "bytes": item.body_bytes, "sender": record.get("sender", ""), "subject": record.get("subject", ""),
        "recipients": [each.get("address", "") for each in record.get("recipients", ()) if isinstance(each, dict)],
        "withdrawn": position in found.withdrawn,
    }  # fmt: skip


def _record(found: Segment, item: Item, at: int) -> dict[str, Any]:
    try:
        record = msgspec.json.decode(content(found, item, at)[0])
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _write(into: Path, found: Segment, item: Item, at: int) -> str:
    """Write one mail and its record; returns the path of the mail. Raises OSError, ValueError."""
    header, body = content(found, item, at)
    _, epoch, position = _place(found, item)
    path = into / f"{epoch}-{position}-{_id(item)}.eml"
    for target, data in ((path, body), (path.with_suffix(".json"), header)):
        opened = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(opened, "wb") as file:
            file.write(data)
    return str(path)

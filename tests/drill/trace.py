"""Reads what strace saw: which records lay synced in whose journals when a reply went out. Pure.

Understands `strace -f -ttt -y -xx` of writes and syncs. A record counts for a host once an fdatasync that began after
its write has ended; a reply counts from the moment its write began.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

_CALL = re.compile(r'^(\d+) +[\d.]+ (\w+)\((\d+)<([^>]*)>(?:, (?:\[?\{.*?iov_base=)?"((?:\\x[0-9a-f]{2})*)")?')
_RESUMED = re.compile(r"^(\d+) +[\d.]+ <\.\.\. (\w+) resumed>")
_RESULT = re.compile(r"= (-?\d+)")
_ULID = rb"[0-9A-HJKMNP-TV-Z]{26}"
_RECORD = re.compile(rb"MXrc\x01.{11}(" + _ULID + rb")", re.DOTALL)
"""A record's prefix in a segment: magic, what, kind, padding, position, id (`syncd.spool.segment`)."""
_REPLY = re.compile(rb"^([25]\d\d) [^\r\n]*?(" + _ULID + rb")[^\r\n]*\r\n")
_SYNCS = ("fdatasync", "fsync")


@dataclass(frozen=True, slots=True)
class Spoken:
    """One reply that names a transaction, and the hosts in whose journals its record lay by then."""

    code: int
    id: str
    hosts: frozenset[str]


@dataclass(slots=True)
class _Call:
    name: str
    path: str
    ids: frozenset[str]


@dataclass(slots=True)
class _Seen:
    written: dict[str, set[str]] = field(default_factory=dict)
    """By segment: ids that are written and perhaps not synced."""
    safe: dict[str, set[str]] = field(default_factory=dict)
    """By id: hosts."""
    under_way: dict[str, _Call] = field(default_factory=dict)


def replies(lines: Iterable[str]) -> Iterator[Spoken]:
    """Every reply that names a transaction, in the order in which they were sent."""
    seen = _Seen()
    for line in lines:
        if hit := _RESUMED.match(line):
            if call := seen.under_way.pop(hit[1], None):
                _ended(seen, call, line)
            continue
        hit = _CALL.match(line)
        if hit is None:
            continue
        pid, name, _, path, payload = hit.groups()
        data = bytes.fromhex((payload or "").replace("\\x", ""))
        path = bytes.fromhex(path.replace("\\x", "")).decode(errors="replace") if path.startswith("\\x") else path
        if spoken := _REPLY.match(data):
            yield Spoken(int(spoken[1]), spoken[2].decode(), frozenset(seen.safe.get(spoken[2].decode(), ())))
        elif path.endswith(".seg"):
            call = _begun(seen, name, path, data)
            if "<unfinished" in line:
                seen.under_way[pid] = call
            else:
                _ended(seen, call, line)


def host_of(segment: str) -> str:
    """Whose journal a segment is in: the directory above `own` and `held`, or the receiver's."""
    for part in ("/own/", "/held/"):
        if part in segment:
            return segment.split(part)[0]
    return segment.rsplit("/", 3)[0]


def _begun(seen: _Seen, name: str, path: str, data: bytes) -> _Call:
    if name in _SYNCS:
        return _Call(name, path, frozenset(seen.written.get(path, ())))
    return _Call(name, path, frozenset(each.decode() for each in _RECORD.findall(data)))


def _ended(seen: _Seen, call: _Call, line: str) -> None:
    result = _RESULT.search(line, line.rfind(")"))
    if result is None or int(result[1]) < 0:
        return
    if call.name not in _SYNCS:
        seen.written.setdefault(call.path, set()).update(call.ids)
        return
    seen.written.get(call.path, set()).difference_update(call.ids)
    for each in call.ids:
        seen.safe.setdefault(each, set()).add(host_of(call.path))

"""What holds for every filter: any facts and any settings give a verdict, and no mail makes a look fail."""

import asyncio
import contextlib
import io
import re
import tarfile
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import inspect

from mx.checks import mime
from mx.filter import Action, Filter, Tools, Verdict
from mx.filters import ORDER, SettingsError, decode
from mx.judge import Judged, decide
from tests.mx.checks.zone import Zone
from tests.mx.filters.tables import NOW, Lists, seen
from tests.shared import shared_path

NAMES = [one.name for one in ORDER]
BY_NAME = {one.name: one for one in ORDER}


def values(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Values of a declared type, within its bounds as far as those are simple."""
    kind = kind.type if isinstance(kind, inspect.Metadata) else kind
    if isinstance(kind, inspect.LiteralType):
        return st.sampled_from(kind.values)
    if isinstance(kind, inspect.BoolType):
        return st.booleans()
    if isinstance(kind, inspect.IntType):
        return st.integers(kind.ge, kind.le)
    if isinstance(kind, inspect.FloatType):
        return st.floats(kind.ge, kind.le)
    if isinstance(kind, inspect.StrType):
        plain = st.text(min_size=1, max_size=10)
        return plain | st.from_regex(kind.pattern, fullmatch=True).map(str.strip) if kind.pattern else plain
    if isinstance(kind, inspect.VarTupleType):
        return st.lists(values(kind.item_type), max_size=3)
    assert isinstance(kind, inspect.StructType), kind
    return documents(kind.cls)


def documents(declared: type[msgspec.Struct]) -> st.SearchStrategy[dict[str, Any]]:
    """Documents of a declared section: any of its fields."""
    info = inspect.type_info(declared)
    assert isinstance(info, inspect.StructType)
    required = {each.name: values(each.type) for each in info.fields if each.required}
    return st.fixed_dictionaries(required, optional={e.name: values(e.type) for e in info.fields if not e.required})


def sessions() -> st.SearchStrategy[dict[str, Any]]:
    """What a client may have said."""
    word = st.text(max_size=30) | st.sampled_from(["mx1.mxfleet.test", "[192.0.2.7]", "example.test", "a@b.test", "<>"])
    return st.fixed_dictionaries(
        {
            "helo": word,
            "sender": st.just("") | word | word.map(lambda local: f"{local}@sender.test"),
            "recipient": word.map(lambda local: f"{local}@example.test"),
            "client_ip": st.ip_addresses().map(str),
            "talked_early": st.booleans(),
        }
    )


HEADER = st.sampled_from([b"From: ", b"Date: ", b"Subject: ", b"Received: by ", b"Delivered-To: ", b"Content-Type: "])
RAW = st.lists(st.tuples(HEADER, st.binary(max_size=30)), max_size=6).flatmap(
    lambda fields: st.binary(max_size=60).map(
        lambda body: b"".join(a + b + b"\r\n" for a, b in fields) + b"\r\n" + body
    )
)


class Everywhere(Zone):
    """Simulated DNS in which every name has the same records."""

    def __init__(self, records: list[Any]) -> None:
        super().__init__({})
        self._everywhere = records

    def _values(self, name: str, kind: str, aliases: int = 0) -> list[Any]:
        self._records[name.lower()] = self._everywhere
        return super()._values(name, kind, aliases)


DNS = st.sampled_from(
    [[], ["TIMEOUT"], [{"A": "127.0.0.2"}, {"TXT": "x"}], [{"A": "127.255.255.254"}], [{"TXT": "v=spf1 a -all"}]]
)


async def judged(filter_: Filter, typed: Any, session: dict[str, Any], raw: bytes, records: list[Any]) -> Verdict:
    """The verdict over facts that the filter's own look found."""

    async def facts_of(name: str) -> Any:
        return await BY_NAME[name].look(shown, decode({})[name], tools_)

    shown = seen(raw, **session)
    tools_ = Tools(Everywhere(records), Lists(), NOW, facts_of)
    return filter_.judge(await filter_.look(shown, typed, tools_), typed)


def typed_or_default(name: str, document: dict[str, Any]) -> Any:
    """Typed settings; what is beyond a bound that the strategies do not know is refused, and the defaults stand in."""
    with contextlib.suppress(SettingsError):
        return decode({name: document})[name]
    return decode({})[name]


@pytest.mark.parametrize("name", NAMES)
def test_any_session_and_any_settings_give_a_verdict(name: str) -> None:
    filter_ = BY_NAME[name]

    @settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
    @given(documents(filter_.settings), sessions(), RAW, DNS)
    def check(document: dict[str, Any], session: dict[str, Any], raw: bytes, records: list[Any]) -> None:
        typed = typed_or_default(name, document)
        verdict = asyncio.run(judged(filter_, typed, session, raw, records))
        assert isinstance(verdict.action, Action)
        assert 0 <= verdict.score < 10_000
        evidence = msgspec.json.encode(verdict.evidence)
        assert msgspec.json.decode(evidence) == verdict.evidence, "evidence is JSON"
        decided = decide([Judged(filter_, "on", verdict)], decode({})["scoring"])
        assert decided.judgements[0].reason == verdict.reason

    check()


@pytest.mark.parametrize("name", NAMES)
def test_every_filter_is_declared_whole(name: str) -> None:
    filter_ = BY_NAME[name]
    assert filter_.judge.__module__ == filter_.look.__module__ == f"mx.filters.{name}"
    assert filter_.question.endswith("?")
    info = inspect.type_info(filter_.settings)
    assert isinstance(info, inspect.StructType)
    for each in info.fields:
        assert isinstance(each.type, inspect.Metadata), each.name
        assert (each.type.extra or {}).get("label"), f"{each.name} has no label"
        assert (each.type.extra_json_schema or {}).get("description"), f"{each.name} has no description"
        bare = each.type.type
        if isinstance(bare, inspect.IntType | inspect.FloatType):
            assert bare.ge is not None, f"{each.name} has no lower bound"
            assert bare.le is not None, f"{each.name} has no upper bound"
        if isinstance(bare, inspect.StrType | inspect.VarTupleType):
            assert bare.max_length is not None, f"{each.name} has no upper bound"


def test_at_first_nothing_but_lists_and_loops_is_judged() -> None:
    typed = decode({})
    assert [name for name in NAMES if typed[name].mode == "on"] == ["sender_list", "loop"]


@pytest.mark.parametrize("tag", ["[x]\n", "[x]\r", "ä", "", "\x00"])
def test_a_tag_that_would_break_the_header_is_refused(tag: str) -> None:
    with pytest.raises(SettingsError, match=r"scoring\.tag"):
        decode({"scoring": {"tag": tag}})


def _corpus(name: str) -> list[bytes]:
    with tarfile.open(fileobj=io.BytesIO(shared_path(f"corpus/{name}.tar.xz").read_bytes())) as archive:
        files = [archive.extractfile(member) for member in archive.getmembers() if member.isfile()]
        return [re.sub(rb"\r?\n", b"\r\n", file.read()) for file in files if file]


EVERYTHING = {
    **{name: {"mode": "on"} for name in NAMES},
    "content": {"mode": "on", "words": ["viagra", "click here*"], "patterns": [r"\bmoney\b", r"[0-9]{4,} dollars"]},
    "dnsbl": {"mode": "on", "zones": [{"zone": "bl.test"}]},
    "helo": {"mode": "on", "unknown": "score"},
    "size": {"mode": "on", "max_bytes": 12_000},
}


@pytest.mark.shared
@pytest.mark.parametrize("name", ["ham", "spam"])
async def test_no_mail_of_the_corpus_makes_a_filter_fail(name: str) -> None:
    typed, acted = decode(EVERYTHING), set()
    for raw in _corpus(name):
        message = mime.parse(raw)
        for filter_ in ORDER:
            verdict = await judged(filter_, typed[filter_.name], {"message": message}, raw, [])
            assert verdict.action is not Action.UNSURE or message.unchecked, (filter_.name, verdict)
            acted |= {filter_.name} if verdict.action is not Action.PASS else set()
    assert {"size", "content"} <= acted

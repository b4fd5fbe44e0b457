"""The openspf test suite for RFC 7208, every case of it. Its DNS is simulated: a table per group."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from mx.checks import spf
from tests.mx.checks.zone import Zone
from tests.shared import SHARED, shared_path

SUITE = "vectors/spf/rfc7208-tests.yml"
CASES = 203
NO_EXPLANATION = "DEFAULT"


def _cases() -> Iterator[Any]:
    if not (SHARED / SUITE).exists():
        yield pytest.param({}, {}, id="absent")
        return
    for group in yaml.safe_load_all((SHARED / SUITE).read_text(encoding="utf-8")):
        for name, case in group["tests"].items():
            yield pytest.param(group["zonedata"], case, id=f"{group['description']}-{name}")


def test_the_suite_is_whole() -> None:
    groups = yaml.safe_load_all(shared_path(SUITE).read_text(encoding="utf-8"))
    assert sum(len(group["tests"]) for group in groups) == CASES


@pytest.mark.shared
@pytest.mark.parametrize(("zone", "case"), list(_cases()))
async def test_case(zone: dict[str, Any], case: dict[str, Any]) -> None:
    shared_path(SUITE)
    said = await spf.check(
        Zone(zone), client_ip=case["host"], sender=case["mailfrom"] or "", helo=case["helo"], now=1_700_000_000
    )
    wanted = case["result"] if isinstance(case["result"], list) else [case["result"]]
    assert said.result in wanted, said
    explanation = case.get("explanation")
    if explanation is not None:
        assert said.explanation == ("" if explanation == NO_EXPLANATION else explanation)
    assert said.lookups <= spf.MAX_LOOKUPS + 1

"""Proof of ownership against a zone that this test plays: a name server on loopback with one TXT record."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import dns.message
import dns.rcode
import dns.rrset
import msgspec
import pytest

from control.ownership import record, require_proof
from control.store.errors import Invalid
from syncd.config import Control
from tests.control.api.conftest import settings_for

ACCOUNT = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


class Zone(asyncio.DatagramProtocol):
    """A simulated outside: answers TXT from a table, NXDOMAIN for the rest, nothing for "silent.test"."""

    texts = {
        "_mxfleet.mine.test.": ('"something else"', f'"{record(ACCOUNT)}"'),
        "_mxfleet.split.test.": ('"account=01ARZ3NDEK" "TSV4RRFFQ69G5FAV"',),
    }

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        question = dns.message.from_wire(data)
        name = question.question[0].name.to_text()
        if "silent" in name:
            return
        answer = dns.message.make_response(question)
        if name in self.texts:
            answer.answer = [dns.rrset.from_text(name, 60, "IN", "TXT", *self.texts[name])]
        else:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self._transport.sendto(answer.to_wire(), address)


@pytest.fixture
async def settings(tmp_path: Path) -> AsyncIterator[Control]:
    """A control plane that asks this zone."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Zone, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    yield msgspec.structs.replace(settings_for("", tmp_path), resolver=(f"127.0.0.1:{port}",))
    transport.close()


@pytest.mark.parametrize("name", ["mine.test", "split.test"])
async def test_the_record_is_proof(settings: Control, name: str) -> None:
    await require_proof(settings, ACCOUNT, name)


@pytest.mark.parametrize(("account", "name"), [(ACCOUNT, "theirs.test"), ("B" * 26, "mine.test")])
async def test_without_it_the_refusal_names_the_record(settings: Control, account: str, name: str) -> None:
    with pytest.raises(Invalid, match=f'_mxfleet.{name}. TXT "account={account}"'):
        await require_proof(settings, account, name)


async def test_a_silent_name_server_is_no_proof(settings: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control.ownership.WITHIN_S", 0.3)
    with pytest.raises(Invalid):
        await require_proof(settings, ACCOUNT, "silent.test")

"""The etcd client against a real etcd: what it gives, what it raises, and how soon."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import aclosing, suppress
from pathlib import Path

import pytest

from syncd import config
from syncd.etcd import Etcd
from syncd.kv import Compacted, EtcdAway, EtcdError, EtcdRefused, Guard, LeaseGone, after
from tests.servers import Etcd as Server
from tests.servers import free_port
from tests.services import make_tls
from tests.syncd.proxy import proxy
from tests.syncd.running import until

ROOT = Path(__file__).resolve().parents[2]


async def test_a_key_is_put_read_and_deleted(place: config.Etcd) -> None:
    async with Etcd(place) as etcd:
        revision = await etcd.put("/a", b"\x00\xff")
        found = await etcd.get("/a")
        assert (found.items[0].value, found.items[0].revision) == (b"\x00\xff", revision)
        await etcd.delete("/a")
        assert (await etcd.get("/a")).items == ()
        assert (await etcd.get("/a", revision=revision)).values() == {"/a": b"\x00\xff"}
        assert (await etcd.status()).version


@pytest.mark.parametrize(
    ("guards", "happens"),
    [
        ([Guard("/new", 0)], True),
        ([Guard("/old", 0)], False),
        ([Guard("/old", 1)], False),
        ([Guard("/old", -1)], True),
        ([Guard("/old", -1), Guard("/old", 0)], False),
    ],
    ids=["absent", "not absent", "another revision", "this revision", "all must hold"],
)
async def test_a_guarded_write_happens_whole_or_not(place: config.Etcd, guards: list[Guard], happens: bool) -> None:
    async with Etcd(place) as etcd:
        now = await etcd.put("/old", b"1")
        placed = [Guard(each.key, now if each.revision < 0 else each.revision) for each in guards]
        done = await etcd.write(placed, [("/old", None), ("/new", b"2")])
        assert (done is not None) is happens
        assert (await etcd.read(["/old", "/new"])).values() == ({"/new": b"2"} if happens else {"/old": b"1"})


async def test_pages_are_all_of_one_revision(place: config.Etcd) -> None:
    async with Etcd(place) as etcd:
        names = [f"/p/{number:03}" for number in range(25)]
        await etcd.write([], [(name, b"old") for name in names])
        seen: dict[str, bytes] = {}
        async for page in etcd.pages("/p/", after("/p/"), page=10):
            seen |= page.values()
            await etcd.put("/p/005", b"new")
            await etcd.put("/p/021", b"new")
            await etcd.put("/p/999", b"new")
        assert seen == dict.fromkeys(names, b"old")


async def test_what_is_too_large_for_one_answer_comes_in_smaller_pages(
    place: config.Etcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tuple((key, 200_000 if key == "grpc.max_receive_message_length" else value) for key, value in _options())
    monkeypatch.setattr("syncd.etcd._OPTIONS", small)
    async with Etcd(place) as etcd:
        for number in range(20):
            await etcd.put(f"/p/{number:02}", bytes(50_000))
        found = [item async for page in etcd.pages("/p/", after("/p/")) for item in page.items]
        assert [item.key for item in found] == [f"/p/{number:02}" for number in range(20)]


async def test_a_lease_ends_with_its_keys(place: config.Etcd) -> None:
    async with Etcd(place) as etcd:
        lease = await etcd.grant(30)
        await etcd.put("/leased", b"1", lease=lease)
        await etcd.keep_alive(lease)
        await etcd.revoke(lease)
        assert (await etcd.get("/leased")).items == ()
        with pytest.raises(LeaseGone):
            await etcd.keep_alive(lease)
        with pytest.raises(LeaseGone):
            await etcd.put("/leased", b"1", lease=lease)


async def test_a_watch_brings_whole_revisions(place: config.Etcd) -> None:
    async with Etcd(place) as etcd:
        first = await etcd.write([], [("/w/a", b"1"), ("/w/b", b"1")])
        assert first
        await etcd.write([], [("/w/a", None), ("/w/c", b"2"), ("/other", b"3")])
        found = []
        async with aclosing(etcd.watch("/w/", "/w0", since=first)) as watch:
            async for changes in watch:
                found += [(item.revision - first, item.key, item.value) for item in changes.items]
                if len(found) == 4:
                    break
        assert found == [(0, "/w/a", b"1"), (0, "/w/b", b"1"), (1, "/w/a", None), (1, "/w/c", b"2")]


async def test_a_compacted_revision_is_told_apart_from_a_break(place: config.Etcd) -> None:
    async with Etcd(place) as etcd:
        for number in range(3):
            last = await etcd.put("/w/a", str(number).encode())
        await etcd.compact(last)
        await etcd.compact(last)
        with pytest.raises(Compacted):
            async for _ in etcd.watch("/w/", "/w0", since=last - 2):
                pass
        with pytest.raises(Compacted):
            await etcd.get("/w/a", revision=last - 2)


async def test_what_etcd_will_not_do_is_refused(place: config.Etcd) -> None:
    async with Etcd(place) as etcd:
        with pytest.raises(EtcdRefused):
            await etcd.write([], [("/a", b"1"), ("/a", b"2")])


async def test_nobody_there_is_away_at_once() -> None:
    began = time.monotonic()
    async with Etcd(config.Etcd(endpoints=(f"127.0.0.1:{free_port()}",))) as etcd:
        with pytest.raises(EtcdAway):
            await etcd.get("/a")
    assert time.monotonic() - began < 2


async def test_endpoints_are_tried_in_turn(place: config.Etcd) -> None:
    both = config.Etcd(endpoints=(f"127.0.0.1:{free_port()}", *place.endpoints))
    async with Etcd(both, attempt=1) as etcd:
        await etcd.put("/a", b"1")
    async with Etcd(both, attempt=2) as etcd:
        with pytest.raises(EtcdAway):
            await etcd.put("/a", b"1")


async def test_a_silent_connection_is_noticed_and_a_new_one_works(place: config.Etcd) -> None:
    async with proxy(place.endpoints[0]) as (silent, through):
        async with Etcd(through) as etcd:
            watch = etcd.watch("/w/", "/w0", since=1)
            assert (await anext(watch)).items == ()
            assert silent.silence() == 1
            began = time.monotonic()
            with pytest.raises(EtcdAway, match="silent"):
                await anext(watch)
        assert 4 < time.monotonic() - began < 6
        async with Etcd(through) as etcd:
            await etcd.put("/w/a", b"1")


async def test_closing_ends_a_watch_as_a_break(place: config.Etcd) -> None:
    etcd = Etcd(place)

    async def watch() -> None:
        async for _ in etcd.watch("/w/", "/w0", since=1):
            opened.set()

    opened = asyncio.Event()
    watching = asyncio.create_task(watch())
    await opened.wait()
    await etcd.close()
    with pytest.raises(EtcdAway):
        await watching


async def test_nothing_is_missed_while_etcd_is_killed(make_etcd: Callable[..., Server]) -> None:
    server = make_etcd()
    place = config.Etcd(endpoints=(server.endpoint,))
    acknowledged: list[str] = []
    seen: list[str] = []

    async def write() -> None:
        for number in range(300):
            async with Etcd(place) as etcd:
                with suppress(EtcdError):
                    await etcd.put(f"/w/{number:03}", b"1")
                    acknowledged.append(f"/w/{number:03}")
            await asyncio.sleep(0.005)

    async def watch() -> None:
        since = 1
        while True:
            async with Etcd(place) as etcd:
                with suppress(EtcdAway):
                    async for changes in etcd.watch("/w/", "/w0", since=since):
                        for item in changes.items:
                            seen.append(item.key)
                            since = item.revision + 1
            await asyncio.sleep(0.02)

    watching, writing = asyncio.create_task(watch()), asyncio.create_task(write())
    for _ in range(3):
        count = len(acknowledged)
        await until(lambda: len(acknowledged) >= count + 20 or writing.done())  # noqa: B023
        await asyncio.to_thread(server.restart)
    await writing
    await until(lambda: set(acknowledged) <= set(seen))
    watching.cancel()
    assert len(acknowledged) > 60
    assert sorted(set(seen)) == seen, "in order, and none twice"


async def test_client_certificates_are_shown_and_demanded(make_etcd: Callable[..., Server], tmp_path: Path) -> None:
    server = make_etcd(mtls=True)
    async with Etcd(config.Etcd(endpoints=(server.endpoint,), tls=server.tls)) as etcd:
        await etcd.put("/a", b"1")
        assert (await etcd.get("/a")).values() == {"/a": b"1"}
    strangers = (
        config.Etcd(endpoints=(server.endpoint,)),
        config.Etcd(endpoints=(server.endpoint,), tls=make_tls(tmp_path / "stranger")),
    )
    for stranger in strangers:
        async with Etcd(stranger) as etcd:
            with pytest.raises(EtcdAway):
                await etcd.get("/a")


def test_the_generated_file_is_that_of_the_proto(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    subprocess.run([*command, "syncd/etcd.proto"], cwd=ROOT, check=True)
    for name in ("etcd_pb2.py", "etcd_pb2.pyi"):
        stale = "stale: run the command that syncd/etcd.py names"
        assert (tmp_path / "syncd" / name).read_bytes() == (ROOT / "syncd" / name).read_bytes(), stale


def _options() -> tuple[tuple[str, int], ...]:
    from syncd.etcd import _OPTIONS

    return _OPTIONS

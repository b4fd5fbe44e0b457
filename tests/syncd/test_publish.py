"""A publisher, as the process it is: order, guards, crashes, two at once, an empty etcd, drift, a restored database."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from control.store import layers
from syncd import config, keys, shards
from syncd.etcd import Etcd
from syncd.published import Meta, Tally, element, read_meta, sealed
from tests.servers import Postgres
from tests.syncd.running import Database, domain, publisher, until

Run = Callable[[Any], Any]


async def meta(etcd: Etcd) -> Meta:
    """META, or one that says nothing is there."""
    found = (await etcd.get(keys.META)).values()
    return read_meta(found[keys.META]) if found else Meta()


async def reaches(etcd: Etcd, revision: int, within_s: float = 15) -> dict[str, bytes]:
    """Wait until a revision is published; everything that is, META apart, once it is proven to be what META says."""
    async with asyncio.timeout(within_s):
        while (await meta(etcd)).revision < revision:  # noqa: ASYNC110 - etcd is asked, not awaited
            await asyncio.sleep(0.01)
    return await held(etcd)


async def held(etcd: Etcd) -> dict[str, bytes]:
    """Everything published, META apart, once it is proven to be what META says."""
    found = {key: value async for page in etcd.pages(keys.FIRST, keys.END) for key, value in page.values().items()}
    said = read_meta(found.pop(keys.META))
    tally = Tally()
    for key, value in found.items():
        tally.change(None, element(key, value))
    assert (said.digest, said.count) == (tally.digest, tally.count)
    return found


@asynccontextmanager
async def revisions(etcd: Etcd) -> AsyncIterator[list[int]]:
    """The revisions that META takes on from now on."""
    seen: list[int] = []
    now = (await etcd.get(keys.META)).revision

    async def watch() -> None:
        async for changes in etcd.watch(keys.META, keys.META + "\0", since=now + 1):
            seen.extend(read_meta(item.value).revision for item in changes.items if item.value)

    task = asyncio.create_task(watch())
    yield seen
    task.cancel()


async def test_changes_arrive_in_order_and_deletes_delete(
    place: config.Etcd, database: str, store: Database, here: Path, run: Run
) -> None:
    run(publisher(here, place, database))
    async with Etcd(place) as etcd:
        last = await store.commit(domain("a.test"), domain("b.test"), domain("a.test", {"retention": {"days": 2}}))
        found = await reaches(etcd, last)
        assert found[keys.domain("a.test")] == sealed(domain("a.test", {"retention": {"days": 2}})[1])
        found = await reaches(etcd, await store.commit((keys.domain("a.test"), None)))
        assert set(found) == {keys.domain("b.test")}


async def test_two_transactions_that_commit_in_reverse_order_of_starting_are_both_published(
    place: config.Etcd, database: str, store: Database, here: Path, run: Run
) -> None:
    run(publisher(here, place, database))
    async with store.pool.acquire() as early, Etcd(place) as etcd:
        slow = early.transaction()
        await slow.start()
        await early.execute("select 1")
        second = await store.commit(domain("second.test"))
        await reaches(etcd, second)
        _, revision = await layers.next_revision(early)
        await layers.publish(early, revision, *domain("first.test"))
        await slow.commit()
        found = await reaches(etcd, revision)
        assert {keys.domain("first.test"), keys.domain("second.test")} == set(found)


async def test_a_list_is_there_before_the_key_that_names_it(
    place: config.Etcd, database: str, store: Database, here: Path, run: Run
) -> None:
    made, bodies = shards.build({f"user{number:06}": b"{}" for number in range(60_000)})
    assert len(bodies) > 4
    await store.keep_shards(bodies)
    last = await store.commit(domain("a.test", recipients=made))
    run(publisher(here, place, database))
    async with Etcd(place) as etcd:
        found = await reaches(etcd, last)
        assert {key: found[key] for key in map(keys.shard, bodies)} == {
            keys.shard(name): body for name, body in bodies.items()
        }
        named = (await etcd.get(keys.domain("a.test"))).items[0].revision
        for name in bodies:
            assert (await etcd.get(keys.shard(name))).items[0].revision <= named


async def test_killed_again_and_again_it_loses_and_repeats_nothing(
    place: config.Etcd, database: str, store: Database, here: Path, run: Run
) -> None:
    program = run(publisher(here, place, database))
    async with Etcd(place) as etcd, revisions(etcd) as seen:
        for number in range(60):
            last = await store.commit(domain(f"d{number % 7}.test", {"retention": {"days": 1 + number}}))
            if number % 15 == 7:
                await reaches(etcd, 1)
                program.kill()
                program.start()
            await asyncio.sleep(0.02)
        found = await reaches(etcd, last)
        await until(lambda: seen and seen[-1] == last)
        assert seen == sorted(seen)
        assert found[keys.domain("d3.test")] == sealed(domain("d3.test", {"retention": {"days": 60}})[1])


async def test_two_at_once_are_as_good_as_one(
    place: config.Etcd, database: str, store: Database, here: Path, run: Run
) -> None:
    first, second = publisher(here, place, database, 1), publisher(here, place, database, 1)
    other = publisher(here, place, database, 2)
    for program in (first, second, other):
        run(program)
    async with Etcd(place) as etcd, revisions(etcd) as seen:
        await store.commit(domain("start.test"))
        await reaches(etcd, 1)
        for number in range(50):
            last = await store.commit(domain(f"d{number % 7}.test", {"retention": {"days": 1 + number}}))
        await reaches(etcd, last)
        first.kill()
        second.kill()
        last = await store.commit(domain("after.test"))
        assert keys.domain("after.test") in await reaches(etcd, last)
        await until(lambda: seen[-1] == last)
        assert seen == sorted(seen)


async def test_an_etcd_that_lost_everything_is_filled_again(
    place: config.Etcd, database: str, store: Database, here: Path, run: Run
) -> None:
    run(publisher(here, place, database))
    async with Etcd(place) as etcd:
        made, bodies = shards.build({"user": b"{}"})
        await store.keep_shards(bodies)
        many = [domain(f"d{number}.test") for number in range(300)]
        last = await store.commit(*many, domain("l.test", recipients=made))
        before = await reaches(etcd, last)
        await _empty(etcd)
        assert await reaches(etcd, last) == before
        assert len(before) == 302


async def _empty(etcd: Etcd) -> None:
    names = [key async for page in etcd.pages(keys.FIRST, keys.END, keys_only=True) for key in page.values()]
    for start in range(0, len(names), 100):
        chunk = names[start : start + 100]
        await etcd.write([], [(key, None) for key in chunk])


async def test_a_trimmed_outbox_still_fills_an_etcd_restored_from_long_ago(
    place: config.Etcd, database: str, store: Database, here: Path, run: Run
) -> None:
    async with Etcd(place) as etcd:
        for number in range(5):
            last = await store.commit(domain("a.test", {"retention": {"days": 1 + number}}), domain(f"d{number}.test"))
        await store.pool.execute("delete from outbox where key = $1 and revision < $2", keys.domain("a.test"), last - 1)
        key, value = domain("a.test", {"retention": {"days": 1}})
        old = Meta(1, 1, digest=element(key, sealed(value)).hex(), count=1)
        await etcd.write([], [(key, sealed(value)), (keys.META, msgspec.json.encode(old))])
        async with revisions(etcd) as seen:
            run(publisher(here, place, database))
            found = await reaches(etcd, last)
            await until(lambda: seen and seen[-1] == last)
        assert set(seen) <= {1, last}, "no revision in between was whole, so none is claimed"
        assert found[key] == sealed(domain("a.test", {"retention": {"days": 5}})[1])


async def test_drift_in_etcd_is_repaired_under_a_revision_of_its_own(
    place: config.Etcd, database: str, store: Database, here: Path, run: Run
) -> None:
    program = run(publisher(here, place, database))
    async with Etcd(place) as etcd:
        last = await store.commit(domain("a.test"), domain("b.test"))
        good = await reaches(etcd, last)
        program.kill()
        await etcd.put(keys.domain("a.test"), b"drifted")
        await etcd.put(keys.domain("stranger.test"), b"from nowhere")
        await etcd.delete(keys.domain("b.test"))
        run(program)
        assert await reaches(etcd, last + 1) == good
        assert (await store.pool.fetchval("select revision from revision_counter")) == last + 1


async def test_a_database_behind_etcd_is_not_published_until_its_generation_is_raised(
    place: config.Etcd, database: str, store: Database, here: Path, run: Run
) -> None:
    async with Etcd(place) as etcd:
        await etcd.put(keys.META, msgspec.json.encode(Meta(1, 500, count=0)))
        await store.commit(domain("old.test"))
        program = run(publisher(here, place, database))
        await until(lambda: program.events("database_behind_etcd"))
        assert (await meta(etcd)).point == (1, 500)
        assert (await etcd.get(keys.domain("old.test"))).items == ()
        await store.pool.execute("update revision_counter set generation = 2")
        async with asyncio.timeout(15):
            while (await meta(etcd)).point != (2, 1):  # noqa: ASYNC110 - etcd is asked, not awaited
                await asyncio.sleep(0.05)
        assert set(await held(etcd)) == {keys.domain("old.test")}


async def test_postgresql_killed_and_back_is_published_on(
    place: config.Etcd, postgres: Postgres, database: str, store: Database, here: Path, run: Run
) -> None:
    program = run(publisher(here, place, database))
    async with Etcd(place) as etcd:
        await reaches(etcd, await store.commit(domain("a.test")))
        await store.pool.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
            " and pid <> pg_backend_pid()"
        )
        await until(lambda: program.events("publishing_interrupted"))
        found = await reaches(etcd, await store.commit(domain("b.test")))
        assert keys.domain("b.test") in found


async def test_it_ends_cleanly_when_told(
    place: config.Etcd, database: str, store: Database, here: Path, run: Run
) -> None:
    program = run(publisher(here, place, database))
    await until(lambda: program.events("elected"))
    assert program.kill(signal.SIGTERM) == 0
    assert b"Traceback" not in program.log.read_bytes()

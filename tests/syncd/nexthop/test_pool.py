"""The pool: connections are bounded, used again, noticed when dead, and leave nothing behind."""

import asyncio
import random
from contextlib import AsyncExitStack

import pytest
from msgspec.structs import replace

from syncd.nexthop import Bounds, Pool
from tests.nexthops import Mailbox, Talker, real, scripted
from tests.syncd.nexthop.sending import ON_THE_WIRE, PATIENT, hand_over, told, until


async def test_mails_share_a_connection() -> None:
    talker = Talker()
    async with scripted(talker) as hop:
        async with Pool() as pool:
            for _ in range(5):
                assert (await hand_over(hop, pool=pool))["a@x.test"].taken
            assert pool.idle == 1
        assert len(talker.connections) == 1
        assert [line.split(" ")[0] for line in talker.connections[0][:5]] == [
            "EHLO",
            "MAIL",
            "RCPT",
            "DATA",
            "(message)",
        ]
        assert talker.connections[0][-1] == "QUIT"
    assert talker.messages == [ON_THE_WIRE] * 5


async def test_a_mail_that_ended_early_is_reset_before_the_next() -> None:
    talker = Talker(RCPT=["550 5.1.1 nobody", "250 ok"], DATA=["503 no recipients", "354 go"])
    async with scripted(talker) as hop, Pool() as pool:
        assert told((await hand_over(hop, pool=pool))["a@x.test"]) == "550 rcpt"
        assert (await hand_over(hop, pool=pool))["a@x.test"].taken
        assert (await hand_over(hop, pool=pool))["a@x.test"].taken
    verbs = " ".join(line.split(" ")[0] for line in talker.connections[0])
    assert verbs == "EHLO MAIL RCPT DATA RSET MAIL RCPT DATA (message) MAIL RCPT DATA (message) QUIT"


async def test_a_real_server_is_reset_too() -> None:
    mailbox = Mailbox(at_rcpt={"no@x.test": "550 5.1.1 nobody"})
    async with real(mailbox) as hop, Pool() as pool:
        for to in ("no@x.test", "a@x.test", "no@x.test", "b@x.test"):
            await hand_over(hop, to=(to,), pool=pool)
    assert mailbox.recipients() == ["a@x.test", "b@x.test"]


async def test_a_connection_takes_no_more_mails_than_its_bound() -> None:
    talker = Talker()
    async with scripted(talker) as hop, Pool(Bounds(mails=2)) as pool:
        for _ in range(5):
            await hand_over(hop, pool=pool)
    assert [connection.count("(message)") for connection in talker.connections] == [2, 2, 1]
    assert all(connection[-1] == "QUIT" for connection in talker.connections)


async def test_an_idle_connection_takes_its_leave_in_time() -> None:
    talker = Talker()
    async with scripted(talker) as hop, Pool(Bounds(idle_s=0.05)) as pool:
        await asyncio.gather(*(hand_over(hop, pool=pool) for _ in range(3)))
        await until(lambda: talker.ended == 3)
        assert pool.idle == 0
        assert (await hand_over(hop, pool=pool))["a@x.test"].taken
        await until(lambda: talker.ended == 4)
    assert all(connection[-1] == "QUIT" for connection in talker.connections)


@pytest.mark.parametrize("last_words", [b"", b"421 4.4.2 idle\r\n", b"nonsense", b"2"])
async def test_a_hop_that_closes_or_speaks_while_idle_is_noticed(last_words: bytes) -> None:
    talker = Talker()
    async with scripted(talker) as hop, Pool() as pool:
        await hand_over(hop, pool=pool)
        assert pool.idle == 1
        if last_words:
            talker.writers[0].write(last_words)
        else:
            talker.writers[0].close()
        await until(lambda: pool.idle == 0)
        assert (await hand_over(hop, pool=pool))["a@x.test"].taken
    assert len(talker.connections) == 2


@pytest.mark.parametrize("said", [None, "421 4.4.2 idle", "hello", "354 go"])
@pytest.mark.parametrize("verb", ["MAIL", "RSET"])
async def test_a_dead_connection_is_replaced_once(said: str | None, verb: str) -> None:
    counted: list[str] = []
    talker = Talker(MAIL=["250 ok", said, "250 ok"] if verb == "MAIL" else "250 ok", RSET=said)
    async with scripted(talker) as hop, Pool(count=counted.append) as pool:
        if verb == "RSET":
            talker.say("RCPT", ["550 no", "250 ok"])
            talker.say("DATA", ["503 no", "354 go"])
        await hand_over(hop, pool=pool)
        assert (await hand_over(hop, pool=pool))["a@x.test"].taken
    assert counted == ["opened", "reused", "stale", "opened"]
    assert talker.messages[-1:] == [ON_THE_WIRE]


async def test_what_breaks_on_a_fresh_connection_is_not_tried_for_ever() -> None:
    talker = Talker(MAIL=None)
    async with scripted(talker) as hop, Pool() as pool:
        assert told((await hand_over(hop, pool=pool))["a@x.test"]) == "451? mail"
    assert len(talker.connections) == 2  # pipelined, then step by step


async def test_a_used_connection_that_breaks_after_the_dot_is_not_tried_again() -> None:
    talker = Talker(dot=["250 taken", None])
    async with scripted(talker) as hop, Pool() as pool:
        await hand_over(hop, pool=pool)
        assert told((await hand_over(hop, pool=pool))["a@x.test"]) == "451?? dot"
    assert len(talker.messages) == 2


async def test_connections_to_a_hop_are_bounded_and_mails_wait() -> None:
    open_now = most = 0
    talker = Talker()

    async def counts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        try:
            await talker(reader, writer)
        finally:
            open_now -= 1

    async with scripted(counts) as hop, Pool(Bounds(per_hop=3, idle_per_hop=3)) as pool:
        got = await asyncio.gather(*(hand_over(hop, timeouts=PATIENT, pool=pool) for _ in range(50)))
        assert all(answers["a@x.test"].taken for answers in got)
        assert most <= 3
        assert pool.idle <= 3
    assert len(talker.messages) == 50


async def test_a_mail_that_waits_in_vain_is_told_that_the_hop_is_down() -> None:
    talker = Talker(dot="")
    async with scripted(talker) as hop, Pool(Bounds(per_hop=1)) as pool:
        first = asyncio.ensure_future(hand_over(hop, timeouts=PATIENT, pool=pool))
        await until(lambda: len(talker.messages) == 1)
        answer = (await hand_over(hop, pool=pool))["a@x.test"]
        assert (told(answer), answer.down) == ("451? connect", True)
        first.cancel()
        await asyncio.wait([first])


async def test_routes_do_not_mix() -> None:
    talker = Talker()
    async with scripted(talker) as hop, Pool() as pool:
        await hand_over(hop, pool=pool)
        await hand_over(hop, pool=pool, hostname="mx2.test")
        await hand_over(replace(hop, host="localhost"), pool=pool)
        await hand_over(replace(hop, preference=1), pool=pool)
        assert pool.idle == 3
    assert [connection[0] for connection in talker.connections] == ["EHLO mx1.test", "EHLO mx2.test", "EHLO mx1.test"]


async def test_idle_connections_are_bounded_over_all_hops() -> None:
    talkers = [Talker() for _ in range(3)]
    async with AsyncExitStack() as stack:
        hops = [await stack.enter_async_context(scripted(talker)) for talker in talkers]
        pool = await stack.enter_async_context(Pool(Bounds(idle=2)))
        for hop in hops:
            await hand_over(hop, pool=pool)
        assert pool.idle == 2


async def test_closing_cuts_what_is_in_use_and_opens_nothing_more() -> None:
    talker = Talker(dot="")
    async with scripted(talker) as hop:
        pool = Pool()
        task = asyncio.ensure_future(hand_over(hop, timeouts=PATIENT, pool=pool))
        await until(lambda: len(talker.messages) == 1)
        await pool.close()
        assert told((await task)["a@x.test"]) == "451?? dot"
        assert told((await hand_over(hop, pool=pool))["a@x.test"]) == "451? connect"
        await pool.close()
    assert len(talker.connections) == 1


async def test_a_hop_that_does_not_answer_quit_is_cut() -> None:
    talker = Talker(QUIT="")
    async with scripted(talker) as hop, asyncio.timeout(4):
        async with Pool() as pool:
            await hand_over(hop, pool=pool)
        await until(lambda: talker.ended == 1)


@pytest.mark.parametrize("seed", range(4))
async def test_under_random_faults_what_is_told_is_true(seed: int) -> None:
    """Invariant: taken means there once; refused or down means not there; only unknown may be either."""
    dice = random.Random(seed)
    taken: list[bytes] = []

    async def moody(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        odd = {step: dice.choice([None, "421 bye", "450 no", "nonsense"]) for step in ("MAIL", "RCPT", "DATA", "dot")}
        proper = {"MAIL": "250 ok", "RCPT": "250 ok", "DATA": "354 go", "dot": "250 taken"}
        said = {step: [*[proper[step]] * dice.randrange(6), odd[step], proper[step]] for step in proper}
        talker = Talker(greeting=dice.choice(["220 hop"] * 9 + ["421 busy"]), **said)
        await talker(reader, writer)
        taken.extend(talker.messages)

    async def one(n: int) -> tuple[bytes, str]:
        body = b"mail %d\r\n" % n
        answer = (await hand_over(hop, message=(body,), timeouts=PATIENT, pool=pool))["a@x.test"]
        return body + b".\r\n", "taken" if answer.taken else "unknown" if answer.unknown else told(answer)

    async with scripted(moody) as hop:
        async with Pool(Bounds(per_hop=4)) as pool:
            ends = await asyncio.gather(*(one(n) for n in range(150)))
        await until(lambda: len(asyncio.all_tasks()) == 1)
    for body, end in ends:
        copies = taken.count(body)
        assert copies <= 1
        # A hop that read the dot and then said 4xx or nonsense has the message in this test, taken or not.
        assert copies == 1 or end not in ("taken", "450 dot")
        assert copies == 0 or end in ("taken", "unknown", "450 dot", "421 dot")
    assert sum(end == "taken" for _, end in ends) > 50

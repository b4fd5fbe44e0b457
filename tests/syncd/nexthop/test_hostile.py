"""Hostile next hops: whatever they do, each recipient has one true answer, and no message is sent twice."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from syncd.nexthop import Bounds, Pool, Timeouts
from tests.nexthops import PIPELINING, Said, Talker, scripted
from tests.syncd.nexthop.sending import MESSAGE, ON_THE_WIRE, PATIENT, hand_over, told, until

IMPATIENT = Timeouts(connect_s=0.3, command_s=0.3, dot_s=0.3, total_s=3)
STEPS = {"greeting": "connect", "EHLO": "connect", "MAIL": "mail", "RCPT": "rcpt", "DATA": "data", "dot": "dot"}
LARGE = (
    b"Subject: large\r\n\r\n",
    b"seventy bytes and more of a line that nobody has to read at all, ever.\r\n" * 300_000,
)


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    """A pool of the test's own."""
    async with Pool() as made:
        yield made


def at(step: str, said: Said, *, pipelined: bool) -> Talker:
    """A hop that says this at one step."""
    return Talker(**{"EHLO": PIPELINING if pipelined else "250 hop", step: said})


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("pipelined", [False, True], ids=["step by step", "pipelined"])
@pytest.mark.parametrize("what", [None, "", "421 4.3.2 bye", "hello", b"250-", b"250 " + b"x" * 70_000, b"\x00\xff\n"])
async def test_at_each_step(step: str, pipelined: bool, what: Said, pool: Pool) -> None:
    talker = at(step, what, pipelined=pipelined)
    async with scripted(talker) as hop, asyncio.timeout(4):
        answer = (await hand_over(hop, timeouts=IMPATIENT, pool=pool))["a@x.test"]
    if what == "421 4.3.2 bye":
        assert told(answer) == f"421 {STEPS[step]}"
    elif step == "EHLO" and what == "":
        assert told(answer) == "451? connect"
    else:
        assert told(answer) == f"451?{'?' * (step == 'dot')} {STEPS[step]}"
    assert answer.text.isprintable()
    assert talker.messages == ([ON_THE_WIRE] if step == "dot" else [])


@pytest.mark.parametrize("said", ["250 \x00\x1b[31mok\xff", b"250-one\n250 two\n", b"250-one\r\n250\r\n"])
async def test_odd_but_proper_replies(said: Said, pool: Pool) -> None:
    async with scripted(Talker(MAIL=said, RCPT=said, dot=said)) as hop:
        answer = (await hand_over(hop, pool=pool))["a@x.test"]
    assert answer.taken
    assert answer.text.isprintable()


async def test_a_reply_that_drips_costs_no_more_than_its_bound(pool: Pool) -> None:
    async def drips(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader.at_eof():
            writer.write(b"2")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with scripted(drips) as hop, asyncio.timeout(3):
        assert told((await hand_over(hop, timeouts=IMPATIENT, pool=pool))["a@x.test"]) == "451? connect"


# Pipelining


async def test_everything_up_to_data_is_said_at_once(pool: Pool) -> None:
    writes: list[bytes] = []

    async def slow_to_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for say in (
            b"220 hop\r\n",
            b"250-hop\r\n250 PIPELINING\r\n",
            b"250 1\r\n250 2\r\n550 3\r\n354 4\r\n",
            b"250 5\r\n",
        ):
            writer.write(say)
            writes.append(await reader.read(10_000))

    async with scripted(slow_to_answer) as hop:
        got = await hand_over(hop, to=("a@x.test", "b@x.test"), pool=pool)
        assert [told(answer) for answer in got.values()] == ["250 dot", "550 rcpt"]
    assert writes[1] == b"MAIL FROM:<ann@sender.test>\r\nRCPT TO:<a@x.test>\r\nRCPT TO:<b@x.test>\r\nDATA\r\n"
    assert writes[2] == ON_THE_WIRE


class OneAtATime:
    """Offers PIPELINING and then takes one command of what arrives together: it drops the rest, or hangs up."""

    def __init__(self, *, hangs_up: bool) -> None:
        self._hangs_up = hangs_up
        self.talker = Talker()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner = asyncio.StreamReader()
        talk = asyncio.ensure_future(self.talker(inner, writer))
        while data := await reader.read(100_000):
            if data.startswith(b"MAIL") and data.count(b"\n") > 1:
                if self._hangs_up:
                    break
                data = data[: data.index(b"\n") + 1]
            inner.feed_data(data)
        inner.feed_eof()
        await talk


async def test_a_hop_that_hangs_up_when_pipelined_to_gets_the_mail_step_by_step(pool: Pool) -> None:
    liar = OneAtATime(hangs_up=True)
    async with scripted(liar) as hop:
        for _ in range(3):
            assert (await hand_over(hop, pool=pool))["a@x.test"].taken
    assert liar.talker.messages == [ON_THE_WIRE] * 3
    assert len(liar.talker.connections) == 2


async def test_a_hop_that_drops_what_it_is_pipelined_gets_the_next_mail_step_by_step(pool: Pool) -> None:
    liar = OneAtATime(hangs_up=False)
    async with scripted(liar) as hop:
        assert told((await hand_over(hop, timeouts=IMPATIENT, pool=pool))["a@x.test"]) == "451? rcpt"
        assert (await hand_over(hop, timeouts=IMPATIENT, pool=pool))["a@x.test"].taken
    assert liar.talker.messages == [ON_THE_WIRE]


@pytest.mark.parametrize(
    "said",
    [
        {"MAIL": "250 one\r\n250 two"},
        {"RCPT": "250 one\r\n250 two"},
        {"DATA": "250 late\r\n354 go"},
        {"DATA": b"354 go\r\n250 taken already\r\n"},
        {"DATA": b"354 go\r\n2"},
        {"EHLO": "250-hop\r\n250 PIPELINING\r\n250 and more"},
        {"greeting": "220 hop\r\n250 hop\r\n250 ok\r\n250 ok\r\n354 go"},
    ],
)
async def test_replies_out_of_step_send_no_message(said: dict[str, Said], pool: Pool) -> None:
    talker = Talker(**said)
    async with scripted(talker) as hop:
        answer = (await hand_over(hop, timeouts=IMPATIENT, pool=pool))["a@x.test"]
        assert not answer.taken
        assert not answer.unknown
        assert pool.idle == 0
    assert talker.messages == []


async def test_354_though_all_were_refused_gets_a_lone_dot_and_quit(pool: Pool) -> None:
    talker = Talker(RCPT="550 5.1.1 nobody", dot="554 no recipients")
    async with scripted(talker) as hop:
        assert told((await hand_over(hop, pool=pool))["a@x.test"]) == "550 rcpt"
        await pool.close()
    assert talker.connections[0][-3:] == ["DATA", "(empty)", "QUIT"]


async def test_354_though_mail_was_refused_and_a_recipient_taken_gets_nothing(pool: Pool) -> None:
    talker = Talker(MAIL="550 5.7.1 no")
    async with scripted(talker) as hop:
        assert told((await hand_over(hop, pool=pool))["a@x.test"]) == "550 mail"
        await pool.close()
    assert talker.messages == []


# The message


@pytest.mark.parametrize(("said", "heard"), [(b"552 5.3.4 enough\r\n", "552 dot"), (b"250 ok\r\n", "451?? dot")])
async def test_a_hop_that_speaks_before_the_dot_never_gets_it(said: bytes, heard: str, pool: Pool) -> None:
    ends: list[bytes] = []

    async def enough(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _up_to_the_message(reader, writer)
        await reader.readexactly(500_000)
        writer.write(said)
        ends.append((await _rest(reader))[-5:])

    async with scripted(enough) as hop:
        assert told((await hand_over(hop, message=LARGE, timeouts=PATIENT, pool=pool))["a@x.test"]) == heard
        await pool.close()
        await until(lambda: bool(ends))
    assert ends != [b"\r\n.\r\n"]


async def test_a_hop_that_stops_reading_has_certainly_not_taken_the_mail(pool: Pool) -> None:
    stop = asyncio.Event()

    async def stops(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _up_to_the_message(reader, writer)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await stop.wait()

    async with scripted(stops) as hop, asyncio.timeout(4):
        answer = (await hand_over(hop, message=LARGE, timeouts=IMPATIENT, pool=pool))["a@x.test"]
        stop.set()
    assert told(answer) == "451? dot"


async def test_a_large_message_arrives_whole_at_a_slow_reader(pool: Pool) -> None:
    talker = Talker()
    async with scripted(talker) as hop:
        assert (await hand_over(hop, message=LARGE, timeouts=PATIENT, pool=pool))["a@x.test"].taken
    assert talker.messages == [b"".join(LARGE) + b".\r\n"]


async def test_a_message_above_the_hops_size_is_not_sent_and_the_connection_stays(pool: Pool) -> None:
    talker = Talker(EHLO="250-hop\r\n250-PIPELINING\r\n250 SIZE 100")
    async with scripted(talker) as hop:
        answer = (await hand_over(hop, message=(b"x" * 99 + b"\r\n",), pool=pool))["a@x.test"]
        assert (answer.code, answer.enhanced, answer.down) == (552, "5.3.4", False)
        assert (await hand_over(hop, pool=pool))["a@x.test"].taken
    assert talker.connections[0][1] == f"MAIL FROM:<ann@sender.test> SIZE={sum(map(len, MESSAGE))}"


# Cancelled


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("pipelined", [False, True], ids=["step by step", "pipelined"])
async def test_cancelled_at_each_step(step: str, pipelined: bool) -> None:
    talker = at(step, "", pipelined=pipelined)
    async with scripted(talker) as hop, Pool(Bounds(per_hop=1)) as pool:
        task = asyncio.ensure_future(hand_over(hop, timeouts=PATIENT, pool=pool))
        await until(lambda: _has_come_to(talker, step))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: talker.ended == 1)
        assert pool.idle == 0
        assert step == "dot" or not talker.messages
        talker.say(
            step, "250 ok" if step not in ("greeting", "DATA") else {"greeting": "220 hop", "DATA": "354 go"}[step]
        )
        assert (await hand_over(hop, pool=pool))["a@x.test"].taken  # its place is free again


async def test_cancelled_or_failed_before_the_message() -> None:
    async def cancelled() -> None:
        raise asyncio.CancelledError

    async def failed() -> None:
        raise RuntimeError("the caller's own")

    talker = Talker()
    async with scripted(talker) as hop, Pool() as pool:
        with pytest.raises(asyncio.CancelledError):
            await hand_over(hop, on_dot=cancelled, pool=pool)
        with pytest.raises(RuntimeError):
            await hand_over(hop, on_dot=failed, pool=pool)
        await until(lambda: talker.ended == 2)
    assert talker.messages == []


async def test_a_hop_that_hangs_up_while_the_caller_thinks_gets_nothing(pool: Pool) -> None:
    talker = Talker()

    async def hangs_up() -> None:
        talker.writers[0].close()
        await until(lambda: talker.writers[0].is_closing())
        await asyncio.wait([asyncio.ensure_future(talker.writers[0].wait_closed())])

    async with scripted(talker) as hop:
        answer = (await hand_over(hop, on_dot=hangs_up, pool=pool))["a@x.test"]
    assert told(answer) in ("451? data", "451?? dot")
    assert talker.messages == []


def _has_come_to(talker: Talker, step: str) -> bool:
    if step == "greeting":
        return bool(talker.connections)
    word = "(message)" if step == "dot" else step
    return any(line.startswith(word) for line in _heard(talker))


def _heard(talker: Talker) -> Iterator[str]:
    for connection in talker.connections:
        yield from connection


async def _up_to_the_message(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for say in (b"220 hop\r\n", b"250 hop\r\n", b"250 ok\r\n", b"250 ok\r\n"):
        writer.write(say)
        await reader.readline()
    writer.write(b"354 go\r\n")


async def _rest(reader: asyncio.StreamReader) -> bytes:
    data = b""
    try:
        while more := await reader.read(2**20):
            data = more
    except ConnectionError:
        pass
    return data

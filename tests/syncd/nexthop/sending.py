"""How the tests of the next-hop client hand a mail over."""

import asyncio
from collections.abc import Callable, Sequence

from syncd.layers import NextHop
from syncd.nexthop import Answer, Timeouts, deliver

QUICK = Timeouts(connect_s=1, command_s=1, dot_s=1, total_s=5)
PATIENT = Timeouts(connect_s=10, command_s=10, dot_s=10, total_s=30)
MESSAGE = (b"Received: by us\r\n", b"Subject: x\r\n\r\n.leading dot\r\nbody\r\n")
ON_THE_WIRE = b"Received: by us\r\nSubject: x\r\n\r\n..leading dot\r\nbody\r\n.\r\n"


async def hand_over(
    *hops: NextHop, to: tuple[str, ...] = ("a@x.test",), message: Sequence[bytes] = MESSAGE, **options: object
) -> dict[str, Answer]:
    """`deliver` with what most tests want."""
    settings = {"hostname": "mx1.test", "timeouts": QUICK, **options}
    return await deliver(hops, "ann@sender.test", to, message, **settings)  # type: ignore[arg-type]


def told(answer: Answer) -> str:
    """An answer in short: code, "?" when it is ours, "??" when nobody knows, phase."""
    return f"{answer.code}{'?' * (not answer.answered)}{'?' * answer.unknown} {answer.phase}"


async def until(holds: Callable[[], bool]) -> None:
    """Return when it holds, at the latest after 5 s with an error: how a test waits for what a hop has seen."""
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what a hop has seen raises no event
            await asyncio.sleep(0.005)

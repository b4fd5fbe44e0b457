"""When a client is overdue: one table; and what all clients together may have open."""

import pytest

from mx import replies
from mx.limits import Limits
from mx.pace import CLOSE_S, TLS_S, Pace, Turn
from mx.replies import Reply
from syncd.config import SmtpLimits

LIMITS = SmtpLimits(idle_s=300, session_s=1000, message_grace_s=60, bytes_per_s=100)


@pytest.mark.parametrize(
    ("turn", "after_s", "overdue"),
    [
        (Turn.COMMAND, 300, None),
        (Turn.COMMAND, 301, replies.IDLE),
        (Turn.COMMAND, 1001, replies.SESSION_TOO_LONG),
        (Turn.OURS, 100_000, None),
        (Turn.MESSAGE, 60, None),
        (Turn.MESSAGE, 61, replies.TOO_SLOW),
        (Turn.MESSAGE, 301, replies.IDLE),
        (Turn.HANDSHAKE, TLS_S, None),
        (Turn.HANDSHAKE, TLS_S + 1, replies.IDLE),
        (Turn.OVER, CLOSE_S, None),
        (Turn.OVER, CLOSE_S + 1, replies.IDLE),
        (Turn.OVER, 1001, replies.IDLE),
    ],
)
def test_overdue(turn: Turn, after_s: float, overdue: Reply | None) -> None:
    pace = Pace(LIMITS, began=50)
    pace.begin(turn, 50)
    assert pace.overdue(50 + after_s) == overdue


def test_a_message_may_take_longer_the_more_has_come() -> None:
    pace = Pace(LIMITS, began=0)
    pace.begin(Turn.MESSAGE, 0)
    pace.piece(10_000, 50)
    assert pace.overdue(60 + 100) is None
    assert pace.overdue(60 + 101) == replies.TOO_SLOW
    pace.begin(Turn.MESSAGE, 60)  # its next piece: the same message
    assert pace.message_bytes == 10_000
    pace.begin(Turn.OURS, 70)
    pace.begin(Turn.MESSAGE, 80)  # another one
    assert pace.message_bytes == 0


def test_connections_of_all_together_are_bounded_and_the_last_quarter_is_for_the_small_ones() -> None:
    limits = Limits(SmtpLimits(connections=100, connections_per_network=90, new_per_s=1000))
    assert [limits.admit("big", 0) for _ in range(75)] == [None] * 75
    assert limits.admit("big", 0) == replies.TOO_MANY_CONNECTIONS
    assert [limits.admit(f"small {n}", 0) for n in range(25)] == [None] * 25
    assert limits.admit("another", 0) == replies.TOO_BUSY
    limits.leave("big")
    assert limits.admit("another", 0) is None


def test_new_connections_of_all_together_are_bounded_per_second() -> None:
    limits = Limits(SmtpLimits(new_per_s=3))
    assert [limits.admit(str(n), 0) for n in range(4)] == [None] * 3 + [replies.TOO_BUSY]
    assert limits.admit("later", 0.5) is None


def test_the_defaults_keep_the_contract() -> None:
    limits = Limits()
    for second in range(24):
        assert [limits.admit("127.0.0.1", float(second)) for _ in range(500)] == [None] * 500
    assert limits.admit("127.0.0.1", 30.0) == replies.TOO_MANY_CONNECTIONS
    assert limits.admit("127.0.0.2", 30.0) is None

"""Our own SMTP client towards next hops: `deliver` hands one mail over, a `Pool` keeps connections open.

The rules stand in files without I/O: `reply` reads, `opening` and `transaction` are tables of
transitions, `answer` says what a recipient hears. `connection`, `connect` and `pool` add sockets, TLS and
deadlines; `delivery` chooses the hop.
"""

from syncd.nexthop.answer import Answer, Phase, clean
from syncd.nexthop.delivery import deliver, in_order
from syncd.nexthop.pool import Bounds, How, Pool
from syncd.nexthop.stuffing import stuffed
from syncd.nexthop.timeouts import Timeouts

__all__ = ["Answer", "Bounds", "How", "Phase", "Pool", "Timeouts", "clean", "deliver", "in_order", "stuffed"]

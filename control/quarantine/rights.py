"""Who may have a kept mail delivered, by the reason it was kept for. Pure.

The table is the rule: what it does not name, everybody of the account may release.
"""

from collections.abc import Mapping

from control.auth import Role, Viewer
from control.store.errors import Forbidden

EVERYBODY: frozenset[Role] = frozenset({"owner", "admin", "operator"})
OPERATORS: frozenset[Role] = frozenset({"operator"})
RELEASED_BY: Mapping[str, frozenset[Role]] = {
    # A recipient who is told "it is only an invoice" will click; whoever runs the service has the tools to look.
    "virus": OPERATORS,
    "clamd": OPERATORS,
    "phishing": OPERATORS,
    # The owner made the list of forbidden kinds; staff who only read mail do not go around it.
    "attachments": frozenset({"owner", "operator"}),
}
"""Reason → the roles that may release mail kept for it."""


def may_release(role: Role, reason: str) -> bool:
    """Whether this role may have mail delivered that was kept for this reason."""
    return role in RELEASED_BY.get(reason, EVERYBODY)


def who_may(reason: str) -> str:
    """The roles that may release it, in words."""
    return " or ".join(sorted(RELEASED_BY.get(reason, EVERYBODY)))


def check(viewer: Viewer, reason: str) -> None:
    """Raises Forbidden, in words for the viewer, when the mail is not theirs to release."""
    if not may_release(viewer.role, reason):
        raise Forbidden(f"mail kept for “{reason}” is released by the {who_may(reason)} alone")

"""The mail to be handed over, checked once: no address of it can say a command of its own."""

import re
from collections.abc import Sequence

import msgspec

_PATH = re.compile(r'(?:"(?:[^"\\\x00-\x1f\x7f]|\\[^\x00-\x1f\x7f])*"|[^\x00-\x20\x7f<>"\\])*')
"""What may stand between angle brackets: no blank or bracket outside of quotes, no control character anywhere."""


class Mail(msgspec.Struct, frozen=True):
    """One mail; `mail` makes it. Paths are ready to be sent: UTF-8, without their angle brackets."""

    sender: bytes
    recipients: dict[str, bytes]
    """Path of each recipient, every recipient once, in order."""
    message: Sequence[bytes]
    size_bytes: int
    smtputf8: bool
    eight_bit: bool


def mail(
    sender: str, recipients: Sequence[str], message: Sequence[bytes], *, smtputf8: bool = False, eight_bit: bool = False
) -> Mail:
    """The mail of these parts. Raises ValueError for an address that is no single path."""
    paths = {recipient: _path(recipient) for recipient in recipients}
    return Mail(_path(sender), paths, message, sum(map(len, message)), smtputf8, eight_bit)


def _path(address: str) -> bytes:
    if _PATH.fullmatch(address) is None:
        raise ValueError(f"an address that cannot stand in a command: {address!r}")
    return address.encode()

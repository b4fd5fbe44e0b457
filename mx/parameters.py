"""The parameters of MAIL: SIZE, BODY, SMTPUTF8; everything else is not offered and refused cleanly."""

from dataclasses import dataclass

from mx import replies
from mx.replies import Reply


class Refused(ValueError):
    """A parameter that cannot be taken; `code`, `enhanced` and the text are what the peer hears."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.text)
        self.code, self.enhanced = reply.code, reply.enhanced


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client asked for with MAIL."""

    size: int = 0
    """Declared bytes (RFC 1870), 0 when none."""
    eight_bit: bool = False
    """BODY=8BITMIME (RFC 6152)."""
    smtputf8: bool = False
    """RFC 6531."""


NOTHING = Wanted()


def of_mail(data: bytes, *, extended: bool, limit: int) -> Wanted:
    """The parameters behind the path of MAIL. Raises Refused, 552 for a declared size above `limit`."""
    if not data.strip():
        return NOTHING
    if not extended or not data.startswith(b" "):
        raise Refused(replies.MAIL_SYNTAX)
    size, eight_bit, smtputf8 = 0, False, False
    for word in data.split():
        key, equals, value = word.upper().partition(b"=")
        if key == b"SIZE":
            size = _size(value, limit)
        elif key == b"BODY":
            eight_bit = _is_eight_bit(value)
        elif key == b"SMTPUTF8" and not equals:
            smtputf8 = True
        else:
            raise Refused(replies.PARAMETER_UNKNOWN)  # RET, ENVID, AUTH, MT-PRIORITY …: RFC 5321 section 4.1.1.11
    return Wanted(size, eight_bit, smtputf8)


def _size(value: bytes, limit: int) -> int:
    if not value.isdigit() or len(value) > 20:
        raise Refused(replies.PARAMETER_BAD)
    if int(value) > limit:
        raise Refused(replies.TOO_BIG)
    return int(value)


def _is_eight_bit(value: bytes) -> bool:
    if value not in (b"7BIT", b"8BITMIME"):
        raise Refused(replies.PARAMETER_BAD)  # BINARYMIME needs CHUNKING (RFC 3030), which we do not offer
    return value == b"8BITMIME"

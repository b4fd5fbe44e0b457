"""The paths of MAIL and RCPT: bytes in, a mailbox or a reason to refuse out (RFC 5321 section 4.1.2).

Ordinary addresses take one regular expression; quoted local parts, source routes and address
literals take the slow way behind it.
"""

import re
from dataclasses import dataclass

LOCAL_PART_BYTES = 64
DOMAIN_BYTES = 255
PATH_BYTES = 256
"""RFC 5321 section 4.5.3.1.1 to .3; longer ones are refused, not cut."""

_ATEXT = rb"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"
_LABEL = rb"[A-Za-z0-9_](?:[A-Za-z0-9_\-]*[A-Za-z0-9_])?"
_ORDINARY = re.compile(rb"<([%s]+(?:\.[%s]+)*)@(%s(?:\.%s)*)\.?>" % (_ATEXT, _ATEXT, _LABEL, _LABEL))
_QUOTED = re.compile(rb'"(?:[\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\x20-\x7e])*"')
_ROUTE = re.compile(rb"(?:@[A-Za-z0-9.\-\[\]:]+,?)+:")
_LITERAL = re.compile(rb"\[[0-9A-Za-z:.\-]{2,60}\]")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


class BadPath(ValueError):
    """A path that cannot be taken; `code`, `enhanced` and the text are what the peer hears."""

    def __init__(self, code: int, enhanced: str, text: str) -> None:
        super().__init__(text)
        self.code, self.enhanced, self.text = code, enhanced, text


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A local part as it was sent, and its domain in lower-case A-label form; both "" for `<>`."""

    local_part: str
    domain: str

    @property
    def address(self) -> str:
        """`local@domain`, or "" for the null sender; `postmaster` alone has no domain."""
        return f"{self.local_part}@{self.domain}" if self.domain else self.local_part


NULL = Mailbox("", "")


def reverse_path(data: bytes) -> tuple[Mailbox, bytes]:
    """The sender of MAIL and the rest of the line (its parameters). Raises BadPath."""
    if data.startswith(b"<>"):
        return NULL, data[2:]
    return _path(data)


def forward_path(data: bytes) -> tuple[Mailbox, bytes]:
    """The recipient of RCPT and the rest of the line. `<postmaster>` needs no domain. Raises BadPath."""
    if data[:12].lower() == b"<postmaster>":
        return Mailbox("postmaster", ""), data[12:]
    return _path(data)


def _path(data: bytes) -> tuple[Mailbox, bytes]:
    ordinary = _ORDINARY.match(data)
    if ordinary:
        local, domain = ordinary[1], ordinary[2]
        _check_lengths(local, domain)
        return Mailbox(local.decode("ascii"), domain.decode("ascii").lower()), data[ordinary.end() :]
    return _unusual_path(data)


def _unusual_path(data: bytes) -> tuple[Mailbox, bytes]:
    if _CONTROL.search(data):
        raise BadPath(501, "5.5.2", "Control characters in the address")
    if not data.startswith(b"<"):
        raise BadPath(501, "5.5.2", "The address must be in angle brackets")
    inner = data[1:]
    if route := _ROUTE.match(inner):
        inner = inner[route.end() :]  # RFC 5321 section 4.1.1.3: source routes are accepted and ignored
    local, rest = _local_part(inner)
    if not rest.startswith(b"@"):
        raise BadPath(501, "5.1.3", "The address needs a domain")
    domain, closing, parameters = rest[1:].partition(b">")
    if not closing:
        raise BadPath(501, "5.5.2", "The address is not closed")
    _check_lengths(local, domain)
    return Mailbox(_decoded(local), _domain(domain)), parameters


def _local_part(data: bytes) -> tuple[bytes, bytes]:
    if quoted := _QUOTED.match(data):
        return quoted[0], data[quoted.end() :]
    at = data.find(b"@")
    local = data[: at if at >= 0 else len(data)]
    dotted = local.startswith(b".") or local.endswith(b".") or b".." in local
    if not local or dotted or re.search(rb'[\s<>()\[\]\\,;:"]', local):
        raise BadPath(553, "5.1.3", "The local part of the address is malformed")
    return local, data[len(local) :]


def _domain(data: bytes) -> str:
    """Lower-case A-label form; UTF-8 labels by IDNA 2003, which is what the standard library has."""
    if _LITERAL.fullmatch(data):
        return data.decode("ascii").lower()
    try:
        name = data.decode("utf-8").removesuffix(".").encode("idna")
    except (UnicodeError, ValueError) as error:
        raise BadPath(553, "5.1.2", "The domain of the address is malformed") from error
    if not re.fullmatch(rb"%s(?:\.%s)*" % (_LABEL, _LABEL), name):
        raise BadPath(553, "5.1.2", "The domain of the address is malformed")
    return name.decode("ascii").lower()


def _decoded(local: bytes) -> str:
    try:
        return local.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadPath(553, "5.6.7", "The address is not UTF-8") from error


def _check_lengths(local: bytes, domain: bytes) -> None:
    if len(local) > LOCAL_PART_BYTES or len(domain) > DOMAIN_BYTES or len(local) + len(domain) + 1 > PATH_BYTES:
        raise BadPath(553, "5.1.3", "The address is too long")

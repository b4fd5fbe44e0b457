"""What an SPF check is about: client, names, the value of every macro (RFC 7208 sections 4.1, 7.2). No I/O."""

import ipaddress
from dataclasses import dataclass

from mx.checks import spf_macro

LABEL_CHARS = 63

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Asked:
    """What is checked: the inputs of section 4.1 and what the macros need."""

    client: Address
    local_part: str
    domain: str
    helo: str
    receiver: str
    now: int

    def value(self, letter: str, domain: str, validated: str) -> str:
        """The value of a macro letter (section 7.2) while `domain` is evaluated."""
        return {
            "s": f"{self.local_part}@{self.domain}",
            "l": self.local_part,
            "o": self.domain,
            "d": domain,
            "i": dotted(self.client),
            "p": validated,
            "v": "in-addr" if self.client.version == 4 else "ip6",
            "h": self.helo,
            "c": str(self.client),
            "r": self.receiver,
            "t": str(self.now),
        }[letter]


def client(text: str) -> Address:
    """The client's address; an IPv4 address mapped into IPv6 is that IPv4 address (section 5). Raises ValueError."""
    address = ipaddress.ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def is_domain(name: str) -> bool:
    """Whether DNS can hold it and it has a dot in it (section 4.3)."""
    labels = name.split(".")
    return (
        name.isascii()
        and len(labels) > 1
        and len(name) <= spf_macro.NAME_CHARS
        and all(0 < len(one) <= LABEL_CHARS for one in labels)
    )


def is_below(name: str, domain: str) -> bool:
    """Whether a name is the domain or one under it."""
    name, domain = name.lower(), domain.lower().removesuffix(".")
    return name == domain or name.endswith(f".{domain}")


def dotted(address: Address) -> str:
    """The macro i: dotted quad, or dotted nibbles (section 7.2)."""
    return str(address) if address.version == 4 else ".".join(f"{int(address):032X}")


def a_label(domain: str) -> str:
    """A domain in its ASCII form without a final dot; as it is where it has none, and then it has no record."""
    domain = domain.removesuffix(".")
    if domain.isascii():
        return domain
    try:
        return domain.encode("idna").decode()
    except UnicodeError:
        return domain

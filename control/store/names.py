"""The one spelling of what customers type: domains, list entries, local parts, node names. Pure.

What is stored is what nodes look up, so the spelling is made here, once, at the door.
"""

import ipaddress
import re

import idna

from control.store.errors import Invalid

LONGEST_DOMAIN = 253
LONGEST_LOCAL_PART = 64
"""RFC 5321 section 4.5.3.1; octets."""
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NODE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_LOCAL = re.compile(r"[^\x00-\x20\x7f@]+")
_DIGITS = re.compile(r"[0-9]+")


def domain(text: str, field: str = "name") -> str:
    """A domain in lower-case A-label form without its final dot. Raises Invalid."""
    name = text.strip().lower().removesuffix(".")
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError) as error:
            raise Invalid(field, f"{_shown(text)} is no domain name: {error}") from error
    labels = name.split(".")
    if len(name) > LONGEST_DOMAIN or not all(_LABEL.fullmatch(label) for label in labels):
        raise Invalid(field, f"{_shown(text)} is no domain name; write it like example.org")
    if len(labels) < 2 or _DIGITS.fullmatch(labels[-1]):
        raise Invalid(field, f"{_shown(text)} is no full domain name; write it like example.org")
    return name


def host(text: str, field: str = "host") -> str:
    """A host by name or address, in its one spelling. Raises Invalid."""
    try:
        return str(ipaddress.ip_address(text.strip().strip("[]")))
    except ValueError:
        return text.strip().lower() if text.strip().lower() == "localhost" else domain(text, field)


def match(text: str, field: str = "match") -> str:
    """What a list entry names: an address, a domain (with or without a leading "@"), or a network. Raises Invalid."""
    typed = text.strip()
    if "/" in typed or _is_address(typed):
        return _network(typed, field)
    local, at, rest = typed.rpartition("@")
    if at and local:
        return f"{local_part(local, field)}@{domain(rest, field)}"
    return domain(rest, field)


def local_part(text: str, field: str = "recipient") -> str:
    """A local part as it is looked up: lower case. Raises Invalid."""
    typed = text.strip().lower()
    if not _LOCAL.fullmatch(typed) or len(typed.encode("utf-8", "surrogatepass")) > LONGEST_LOCAL_PART:
        raise Invalid(field, f"{_shown(text)} is no part of an address before its @")
    return typed


def node(text: str, field: str = "name") -> str:
    """A node's name: lower-case letters, digits and hyphens, at most 32. Raises Invalid."""
    if not _NODE.fullmatch(text):
        raise Invalid(field, f"{_shown(text)} is no node name; use a-z, 0-9 and hyphens, at most 32, e.g. mx3")
    return text


def _network(text: str, field: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError as error:
        raise Invalid(field, f"{_shown(text)} is no network; write it like 192.0.2.0/24 or 2001:db8::/32") from error


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _shown(text: str) -> str:
    """What was typed, for an error text: cut, and free of control characters."""
    cut = text if len(text) <= 60 else text[:57] + "…"
    return "“" + "".join(each if each.isprintable() else "�" for each in cut) + "”"

"""The zones of the demo's Internet, written once: a visitor's edits stay.

They play what a real Internet would say: our own domains, senders with and without a true SPF record, and a
list of bad clients. The name of the file is the zone's name; the server re-reads a changed file within a second.
"""

from pathlib import Path

TTL_S = 5
LISTED_CLIENT = "127.0.0.99"
"""The client network that the demo's DNS list names."""

_ZONES = {
    "example.test": ["@ MX 10 mx1.mxfleet.test.", "@ MX 10 mx2.mxfleet.test.", '@ TXT "v=spf1 ip4:127.0.0.0/8 -all"'],
    "shop.test": ["@ MX 10 mx1.mxfleet.test.", "@ MX 10 mx2.mxfleet.test.", '@ TXT "v=spf1 ip4:127.0.0.0/8 -all"'],
    "mxfleet.test": ["@ A 127.0.0.1", *(f"mx{number} A 127.0.0.1" for number in range(1, 9))],
    "dnsbl.test": [
        f"{'.'.join(reversed(LISTED_CLIENT.split('.')))} A 127.0.0.2",
        f'{".".join(reversed(LISTED_CLIENT.split(".")))} TXT "listed in the demo: sends what nobody asked for"',
        "2.0.0.127 A 127.0.0.2",
        '2.0.0.127 TXT "the test entry of every list, RFC 5782 section 5"',
    ],
    "127.in-addr.arpa": [f"{LISTED_CLIENT.split('.')[3]}.0.0 PTR dialup-99.pool.test.", "1.0.0 PTR localhost."],
    "honest.test": ['@ TXT "v=spf1 ip4:127.0.0.0/8 -all"', "@ MX 10 mail.honest.test.", "mail A 127.0.0.1"],
    "partner.test": ['@ TXT "v=spf1 include:honest.test ~all"', "@ MX 10 mail.honest.test."],
    "bank.test": ['@ TXT "v=spf1 ip4:192.0.2.0/24 -all"', "@ MX 10 mail.bank.test.", "mail A 192.0.2.10"],
    "newsletter.test": ['@ TXT "v=spf1 ip4:198.51.100.7 ~all"', "@ MX 10 mail.newsletter.test.", "mail A 198.51.100.7"],
    "pool.test": ["dialup-99 A 127.0.0.99"],
}


def write(zones: Path) -> None:
    """Write each zone file that is not there."""
    zones.mkdir(parents=True, exist_ok=True)
    for name, records in _ZONES.items():
        path = zones / f"{name}.zone"
        if not path.exists():
            path.write_text(_zone(name, records))


def _zone(name: str, records: list[str]) -> str:
    head = [
        f"; What the demo's Internet says of {name}. Edit it: it counts within a second.",
        f"$ORIGIN {name}.",
        f"$TTL {TTL_S}",
        f"@ SOA mxfleet.test. hostmaster.mxfleet.test. 1 60 60 60 {TTL_S}",
        "@ NS mxfleet.test.",
    ]
    return "\n".join([*head, *records, ""])

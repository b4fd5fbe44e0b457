"""Names of the keys in etcd and in the last-known-good store."""

PREFIX = "/mxfleet/"
META = PREFIX + "meta"
SYSTEM = PREFIX + "settings/system"
ACCOUNTS = PREFIX + "settings/account/"
DOMAINS = PREFIX + "settings/domain/"
MEMBERS = PREFIX + "settings/member/"
SETTINGS = PREFIX + "settings/"
SHARDS = PREFIX + "shard/"
RECEIPTS = PREFIX + "heard/"
"""Outside `FIRST`..`END`: a node that watches what is published need not hear every other node's reports."""
ELECTION = PREFIX + "election/publisher"
ROTATION = PREFIX + "election/rotation"
"""Names of the nodes that are out of rotation, as a JSON list."""

FIRST, END = META, PREFIX + "shard0"
"""Everything that is published, META included, lies in this range and nothing else does ("0" follows "/")."""


def account(account_id: str) -> str:
    """Key of an account's layer."""
    return ACCOUNTS + account_id


def domain(name: str) -> str:
    """Key of a domain's layer; `name` is lower-case A-label form without a final dot."""
    return DOMAINS + name


def member(node: str) -> str:
    """Key of a member of the fleet."""
    return MEMBERS + node


def shard(name: str) -> str:
    """Key of an immutable shard."""
    return SHARDS + name


def receipt(node: str) -> str:
    """Key under which a node reports what it has applied; lives as long as its lease."""
    return RECEIPTS + node

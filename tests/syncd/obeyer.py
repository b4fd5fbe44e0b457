"""`python -m tests.syncd.obeyer node.toml`: a worker as far as settings go; answers each domain on stdin with what it
would judge by, one JSON line each."""

import json
import sys

from mx.policy import Absent, NotKnown, Policies
from syncd import config


def main() -> None:
    """Answer until stdin ends."""
    with Policies(config.load(sys.argv[1], config.Node)) as policies:
        for line in sys.stdin:
            print(json.dumps(_look(policies, line.strip())), flush=True)


def _look(policies: Policies, domain: str) -> dict[str, object]:
    try:
        found = policies.find(domain)
    except NotKnown as error:
        return {"not_known": str(error)}
    if isinstance(found, Absent):
        return {"absent": True}
    return {"days": found.sections["retention"].days, "tag": found.sections["scoring"].tag}


if __name__ == "__main__":
    main()

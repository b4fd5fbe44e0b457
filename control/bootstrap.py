"""`python -m control.bootstrap --config control.toml`: the first account, its owner, and the first tokens.

Prints `{"account", "email", "password", "token", "operator_token"}` as JSON. Harmless again: what was made is kept in
a file that only its owner may read, so that a second run prints the same and changes nothing. The database must have
been migrated.
"""

import argparse
import asyncio
import json
import secrets
import sys
from pathlib import Path
from typing import Any

import asyncpg
from ulid import ULID

from control import auth, passwords
from control.ca import write_private
from control.store import accounts
from syncd import config

ACCOUNT = "Example"
EMAIL = "owner@example.test"
WITHIN_S = 60.0
VIEWER = auth.Viewer(author="bootstrap", account_id=None, role="operator", door="cli")


def main() -> int:
    """Make what is missing and print it; 1 with a reason when the database cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m control.bootstrap", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--config", required=True, help="the control plane's TOML file")
    parser.add_argument("--secrets", help="where to keep what was made; default: bootstrap.json beside the config")
    parser.add_argument("--json", action="store_true", help="print JSON (always so; accepted for clarity)")
    given = parser.parse_args()
    kept = Path(given.secrets) if given.secrets else Path(given.config).with_name("bootstrap.json")
    try:
        made = asyncio.run(_bootstrap(config.load(given.config, config.Control).database, kept))
    except (OSError, asyncpg.PostgresError, config.ConfigError, ValueError) as error:
        print(f"bootstrap: {error}; is PostgreSQL up, and migrated?", file=sys.stderr)
        return 1
    print(json.dumps(made))
    return 0


async def _bootstrap(database: str, kept: Path) -> dict[str, str]:
    made = _remembered(kept)
    connection = await asyncpg.connect(database, timeout=WITHIN_S, command_timeout=WITHIN_S)
    try:
        async with connection.transaction():
            await ensure(connection, made)
    finally:
        await connection.close(timeout=WITHIN_S)
    return made


def _remembered(kept: Path) -> dict[str, str]:
    """What an earlier run made, or new secrets, written down before they are used."""
    try:
        made: dict[str, str] = json.loads(kept.read_text())
    except FileNotFoundError:
        made = fresh()
        write_private(kept, json.dumps(made).encode())
    return made


def fresh() -> dict[str, str]:
    """New ids and secrets of the shape that is printed."""
    return {
        "account": str(ULID()),
        "email": EMAIL,
        "password": secrets.token_urlsafe(12),
        "token": auth.make_token(),
        "operator_token": auth.make_token(),
    }


async def ensure(connection: Any, made: dict[str, str]) -> None:
    """Have the account, its owner, both tokens, and the first layers in the database as `made` says."""
    await connection.execute(
        "insert into accounts (id, name) values ($1, $2) on conflict (id) do nothing", made["account"], ACCOUNT
    )
    await connection.execute(
        "insert into users (id, account_id, email, password, role) values ($1, $2, $3, $4, 'owner')"
        " on conflict (email) do nothing",
        str(ULID()),
        made["account"],
        made["email"],
        await passwords.digest(made["password"]),
    )
    await accounts.ensure_layer(connection, VIEWER, "system", "")
    await accounts.ensure_layer(connection, VIEWER, "account", made["account"])
    await auth.add_token(connection, made["account"], "owner", made["token"])
    await auth.add_token(connection, None, "operator", made["operator_token"])


if __name__ == "__main__":
    sys.exit(main())

"""Who is at the door: bearer tokens of the API and sessions of the panel, each as a `Viewer`.

Tokens and cookies are random; only their SHA-256 is stored, so a copy of the database opens nothing. What is found
here says which account a request may see; every query downstream is scoped by it.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal
from urllib.parse import urlsplit

from ulid import ULID

from control import passwords
from control.throttle import Throttle

Role = Literal["owner", "admin", "operator"]
Door = Literal["panel", "api", "cli"]

COOKIE = "mxfleet_session"
SESSION_AGE = timedelta(days=14)
"""A session unseen for this long has ended."""
SEEN_EVERY = timedelta(minutes=1)
"""How exactly "last seen" and "last used" are kept: not every request is worth a write."""
TOKEN_BYTES = 32
TOKEN_PREFIX = "mxf_"
"""Makes a leaked token recognisable to scanners."""
LONGEST_TOKEN = 200
LONGEST_USER_AGENT = 300


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who asks, for which account, through which door; `account_id` None is the operator, who sees all."""

    author: str
    account_id: str | None
    role: Role
    door: Door

    @property
    def is_operator(self) -> bool:
        """Whether this viewer runs the installation and sees every account."""
        return self.account_id is None

    def sees(self, account_id: str) -> bool:
        """Whether what belongs to this account may be shown to the viewer."""
        return self.account_id is None or self.account_id == account_id


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in browser; `csrf` is the token that its forms must carry."""

    viewer: Viewer
    user_id: str
    csrf: str


class Throttled(Exception):
    """Too many failed sign-ins from this address or for this account; try again in `wait_s` seconds."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"too many failed sign-ins; try again in {wait_s:.0f} s")
        self.wait_s = wait_s


_by_address = Throttle(limit=20, window_s=300)
_by_account = Throttle(limit=8, window_s=300)


def make_token() -> str:
    """A new bearer token."""
    return TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)


def token_hash(token: str) -> bytes:
    """What is stored of a token or cookie. Plain SHA-256 will do: the input is random, not chosen."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


async def add_token(pool: Any, account_id: str | None, name: str, token: str) -> str:
    """Store a bearer token for an account, or for the operator (None). Returns its id; harmless again."""
    row = await pool.fetchrow(
        "insert into api_tokens (id, token_hash, account_id, name) values ($1, $2, $3, $4)"
        " on conflict (token_hash) do update set name = excluded.name returning id",
        str(ULID()),
        token_hash(token),
        account_id,
        name,
    )
    return str(row["id"])


async def by_token(pool: Any, token: str, door: Door = "api") -> Viewer | None:
    """The viewer of a bearer token; None when nobody has it."""
    if not token or len(token) > LONGEST_TOKEN:
        return None
    row = await pool.fetchrow(
        "select id, account_id, name, (used_at is null or used_at < now() - $2::interval) as stale"
        " from api_tokens where token_hash = $1",
        token_hash(token),
        SEEN_EVERY,
    )
    if row is None:
        return None
    if row["stale"]:
        await pool.execute("update api_tokens set used_at = now() where id = $1", row["id"])
    role: Role = "operator" if row["account_id"] is None else "owner"
    return Viewer(author=f"token {row['name']}", account_id=row["account_id"], role=role, door=door)


async def sign_in(pool: Any, email: str, password: str, *, client_ip: str, user_agent: str = "") -> str | None:
    """A new session's cookie value; None for a wrong address or password, told apart neither by answer nor by time.

    Raises Throttled after too many failures from one client or for one address.
    """
    email = email.strip().lower().replace("\x00", "")
    doors = ((_by_address, client_ip), (_by_account, email))
    if wait_s := max(throttle.wait_s(key) for throttle, key in doors):
        raise Throttled(wait_s)
    for throttle, key in doors:
        # Counted before the check: parallel guesses must not all pass while the first is being hashed.
        throttle.count(key)
    row = await pool.fetchrow("select id, password from users where email = $1", email)
    if not await passwords.fits(row["password"] if row else None, password) or row is None:
        return None
    for throttle, key in doors:
        throttle.give_back(key)
    return await _open_session(pool, row["id"], client_ip, user_agent)


async def by_session(pool: Any, cookie: str) -> Session | None:
    """The session of a cookie; None when it is unknown or has ended."""
    if not cookie or len(cookie) > LONGEST_TOKEN:
        return None
    row = await pool.fetchrow(
        "select s.csrf, u.id, u.email, u.account_id, u.role, s.seen_at < now() - $3::interval as stale"
        " from sessions s join users u on u.id = s.user_id"
        " where s.token_hash = $1 and s.seen_at > now() - $2::interval",
        token_hash(cookie),
        SESSION_AGE,
        SEEN_EVERY,
    )
    if row is None:
        return None
    if row["stale"]:
        await pool.execute("update sessions set seen_at = now() where token_hash = $1", token_hash(cookie))
    account = None if row["role"] == "operator" else row["account_id"]
    return Session(Viewer(row["email"], account, row["role"], "panel"), row["id"], row["csrf"])


async def sign_out(pool: Any, cookie: str) -> None:
    """End a session; one that has ended already is no error."""
    await pool.execute("delete from sessions where token_hash = $1", token_hash(cookie))


def csrf_fits(session: Session, given: str) -> bool:
    """Whether a form carries its session's token."""
    return secrets.compare_digest(session.csrf.encode(), given.encode("utf-8", "surrogateescape"))


def is_foreign(*, origin: str | None, fetch_site: str | None, host: str) -> bool:
    """Whether a browser says that a writing request comes from another site than ours (`host` with port).

    Fetch Metadata (W3C) where the browser sends it, else the Origin field (RFC 6454); without both it is no
    cross-site form post of a current browser, and the session's CSRF token decides.
    """
    if fetch_site is not None:
        return fetch_site not in ("same-origin", "none")
    return origin is not None and urlsplit(origin).netloc != host


async def _open_session(pool: Any, user_id: str, client_ip: str, user_agent: str) -> str:
    cookie = secrets.token_urlsafe(TOKEN_BYTES)
    await pool.execute(
        "insert into sessions (token_hash, user_id, csrf, client_ip, user_agent)"
        " values ($1, $2, $3, $4::text::inet, $5)",
        token_hash(cookie),
        user_id,
        secrets.token_urlsafe(TOKEN_BYTES),
        client_ip or None,
        user_agent.replace("\x00", "")[:LONGEST_USER_AGENT],
    )
    await pool.execute("delete from sessions where seen_at < now() - $1::interval", SESSION_AGE)
    return cookie

"""Configuration files of a node and of the control plane: TOML in, frozen structs out.

An unknown key or a wrong type is an error that names the file, the place and what to do.
"""

from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta


class ConfigError(Exception):
    """A configuration file that cannot be used; the text says which, where and why."""


class Tls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """PEM files of one side: the installation's CA, our certificate, our key."""

    ca: str
    cert: str
    key: str


class Etcd(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where etcd is: "host:port" each; `tls` None only on a machine of one's own."""

    endpoints: tuple[str, ...]
    tls: Tls | None = None


class SmtpLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one worker takes of all clients, of one client network (an IPv4 address, an IPv6 /64), of one session.

    The defaults lie far above any honest sender, so that only floods meet them.
    """

    connections: Annotated[int, Meta(ge=1)] = 20_000
    """Open at once. When three quarters are taken, a network that holds more than a tenth gets no more."""
    new_per_s: Annotated[int, Meta(ge=1)] = 2_000
    connections_per_network: Annotated[int, Meta(ge=1)] = 12_000
    new_per_s_per_network: Annotated[int, Meta(ge=1)] = 500
    errors_per_minute: Annotated[int, Meta(ge=1)] = 600
    """Errors of a network within a minute; then it is banned."""
    ban_s: Annotated[int, Meta(ge=1, le=60)] = 30
    errors: Annotated[int, Meta(ge=1)] = 20
    """Errors in one session before it is closed."""
    commands: Annotated[int, Meta(ge=20)] = 300
    """Commands since the last mail, not counting as many as `recipients`, before the session is closed."""
    recipients: Annotated[int, Meta(ge=100)] = 1000
    """In one transaction; RFC 5321 section 4.5.3.1.8 asks for at least 100."""
    idle_s: Annotated[float, Meta(gt=0)] = 300.0
    """For a whole command, or the next piece of a message; RFC 5321 section 4.5.3.2.7: at least 5 minutes."""
    session_s: Annotated[float, Meta(gt=0)] = 3600.0
    """For a whole connection."""
    message_grace_s: Annotated[float, Meta(ge=0)] = 60.0
    """How long a message may take whatever its size; from then on `bytes_per_s` is asked for."""
    bytes_per_s: Annotated[int, Meta(ge=1)] = 100
    """The slowest that a message may come, on average."""
    message_memory_bytes: Annotated[int, Meta(ge=1024 * 1024)] = 256 * 1024 * 1024
    """What messages may hold of a worker's memory at once; what is more waits on disk."""


class Smtp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The SMTP front of a node."""

    host: str
    port: int
    hostname: str
    """Name in the banner, the Received fields and our EHLO to next hops."""
    cert: str = ""
    key: str = ""
    max_message_bytes: int = 50 * 1024 * 1024
    greet_delay_s: float = 0.0
    """Wait this long before the banner, to catch clients that talk first; 0 looks once without waiting."""
    bare_newlines: Literal["refuse", "normalise"] = "refuse"
    proxies: tuple[str, ...] = ()
    """Networks whose connections begin with a PROXY header (version 1 or 2) naming the client; nobody else's may."""
    limits: SmtpLimits = SmtpLimits()


class Spool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The spool of a node."""

    socket: str
    journal_dir: str
    host: str
    port: int
    receiver_host: str
    receiver_port: int
    secure_timeout_s: float = 1.0
    when_not_secured: Literal["defer", "answer"] = "defer"
    """What to answer when the second copy cannot be had in time: 451, or as if it were, with an alarm."""


class Node(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a node's processes need."""

    name: str
    state_dir: str
    panel_url: str
    """Public address of the panel, named in replies: `<panel_url>/r/ID`."""
    memcached_socket: str
    resolver: tuple[str, ...]
    """Name servers as "host:port"."""
    smtp: Smtp
    spool: Spool
    etcd: Etcd
    tls: Tls
    """Node certificate of the installation's CA, for the spool protocol."""
    metrics_host: str = "127.0.0.1"


class Control(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything the control plane's processes need."""

    panel_url: str
    panel_host: str
    panel_port: int
    database: str
    """PostgreSQL DSN."""
    etcd: Etcd
    tls: Tls
    """Receiver's certificate of the installation's CA."""
    ca_cert: str
    ca_key: str
    receiver_host: str
    receiver_port: int
    receiver_journal_dir: str
    packs: str
    """Object store URL of the packs: "file:///…" or "s3://…"."""
    prometheus_url: str
    secret_file: str
    """File with 32 random bytes: signs cookies and the released-mail header."""
    scrape: dict[str, str] = {}
    """Metrics URL of each control process, for service discovery."""
    metrics_host: str = "127.0.0.1"
    resolver: tuple[str, ...] = ()
    """Name servers as "host:port" for proofs of ownership; none: the system's."""
    open_packs_dir: str = ""
    """Local directory of the packs that are still written; "" for `receiver_journal_dir` with "-packs" behind it."""


T = TypeVar("T", bound=msgspec.Struct)


def load(path: str | Path, kind: type[T]) -> T:
    """Read one configuration file. Raises ConfigError."""
    try:
        return msgspec.toml.decode(Path(path).read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error

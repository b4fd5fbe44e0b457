"""Where the machine keeps the programs we start, and the users they run as when we are root."""

import os
import pwd
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PACKAGES = {
    "postgres": "postgresql",
    "initdb": "postgresql",
    "etcd": "etcd-server",
    "memcached": "memcached",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "knotd": "knot",
    "knotc": "knot",
}
"""Program -> the Debian package that brings it."""


class Missing(Exception):
    """A program is not installed; the text names it and the command that installs it."""


@dataclass(frozen=True)
class User:
    """An account of the machine that a program runs as."""

    name: str
    uid: int
    gid: int

    def become(self) -> None:
        """Drop this process to the user, for good; for use before exec only."""
        os.setgroups([])
        os.setgid(self.gid)
        os.setuid(self.uid)


def find(program: str) -> str:
    """Absolute path of an installed program. Raises Missing.

    Debian keeps PostgreSQL's servers out of PATH, and a plain user's PATH lacks the sbin directories.
    PostgreSQL's own directories come first, newest version first: a wrapper in PATH may start another one.
    """
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    path = [str(place) for place in versions]
    path += [*os.environ.get("PATH", "").split(os.pathsep), "/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin"]
    found = shutil.which(program, path=os.pathsep.join(path))
    if found is None:
        package = PACKAGES.get(program, program)
        raise Missing(f"{program} is not installed: apt-get install {package}")
    return found


def missing(programs: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Programs that cannot be found, each with the package that brings it."""
    lacking = {}
    for program in programs:
        try:
            find(program)
        except Missing:
            lacking[program] = PACKAGES.get(program, program)
    return lacking


def user_for(*names: str) -> User | None:
    """The first of these accounts that exists, else `nobody`; None when we are no root and stay who we are."""
    if os.geteuid() != 0:
        return None
    for name in (*names, "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return User(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise Missing(f"none of the users {', '.join(names)}, nobody exists: create one with adduser --system")


def can_reach(path: Path, user: User | None) -> bool:
    """Whether the user may traverse every directory above `path`."""
    if user is None:
        return True
    for parent in path.resolve().parents:
        try:
            entry = parent.stat()
        except FileNotFoundError:
            continue
        shift = 6 if entry.st_uid == user.uid else 3 if entry.st_gid == user.gid else 0
        if not (entry.st_mode >> shift) & 1:
            return False
    return True


def _version(place: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", place.parent.name))

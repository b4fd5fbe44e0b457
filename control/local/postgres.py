"""Starts the cluster's PostgreSQL once the children of a killed predecessor are gone.

A postmaster that was killed leaves its backends for a moment; a new one that starts then finds the shared
memory in use and gives up ("pre-existing shared memory block is still in use"), or finds a pid file whose
number now belongs to one of those children. So this wrapper waits for them, and becomes the server by exec:
the pid that supervisord knows is the postmaster's. Run by supervisord as `postgres`.
"""

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from control.local import arguments, configs, programs
from control.local.layout import HOST, Layout, Unusable, own_directory

ORPHANS_MAY_TAKE_S = 5.0
"""Backends see the end of their postmaster at once; one that is frozen never does, and is killed then."""
INITDB_WITHIN_S = 120.0

_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "100",
    "log_line_prefix": "%t [%p] %d ",
    "timezone": "UTC",
}


def main() -> None:
    """Wait for orphans, then become the PostgreSQL server."""
    layout = arguments.layout(__doc__)
    data = data_directory(layout)
    wait_for_orphans(data)
    server = programs.find("postgres")
    settings = _SETTINGS | {"port": str(layout.port("postgres"))}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    os.chdir(data)
    user = programs.user_for("postgres")
    if user:
        user.become()
    os.execv(server, [server, "-D", str(data), *options])


def data_directory(layout: Layout) -> Path:
    """Where the database lies."""
    return layout.postgres_data / "data"


def initialise(layout: Layout) -> bool:
    """Make the database cluster if there is none; True when it was made. Raises Unusable with initdb's words."""
    data, user = data_directory(layout), programs.user_for("postgres")
    if (data / "PG_VERSION").exists():
        return False
    own_directory(layout.postgres_data, user=user)
    own_directory(data, user=user)
    password = layout.postgres_data / "password"
    password.write_text(configs.password_file(layout).read_text())
    if user:
        os.chown(password, user.uid, user.gid)
    command = [programs.find("initdb"), "-D", str(data), "-U", configs.DATABASE, "--pwfile", str(password)]
    command += ["-E", "UTF8", "--locale=C.UTF-8", "-A", "scram-sha-256"]
    ids = {"user": user.uid, "group": user.gid, "extra_groups": []} if user else {}
    made = subprocess.run(
        command,
        capture_output=True,
        cwd="/",
        timeout=INITDB_WITHIN_S,
        check=False,
        text=True,
        umask=0o077,
        **ids,  # type: ignore[call-overload]
    )
    password.unlink()
    if made.returncode != 0:
        raise Unusable(f"initdb failed:\n{made.stderr.strip()}")
    return True


def wait_for_orphans(data: Path) -> None:
    """Return when no PostgreSQL process works in `data` and no stale pid file stands in a new one's way."""
    deadline = time.monotonic() + ORPHANS_MAY_TAKE_S
    while orphans := _working_in(data):
        if time.monotonic() > deadline:
            for pid in orphans:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    (data / "postmaster.pid").unlink(missing_ok=True)


def _working_in(data: Path) -> list[int]:
    """Processes whose working directory is `data`: PostgreSQL's own go there at their start, and nobody else."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):  # ended meanwhile, or another user's
            if (entry / "cwd").resolve() == data.resolve() and (entry / "exe").resolve().name == "postgres":
                found.append(int(entry.name))
    return found


if __name__ == "__main__":
    main()

"""The cluster's supervisord: started, spoken to over its unix socket, replaced when it was killed."""

import os
import resource
import signal
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import SupervisorTransport

from control.local import parts
from control.local.layout import ROOT, Layout, NodePlace, Unusable, own_directory

WANTED_FILES = 65536
"""Open files a worker may need: 12,000 clients, as many next hops, and room."""
START_WITHIN_S = 20.0
ANSWER_WITHIN_S = 5.0
ORPHANS_STOP_WITHIN_S = 20.0
ADDRESS = "SUPERVISOR_SERVER_URL"
"""supervisord puts its address into the environment of all it starts: what has ours there is ours."""


class Supervisor:
    """supervisord of one cluster."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._socket = layout.run / "supervisor.sock"
        self._url = f"unix://{self._socket}"

    def runs(self) -> bool:
        """Whether it answers: one that is frozen, or gone with its socket left behind, does not."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(ANSWER_WITHIN_S)
            try:
                probe.connect(str(self._socket))
                probe.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return bool(probe.recv(1))
            except OSError:
                return False

    @property
    def pid(self) -> int:
        """Its pid."""
        with self._calls() as call:
            return int(call.getPID())

    def clear(self) -> list[str]:
        """End what a killed or frozen predecessor left, and raise limits; returns what the user should know."""
        self._end_silent_predecessor()
        notes = [f"ended {count} processes that a killed supervisor had left"] if (count := self.end_orphans()) else []
        files = raise_file_limit()
        if files < WANTED_FILES:
            notes.append(f"open files are limited to {files}: thousands of connections at once may be refused")
        return notes

    def start(self) -> None:
        """Start it and wait until it answers. Raises Unusable."""
        own_directory(self._layout.run, mode=0o711)
        self._socket.unlink(missing_ok=True)
        configuration = self._layout.var / "supervisor" / "supervisord.conf"
        configuration.write_text(parts.supervisor_conf(self._layout))
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(configuration)]
        with self._layout.log("supervisor").open("ab") as log:
            subprocess.run(
                command, check=True, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=START_WITHIN_S
            )
        deadline = time.monotonic() + START_WITHIN_S
        while not self.runs():
            if time.monotonic() > deadline:
                raise Unusable(f"supervisord does not answer on {self._socket}; see {self._layout.log('supervisor')}")
            time.sleep(0.05)

    def processes(self) -> dict[str, dict[str, Any]]:
        """State of every program by name, as supervisord tells it ("statename", "pid", "group", …)."""
        with self._calls() as call:
            return {info["name"]: info for info in call.getAllProcessInfo()}

    def write_group(self, group: str, members: list[parts.Part]) -> None:
        """Write the file of a program group; `update` makes it count."""
        self._layout.conf_d.mkdir(parents=True, exist_ok=True)
        path = self._layout.conf_d / f"{group}.conf"
        path.write_text(parts.group_conf(self._layout, group, members))

    def remove_group(self, group: str) -> None:
        """Take the file of a group away; `update` stops its programs and forgets them."""
        (self._layout.conf_d / f"{group}.conf").unlink(missing_ok=True)

    def update(self) -> None:
        """Make running groups what the files say: stop removed and changed ones, add new and changed ones."""
        with self._calls() as call:
            (added, changed, removed) = call.reloadConfig()[0]
            for group in (*changed, *removed):
                call.stopProcessGroup(group)
                call.removeProcessGroup(group)
            for group in (*added, *changed):
                with suppress(xmlrpc.client.Fault):  # another node joins at the same moment and has added both
                    call.addProcessGroup(group)

    def ensure(self, *names: str) -> list[str]:
        """Start those of these programs that do not run; returns which."""
        known = self.processes()
        idle = [name for name in names if known[name]["statename"] in ("STOPPED", "EXITED", "FATAL", "UNKNOWN")]
        with self._calls() as call:
            for name in idle:
                with suppress(xmlrpc.client.Fault):  # it was being started again this very moment
                    call.startProcess(f"{known[name]['group']}:{name}", False)
        return idle

    def stop(self, *names: str) -> None:
        """Stop single programs, each in its own time, and wait until they are gone."""
        known = self.processes()
        with self._calls() as call:
            for name in names:
                with suppress(xmlrpc.client.Fault):  # it does not run
                    call.stopProcess(f"{known[name]['group']}:{name}")

    def stop_group(self, group: str) -> None:
        """Stop the programs of a group and wait until they are gone."""
        with self._calls() as call:
            call.stopProcessGroup(group)

    def shut_down(self) -> None:
        """Stop the supervisor and all it runs, and wait until it is gone."""
        pid = self.pid
        with self._calls() as call:
            call.shutdown()
        while _alive(pid):
            time.sleep(0.05)

    def end_orphans(self) -> int:
        """End the processes that a supervisor of this cluster started and left; returns how many there were."""
        orphans = list(self._orphans())
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + ORPHANS_STOP_WITHIN_S
            for pid in self._orphans():
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
                    os.kill(pid, signal.SIGCONT)
            while any(True for _ in self._orphans()) and time.monotonic() < deadline:
                time.sleep(0.05)
        return len(orphans)

    def _end_silent_predecessor(self) -> None:
        """Kill the supervisord of our pid file if it still exists: it did not answer."""
        directory = self._layout.var / "supervisor"
        with suppress(FileNotFoundError, ProcessLookupError, ValueError):
            pid = int((directory / "supervisord.pid").read_text())
            if str(directory / "supervisord.conf").encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)

    def _orphans(self) -> Iterator[int]:
        """Processes whose environment names our supervisor's socket."""
        mark = f"{ADDRESS}={self._url}".encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with suppress(OSError):  # ended meanwhile, or another user's
                    if mark in (entry / "environ").read_bytes().split(b"\0") and _alive(int(entry.name)):
                        yield int(entry.name)

    @contextmanager
    def _calls(self) -> Iterator[Any]:
        """supervisord's calls; each of these contexts is one connection. Raises Unusable with supervisord's words."""
        transport = SupervisorTransport(None, None, self._url)
        try:
            yield xmlrpc.client.ServerProxy("http://127.0.0.1", transport).supervisor
        except (OSError, xmlrpc.client.Error) as error:
            raise Unusable(f"supervisord: {error}; see {self._layout.log('supervisor')}") from error
        finally:
            transport.close()


def add_node(supervisor: Supervisor, place: NodePlace) -> None:
    """Have supervisord know a node's programs, and start them."""
    members = parts.node(place)
    supervisor.write_group(place.name, members)
    supervisor.update()
    supervisor.ensure(*(part.name for part in members))


def raise_file_limit() -> int:
    """Raise this process's limit of open files, which all we start inherit; returns what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limits in ((WANTED_FILES, max(hard, WANTED_FILES)), (min(hard, WANTED_FILES), hard)):
        if soft >= WANTED_FILES:
            break
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            break
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] != "Z"

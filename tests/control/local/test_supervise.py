"""A real supervisord restarts whatever dies, for ever; what a killed one leaves is found and ended."""

import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from control.local import parts, roster
from control.local.layout import HOST, Layout
from control.local.parts import Part
from control.local.supervise import Supervisor
from tests.cluster import free_port_base
from tests.servers import running

SLEEPER = (sys.executable, "-c", "import time; time.sleep(600)")
STUBBORN = (sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)")


@pytest.fixture
def layout() -> Iterator[Layout]:
    var = Path(tempfile.mkdtemp(prefix="mxf", dir="/tmp"))
    made = Layout(var, free_port_base())
    for name in ("log", "supervisor/conf.d"):
        (var / name).mkdir(parents=True)
    yield made
    shutil.rmtree(var, ignore_errors=True)
    shutil.rmtree(made.run, ignore_errors=True)


@pytest.fixture
def supervisor(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    started = Supervisor(layout)
    started.clear()
    started.write_group("fleet", [Part("one", SLEEPER), Part("two", SLEEPER)])
    started.start()
    yield started
    if started.runs():
        started.shut_down()
    started.end_orphans()


def _eventually(look: Callable[[], Any], what: str, within_s: float = 15.0) -> Any:
    deadline = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {within_s} s for {what}"
        time.sleep(0.05)
    return found


def _pid(supervisor: Supervisor, name: str, other_than: int = 0) -> int:
    def look() -> int:
        pid = int(supervisor.processes()[name]["pid"])
        return pid if pid != other_than else 0

    return int(_eventually(look, f"a pid of {name}"))


def test_nothing_runs_until_it_is_asked_for_and_asking_twice_is_harmless(supervisor: Supervisor) -> None:
    assert supervisor.processes()["one"]["statename"] == "STOPPED"
    assert supervisor.ensure("one") == ["one"]
    pid = _pid(supervisor, "one")
    assert supervisor.ensure("one") == []
    assert _pid(supervisor, "one") == pid


def test_what_dies_is_back_within_two_seconds_however_often(supervisor: Supervisor) -> None:
    supervisor.ensure("one")
    pid = _pid(supervisor, "one")
    for _ in range(5):
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        pid = _pid(supervisor, "one", other_than=pid)
        assert time.monotonic() - began < 2.5


def test_a_program_that_ends_at_once_is_never_given_up(supervisor: Supervisor, layout: Layout) -> None:
    mark = layout.var / "starts"
    once = (sys.executable, "-c", f"open({str(mark)!r}, 'a').write('x'); raise SystemExit(1)")
    supervisor.write_group("crash", [Part("crash", once)])
    supervisor.update()
    supervisor.ensure("crash")
    _eventually(lambda: mark.exists() and len(mark.read_text()) >= 6, "six starts", within_s=20)
    assert supervisor.processes()["crash"]["statename"] not in ("FATAL", "BACKOFF", "STOPPED")


def test_a_group_comes_and_goes_without_touching_the_others(supervisor: Supervisor) -> None:
    supervisor.ensure("one", "two")
    before = _pid(supervisor, "one")
    supervisor.write_group("mx9", [Part("mx9.worker1", SLEEPER)])
    supervisor.update()
    supervisor.ensure("mx9.worker1")
    added = _pid(supervisor, "mx9.worker1")
    supervisor.remove_group("mx9")
    supervisor.update()
    assert "mx9.worker1" not in supervisor.processes()
    assert not Path(f"/proc/{added}").exists()
    assert _pid(supervisor, "one") == before


def test_a_killed_supervisor_is_replaced_and_its_orphans_ended(supervisor: Supervisor, layout: Layout) -> None:
    supervisor.write_group("fleet", [Part("one", SLEEPER), Part("two", STUBBORN, stop_wait_s=1)])
    supervisor.update()
    supervisor.ensure("one", "two")
    orphans = [_pid(supervisor, "one"), _pid(supervisor, "two")]
    supervisor_pid = supervisor.pid
    os.kill(orphans[0], signal.SIGSTOP)
    os.kill(supervisor_pid, signal.SIGKILL)
    _eventually(lambda: not supervisor.runs(), "the killed supervisor to be gone")
    fresh = Supervisor(layout)
    notes = fresh.clear()  # the two, and the roster if it has not seen its pipe close yet
    assert notes[0].startswith(("ended 2 processes", "ended 3 processes")), notes
    assert not any(running(pid) for pid in orphans)
    fresh.start()
    assert fresh.runs()
    assert fresh.pid != supervisor_pid


def test_a_frozen_supervisor_is_replaced(
    supervisor: Supervisor, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("control.local.supervise.ANSWER_WITHIN_S", 0.3)
    supervisor.ensure("one")
    pid, child = supervisor.pid, _pid(supervisor, "one")
    os.kill(pid, signal.SIGSTOP)
    fresh = Supervisor(layout)
    assert not fresh.runs()
    fresh.clear()
    assert not running(pid)
    assert not running(child)
    fresh.start()
    assert fresh.runs()


def test_a_process_that_only_names_our_directory_is_not_ended(supervisor: Supervisor, layout: Layout) -> None:
    """A visitor's `tail -f var/log/…` is no orphan of ours."""
    reader = os.spawnvp(os.P_NOWAIT, "tail", ["tail", "-f", str(layout.var / "log" / "supervisor.log")])
    try:
        supervisor.end_orphans()
        assert running(reader)
    finally:
        os.kill(reader, signal.SIGKILL)
        os.waitpid(reader, 0)


def test_the_configuration_never_lets_supervisord_give_up(layout: Layout) -> None:
    text = parts.group_conf(layout, "fleet", [Part("one", SLEEPER)])
    assert "startsecs = 0" in text
    assert "autorestart = true" in text
    assert f"startretries = {parts.NEVER_GIVE_UP}" in text


def test_demo_json_follows_every_start_and_every_node(supervisor: Supervisor, layout: Layout) -> None:
    roster.seeds_file(layout).write_text('{"domain": "example.test", "token": "t"}')
    supervisor.ensure("roster", "one")
    first = _eventually(lambda: _told(layout).get("pids", {}).get("one"), "demo.json to name the pid")
    assert first == _pid(supervisor, "one")
    os.kill(first, signal.SIGKILL)
    _eventually(lambda: _told(layout)["pids"]["one"] not in (0, first), "demo.json to name the new pid")
    os.kill(supervisor.processes()["roster"]["pid"], signal.SIGKILL)
    layout.node(3).directory.mkdir(parents=True)
    layout.node(3).config.touch()
    supervisor.write_group("mx3", [Part("mx3.worker1", SLEEPER)])
    supervisor.update()
    _eventually(lambda: [HOST, layout.node(3).port("smtp")] in _told(layout)["smtp"], "the node to be named")
    assert {"mx3.worker1", "mx3.spool"} <= set(_told(layout)["metrics"])
    assert _told(layout)["pids"]["supervisor"] == supervisor.pid
    assert layout.demo_json.stat().st_mode & 0o077 == 0, "it holds tokens"


def _told(layout: Layout) -> dict[str, Any]:
    """What demo.json says; a reader never finds half of it."""
    told: dict[str, Any] = json.loads(layout.demo_json.read_text()) if layout.demo_json.exists() else {}
    return told

"""Single parts of the local cluster, run for real: PostgreSQL after a kill, the mailbox, busy ports."""

import asyncio
import os
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from control.local import configs, logs, mailbox, ports, postgres, programs, ready
from control.local.layout import HOST, ROOT, Layout
from syncd import config
from tests.cluster import free_port_base
from tests.servers import program, running

READY_WITHIN_S = 20.0


@pytest.fixture
def layout() -> Iterator[Layout]:
    var = Path(tempfile.mkdtemp(prefix="mxf", dir="/tmp"))
    var.chmod(0o755)
    made = Layout(var, free_port_base())
    configs.write_all(made)
    yield made
    shutil.rmtree(var, ignore_errors=True)


def _start(layout: Layout, module: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", module, "--var", str(layout.var), "--port-base", str(layout.base)]
    with layout.log(module).open("ab") as log:
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


def _wait(layout: Layout, name: str) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while missing := ready.checks(layout)[name]():
        assert time.monotonic() < deadline, missing
        time.sleep(0.05)


def test_postgresql_comes_back_after_a_kill_although_a_frozen_child_lives(layout: Layout) -> None:
    program("postgres")
    assert postgres.initialise(layout)
    assert not postgres.initialise(layout), "a second time nothing is made"
    first = _start(layout, "control.local.postgres")
    _wait(layout, "postgres")
    children = [int(pid) for pid in Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()]
    os.kill(children[0], signal.SIGSTOP)
    first.kill()
    first.wait()
    second = _start(layout, "control.local.postgres")
    try:
        _wait(layout, "postgres")
        assert Path(f"/proc/{second.pid}/exe").resolve().name == "postgres", "the pid is the server's own"
        assert not running(children[0]), "the frozen child of the old one is gone"
    finally:
        second.send_signal(signal.SIGQUIT)
        second.wait()


def test_the_mailbox_keeps_what_it_took_over_a_kill(layout: Layout) -> None:
    server = _start(layout, "control.local.mailbox")
    try:
        _wait(layout, "mailbox")
        content = "Subject: é\r\n\r\n.leading dot\r\n".encode()
        with smtplib.SMTP(HOST, layout.port("mailbox")) as client:
            client.sendmail("ann@sender.test", ["a@example.test", "b@example.test"], content)
            server.kill()
    finally:
        server.kill()
        server.wait()
    (kept,) = (layout.var / "mailbox" / "new").iterdir()
    head = b"Return-Path: <ann@sender.test>\r\nDelivered-To: a@example.test\r\nDelivered-To: b@example.test\r\n"
    assert kept.read_bytes() == head + content


async def test_a_mailbox_that_cannot_write_defers(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    box = mailbox.Maildir(tmp_path / "box")
    shutil.rmtree(tmp_path / "box" / "tmp")
    envelope = Envelope()
    envelope.original_content = b"x\r\n"
    answer = await box.handle_DATA(SMTP(box, loop=loop), Session(loop), envelope)
    assert answer.startswith("452")


def test_a_busy_port_is_reported_with_its_holder() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = ports.busy(port)
        assert f"pid {os.getpid()} (" in said
    assert ports.busy(port) == ""


def test_programs_are_found_outside_path(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = program("postgres")
    monkeypatch.setenv("PATH", "/nowhere")
    assert programs.find("postgres") == expected
    monkeypatch.setitem(programs.PACKAGES, "no-such-program", "knot-extra")
    with pytest.raises(programs.Missing, match="apt-get install knot-extra"):
        programs.find("no-such-program")


def test_a_second_write_keeps_keys_and_secrets(layout: Layout) -> None:
    names = ("secret", "database-password", "ca/ca.key", "receiver/tls/key.pem", "control.toml")
    before = {name: (layout.var / name).read_bytes() for name in names}
    configs.write_all(layout)
    assert {name: (layout.var / name).read_bytes() for name in names} == before


def test_written_configurations_are_read_by_those_they_are_for(layout: Layout) -> None:
    assert config.load(layout.control_config, config.Control).panel_port == layout.port("panel")
    place = layout.node(1)
    place.directory.mkdir(parents=True)
    configs.write_node(layout, place, (layout.address("etcd"),), layout.address("receiver"))
    node = config.load(place.config, config.Node)
    assert (node.name, node.spool.receiver_port, node.etcd.tls is not None) == ("mx1", layout.port("receiver"), True)
    promtool, prometheus = program("promtool"), layout.var / "prometheus" / "prometheus.yml"
    checked = subprocess.run([promtool, "check", "config", str(prometheus)], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_a_log_that_has_grown_is_cut_and_three_old_ones_kept(tmp_path: Path) -> None:
    for number in range(5):
        with (tmp_path / "panel.log").open("a") as log:
            log.write(f"{number}" * 100)
            log.flush()
            assert logs.rotate(tmp_path, max_bytes=50) == ["panel.log"]
            log.write("after")
            log.flush()
    assert (tmp_path / "panel.log").read_text() == "after"
    assert (tmp_path / "panel.log.1").read_text().endswith("4" * 10)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["panel.log", *(f"panel.log.{n}" for n in (1, 2, 3))]

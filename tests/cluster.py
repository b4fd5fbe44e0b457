"""One private cluster for all end-to-end tests, started by the launcher that users start theirs with.

With CLUSTER_DEMO_JSON=path the tests use a cluster that runs already and leave it running.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.local import ports, programs
from control.local.layout import PORTS
from tests.e2e.fleet import Fleet

ROOT = Path(__file__).resolve().parents[1]
UP_WITHIN_S = 300
DOWN_WITHIN_S = 120
TAIL_LINES = 20
FIRST_BASE = 20000
LAST_BASE = 32000
"""Below the range that the kernel hands out to outgoing connections (ip_local_port_range begins at 32768)."""


Ended = subprocess.CompletedProcess[str]


def free_port_base() -> int:
    """A PORT_BASE whose hundred ports are free now."""
    for base in range(FIRST_BASE + os.getpid() % 50 * PORTS, LAST_BASE, PORTS):
        if not any(ports.busy(port) for port in range(base, base + PORTS)):
            return base
    pytest.fail(f"no {PORTS} free ports in a row between {FIRST_BASE} and {LAST_BASE}")


def require_programs() -> None:
    """Skip by name what cannot run here; fail where everything is required."""
    if lacking := programs.missing():
        text = f"the cluster needs {', '.join(sorted(lacking))}: run control/local/prepare.sh"
        if os.environ.get("REQUIRE_ALL") == "1":
            pytest.fail(text)
        pytest.skip(text)


def launch(module: str, environment: dict[str, str], within_s: float, *arguments: str) -> Ended:
    """Run one of the launcher's programs to its end."""
    return subprocess.run(
        [sys.executable, "-m", f"control.local.{module}", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )


def log_tails(var: Path) -> str:
    """The last lines of every log of a cluster."""
    tails = []
    for path in sorted((var / "log").glob("*.log")):
        lines = path.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        tails.append(f"--- {path.name}\n" + "\n".join(line[:400] for line in lines))
    return "\n".join(tails)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Path]:
    """Path of the running cluster's `demo.json`; read it anew at each use, for pids change."""
    if running := os.environ.get("CLUSTER_DEMO_JSON"):
        yield Path(running)
        return
    require_programs()
    var = Path(tempfile.mkdtemp(prefix="mxf", dir="/tmp"))
    var.chmod(0o755)
    environment = {"VAR": str(var), "PORT_BASE": str(free_port_base())}
    try:
        up = launch("up", environment, UP_WITHIN_S)
        assert up.returncode == 0, f"{up.stdout}\n{up.stderr}\n{log_tails(var)}"
        yield var / "demo.json"
    finally:
        launch("down", environment, DOWN_WITHIN_S, "--clean")
        shutil.rmtree(var, ignore_errors=True)


@pytest.fixture(scope="session")
def running_fleet(cluster: Path) -> Iterator[Fleet]:
    seen = Fleet(cluster)
    yield seen
    seen.close()


@pytest.fixture
def fleet(running_fleet: Fleet, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """The running cluster; a test that fails shows the ends of its logs."""
    failed_before = request.session.testsfailed
    yield running_fleet
    if request.session.testsfailed > failed_before:
        print(log_tails(running_fleet.path.parent))

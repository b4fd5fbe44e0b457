"""The exporter answers while the process works, says why it is not ready, and notices a stuck loop."""

import asyncio
import shutil
import subprocess
import urllib.error
import urllib.request

import pytest

from monitoring import exporter
from monitoring.exporter import Exporter

METRICS_MODULES = ("mx", "syncd", "control")


def _get(server: Exporter, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


async def test_ready_names_the_reason_in_words() -> None:
    reasons = ["waiting for the settings", ""]
    server = Exporter("127.0.0.1", 0, ready=lambda: reasons[0])
    try:
        assert await asyncio.to_thread(_get, server, "/ready") == (503, "waiting for the settings\n")
        assert (await asyncio.to_thread(_get, server, "/live"))[0] == 200
        reasons.pop(0)
        assert await asyncio.to_thread(_get, server, "/ready") == (200, "ok\n")
        assert (await asyncio.to_thread(_get, server, "/else"))[0] == 404
    finally:
        server.close()


async def test_a_loop_that_does_not_turn_is_not_live(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "STUCK_S", -1.0)
    server = Exporter("127.0.0.1", 0)
    try:
        status, why = await asyncio.to_thread(_get, server, "/live")
        assert (status, why.startswith("event loop silent")) == (503, True)
    finally:
        server.close()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is missing: apt-get install prometheus")
@pytest.mark.parametrize("module", METRICS_MODULES)
def test_what_is_exported_pleases_promtool(module: str) -> None:
    __import__(f"monitoring.metrics.{module}")
    server = Exporter("127.0.0.1", 0)
    try:
        _, text = _get(server, "/metrics")
    finally:
        server.close()
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

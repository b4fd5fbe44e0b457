"""Every figure is there, scraped and true: targets, ledger, memory."""

from pathlib import Path

import httpx
import pytest

from tests.e2e.fleet import Fleet, eventually, mail_bytes, send

pytestmark = pytest.mark.cluster

NODE_BYTES = 400 * 1024 * 1024
WORKERS = ("mx1.worker1", "mx1.worker2", "mx2.worker1", "mx2.worker2")


def _rss_anon_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def _tree(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(grandchild for child in children for grandchild in _tree(int(child)))]


@pytest.mark.parametrize("node", ["mx1", "mx2"])
def test_a_node_with_two_workers_stays_small(fleet: Fleet, node: str) -> None:
    pids = {name: pid for name, pid in fleet.demo["pids"].items() if name.startswith(f"{node}.")}
    assert len(pids) == 5, pids
    sizes = {name: sum(map(_rss_anon_bytes, _tree(pid))) for name, pid in pids.items()}
    print({name: f"{size / 2**20:.0f} MB" for name, size in sizes.items()})
    assert sum(sizes.values()) <= NODE_BYTES


def test_prometheus_scrapes_every_process(fleet: Fleet) -> None:
    def down() -> list[str]:
        answer = httpx.get(fleet.demo["prometheus"].rstrip("/") + "/api/v1/targets", timeout=10).json()
        return [target["scrapeUrl"] for target in answer["data"]["activeTargets"] if target["health"] == "up"]

    wanted = set(fleet.demo["metrics"].values())
    eventually(lambda: wanted <= set(down()), f"Prometheus to scrape {len(wanted)} processes", within_s=60)


def test_the_ledger_adds_up(fleet: Fleet) -> None:
    recipient = fleet.demo["recipient"]
    before = sum(fleet.metric(worker, "mx_ledger_entered_total") for worker in WORKERS)
    for number in range(20):
        send(fleet.demo["smtp"][number % 2], mail_bytes(f"ledger {number}", "x"), to=[recipient])
    entered = sum(fleet.metric(worker, "mx_ledger_entered_total") for worker in WORKERS)
    assert entered - before == 20
    for worker in WORKERS:
        outcomes = fleet.metric(worker, "mx_ledger_recipients_total") + fleet.metric(worker, "mx_ledger_in_flight")
        assert fleet.metric(worker, "mx_ledger_entered_total") == outcomes
        assert fleet.metric(worker, "mx_ledger_drift") == 0


def test_a_healthy_cluster_raises_no_alert(fleet: Fleet) -> None:
    """A gauge that another process exports at 0 must not look like trouble: there has to be a moment without any."""

    def raised() -> list[str]:
        answer = httpx.get(fleet.demo["prometheus"].rstrip("/") + "/api/v1/alerts", timeout=10).json()
        return [f"{each['labels']['alertname']} {each['labels']}" for each in answer["data"]["alerts"]]

    seen: list[list[str]] = []
    eventually(lambda: seen.append(raised()) or not seen[-1], "a moment without alerts", within_s=120)

"""The demo's Internet on a real Knot DNS: served, re-read on change, NXDOMAIN at once for the rest."""

import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import pytest

from control.local import demo_zones, resolver, zones
from control.local.layout import HOST, Layout, Unusable
from tests.cluster import free_port_base
from tests.servers import Service, program


class Knot(Service):
    """The name server of a layout."""

    name = "knotd"

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout.var)
        self._layout = layout
        self._server = program("knotd")

    def command(self) -> list[str]:
        return [self._server, "-c", str(resolver.write(self._layout))]

    def answers(self) -> bool:
        try:
            return bool(_ask(self._layout, "example.test", "SOA")[1])
        except OSError:
            return False


def _ask(layout: Layout, name: str, kind: str) -> tuple[str, list[str]]:
    """Return code and records of an answer; raises OSError when none comes."""
    question = dns.message.make_query(name, kind)
    try:
        answer = dns.query.udp(question, HOST, timeout=1, port=layout.port("resolver"))
    except dns.exception.Timeout as error:
        raise TimeoutError(name) from error
    return dns.rcode.to_text(answer.rcode()), [str(record) for records in answer.answer for record in records]


def _eventually(layout: Layout, name: str, kind: str, expected: tuple[str, list[str]], within_s: float = 5.0) -> None:
    deadline = time.monotonic() + within_s
    while (answer := _ask(layout, name, kind)) != expected:
        assert time.monotonic() < deadline, answer
        time.sleep(0.05)


@pytest.fixture
def layout() -> Iterator[Layout]:
    var = Path(tempfile.mkdtemp(prefix="mxf", dir="/tmp"))
    made = Layout(var, free_port_base())
    made.run.mkdir(exist_ok=True)
    demo_zones.write(var / "zones")
    resolver.choose_upstream(made, "")
    yield made
    shutil.rmtree(var, ignore_errors=True)
    shutil.rmtree(made.run, ignore_errors=True)


@pytest.fixture
def knot(layout: Layout) -> Iterator[Knot]:
    server = Knot(layout)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def watched(layout: Layout, knot: Knot) -> Iterator[None]:
    """The watcher at work beside the server."""
    stop, watch = threading.Event(), zones.Watch(layout)

    def work() -> None:
        while not stop.wait(0.1):
            watch.look()

    watcher = threading.Thread(target=work)
    watcher.start()
    yield
    stop.set()
    watcher.join()


@pytest.mark.parametrize(
    ("name", "kind", "code", "records"),
    [
        ("99.0.0.127.dnsbl.test", "A", "NOERROR", ["127.0.0.2"]),
        ("10.0.0.127.dnsbl.test", "A", "NXDOMAIN", []),
        ("bank.test", "TXT", "NOERROR", ['"v=spf1 ip4:192.0.2.0/24 -all"']),
        ("mx1.mxfleet.test", "A", "NOERROR", ["127.0.0.1"]),
        ("99.0.0.127.in-addr.arpa", "PTR", "NOERROR", ["dialup-99.pool.test."]),
        ("nowhere.example.com", "MX", "NXDOMAIN", []),
    ],
)
def test_the_demos_internet_says(
    layout: Layout, knot: Knot, name: str, kind: str, code: str, records: list[str]
) -> None:
    began = time.monotonic()
    assert _ask(layout, name, kind) == (code, records)
    assert time.monotonic() - began < 0.5


@pytest.mark.usefixtures("watched")
def test_a_changed_a_new_and_a_removed_zone_count_within_a_second_or_so(layout: Layout) -> None:
    directory = layout.var / "zones"
    with (directory / "example.test.zone").open("a") as file:
        file.write("new A 127.0.0.77\n")
    _eventually(layout, "new.example.test", "A", ("NOERROR", ["127.0.0.77"]))
    (directory / "fresh.test.zone").write_text("@ 5 SOA a. b. 1 60 60 60 5\n@ 5 NS a.\n@ 5 A 127.0.0.78\n")
    _eventually(layout, "fresh.test", "A", ("NOERROR", ["127.0.0.78"]))
    (directory / "fresh.test.zone").unlink()
    _eventually(layout, "fresh.test", "A", ("NXDOMAIN", []))


@pytest.mark.usefixtures("watched")
def test_a_broken_zone_keeps_what_was_served_and_harms_no_other(layout: Layout) -> None:
    directory = layout.var / "zones"
    (directory / "bank.test.zone").write_text("this is no zone file\n")
    (directory / "no domain!.zone").write_text("nor is this\n")
    with (directory / "example.test.zone").open("a") as file:
        file.write("later A 127.0.0.79\n")
    _eventually(layout, "later.example.test", "A", ("NOERROR", ["127.0.0.79"]))
    assert _ask(layout, "bank.test", "TXT")[1] == ['"v=spf1 ip4:192.0.2.0/24 -all"']


def test_an_upstream_opens_the_world(layout: Layout, knot: Knot) -> None:
    """The second server asks the first for what it does not serve itself."""
    var = layout.var / "second"
    second = Layout(var, layout.base + 100)
    second.run.mkdir(parents=True, exist_ok=True)
    (var / "zones").mkdir(parents=True)
    (var / "zones" / "example.test.zone").write_text("@ 5 SOA a. b. 1 60 60 60 5\n@ 5 NS a.\n@ 5 A 127.0.0.80\n")
    resolver.choose_upstream(second, f"{HOST}:{layout.port('resolver')}")
    server = Knot(second)
    server.start()
    try:
        assert _ask(second, "example.test", "A") == ("NOERROR", ["127.0.0.80"])
        assert _ask(second, "mx1.mxfleet.test", "A") == ("NOERROR", ["127.0.0.1"])
    finally:
        server.stop()


def test_an_upstream_that_is_no_address_is_refused_with_an_example(layout: Layout) -> None:
    with pytest.raises(Unusable, match="host:port"):
        resolver.choose_upstream(layout, "resolver.example")


def test_a_visitors_edit_of_a_zone_stays(layout: Layout) -> None:
    path = layout.var / "zones" / "example.test.zone"
    path.write_text("; mine\n")
    demo_zones.write(layout.var / "zones")
    assert path.read_text() == "; mine\n"


def test_the_configuration_is_one_that_knot_accepts(layout: Layout) -> None:
    for upstream in ("", "192.0.2.53:53", "[2001:db8::53]:5353"):
        resolver.choose_upstream(layout, upstream)
        path = resolver.write(layout)
        checked = subprocess.run([program("knotc"), "-c", str(path), "conf-check"], capture_output=True, check=False)
        assert checked.returncode == 0, checked.stderr

"""Where a cluster's things lie: ports and paths, and clear words for what cannot be."""

import os
from pathlib import Path

import pytest

from control.local.layout import Layout, NodePlace, Unusable, own_directory


def _environment(monkeypatch: pytest.MonkeyPatch, var: Path | str, base: str = "") -> None:
    monkeypatch.setenv("VAR", str(var))
    monkeypatch.setenv("PORT_BASE", base)


def test_without_settings_it_is_var_beside_the_code_and_12500(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VAR", raising=False)
    monkeypatch.setenv("PORT_BASE", "12500")
    layout = Layout.from_environment()
    assert (layout.var.name, layout.base, layout.panel_url) == ("var", 12500, "http://127.0.0.1:12500")


def test_every_port_of_a_cluster_is_its_own_and_lies_in_its_hundred(tmp_path: Path) -> None:
    layout = Layout(tmp_path, 20000)
    singles = [layout.port(name) for name in ("panel", "postgres", "etcd", "etcd-peer", "prometheus", "resolver")]
    singles += [layout.port(name) for name in ("mailbox", "receiver", "panel-metrics", "etcd-metrics")]
    node_ports = [
        layout.node(number).port(name)
        for number in range(1, 9)
        for name in ("smtp", "spool", "follow-metrics", "spool-metrics", "worker1-metrics", "worker2-metrics")
    ]
    everything = singles + node_ports
    assert len(set(everything)) == len(everything)
    assert all(20000 <= port < 20100 for port in everything)
    assert (layout.node(1).port("smtp"), layout.node(2).port("spool")) == (20020, 20031)


@pytest.mark.parametrize(
    ("var", "base", "why"),
    [
        ("v", "many", "must be a number"),
        ("v", "80", "must lie between"),
        ("v", "65500", "must lie between"),
        ("with space", "20000", "letters, digits"),
    ],
)
def test_what_cannot_be_is_said_clearly(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, var: str, base: str, why: str
) -> None:
    _environment(monkeypatch, tmp_path / var, base)
    with pytest.raises(Unusable, match=why):
        Layout.from_environment()


def test_a_cluster_keeps_the_ports_it_was_made_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "control.toml").write_text("panel_port = 20300\n")
    _environment(monkeypatch, tmp_path)
    assert Layout.from_environment().base == 20300
    _environment(monkeypatch, tmp_path, "20400")
    with pytest.raises(Unusable, match="PORT_BASE=20300"):
        Layout.from_environment()


def test_sockets_go_to_a_short_path_where_var_is_deep(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    run = Layout(deep, 20000).run
    assert len(str(NodePlace(8, 20000, deep, run).socket("memcached"))) < 108
    assert run != Layout(tmp_path / "other" / ("e" * 90), 20000).run


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts PostgreSQL as another user")
def test_data_go_where_postgresqls_user_can_reach_them(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    closed = Layout(tmp_path / "var", 20000)
    assert closed.postgres_data.parent == Path("/var/tmp")
    assert Layout(Path("/srv/mxfleet"), 20000).postgres_data == Path("/srv/mxfleet/postgres")


def test_a_directory_that_is_a_link_is_not_taken_for_ours(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Unusable, match="somebody else"):
        own_directory(tmp_path / "link")

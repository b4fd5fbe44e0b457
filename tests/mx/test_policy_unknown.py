"""Unknown recipients that another worker remembered, and domains that are not asked about at every RCPT."""

import pytest

from mx.policy import Policies
from tests.mx.test_policy import Home, domain, home, published

__all__ = ["home"]


def test_what_a_sister_remembered_is_known_soon_after_a_domain_had_none(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.write(published(domain()))
    assert not home.policies.is_remembered_unknown("a.test", "ghost")
    # Another worker on the same memcached; LMDB lets a process open the store once, so it takes turns.
    home.policies.close()
    sister = Policies(home.node)
    sister.remember_unknown("a.test", "ghost")
    sister.close()
    assert not home.policies.is_remembered_unknown("a.test", "ghost"), "asked again too soon"
    home.policies._none_unknown.clear()  # two seconds later
    assert home.policies.is_remembered_unknown("a.test", "ghost")
    assert not home.policies.is_remembered_unknown("a.test", "other")
    monkeypatch.setattr("mx.policy.ASKED", 3)
    for number in range(10):
        home.policies.is_remembered_unknown(f"d{number}.test", "x")
    assert len(home.policies._none_unknown) <= 3


def test_an_unknown_recipient_is_remembered_for_the_node_until_the_domain_changes(home: Home) -> None:
    home.write(published(domain(), domain("b.test")))
    home.policies.remember_unknown("a.test", "Ghost")
    home.policies.close()
    sister = Policies(home.node)
    assert sister.is_remembered_unknown("a.test", "ghost")
    assert not sister.is_remembered_unknown("a.test", "other")
    assert not sister.is_remembered_unknown("b.test", "ghost")
    sister.close()
    home.write(published(domain(settings={"retention": {"days": 2}}), domain("b.test")))
    assert not home.policies.is_remembered_unknown("a.test", "ghost")

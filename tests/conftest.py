"""What every test may use: real services (`tests.services`) and a running cluster (`tests.cluster`)."""

import pytest

pytest_plugins = ["tests.services", "tests.cluster"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the running cluster stay together: several processes of pytest share one cluster, not one each."""
    for item in items:
        if item.get_closest_marker("cluster"):
            item.add_marker(pytest.mark.xdist_group("cluster"))

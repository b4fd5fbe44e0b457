"""What every test may use: real services (`tests.services`) and a running cluster (`tests.cluster`)."""

import pytest

pytest_plugins = ["tests.services", "tests.cluster"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the running cluster stay together: several processes of pytest share one cluster, not one each."""
    for item in items:
        if item.get_closest_marker("cluster"):
            item.add_marker(pytest.mark.xdist_group("cluster"))


def pytest_make_parametrize_id(val: object) -> str | None:
    """Bytes by their length: their content may hold a clock (an archive does), and no test's name should."""
    return f"{len(val)}B" if isinstance(val, bytes) else None

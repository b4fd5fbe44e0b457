"""What every test may use: real services (`tests.services`) and a running cluster (`tests.cluster`)."""

pytest_plugins = ["tests.services", "tests.cluster"]

"""What every test may use: real services (`tests.services`)."""

pytest_plugins = ["tests.services"]

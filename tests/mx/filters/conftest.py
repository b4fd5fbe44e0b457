"""Real neighbours for looks: the name server of the demo and a node's store, as their own tests have them."""

from tests.mx.checks.conftest import knot as knot
from tests.mx.test_policy import home as home

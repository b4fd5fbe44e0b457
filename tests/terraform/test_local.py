"""`terraform/examples/local`: valid and formatted; a third node really joins the running cluster and leaves it."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.fleet import Fleet, eventually, mail_bytes, send
from tests.servers import program, running

EXAMPLE = Path(__file__).resolve().parents[2] / "terraform" / "examples" / "local"
APPLY_WITHIN_S = 180


class Terraform:
    """Terraform on the example, with its state in a directory of the test's own."""

    def __init__(self, state_dir: Path) -> None:
        self._program = program("terraform")
        self._state = state_dir / "terraform.tfstate"
        self._environment = {**os.environ, "TF_DATA_DIR": str(state_dir / "data"), "TF_IN_AUTOMATION": "1"}
        self.run("init", "-backend=false")

    def run(self, *arguments: str, ok: bool = True) -> str:
        """Run one command; its output. Fails when it ended otherwise than expected."""
        command = [self._program, f"-chdir={EXAMPLE}", *arguments, "-no-color"]
        done = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, timeout=APPLY_WITHIN_S, check=False
        )
        assert (done.returncode == 0) == ok, done.stdout + done.stderr
        return done.stdout + done.stderr

    def apply(self, nodes: int, var: Path) -> str:
        """Have that many nodes."""
        variables = ["-var", f"mx_nodes={nodes}", "-var", f"cluster_dir={var}"]
        return self.run("apply", "-auto-approve", "-input=false", f"-state={self._state}", *variables)


@pytest.fixture
def terraform(tmp_path: Path) -> Terraform:
    return Terraform(tmp_path)


def test_it_is_formatted_and_valid(terraform: Terraform) -> None:
    terraform.run("fmt", "-check", "-recursive", str(EXAMPLE.parents[1]))
    assert "valid" in terraform.run("validate")


@pytest.mark.parametrize("nodes", ["1", "9", "2.5", "many"])
def test_a_number_of_nodes_that_cannot_be_is_refused(terraform: Terraform, nodes: str) -> None:
    assert "mx_nodes" in terraform.run("plan", "-input=false", "-var", f"mx_nodes={nodes}", ok=False)


@pytest.mark.cluster
@pytest.mark.timeout(600)
def test_a_third_node_joins_takes_mail_and_leaves(fleet: Fleet, terraform: Terraform) -> None:
    var = fleet.path.parent
    terraform.apply(3, var)
    try:
        assert len(fleet.demo["smtp"]) == 3
        names = {node["name"] for node in fleet.operator.get("/nodes").json()["items"]}
        assert names == {"mx1", "mx2", "mx3"}
        receipt = fleet.settings(fleet.demo["domain"], {"content": {"mode": "on", "words": ["zqthirdnode"]}})
        assert set(receipt["nodes"]) == names
        third = fleet.demo["smtp"][2]
        mail = mail_bytes("by the third node", "x", fields=["X-Test: third-node"])
        assert send(third, mail, to=[fleet.demo["recipient"]]).code == 250
        assert send(third, mail_bytes("zqthirdnode", "x"), to=[fleet.demo["recipient"]]).code == 550
        eventually(lambda: fleet.quarantined(q="zqthirdnode"), "what the third node refused in the quarantine")
        assert "No changes" in terraform.apply(3, var)
        pids = [pid for name, pid in fleet.demo["pids"].items() if name.startswith("mx3.")]
        assert len(pids) == 5
    finally:
        terraform.apply(2, var)
    assert len(fleet.demo["smtp"]) == 2
    assert not any(name.startswith("mx3.") for name in fleet.demo["pids"])
    assert not any(running(pid) for pid in pids)
    assert not (var / "nodes" / "mx3").exists()
    assert fleet.settings(fleet.demo["domain"], {})["applied"]


def test_the_example_downloads_nothing() -> None:
    assert not any("required_providers" in path.read_text() for path in EXAMPLE.glob("*.tf"))

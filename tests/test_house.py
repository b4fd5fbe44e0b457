"""The rules of the house that no linter knows: who imports whom, sizes, and what no file may say."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("monitoring", "syncd", "mx", "control")
MAX_LINES = 350
GENERATED = {"syncd/etcd_pb2.py"}

FORBIDDEN = {
    "a package registry's host": re.compile(rb"(pypi|pythonhosted|npmjs|unpkg|jsdelivr)\.(org|com|net)"),
    "a path of one machine": re.compile(rb"(?<![\w.])/(home|Users|work|root)/[a-z]\w*"),
    "a note to do it later": re.compile(rb"\b(TO" + rb"DO|FIX" + rb"ME|XXX)\b"),
}


def _tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: nobody can tell which files are the project's")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [ROOT / name.decode() for name in listed.split(b"\0") if name and (ROOT / name.decode()).is_file()]


def test_packages_import_only_whom_they_may() -> None:
    linter = shutil.which("lint-imports", path=str(ROOT / ".venv" / "bin")) or shutil.which("lint-imports")
    assert linter, "lint-imports is in requirements.lock"
    checked = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_files_stay_small_enough_to_be_read() -> None:
    modules = [path for package in (*PACKAGES, "tests") for path in (ROOT / package).rglob("*.py")]
    long = {
        str(path.relative_to(ROOT)): count
        for path in modules
        if str(path.relative_to(ROOT)) not in GENERATED and (count := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert not long, f"longer than {MAX_LINES} lines: what is the second subject?"


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_says(what: str) -> None:
    found = {}
    for path in _tracked():
        if "vendor" not in path.parts and path != Path(__file__) and (hit := FORBIDDEN[what].search(path.read_bytes())):
            found[str(path.relative_to(ROOT))] = hit[0]
    assert not found


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if str(path.relative_to(ROOT)) not in GENERATED
        and (text := path.read_text().strip())
        and not text.startswith(('"""', "#!", "#"))
    ]
    assert not silent


def test_what_the_docs_name_exists() -> None:
    """Tests, alerts and pages: a page that leans on something that is gone tells a story."""
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    alerts = re.findall(r"alert: (\w+)", (ROOT / "monitoring" / "rules" / "fleet.yml").read_text())
    gone = []
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        text = page.read_text()
        gone += [
            f"{page.name}: {name}"
            for name in re.findall(r"`(?:[\w/.]+::)?(test_\w+)`", text)
            if f"def {name}(" not in tests
        ]
        gone += [
            f"{page.name}: {name}"
            for name in re.findall(r"`(tests/[\w/.-]+?)(?:::\w+)?`", text)
            if not (ROOT / name).exists()
        ]
        links = [name for name in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text) if not (page.parent / name).exists()]
        gone += [f"{page.name}: {name}" for name in links]
    failures = (ROOT / "docs" / "failures.md").read_text()
    gone += [f"failures.md: {name}" for name in re.findall(r"`([A-Z][a-z]+[A-Z]\w+)`", failures) if name not in alerts]
    assert not gone

"""`mxctl spool` over journals as a node leaves them: sound, torn, damaged, withdrawn, foreign."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.syncd.running import ROOT
from tests.syncd.spool.journals import Place, entry, filled


def mxctl(*arguments: str, status: int = 0) -> Any:
    """A run of the command; its answer."""
    command = [sys.executable, "-m", "control.cli", "--json", "spool", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout) if done.stdout else done.stderr


@pytest.fixture
async def root(tmp_path: Path) -> Path:
    """A journal of ten records, the third withdrawn."""
    place = Place(tmp_path)
    journal = await filled(place)
    journal.withdraw(journal.records[3])
    await journal.close()
    return tmp_path


def test_files_and_records_are_listed(root: Path) -> None:
    (segment,) = mxctl("list", str(root))["segments"]
    assert (segment["node"], segment["records"], segment["withdrawn"], segment["damaged"]) == ("mx1", 10, 1, 0)
    records = mxctl("list", str(root), "--records")["records"]
    assert [each["position"] for each in records if each["withdrawn"]] == [3]
    assert [each["id"] for each in records][:2] == ["01ID1", "01ID2"]


def test_damage_is_named_and_nothing_is_changed(root: Path) -> None:
    (path,) = root.rglob("*.seg")
    data = bytearray(path.read_bytes())
    assert mxctl("verify", str(root))["unsound"] == []
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data) + b"MXrc torn")
    answer = mxctl("verify", str(root), status=1)
    assert answer["records"] == 9
    (first, last), *_ = answer["unsound"][0]["places"]
    assert first < len(data) // 2 < last
    assert path.read_bytes() == bytes(data) + b"MXrc torn"


@pytest.mark.parametrize(
    "junk", [b"", b"\0" * 5000, b"MXSEGMT1", os.urandom(3000)], ids=["empty", "zeros", "cut", "noise"]
)
def test_what_is_no_segment_is_said_to_be_none(root: Path, junk: bytes) -> None:
    (root / "00000009.seg").write_bytes(junk)
    assert len(mxctl("verify", str(root), status=1)["unsound"]) == 1


def test_mails_are_written_out_byte_for_byte(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert len(mxctl("export", str(root), str(out))["written"]) == 9
    for position in (1, 10):
        (mail,) = out.glob(f"*-{position}-*.eml")
        assert mail.with_suffix(".json").read_bytes() + mail.read_bytes() == entry(position)[1]
        assert mail.stat().st_mode & 0o777 == 0o600
    assert len(mxctl("export", str(root), str(out), "--withdrawn")["written"]) == 10
    assert len(mxctl("export", str(root), str(out), "--id", "01ID7")["written"]) == 1
    mxctl("export", str(root), str(out), "--id", "01NONE", status=1)


def test_what_is_no_directory_is_a_sentence(tmp_path: Path) -> None:
    assert "no directory" in mxctl("list", str(tmp_path / "none"), status=2)

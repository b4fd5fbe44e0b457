"""The promise that a new filter takes one file and one line: made to a copy of the package, seen everywhere.

Each check runs in a process of its own over that copy, because the declarations are read when modules are imported.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FILE = Path(__file__).with_name("weekday_filter.py")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages with one more filter: its file, and its line in the order."""
    root = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "mx", root / "mx")
    for package in ("monitoring", "syncd", "control", "tests"):
        (root / package).symlink_to(ROOT / package)
    shutil.copy(FILE, root / "mx" / "filters" / "weekday.py")
    order = root / "mx" / "filters" / "__init__.py"
    source = order.read_text()
    with_line = source.replace("    content.FILTER,", "    weekday.FILTER,\n    content.FILTER,", 1)
    with_import = re.sub(r"^from mx\.filters import \(\n", "\\g<0>    weekday,\n", with_line, count=1, flags=re.M)
    assert with_import.count("weekday") == 2, "one line in the order, and its import"
    order.write_text(with_import)
    return root


SEEN = {
    "by the settings' reader": """
from mx.filters import SettingsError, decode
assert decode({})["weekday"].mode == "off"
assert decode({"weekday": {"mode": "on", "free_days": 3}})["weekday"].free_days == 3
try:
    decode({"weekday": {"free_days": 8}})
except SettingsError as error:
    print(error.field)
""",
    "by the API's validation": """
from control.store import settings
from control.store.errors import Invalid
from control.store.layers import Layer
layer = Layer("domain", "example.test")
taken = settings.check(layer, [], {"weekday": {"mode": "on"}, "locks": ["weekday.free_days"]})
assert taken.settings == {"weekday": {"mode": "on"}}
try:
    settings.check(layer, [], {"weekday": {"free_days": 8}})
except Invalid as error:
    print(error.field)
""",
    "by the API's description": """
from control.api import serve
from control.api.openapi import describe
schemas = describe()["components"]["schemas"]
fields = schemas["SettingsDocument"]["properties"]["weekday"]["properties"]
assert fields["free_days"]["maximum"] == 7
assert "weekday" in schemas["SettingsPatch"]["properties"]
print("weekday.free_days")
""",
    "by the panel's form": """
from control.store.layers import Layer
from control.store.settings import Stand
from control.web import fields
from mx.filters import DECLARED
layer = Layer("domain", "example.test")
groups = {group.name: group for group in fields.groups(DECLARED, Stand(layer, []))}
group = groups["weekday"]
field = next(each for each in group.fields if each.name == "free_days")
assert (group.question, group.mode, field.label, field.text) == ("Is it a working day?", "off", "Free days", "2")
assert (field.minimum, field.maximum) == (0, 7)
print(field.path)
""",
    "by the page": """
from mx.filters.describe import page
text = page()
assert "| [weekday](#weekday) | message | `off` | pass |" in text
assert "| `free_days` | whole number, 0 to 7 | `2` | Days of the week without mail. |" in text
assert "`550 5.7.1 Not on this day`" in text
print("weekday.free_days")
""",
    "by the metrics": """
import mx.judging
from prometheus_client import generate_latest
text = generate_latest().decode()
assert 'mx_filter_verdicts_total{action="refuse",filter="weekday",mode="shadow"} 0.0' in text
assert 'mx_filter_unsure_total{filter="weekday"} 0.0' in text
assert 'mx_filter_seconds_count{filter="weekday"} 0.0' in text
print("weekday.free_days")
""",
    "by a mail": """
import asyncio
from mx.filters import ORDER, decode
from tests.mx.client import Client, mail
from tests.mx.filters.tables import Lists
from tests.mx.neighbours import Known, running
async def send():
    policy = Known("example.test", (), decode({"weekday": {"mode": "on"}}), Lists())
    async with running([policy], filters=ORDER) as front, Client(front.port) as client:
        reply = await client.send(mail("weekend"), to=["bob@example.test"])
        assert reply.startswith("550 5.7.1 Not on this day"), reply
        assert front.spool.copies[0][0].recipients[0].reason == "weekday"
asyncio.run(send())
print("weekday.free_days")
""",
}
"""What is checked of each place; each says the name of the setting at its end."""


@pytest.mark.parametrize("where", SEEN)
def test_a_filter_of_one_file_and_one_line_is_seen(where: str, copy: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SEEN[where]],
        cwd=copy,
        env={"PYTHONPATH": str(copy), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "weekday.free_days"

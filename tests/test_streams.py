"""Printing that fails stops nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_PRINTS = """
import sys
from semseg_cli import streams
from semseg_cli.errors import SemsegError
streams.guard()
for i in range(3000):
    print("a line of a table, \u043d\u0435\u0431\u043e", i)
open(sys.argv[1], "w").write("done")
try:
    streams.require_printed()
except SemsegError as error:
    print(error, file=sys.stderr)
    sys.exit(1)
"""


def printing(to: Path, redirect: str) -> "subprocess.CompletedProcess[str]":
    typed = f'set -o pipefail; "$0" -c "$1" "$2" {redirect}'
    return subprocess.run(
        ["bash", "-c", typed, sys.executable, _PRINTS, to],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("redirect", "code"), [("| head -1", 0), (">/dev/full", 1), (">&-", 1), (">/dev/null", 0)]
)
def test_what_cannot_be_printed_stops_nothing(redirect: str, code: int, tmp_path: Path) -> None:
    if "full" in redirect and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    done = printing(tmp_path / "done", redirect)
    assert (tmp_path / "done").read_text() == "done"
    assert done.returncode == code
    assert done.stderr.count("\n") == code
    assert "Traceback" not in done.stderr


_TAKES_TURNS = """
import sys
from semseg_cli import streams
streams.guard()
for i in range(4):
    print(f"{i}, a table\\nof two lines", file=sys.stdout)
    print(f"{i}, a message", file=sys.stderr)
"""


def test_tables_and_messages_of_one_file_stand_in_their_order(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        subprocess.run([sys.executable, "-c", _TAKES_TURNS], stdout=log, stderr=log, check=True)
    expected = "".join(f"{i}, a table\nof two lines\n{i}, a message\n" for i in range(4))
    assert (tmp_path / "log").read_text() == expected

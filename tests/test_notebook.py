"""The notebook runs from top to bottom, and is committed with what it shows."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[1]
NOTEBOOK = REPOSITORY / "docs" / "notebook.ipynb"
RUN = "from nbclient.cli import main; main()"
CACHE = "SEMSEG_CACHE_DIR"
QUIET = {"TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore:IProgress"}


def shown(notebook: Path) -> list[dict[str, Any]]:
    """What each code cell shows: by kind of output, its text."""
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    found = []
    for cell in code:
        outputs = [one for one in cell["outputs"] if one["output_type"] != "stream"]
        assert len(outputs) <= 1, "".join(cell["source"])
        found.append({k: "".join(v) for one in outputs for k, v in one["data"].items()})
    return found


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_is_committed(tmp_path: Path, demo_cache: Path) -> None:
    pytest.importorskip("nbclient", reason="needs nbclient and ipykernel: the extra dev")
    pytest.importorskip("ipykernel", reason="needs nbclient and ipykernel: the extra dev")
    copy = tmp_path / NOTEBOOK.name
    copy.write_bytes(NOTEBOOK.read_bytes())
    environment = {**os.environ, **QUIET, "PYTHONPATH": str(REPOSITORY), CACHE: str(demo_cache)}
    command = [sys.executable, "-c", RUN, str(copy), "--inplace"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    made, committed = shown(copy), shown(NOTEBOOK)
    assert [one.keys() for one in made] == [one.keys() for one in committed]
    assert rows(made) == rows(committed)


def rows(cells: list[dict[str, Any]]) -> list[int]:
    """How many rows the tables of each cell have."""
    return [one.get("text/html", "").count("<tr") for one in cells]


def test_the_committed_notebook_shows_tables_and_a_picture() -> None:
    cells = [one for one in shown(NOTEBOOK) if one]
    result, comparison, picture, frame = cells
    assert "95% interval" in result["text/html"]
    assert "rand-feat causal x-2" in comparison["text/html"]
    assert "image/png" in picture
    assert "brick wall" in frame["text/html"]
    assert "/work" not in NOTEBOOK.read_text("utf-8")

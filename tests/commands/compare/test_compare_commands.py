"""`compare` as it is typed, on runs that real commands made."""

import csv
import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from terminal import Done, Terminal, options, working_in
from worlds import World

import semseg_cli
from semseg_cli.runs.per_image import COUNTED
from semseg_cli.settings.methods import METHODS
from semseg_cli.settings.output import FORMATS

N_DRAWS = 4


@dataclass(frozen=True)
class Place:
    """A working directory in which every method ran once, and the folder of each method's run."""

    folder: Path
    runs: dict[str, Path]


@pytest.fixture(scope="module")
def place(tiny_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with working_in(tmp_path_factory.mktemp("place")) as terminal:
        runs: dict[str, Path] = {}
        for method in METHODS:
            draws = ["--draws", str(N_DRAWS)] if method.command == "rand-feat" else []
            done = terminal.type(method.command, *options(tiny_world), "--quiet", *draws)
            assert done.code == 0, done.err
            (runs[method.command],) = set(terminal.runs()) - set(runs.values())
        yield Place(terminal.folder, runs)


@pytest.fixture
def here(place: Place, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.chdir(place.folder)
    return Terminal(place.folder)


def shown(done: Done) -> list[dict[str, str]]:
    """The rows of a CSV that a command printed."""
    assert done.code == 0, done.err
    return list(csv.DictReader(io.StringIO(done.out)))


def test_every_method_is_a_row_with_its_images_and_differences(
    here: Terminal, place: Place
) -> None:
    args = ["compare", "--baseline", "rand-feat", "--format", "csv"]
    rows = {row["run"]: row for row in shown(here.type(*args))}
    assert {name.split()[0] for name in rows} == set(place.runs)
    for name, row in rows.items():
        for key in ("macro_selectivity", "selectivity"):
            if row[f"{key}_lo"]:
                assert float(row[f"{key}_lo"]) <= float(row[key]) <= float(row[f"{key}_hi"])
            assert int(row[f"{key}_n_images"]) > 0
        assert (row["selectivity_difference"] == "") == name.startswith("rand-feat")


def test_the_difference_is_that_of_the_counts(here: Terminal, place: Place) -> None:
    args = ["compare", "--baseline", "rand-feat", "--format", "csv"]
    rows = {row["run"]: row for row in shown(here.type(*args))}
    frames = {
        command: pd.read_parquet(folder / "per_image.parquet")
        for command, folder in place.runs.items()
    }
    common = set.intersection(*(set(frame["class_id"]) for frame in frames.values()))
    shares = {}
    for command in ("auto-feat", "rand-feat"):
        kept = frames[command][frames[command]["class_id"].isin(common)]
        orig, changed, other, other_changed = kept[list(COUNTED)].sum().tolist()
        shares[command] = changed / orig - other_changed / other
    found = float(rows["auto-feat x-2"]["selectivity_difference"])
    assert found == pytest.approx(shares["auto-feat"] - shares["rand-feat"])


def test_a_run_without_the_class_shows_nothing_for_it(
    here: Terminal, tiny_world: World, place: Place
) -> None:
    args = options(tiny_world, **{"class": "tree"})
    done = here.type("auto-feat", *args, "--no-track", "--quiet", "--dump-to", "apart")
    assert done.code == 0, done.err
    (apart,) = (here.folder / "apart").iterdir()
    other = str(place.runs["auto-feat"])
    for order in ([str(apart), other], [other, str(apart)]):
        done = here.type("compare", *order, "--class", "SKY", "--format", "csv")
        assert done.code == 0, done.err
        (row,) = shown(done)
        assert row["class_name"] == "sky"


def test_numbers_over_fewer_classes_are_those_of_a_run_of_these_alone(
    here: Terminal, tiny_world: World, place: Place
) -> None:
    args = options(tiny_world, **{"class": "2"})
    done = here.type("auto-feat", *args, "--no-track", "--quiet", "--dump-to", "alone")
    assert done.code == 0, done.err
    (alone,) = (here.folder / "alone").iterdir()
    name = pd.read_csv(alone / "class_results.csv")["class_name"].item()
    assert name in (alone / "settings.toml").read_text()
    whole = str(place.runs["auto-feat"])
    one, two = shown(here.type("compare", str(alone), whole, "--top", "9", "--format", "csv"))
    texts = {"run", "run_id", "started", "class", "n_classes", "status", "experiment"}
    assert not [key for key in one if key not in texts and not is_near(one[key], two[key])]
    assert {"damage", "edit_norm", "target_miou_after", "became_entropy"} <= set(one)


def is_near(one: str, two: str) -> bool:
    """Whether two cells are equal, or numbers that are but for the sixth digit."""
    if one == two:
        return True
    return math.isclose(float(one or "nan"), float(two or "nan"), rel_tol=1e-4, abs_tol=1e-6)


def test_a_column_that_needs_a_baseline_is_empty_without_one(here: Terminal) -> None:
    args = ["--method", "auto-feat", "--columns", "target,p", "--sort", "p"]
    done = here.type("compare", *args)
    assert done.code == 0, done.err
    assert "auto-feat x-2" in done.out


def test_manual_runs_can_be_asked_for(here: Terminal) -> None:
    done = here.type("compare", "--method", "manual")
    assert done.code == 1
    assert "--method manual" in done.err


@pytest.mark.parametrize("more", [[], ["--per-class"]])
@pytest.mark.parametrize("format", FORMATS)
def test_every_form_prints_and_keeps_80_columns(
    format: str, more: list[str], here: Terminal
) -> None:
    done = here.type("compare", "--format", format, *more)
    assert (done.code, done.err) == (0, "")
    assert "auto-feat" in done.out
    if format == "table":
        assert max(map(len, done.out.splitlines())) <= 80
    if format == "json":
        assert json.loads(done.out)["rows"]


def test_classes_are_rows(here: Terminal) -> None:
    rows = shown(here.type("compare", "--per-class", "--format", "csv", "--baseline", "rand-vec"))
    assert {"wall", "sky"} <= {row["class_name"] for row in rows}
    assert {"auto-feat x-2: selectivity_p_adjusted", "auto-feat x-2: latent"} <= set(rows[0])
    done = here.type("compare", "auto-feat x-2", "--class", "sky", "--columns", "target,latent")
    assert "sky" in done.out
    assert "wall" not in done.out


def test_options_arrange_the_table(here: Terminal) -> None:
    done = here.type("compare", "--sort", "-selectivity", "--top", "2", "--precision", "1")
    assert done.out.startswith(f"2 of {len(METHODS)} runs of experiment semseg")
    assert here.type("compare", "--all-columns").code == 0
    done = here.type("compare", "--columns", "seed,p", "--format", "markdown")
    assert "| run | seed | p |" in done.out


def test_the_table_can_go_to_a_file(here: Terminal) -> None:
    done = here.type("compare", "--output", "new/runs.tex", "--precision", "2")
    assert (done.out, done.err.strip()) == ("", "Wrote new/runs.tex")
    assert "\\begin{tabular}" in (here.folder / "new/runs.tex").read_text()


def test_a_sweep_is_named_by_its_tag(here: Terminal, place: Place) -> None:
    sweep = json.loads((place.runs["auto-feat"] / "run.json").read_text())["sweep_id"]
    rows = shown(here.type("compare", "--sweep", sweep, "--format", "csv"))
    assert [row["run"] for row in rows] == ["auto-feat x-2"]


@pytest.mark.parametrize(
    ("args", "code", "sentence"),
    [
        (["auto-feet x-2"], 1, "did you mean auto-feat x-2"),
        (["--experiment", "none"], 1, "There is no experiment 'none'"),
        (["--method", "auto"], 2, "choose one of"),
        (["--columns", "targt"], 2, "did you mean target"),
        (["--sort", "targt"], 2, "did you mean target"),
        (["--class", "lion"], 2, "--class has no class 'lion': choose of"),
        (["--filter", "metrics.other <"], 1, "refuses"),
        (["--sweep", "none"], 1, "There is no run to compare that fits --sweep none"),
        (["--top", "0"], 2, "--top is 0"),
        (["--baseline", "rand-feet"], 1, "did you mean rand-feat x-2"),
        (["--tracking-uri", "sqlite:///none.db"], 1, "make one with `semseg-cli auto-feat`"),
    ],
)
def test_bad_input_is_one_sentence(
    args: list[str], code: int, sentence: str, here: Terminal
) -> None:
    done = here.type("compare", *args)
    assert (done.code, done.out) == (code, "")
    assert sentence in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_comparing_imports_no_torch_and_no_transformers(here: Terminal) -> None:
    code = (
        "import sys\nfrom semseg_cli.cli import run\n"
        "try:\n    run(['compare', '--per-class'])\nexcept SystemExit as end:\n"
        "    assert not end.code\n"
        "print([m for m in ('torch', 'transformers') if m in sys.modules], file=sys.stderr)"
    )
    ours = {**os.environ, "PYTHONPATH": str(Path(semseg_cli.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ours)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"
    assert "auto-feat" in done.stdout

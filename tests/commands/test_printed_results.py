"""What methods print for machines and papers: the classes, and the means over them."""

import json

import pytest
from terminal import Terminal, options
from worlds import World

from semseg_cli.commands.results import MACRO
from semseg_cli.runs.folder import RunFolder
from semseg_cli.runs.rows import parse_rows

SCALES = ("--scale", "-1", "--scale", "-2")


def printed(terminal: Terminal, world: World, *args: str) -> str:
    done = terminal.type("rand-feat", *options(world), "--no-track", "--quiet", *args)
    assert done.code == 0, done.err
    return done.out


def test_rows_for_machines_have_the_means_of_their_run(
    tiny_world: World, terminal: Terminal
) -> None:
    table = json.loads(printed(terminal, tiny_world, *SCALES, "--draws", "2", "--format", "json"))
    reports = [RunFolder(path).report() for path in terminal.runs()]
    assert {row["scale"] for row in table["rows"]} == {-1.0, -2.0}
    for row in table["rows"]:
        (report,) = (one for one in reports if one.intervention_scale == row["scale"])
        metrics = report.metrics()
        for key in MACRO:
            assert row[key] == metrics[key]
            assert row[f"{key}_lo"] == metrics[f"{key}_lo"] <= row[key] <= row[f"{key}_hi"]
        assert row["n_draws"] == 2
    assert any("2 random draws" in note for note in table["notes"])
    rows = parse_rows(printed(terminal, tiny_world, *SCALES, "--draws", "2", "--format", "csv"))
    known = [{key: v for key, v in row.items() if v is not None} for row in rows]
    assert known == [{key: v for key, v in row.items() if v is not None} for row in table["rows"]]


def test_rows_say_which_classes_the_means_are_over(tiny_world: World, terminal: Terminal) -> None:
    rows = json.loads(printed(terminal, tiny_world, "--format", "json"))["rows"]
    assert all(row["in_macro"] for row in rows)
    least = str(min(row["n_orig_patches"] for row in rows) + 1)
    few = ("--min-patches", least, "--format", "json")
    rows = json.loads(printed(terminal, tiny_world, *few))["rows"]
    over = [row["target_change"] for row in rows if row["in_macro"]]
    assert 0 < len(over) < len(rows)
    assert sum(over) / len(over) == pytest.approx(rows[0]["macro_target_change"])


@pytest.mark.parametrize("format", ["markdown", "latex"])
def test_papers_get_the_runs_and_all_classes(
    format: str, tiny_world: World, terminal: Terminal
) -> None:
    text = printed(terminal, tiny_world, "--format", format)
    (report,) = (RunFolder(path).report() for path in terminal.runs())
    assert "macro selectivity" in text
    assert text.index(f"{report.macro_selectivity:.3f}") < text.index("Classes")
    assert all(result.class_name in text for result in report.class_results)

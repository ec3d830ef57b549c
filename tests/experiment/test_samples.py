"""What was sampled, told to commands: groups of images, draws of controls, overlapping splits."""

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
from terminal import Terminal, options
from worlds import World

from semseg_cli.runs.folder import RunFolder
from semseg_cli.runs.report import Report
from semseg_cli.runs.rows import read_rows
from semseg_cli.show.run_tables import summary_table


def last_report(terminal: Terminal) -> Report:
    return RunFolder(terminal.runs()[-1]).report()


def run(terminal: Terminal, world: World, *args: str) -> Report:
    done = terminal.type(*args, "--no-track", "--no-plots", *options(world))
    assert done.code == 0, done.err
    return last_report(terminal)


def test_a_control_is_drawn_as_often_as_its_interval_needs(
    terminal: Terminal, tiny_world: World
) -> None:
    n_classes = len(
        run(
            terminal, tiny_world, "rand-feat", "--match", "none", "--protocol", "label"
        ).class_results
    )
    assert last_report(terminal).n_draws == 6
    by_class = run(terminal, tiny_world, "rand-feat", "--match", "none").n_draws
    assert by_class == (1 if n_classes >= 12 else -(-5 // (n_classes / 2)) + 1)
    assert run(terminal, tiny_world, "rand-feat", "--draws", "1").n_draws == 1
    assert run(terminal, tiny_world, "rand-vec").n_draws == 1


def test_images_of_a_group_count_as_one(terminal: Terminal, tiny_world: World) -> None:
    plain = run(terminal, tiny_world, "auto-feat")
    grouped = run(terminal, tiny_world, "auto-feat", "--group-by", r"\d$")
    assert replace(grouped, extra={}, few_images=[]) == replace(plain, extra={}, few_images=[])
    frame = pd.read_parquet(terminal.runs()[-1] / "per_image.parquet")
    assert set(frame["group"]) == {str(name)[-1] for name in frame["image"]}
    n_groups = frame["group"].nunique()
    rows = read_rows(terminal.runs()[-1] / "class_results.csv")
    assert max(row["target_change_n_images"] for row in rows) <= n_groups
    assert grouped.metrics()["n_groups"] == n_groups
    assert set(summary_table({"grouped": grouped}).rows[0].items()) >= {
        ("unit", "groups"),
        ("macro_selectivity_n_images", n_groups),
    }
    assert {row["unit"] for row in rows} == {"groups"}


def test_a_table_says_what_its_sample_is(terminal: Terminal, tiny_world: World) -> None:
    args = ["--no-track", "--no-plots", *options(tiny_world)]
    done = terminal.type("auto-feat", "--group-by", ".", *args)  # all names begin alike
    said = " ".join(done.out.split())
    assert "1 group of images, taken as one sample (--group-by)." in said
    assert "An interval takes 5: give a pattern that tells more apart" in said
    assert "in fewer than 3 groups" in said


def test_a_pattern_that_fits_no_image_is_a_usage_error(
    terminal: Terminal, tiny_world: World
) -> None:
    done = terminal.type("auto-feat", "--group-by", "@", "--no-track", *options(tiny_world))
    assert done.code == 2
    assert "has no group for" in done.err


def test_images_in_both_splits_are_refused_unless_allowed(
    terminal: Terminal, tiny_world: World, tmp_path: Path
) -> None:
    root = tmp_path / "world"
    shutil.copytree(tiny_world.data, root)
    for part in ("images", "annotations"):
        source = sorted((root / part / "training").iterdir())[0]
        shutil.copy(source, root / part / "validation" / f"copy_of_{source.name}")
    args = ["--no-track", "--no-plots", *options(tiny_world, imgs_root=str(root))]
    refused = terminal.type("auto-feat", *args)
    assert refused.code == 2
    assert "also in the training split" in refused.err
    assert "--allow-overlap" in refused.err
    assert terminal.runs() == []
    allowed = terminal.type("auto-feat", "--allow-overlap", *args)
    assert allowed.code == 0, allowed.err
    assert "latents were chosen on, too: 1 in auto-feat x-2" in " ".join(allowed.out.split())
    assert last_report(terminal).extra["n_overlap"] == 1.0
    assert terminal.type("rand-feat", "--match", "none", *args).code == 0

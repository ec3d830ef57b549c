"""`--other-images`, end to end: what is run, what the files say of it, and how runs are paired."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from terminal import Terminal, interrupted, options
from worlds import World, make_head, make_tiny_world

from semseg_cli.models.head import save_head
from semseg_cli.runs.folder import RunFolder
from semseg_cli.runs.per_image import PerImage, on_same_images, read_per_image
from semseg_cli.runs.rows import parse_rows

N = ("--other-images", "3")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Most of its images are without classes 1 and 2."""
    made = make_tiny_world(tmp_path_factory.mktemp("rare"))
    head = make_head(seed=3)
    head.bias.data[1:3] -= torch.tensor([4.0, 6.0])
    save_head(made.folder / "head.pt", head)
    return made


def ran(terminal: Terminal, world: World, command: str, *more: str) -> Path:
    done = terminal.type(command, *options(world, batch_size="2"), "--no-plots", "--quiet", *more)
    assert done.code == 0, done.err
    return max(terminal.runs(), key=lambda path: RunFolder(path).meta["created"])


def counts_of(path: Path) -> PerImage:
    return read_per_image((path / "per_image.parquet").read_bytes())


def test_files_say_which_images_were_run_and_for_how_many_they_stand(
    terminal: Terminal, world: World
) -> None:
    path, whole = (ran(terminal, world, "auto-feat", *more) for more in (N, ()))
    frame, every = (pd.read_parquet(one / "per_image.parquet") for one in (path, whole))
    assert "weight" not in every
    joined = every.merge(frame, on=["image", "class_id"], suffixes=("", "_run"), how="left")
    is_run = joined["weight"].notna()
    assert is_run[joined["n_orig_patches"] > 0].all()
    assert (joined["n_other_changed"][is_run] == joined["n_other_changed_run"][is_run]).all()
    for _, of_class in joined.groupby("class_id"):
        without = of_class[of_class["n_orig_patches"] == 0]
        n_run = without["weight"].notna().sum()
        assert n_run == min(3, len(without))
        assert set(without["weight"].dropna()) <= {len(without) / max(n_run, 1)}
        assert set(of_class["weight"][of_class["n_orig_patches"] > 0]) <= {1.0}
    report = json.loads((path / "report.json").read_text())
    assert report["extra"]["run_share"] == pytest.approx(len(frame) / len(every), abs=1e-5)
    counts = counts_of(path)
    assert counts.images == counts_of(whole).images
    assert counts.weight_bc is not None
    assert np.array_equal(counts.weight_bc > 0, is_run.to_numpy().reshape(6, -1))
    on = counts.on(counts.images, counts.class_ids)
    assert on[..., 2].sum(axis=0) == pytest.approx(counts_of(whole).counts_bc4[..., 2].sum(axis=0))


def test_runs_are_compared_on_the_images_that_both_ran(terminal: Terminal, world: World) -> None:
    sampled, whole, other = (
        ran(terminal, world, "auto-feat", *more)
        for more in (N, ("--other-images", "all"), (*N, "--seed", "7"))
    )
    vectors = ran(terminal, world, "rand-vec", *N)
    assert counts_of(vectors).weight_bc is None  # one edit serves all classes: nothing to save
    one, two = on_same_images(counts_of(sampled), counts_of(whole))
    assert np.array_equal(one.on(one.images, one.class_ids), two.on(one.images, one.class_ids))
    one, two = on_same_images(counts_of(sampled), counts_of(other))
    assert np.array_equal(one.is_run_bc, two.is_run_bc)
    is_smaller_c = one.is_run_bc.sum(axis=0) <= counts_of(sampled).is_run_bc.sum(axis=0)
    assert is_smaller_c.all()
    paths = [str(path) for path in (sampled, whole, vectors)]
    done = terminal.type("compare", *paths, "--baseline", str(whole), "--format", "csv")
    assert done.code == 0, done.err
    first, _, last = parse_rows(done.out)
    assert first["selectivity_difference"] == pytest.approx(0.0, abs=1e-12)
    assert last["selectivity_difference"] is not None


def test_a_sampled_run_that_is_stopped_goes_on_with_its_sample(
    terminal: Terminal, world: World
) -> None:
    whole = ran(terminal, world, "auto-feat", *N)
    interrupted(terminal, 4, "auto-feat", *options(world, batch_size="2"), *N, "--no-plots")
    (path,) = [path for path in terminal.runs() if path != whole]
    refused = terminal.type("auto-feat", "--resume", str(path), "--other-images", "all")
    assert "(--other-images)" in refused.err
    assert terminal.type("auto-feat", "--resume", str(path), "--no-plots").code == 0
    for name in ("report.json", "class_results.csv", "per_image.parquet"):
        assert (path / name).read_bytes() == (whole / name).read_bytes()


def test_the_plan_and_the_table_know_it(terminal: Terminal, world: World) -> None:
    plan = [*options(world), "--dry-run"]
    assert "passes after it: about" in terminal.type("ablate", *plan, *N).out
    assert "about" not in terminal.type("ablate", *plan).out
    done = terminal.type("ablate", *options(world), *N, "--no-plots", "--no-track")
    assert "on a sample of the others (--other-images)" in " ".join(done.out.split())


@pytest.mark.parametrize("given", ["2", "-1", "some", "1e3"])
def test_other_values_are_refused(terminal: Terminal, world: World, given: str) -> None:
    done = terminal.type("ablate", *options(world), f"--other-images={given}")
    assert done.code == 2
    assert f"--other-images is {given!r}: give auto, all, or a number" in done.err


def test_damaged_weights_are_a_sentence(terminal: Terminal, world: World) -> None:
    path = ran(terminal, world, "auto-feat", *N)
    frame: Any = pd.read_parquet(path / "per_image.parquet")
    for bad in (0.5, float("nan"), float("inf")):
        frame.loc[0, "weight"] = bad
        data = frame.to_parquet()
        with pytest.raises(Exception, match="its column weight has values that are no numbers"):
            read_per_image(data)

"""--skip-bad: what is left out is decided once, listed, and changes nothing for the others."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from layouts import CASES
from PIL import Image
from terminal import Terminal, options
from worlds import World, make_head

from semseg_cli.data.dataset import open_dataset
from semseg_cli.data.loader import Loader
from semseg_cli.errors import SemsegError
from semseg_cli.models.head import save_head

Spoil = Callable[[Path], object]


def cut(path: str) -> Spoil:
    def spoil(root: Path) -> None:
        data = (root / path).read_bytes()
        (root / path).write_bytes(data[: len(data) // 2])

    return spoil


def label_9(root: Path) -> None:
    path = root / "annotations/validation/validation_0002.png"
    with Image.open(path) as mask:
        Image.fromarray(np.full(mask.size[::-1], 9, np.uint8)).save(path)


IMAGE, MASK = (f"{p}/validation/validation_0002.png" for p in ("images", "annotations"))
SPOILS: dict[str, tuple[Spoil, str]] = {
    "cut image": (cut(IMAGE), "The image .*validation_0002.png cannot be read"),
    "cut mask": (cut(MASK), "The mask .*validation_0002.png cannot be read"),
    "no mask": (lambda root: (root / MASK).unlink(), "validation_0002.png has no mask: images/"),
    "no image": (lambda root: (root / IMAGE).unlink(), "validation_0002.png has no image: images/"),
    "size": (lambda root: Image.new("L", (9, 9)).save(root / MASK), "is 9 x 9 pixels"),
    "label": (label_9, "holds label 9, but there are 5 classes"),
}


@pytest.fixture
def world(tiny_world: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("damaged") / "world"
    shutil.copytree(tiny_world.folder, folder)
    return World(folder, tiny_world.vit_layer)


@pytest.mark.parametrize(("spoil", "reason"), SPOILS.values(), ids=SPOILS.keys())
def test_a_bad_image_is_left_out_and_the_others_stay_as_they_were(
    spoil: Spoil, reason: str, world: World
) -> None:
    whole = open_dataset(world.data, "validation", 32)
    before = next(iter(Loader(whole, 6)))
    spoil(world.data)
    rest = open_dataset(world.data, "validation", 32, skip_bad=True)
    after = next(iter(Loader(rest, 6)))
    kept = [0, 1, 3, 4, 5]
    assert after.indices_b.tolist() == kept
    assert after.positions_b.tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(after.images_bchw, before.images_bchw[kept])
    assert torch.equal(after.labels_bt, before.labels_bt[kept])
    (skipped,) = rest.skipped
    assert skipped.name == "validation_0002"
    assert re.search(reason, skipped.reason)
    with pytest.raises(SemsegError, match=reason.removesuffix(": images/")):
        list(Loader(open_dataset(world.data, "validation", 32), 6))


def test_a_good_folder_is_the_same_with_and_without(tiny_world: World) -> None:
    plain = open_dataset(tiny_world.data, "validation", 32)
    checked = open_dataset(tiny_world.data, "validation", 32, skip_bad=True)
    assert (plain.names, plain.indices, plain.digest) == (
        checked.names, checked.indices, checked.digest,
    )  # fmt: skip
    assert checked.skipped == ()


def test_a_subset_is_chosen_before_bad_images_leave_it(world: World) -> None:
    cut("images/validation/validation_0004.png")(world.data)
    dataset = open_dataset(world.data, "validation", 32, n_images=3, skip_bad=True)
    assert (dataset.indices, [one.name for one in dataset.skipped]) == ((0, 2), ["validation_0004"])
    # A bad file outside of the subset is nobody's business.
    cut("images/validation/validation_0001.png")(world.data)
    again = open_dataset(world.data, "validation", 32, n_images=3, skip_bad=True)
    assert (again.indices, again.skipped) == (dataset.indices, dataset.skipped)


def test_a_split_without_a_good_image_is_refused(world: World) -> None:
    for path in (world.data / "images/validation").iterdir():
        path.write_text("no picture")
    with pytest.raises(SemsegError, match="None of the 6 images can be used: The image"):
        open_dataset(world.data, "validation", 32, skip_bad=True)


def test_progress_counts_every_checked_image(world: World) -> None:
    cut(IMAGE)(world.data)
    told: list[object] = []

    def progress(description: str, total: int, unit: str = "images") -> Callable[[int], None]:
        told.append((description, total))
        return told.append

    open_dataset(world.data, "validation", 32, skip_bad=True, progress=progress)
    assert told == [("checking images", 6), *[1] * 6]


def test_an_interruption_while_checking_goes_on_its_way(world: World) -> None:
    def progress(description: str, total: int, unit: str = "images") -> Callable[[int], None]:
        def advance(_n: int) -> None:
            raise KeyboardInterrupt

        return advance

    with pytest.raises(KeyboardInterrupt):
        open_dataset(world.data, "validation", 32, skip_bad=True, progress=progress)


# --- end to end -----------------------------------------------------------------------------------


def test_the_command_counts_lists_and_logs_what_it_skips(world: World, terminal: Terminal) -> None:
    cut(IMAGE)(world.data)
    (world.data / "annotations/training/training_0003.png").unlink()
    refused = terminal.type("auto-feat", *options(world))
    assert refused.code == 1
    assert "--skip-bad" in refused.err
    planned = terminal.type("auto-feat", *options(world), "--skip-bad", "--dry-run")
    assert "Skipped 1 of 6 images of validation:" in planned.err
    assert "images to evaluate: 5; to choose latents on: 6" in planned.out
    done = terminal.type("auto-feat", *options(world), "--skip-bad")
    assert done.code == 0, done.err
    assert "Skipped 1 of 6 images of validation:" in done.err
    assert "Skipped 1 of 7 images of training:" in done.err
    assert f"The image {world.data}/{IMAGE} cannot be read" in done.err
    folder = terminal.runs()[-1]
    described = {
        one["role"]: one for one in json.loads((folder / "run.json").read_text())["datasets"]
    }
    assert [one["image"] for one in described["evaluation"]["skipped"]] == ["validation_0002"]
    assert described["evaluation"]["n_images"] == 5
    assert [one["image"] for one in described["lookup"]["skipped"]] == ["training_0003"]
    log = (folder / "log.txt").read_text()
    assert "skipped validation_0002 of validation: The image" in log
    assert "skipped training_0003 of training:" in log
    assert "skip_bad = true" in (folder / "settings.toml").read_text()


def test_the_other_images_count_as_if_the_bad_one_were_good(
    world: World, terminal: Terminal
) -> None:
    args = options(world)
    terminal.type("rand-vec", *args, "--skip-bad")
    cut(IMAGE)(world.data)
    terminal.type("rand-vec", *args, "--skip-bad")
    whole, rest = (pd.read_parquet(f / "per_image.parquet") for f in terminal.runs())
    whole = whole[whole["image"] != "validation_0002"].astype({"image": str})
    # Margins are in units of the deviation over all images: another image, another unit.
    columns = [name for name in whole.columns if "margin" not in str(name)]
    assert (whole[columns].to_numpy() == rest.astype({"image": str})[columns].to_numpy()).all()


def test_many_bad_files_are_told_in_part_and_kept_whole(world: World, terminal: Terminal) -> None:
    for i in range(20):
        (world.data / f"images/validation/x{i:02d}.png").write_text("no picture")
    done = terminal.type("rand-vec", *options(world), "--skip-bad")
    assert done.code == 0, done.err
    assert "Skipped 20 of 26 images of validation:" in done.err
    assert len([line for line in done.err.splitlines() if " has no mask" in line]) == 10
    assert "... and 10 more." in done.err
    (folder,) = terminal.runs()
    assert (folder / "log.txt").read_text().count("skipped x") == 20
    quiet = terminal.type("rand-vec", *options(world), "--skip-bad", "--quiet")
    assert quiet.err == ""


@pytest.mark.parametrize("name", sorted(CASES))
def test_every_layout_runs_from_the_command_line(
    name: str, world: World, tmp_path: Path, terminal: Terminal
) -> None:
    root = CASES[name].write(tmp_path / "data")
    save_head(world.folder / "head.pt", make_head(n_classes=CASES[name].n_classes))
    args = options(world, imgs_root=str(root), data_format=name, max_freq="")
    done = terminal.type("rand-feat", "--match", "none", *args)
    assert done.code == 0, done.err
    meta = json.loads((terminal.runs()[0] / "run.json").read_text())
    (evaluated, *_) = meta["datasets"]
    assert (evaluated["layout"], evaluated["split"]) == (name, "validation")
    assert evaluated["n_images"] == len(CASES[name].names)


def test_background_is_a_class_of_the_run(world: World, tmp_path: Path, terminal: Terminal) -> None:
    root = CASES["voc2012"].write(tmp_path / "data")
    save_head(world.folder / "head.pt", make_head(n_classes=21))
    args = options(world, imgs_root=str(root), max_freq="")
    done = terminal.type(
        "rand-feat", "--match", "none", *args, "--background", "--class", "background"
    )
    assert done.code == 0, done.err
    rows = pd.read_csv(terminal.runs()[0] / "class_results.csv")
    assert rows["class_name"].tolist() == ["background"]
    refused = terminal.type("rand-feat", "--match", "none", *args)
    assert "The head knows 21 classes (and null), the dataset 20" in refused.err

"""`train-head` end to end: a world with known answers, resuming, storage, and mistakes."""

import json
import os
import re
import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.tracking import MlflowClient
from terminal import Done, Terminal, options
from test_cli import assert_done, report_of, stored_runs
from worlds import COLOURS, Pair, World, known_pairs, write_dataset

from semseg_cli.commands.train_head.checkpoint import CHECKPOINT, save_checkpoint
from semseg_cli.commands.train_head.features import Storage, training_patches, validation_images
from semseg_cli.commands.train_head.held_out import hold_out
from semseg_cli.commands.train_head.sweep import Sweep
from semseg_cli.data.dataset import Dataset, open_dataset
from semseg_cli.data.label_map import LabelMap
from semseg_cli.data.loader import Loader
from semseg_cli.data.preprocessing import Preprocessing
from semseg_cli.errors import SemsegError, UsageError
from semseg_cli.models.head import load_head, save_head
from semseg_cli.models.residuals import Residuals
from semseg_cli.models.vit import load_vit
from semseg_cli.runs.folder import RunFolder
from semseg_cli.runs.metrics import HEADS

NO_SAE = {"sae_ckpt": "", "seg_ckpt": "", "vit_layer": "", "max_freq": "", "min_patches": ""}
NO_SAE |= {"act_mean": "", "act_norm": ""}


def train(terminal: Terminal, world: World, *args: str, **changes: str) -> Done:
    """`train-head` at one weight decay, few epochs."""
    named = {"weight_decay": "0.01", "epochs": "4", **NO_SAE, **changes}
    return terminal.type("train-head", *options(world, **named), *args)


def plain_pairs() -> list[Pair]:
    """One image per class, of nothing else: no pixel lies between two classes."""
    size = (256, 256)
    return [
        (np.full((*size, 3), COLOURS[c - 1], np.uint8), np.full(size, c, np.uint8))
        for c in range(1, 5)
    ]


@pytest.fixture(scope="module")
def plain_world(known_world: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """The known world, validated on images of one class each."""
    folder = tmp_path_factory.mktemp("plain")
    for name in ("vit", "sae.pt", "stats.safetensors"):
        source = known_world.folder / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    write_dataset(folder / "ade20k", {"training": known_pairs(4, 1), "validation": plain_pairs()})
    return World(folder, vit_layer=1, stats=folder / "stats.safetensors")


def test_the_known_world_is_learnt_and_its_head_is_used(
    plain_world: World, terminal: Terminal
) -> None:
    lrs = ["--lr", "0.0001", "--lr", "0.1"]
    Path("mine").mkdir()
    Path("mine/head.pt").write_text("precious")
    done = train(terminal, plain_world, *lrs, "--save", "mine/head.pt", epochs="30")
    assert_done(done)
    (kept,) = Path("mine").glob("head.*-*.pt")
    assert kept.read_text() == "precious"
    assert f"mine/head.pt was there already: it is kept as {kept}." in done.err
    (folder,) = terminal.runs()
    assert "Not there, so not in the mean: floor." in done.out
    assert "--seg-ckpt mine/head.pt" in done.err
    sweep = pd.read_csv(folder / "sweep.csv")
    assert list(sweep["lr"]) == [0.0001, 0.1]
    assert sweep["miou"][0] < sweep["miou"][1]
    measured = json.loads((folder / "metrics.json").read_text())
    assert measured["evaluation_miou"] == measured["evaluation_accuracy"] == 1.0
    heads = [load_head(folder / "head.pt"), load_head(folder / "head.safetensors")]
    heads.append(load_head("mine/head.pt"))
    assert all(torch.equal(head.weight, heads[0].weight) for head in heads)
    classes = pd.read_csv(folder / "classes.csv")
    assert list(classes["iou"])[:4] == [1.0] * 4
    assert np.isnan(classes["iou"][4])

    args = options(plain_world, seg_ckpt="mine/head.pt")
    assert_done(terminal.type("auto-feat", *args, "--no-plots"))
    assert report_of(terminal.runs()[-1]).mean_target_change == 1.0


def test_it_is_tracked_with_the_metrics_of_the_best_head(
    plain_world: World, terminal: Terminal
) -> None:
    assert_done(train(terminal, plain_world, "--lr", "0.1", "--lr", "0.2", "--run-name", "mine"))
    (folder,) = terminal.runs()
    (run,) = stored_runs(terminal, "semseg")
    assert (run.info.status, run.info.run_name) == ("FINISHED", "mine")
    best = pd.read_csv(folder / "sweep.csv").sort_values("miou", kind="stable").iloc[-1]
    assert run.data.metrics["miou"] == best["miou"]
    assert run.data.metrics["accuracy"] == best["accuracy"]
    assert run.data.metrics["n_epochs"] == 4
    assert {*run.data.metrics, "iou", "class_id"} == {metric.key for metric in HEADS}
    assert run.data.params["lr"] == "0.1, 0.2"
    assert run.data.tags["semseg.kind"] == "train-head"
    assert "learning rate" in run.data.tags["mlflow.note.content"]
    client = MlflowClient(f"sqlite:///{terminal.folder}/mlflow.db")
    stored = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert {"head.pt", "head.safetensors", "sweep.csv", "classes.csv"} <= stored
    assert not any("checkpoint" in path for path in stored)


def results(folder: Path) -> tuple[bytes, ...]:
    names = ("head.safetensors", "sweep.csv", "classes.csv")
    return tuple((folder / name).read_bytes() for name in names)


def test_a_resumed_run_ends_like_an_uninterrupted_one(
    tiny_world: World, terminal: Terminal
) -> None:
    once = ["--lr", "0.01", "--no-track"]
    assert_done(train(terminal, tiny_world, *once, epochs="7"))
    assert_done(train(terminal, tiny_world, *once, epochs="3"))
    whole, half = terminal.runs()
    config = ["--config", str(half / "settings.toml"), "--no-track"]
    done = terminal.type("train-head", *config, "--resume", str(half), "--epochs", "7")
    assert_done(done)
    resumed = terminal.runs()[-1]
    assert results(resumed) == results(whole)
    assert results(resumed) != results(half)
    assert "resume" not in tomllib.loads((resumed / "settings.toml").read_text())


def test_a_stopped_run_can_be_resumed(
    tiny_world: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = ["--lr", "0.01", "--no-track"]
    assert_done(train(terminal, tiny_world, *once))

    def stop(folder: RunFolder, sweep: Sweep, settings: Mapping[str, Any]) -> None:
        save_checkpoint(folder, sweep, settings)
        if sweep.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("semseg_cli.commands.train_head.command.save_checkpoint", stop)
        assert train(terminal, tiny_world, *once).code == 130
    whole, stopped = terminal.runs()
    assert RunFolder(stopped).meta["status"] == "KILLED"
    assert not (stopped / "head.pt").exists()
    assert_done(train(terminal, tiny_world, *once, "--resume", str(stopped)))
    assert results(terminal.runs()[-1]) == results(whole)


def test_the_batch_size_and_where_features_lie_change_nothing(
    tiny_world: World, terminal: Terminal
) -> None:
    for changes in ({}, {"batch_size": "1"}, {"memory_gib": "0"}):
        done = train(terminal, tiny_world, "--lr", "0.01", "--no-track", **changes)
        assert_done(done)
    first, small, spilt = terminal.runs()
    assert results(spilt) == results(first)
    heads = [load_head(folder / "head.pt") for folder in (first, small)]
    torch.testing.assert_close(heads[0].weight, heads[1].weight, rtol=1e-3, atol=1e-3)
    one, other = (pd.read_csv(folder / "sweep.csv") for folder in (first, small))
    pd.testing.assert_frame_equal(one, other, atol=1e-3)


def test_formats_and_dry_run(tiny_world: World, terminal: Terminal) -> None:
    done = train(terminal, tiny_world, "--dry-run", "--lr", "0.1", "--lr", "1")
    assert_done(done)
    assert "heads: 2, at most 4 epochs" in done.out
    assert "images to train on: 5; features: at most 0.00 GiB in memory" in done.out
    assert "images to choose on: 2;" in done.out
    assert "images to measure on: 6;" in done.out
    assert re.search(r"estimated time: [\d.]+ (s|minutes) on cpu", done.out)
    assert terminal.runs() == []
    done = train(terminal, tiny_world, "--lr", "0.1", "--format", "json", "--no-track", "--quiet")
    assert_done(done)
    (row,) = json.loads(done.out)["rows"]
    assert row["lr"] == 0.1
    assert done.err == ""


# --- features -------------------------------------------------------------------------------------


def test_only_clean_patches_are_learnt_from(tiny_world: World, tmp_path: Path) -> None:
    vit = load_vit(str(tiny_world.folder / "vit"))
    loader = Loader(open_dataset(tiny_world.data, "training", 32), batch_size=3)
    batch = next(iter(Loader(loader.dataset, batch_size=7)))
    hidden = vit.model(batch.images_bchw).last_hidden_state[:, vit.n_prefix_tokens :]
    storage = Storage(torch.float32, 2**30, tmp_path)
    for ignore_null in (False, True):
        wanted = (batch.share_bt >= 0.9) & (batch.labels_bt >= int(ignore_null))
        assert 0 < int(wanted.sum()) < wanted.numel()
        with training_patches(
            Residuals(vit, vit.n_layers, loader), storage, 0.9, ignore_null=ignore_null
        ) as patches:
            assert torch.equal(patches.labels_n, batch.labels_bt[wanted])
            torch.testing.assert_close(patches.x_nd, hidden[wanted], rtol=1e-4, atol=1e-4)


def test_a_spilt_split_is_the_same_and_leaves_no_file(tiny_world: World, tmp_path: Path) -> None:
    vit = load_vit(str(tiny_world.folder / "vit"))
    loader = Loader(open_dataset(tiny_world.data, "validation", 32), batch_size=4)
    found = []
    for most in (0, 2**30):
        with validation_images(
            Residuals(vit, vit.n_layers, loader), Storage(torch.float16, most, tmp_path)
        ) as images:
            found.append((images.x_btd.clone(), images.labels_bhw))
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1].shape == (6, 224, 224)
    assert list(tmp_path.iterdir()) == []


def test_pixels_and_patches_have_the_same_labels(tiny_world: World, tmp_path: Path) -> None:
    from semseg_cli.data.patch_labels import patch_modes, patch_pixels

    vit = load_vit(str(tiny_world.folder / "vit"))
    dataset = open_dataset(tiny_world.data, "validation", 32)
    storage = Storage(torch.float32, 2**30, tmp_path)
    with validation_images(
        Residuals(vit, vit.n_layers, Loader(dataset, batch_size=4)), storage
    ) as images:
        for position, labels_hw in enumerate(images.labels_bhw):
            modes, _ = patch_modes(patch_pixels(labels_hw, 32))
            assert torch.equal(modes, dataset[position].labels_t)


def test_too_large_features_are_refused_before_they_are_computed(
    tmp_path: Path,
) -> None:
    storage = Storage(torch.float16, 0, tmp_path)
    with pytest.raises(SemsegError, match=r"GiB are needed"), storage.rows(2**40, 768):
        raise AssertionError("there is no such disk")


# --- mistakes -------------------------------------------------------------------------------------

USAGE = {
    "no rate": (["--lr", "0"], "--lr is 0.0: give a number above 0"),
    "a huge rate": (["--lr", "1e30"], "--lr is 1e+30: give a number of at most 10"),
    "a rate twice": (["--lr", "1", "--lr", "1"], "--lr is (1.0, 1.0): give each number once"),
    "negative decay": (["--weight-decay", "-1"], "--weight-decay is -1.0: give a number from 0"),
    "no patience": (["--patience", "0"], "--patience is 0: give a number of at least 1"),
    "another ending": (["--save", "head.bin"], "--save is 'head.bin': give a name that ends in"),
}


@pytest.mark.parametrize(("args", "sentence"), USAGE.values(), ids=USAGE.keys())
def test_a_wrong_option_exits_2(
    args: list[str], sentence: str, tiny_world: World, terminal: Terminal
) -> None:
    done = train(terminal, tiny_world, *args)
    assert (done.code, done.out) == (2, "")
    assert sentence in done.err


def test_missing_inputs_are_named(terminal: Terminal) -> None:
    Path("my.toml").write_text("seed = 1\n")
    done = terminal.type("train-head", "--config", "my.toml")
    assert done.code == 2
    assert "Missing --vit-ckpt, --imgs-root: name them all, or take --preset demo." in done.err


@pytest.mark.parametrize("damage", ["cut", "bit", "pipe", "other"])
def test_a_damaged_training_is_not_gone_on_with(
    damage: str, tiny_world: World, terminal: Terminal
) -> None:
    assert_done(train(terminal, tiny_world, "--lr", "0.01", "--no-track", epochs="1"))
    (folder,) = terminal.runs()
    kept = folder / CHECKPOINT
    data = kept.read_bytes()
    kept.unlink()
    if damage == "pipe":
        os.mkfifo(kept)
    elif damage == "other":
        shutil.copy(folder / "head.safetensors", kept)
    else:
        flipped = bytes([data[-9] ^ 1])
        kept.write_bytes(data[:-9] + flipped + data[-8:] if damage == "bit" else data[:-9])
    done = train(terminal, tiny_world, "--lr", "0.01", "--resume", str(folder))
    assert (done.code, done.out) == (1, "")
    assert "holds no training to go on with" in done.err
    assert len(done.err.strip().splitlines()) == 1


FAILURES = {
    "no run": (["--resume", "nowhere"], "nowhere holds no training to go on with"),
    "no split": (["--imgs-split", "nowhere"], "nowhere"),
    "not writable": (["--save", "file/head.pt"], "give another --save"),
}


@pytest.mark.parametrize(("args", "sentence"), FAILURES.values(), ids=FAILURES.keys())
def test_a_known_failure_exits_1(
    args: list[str], sentence: str, tiny_world: World, terminal: Terminal
) -> None:
    Path("file").write_text("")
    done = train(terminal, tiny_world, *args)
    assert (done.code, done.out) == (1, "")
    assert sentence in done.err
    assert "Traceback" not in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_resuming_with_other_settings_is_refused(tiny_world: World, terminal: Terminal) -> None:
    assert_done(train(terminal, tiny_world, "--lr", "0.1", "--no-track", epochs="1"))
    (folder,) = terminal.runs()
    done = train(terminal, tiny_world, "--lr", "0.2", "--seed", "1", "--resume", str(folder))
    assert done.code == 1
    assert "was trained with another --lr and --seed: take --config" in done.err
    assert len(terminal.runs()) == 1


def test_without_labels_there_is_nothing_to_learn(
    tiny_world: World, terminal: Terminal, tmp_path: Path
) -> None:
    size = (64, 64)
    nothing, labelled = (
        [(np.full((*size, 3), i, np.uint8), np.full(size, label, np.uint8)) for i in range(3)]
        for label in (0, 1)
    )
    for name, splits, sentence in (
        ("a", {"training": nothing, "validation": labelled}, "No patch of the training split has"),
        ("b", {"training": labelled, "validation": nothing}, "No pixel of the validation split"),
    ):
        write_dataset(tmp_path / name, splits)
        done = train(terminal, tiny_world, imgs_root=str(tmp_path / name))
        assert done.code == 1
        assert sentence in done.err


# --- which images ---------------------------------------------------------------------------------


def named(*names: str) -> Dataset:
    """A dataset of these images, each with contents of its own."""
    n = len(names)
    made = Dataset(
        root=Path("nowhere"), title="", layout="ade20k", split="training", names=names,
        images=(Path("image"),) * n, masks=(Path("mask"),) * n, indices=tuple(range(n)),
        labels=LabelMap(("wall",)), patch_size_px=32, preprocessing=Preprocessing(),
    )  # fmt: skip
    vars(made)["contents"] = tuple(f"bytes of {name}" for name in names)
    return made


def test_groups_are_held_out_whole_and_no_image_is_on_both_sides() -> None:
    names = [f"{drive}_{i}" for drive in "abcdefgh" for i in range(5)]
    for seed in range(5):
        learnt, held = hold_out(named(*names), 0.3, "^.", seed)
        assert sorted([*learnt.names, *held.names]) == names
        assert {name[0] for name in held.names}.isdisjoint(name[0] for name in learnt.names)
        assert len(held) == 15  # the first whole number of drives with 12 images or more
    assert hold_out(named(*names), 0.3, "^.", 4)[1].names == held.names
    assert len({hold_out(named(*names), 0.1, None, seed)[1].names for seed in range(9)}) > 1


def test_the_same_picture_twice_is_never_on_both_sides() -> None:
    dataset = named(*"abcdef")
    vars(dataset)["contents"] = ("x", "x", "x", "y", "y", "y")
    for seed in range(5):
        learnt, held = hold_out(dataset, 0.2, None, seed)
        assert {learnt.names, held.names} == {("a", "b", "c"), ("d", "e", "f")}


def test_one_group_cannot_be_parted() -> None:
    with pytest.raises(UsageError, match=r"2 images, all of one group: .* another --group-by"):
        hold_out(named("a_1", "a_2"), 0.2, "^.", 0)


def test_the_split_of_interventions_has_no_part_in_the_choice(
    tiny_world: World, terminal: Terminal, tmp_path: Path
) -> None:
    """Other evaluation images: the same sweep and the same head, other measures."""
    data = tmp_path / "data"
    shutil.copytree(tiny_world.data, data)
    for folder in ("images", "annotations"):
        (data / folder / "validation" / "validation_0000.png").unlink()
    for root in (tiny_world.data, data):
        done = train(terminal, tiny_world, "--lr", "0.01", "--no-track", imgs_root=str(root))
        assert_done(done)
    first, other = (results(folder) for folder in terminal.runs())
    assert first[:2] == other[:2]
    assert first[2] != other[2]


@pytest.mark.parametrize("name", ["head.pt", "head.safetensors"])
def test_runs_warn_where_the_head_has_seen_their_images(
    name: str, tiny_world: World, terminal: Terminal
) -> None:
    assert_done(train(terminal, tiny_world, "--lr", "0.01", "--no-track"))
    (folder,) = terminal.runs()
    dataset = open_dataset(tiny_world.data, "training", 32)
    assert load_head(folder / name).seen == set(dataset.contents)
    args = ["rand-vec", "--no-track", "--no-plots"]
    mine = {"seg_ckpt": str(folder / name), "imgs_split": "training"}
    done = terminal.type(*args, *options(tiny_world, **mine))
    assert_done(done)
    assert "chosen, on 7 of the 7 evaluated images" in " ".join(done.err.split())
    done = terminal.type(*args, *options(tiny_world, seg_ckpt=str(folder / name)))
    assert_done(done)
    assert "The head was trained" not in done.err


def test_images_of_another_head_are_not_taken(tiny_world: World, tmp_path: Path) -> None:
    head = load_head(tiny_world.folder / "head.pt")
    assert head.seen == frozenset()
    save_head(tmp_path / "head.pt", head, seen=["a"])
    assert load_head(tmp_path / "head.pt").seen == {"a"}
    head.bias.add_(1)
    save_head(tmp_path / "head.pt", head)
    assert load_head(tmp_path / "head.pt").seen == frozenset()

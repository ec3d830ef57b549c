"""Runs try their SAE and their head on a few images, and say what does not seem to fit."""

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from held import OwnSae, head_of, pictures_of, vit_of
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from terminal import Terminal, options
from torch import Tensor
from worlds import FIRST_NAMES, World, make_known_vit, make_known_world

import semseg_cli
from semseg_cli.experiment import sae_fit
from semseg_cli.experiment.fit import NO_DOUBTS
from semseg_cli.experiment.head_fit import LEAST_PATCHES, doubt, kappa
from semseg_cli.experiment.place import Place
from semseg_cli.experiment.session import Session
from semseg_cli.models.head import save_head
from semseg_cli.models.vit.sites import RESID_POST
from semseg_cli.ranks import group as ranks
from semseg_cli.runs.contents import cautions_of
from semseg_cli.runs.folder import RunFolder

FEW_NULLS = ("--peers", "2", "--matched-peers", "2", "--matched-images", "2", "--no-plots")


def matrix(*rows: list[int]) -> Tensor:
    return torch.tensor(rows)


# --- a head against labels ------------------------------------------------------------------------


def test_kappa_of_a_worked_case() -> None:
    found = matrix([20, 5], [10, 15])
    assert kappa(found) == pytest.approx((0.7 - 0.5) / (1 - 0.5))
    assert kappa(matrix([0, 5], [5, 0])) == pytest.approx(-1.0)
    assert kappa(matrix([7, 0], [0, 0])) == 1.0


@given(
    labels=st.lists(st.integers(1, 3), min_size=2, max_size=40),
    predicted=st.lists(st.integers(1, 3), min_size=40, max_size=40),
)
def test_a_shift_is_that_of_the_labels(labels: list[int], predicted: list[int]) -> None:
    found, higher = torch.zeros(5, 5, dtype=torch.int64), torch.zeros(5, 5, dtype=torch.int64)
    for label, one in zip(labels, predicted, strict=False):
        found[label, one] += 1
        higher[label + 1, one] += 1
    assert kappa(found, 1) == pytest.approx(kappa(higher))
    assert kappa(higher, -1) == pytest.approx(kappa(found))


OFF = matrix([0, 20, 0, 1], [2, 3, 25, 0], [0, 0, 1, 18], [3, 0, 0, 0])


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (matrix([30, 5, 5], [5, 30, 5], [5, 5, 30]), None),
        (matrix([20, 20, 20], [0, 0, 0], [0, 0, 0]), "check that --seg-ckpt"),
        (matrix([40, 20, 20], [0, 0, 0], [0, 0, 0]), None),  # half is right: kappa is 0
        (matrix([10, 10, 10], [10, 10, 10], [10, 10, 10]), "check that --seg-ckpt"),
        (OFF, 'one higher: where 0 is the first class of the masks, say so (zero = "class"'),
        (OFF.T.contiguous(), "one lower: where output 0 of the head is a class and not null"),
        (matrix([0, 30], [0, 0]), "check that --seg-ckpt"),  # one class alone shows no shift
        (matrix([2, 0, 0], [0, 0, 30], [0, 0, 1]), "check that --seg-ckpt"),
        (matrix([0, LEAST_PATCHES - 1], [0, 0]), None),
    ],
)
def test_a_head_is_doubted_where_it_hardly_agrees(found: Tensor, words: str | None) -> None:
    said = doubt(found, "8 validation images")
    if words is None:
        assert said == ""
        return
    assert words in said
    assert ("one higher" in said or "one lower" in said) is ("one " in words)
    assert f"{int(found.sum())} clean patches of 8 validation images" in said


# --- at the terminal ------------------------------------------------------------------------------


@pytest.fixture
def own_world(tmp_path: Path) -> World:
    folder = tmp_path / "own"
    folder.mkdir()
    return make_known_world(folder)


def blocks_that_write(world: World) -> None:
    """What is read after layer 2 is no longer what is read after layer 1."""
    vit = make_known_vit()
    with torch.no_grad():
        vit.encoder.layer[1].layer_scale1.lambda1.fill_(3.0)
        vit.encoder.layer[1].layer_scale2.lambda1.fill_(5.0)
    vit.save_pretrained(world.folder / "vit")


def shifted_head(world: World) -> None:
    head = semseg_cli.models.head.load_head(world.folder / "head.pt")
    for parameter in head.parameters():
        parameter.data[1:] = parameter.data[1:].roll(1, dims=0)
    save_head(world.folder / "head.pt", head)


def notes_of(terminal: Terminal) -> list[str]:
    found: list[str] = json.loads((terminal.runs()[-1] / "run.json").read_text())["notes"]
    return found


def test_parts_that_fit_are_not_doubted(known_world: World, terminal: Terminal) -> None:
    done = terminal.type("auto-feat", *options(known_world), "--no-track")
    assert done.code == 0
    assert "may not fit" not in done.err
    assert "hardly agrees" not in done.err
    assert notes_of(terminal) == []


def test_a_wrong_layer_is_told_with_the_right_one(own_world: World, terminal: Terminal) -> None:
    blocks_that_write(own_world)
    args = options(own_world, vit_layer="2")
    done = terminal.type("auto-feat", *args, "--no-track")
    assert done.code == 0
    said = "The SAE may not fit: it explains "
    assert said in done.err
    assert "at resid-post of layer 2 (patches of 3 validation images)" in done.err
    assert "Likely wrong: --vit-layer; the SAE at layer 1" in done.err
    assert notes_of(terminal)[0].startswith(said)
    assert said in " ".join(done.out.split())  # the caption
    done = terminal.type("lookup", *options(own_world, vit_layer="2", min_patches=""), "--no-track")
    assert "(patches of 4 training images)" in done.err
    assert notes_of(terminal)[0].startswith(said)
    assert said in " ".join(done.out.split())
    done = terminal.type("stats", *options(own_world, vit_layer="2", max_freq="", min_patches=""))
    assert done.code == 0, done.err
    assert notes_of(terminal)[0].startswith(said)
    assert said in " ".join(done.out.split())
    done = terminal.type("rand-vec", *args, "--no-track")
    assert said not in done.err  # no SAE is used
    assert not any(note.startswith(said) for note in notes_of(terminal))
    assert not any(note.startswith(said) for note in cautions_of(RunFolder(terminal.runs()[-1])))
    done = terminal.type("auto-feat", *args, "--dry-run")
    assert done.code == 0
    assert said in done.err


def test_compare_says_which_runs_are_doubted(own_world: World, terminal: Terminal) -> None:
    for command, layer in (("auto-feat", "1"), ("rand-feat", "1")):
        assert terminal.type(command, *options(own_world, vit_layer=layer)).code == 0
    assert "may not fit" not in terminal.type("compare").out
    blocks_that_write(own_world)
    assert terminal.type("auto-feat", *options(own_world, vit_layer="2")).code == 0
    for how in ((), ("--per-class",)):
        said = " ".join(terminal.type("compare", "--last", "9", *how).out.split())
        assert said.count("The SAE may not fit: it explains") == 1
        assert "try --vit-layer 1" in said


def test_a_suite_of_several_tells_of_each(own_world: World, terminal: Terminal) -> None:
    args = options(own_world, vit_layer="1", act_mean="0", act_norm="1")
    done = terminal.type("suite", *args, "--vit-layer", "2", "--dry-run")
    assert done.code == 0, done.err
    assert "may not fit" not in done.err
    blocks_that_write(own_world)
    done = terminal.type("suite", *args, "--vit-layer", "2", *FEW_NULLS)
    assert done.code == 0, done.err
    assert done.err.count("may not fit") == done.err.count("at resid-post of layer 2 (") == 1
    runs = [folder for folder in map(RunFolder, terminal.runs()) if folder.meta["kind"] != "suite"]
    layers = {1: 0, 2: 0}
    for folder in runs:
        layer = tomllib.loads((folder.path / "settings.toml").read_text())["vit_layer"]
        layers[layer] += 1
        doubted = [said for said in cautions_of(folder) if "may not fit" in said]
        assert len(doubted) == (layer == 2), folder.path
    assert all(layers.values())


def test_a_head_one_class_off_is_told(own_world: World, terminal: Terminal) -> None:
    shifted_head(own_world)
    done = terminal.type("rand-vec", *options(own_world), "--no-track")
    assert done.code == 0
    said = "The head hardly agrees with the labels (Cohen's kappa "
    assert said in done.err
    assert "were all class ids of the labels one higher" in done.err
    assert any(note.startswith(said) for note in notes_of(terminal))


# --- in a session ---------------------------------------------------------------------------------


def test_patches_that_are_all_alike_hide_no_better_layer(
    known: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = known.pipeline
    images = torch.stack([known.dataset[i].image_chw for i in range(3)])
    right = sae_fit._few_patches(pipeline.vit, images, RESID_POST)[1, RESID_POST]
    few = {1: torch.ones_like(right), 2: torch.randn(right.shape), 3: right}
    patches = {(layer, RESID_POST): x_nd for layer, x_nd in few.items()}
    monkeypatch.setattr(sae_fit, "_few_patches", lambda *_: patches)
    place = Place(2, RESID_POST)
    used, best = sae_fit.try_others(pipeline.vit, pipeline.sae, images, place, known.given_stats)
    assert (used.layer, best.layer) == (2, 3)


def test_wrong_scaling_is_told_and_nothing_is_changed(own_world: World) -> None:
    session = own_world.session()
    session.judge()
    assert session.doubts == NO_DOUBTS
    path = own_world.folder / "mean.json"
    path.write_text(json.dumps({"act_mean": [9.0] * 16}))
    for given_scaling in ({"act_mean": str(path)}, {"act_mean": None, "act_norm": None}):
        session = own_world.session(**given_scaling)
        before = session.pipeline.sae.act_mean.clone(), float(session.pipeline.sae.act_norm)
        session.judge()
        assert "Likely wrong: the input scaling (--act-mean, --act-norm)" in session.doubts.sae
        assert "1.000 of the variance" in session.doubts.sae
        assert "try --act-mean 0 --act-norm 1" in session.doubts.sae
        assert torch.equal(session.pipeline.sae.act_mean, before[0])
        assert float(session.pipeline.sae.act_norm) == before[1]


def test_an_image_that_cannot_be_read_is_left_to_the_run(
    own_world: World, caplog: pytest.LogCaptureFixture
) -> None:
    blocks_that_write(own_world)
    session = own_world.session(vit_layer=2)
    path = sorted((own_world.data / "images" / "validation").iterdir())[0]
    assert len(session.dataset) == 3  # found while it was whole
    path.write_bytes(path.read_bytes()[:200])
    session.judge()
    assert session.doubts == NO_DOUBTS
    assert not [one for one in caplog.records if one.levelname == "WARNING"]


def test_the_number_does_not_depend_on_how_images_are_batched(own_world: World) -> None:
    blocks_that_write(own_world)
    said = set()
    for size in (1, 2, 8):
        session = own_world.session(vit_layer=2, batch_size=size)
        session.judge()
        said.add(session.doubts.sae)
    assert len(said) == 1
    assert "" not in said


def test_images_of_one_colour_say_nothing(own_world: World) -> None:
    blocks_that_write(own_world)
    for path in (own_world.data / "images" / "validation").iterdir():
        Image.new("RGB", (256, 256), (255, 0, 0)).save(path)
    for given_scaling in ({}, {"act_mean": None, "act_norm": None}):
        session = own_world.session(vit_layer=2, **given_scaling)
        session.judge()
        assert session.doubts.sae == ""


def test_only_the_lead_tries(own_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks_that_write(own_world)
    session = own_world.session(vit_layer=2)
    monkeypatch.setattr(ranks, "is_lead", lambda: False)
    session.judge()
    assert session.doubts == NO_DOUBTS
    monkeypatch.undo()
    session.judge()
    assert session.doubts.sae


# --- from Python ----------------------------------------------------------------------------------


def test_masks_from_zero_are_told(known_world: World, caplog: pytest.LogCaptureFixture) -> None:
    from_zero = [
        (image, np.asarray(mask) - 1) for image, mask in pictures_of(known_world, "validation")
    ]
    chosen_on = [
        (image, np.asarray(mask) - 1) for image, mask in pictures_of(known_world, "training")
    ]
    parts: dict[str, Any] = {
        "vit": vit_of(known_world), "sae": OwnSae(known_world), "head": head_of(known_world),
        "vit_layer": 1, "max_freq": 1.0, "min_patches": 1,
    }  # fmt: skip
    for first, is_told in ((1, True), (0, False)):
        caplog.clear()
        data = semseg_cli.Data(
            FIRST_NAMES, training=chosen_on, validation=from_zero, first_class=first
        )
        semseg_cli.run("auto-feat", data=data, **parts)
        assert ("first_class=0 in Python" in caplog.text) is is_told

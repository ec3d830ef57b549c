"""Flips of fast precisions: the share of clean classes that float32 has otherwise."""

import gc
import json
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from terminal import Terminal, options
from worlds import PLANTED, World, directions, known_head, slow_predict

from semseg_cli.data.loader import Loader
from semseg_cli.experiment import flip_rate as flips
from semseg_cli.experiment.flip_rate import FLIP_IMAGES, flip_metrics, flip_note, flip_rate
from semseg_cli.experiment.parts import load_backbone
from semseg_cli.experiment.run import run
from semseg_cli.experiment.session import Session
from semseg_cli.models.vit import Backbone
from semseg_cli.settings.controls import RandVec

FAST = ["bfloat16", "float16"]


@torch.inference_mode()
def by_hand(session: Session, exact: Session, n_images: int) -> float:
    """Whole models, and a loop over patches."""
    flipped, total = 0, 0
    vit, few = session.pipeline.vit, session.dataset.subset(range(n_images))
    for batch in Loader(few, session.setup.batch_size):
        images = batch.images_bchw
        features = vit.model(images.to(next(vit.parameters()).dtype)).last_hidden_state
        logits = session.pipeline.class_head(features[:, vit.n_prefix_tokens :].float())
        fast = (logits[..., 1:].argmax(dim=-1) + 1).flatten().tolist()
        slow = slow_predict(exact.pipeline, images).flatten().tolist()
        for one, other in zip(fast, slow, strict=True):
            flipped += one != other
            total += 1
    return flipped / total


@pytest.mark.parametrize("dtype", FAST)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_rate_is_that_of_a_loop_over_patches(
    tiny_world: World, dtype: str, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = tiny_world.session(dtype=dtype, batch_size=batch_size)
    assert len(session.dataset) == 6 < FLIP_IMAGES
    assert flip_rate(session) == by_hand(session, tiny_world.session(), 6)
    monkeypatch.setattr(flips, "FLIP_IMAGES", 2)
    assert flip_rate(session) == by_hand(session, tiny_world.session(), 2)


def test_some_patches_of_a_random_world_flip(tiny_world: World) -> None:
    assert 0 < flip_rate(tiny_world.session(dtype="bfloat16")) < 0.2


def test_the_patches_of_all_ranks_count(tiny_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    session = tiny_world.session(dtype="bfloat16")
    alone = flip_rate(session)
    monkeypatch.setattr(flips, "all_sum", lambda counts: counts.add_(torch.tensor([0, 6 * 49])))
    assert flip_rate(session) == pytest.approx(alone / 2)


def test_a_world_whose_classes_lie_far_apart_flips_nothing(known_world: World) -> None:
    assert flip_rate(known_world.session(dtype="bfloat16")) == 0.0


def test_where_a_class_hangs_on_a_rounding_exactly_its_patches_flip(known_world: World) -> None:
    """Class 5 wins from halfway between what class 1 has in float32 and in bfloat16."""
    session = known_world.session(dtype="bfloat16")
    batch = next(iter(Loader(session.dataset, 3)))
    is_first = batch.labels_bt == 1
    direction = directions()[PLANTED[1]]
    exact, fast = (
        (one.vit.tail(one.residual(batch.images_bchw), 1).float() @ direction)[is_first]
        for one in (known_world.session().pipeline, session.pipeline)
    )
    assert exact.min() > fast.max() or exact.max() < fast.min()
    head = known_head()
    with torch.no_grad():
        head.weight[2:5] *= 2
        head.bias[5] = (exact.mean() + fast.mean()) / 2
    session = replace(session, pipeline=replace(session.pipeline, head=head))
    assert flip_rate(session) == int(is_first.sum()) / is_first.numel() > 0


def test_float32_has_no_such_metric_and_loads_nothing(
    tiny_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = tiny_world.session()
    monkeypatch.setattr(flips, "load_backbone", None)
    assert flip_metrics(session) == {}


def test_the_exact_model_is_freed(tiny_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Any] = []

    def load(*args: Any) -> Any:
        vit = load_backbone(*args)
        loaded.append(weakref.ref(vit))
        return vit

    monkeypatch.setattr(flips, "load_backbone", load)
    flip_rate(tiny_world.session(dtype="bfloat16"))
    gc.collect()
    assert [ref() for ref in loaded] == [None]


def test_every_report_of_a_run_has_the_rate(tiny_world: World) -> None:
    session = tiny_world.session(dtype="bfloat16")
    found = run(session, [RandVec(scale=(1.0, 2.0))], {})
    assert [o.report.metrics()["flip_rate"] for o in found] == [flip_rate(session)] * 2


@pytest.mark.parametrize(
    ("rate", "n_images", "said"),
    [(0.00412, 2000, "0.41% of patches against float32 (32 images)"),
     (0.0, 1, "0% of patches against float32 (1 image)")],
)  # fmt: skip
def test_the_note_says_how_many_images_were_compared(rate: float, n_images: int, said: str) -> None:
    assert flip_note("bfloat16", rate, n_images) == f"bfloat16 changes the clean class of {said}."


def test_a_command_tells_it_in_table_log_report_and_comparison(
    terminal: Terminal, tiny_world: World
) -> None:
    rate = flip_rate(tiny_world.session(dtype="bfloat16"))
    fast = options(tiny_world, dtype="bfloat16")
    done = terminal.type("rand-vec", *fast)
    assert done.code == 0, done.err
    (folder,) = terminal.runs()
    note = flip_note("bfloat16", rate, 6)
    assert note in " ".join(done.out.split())
    assert note in (folder / "log.txt").read_text()
    assert json.loads((folder / "report.json").read_text())["metrics"]["flip_rate"] == rate
    shown = terminal.type("compare", "--format", "json")
    (row,) = json.loads(shown.out)["rows"]
    assert row["flip_rate"] == rate
    assert f"{rate:.3f}" in terminal.type("compare", "--columns", "flip_rate").out


def test_a_command_in_float32_says_nothing_of_flips(terminal: Terminal, tiny_world: World) -> None:
    done = terminal.type("rand-vec", *options(tiny_world), "--no-track")
    assert done.code == 0, done.err
    (folder,) = terminal.runs()
    assert "clean class" not in done.out + (folder / "log.txt").read_text()
    assert "flip_rate" not in (folder / "report.json").read_text()


def test_a_second_comparison_reads_both_precisions_from_the_cache(
    tiny_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = tiny_world.session(dtype="bfloat16", cache_dir=tmp_path, no_cache=False)
    first = flip_rate(session)
    monkeypatch.setattr(Backbone, "prefix", None)
    assert flip_rate(session) == first

"""Examples: the images shown are edited as they were counted."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from pictures_made import has_colour, picture
from worlds import PLANTED, World

from semseg_cli.engine.counts import Counts
from semseg_cli.experiment.examples import (
    best_images,
    edited_predictions,
    example_panels,
    extreme_classes,
)
from semseg_cli.experiment.run import Outcome, run
from semseg_cli.experiment.session import Session
from semseg_cli.models.vit import Backbone
from semseg_cli.runs.report import ClassResults, Report
from semseg_cli.settings.controls import RandFeat, RandVec
from semseg_cli.settings.inputs import Protocol
from semseg_cli.settings.methods import AutoFeat, MeanDiff, Method
from semseg_cli.show.chart_style import DPI, OTHER, TARGET
from semseg_cli.show.example_picture import (
    COLOURS,
    Example,
    class_colours,
    colour_of,
    example_figure,
)

GREY = np.full((224, 224, 3), 0.5)


def outcome_of(session: Session, method: Method) -> Outcome:
    return run(session, [method], {})[0]


METHODS: list[tuple[Method, Protocol]] = [
    (AutoFeat(scale=(-3.0,), max_freq=1.0), "class"),
    (AutoFeat(scale=(-3.0,), max_freq=1.0), "label"),
    (RandFeat(scale=(5.0,), match="none"), "class"),
    (RandVec(scale=(4.0,)), "class"),
    (RandVec(scale=(-3.0,), match="norm", max_freq=1.0), "class"),
    (AutoFeat(scale=(-3.0,), max_freq=1.0, top_k_group=2), "class"),
    (AutoFeat(scale=(-3.0,), max_freq=1.0, control="shuffled"), "class"),
    (MeanDiff(match="project", max_freq=1.0), "class"),
    (MeanDiff(scale=(-3.0,), max_freq=1.0), "label"),
]


@pytest.mark.parametrize(("method", "protocol"), METHODS)
def test_predictions_are_those_that_were_counted(
    method: Method, protocol: Protocol, tiny_world: World
) -> None:
    session = tiny_world.session(protocol=protocol)
    outcome = outcome_of(session, method)
    seen, edit = outcome.counts, outcome.intervention.first
    counts = Counts(seen.class_ids.tolist(), len(session.dataset), seen.n_classes)
    for batch, tokens in session.pipeline.residuals(session.loader(session.dataset)):
        if outcome.report.shared_edit:
            clean, edited = edited_predictions(session.pipeline, edit, batch, tokens, None)
            counts.add_pair(batch.positions_b, clean, edited)
            continue
        for row in range(len(edit.class_ids)):
            clean, edited = edited_predictions(session.pipeline, edit, batch, tokens, row)
            rows = torch.full((len(batch),), row)
            counts.add_rows(batch.positions_b, rows, clean, edited)
    assert int(seen.per_image[..., [1, 3]].sum()) > 0
    torch.testing.assert_close(counts.per_image, seen.per_image)
    torch.testing.assert_close(counts.matrix, seen.matrix)


def report(*results: ClassResults, min_patches: int = 0) -> Report:
    return Report("auto-feat", list(results), -2.0, min_patches=min_patches)


def result(class_id: int, n_changed: int, n_orig: int = 10) -> ClassResults:
    return ClassResults(class_id, f"c{class_id}", n_orig, n_changed, 100, 0, {})


def test_the_extreme_classes_have_enough_patches() -> None:
    made = report(result(1, 5), result(2, 9), result(3, 3, 3), result(4, 0, 0), result(5, 6))
    assert {effect: r.class_id for effect, r in extreme_classes(made).items()} == {
        "largest": 3,
        "smallest": 1,
    }
    few = report(*made.class_results, min_patches=4)
    assert extreme_classes(few)["largest"].class_id == 2


def test_one_class_is_shown_once_and_none_not_at_all() -> None:
    assert list(extreme_classes(report(result(1, 5)))) == ["largest"]
    assert extreme_classes(report(result(1, 0, 0))) == {}


def test_images_show_the_class_and_others_whatever_was_changed() -> None:
    counts = Counts([7, 8], n_images=5, n_classes=9)
    n_own = torch.tensor([16, 7, 0, 9, 1])
    counts.per_image[:, 1, 0], counts.per_image[:, 1, 2] = n_own, 16 - n_own
    assert best_images(counts, 8, 9) == [1, 3, 4, 0]
    assert best_images(counts, 8, 2) == [1, 3]
    assert best_images(counts, 7, 2) == []


def test_panels_are_files_of_the_chosen_images(known_world: World, tmp_path: Path) -> None:
    session = known_world.session()
    outcome = outcome_of(session, AutoFeat(scale=(-3.0,), max_freq=1.0))
    example_panels(session, outcome, 2, tmp_path / "examples")
    paths = sorted((tmp_path / "examples").iterdir())
    assert [re.sub(r"-\w+-(\d)-validation_\d{4}\.png", r" \1", path.name) for path in paths] == [
        "largest 1", "largest 2", "smallest 1", "smallest 2",
    ]  # fmt: skip
    for path in paths:
        assert picture(path).shape == (int(3.15 * DPI), 12 * DPI, 3)
        assert re.fullmatch(r"[\w.-]+", path.name), "MLflow takes no other signs"


def counted(vit: Backbone, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """From now on, the number of images of each prefix pass."""
    seen: list[int] = []
    prefix = vit.prefix

    def counting(images: torch.Tensor, layer: int, site: str = "resid-post") -> torch.Tensor:
        seen.append(len(images))
        return prefix(images, layer, site)

    monkeypatch.setattr(vit, "prefix", counting)
    return seen


def test_panels_read_the_kept_residuals(
    known_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = AutoFeat(scale=(-3.0,), max_freq=1.0)
    drawn = []
    for no_cache in (True, False):
        session = known_world.session(no_cache=no_cache, cache_dir=tmp_path / "cache")
        outcome, vit = outcome_of(session, method), session.pipeline.vit
        seen = counted(vit, monkeypatch)
        folder = tmp_path / f"{no_cache}"
        example_panels(session, outcome, 1, folder)
        drawn.append({path.name: picture(path) for path in folder.iterdir()})
        assert seen == ([1, 1] if no_cache else [])
    without, kept = drawn
    assert without.keys() == kept.keys()
    assert all(np.array_equal(without[name], kept[name]) for name in without)


def test_planted_classes_change_and_nothing_else(known_world: World) -> None:
    session = known_world.session()
    outcome = outcome_of(session, AutoFeat(scale=(-3.0,), max_freq=1.0))
    edit, pipeline = outcome.intervention.first, session.pipeline
    batch, tokens = next(iter(pipeline.residuals(session.loader(session.dataset))))
    for class_id in PLANTED:
        row = edit.class_ids.index(class_id)
        clean, edited = edited_predictions(pipeline, edit, batch, tokens, row)
        assert torch.equal(clean, batch.labels_bt)
        assert torch.equal(clean != edited, clean == class_id)


# --- the picture --------------------------------------------------------------------------------


def example(before: list[int], after: list[int], class_id: int = 1) -> Example:
    truth, before_, after_ = (np.array(v).reshape(2, 2) for v in ([0, 1, 1, 2], before, after))
    return Example(GREY, truth, before_, after_, class_id, "title")


def test_changed_patches_are_told_apart_by_whose_they_were() -> None:
    made = example([1, 1, 2, 3], [1, 2, 3, 3])
    assert made.changed.tolist() == [[0, 1], [2, 0]]


def test_a_class_has_the_same_colour_in_every_picture() -> None:
    colours = class_colours(example([3, 3, 3, 3], [4, 4, 2, 3], class_id=2))
    assert colours == {i: COLOURS[i - 1] for i in (2, 3, 1, 4)}
    other = class_colours(example([3, 3, 3, 3], [4, 4, 9, 3], class_id=9))
    assert {i: other[i] for i in (3, 4)} == {i: colours[i] for i in (3, 4)}


def test_colours_of_150_classes_differ() -> None:
    colours = [colour_of(i) for i in range(1, 151)]
    assert len({*colours, TARGET, OTHER}) == 152
    seen = np.array([to_rgb(colour) for colour in colours])
    assert np.abs(np.diff(seen, axis=0)).sum(axis=1).min() > 0.2


def test_the_picture_shows_changed_others(tmp_path: Path) -> None:
    names = ["a", "$b", "c" * 90]
    example_figure(example([1, 1, 2, 3], [1, 2, 3, 3]), names, tmp_path / "a.png")
    example_figure(example([1, 1, 2, 3], [1, 2, 2, 3]), names, tmp_path / "b.png")
    one, other = (picture(tmp_path / name)[:, round(9.6 * DPI) :] for name in ("a.png", "b.png"))
    mixed = 0.65 * np.array([int(OTHER[i : i + 2], 16) for i in (1, 3, 5)]) + 0.35 * 127.5
    colour = "#" + "".join(f"{round(value):02x}" for value in mixed)
    assert has_colour(one, colour, 5000)
    assert not has_colour(other, colour, 1)


def test_classes_beyond_the_palette_are_merged(tmp_path: Path) -> None:
    grid = np.arange(1, 17).reshape(4, 4)
    many = Example(GREY, grid, grid, grid[::-1], 16, "title")
    assert list(class_colours(many)) == [16, 1, 2, 3, 4, 5, 6]
    example_figure(many, [f"class {i}" for i in range(1, 17)], tmp_path / "a.png")
    picture(tmp_path / "a.png")

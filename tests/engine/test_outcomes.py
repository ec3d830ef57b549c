"""Outcomes beside change: by hand, patch by patch the slow way, and with known answers."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from worlds import World, make_tiny_world, members, slow_logits, slow_logits_edited

from semseg_cli.engine.edits import Intervention
from semseg_cli.engine.evaluate import evaluate
from semseg_cli.engine.measured import Measured, is_told, table_of, to_report
from semseg_cli.engine.methods import rand_vec, set_latents
from semseg_cli.engine.neighbours import is_interior, is_near
from semseg_cli.engine.outcomes import (
    Clean,
    Edited,
    Outcomes,
    Reference,
)
from semseg_cli.experiment.run import run
from semseg_cli.experiment.session import Session
from semseg_cli.models.head import class_margins
from semseg_cli.models.pipeline import Prediction
from semseg_cli.runs.metrics import CLASSES, RUNS, find
from semseg_cli.runs.outcomes import COLUMNS, FRACTIONS, fraction_intervals
from semseg_cli.runs.report import ClassResults
from semseg_cli.settings.inputs import Protocol
from semseg_cli.settings.methods import AutoFeat

GRID = (3, 4)
N_CLASSES = 5
LATENTS = {1: 3, 2: 13, 4: 5, 5: 20}


# --- the slow way -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Patch:
    """One patch before and after an edit."""

    row: int
    column: int
    label: int
    before: int
    after: int
    margin_before: float
    margin_after: float
    length: float
    ratio: float
    is_edited: bool = True


def slow_margin(logits: Sequence[float], class_id: int) -> float:
    """A class's logit less the largest other; the first logit is null's."""
    return logits[class_id] - max(x for i, x in enumerate(logits) if i not in (0, class_id))


def neighbours(patch: Patch, image: Sequence[Patch], reach: int) -> list[Patch]:
    return [
        other
        for other in image
        if max(abs(other.row - patch.row), abs(other.column - patch.column)) <= reach
        and other is not patch
    ]


def slow_columns(image: Sequence[Patch], class_id: int) -> dict[str, float]:
    """All columns of one image and class, from their definitions."""
    target = [p for p in image if p.before == class_id]
    other = [p for p in image if p.before != class_id]
    wrong = [p for p in target if p.label > 0 and p.label != class_id]
    interior = [p for p in other if all(q.before == p.before for q in neighbours(p, image, 1))]
    distant = [p for p in other if not any(q in target for q in neighbours(p, image, 2))]
    known = [p for p in image if p.label > 0]
    own_label = [p for p in known if p.label == class_id]
    other_label = [p for p in known if p.label != class_id]
    edited = [p for p in image if p.is_edited]
    return {
        "n_wrong_patches": len(wrong),
        "n_righted": sum(p.after == p.label for p in wrong),
        "n_damaged": sum(p.before == p.label != p.after for p in other),
        "n_repaired": sum(p.before != p.label == p.after for p in other),
        "n_interior_other": len(interior),
        "n_interior_changed": sum(p.before != p.after for p in interior),
        "n_distant_other": len(distant),
        "n_distant_changed": sum(p.before != p.after for p in distant),
        "n_labelled": len(own_label),
        "n_right_before": sum(p.before == class_id for p in own_label),
        "n_right_after": sum(p.after == class_id for p in own_label),
        "n_union_before": sum(class_id in (p.label, p.before) for p in known),
        "n_union_after": sum(class_id in (p.label, p.after) for p in known),
        "n_labelled_other": len(other_label),
        "n_other_right_before": sum(p.before == p.label for p in other_label),
        "n_other_right_after": sum(p.after == p.label for p in other_label),
        "n_edited": len(edited),
        "margin_drop_sum": sum(p.margin_before - p.margin_after for p in target),
        "other_margin_sum": sum(abs(p.margin_before - p.margin_after) for p in other),
        "edit_length_sum": sum(p.length for p in edited),
        "edit_ratio_sum": sum(p.ratio for p in edited),
    }


def slow_other_miou(images: Sequence[Patch], class_id: int, when: str) -> float:
    """Mean IoU of all other classes that are labelled, over the labelled patches."""
    known = [p for p in images if p.label > 0]
    ious = []
    for other in sorted({p.label for p in known} - {class_id}):
        hits = sum(p.label == getattr(p, when) == other for p in known)
        ious.append(hits / sum(other in (p.label, getattr(p, when)) for p in known))
    return sum(ious) / len(ious)


def assert_columns(table: Mapping[str, np.ndarray], images: Any, ids: Sequence[int]) -> None:
    """`images(class_id)` gives the patches of every image for a class's row."""
    for row, class_id in enumerate(ids):
        for b, image in enumerate(images(class_id)):
            expected = slow_columns(image, class_id)
            found = {name: table[name][b, row] for name in expected}
            assert found == pytest.approx(expected, rel=1e-3, abs=1e-3), (b, class_id)


# --- on random predictions ----------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """Random images, edited once for each of several rows."""

    labels: Tensor
    before: Tensor
    after: Tensor
    numbers: Tensor  # margins before and after, edit length, residual length

    def clean(self, images: Sequence[int]) -> Clean:
        chosen = list(images)
        prediction = Prediction(self.before[chosen], self.numbers[chosen, :, 0])
        interior = is_interior(self.before[chosen], GRID)
        return Clean(self.labels[chosen], prediction, interior, self.numbers[chosen, :, 3])

    def edited(self, images: Sequence[int]) -> Edited:
        chosen = list(images)
        prediction = Prediction(self.after[chosen], self.numbers[chosen, :, 1])
        return Edited(prediction, self.numbers[chosen, :, 2])

    def image(self, b: int, row_of_patch: Tensor | None = None, row: int = 0) -> list[Patch]:
        return [
            Patch(
                t // GRID[1],
                t % GRID[1],
                int(self.labels[b, t]),
                int(self.before[b, t]),
                int(self.after[b, t]),
                float(self.numbers[b, t, 0]),
                float(self.numbers[b, t, 1]),
                float(self.numbers[b, t, 2]),
                float(self.numbers[b, t, 2] / self.numbers[b, t, 3]),
                row_of_patch is None or int(row_of_patch[b, t]) == row,
            )
            for t in range(GRID[0] * GRID[1])
        ]


def case(seed: int, n_images: int = 4) -> Case:
    draw = torch.Generator().manual_seed(seed)
    shape = (n_images, GRID[0] * GRID[1])
    labels = torch.randint(0, N_CLASSES + 1, shape, generator=draw)
    before, after = (torch.randint(1, 4, shape, generator=draw) for _ in range(2))
    return Case(labels, before, after, torch.rand(*shape, 4, generator=draw) + 0.1)


def reference_of(one: Case) -> Reference:
    reference = Reference(N_CLASSES)
    for b in range(len(one.labels)):
        reference.add(one.clean([b]))
    return reference


@given(st.integers(0, 2**31), st.permutations(range(4)), st.integers(1, 3))
@settings(max_examples=15)
def test_one_pair_of_predictions_is_summed_as_patch_by_patch(
    seed: int, order: list[int], cut: int
) -> None:
    """In any order, split anywhere; each patch has its own row's edit, or none."""
    one, ids = case(seed), [1, 3, 5]
    rows_bt = torch.randint(-1, 3, one.labels.shape, generator=torch.Generator().manual_seed(seed))
    found = Outcomes(ids, 4, GRID, reference_of(one))
    for part in (order[:cut], order[cut:]):
        found.add_pair(torch.tensor(part), rows_bt[part], one.clean(part), one.edited(part))
    table, deviation = found.to_table(), found.reference.deviation
    assert deviation == pytest.approx(float(one.numbers[..., 0].double().std(unbiased=False)))
    in_logits = {
        **table,
        **{k: table[k] * deviation for k in ("margin_drop_sum", "other_margin_sum")},
    }
    assert_columns(
        in_logits, lambda c: [one.image(b, rows_bt, ids.index(c)) for b in range(4)], ids
    )
    every = [p for b in range(4) for p in one.image(b)]
    for row, class_id in enumerate(ids):
        slow = [slow_other_miou(every, class_id, when) for when in ("before", "after")]
        assert [mious[row] for mious in found.other_miou(1)] == pytest.approx(slow)


@given(st.integers(0, 2**31), st.integers(1, 7))
@settings(max_examples=15)
def test_rows_are_summed_each_from_its_own_edit(seed: int, cut: int) -> None:
    ids, draws = [2, 4, 3], 2
    clean = case(seed)
    found = Outcomes(ids, 4, GRID, reference_of(clean))
    mixed = {}
    for d, row in itertools.product(range(draws), range(3)):
        other = case(seed + 1 + 10 * d + row)
        numbers = torch.cat([clean.numbers[..., :1], other.numbers[..., 1:]], dim=2)
        mixed[d, row] = Case(clean.labels, clean.before, other.after, numbers)
    shuffled = torch.randperm(12, generator=torch.Generator().manual_seed(seed)).split(cut)
    for d in range(draws):
        for part in shuffled:
            for pair in part.tolist():
                image, row = divmod(pair, 3)
                one = mixed[d, row]
                at = torch.tensor([image]), torch.tensor([row])
                found.add_rows(*at, None, one.clean([image]), one.edited([image]))
    table, deviation = found.to_table(), found.reference.deviation
    for row, class_id in enumerate(ids):
        for b in range(4):
            total: Counter[str] = Counter()
            for d in range(draws):
                total.update(slow_columns(mixed[d, row].image(b), class_id))
            for name in set(COLUMNS) - {"off_manifold_sum"}:
                scale = deviation if "margin" in name else 1.0
                assert table[name][b, row] * scale == pytest.approx(total[name], rel=1e-5, abs=1e-5)
        every = [p for d in range(draws) for b in range(4) for p in mixed[d, row].image(b)]
        slow = [slow_other_miou(every, class_id, when) for when in ("before", "after")]
        assert [mious[row] for mious in found.other_miou(draws)] == pytest.approx(slow)


def test_an_edit_of_all_rows_edits_every_patch_of_each() -> None:
    one, ids = case(3), [1, 2]
    found = Outcomes(ids, 4, GRID, reference_of(one))
    every = torch.arange(4)
    found.add_pair(every, None, one.clean(range(4)), one.edited(range(4)))
    table, deviation = found.to_table(), found.reference.deviation
    raw = {k: v * (deviation if "margin" in k else 1) for k, v in table.items()}
    assert_columns(raw, lambda _: [one.image(b) for b in range(4)], ids)
    assert (table["n_edited"] == 12).all()


def test_neighbours_by_hand() -> None:
    classes = torch.tensor([[1, 1, 1, 1, 2], [1, 1, 1, 1, 2], [1, 1, 1, 1, 2]]).flatten()[None]
    interior = is_interior(classes, (3, 5)).view(3, 5)
    assert interior.tolist() == [[True, True, True, False, False]] * 3
    near = is_near((classes == 2)[:, None], (3, 5)).view(3, 5)
    assert near.tolist() == [[False, False, True, True, True]] * 3
    corner = torch.zeros(1, 1, 15, dtype=torch.bool)
    corner[0, 0, 0] = True
    assert is_near(corner, (3, 5)).view(3, 5).tolist() == [[True] * 3 + [False] * 2] * 3


def test_margins_by_hand() -> None:
    logits = torch.tensor([[[99.0, 1.0, 3.0, 2.5], [99.0, 4.0, 0.0, -1.0]]])
    of_first = class_margins(logits.clone(), torch.tensor([[1, 1]]))
    assert of_first.tolist() == [[-2.0, 4.0]]
    assert class_margins(logits.clone(), torch.tensor([[2, 1]])).tolist() == [[0.5, 4.0]]
    assert class_margins(torch.ones(1, 2, 2), torch.ones(1, 2).long()).tolist() == [[0.0, 0.0]]


def test_margins_that_differ_by_rounding_alone_are_no_unit() -> None:
    reference = Reference(2)
    classes = torch.ones(1, 3, dtype=torch.int64)
    prediction = Prediction(classes, torch.tensor([[3.9, 3.9000003, 3.8999998]]))
    reference.add(Clean(classes, prediction, classes > 0, torch.ones(1, 3)))
    assert reference.deviation == 1.0


# --- through the network ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    return make_tiny_world(tmp_path_factory.mktemp("outcomes")).session()


def slow_images(
    session: Session, latents_of: Mapping[int, int] | int, scale: float
) -> list[list[Patch]]:
    """The patches of every image before and after whole models with full edits.

    Each patch gets its own label's latent, or all of them the same one.
    """
    pipeline, found = session.pipeline, []
    for batch in session.loader(session.dataset):
        latents = torch.full_like(batch.labels_bt, -1)
        if isinstance(latents_of, int):
            latents[:] = latents_of
        else:
            for class_id, latent in latents_of.items():
                latents[batch.labels_bt == class_id] = latent
        clean = slow_logits(pipeline, batch.images_bchw)
        edited = slow_logits_edited(pipeline, batch.images_bchw, latents, scale)
        x = pipeline.patches(pipeline.residual(batch.images_bchw))
        f = pipeline.sae.encode(pipeline.sae.scale(x))
        for b in range(len(batch)):
            image = []
            for t, (before, after) in enumerate(
                zip(clean[b].tolist(), edited[b].tolist(), strict=True)
            ):
                latent = int(latents[b, t])
                own = 1 + int(np.argmax(before[1:]))
                length = 0.0
                if latent >= 0:
                    value = scale * float(pipeline.latent_stats.top_values[latent])
                    moved = (value - f[b, t, latent]) * pipeline.sae.W_dec[latent]
                    length = float((moved * pipeline.sae.act_norm).norm())
                image.append(
                    Patch(
                        *divmod(t, 7),
                        int(batch.labels_bt[b, t]),
                        own,
                        1 + int(np.argmax(after[1:])),
                        slow_margin(before, own),
                        slow_margin(after, own),
                        length,
                        length / float(x[b, t].norm()),
                        latent >= 0,
                    )
                )
            found.append(image)
    return found


def measured(session: Session, edit: Any, protocol: Protocol) -> Measured:
    loader = session.loader(session.dataset)
    (found,) = evaluate(session.pipeline, [Intervention((edit,))], loader, protocol, n_classes=5)
    return found


def in_logits(found: Measured) -> dict[str, np.ndarray]:
    assert found.outcomes is not None
    deviation = found.outcomes.reference.deviation
    return {k: v * (deviation if "margin" in k else 1) for k, v in table_of(found).items()}


def test_the_class_protocol_sums_what_whole_models_give(session: Session) -> None:
    found = measured(session, set_latents(session.pipeline, "m", -2.0, members(LATENTS)), "class")
    slow = {c: slow_images(session, latent, -2.0) for c, latent in LATENTS.items()}
    assert_columns(in_logits(found), slow.__getitem__, list(LATENTS))
    assert found.outcomes is not None
    clean = [p.margin_before for image in slow[1] for p in image]
    assert found.outcomes.reference.deviation == pytest.approx(np.std(clean), rel=1e-4)


def test_the_label_protocol_sums_what_whole_models_give(session: Session) -> None:
    edit = set_latents(session.pipeline, "m", -2.0, members(LATENTS))
    found = measured(session, edit, "label")
    slow = slow_images(session, LATENTS, -2.0)

    def of_row(class_id: int) -> list[list[Patch]]:
        own = [[p for p in image if p.label == class_id] for image in slow]
        return [
            [replace_edited(p, p in mine) for p in image]
            for image, mine in zip(slow, own, strict=True)
        ]

    assert_columns(in_logits(found), of_row, list(LATENTS))
    shared = measured(session, rand_vec(session.pipeline, 25.0, seed=1), "label")
    assert not is_told("absent_change", found, "label")
    assert is_told("absent_change", found, "class")
    assert is_told("absent_change", shared, "label")
    assert is_told("damage", found, "label")


def replace_edited(patch: Patch, is_edited: bool) -> Patch:
    return Patch(**{**vars(patch), "is_edited": is_edited})


# --- the numbers --------------------------------------------------------------------------------


def test_each_number_is_its_sums_over_all_images(session: Session) -> None:
    edit = set_latents(session.pipeline, "m", -2.0, members(LATENTS))
    found = measured(session, edit, "class")
    table, report = table_of(found), to_report(found, "abcde", "class")
    for row, result in enumerate(report.class_results):
        absent = (table["n_orig_patches"][:, row] == 0) & (table["n_labelled"][:, row] == 0)
        for name, fraction in FRACTIONS.items():
            if name == "off_manifold":  # no manifold was given
                assert name not in result.outcomes
                continue
            if name == "absent_change":
                part = table["n_other_changed"][absent, row].sum()
                whole = table["n_other_patches"][absent, row].sum()
            else:
                part, whole = (table[k][:, row].sum() for k in (fraction.part, fraction.whole))
                part -= table[fraction.less][:, row].sum() if fraction.less else 0
            if whole:
                assert result.outcomes[name] == pytest.approx(part / whole, rel=1e-4)
            else:
                assert name not in result.outcomes
    pooled = (table["n_damaged"] - table["n_repaired"]).sum() / table["n_other_patches"].sum()
    assert report.extra["damage"] == pytest.approx(pooled, rel=1e-4)
    changed = [r for r in report.class_results if r.n_changed_patches]
    tops = sum(max(r.change_distribution.values()) for r in changed)
    n_changed = sum(r.n_changed_patches for r in changed)
    assert report.extra["became_share"] == pytest.approx(tops / n_changed, rel=1e-5)


def test_what_became_of_a_class_by_hand() -> None:
    one = ClassResults(1, "sand", 12, 8, 5, 0, {3: 4, 2: 4})
    assert (one.became, one.became_share, one.became_entropy) == (2, 0.5, 1.0)
    none = ClassResults(1, "sand", 12, 0, 5, 0, {})
    assert (none.became, none.became_share, none.became_entropy) == (None, 0.0, 0.0)
    assert "became_share" not in none.to_row()


def test_absent_images_are_those_without_label_and_prediction() -> None:
    table = {
        "n_orig_patches": np.array([[3], [0], [0]]),
        "n_labelled": np.array([[0], [2], [0]]),
        "n_other_patches": np.array([[1], [4], [4]]),
        "n_other_changed": np.array([[1], [4], [3]]),
    }
    (found,) = fraction_intervals(table)["absent_change"]
    assert found.value == 0.75


def test_ablating_planted_latents_has_known_outcomes(known_world: World) -> None:
    """At scale 0 a class's patches lose all they hold, and no other patch changes at all."""
    (outcome,) = run(known_world.session(), [AutoFeat(scale=(0.0,), max_freq=1.0)], {})
    report = outcome.report
    for result in report.class_results:
        assert result.became == 5
        found = {"became_share": result.became_share, "became_entropy": result.became_entropy}
        expected = {
            "became_share": 1.0,
            "became_entropy": 0.0,
            "damage": 0.0,
            "target_accuracy_before": 1.0,
            "target_accuracy_after": 0.0,
            "target_iou_before": 1.0,
            "target_iou_after": 0.0,
            "other_accuracy_before": 1.0,
            "other_accuracy_after": 1.0,
            "other_miou_before": 1.0,
            "other_miou_after": 1.0,
            "margin_drop": 4.0,  # the logit of all classes: a direction of length sqrt(16)
            "other_margin_change": 0.0,
        }
        known = {**found, **result.outcomes}
        assert {k: known[k] for k in expected} == pytest.approx(expected, abs=1e-3)
        # Its own patches lose all of their residual, all others nothing.
        assert known["edit_ratio"] == pytest.approx(result.n_orig_patches / 48, rel=1e-3)
        assert "became_right" not in known  # no patch was wrong
        assert "absent_change" not in known  # all classes are in all images
    assert report.extra["target_miou_after"] == 0.0
    assert {key for key in report.metrics() if find(RUNS, key) is None} == set()
    rows = [key for result in report.class_results for key in result.to_row()]
    assert {key for key in rows if find(CLASSES, key) is None} == {"class_name"}
    assert report.extra["other_miou_after"] == 1.0


def test_every_outcome_has_its_row() -> None:
    for name in FRACTIONS:
        assert find(CLASSES, name) is not None, name
        assert find(CLASSES, f"{name}_lo") is not None, name
        of_run = {
            "target_iou_before": "target_miou_before",
            "target_iou_after": "target_miou_after",
        }
        assert find(RUNS, of_run.get(name, name)) is not None, name

"""Entries of rows say what inference found, under the keys of CSV and JSON."""

import numpy as np
import pytest

from semseg_cli.runs.inference import (
    class_differences,
    class_intervals,
    macro_intervals,
    pooled_intervals,
)
from semseg_cli.runs.interval_rows import (
    class_entries,
    difference_entries,
    interval_metrics,
    is_in_few_images,
    run_entries,
)

DRAW = np.random.default_rng(3)


def counts(n_images: int, n_classes: int = 3) -> np.ndarray:
    orig = DRAW.integers(5, 30, (n_images, n_classes))
    changed = DRAW.binomial(orig, 0.6)
    other = 100 - orig
    return np.stack([orig, changed, other, DRAW.binomial(other, 0.1)], axis=2)


def test_a_run_has_macro_and_pooled_numbers_with_all_that_is_known_of_them() -> None:
    made, found = counts(20), {}
    found = run_entries(made, 1)
    macro, pooled = macro_intervals(made, 1), pooled_intervals(made)
    for key, interval in (("macro_selectivity", macro["selectivity"]),
                          ("target_change", pooled["target_change"])):  # fmt: skip
        assert found[key] == interval.value
        assert (found[f"{key}_lo"], found[f"{key}_hi"]) == (interval.lo, interval.hi)
        assert (found[f"{key}_n_eff"], found[f"{key}_n_images"]) == (interval.n_eff, 20)
        assert found[f"{key}_method"] == interval.method
        assert f"{key}_reason" not in found
    assert interval_metrics(found)["macro_target_change_lo"] == macro["target_change"].lo


def test_a_class_too_thin_for_an_interval_says_how_thin() -> None:
    made = counts(20)
    made[3:, 0, :2] = 0
    made[0, 0, 1] = 0
    thin, sure, _ = class_entries(made)
    assert thin["target_change_lo"] is None
    assert thin["target_change_n_images"] == 3
    assert thin["target_change_n_touched"] == int((made[:, 0, 1] > 0).sum())
    assert thin["target_change_reason"] == "an interval needs 5 images: 3"
    assert (thin["n_class_images"], sure["n_class_images"]) == (3, 20)
    assert sure["target_change_lo"] == class_intervals(made)["target_change"][1].lo


def test_too_few_images_have_no_intervals_at_all() -> None:
    assert interval_metrics(run_entries(counts(4), 1)) == {}


def test_a_difference_has_its_interval_and_its_raw_p() -> None:
    one, other = counts(30), counts(30)
    found = class_differences(one, other)["selectivity"][0]
    made = difference_entries("selectivity", found)
    assert made["selectivity_difference"] == found.interval.value
    assert made["selectivity_difference_hi"] == found.interval.hi
    assert made["selectivity_p"] == found.test.p
    assert made["selectivity_p_method"] == "flip"


def test_classes_with_patches_in_one_or_two_images_are_in_few() -> None:
    made = counts(10)
    made[2:, 0, :2] = 0
    made[:, 1, :2] = 0
    assert is_in_few_images(made).tolist() == [True, False, False]
    assert run_entries(made, 1)["macro_target_change"] == pytest.approx(
        made[:, 2, 1].sum() / made[:, 2, 0].sum()
    )

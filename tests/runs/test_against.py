"""Which controls do better than the latents: against the difference of means, done by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from run_folders import make_folder, write_draws

from semseg_cli.runs.against import gap, verdicts
from semseg_cli.runs.folder import RunFolder
from semseg_cli.runs.per_image import COUNTED

N_IMAGES, N_CLASSES = 12, 3


def folder_of(
    root: Path, command: str, changed: float, seed: int = 0, **meta: Any
) -> tuple[RunFolder, np.ndarray]:
    """A run in which about that share of every class's patches changed, and its counts."""
    rng = np.random.default_rng(seed)
    shape = (N_IMAGES, N_CLASSES)
    counts = np.stack(
        [np.full(shape, 20), rng.binomial(20, changed, shape), np.full(shape, 100),
         rng.binomial(100, 0.05, shape)], axis=-1,
    )  # fmt: skip
    folder = make_folder(root, command, **meta)
    columns: dict[str, Any] = {
        "image": np.repeat([f"i{n}" for n in range(N_IMAGES)], N_CLASSES).tolist(),
        "class_id": np.tile(np.arange(1, N_CLASSES + 1), N_IMAGES).tolist(),
        **{name: counts[..., i].reshape(-1).tolist() for i, name in enumerate(COUNTED)},
    }
    pq.write_table(pa.table(columns), folder.path / "per_image.parquet")
    return folder, counts


def macro(counts: np.ndarray) -> float:
    totals = counts.sum(axis=0)
    return float((totals[:, 1] / totals[:, 0] - totals[:, 3] / totals[:, 2]).mean())


def test_a_gap_is_the_difference_of_macro_selectivities(tmp_path: Path) -> None:
    own, own_counts = folder_of(tmp_path, "auto-feat", 0.6)
    other, counts = folder_of(tmp_path, "mean-diff", 0.9, seed=1)
    made = gap(own, other).interval
    assert made.value == pytest.approx(macro(own_counts) - macro(counts))
    assert made.hi is not None
    assert made.hi < 0


def test_a_baseline_that_wins_is_named_with_its_lead_and_what_it_knows(tmp_path: Path) -> None:
    own, own_counts = folder_of(tmp_path, "auto-feat", 0.6)
    better, counts = folder_of(tmp_path, "mean-diff", 0.9, seed=1)
    worse, _ = folder_of(tmp_path, "rand-vec", 0.2, seed=2)
    (said,) = verdicts(own, {"mean-diff": better, "rand-vec": worse})
    lead = macro(counts) - macro(own_counts)
    assert said.startswith(
        "mean-diff (which knows the labels) wins over auto-feat x-2: macro selectivity "
        f"{lead:.3f} higher ["
    )
    assert said.endswith("by an edit as long.")


def test_a_lead_within_the_interval_is_no_win(tmp_path: Path) -> None:
    own, _ = folder_of(tmp_path, "auto-feat", 0.6)
    alike, _ = folder_of(tmp_path, "rand-vec", 0.61, seed=3)
    (said,) = verdicts(own, {"rand-vec": alike})
    is_ahead = (gap(own, alike).interval.value or 0.0) < 0
    assert ("does no worse than" in said) == is_ahead
    assert "wins" not in said


def test_where_none_is_better_the_nearest_is_named(tmp_path: Path) -> None:
    own, own_counts = folder_of(tmp_path, "auto-feat", 0.9)
    near, counts = folder_of(tmp_path, "mean-diff", 0.5, seed=1)
    far, _ = folder_of(tmp_path, "rand-vec", 0.1, seed=2)
    (said,) = verdicts(own, {"far": far, "near": near})
    below = macro(own_counts) - macro(counts)
    assert said.startswith(
        f"No control or baseline does better than auto-feat x-2; near comes nearest, {below:.3f} "
        "below"
    )
    assert verdicts(own, {}) == []


def test_the_luck_of_a_drawn_latent_widens_the_interval(tmp_path: Path) -> None:
    own, _ = folder_of(tmp_path, "auto-feat", 0.6)
    drawn, counts = folder_of(tmp_path, "rand-feat", 0.3, seed=1)
    rng = np.random.default_rng(0)
    totals = counts.sum(axis=0)
    draws = np.stack([totals // 4] * 4)
    draws[:, :, 1] = rng.integers(0, draws[0, :, 0], (4, N_CLASSES))
    draws[3, :, 1] = totals[:, 1] - draws[:3, :, 1].sum(axis=0)
    write_draws(drawn, draws, range(1, N_CLASSES + 1))
    fixed, _ = folder_of(tmp_path, "rand-vec", 0.3, seed=1)
    with_luck, without = gap(own, drawn).interval, gap(own, fixed).interval
    assert with_luck.value == pytest.approx(without.value)
    widths = [0.0 if i.lo is None or i.hi is None else i.hi - i.lo for i in (with_luck, without)]
    assert widths[0] > widths[1] > 0


def test_a_control_that_drew_its_latents_once_has_no_interval_of_its_gap(tmp_path: Path) -> None:
    own, _ = folder_of(tmp_path, "auto-feat", 0.6)
    drawn, _ = folder_of(tmp_path, "other-class", 0.2, seed=4)
    shuffled, _ = folder_of(tmp_path, "auto-feat", 0.2, seed=5)
    (shuffled.path / "settings.toml").write_text('control = "shuffled"\n', encoding="utf-8")
    fixed, _ = folder_of(tmp_path, "push", 0.2, seed=6)
    told = [gap(own, other).interval.is_printed for other in (drawn, shuffled, fixed)]
    assert told == [False, False, True]

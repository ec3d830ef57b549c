"""python -m benchmarks.trust.images_needed RUN...: how many images flips and margins need.

Of each run, the half-width of the 95% interval as a share of its value, per class, on random
subsets of the images; and so how many images a flip rate takes for the width that a margin has with
one. As widths fall with the square root of the images, that is the squared ratio of the widths.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from semseg_cli.runs.folder import PER_IMAGE_FILE, RunFolder
from semseg_cli.runs.inference import Interval, rate_intervals, rates_of
from semseg_cli.runs.outcomes import FRACTIONS, Table
from semseg_cli.runs.rows import Row
from semseg_cli.show.console import show
from semseg_cli.show.tables import Column
from semseg_cli.show.tables import Table as Shown

SEED, N_SUBSETS = 2026, 20
N_IMAGES = (20, 50, 100)
PAIRS = {
    "target": (("n_orig_patches", "n_changed_patches"), "margin_drop"),
    "other": (("n_other_patches", "n_other_changed"), "other_margin_change"),
}


def images_table(path: Path) -> Table:
    """The counts of a run as [images, classes] per column."""
    frame = pd.read_parquet(path / PER_IMAGE_FILE)
    index = frame.set_index(["image", "class_id"]).drop(columns="group", errors="ignore")
    return {name: index[name].unstack().to_numpy() for name in index.columns}


def relative_widths(intervals: Sequence[Interval]) -> np.ndarray:
    """Half of each interval's width by its value; NaN where there is none."""
    found = [
        np.nan if one.lo is None or one.hi is None or not one.value
        else (one.hi - one.lo) / 2 / abs(one.value)
        for one in intervals
    ]  # fmt: skip
    return np.array(found)


def widths(table: Table, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Of every class, how wide the interval of its flips is, and that of its margins."""
    (whole, part), margin = PAIRS[what]
    flips = rate_intervals(rates_of(table[part], table[whole]))
    return relative_widths(flips), relative_widths(FRACTIONS[margin].intervals(table))


def row_of(path: Path, what: str, n_images: int) -> Row:
    """Medians over classes and subsets in which both have an interval."""
    table, draw = images_table(path), np.random.default_rng(SEED)
    n_all = len(next(iter(table.values())))
    flips, margins = [], []
    for _ in range(N_SUBSETS if n_images < n_all else 1):
        kept = draw.choice(n_all, min(n_images, n_all), replace=False)
        pair = widths({name: values[kept] for name, values in table.items()}, what)
        both = np.isfinite(pair).all(axis=0)
        flips.append(pair[0][both])
        margins.append(pair[1][both])
    flip_n, margin_n = np.concatenate(flips), np.concatenate(margins)
    return {
        "run": RunFolder(path).meta["run_name"],
        "of": what,
        "n_images": min(n_images, n_all),
        "flips": float(np.median(flip_n)) if len(flip_n) else None,
        "margins": float(np.median(margin_n)) if len(margin_n) else None,
        "times": float(np.median((flip_n / margin_n) ** 2)) if len(flip_n) else None,
        "n": len(flip_n),
    }


def images_needed(paths: Sequence[Path]) -> Shown:
    """All runs, target and other patches, at each number of images."""
    rows = [row_of(path, what, n) for path in paths for what in PAIRS for n in N_IMAGES]
    columns = (
        Column("run", "run", "text", elastic=True),
        Column("of", "patches", "text"),
        Column("n_images", "images", "count"),
        Column("flips", "flips:\nwidth"),
        Column("margins", "margins:\nwidth"),
        Column("times", "images that flips\nneed for one"),
        Column("n", "classes x\nsubsets", "count"),
    )
    return Shown("Half of the 95% interval by the value", columns, tuple(rows))


if __name__ == "__main__":
    show(images_needed([Path(path) for path in sys.argv[1:]]), "markdown")

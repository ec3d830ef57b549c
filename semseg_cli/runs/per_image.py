"""The counts that a run leaves: per image and class, per draw and class. No torch, no pandas."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from semseg_cli.errors import SemsegError

COUNTED = ("n_orig_patches", "n_changed_patches", "n_other_patches", "n_other_changed")
GROUP = "group"  # the column of a run whose images were grouped
POOLED = 0  # the class id of a draw's sums over classes


@dataclass(frozen=True)
class PerImage:
    """Counts [images, classes, 4] of one run, in the order of `COUNTED`.

    `groups` has the group of each image where the run was told of groups."""

    images: tuple[str, ...]
    class_ids: tuple[int, ...]
    counts_bc4: np.ndarray
    groups: tuple[str, ...] | None = None

    def on(self, images: Sequence[str], class_ids: Sequence[int]) -> np.ndarray:
        """The counts of these images and classes, in this order; all of them must be here."""
        row_of = {image: row for row, image in enumerate(self.images)}
        column_of = {class_id: column for column, class_id in enumerate(self.class_ids)}
        rows = [row_of[image] for image in images]
        return self.counts_bc4[rows][:, [column_of[class_id] for class_id in class_ids]]


def read_per_image(data: bytes) -> PerImage:
    """The counts of a per_image.parquet; images and classes in the order of the file.

    Raises:
        SemsegError: it is no such file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(data))
        names = table["image"].combine_chunks()
        names = names if pa.types.is_dictionary(names.type) else names.dictionary_encode()
        images = tuple(str(name) for name in names.dictionary.to_pylist())
        rows_n = names.indices.to_numpy(zero_copy_only=False)
        groups = _groups(table[GROUP], rows_n, len(images)) if GROUP in table.column_names else None
        ids_n = table["class_id"].to_numpy()
        counts_n4 = np.stack([table[name].to_numpy() for name in COUNTED], axis=1)
        if counts_n4.dtype.kind != "i":
            raise ValueError(f"they are {counts_n4.dtype}")
    except (pa.ArrowException, ValueError, KeyError, AttributeError) as error:
        raise SemsegError(f"per_image.parquet holds no counts ({error})") from error
    class_ids, columns_n = np.unique(ids_n, return_inverse=True)
    counts_bc4 = np.zeros((len(images), len(class_ids), 4), dtype=np.int64)
    counts_bc4[rows_n, columns_n] = counts_n4
    return PerImage(images, tuple(class_ids.tolist()), counts_bc4, groups)


def _groups(column: Any, rows_n: np.ndarray, n_images: int) -> tuple[str, ...]:
    names = [""] * n_images
    for row, name in zip(rows_n.tolist(), column.to_pylist(), strict=True):
        names[row] = str(name)
    return tuple(names)


@dataclass(frozen=True)
class Draws:
    """Counts [draws, classes, 4] of a control that was drawn several times."""

    class_ids: tuple[int, ...]
    counts_dc4: np.ndarray

    def on(self, class_ids: Sequence[int]) -> np.ndarray:
        """The counts of these classes, in this order; all of them must be here."""
        return self.counts_dc4[:, [self.class_ids.index(class_id) for class_id in class_ids]]

    @property
    def classes(self) -> tuple[int, ...]:
        """The ids of the rows that are classes."""
        return tuple(class_id for class_id in self.class_ids if class_id != POOLED)


def read_draws(text: str) -> Draws:
    """The counts of a draws.csv.

    Raises:
        SemsegError: it is no such file, or lacks a class of a draw.
    """
    try:
        rows: dict[tuple[int, int], list[int]] = {
            (int(row["draw"]), int(row["class_id"])): [int(row[name]) for name in COUNTED]
            for row in csv.DictReader(io.StringIO(text))
        }
        if not rows:
            raise ValueError("it is empty")
        draws = sorted({draw for draw, _ in rows})
        class_ids = sorted({class_id for _, class_id in rows})
        counts = [[rows[draw, class_id] for class_id in class_ids] for draw in draws]
    except (KeyError, ValueError, TypeError) as error:
        raise SemsegError(f"draws.csv holds no whole counts ({error})") from error
    shaped = np.array(counts, dtype=np.int64).reshape(len(draws), len(class_ids), 4)
    return Draws(tuple(class_ids), shaped)

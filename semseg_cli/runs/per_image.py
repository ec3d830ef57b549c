"""The counts that a run leaves: per image and class, per draw and class. No torch, no pandas."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from semseg_cli.readers import MOST_DIGITS, parse_csv, unreadable
from semseg_cli.runs.field_types import shortened

COUNTED = ("n_orig_patches", "n_changed_patches", "n_other_patches", "n_other_changed")
WEIGHT = "weight"  # the column of a run in which classes were run on a sample of images
GROUP = "group"  # the column of a run whose images were grouped
EXPECTED = "expected the counts that a run wrote"
MOST_CELLS = 10**8  # images times classes
POOLED = 0  # the class id of a draw's sums over classes


@dataclass(frozen=True, eq=False)
class PerImage:
    """Counts [images, classes, 4] of one run, in the order of `COUNTED`.

    `groups` has the group of each image where the run was told of groups. `weight_bc` says for how
    many images each one stands, where classes were run on a sample of the images without them: 0
    where a class was not run. Equal to itself alone."""

    images: tuple[str, ...]
    class_ids: tuple[int, ...]
    counts_bc4: np.ndarray
    groups: tuple[str, ...] | None = None
    weight_bc: np.ndarray | None = None

    @property
    def is_run_bc(self) -> np.ndarray:
        """Which classes were run on which images."""
        if self.weight_bc is None:
            return np.ones(self.counts_bc4.shape[:2], dtype=bool)
        return self.weight_bc > 0

    def where(self, is_kept_bc: np.ndarray) -> "PerImage":
        """The same as if only these had been run, of which it was: of each class the images with it
        stand for all with it, those without it for all without it."""
        is_with_bc, is_run_bc = self.counts_bc4[..., 0] > 0, self.is_run_bc & is_kept_bc
        weight_bc = np.zeros(is_run_bc.shape)
        for stratum_bc in (is_with_bc, ~is_with_bc):
            n_all_c, kept_bc = stratum_bc.sum(axis=0), stratum_bc & is_run_bc
            weight_bc += kept_bc * (n_all_c / np.maximum(kept_bc.sum(axis=0), 1))
        return replace(self, weight_bc=weight_bc)

    def on(self, images: Sequence[str], class_ids: Sequence[int]) -> np.ndarray:
        """The counts of these images and classes, in this order, times what each image stands for;
        all of them must be here."""
        row_of = {image: row for row, image in enumerate(self.images)}
        column_of = {class_id: column for column, class_id in enumerate(self.class_ids)}
        rows = [row_of[image] for image in images]
        columns = [column_of[class_id] for class_id in class_ids]
        chosen: np.ndarray = self.counts_bc4[rows][:, columns]
        if self.weight_bc is None:
            return chosen
        return chosen * self.weight_bc[rows][:, columns][..., None]


def on_same_images(one: PerImage, other: PerImage) -> tuple[PerImage, PerImage]:
    """Two runs on the same images, each class on those images only that both ran it on."""
    if one.weight_bc is None and other.weight_bc is None:
        return one, other
    return one.where(_is_run(other, one)), other.where(_is_run(one, other))


def _is_run(by: PerImage, like: PerImage) -> np.ndarray:
    """What `by` ran, in the order of `like`; what it does not have counts as run."""
    rows = {image: row for row, image in enumerate(by.images)}
    found = np.ones((len(like.images), len(like.class_ids)), dtype=bool)
    columns = {class_id: column for column, class_id in enumerate(by.class_ids)}
    order = [rows[image] for image in like.images]
    for column, class_id in enumerate(like.class_ids):
        if class_id in columns:
            found[:, column] = by.is_run_bc[order, columns[class_id]]
    return found


def read_per_image(data: bytes, file: str = "per_image.parquet") -> PerImage:
    """The counts of a per_image.parquet; images and classes in the order of the file.

    Raises:
        FileError: it is no such file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # One thread: a file takes less than starting others does.
        wanted = ["image", "class_id", *COUNTED, WEIGHT, GROUP]
        table = pq.ParquetFile(pa.BufferReader(data)).read(columns=wanted, use_threads=False)
        for name in ("image", "class_id", *COUNTED):
            _check_column(name, table[name])
        names = _as_dictionary(table["image"])
        images = tuple(names.dictionary.to_pylist())
        rows_n = np.from_dlpack(names.indices)
        groups = _groups(table[GROUP], rows_n, len(images)) if GROUP in table.column_names else None
        numbers = {name: _numbers_of(table[name]) for name in ("class_id", *COUNTED)}
        _check_numbers(numbers)
        counts_n4 = np.stack([numbers[name] for name in COUNTED], axis=1)
        class_ids, columns_n = np.unique(numbers["class_id"], return_inverse=True)
        counts_bc4 = _shaped(rows_n, columns_n, counts_n4, len(images), len(class_ids))
        weight_bc = _weights(table, rows_n, columns_n, counts_bc4)
    # Damaged bytes: whatever they do to the reader of Parquet files.
    except (pa.ArrowException, OSError, ValueError, TypeError, LookupError) as error:
        raise unreadable(file, _first_line(error), EXPECTED) from error
    return PerImage(images, tuple(class_ids.tolist()), counts_bc4, groups, weight_bc)


def _weights(
    table: Any, rows_n: np.ndarray, columns_n: np.ndarray, counts_bc4: np.ndarray
) -> np.ndarray | None:
    """What each image stands for; refuses what is less than itself."""
    if WEIGHT not in table.column_names:
        return None
    column = table[WEIGHT]
    values_n = np.full(1, np.nan) if column.null_count else _numbers_of(column)
    if values_n.dtype != np.float64 or not (np.isfinite(values_n) & (values_n >= 1)).all():
        raise ValueError(f"its column {WEIGHT} has values that are no numbers from 1")
    weight_bc = np.zeros(counts_bc4.shape[:2])
    weight_bc[rows_n, columns_n] = values_n
    return weight_bc


def read_sums(
    data: bytes, counts: PerImage, names: Sequence[str], file: str = "per_image.parquet"
) -> dict[str, np.ndarray]:
    """Other columns of a per_image.parquet, those of these that it has, as arrays [images, classes]
    in the order of its counts.

    Raises:
        FileError: one of them holds no numbers.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    row_of = {image: row for row, image in enumerate(counts.images)}
    column_of = {class_id: column for column, class_id in enumerate(counts.class_ids)}
    try:
        table = pq.read_table(pa.BufferReader(data))
        at = (
            [row_of[image] for image in table["image"].to_pylist()],
            [column_of[class_id] for class_id in table["class_id"].to_pylist()],
        )
        found = {}
        for name in names:
            if name not in table.column_names:
                continue
            values = table[name].to_numpy()
            dtype = np.int64 if pa.types.is_integer(table[name].type) else np.float64
            found[name] = np.zeros(counts.counts_bc4.shape[:2], dtype=dtype)
            found[name][at] = values.astype(dtype)
    # Damaged bytes: whatever they do to the reader of Parquet files.
    except (pa.ArrowException, OSError, ValueError, TypeError, LookupError) as error:
        raise unreadable(file, _first_line(error), EXPECTED) from error
    return found


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def _check_column(name: str, column: Any) -> None:
    """Refuses a column of another type, or with missing values."""
    import pyarrow as pa

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    is_good = is_text if name == "image" else pa.types.is_integer(kind)
    if not is_good or column.null_count:
        raise ValueError(f"its column {name} is {kind} with {column.null_count} values missing")


def _numbers_of(column: Any) -> np.ndarray:
    """A column without missing values; pyarrow's own `to_numpy` loads pandas first."""
    return np.from_dlpack(column.combine_chunks())


def _check_numbers(numbers: Mapping[str, np.ndarray]) -> None:
    for name, values_n in numbers.items():
        if len(values_n) and values_n.min() < 0:
            raise ValueError(f"its column {name} has numbers below 0")


def _as_dictionary(column: Any) -> Any:
    import pyarrow as pa

    whole = column.combine_chunks()
    whole = whole if pa.types.is_dictionary(whole.type) else whole.dictionary_encode()
    whole.validate(full=True)
    return whole


def _shaped(
    rows_n: np.ndarray, columns_n: np.ndarray, counts_n4: np.ndarray, n_images: int, n_classes: int
) -> np.ndarray:
    """The counts by image and class; each of these pairs is there once at most."""
    cells_n = rows_n.astype(np.int64) * n_classes + columns_n
    if n_images * n_classes > MOST_CELLS or (np.bincount(cells_n, minlength=1) > 1).any():
        raise ValueError("a class is there twice for an image, or there are too many")
    if (counts_n4[:, 0::2] < counts_n4[:, 1::2]).any():
        raise ValueError("more patches changed than there are")
    counts_bc4 = np.zeros((n_images, n_classes, 4), dtype=np.int64)
    counts_bc4[rows_n, columns_n] = counts_n4
    return counts_bc4


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


def read_draws(text: str, file: str = "draws.csv") -> Draws:
    """The counts of a draws.csv.

    Raises:
        FileError: it is no such file, or lacks a class of a draw.
    """
    rows = parse_csv(text, file, EXPECTED, ("draw", "class_id", *COUNTED))
    if not rows:
        raise unreadable(file, "it has no rows", EXPECTED)
    try:
        counts = {
            (_count(row["draw"]), _count(row["class_id"])): [_count(row[name]) for name in COUNTED]
            for row in rows
        }
    except ValueError as error:
        raise unreadable(file, str(error), EXPECTED) from error
    draws = sorted({draw for draw, _ in counts})
    class_ids = sorted({class_id for _, class_id in counts})
    if not len(rows) == len(counts) == len(draws) * len(class_ids):
        raise unreadable(file, "a draw lacks a class, or has it twice", EXPECTED)
    shaped = [[counts[draw, class_id] for class_id in class_ids] for draw in draws]
    return Draws(tuple(class_ids), np.array(shaped, dtype=np.int64))


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > MOST_DIGITS:
        raise ValueError(f"{shortened(text)} is no count")
    return int(text)


def read_matched_draws(
    data: bytes, class_ids: Sequence[int], file: str = "nulls.parquet"
) -> np.ndarray:
    """Counts [draws, classes, 4] of the matched peers of these classes; all of them must be there.

    Raises:
        FileError: it is no such file, or lacks a class of a draw.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        columns = ["null", "draw", "class_id", *COUNTED]
        table = pq.read_table(pa.BufferReader(data), columns=columns)
        is_peer_n = (table["null"].to_numpy() == "matched") & (table["draw"].to_numpy() > 0)
        draw_n, class_n = (table[name].to_numpy()[is_peer_n] for name in ("draw", "class_id"))
        counts_n4 = np.stack([table[name].to_numpy()[is_peer_n] for name in COUNTED], axis=1)
        known = {(d, c): row for row, (d, c) in enumerate(zip(draw_n, class_n, strict=True))}
        shaped = [[counts_n4[known[d, c]] for c in class_ids] for d in np.unique(draw_n)]
    # Damaged bytes: whatever they do to the reader of Parquet files.
    except (pa.ArrowException, OSError, ValueError, TypeError, LookupError) as error:
        raise unreadable(file, _first_line(error), EXPECTED) from error
    return np.array(shaped, dtype=np.int64).reshape(len(shaped), len(class_ids), 4)

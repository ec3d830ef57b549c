"""p values corrected for their number; None, where there is none, stays None and does not count."""

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's (1979) adjusted p values: no false discovery among the runs of a table."""
    sorted_p, order = _known(p_values)
    steps = sorted_p * np.arange(len(sorted_p), 0, -1)
    return _restored(np.maximum.accumulate(steps), order, len(p_values))


def benjamini_hochberg(p_values: Sequence[float | None]) -> list[float | None]:
    """Benjamini & Hochberg's (1995): the share of false discoveries among those of the classes."""
    sorted_p, order = _known(p_values)
    steps = sorted_p * len(sorted_p) / np.arange(1, len(sorted_p) + 1)
    return _restored(np.minimum.accumulate(steps[::-1])[::-1], order, len(p_values))


def _known(p_values: Sequence[float | None]) -> tuple[np.ndarray, list[int]]:
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    return np.array([p for p, _ in known]), [place for _, place in known]


def _restored(adjusted: np.ndarray, order: list[int], n_values: int) -> list[float | None]:
    found: list[float | None] = [None] * n_values
    for place, p in zip(order, np.minimum(adjusted, 1).tolist(), strict=True):
        found[place] = p
    return found

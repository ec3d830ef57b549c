"""Autoencoders side by side: their scores beyond their nulls, ranked as far as the test tells.

Each is a run of the class's own latents with its evidence, on the same images and with the same
head, so that clean predictions are the same. No torch in here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from semseg_cli.runs.contents import null_sae_of, params_of
from semseg_cli.runs.folder import MATCHED_FILE, NULLS_FILE, PER_IMAGE_FILE, RunFolder
from semseg_cli.runs.inference import (
    Calibrated,
    Difference,
    Interval,
    calibrated_difference,
    calibrated_score,
    holm,
    macro_classes,
    no_edit,
    sum_groups,
)
from semseg_cli.runs.inference.answers import ALPHA
from semseg_cli.runs.interval_rows import entries
from semseg_cli.runs.metrics import OF_DICTIONARIES
from semseg_cli.runs.per_image import PerImage, read_matched_draws, read_per_image
from semseg_cli.runs.rows import Row

GIVEN = "none"  # what a run that has no null SAE says
NAMES = {"pca": "PCA", "random": "random", "shuffled": "permuted decoder"}
FACTS = tuple(
    f"{metric.key}{end}"
    for metric in OF_DICTIONARIES
    for end in (("", "_lo", "_hi") if metric.has_interval else ("",))
)


@dataclass(frozen=True)
class Dictionary:
    """An autoencoder by its name, and the run of its latents that claims are about."""

    name: str
    folder: RunFolder

    @property
    def layer(self) -> int:
        """The block whose residuals it reads."""
        return int(params_of(self.folder)["vit_layer"])

    @property
    def null_sae(self) -> str:
        """Which null SAE it is; `GIVEN` for a given one."""
        return null_sae_of(self.folder)


def named(folder: RunFolder, given: str = "") -> Dictionary:
    """The dictionary of a run; a given one is called `given`, else by its file."""
    null = null_sae_of(folder)
    if null != GIVEN:
        return Dictionary(NAMES[null], folder)
    return Dictionary(given or Path(params_of(folder)["sae_ckpt"]).name, folder)


@dataclass(frozen=True)
class Ranking:
    """Dictionaries in the order of their scores.

    `ranks` has 1 and the number of those that are better by the test; `differences` of each pair of
    places the first score minus the second, `p_values` their p, corrected over all pairs.
    """

    dictionaries: tuple[Dictionary, ...]
    scores: tuple[Interval, ...]
    ranks: tuple[int, ...]
    differences: Mapping[tuple[int, int], Difference]
    p_values: Mapping[tuple[int, int], float | None]
    class_ids: tuple[int, ...]  # that scores are over
    n_latents: tuple[int, ...]  # of each, the classes that it has a latent for

    @property
    def first(self) -> list[int]:
        """The places of those that nothing is better than."""
        return [i for i, rank in enumerate(self.ranks) if rank == 1]

    def p_between(self, one: int, other: int) -> float | None:
        """The corrected p of a pair."""
        return self.p_values[min(one, other), max(one, other)]

    @property
    def rows(self) -> list[Row]:
        """The rows of dictionaries.csv."""
        return [self._row(i) for i in range(len(self.dictionaries))]

    def _row(self, i: int) -> Row:
        one, report = self.dictionaries[i], self.dictionaries[i].folder.report()
        numbers = report.metrics()
        shared = self.ranks.count(self.ranks[i]) > 1
        return {
            "dictionary": one.name,
            "rank": f"{self.ranks[i]}{'=' if shared else ''}",
            "layer": one.layer,
            **entries("score", self.scores[i]),
            "p_best": None if i == 0 else self.p_between(0, i),
            "p_null": self._p_null(i),
            **{f"p_{null}": self._p_of_null(i, null) for null in NAMES},
            "n_causal": numbers.get("n_causal"),
            "n_judged": numbers.get("n_judged"),
            "n_latents": self.n_latents[i],
            "n_scored": len(self.class_ids),
            "macro_selectivity": numbers.get("macro_selectivity"),
            "edit_ratio": numbers.get("edit_ratio"),
            **{key: numbers.get(key) for key in FACTS},
            "null_sae": "" if one.null_sae == GIVEN else one.null_sae,
            "site": params_of(one.folder).get("vit_site"),
            "folder": str(one.folder.path),
        }

    def _nulls_of(self, i: int) -> dict[str, int]:
        layer = self.dictionaries[i].layer
        return {
            one.null_sae: place
            for place, one in enumerate(self.dictionaries)
            if one.null_sae != GIVEN and one.layer == layer and place != i
        }

    def _p_of_null(self, i: int, null: str) -> float | None:
        place = self._nulls_of(i).get(null)
        return None if place is None else self.p_between(i, place)

    def _p_null(self, i: int) -> float | None:
        nulls = self._nulls_of(i)
        if self.dictionaries[i].null_sae != GIVEN or not nulls:
            return None
        if any(place < i for place in nulls.values()):
            return 1.0
        found = [self.p_between(i, place) for place in nulls.values()]
        known = [p for p in found if p is not None]
        return max(known) if len(known) == len(found) else None


def rank(dictionaries: Sequence[Dictionary]) -> Ranking:
    """Dictionaries ranked by their scores; one is below another only if the test says so."""
    found, class_ids, has_latent = _aligned(dictionaries)
    scores = [calibrated_score(one) for one in found]
    order = sorted(range(len(found)), key=lambda i: -_value(scores[i]))
    pairs = list(combinations(range(len(order)), 2))
    gaps = {(i, j): calibrated_difference(found[order[i]], found[order[j]]) for i, j in pairs}
    p_values = dict(zip(pairs, holm([gap.test.p for gap in gaps.values()]), strict=True))
    n_better = [
        sum(_is_told(p_values[j, i], gaps[j, i]) for j in range(i)) for i in range(len(order))
    ]
    return Ranking(
        tuple(dictionaries[i] for i in order),
        tuple(scores[i] for i in order),
        tuple(1 + n for n in n_better),
        gaps,
        p_values,
        tuple(class_ids),
        tuple(has_latent[i] for i in order),
    )


def _value(score: Interval) -> float:
    return float("-inf") if score.value is None else score.value


def _is_told(p: float | None, gap: Difference) -> bool:
    """Whether the first of a pair is better by the test."""
    return p is not None and p <= ALPHA and (gap.interval.value or 0.0) > 0


def _aligned(
    dictionaries: Sequence[Dictionary],
) -> tuple[list[Calibrated], list[int], list[int]]:
    """All on the same images and classes, those with enough patches; their ids, and of each
    dictionary how many of them it has a latent for."""
    own = [_read(one, PER_IMAGE_FILE) for one in dictionaries]
    images, groups = own[0].images, own[0].groups
    class_ids = sorted({class_id for one in own for class_id in one.class_ids})
    clean_bc4 = np.stack([_clean(own, class_id, images) for class_id in class_ids], axis=1)
    found = [
        _calibrated(one, of_one, images, class_ids, clean_bc4)
        for one, of_one in zip(dictionaries, own, strict=True)
    ]
    if groups is not None:
        found = [one.by_group(groups) for one in found]
        clean_bc4 = sum_groups(clean_bc4, groups)
    kept_c = macro_classes(clean_bc4, dictionaries[0].folder.report().min_patches)
    kept = [class_id for class_id, is_kept in zip(class_ids, kept_c, strict=True) if is_kept]
    n_latents = [len(set(kept) & set(one.class_ids)) for one in own]
    return [one.of(kept_c) for one in found], kept, n_latents


def _read(one: Dictionary, file: str) -> PerImage:
    return read_per_image((one.folder.path / file).read_bytes(), str(one.folder.path / file))


def _clean(own: Sequence[PerImage], class_id: int, images: Sequence[str]) -> np.ndarray:
    """The patches of a class and all others [images, 4], with no edit."""
    of_class = next(one for one in own if class_id in one.class_ids)
    return no_edit(of_class.on(images, [class_id]))[:, 0]


def _calibrated(
    one: Dictionary,
    own: PerImage,
    images: Sequence[str],
    class_ids: Sequence[int],
    clean_bc4: np.ndarray,
) -> Calibrated:
    """Counts of all these images and classes; where there is no latent, of no edit."""
    matched, path = _read(one, MATCHED_FILE), one.folder.path / NULLS_FILE
    draws_rc4 = read_matched_draws(path.read_bytes(), own.class_ids, str(path))
    own_bc4, null_bc4 = clean_bc4.copy(), clean_bc4.copy()
    all_draws_rc4 = np.repeat(clean_bc4.sum(axis=0)[None], len(draws_rc4), axis=0)
    for place, class_id in enumerate(own.class_ids):
        c, of_class = class_ids.index(class_id), [class_id]
        own_bc4[:, c] = own.on(images, of_class)[:, 0]
        is_tried = class_id in matched.class_ids
        null_bc4[:, c] = matched.on(images, of_class)[:, 0] if is_tried else 0
        all_draws_rc4[:, c] = draws_rc4[:, place]
    return Calibrated(own_bc4, null_bc4, all_draws_rc4)

"""Absorption and splitting: the smallest group of a class's latents that does what the best does.

Groups grow greedily, by the latent that adds most to target minus other change on the choosing
images; they are judged on others.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from jaxtyping import Float64
from torch import Tensor

from semseg_cli.data.loader import Loader
from semseg_cli.engine.counts import Counts
from semseg_cli.engine.edits import Intervention
from semseg_cli.engine.evaluate import evaluate
from semseg_cli.engine.halving import try_out
from semseg_cli.engine.latent_edits import set_rows
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.progress import Progress, silent
from semseg_cli.runs.lookup_csv import LookupRow, Member
from semseg_cli.settings.methods import AutoFeat

REACHED = 0.9  # of the best group's target change
LEAST_GAIN = 0.01  # in target minus other change, for which a latent is added
PRESENT = 0.5  # target minus other change of a group that holds a class


class LoaderOf(Protocol):
    """Batches of the images at some positions, where so many latents are held."""

    def __call__(self, positions: Sequence[int], n_latents: int) -> Loader: ...


@dataclass(frozen=True)
class Group:
    """The best group of a class: latents in the order in which they were added, and target and
    other change on the choosing images with each of them."""

    class_id: int
    latents: tuple[int, ...]
    targets: tuple[float, ...]
    others: tuple[float, ...]

    @property
    def effect(self) -> float:
        """Target minus other change of the whole group."""
        return self.targets[-1] - self.others[-1]

    @property
    def smallest(self) -> tuple[int, ...]:
        """The first latents that reach `REACHED` of the whole group's target change."""
        pairs = enumerate(self.targets, start=1)
        n = next(n for n, target in pairs if target >= REACHED * self.targets[-1])
        return self.latents[:n]

    def with_one(self, latent: int, target: float, other: float) -> "Group":
        """The group with one latent more."""
        targets, others = (*self.targets, target), (*self.others, other)
        return Group(self.class_id, (*self.latents, latent), targets, others)


def first_groups(rows: Sequence[LookupRow]) -> list[Group]:
    """The best chosen latent of each class, by itself, from rows with effects."""
    best: dict[int, LookupRow] = {}
    for row in rows:
        if row.chosen:
            known = best.setdefault(row.class_id, row)
            if (row.selectivity or 0.0) > (known.selectivity or 0.0):
                best[row.class_id] = row
    return [
        Group(c, (row.latent,), (row.target_change or 0.0,), (row.other_change or 0.0,))
        for c, row in sorted(best.items())
    ]


def grow_groups(
    pipeline: Pipeline,
    first: Sequence[Group],
    pools: Mapping[int, Sequence[int]],
    scale: float,
    turns_of: Callable[[int], Float64[Tensor, " n_images"]],
    loader_of: LoaderOf,
    *,
    max_group: int,
    progress: Progress = silent,
) -> list[Group]:
    """Each class's best group, of at most `max_group` latents of its pool.

    Args:
        pipeline: the frozen parts.
        first: groups of one latent, with what they do on all choosing images.
        pools: class id -> the latents that may be added.
        scale: at which the latents are set.
        turns_of: when which image judges a class, see `halving.turns`.
        loader_of: batches of the images at some positions, where so many latents are held.
        max_group: latents per class.
        progress: told about clean and edited images.
    """
    groups, growing = {one.class_id: one for one in first}, [one.class_id for one in first]
    for _ in range(max_group - 1):
        added = [
            (class_id, latent)
            for class_id in growing
            for latent in pools[class_id]
            if latent not in groups[class_id].latents
        ]
        if not added:
            break
        rows = [(c, [Member(latent) for latent in (*groups[c].latents, new)]) for c, new in added]
        n_latents = sum(len(members) for _, members in rows)
        tried = try_out(
            pipeline,
            rows,
            {scale: range(len(rows))},
            torch.stack([turns_of(c) for c, _ in added], dim=1),
            partial(loader_of, n_latents=n_latents),
            progress=progress,
        )[scale]
        growing = []
        for row in _best_of_class(added, tried.effects, tried.is_last):
            class_id, latent = added[row]
            target, other = tried.changes[:, row].tolist()
            if target - other >= groups[class_id].effect + LEAST_GAIN:
                groups[class_id] = groups[class_id].with_one(latent, target, other)
                growing.append(class_id)
    return list(groups.values())


def _best_of_class(added: Sequence[tuple[int, int]], effects: Tensor, is_last: Tensor) -> list[int]:
    """Per class the row with the largest effect of those that ran on all images; else the first."""
    best: dict[int, int] = {}
    for row, (class_id, _) in enumerate(added):
        if is_last[row]:
            known = best.setdefault(class_id, row)
            best[class_id] = row if effects[row] > effects[known] else known
    return list(best.values())


def judge_groups(
    pipeline: Pipeline,
    groups: Sequence[Group],
    scale: float,
    loader: Loader,
    progress: Progress = silent,
) -> Counts:
    """What the smallest groups do on the loader's images: one row each."""
    rows = [(one.class_id, [Member(latent) for latent in one.smallest]) for one in groups]
    (found,) = evaluate(
        pipeline,
        [Intervention((set_rows(pipeline, AutoFeat.command, scale, rows),))],
        loader,
        n_classes=len(loader.dataset.class_names),
        progress=progress,
        description="groups",
    )
    return found.counts


def kind_of(n_latents: int, n_patches: int, selectivity: float) -> str:
    """one, split, absent; or not told, where no patch is predicted as the class."""
    if not n_patches:
        return "not told"
    if selectivity < PRESENT:
        return "absent"
    return "one" if n_latents == 1 else "split"

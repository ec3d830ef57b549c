"""How often a latent would be chosen again: the choice made anew on resampled training images.

Blocks of neighbouring images are drawn with replacement, as many as there are; the rule chooses
anew among the best few candidates each time.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from semseg_cli.engine.blocks import N_BLOCKS, BlockDetections, block_of
from semseg_cli.ranks.collectives import all_sum
from semseg_cli.runs.lookup_csv import LookupRow

RESAMPLES = 200
RIVALS = 10  # candidates of each class, at least
LEAST_BLOCKS = 5  # with the class; from fewer nothing is said
SEED = 0


def resamples(n_blocks: int) -> np.ndarray:
    """How often each block is drawn [resamples, blocks]; the same for every class."""
    draw = np.random.default_rng(SEED)
    return draw.multinomial(n_blocks, [1 / n_blocks] * n_blocks, size=RESAMPLES).astype(float)


def chosen_again(scores_rj: np.ndarray, n_chosen: int) -> np.ndarray:
    """The share of resamples in which each candidate is among the `n_chosen` best with a positive
    score [candidates]; ties go to the first."""
    order_rj = np.argsort(-scores_rj, axis=1, kind="stable")[:, :n_chosen]
    won_rj = np.zeros(scores_rj.shape, dtype=bool)
    np.put_along_axis(won_rj, order_rj, True, axis=1)
    return (won_rj & (scores_rj > -np.inf)).mean(axis=0)


def f1_of_resamples(
    tp_gkj: np.ndarray, active_gkj: np.ndarray, n_g: np.ndarray, weights_rg: np.ndarray
) -> np.ndarray:
    """The best F1 over thresholds [resamples, candidates]; -inf where nothing is detected."""
    tp_rkj, active_rkj = (np.tensordot(weights_rg, each, 1) for each in (tp_gkj, active_gkj))
    n_r = (weights_rg @ n_g)[:, None, None]
    f1_rj = (2 * tp_rkj / np.maximum(active_rkj + n_r, 1)).max(axis=1)
    return np.where(f1_rj > 0, f1_rj, -np.inf)


def effects_of_resamples(counts_gj4: np.ndarray, weights_rg: np.ndarray) -> np.ndarray:
    """Target minus other change [resamples, candidates]; -inf where the class is not predicted."""
    n_orig, n_changed, n_other, n_other_changed = np.moveaxis(
        np.tensordot(weights_rg, counts_gj4, 1), -1, 0
    )
    effect_rj = n_changed / np.maximum(n_orig, 1) - n_other_changed / np.maximum(n_other, 1)
    return np.where(n_orig > 0, effect_rj, -np.inf)


def with_f1_stability(
    rows: Sequence[LookupRow], blocks: BlockDetections, n_chosen: int
) -> list[LookupRow]:
    """The rows, all candidates of each class by rank, with `stability` and `runner_up`."""
    if not rows:
        return []
    labels, latents = (torch.tensor([getattr(r, n) for r in rows]) for n in ("class_id", "latent"))
    tp_gkr, active_gkr = (each.numpy() for each in blocks.counts_of(labels, latents))
    n_gc, weights_rg = blocks.n.numpy(), resamples(len(blocks.n))
    made = []
    for own in _by_class(rows):
        # In the order of the latents, which decides ties.
        order = sorted(own, key=lambda i: rows[i].latent)
        n_g = n_gc[:, rows[own[0]].class_id]
        scores = f1_of_resamples(tp_gkr[:, :, order], active_gkr[:, :, order], n_g, weights_rg)
        shares = dict(zip(order, chosen_again(scores, n_chosen), strict=True))
        is_thin = (n_g > 0).sum() < LEAST_BLOCKS
        made += told([rows[i] for i in own], [None if is_thin else shares[i] for i in own])
    return made


def with_effect_stability(
    rows: Sequence[LookupRow], counts_gr4: Int64[Tensor, "g rows 4"], n_chosen: int
) -> list[LookupRow]:
    """The rows of the causal rules, tried on the same images of each class, with `stability` and
    `runner_up`; counts are by block."""
    counts = counts_gr4.numpy()
    weights_rg = resamples(len(counts))
    made = []
    for own in _by_class(rows):
        shares = chosen_again(effects_of_resamples(counts[:, own], weights_rg), n_chosen)
        is_thin = (counts[:, own[0], 0] > 0).sum() < LEAST_BLOCKS
        made += told([rows[i] for i in own], [None if is_thin else share for share in shares])
    return made


def by_block(
    per_image: Int64[Tensor, "b rows 4"], positions_b: Int64[Tensor, " b"], n_images: int
) -> Int64[Tensor, "g rows 4"]:
    """Counts per image, of the images at these of `n_images` positions, added up by block and over
    ranks."""
    total = torch.zeros(min(N_BLOCKS, n_images), *per_image.shape[1:], dtype=torch.int64)
    total.index_add_(0, block_of(positions_b, n_images), per_image)
    all_sum(total)
    return total


def told(rows: Sequence[LookupRow], shares: Sequence[float | None]) -> list[LookupRow]:
    """The rows of one class with their shares, and on the chosen ones the runner-up: of the others
    the one that is chosen most often, the better by rank where that says nothing."""
    made = [
        replace(row, stability=None if share is None else float(share))
        for row, share in zip(rows, shares, strict=True)
    ]
    others = sorted((-(r.stability or 0.0), r.rank, r.latent) for r in made if not r.chosen)
    runner_up = others[0][2] if others else None
    return [replace(row, runner_up=runner_up) if row.chosen else row for row in made]


def _by_class(rows: Sequence[LookupRow]) -> list[list[int]]:
    """Positions of the rows of each class; those of a class stand together."""
    groups = itertools.groupby(range(len(rows)), key=lambda i: rows[i].class_id)
    return [list(group) for _, group in groups]

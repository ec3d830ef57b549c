"""Edits of one length: values of latents at which each class's edit is as long as all others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float64
from torch import Tensor

from semseg_cli.data.loader import Loader
from semseg_cli.engine.edited_batch import n_latents_held
from semseg_cli.engine.edits import MAX_SCALE, Edit, Intervention
from semseg_cli.engine.latent_edits import Groups, set_latents
from semseg_cli.engine.pushes import mean_moves
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.progress import Progress, silent
from semseg_cli.runs.lookup_csv import Member
from semseg_cli.settings.inputs import Protocol
from semseg_cli.typed import typed

TOLERANCE = 0.01  # of the length asked for
BOUND = MAX_SCALE * (1 - 1e-9)  # so that no product is rounded beyond it
MOST_PASSES = 6  # lengths of a single latent are met after two


@dataclass(frozen=True)
class Matched:
    """Latents with coefficients at which their edits are as long as asked for, and the length of
    each class's edit, by that of the residual, which tells where that cannot be."""

    groups: Groups
    lengths: dict[int, float]

    def apart(self, length: float) -> list[int]:
        """The classes whose edits are of another length."""
        return [c for c, found in self.lengths.items() if abs(found - length) > TOLERANCE * length]


def at_length(
    pipeline: Pipeline,
    scale: float,
    latents: Groups,
    length: float,
    load: Callable[[int], Loader],
    protocol: Protocol,
    progress: Progress = silent,
) -> Matched:
    """The latents at values, on the side of 0 that the scale (below 0) names, where the mean length
    of each class's edit, by that of the residual, is `length`.

    Means are over the patches that the protocol edits. The members of a group keep the proportions
    of their values. No value goes beyond 0 or 10 times a maximum: there an edit is as near to the
    length as it can be. `load` gives batches for so many latents held.
    """
    class_ids = sorted(latents)
    ends_k = torch.tensor([_end(scale, latents[c]) for c in class_ids], dtype=torch.float64)
    factors_k = torch.ones_like(ends_k).minimum(ends_k)
    seen: list[tuple[Tensor, Tensor]] = []
    for _ in range(MOST_PASSES):
        groups = _times(latents, class_ids, factors_k)
        edit = set_latents(pipeline, "matched", scale, groups)
        loader = load(n_latents_held([Intervention((edit,))]))
        seen.append((factors_k, _lengths(pipeline, edit, loader, protocol, progress)))
        nearer_k = _nearer(seen, length).clamp(min=0.0).minimum(ends_k)
        if torch.equal(nearer_k, factors_k):
            break
        factors_k = nearer_k
    best_k = torch.stack([(found_k - length).abs() for _, found_k in seen]).argmin(dim=0)
    rows = range(len(class_ids))
    factors_k = torch.stack([factors for factors, _ in seen])[best_k, rows]
    lengths_k = torch.stack([found for _, found in seen])[best_k, rows]
    found = dict(zip(class_ids, lengths_k.tolist(), strict=True))
    return Matched(_times(latents, class_ids, factors_k), found)


def _end(scale: float, members: Sequence[Member]) -> float:
    """The largest factor that leaves all values within bounds."""
    largest = abs(scale) * max(abs(one.coefficient) for one in members)
    return BOUND / largest if largest else 1.0


def _times(latents: Groups, class_ids: Sequence[int], factors_k: Tensor) -> Groups:
    return {
        class_id: [replace(one, coefficient=one.coefficient * factor) for one in latents[class_id]]
        for class_id, factor in zip(class_ids, factors_k.tolist(), strict=True)
    }


def _lengths(
    pipeline: Pipeline, edit: Edit, loader: Loader, protocol: Protocol, progress: Progress
) -> Float64[Tensor, " k"]:
    (moves,) = mean_moves(pipeline, [edit], loader, protocol, progress)
    return moves.ratios_k.cpu()


@typed
def _nearer(
    seen: Sequence[tuple[Float64[Tensor, " k"], Float64[Tensor, " k"]]], length: float
) -> Float64[Tensor, " k"]:
    """Factors at which lengths should be nearer to the one asked for; the last, where they are
    there already.

    From one length as if it rose from 0 in proportion, else along the line through the last two:
    exact for a single latent below 0, whose edit grows on every patch by what its value falls.
    """
    factors_k, lengths_k = seen[-1]
    is_met_k = (lengths_k - length).abs() <= TOLERANCE * length * 0.1
    rises_k = lengths_k / factors_k
    if len(seen) > 1:
        before_k, lengths_before_k = seen[-2]
        rises_k = (lengths_k - lengths_before_k) / (factors_k - before_k)
    step_k = (length - lengths_k) / rises_k
    return torch.where(is_met_k | ~step_k.isfinite(), factors_k, factors_k + step_k)

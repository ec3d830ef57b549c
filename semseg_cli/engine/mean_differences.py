"""Differences of means and discriminants: a class's supervised direction, without autopipeline."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from semseg_cli.data.loader import Loader
from semseg_cli.errors import SemsegError
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.progress import Progress, silent
from semseg_cli.ranks.collectives import all_sum
from semseg_cli.settings.intervening import Direction

ROUNDING = 1e-9  # of the mean square length of residuals


@dataclass(frozen=True)
class Differences:
    """Per label 0..C: a unit vector that tells its clean patches from all others, and the mean of
    the others. Labels without clean patches have zero vectors."""

    units_cd: Float[Tensor, "c d"]
    others_cd: Float[Tensor, "c d"]


@torch.inference_mode()
def mean_differences(
    pipeline: Pipeline,
    loader: Loader,
    label_threshold: float,
    progress: Progress = silent,
    direction: Direction = "mean",
) -> Differences:
    """Directions in raw residuals from the clean patches of the loader's images.

    "mean": from the mean of all other clean patches to that of the label's own. "lda": the same,
    divided by the covariance within labels, which `shrunk` makes invertible.

    Raises:
        SemsegError: no patch is clean.
    """
    dataset = loader.dataset
    n_labels = len(dataset.class_names) + 1
    sums = torch.zeros(n_labels, pipeline.vit.d_model, dtype=torch.float64, device=pipeline.device)
    counts = torch.zeros(n_labels, dtype=torch.float64, device=pipeline.device)
    squares = sums.new_zeros(pipeline.vit.d_model, pipeline.vit.d_model)
    advance = progress("mean differences", len(loader.positions))
    for batch, tokens_bnd in pipeline.residuals(loader):
        is_clean_bt = (batch.share_bt >= label_threshold).to(pipeline.device)
        labels_n = batch.labels_bt.to(pipeline.device)[is_clean_bt]
        patches_nd = pipeline.patches(tokens_bnd)[is_clean_bt]
        sums.index_add_(0, labels_n, patches_nd.double())
        counts.index_add_(0, labels_n, torch.ones_like(labels_n, dtype=torch.float64))
        if direction == "lda":
            squares += patches_nd.double().T @ patches_nd.double()
        advance(len(batch))
    all_sum(sums, counts, squares)
    if not int(counts.sum()):
        raise SemsegError("No patch of the lookup split is clean: lower --label-threshold.")
    own = sums / counts.clamp(min=1)[:, None]
    others = (sums.sum(dim=0) - sums) / (counts.sum() - counts).clamp(min=1)[:, None]
    has_both_c1 = ((counts > 0) & (counts < counts.sum()))[:, None]
    gaps = own - others
    if direction == "lda":
        within = (squares - (counts[:, None] * own).T @ own) / counts.sum()
        known = shrunk(within, int(counts.sum()))
        # Patches of a class may be all alike: rounding is no spread.
        known += torch.eye(len(known)).to(known) * ROUNDING * squares.trace() / counts.sum()
        gaps = torch.linalg.solve(known, gaps.T).T
    units = torch.nn.functional.normalize(gaps, dim=1) * has_both_c1
    return Differences(units.float(), (others * has_both_c1).float())


def shrunk(covariance_dd: Float[Tensor, "d d"], n: int) -> Float[Tensor, "d d"]:
    """A covariance of n vectors, drawn towards a multiple of the identity.

    The weight is the oracle approximating one of Chen, Wiesel, Eldar and Hero (2010, equation 23).
    """
    d = len(covariance_dd)
    trace, of_square = covariance_dd.trace(), covariance_dd.square().sum()
    spread = (n + 1 - 2 / d) * (of_square - trace**2 / d)
    weight = 1.0 if spread <= 0 else min(1.0, float(((1 - 2 / d) * of_square + trace**2) / spread))
    scaled_identity = torch.eye(d).to(covariance_dd) * trace / d
    return (1 - weight) * covariance_dd + weight * scaled_identity

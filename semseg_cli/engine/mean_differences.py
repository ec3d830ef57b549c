"""Differences of means: the supervised direction of a class, without any autoencoder."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from semseg_cli.data.loader import Loader
from semseg_cli.errors import SemsegError
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.progress import Progress, silent
from semseg_cli.ranks.collectives import all_sum


@dataclass(frozen=True)
class Differences:
    """Per label 0..C: the unit vector from the mean of all other clean patches to the mean of the
    label's own, and the mean of the others. Labels without clean patches have zero vectors."""

    units_cd: Float[Tensor, "c d"]
    others_cd: Float[Tensor, "c d"]


@torch.inference_mode()
def mean_differences(
    pipeline: Pipeline, loader: Loader, label_threshold: float, progress: Progress = silent
) -> Differences:
    """Differences of means of raw residuals over the clean patches of the loader's images.

    Raises:
        SemsegError: no patch is clean.
    """
    dataset = loader.dataset
    n_labels = len(dataset.class_names) + 1
    sums = torch.zeros(n_labels, pipeline.vit.d_model, dtype=torch.float64, device=pipeline.device)
    counts = torch.zeros(n_labels, dtype=torch.float64, device=pipeline.device)
    advance = progress("mean differences", len(loader.positions))
    for batch, tokens_bnd in pipeline.residuals(loader):
        is_clean_bt = (batch.share_bt >= label_threshold).to(pipeline.device)
        labels_n = batch.labels_bt.to(pipeline.device)[is_clean_bt]
        patches_nd = pipeline.patches(tokens_bnd)[is_clean_bt]
        sums.index_add_(0, labels_n, patches_nd.double())
        counts.index_add_(0, labels_n, torch.ones_like(labels_n, dtype=torch.float64))
        advance(len(batch))
    all_sum(sums, counts)
    if not int(counts.sum()):
        raise SemsegError("No patch of the lookup split is clean: lower --label-threshold.")
    own = sums / counts.clamp(min=1)[:, None]
    others = (sums.sum(dim=0) - sums) / (counts.sum() - counts).clamp(min=1)[:, None]
    units = torch.nn.functional.normalize(own - others, dim=1) * (counts > 0)[:, None]
    return Differences(units.float(), others.float())

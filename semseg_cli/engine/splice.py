"""A reconstruction in place of the residual, without its error: what the network then predicts.

A dictionary whose reconstruction loses a class cannot explain it, whatever its latents do.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from semseg_cli.data.batches import Batch
from semseg_cli.data.loader import Loader
from semseg_cli.engine.counts import Counts
from semseg_cli.engine.segmentation import Segmentation, count_pixels, segmentation
from semseg_cli.models.memory_budget import in_passes
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.models.sae import SparseAutoencoder
from semseg_cli.progress import Progress, silent
from semseg_cli.ranks.collectives import all_sum

LOST = 0.5  # of a class's patches: fewer that stay mean that the reconstruction loses the class

# From the autoencoder's inputs to what they are rebuilt as.
Reconstruct = Callable[[Float[Tensor, "n d"]], Float[Tensor, "n d"]]


def by_sae(sae: SparseAutoencoder) -> Reconstruct:
    """The autoencoder's own reconstruction."""
    return lambda z_nd: in_passes(lambda part_nd: sae(part_nd)[0], z_nd, sae.chunk_rows)


def by_pca(inputs_nd: Float[Tensor, "n d"], rank: int) -> Reconstruct:
    """The projection on as many principal axes of the inputs."""
    mean_d = inputs_nd.mean(dim=0)
    centred = (inputs_nd - mean_d).double()
    axes_dk = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -rank:].to(inputs_nd)
    return lambda z_nd: mean_d + (z_nd - mean_d) @ axes_dk @ axes_dk.T


def equal_rank(pipeline: Pipeline) -> int:
    """As many axes as latents are active on a patch, in the mean; at least one."""
    l0 = float(pipeline.latent_stats.sparsity.double().sum())
    return min(max(1, round(l0)), pipeline.sae.d_model)


@dataclass(frozen=True)
class Predicted:
    """Predictions with a reconstruction in place of the residual: `counts` has the patches of each
    clean class and those of them that change; `before` and `after` [C, C] labelled patches by label
    and prediction."""

    counts: Counts
    before: Int64[Tensor, "c c"]
    after: Int64[Tensor, "c c"]

    @property
    def segmented(self) -> tuple[Segmentation, Segmentation]:
        """How well patches are segmented, before and after."""
        return segmentation(self.before), segmentation(self.after)

    @property
    def n_kept(self) -> Int64[Tensor, "c 2"]:
        """Per class the patches that are predicted as it, and those that still are."""
        n_clean, n_changed = self.counts.per_draw[0, :, :2].unbind(dim=1)
        return torch.stack([n_clean, n_clean - n_changed], dim=1)

    @property
    def unchanged(self) -> float:
        """The share of all patches that keep their class."""
        n_clean, n_same = self.n_kept.sum(dim=0).tolist()
        return n_same / max(1, n_clean)

    @property
    def lost(self) -> list[int]:
        """The ids of classes that most of their patches do not keep."""
        pairs = enumerate(self.n_kept.tolist(), start=1)
        return [c for c, (n_clean, n_same) in pairs if n_same < LOST * n_clean]


@dataclass(frozen=True)
class Spliced:
    """One reconstruction of all patches; `predicted` is None without a head."""

    explained_variance: float
    predicted: Predicted | None


@torch.inference_mode()
def splice(
    pipeline: Pipeline,
    loader: Loader,
    reconstructions: Mapping[str, Reconstruct],
    progress: Progress = silent,
) -> dict[str, Spliced]:
    """What each reconstruction does to the network, in one pass over the images.

    Of several ranks all have the totals; counts per image are their own until they are gathered.
    """
    found = {name: _Sums(pipeline, loader) for name in reconstructions}
    whole = torch.zeros(pipeline.sae.d_model + 2, dtype=torch.float64, device=pipeline.device)
    advance = progress("splicing", len(loader.positions))
    for batch, tokens_bnd in pipeline.residuals(loader):
        patches_btd = pipeline.patches(tokens_bnd)
        z_nd = pipeline.sae.scale(patches_btd.flatten(0, 1))
        wide_nd = z_nd.double()
        n = torch.full_like(whole[:1], len(z_nd))
        whole += torch.cat([wide_nd.sum(dim=0), n, wide_nd.square().sum()[None]])
        clean_bt = None if pipeline.head is None else pipeline.predict(tokens_bnd).classes_bt
        for name, reconstruct in reconstructions.items():
            rebuilt_nd = reconstruct(z_nd)
            found[name].error += (rebuilt_nd - z_nd).double().square().sum()
            if clean_bt is not None:
                spliced_bnd = in_place(pipeline, tokens_bnd, rebuilt_nd)
                found[name].add(batch, clean_bt, pipeline.predict(spliced_bnd).classes_bt)
        advance(len(batch))
    all_sum(whole)
    variance = whole[-1] - whole[:-2].square().sum() / whole[-2]
    return {name: sums.spliced(float(variance)) for name, sums in found.items()}


def in_place(
    pipeline: Pipeline, tokens_bnd: Float[Tensor, "b n e"], rebuilt_nd: Float[Tensor, "n d"]
) -> Float[Tensor, "b n e"]:
    """The tokens with these inputs of the autoencoder in place of their patches; CLS and registers
    stay."""
    sae = pipeline.sae
    raw_nd = rebuilt_nd * sae.act_norm + sae.act_mean
    made = tokens_bnd.clone()
    patches_btd = pipeline.vit.patches(made)
    patches_btd.copy_(raw_nd.view(patches_btd.shape).to(made.dtype))
    return made


class _Sums:
    """What is added up of one reconstruction."""

    def __init__(self, pipeline: Pipeline, loader: Loader) -> None:
        own, n_classes = loader.positions, len(loader.dataset.class_names)
        self.error = torch.zeros((), dtype=torch.float64, device=pipeline.device)
        self.has_head = pipeline.head is not None
        self.counts = Counts(range(1, n_classes + 1), len(own), n_classes, begin=own.start)
        self.confusions = torch.zeros(2, n_classes, n_classes, dtype=torch.int64)

    def add(self, batch: Batch, clean_bt: Tensor, spliced_bt: Tensor) -> None:
        """Counts the patches of a batch."""
        self.counts.add_pair(batch.positions_b.to(clean_bt.device), clean_bt, spliced_bt)
        labels_n = batch.labels_bt.flatten()
        for matrix, classes_bt in zip(self.confusions, (clean_bt, spliced_bt), strict=True):
            matrix += count_pixels(labels_n, classes_bt.flatten().long().cpu(), len(matrix))

    def spliced(self, variance: float) -> Spliced:
        """The totals of all ranks."""
        all_sum(self.error, self.confusions)
        self.counts.add_ranks()
        explained = 1 - float(self.error) / variance if variance > 0 else 0.0
        before, after = self.confusions
        return Spliced(explained, Predicted(self.counts, before, after) if self.has_head else None)

"""Dictionaries that were never trained, in the shape of one that was: what a trained one must beat.

Latents of both kinds fire as often as those of the given autoencoder, so `--max-freq` asks the same
of them.
"""

import copy

import torch
from jaxtyping import Float
from torch import Tensor

from semseg_cli.data.dataset import even_subset
from semseg_cli.data.loader import Loader
from semseg_cli.engine.edits import generator
from semseg_cli.errors import SemsegError
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.models.sae import SparseAutoencoder
from semseg_cli.progress import Progress, silent
from semseg_cli.ranks.collectives import all_sum

N_SAMPLED = 2**14  # patches
AT_ONCE = 2**24  # pre-activations
NEVER = 1e30  # a threshold that nothing reaches


def shuffled_sae(sae: SparseAutoencoder, seed: int) -> SparseAutoencoder:
    """The rows of the decoder permuted: latents detect what they did, and write what others did."""
    made = copy.deepcopy(sae)
    order = torch.randperm(sae.d_sae, generator=generator(seed, "shuffled", 0))
    made.W_dec = sae.W_dec[order.to(sae.W_dec.device)]
    made.budget = sae.budget
    return made


@torch.inference_mode()
def sampled_inputs(
    pipeline: Pipeline, loader: Loader, progress: Progress = silent
) -> Float[Tensor, "n d"]:
    """The autoencoder's inputs at evenly spread patches of the loader's images; alike on all ranks.

    All patches, where there are no more than `N_SAMPLED`.
    """
    n_patches, n_images = pipeline.vit.n_patches_per_img, len(loader.dataset)
    chosen = torch.tensor(even_subset(n_images * n_patches, N_SAMPLED))
    found = torch.zeros(len(chosen), pipeline.vit.d_model, device=pipeline.device)
    advance = progress("sampling patches", len(loader.positions))
    for batch, tokens_bnd in pipeline.residuals(loader):
        patches_btd = pipeline.patches(tokens_bnd)
        for position, patches_td in zip(batch.positions_b.tolist(), patches_btd, strict=True):
            rows = torch.nonzero(chosen // n_patches == position).flatten()
            found[rows] = pipeline.sae.scale(patches_td[chosen[rows] % n_patches])
        advance(len(batch))
    all_sum(found)
    return found


def pca_sae(pipeline: Pipeline, inputs_nd: Float[Tensor, "n d"], seed: int) -> SparseAutoencoder:
    """Latents along the principal directions of the inputs, two for each: one for either sign.

    As many latents as the given autoencoder has, or twice the width where that is less; which of
    its frequencies belongs to which latent is drawn.
    """
    n_latents = min(pipeline.sae.d_sae, 2 * pipeline.sae.d_model)
    centred = (inputs_nd - inputs_nd.mean(dim=0)).double()
    axes_dd = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1).T  # largest first
    largest_d1 = axes_dd.gather(1, axes_dd.abs().argmax(dim=1, keepdim=True))
    axes_dd = axes_dd * largest_d1.sign()  # else the sign is the machine's choice
    rows_sd = torch.stack([axes_dd, -axes_dd], dim=1).flatten(0, 1)[:n_latents]
    live = live_frequencies(pipeline)
    spread = live[torch.arange(n_latents) * len(live) // n_latents]
    order = torch.randperm(n_latents, generator=generator(seed, "pca-sae", 0))
    return _with_frequencies(pipeline.sae, rows_sd.float(), inputs_nd, spread[order])


def live_frequencies(pipeline: Pipeline) -> Float[Tensor, " l"]:
    """The firing frequencies of the latents that ever fired, rising.

    Raises:
        SemsegError: none did.
    """
    found = pipeline.latent_stats.sparsity
    live = found[found > 0].sort().values
    if not len(live):
        raise SemsegError("No latent of the SAE ever fired: check --sparsity.")
    return live


def random_sae(pipeline: Pipeline, inputs_nd: Float[Tensor, "n d"], seed: int) -> SparseAutoencoder:
    """Latents along uniformly random directions, each as frequent as the given one of its number.

    The encoder is the decoder transposed.
    """
    sae = pipeline.sae
    source = generator(seed, "random-sae", 0)
    rows_sd = torch.randn(sae.d_sae, sae.d_model, generator=source).to(pipeline.device)
    units_sd = torch.nn.functional.normalize(rows_sd, dim=1)
    return _with_frequencies(sae, units_sd, inputs_nd, pipeline.latent_stats.sparsity)


def _with_frequencies(
    like: SparseAutoencoder, units_sd: Tensor, inputs_nd: Tensor, frequencies_s: Tensor
) -> SparseAutoencoder:
    """A ReLU autoencoder with these decoder rows, and biases that set how often latents fire."""
    biases_s = -thresholds(inputs_nd, units_sd, frequencies_s)
    made = SparseAutoencoder(units_sd.T, biases_s, units_sd, torch.zeros_like(like.b_dec))
    made.budget = like.budget
    return made.scaled(like.act_mean, float(like.act_norm))


@torch.inference_mode()
def thresholds(
    inputs_nd: Float[Tensor, "n d"],
    units_sd: Float[Tensor, "s d"],
    frequencies_s: Float[Tensor, " s"],
) -> Float[Tensor, " s"]:
    """Per direction the value that a share of the inputs exceeds: halfway between two of them.

    At least one input and not all, however rare or common; none for a frequency of 0.
    """
    n = len(inputs_nd)
    n_above_s = (frequencies_s.double() * n).round().long().clamp(1, n - 1).to(inputs_nd.device)
    found = []
    step = max(1, AT_ONCE // n)
    for units_kd, n_above_k in zip(units_sd.split(step), n_above_s.split(step), strict=True):
        values_kn = (units_kd @ inputs_nd.T).sort(dim=1, descending=True).values
        pairs_k2 = torch.stack([n_above_k - 1, n_above_k], dim=1)
        found.append(values_kn.gather(1, pairs_k2).mean(dim=1))
    return torch.where(frequencies_s.to(inputs_nd.device) > 0, torch.cat(found), NEVER)

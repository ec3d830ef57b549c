"""What edits read from the patches of a batch, and how far each patch then moves."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from semseg_cli.engine.edits import Edit, Intervention, Latents, Projections
from semseg_cli.models.sae import SparseAutoencoder


@dataclass(frozen=True, eq=False)
class Readings:
    """The patches of a batch, and of each autoencoder the activations that some edit reads.

    `scales` has by how much each token's own scale stretches what a latent writes (None: 1).
    """

    patches_btd: Float[Tensor, "b t d"]
    acts: dict[SparseAutoencoder, dict[int, Float[Tensor, "b t"]]]
    scales: dict[SparseAutoencoder, Float[Tensor, "b t"] | None]


def latents_read(interventions: Sequence[Intervention]) -> dict[SparseAutoencoder, list[int]]:
    """Of each autoencoder the latents that some edit reads."""
    found: dict[SparseAutoencoder, set[int]] = {}
    for reads in (edit.reads for one in interventions for edit in one.draws):
        if isinstance(reads, Latents):
            found.setdefault(reads.sae, set()).update(reads.ids_kg.flatten().tolist())
    return {sae: sorted(ids - {-1}) for sae, ids in found.items()}


@torch.inference_mode()
def read(patches_btd: Float[Tensor, "b t d"], interventions: Sequence[Intervention]) -> Readings:
    """What the edits of a batch read."""
    acts = {}
    wanted = latents_read(interventions)
    for sae, latents in wanted.items():
        columns = sae.columns(patches_btd, torch.tensor(latents).long())
        acts[sae] = dict(zip(latents, columns.unbind(dim=-1), strict=True))
    return Readings(patches_btd, acts, {sae: sae.token_scale(patches_btd) for sae in wanted})


@torch.inference_mode()
def coefficients(edit: Edit, readings: Readings) -> Float[Tensor, "b t k g"]:
    """How far each patch moves along each direction of each row."""
    b, t, _ = readings.patches_btd.shape
    if edit.reads is None:
        return edit.values_kg.expand(b, t, -1, -1)
    if isinstance(edit.reads, Projections):
        return edit.values_kg - edit.reads.read(readings.patches_btd)
    none = torch.zeros((), device=edit.values_kg.device).expand(b, t)
    ids, known = edit.reads.ids_kg, readings.acts[edit.reads.sae]
    acts = [known[latent] if latent >= 0 else none for latent in ids.flatten().tolist()]
    coefs_btkg = edit.values_kg - torch.stack(acts, dim=-1).view(b, t, *ids.shape)
    scale_bt = readings.scales[edit.reads.sae]
    return coefs_btkg if scale_bt is None else coefs_btkg * scale_bt[..., None, None]

"""How well an autoencoder fits residuals, and which layer or input scaling would fit better."""

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from semseg_cli.experiment.named_inputs import MEASURED
from semseg_cli.experiment.place import Place
from semseg_cli.models.sae import SparseAutoencoder, reconstruction_error
from semseg_cli.models.sae.scaling import measured_scaling
from semseg_cli.models.vit import Backbone
from semseg_cli.models.vit.sites import NORM_OUT, RESID_POST
from semseg_cli.typed import typed

SCAN_IMAGES, SCAN_PATCHES = 4, 256  # every layer is tried: few patches have to do
GOOD = 0.5  # explained variance from which an autoencoder counts as fitting
MARGIN = 0.1  # of explained variance: what another choice has to be better by to be told,
SMALL_MARGIN = 0.02  # or this, where it halves what is left unexplained
LEAST_PATCHES = 20  # from which a fit says anything
LEAST_SPREAD = 1e-4  # of patches, as the share of their variance in their squared length
NONE, OWN = "none", "own"  # scalings of the autoencoder's input, beside MEASURED
SUSPICION = {OWN: 0.0, MEASURED: 0.0, NONE: 0.05}  # that a good fit is luck: the rest is likelier
SCALINGS = {
    MEASURED: (
        "with the mean and norm of these images",
        "give those it was trained with (--stats FILE), or "
        f"--act-mean {MEASURED} --act-norm {MEASURED}",
    ),
    NONE: ("without input scaling", "try --act-mean 0 --act-norm 1"),
}


@dataclass(frozen=True)
class Fit:
    """An autoencoder on patches, in its input space.

    `normalised_mse` is the squared error over the squared length of the input, and
    `explained_variance` is 1 - squared error over its variance. `dead_share`: of the latents, those
    that are active on none of the patches.
    """

    normalised_mse: float
    explained_variance: float
    l0: float
    dead_share: float
    n_patches: int


@torch.inference_mode()
@typed
def measure_fit(sae: SparseAutoencoder, x_nd: Float[Tensor, "n d"]) -> Fit:
    """The fit on raw residuals, with the scaling that the autoencoder has."""
    z_nd = sae.scale(x_nd)
    n_active_s = torch.zeros(sae.d_sae, dtype=torch.int64, device=z_nd.device)
    error = torch.zeros((), dtype=torch.float64, device=z_nd.device)
    for part in z_nd.split(sae.chunk_rows):
        x_hat, f, _ = sae(part)
        error += (x_hat - part).double().square().sum()
        n_active_s += (f > 0).sum(dim=0)
    z_nd = z_nd.double()
    variance = (z_nd - z_nd.mean(dim=0)).square().sum()
    return Fit(
        normalised_mse=float(error / z_nd.square().sum()),
        explained_variance=float(1 - error / variance),
        l0=int(n_active_s.sum()) / len(z_nd),
        dead_share=float((n_active_s == 0).double().mean()),
        n_patches=len(z_nd),
    )


def scaling(
    sae: SparseAutoencoder, name: str, x_nd: Tensor, given: Mapping[str, Tensor] | None = None
) -> AbstractContextManager[None]:
    """Gives the autoencoder an input scaling for the length of a block.

    OWN is what is given of act_mean and act_norm; what is not is measured on these residuals.
    """
    if name == NONE:
        return sae.rescaled(torch.zeros_like(sae.act_mean), 1.0)
    known = given if name == OWN else None
    return sae.rescaled(*measured_scaling(x_nd, sae.norm_kind, known))


@dataclass(frozen=True)
class Choice:
    """A layer, a site and an input scaling, and the share of the variance that the autoencoder
    explains; NaN where there are too few patches, or they are all alike."""

    layer: int
    scaling: str
    explained_variance: float
    site: str = RESID_POST


Plan = Sequence[tuple[int, str, str]]  # layer, site, scaling


@torch.inference_mode()
def try_others(
    vit: Backbone,
    sae: SparseAutoencoder,
    images_bchw: Tensor,
    place: Place,
    given: Mapping[str, Tensor],
) -> tuple[Choice, Choice]:
    """The choice in use, and the one that explains most (the same, unless another is clearly best).

    All layers are tried with the scaling in use, and the layer in use with other scalings; if none
    of these fits, all layers with their own mean and norm. At the site in use, and at its usual
    alternative: the final norm's output, or the residual stream after blocks.

    Args:
        vit: gives the residuals.
        sae: is tried; its scaling is left as it is.
        images_bchw: a few images.
        place: the layer and site in use.
        given: statistics that are known; scaling that is not is each layer's own.
    """
    at = place.layer, place.site
    usual = OWN if {"act_mean", "act_norm"} & given.keys() else MEASURED
    few = _few_patches(vit, images_bchw[:SCAN_IMAGES], place.site)

    def tried(plan: Plan) -> list[Choice]:
        return [
            _tried(sae, few[layer, site], layer, site, name, given) for layer, site, name in plan
        ]

    found = tried([(*one, usual) for one in few])
    found += tried([(*at, name) for name in (MEASURED, NONE) if name != usual])
    if usual == OWN and not any(one.explained_variance >= GOOD for one in found):
        found += tried([(*one, MEASURED) for one in few if one != at])
    used = next(one for one in found if (one.layer, one.site, one.scaling) == (*at, usual))
    best = max(found, key=_likeliness)
    return used, best if _is_clear(used.explained_variance, best.explained_variance) else used


def _likeliness(choice: Choice) -> float:
    """The larger, the likelier is it the right one; where nothing was explained it is not."""
    known = not math.isnan(choice.explained_variance)
    return choice.explained_variance - SUSPICION[choice.scaling] if known else -math.inf


def _few_patches(vit: Backbone, images_bchw: Tensor, site: str) -> dict[tuple[int, str], Tensor]:
    """By layer and site some of the patches, [n d]: of all layers at the residual stream and at
    the site in use; where that is the residual stream, after the final norm as well."""
    found, n = {}, vit.n_layers
    for one in dict.fromkeys((RESID_POST, site)):
        for layer, tokens in enumerate(vit.residuals(images_bchw, one), start=1):
            if one != NORM_OUT or layer == n:
                x_nd = vit.patches(tokens).flatten(0, 1)
                found[layer, one] = x_nd[:: -(-len(x_nd) // SCAN_PATCHES)]
    if site == RESID_POST:
        found[n, NORM_OUT] = vit.family.final_norm(vit.model)(found[n, site])
    return {at: x_nd.float() for at, x_nd in found.items()}


def _tried(
    sae: SparseAutoencoder,
    x_nd: Tensor,
    layer: int,
    site: str,
    name: str,
    given: Mapping[str, Tensor],
) -> Choice:
    if len(x_nd) < LEAST_PATCHES or _spread(x_nd) < LEAST_SPREAD:
        return Choice(layer, name, math.nan, site)
    with scaling(sae, name, x_nd, given):
        return Choice(layer, name, 1 - reconstruction_error(sae, x_nd), site)


def _spread(x_nd: Tensor) -> float:
    x_nd = x_nd.double()
    length = float(x_nd.square().sum())
    return float((x_nd - x_nd.mean(dim=0)).square().sum()) / length if length else 0.0


def _is_clear(used: float, best: float) -> bool:
    halves = best - used >= SMALL_MARGIN and 1 - best <= (1 - used) / 2
    return best >= 0 and (halves or best - used >= MARGIN)


def advise(used: Choice, best: Choice) -> str:
    """Which option is likely wrong, in one sentence; empty where all is well."""
    if best == used:
        if not used.explained_variance < GOOD:
            return ""
        return (
            "No other layer, no other input scaling and neither the residual stream nor the final "
            "norm's output fits clearly better: --sae-ckpt is likely wrong, trained on another "
            "model than --vit-ckpt, or on other tokens or images; or it explains little everywhere."
        )
    wrong, tries, what = [], [], ["the SAE"]
    if best.layer != used.layer:
        wrong.append("--vit-layer")
        tries.append(f"try --vit-layer {best.layer}")
        what.append(f"at layer {best.layer}")
    if best.site != used.site:
        wrong.append("--vit-site")
        tries.append(f"try --vit-site {best.site}")
        what.append(f"at {best.site}")
    if best.scaling != used.scaling:
        wrong.append("the input scaling (--act-mean, --act-norm)")
        word, advice = SCALINGS[best.scaling]
        tries.append(advice)
        what.append(word)
    return (
        f"Likely wrong: {' and '.join(wrong)}; {' '.join(what)} explains "
        f"{best.explained_variance:.3f} of the variance of some of the patches: "
        f"{' and '.join(tries)}."
    )

"""A small ViT and head whose weights are written down: how patches become factors, and classes.

Axes of the residual stream: one that every patch has in full (`base`), one per class for evidence,
and the rest, in which each factor has a random direction; all are orthogonal to the mean that layer
norms take away. Block 1 does nothing and the autoencoder sits behind it. Block 2 turns factors into
evidence. Block 3 leaks evidence between the patches of an image. Thresholds are in units of the
base, so that the length of an edit alone, which layer norms divide by, changes no class.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from benchmarks.planted.plan import CAP, GROUND_LEVEL, Plan, rng
from semseg_cli.data.preprocessing import Preprocessing
from semseg_cli.models.head import SegmentationHead
from semseg_cli.typed import typed

PATCH_PX, BLOCK_PX = 12, 2  # a patch, and its pieces of one colour
N_PATTERN = 3 * (PATCH_PX // BLOCK_PX) ** 2
PIXELS = 30.0  # a factor of strength 1 has a pattern of this length
GREY = 127.5
BASE = 12.0  # what every patch has along the base
GAIN = 1.5  # of evidence
SHARP = 12.0  # how sharply neurons bend at their thresholds
LAYER = 1  # of the autoencoder


@dataclass(frozen=True)
class Axes:
    """Directions in the residual stream, and what reads single factors from it."""

    base_d: Float[Tensor, " d"]
    evidence_cd: Float[Tensor, "c d"]
    factors_fd: Float[Tensor, "f d"]
    rest_nd: Float[Tensor, "n d"]  # of unit length, orthogonal: where factors lie

    @property
    def readers_fd(self) -> Float[Tensor, "f d"]:
        """What reads each factor and no other one."""
        return torch.linalg.pinv(self.factors_fd.double()).T.float()


def make_axes(plan: Plan) -> Axes:
    """Random axes; factors have no more in common than random directions have."""
    d, n_classes, draw = plan.size.d_model, len(plan.classes), rng(plan.seed, "axes")
    start = np.concatenate([np.ones((d, 1)), draw.normal(size=(d, d - 1))], axis=1)
    found = torch.from_numpy(np.linalg.qr(start).Q.T[1:].copy())
    base_d, evidence_cd, rest_nd = found[0], found[1 : n_classes + 1], found[n_classes + 1 :]
    mixed_fn = torch.from_numpy(draw.normal(size=(len(plan.factors), len(rest_nd))))
    factors_fd = torch.nn.functional.normalize(mixed_fn, dim=1) @ rest_nd
    return Axes(base_d.float(), evidence_cd.float(), factors_fd.float(), rest_nd.float())


@typed
def make_patterns(plan: Plan) -> Float64[np.ndarray, "f n"]:
    """What each factor looks like: orthonormal rows of brightness of a patch's pieces."""
    drawn = rng(plan.seed, "patterns").normal(size=(N_PATTERN, len(plan.factors)))
    return np.linalg.qr(drawn).Q.T.copy()


def make_preprocessing(plan: Plan) -> Preprocessing:
    """DINOv2's at the size of the patches: a margin around them is cut off."""
    side = plan.size.grid * PATCH_PX
    return Preprocessing().sized((side, side))


def make_vit(plan: Plan, axes: Axes) -> Any:
    """The transformers model; see the module's docstring."""
    from transformers import Dinov2Config, Dinov2Model

    neurons = make_neurons(plan, axes)
    d = plan.size.d_model
    model = Dinov2Model(
        Dinov2Config(
            hidden_size=d,
            num_hidden_layers=2,
            num_attention_heads=1,
            mlp_ratio=-(-len(neurons) // d),
            image_size=plan.size.grid * PATCH_PX,
            patch_size=PATCH_PX,
            layerscale_value=0.0,
        )
    ).eval()
    with torch.no_grad():
        _write_embeddings(model.embeddings, plan, axes)
        _write_context(model.encoder.layer[1], plan, axes)
        _write_evidence(model.encoder.layer[1], neurons)
    return model


def _write_embeddings(embeddings: Any, plan: Plan, axes: Axes) -> None:
    """A patch becomes the base and its factors; the CLS token is the base alone."""
    preprocessing = make_preprocessing(plan)
    patterns_fn = torch.from_numpy(make_patterns(plan)).float()
    side = PATCH_PX // BLOCK_PX
    weight_dn = axes.factors_fd.T @ patterns_fn / (BLOCK_PX**2 * PIXELS)
    pieces = weight_dn.view(-1, 3, side, side)
    pixels = pieces.repeat_interleave(BLOCK_PX, dim=2).repeat_interleave(BLOCK_PX, dim=3)
    mean, std = (
        torch.tensor(values)[:, None, None] for values in (preprocessing.mean, preprocessing.std)
    )
    projection = embeddings.patch_embeddings.projection
    projection.weight.copy_(pixels * 255 * std)
    base_d = BASE * axes.base_d
    projection.bias.copy_(base_d + (pixels * (255 * mean - GREY)).sum(dim=(1, 2, 3)))
    embeddings.position_embeddings.zero_()
    embeddings.cls_token.copy_(base_d)


@dataclass(frozen=True)
class Neuron:
    """What a neuron reads from a patch, above zero, and where it writes it."""

    reads_d: Tensor
    writes_d: Tensor


def make_neurons(plan: Plan, axes: Axes) -> list[Neuron]:
    """For each class what counts as evidence; for ground a little, everywhere."""
    draw, textures = rng(plan.seed, "side effects"), list(plan.textures)
    readers_fd, base_d, found = axes.readers_fd, axes.base_d / BASE, []
    for c, one in enumerate(plan.classes):
        writes_d = axes.evidence_cd[c]
        if not one.reasons:
            found.append(Neuron(GROUND_LEVEL * base_d, writes_d))
        weights = plan.side_effects * draw.normal(size=len(textures))
        side_d = torch.from_numpy(weights).float() @ readers_fd[textures]
        for reason in one.reasons:
            parts = [weight * readers_fd[factor] for factor, weight in reason.items()]
            reads_d = torch.stack([*parts, side_d]).sum(dim=0)
            found.append(Neuron(reads_d - one.threshold * base_d, writes_d))
            if one.one_suffices:
                found.append(Neuron(reads_d - (one.threshold + CAP) * base_d, -writes_d))
    return found


def _write_evidence(block: Any, neurons: list[Neuron]) -> None:
    block.layer_scale2.lambda1.fill_(1.0)
    for layer in (block.mlp.fc1, block.mlp.fc2):
        layer.weight.zero_()
        layer.bias.zero_()
    for row, neuron in enumerate(neurons):
        block.mlp.fc1.weight[row] = SHARP * neuron.reads_d
        block.mlp.fc2.weight[:, row] = GAIN / SHARP * neuron.writes_d


def _write_context(block: Any, plan: Plan, axes: Axes) -> None:
    """Every token gets a share of the mean over all tokens of the factors that classes read."""
    block.layer_scale1.lambda1.fill_(1.0)
    factors = sorted({factor for one in plan.classes for factor in one.reads})
    share_dd = plan.context * axes.factors_fd[factors].T @ axes.readers_fd[factors]
    weights = (torch.zeros_like(share_dd),) * 2 + (torch.eye(plan.size.d_model), share_dd)
    # Of every version of transformers: queries, keys, values, output.
    layers = [one for one in block.attention.modules() if isinstance(one, torch.nn.Linear)]
    for layer, weight in zip(layers, weights, strict=True):
        layer.weight.copy_(weight)
        layer.bias.zero_()


def make_head(plan: Plan, axes: Axes) -> SegmentationHead:
    """Reads the evidence; null, which never wins, reads nothing."""
    head = SegmentationHead(plan.size.d_model, len(plan.classes) + 1)
    head.load_state_dict(
        {
            "weight": torch.cat([torch.zeros(1, plan.size.d_model), axes.evidence_cd]),
            "bias": torch.zeros(len(plan.classes) + 1),
        }
    )
    return head

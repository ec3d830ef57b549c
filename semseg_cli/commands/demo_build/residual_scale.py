"""Brings the demo backbone's residual stream to a natural size without changing what it computes.

Training leaves patch vectors of norm 900, and nothing holds that number: every reader of the
residual stream is a layer norm. Random vectors of a given length would then do nothing at all in
the demo world, whereas in DINOv2, with norms of about 50, they do a little.
"""

import math

import torch
from torch import Tensor
from transformers import Dinov2WithRegistersModel


@torch.no_grad()
def normalise_residual(model: Dinov2WithRegistersModel, images: Tensor, layer: int) -> None:
    """Scales the stream so that centred patches after `layer` have an RMS of about 1.

    The factor is a power of two, so that rounding stays the same and outputs equal bit by bit.
    """
    tokens = model.embeddings(images)
    for block in model.encoder.layer[:layer]:
        tokens = block(tokens)
    patches = tokens[:, 1 + model.config.num_register_tokens :].flatten(0, 1)
    rms = (patches - patches.mean(0)).square().mean().sqrt().item()
    _scale(model, 2.0 ** -round(math.log2(rms)))


def _scale(model: Dinov2WithRegistersModel, factor: float) -> None:
    embeddings = model.embeddings
    writers = [embeddings.cls_token, embeddings.register_tokens, embeddings.position_embeddings]
    writers += [*embeddings.patch_embeddings.projection.parameters()]
    for block in model.encoder.layer:
        writers += [block.layer_scale1.lambda1, block.layer_scale2.lambda1]
    for writer in writers:
        writer.mul_(factor)
    # A layer norm divides by sqrt(variance + eps): eps has to shrink with the variance.
    model.config.layer_norm_eps *= factor**2
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = model.config.layer_norm_eps

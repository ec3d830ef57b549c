"""How well heads segment held-out images: coarsely while they learn, by pixels at the end."""

from collections.abc import Sequence

import torch
from torch import Tensor

from semseg_cli.commands.train_head.features import ValidationImages
from semseg_cli.engine.segmentation import (
    Segmentation,
    count_pixels,
    segmentation,
    upsampled_classes,
)
from semseg_cli.progress import Progress, silent

MAX_LOGITS = 2**25  # logits at once
CACHED_LOGITS = 2**21  # on a CPU, whose caches hold these: half the time (benchmarks/NOTES.md)


@torch.inference_mode()
def score_heads(
    weight_kcd: Tensor,
    bias_kc: Tensor,
    images: ValidationImages,
    device: torch.device,
    progress: Progress = silent,
) -> list[Segmentation]:
    """How well each head segments the images: one confusion matrix of pixels per head."""
    n_classes = weight_kcd.shape[1] - 1
    n_images, height, width = images.labels_bhw.shape
    n_at_once = _n_at_once(n_classes * height * width, device)
    matrix_kcc = _no_pixels(len(weight_kcd), n_classes, device)
    advance = progress("heads on all pixels", n_images)
    for begin in range(0, n_images, n_at_once):
        x_btd = images.x_btd[begin : begin + n_at_once].to(device).float()
        labels_n = images.labels_bhw[begin : begin + n_at_once].to(device).flatten()
        for k, (weight_cd, bias_c) in enumerate(zip(weight_kcd, bias_kc, strict=True)):
            logits_btc = x_btd @ weight_cd.T + bias_c
            found = upsampled_classes(logits_btc, images.grid, (height, width)).flatten()
            matrix_kcc[k] += count_pixels(labels_n, found, n_classes)
        advance(len(x_btd))
    return [segmentation(matrix_cc) for matrix_cc in matrix_kcc.cpu()]


@torch.inference_mode()
def score_coarsely(
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    images: ValidationImages,
    device: torch.device,
) -> list[Segmentation]:
    """The same where all pixels of a coarse part are given the class of its middle."""
    n_heads, n_channels = len(weights), len(biases[0])
    n_classes, (n_images, n_patches, _) = n_channels - 1, images.x_btd.shape
    rows, columns = images.coarse
    n_at_once = _n_at_once(n_channels * max(rows * columns, n_heads * n_patches), device)
    weight_ed, bias_e = torch.cat(list(weights)), torch.cat(list(biases))
    shape = (n_heads, n_images, rows, columns)
    found_kbij = torch.empty(shape, dtype=torch.int64, device=device)
    for begin in range(0, n_images, n_at_once):
        part = slice(begin, begin + n_at_once)
        logits_bte = images.x_btd[part].to(device).float() @ weight_ed.T + bias_e
        for k, logits_btc in enumerate(logits_bte.split(n_channels, dim=-1)):
            found_kbij[k, part] = upsampled_classes(logits_btc, images.grid, images.coarse)
    matrix_kcc = _no_pixels(n_heads, n_classes, device)
    places_p, labels_p, n_pixels_p = (one.to(device) for one in images.part_labels)
    for matrix_cc, found_bij in zip(matrix_kcc, found_kbij, strict=True):
        cells_p = (labels_p - 1) * n_classes + found_bij.flatten()[places_p] - 1
        matrix_cc.view(-1).index_add_(0, cells_p, n_pixels_p)
    return [segmentation(matrix_cc) for matrix_cc in matrix_kcc.cpu()]


def _n_at_once(n_logits: int, device: torch.device) -> int:
    """How many images at once, of so many logits each."""
    n_most = CACHED_LOGITS if device.type == "cpu" else MAX_LOGITS
    return max(1, n_most // n_logits)


def _no_pixels(n_heads: int, n_classes: int, device: torch.device) -> Tensor:
    return torch.zeros(n_heads, n_classes, n_classes, dtype=torch.int64, device=device)

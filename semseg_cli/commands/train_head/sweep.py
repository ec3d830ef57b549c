"""The training of linear heads: several learning rates and weight decays at once.

Heads share features and the order of patches and nothing else: each ends as it would alone.
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from semseg_cli.commands.train_head.features import TrainingPatches, ValidationImages
from semseg_cli.engine.edits import generator
from semseg_cli.engine.segmentation import (
    Segmentation,
    count_pixels,
    segmentation,
    upsampled_classes,
)
from semseg_cli.models.head import SegmentationHead
from semseg_cli.progress import Progress, silent
from semseg_cli.typed import typed

log = logging.getLogger("semseg_cli")
MAX_LOGITS = 2**25  # upsampled logits at once
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # AdamW's state of one parameter


@dataclass(frozen=True)
class Best:
    """A head at the epoch (counted from 1) of its best mIoU on the validation images."""

    epoch: int
    score: Segmentation
    weight_cd: Tensor
    bias_c: Tensor

    def to_head(self) -> SegmentationHead:
        """The head itself."""
        n_channels, d_model = self.weight_cd.shape
        head = SegmentationHead(d_model, n_channels)
        head.load_state_dict({"weight": self.weight_cd, "bias": self.bias_c})
        return head.requires_grad_(False)


class Sweep:
    """Heads in training, one per (learning rate, weight decay), with AdamW's state.

    All begin with the same weights, which belong to the seed. `best` has None for a head that was
    not scored yet, or whose weights overflowed before.
    """

    def __init__(
        self,
        rates: Sequence[tuple[float, float]],
        d_model: int,
        n_classes: int,
        seed: int,
        patience: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.rates, self.seed, self.patience = tuple(rates), seed, patience
        self.n_classes, self.device = n_classes, torch.device(device)
        self.epoch = 0
        self.best: list[Best | None] = [None] * len(rates)
        draw, bound = generator(seed, "head weights", 0), 1 / math.sqrt(d_model)
        start_ce = (torch.rand(n_classes + 1, d_model + 1, generator=draw) * 2 - 1) * bound
        start_ce = start_ce.to(self.device)
        self.weights = [nn.Parameter(start_ce[:, :-1].clone()) for _ in rates]
        self.biases = [nn.Parameter(start_ce[:, -1].clone()) for _ in rates]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": [self.weights[k], self.biases[k]], "lr": lr, "weight_decay": decay}
                for k, (lr, decay) in enumerate(rates)
            ]
        )

    @property
    def live(self) -> list[int]:
        """The heads that still learn: neither out of patience nor overflowed."""
        return [k for k in range(len(self.rates)) if not self._is_done(k)]

    def _is_done(self, k: int) -> bool:
        best = self.best[k]
        if best is not None and self.epoch - best.epoch >= self.patience:
            return True
        return not bool(self.weights[k].isfinite().all() and self.biases[k].isfinite().all())

    def train_epoch(self, patches: TrainingPatches, n_per_step: int) -> None:
        """One pass over all patches, in an order that belongs to the seed and the epoch."""
        live = self.live
        self.epoch += 1
        n_patches = len(patches.labels_n)
        draw = generator(self.seed, "order of patches", self.epoch)
        for rows_b in torch.randperm(n_patches, generator=draw).split(n_per_step):
            rows_b = rows_b.sort().values  # in a file, neighbours are read together
            x_bd = patches.x_nd[rows_b].to(self.device).float()
            labels_b = patches.labels_n[rows_b].to(self.device)
            logits_kbc = all_logits(*self._stacked(live), x_bd)
            # The sum over heads: each gets the gradient of its own mean.
            loss = cross_entropy(
                logits_kbc.flatten(0, 1), labels_b.repeat(len(live)), reduction="sum"
            ) / len(rows_b)  # fmt: skip
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()

    def _stacked(self, heads: Sequence[int]) -> tuple[Tensor, Tensor]:
        weight_kcd = torch.stack([self.weights[k] for k in heads])
        return weight_kcd, torch.stack([self.biases[k] for k in heads])

    def score(self, images: ValidationImages) -> None:
        """Measures the heads that still learn, and keeps those that are better than before."""
        live = self.live
        if not live:
            return
        scores = score_heads(*self._stacked(live), images, self.device)
        for k, score in zip(live, scores, strict=True):
            best = self.best[k]
            if best is None or score.miou > best.score.miou:
                weight_cd, bias_c = self.weights[k], self.biases[k]
                self.best[k] = Best(
                    self.epoch,
                    score,
                    weight_cd.detach().cpu().clone(),
                    bias_c.detach().cpu().clone(),
                )

    @property
    def winner(self) -> int | None:
        """The head with the largest mIoU (ties: the first); None where all overflowed."""
        scored = [k for k, best in enumerate(self.best) if best is not None]
        return max(scored, key=self._miou, default=None)

    def _miou(self, k: int) -> float:
        best = self.best[k]
        return best.score.miou if best is not None else 0.0

    def to_tensors(self) -> dict[str, Tensor]:
        """All weights, those of the best epochs, and AdamW's state."""
        tensors: dict[str, Tensor] = {}
        for k, best in enumerate(self.best):
            for name, parameter in self._named(k):
                tensors[f"{k}.{name}"] = parameter.detach()
                moments = self.optimiser.state[parameter]
                tensors |= {f"{k}.{name}.{m}": moments[m] for m in MOMENTS if m in moments}
            if best is not None:
                tensors |= {f"{k}.best.weight": best.weight_cd, f"{k}.best.bias": best.bias_c}
        return {name: tensor.cpu().contiguous().clone() for name, tensor in tensors.items()}

    def restore(
        self,
        epoch: int,
        scores: Sequence[tuple[int, Segmentation] | None],
        tensors: dict[str, Tensor],
    ) -> None:
        """Goes back to what `to_tensors` gave; `scores` are epoch and measures of each `best`."""
        self.epoch = epoch
        for k, found in enumerate(scores):
            for name, parameter in self._named(k):
                parameter.data.copy_(tensors[f"{k}.{name}"])
                kept = {m: tensors.get(f"{k}.{name}.{m}") for m in MOMENTS}
                self.optimiser.state[parameter] = {
                    m: value if m == "step" else value.to(self.device)
                    for m, value in kept.items()
                    if value is not None
                }
            if found is not None:
                weight, bias = tensors[f"{k}.best.weight"], tensors[f"{k}.best.bias"]
                self.best[k] = Best(*found, weight, bias)

    def _named(self, k: int) -> list[tuple[str, nn.Parameter]]:
        return [("weight", self.weights[k]), ("bias", self.biases[k])]


@typed
def all_logits(
    weight_kcd: Float[Tensor, "k c d"], bias_kc: Float[Tensor, "k c"], x_bd: Float[Tensor, "b d"]
) -> Float[Tensor, "k b c"]:
    """The logits of every head for every patch."""
    return torch.einsum("kcd,bd->kbc", weight_kcd, x_bd) + bias_kc[:, None]


@torch.inference_mode()
def score_heads(
    weight_kcd: Tensor, bias_kc: Tensor, images: ValidationImages, device: torch.device
) -> list[Segmentation]:
    """How well each head segments the images: one confusion matrix of pixels per head."""
    n_classes = weight_kcd.shape[1] - 1
    n_images, height, width = images.labels_bhw.shape
    n_at_once = max(1, MAX_LOGITS // (n_classes * height * width))
    shape = (len(weight_kcd), n_classes, n_classes)
    matrix_kcc = torch.zeros(shape, dtype=torch.int64, device=device)
    for begin in range(0, n_images, n_at_once):
        x_btd = images.x_btd[begin : begin + n_at_once].to(device).float()
        labels_n = images.labels_bhw[begin : begin + n_at_once].to(device).flatten()
        for k, (weight_cd, bias_c) in enumerate(zip(weight_kcd, bias_kc, strict=True)):
            logits_btc = x_btd @ weight_cd.T + bias_c
            found = upsampled_classes(logits_btc, images.grid, (height, width)).flatten()
            matrix_kcc[k] += count_pixels(labels_n, found, n_classes)
    return [segmentation(matrix_cc) for matrix_cc in matrix_kcc.cpu()]


def train_heads(
    sweep: Sweep,
    patches: TrainingPatches,
    images: ValidationImages,
    n_epochs: int,
    n_per_step: int,
    keep: Callable[[Sweep], None] = lambda _sweep: None,
    progress: Progress = silent,
) -> None:
    """Trains until all heads are done or have seen the patches `n_epochs` times.

    `keep` gets the sweep after every epoch.
    """
    advance = progress("training heads", max(0, n_epochs - sweep.epoch), "epochs")
    while sweep.epoch < n_epochs and sweep.live:
        sweep.train_epoch(patches, n_per_step)
        sweep.score(images)
        keep(sweep)
        winner = sweep.winner
        best = None if winner is None else sweep.best[winner]
        if best is not None:
            log.info(
                "epoch %d: best mIoU %.4f (epoch %d), %d heads still learn",
                sweep.epoch, best.score.miou, best.epoch, len(sweep.live),
            )  # fmt: skip
        advance(1)

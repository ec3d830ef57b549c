"""The training of linear heads: several learning rates and weight decays at once.

Heads share features and the order of patches and nothing else: each ends as it would alone. They
are scored coarsely after every epoch, and the best epochs of each by pixels, once, at the end.
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
from semseg_cli.commands.train_head.scoring import score_coarsely, score_heads
from semseg_cli.engine.edits import generator
from semseg_cli.engine.segmentation import Segmentation
from semseg_cli.models.head import SegmentationHead
from semseg_cli.progress import Progress, silent
from semseg_cli.typed import typed

log = logging.getLogger("semseg_cli")
N_FINALISTS = 2  # epochs of each head that are scored by pixels (benchmarks/NOTES.md)
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # AdamW's state of one parameter


@dataclass(frozen=True)
class Finalist:
    """A head after an epoch (counted from 1), and its coarse mIoU on the validation images."""

    epoch: int
    miou: float
    weight_cd: Tensor
    bias_c: Tensor


@dataclass(frozen=True)
class Best:
    """A head at the finalist epoch with its best mIoU by pixels on the validation images."""

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

    All begin with the same weights, which belong to the seed. `finalists` are the best epochs of
    each head by coarse mIoU, best first (ties: the earlier first); none of a head that was not
    scored yet, or whose weights overflowed before.
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
        self.finalists: list[list[Finalist]] = [[] for _ in rates]
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
        if self.finalists[k] and self.epoch - self.finalists[k][0].epoch >= self.patience:
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
        """Measures the heads that still learn coarsely, and keeps the best epochs of each."""
        live = self.live
        if not live:
            return
        weights, biases = [self.weights[k] for k in live], [self.biases[k] for k in live]
        scores = score_coarsely(weights, biases, images, self.device)
        for k, score in zip(live, scores, strict=True):
            kept = self.finalists[k]
            if len(kept) == N_FINALISTS and score.miou <= kept[-1].miou:
                continue
            weight_cd, bias_c = (
                one.detach().cpu().clone() for one in (self.weights[k], self.biases[k])
            )
            kept.append(Finalist(self.epoch, score.miou, weight_cd, bias_c))
            kept.sort(key=lambda one: (-one.miou, one.epoch))
            del kept[N_FINALISTS:]

    def judged(self, images: ValidationImages, progress: Progress = silent) -> list[Best | None]:
        """Each head at the best of its finalists by pixels (ties: the earliest epoch); None for a
        head that has none."""
        entries = [(k, one) for k, kept in enumerate(self.finalists) for one in kept]
        best: list[Best | None] = [None] * len(self.rates)
        if not entries:
            return best
        weight_kcd = torch.stack([one.weight_cd for _, one in entries]).to(self.device)
        bias_kc = torch.stack([one.bias_c for _, one in entries]).to(self.device)
        scores = score_heads(weight_kcd, bias_kc, images, self.device, progress)
        found = sorted(zip(entries, scores, strict=True), key=lambda one: one[0][1].epoch)
        for (k, one), score in found:
            known = best[k]
            if known is None or score.miou > known.score.miou:
                best[k] = Best(one.epoch, score, one.weight_cd, one.bias_c)
        return best

    def to_tensors(self) -> dict[str, Tensor]:
        """All weights, those of the best epochs, and AdamW's state."""
        tensors: dict[str, Tensor] = {}
        for k, kept in enumerate(self.finalists):
            for name, parameter in self._named(k):
                tensors[f"{k}.{name}"] = parameter.detach()
                moments = self.optimiser.state[parameter]
                tensors |= {f"{k}.{name}.{m}": moments[m] for m in MOMENTS if m in moments}
            for i, one in enumerate(kept):
                tensors |= {f"{k}.{i}.weight": one.weight_cd, f"{k}.{i}.bias": one.bias_c}
        return {name: tensor.cpu().contiguous().clone() for name, tensor in tensors.items()}

    def restore(
        self,
        epoch: int,
        finalists: Sequence[Sequence[tuple[int, float]]],
        tensors: dict[str, Tensor],
    ) -> None:
        """Goes back to what `to_tensors` gave; `finalists` are their epochs and mIoUs."""
        self.epoch = epoch
        for k, kept in enumerate(finalists):
            for name, parameter in self._named(k):
                parameter.data.copy_(tensors[f"{k}.{name}"])
                state = {m: tensors.get(f"{k}.{name}.{m}") for m in MOMENTS}
                self.optimiser.state[parameter] = {
                    m: value if m == "step" else value.to(self.device)
                    for m, value in state.items()
                    if value is not None
                }
            self.finalists[k] = [
                Finalist(*one, tensors[f"{k}.{i}.weight"], tensors[f"{k}.{i}.bias"])
                for i, one in enumerate(kept)
            ]

    def _named(self, k: int) -> list[tuple[str, nn.Parameter]]:
        return [("weight", self.weights[k]), ("bias", self.biases[k])]


@typed
def all_logits(
    weight_kcd: Float[Tensor, "k c d"], bias_kc: Float[Tensor, "k c"], x_bd: Float[Tensor, "b d"]
) -> Float[Tensor, "k b c"]:
    """The logits of every head for every patch."""
    return torch.einsum("kcd,bd->kbc", weight_kcd, x_bd) + bias_kc[:, None]


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
        best = max((kept[0] for kept in sweep.finalists if kept), key=_miou, default=None)
        if best is not None:
            log.info(
                "epoch %d: best coarse mIoU %.4f (epoch %d), %d heads still learn",
                sweep.epoch, best.miou, best.epoch, len(sweep.live),
            )  # fmt: skip
        advance(1)


def _miou(one: Finalist) -> float:
    return one.miou

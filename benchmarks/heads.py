"""python -m benchmarks heads: `train-head`'s choice against scoring every epoch by all pixels.

Both sides train the same heads on the same features (computed before, so not in the seconds), at
each seed. Which head they choose, its mIoU by pixels on held-out images, and processor seconds.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from semseg_cli.commands.train_head.command import best_of, load_parts
from semseg_cli.commands.train_head.features import (
    Storage,
    TrainingPatches,
    ValidationImages,
    residuals_for_head,
    training_patches,
    validation_images,
)
from semseg_cli.commands.train_head.scoring import score_heads
from semseg_cli.commands.train_head.sweep import Best, Finalist, Sweep, train_heads
from semseg_cli.experiment.images import make_loader
from semseg_cli.experiment.parts import residual_cache
from semseg_cli.files import cache_folder
from semseg_cli.settings.entries import build, entries
from semseg_cli.settings.inputs import TrainSetup
from semseg_cli.settings.toml_files import read_preset
from semseg_cli.settings.training import Training
from semseg_cli.show.console import show
from semseg_cli.show.tables import Column, Table

AT_LEAST = 4.0
COLUMNS = (
    Column("seed", "seed", "text"),
    Column("side", "scored", "text", elastic=True),
    Column("lr", "learning\nrate", "text"),
    Column("weight_decay", "weight\ndecay", "text"),
    Column("epoch", "epoch", "count"),
    Column("miou", "mIoU", "ratio"),
    Column("seconds", "processor\nseconds", "ratio"),
    Column("training", "of them\ntraining", "ratio"),
)


@dataclass(frozen=True)
class Found:
    """The chosen head, and what it cost."""

    lr: float
    weight_decay: float
    epoch: int
    miou: float
    seconds: float
    training: float


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser("python -m benchmarks heads", description=__doc__)
    made.add_argument("--vit-ckpt", help="by default the demo world's")
    made.add_argument("--imgs-root", type=Path)
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    made.add_argument("--epochs", type=int, default=50)
    made.add_argument("--cache-dir", type=Path)
    return made


def heads(arguments: Sequence[str]) -> bool:
    """Measures and prints; whether the sweeps cost at most a quarter of the obvious ones."""
    given = parser().parse_args(arguments)
    rows: list[dict[str, Any]] = []
    totals = {"by all pixels": 0.0, "coarsely": 0.0}
    for seed in given.seeds:
        for side, found in compared(given, seed).items():
            totals[side] += found.seconds
            rates = {"lr": f"{found.lr:g}", "weight_decay": f"{found.weight_decay:g}"}
            rows.append({"seed": str(seed), "side": side, **vars(found), **rates})
    ratio = totals["by all pixels"] / totals["coarsely"]
    note = f"By all pixels over coarsely: {ratio:.2f} (asked: at least {AT_LEAST:.0f})."
    show(Table("Choice of heads", COLUMNS, tuple(rows), (note,)), "table")
    return ratio >= AT_LEAST


def compared(given: argparse.Namespace, seed: int) -> dict[str, Found]:
    """Both sides at one seed, in turn."""
    setup, training = settings(given, seed)
    parts = load_parts(setup, training)
    cache = residual_cache(setup)
    learnt, judged = (
        residuals_for_head(parts.vit, make_loader(setup, dataset, parts.vit), cache)
        for dataset in (parts.training, parts.held_out)
    )
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage(torch.float16, 2**32, Path(folder))
        learn = training_patches(learnt, storage, setup.label_threshold)
        with learn as patches, validation_images(judged, storage) as images:
            n_classes, device = len(parts.training.class_names), parts.device
            about = (training.rates, parts.vit.d_model, n_classes, seed, training.patience, device)
            sides = {"by all pixels": AllPixels(*about), "coarsely": Sweep(*about)}
            return {
                side: trained(sweep, training, patches, images) for side, sweep in sides.items()
            }


def settings(given: argparse.Namespace, seed: int) -> tuple[TrainSetup, Training]:
    """Those of `train-head`, on the demo world if nothing else is given."""
    values: dict[str, Any] = {"vit_ckpt": given.vit_ckpt, "imgs_root": given.imgs_root}
    if given.imgs_root is None:
        values = read_preset("demo", cache_folder(given.cache_dir))
    values |= {"seed": seed, "cache_dir": given.cache_dir}
    fits = {entry.key for entry in entries(TrainSetup)}
    setup = build(TrainSetup, {key: value for key, value in values.items() if key in fits})
    return setup, Training(epochs=given.epochs)


class AllPixels(Sweep):
    """The sweep that scores every epoch of every head by all pixels."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.best: list[Best | None] = [None] * len(self.rates)

    def score(self, images: ValidationImages) -> None:
        """Keeps the best epoch of each head; the finalists are there for patience alone."""
        live = self.live
        if not live:
            return
        weight_kcd, bias_kc = self._stacked(live)
        scores = score_heads(weight_kcd, bias_kc, images, self.device)
        for k, score in zip(live, scores, strict=True):
            known = self.best[k]
            if known is None or score.miou > known.score.miou:
                weight_cd, bias_c = (
                    self.weights[k].detach().clone(),
                    self.biases[k].detach().clone(),
                )
                self.best[k] = Best(self.epoch, score, weight_cd, bias_c)
                self.finalists[k] = [Finalist(self.epoch, score.miou, weight_cd, bias_c)]


def trained(
    sweep: Sweep, training: Training, patches: TrainingPatches, images: ValidationImages
) -> Found:
    """Trains and chooses; seconds of all of it, and of training alone."""
    begin, scoring = time.process_time(), 0.0
    score = sweep.score

    def timed_score(judged: ValidationImages) -> None:
        nonlocal scoring
        before = time.process_time()
        score(judged)
        scoring += time.process_time() - before

    vars(sweep)["score"] = timed_score
    train_heads(sweep, patches, images, training.epochs, training.patches_per_step)
    spent = time.process_time() - begin - scoring
    best = sweep.best if isinstance(sweep, AllPixels) else sweep.judged(images)
    k, head = best_of(best)
    seconds = time.process_time() - begin
    return Found(*sweep.rates[k], head.epoch, head.score.miou, seconds, spent)

"""What `train-head` would do: how large it is, and how long it takes at most."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from semseg_cli.commands.train_head.features import (
    Storage,
    TrainingPatches,
    ValidationImages,
    residuals_for_head,
    validation_images,
)
from semseg_cli.commands.train_head.scoring import score_coarsely, score_heads
from semseg_cli.commands.train_head.sweep import N_FINALISTS, Sweep
from semseg_cli.data.dataset import Dataset, even_subset
from semseg_cli.experiment.estimate import SAMPLE_IMAGES, estimated, fastest
from semseg_cli.experiment.images import make_loader
from semseg_cli.models.vit import Backbone
from semseg_cli.settings.inputs import TrainSetup
from semseg_cli.settings.training import Training


@dataclass(frozen=True)
class Parts:
    """What heads are trained with: the frozen ViT, the lookup split in two parts, to learn from and
    to choose on, and the split on which the chosen head is measured."""

    vit: Backbone
    lookup: Dataset
    training: Dataset
    held_out: Dataset
    evaluation: Dataset
    device: torch.device

    @property
    def seen(self) -> list[str]:
        """The contents of the images that the head depends on."""
        return sorted(set(self.lookup.contents))


def plan_lines(setup: TrainSetup, training: Training, parts: Parts, storage: Storage) -> list[str]:
    """The plan in words."""
    roles = {"train": parts.training, "choose": parts.held_out, "measure": parts.evaluation}
    took = estimated(_seconds(setup, training, parts, storage)).format(device=parts.device)
    return [
        f"heads: {len(training.rates)}, at most {training.epochs} epochs",
        *_sizes(parts, storage, roles),
        f"{took}: at most, heads that get no better end before",
    ]


def _sizes(parts: Parts, storage: Storage, roles: Mapping[str, Dataset]) -> list[str]:
    found = []
    for role, dataset in roles.items():
        n_rows = len(dataset) * parts.vit.n_patches_per_img
        n_bytes = storage.n_bytes(n_rows, parts.vit.d_model)
        where = "in memory" if n_bytes <= storage.max_bytes else f"in a file in {storage.folder}"
        size = f"{n_bytes / 2**30:.2f} GiB {where}"
        found.append(f"images to {role} on: {len(dataset)}; features: at most {size}")
    return found


def _seconds(setup: TrainSetup, training: Training, parts: Parts, storage: Storage) -> float:
    """Features of all images, all epochs of all heads, and their scores, from a few images and one
    step."""
    few = parts.held_out.subset(even_subset(len(parts.held_out), SAMPLE_IMAGES))
    residuals = residuals_for_head(parts.vit, make_loader(setup, few, parts.vit), None)
    n_images = len(parts.training) + len(parts.held_out) + len(parts.evaluation)

    def extract() -> None:
        with validation_images(residuals, storage):
            pass

    features = fastest(extract) / len(few) * n_images
    with validation_images(residuals, storage) as images:
        return features + _learning(training, parts, images)


def _learning(training: Training, parts: Parts, images: ValidationImages) -> float:
    """Seconds of all epochs with their coarse scores, and of the finalists' scores by pixels."""
    n_classes, n_heads = len(parts.training.class_names), len(training.rates)
    rates = (parts.vit.d_model, n_classes, 0, training.patience, parts.device)
    sweep = Sweep(training.rates, *rates)
    n_rows = len(parts.training) * parts.vit.n_patches_per_img
    n_step = min(training.patches_per_step, n_rows)
    x_nd = images.x_btd.flatten(0, 1)
    x_nd = x_nd.repeat(math.ceil(n_step / len(x_nd)), 1)[:n_step]
    patches = TrainingPatches(x_nd, torch.arange(n_step) % (n_classes + 1))
    step = fastest(lambda: sweep.train_epoch(patches, n_step))
    weights, biases = [list(one) for one in (sweep.weights, sweep.biases)]
    share = len(parts.held_out) / len(images.x_btd)
    coarse = share * fastest(lambda: score_coarsely(weights, biases, images, parts.device))
    stacked = (torch.stack([one.detach() for one in every[:1]]) for every in (weights, biases))
    weight_kcd, bias_kc = stacked
    whole = fastest(lambda: score_heads(weight_kcd, bias_kc, images, parts.device))
    n_scored = N_FINALISTS * n_heads * share + len(parts.evaluation) / len(images.x_btd)
    return training.epochs * (math.ceil(n_rows / n_step) * step + coarse) + n_scored * whole

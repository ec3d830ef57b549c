"""The one recipe behind the shipped demo weights: scenes, backbone, SAE, head, statistics."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from transformers import Dinov2WithRegistersModel
from transformers.utils import logging

from semseg_cli.commands.demo_build.train_head import train_head
from semseg_cli.commands.demo_build.train_sae import SaeRecipe, train_sae
from semseg_cli.commands.demo_build.train_vit import VitRecipe, patch_shares, train_vit
from semseg_cli.data.dataset import open_dataset
from semseg_cli.data.loader import Loader
from semseg_cli.data.preprocessing import Preprocessing, image_tensor, label_tensor
from semseg_cli.demo.scene_files import generate
from semseg_cli.demo.world import (
    N_TRAIN,
    N_VAL,
    WORLD_SEED,
    WorldFiles,
    write_extras,
    written_whole,
)
from semseg_cli.engine.sae_statistics import compute_stats
from semseg_cli.models.head import save_head
from semseg_cli.models.residuals import Residuals
from semseg_cli.models.sae import save as save_sae
from semseg_cli.models.sae.statistics import save_stats
from semseg_cli.models.vit import Backbone
from semseg_cli.progress import Progress, silent

_BATCH = 25


@dataclass(frozen=True)
class Scenes:
    """Preprocessed images `[n 3 h w]` and class shares per patch `[n grid grid channels]`."""

    images: Tensor
    shares: Tensor


@dataclass(frozen=True)
class Recipe:
    """Sizes of everything; the defaults made the shipped weights."""

    n_learning: int = 500
    """Scenes to learn from: the world's training scenes (the first of them) and as many more."""
    n_train: int = N_TRAIN
    n_val: int = N_VAL
    vit: VitRecipe = VitRecipe()
    sae: SaeRecipe = SaeRecipe()


DEFAULT_RECIPE = Recipe()


def build(
    folder: Path,
    seed: int = WORLD_SEED,
    progress: Progress = silent,
    recipe: Recipe = DEFAULT_RECIPE,
) -> Path:
    """Trains a whole demo world into a new or empty folder, laid out as `world.export` does.

    The defaults made the shipped weights. Another machine or thread count sums in another order,
    so its weights and results differ slightly.
    """
    with written_whole(folder) as part:
        world = generate(part / "ade20k", recipe.n_train, recipe.n_val, seed, progress=progress)
        (part / "ade20k.lock").unlink(missing_ok=True)
        _build_models(WorldFiles(part), world, seed, progress, recipe)
        write_extras(part)
    return folder.resolve()


def _build_models(
    files: WorldFiles, world: Path, seed: int, progress: Progress, recipe: Recipe
) -> None:
    scenes = _learning_scenes(recipe, seed, progress)
    advance = progress("training the backbone", recipe.vit.n_steps, "steps")
    model = train_vit(scenes.images, scenes.shares, recipe.vit, seed, advance)
    _save_vit(model, files.vit)
    backbone = Backbone(model)
    # Residual and features of every patch at once: 128,000 x 96 floats are 50 MB.
    tokens = [backbone.prefix(x, recipe.vit.sae_layer) for x in scenes.images.split(_BATCH)]
    residual = torch.cat([t[:, backbone.n_prefix_tokens :] for t in tokens])
    features = torch.cat([backbone.tail(t, recipe.vit.sae_layer) for t in tokens])
    scaled = _scaled(residual, recipe.n_train)
    sae = train_sae(
        scaled, recipe.sae, seed, progress("training the SAE", recipe.sae.n_steps, "steps")
    )
    save_sae(files.sae, sae)
    save_head(files.head, train_head(features.flatten(0, 1), scenes.shares.flatten(0, 2), seed))
    dataset = open_dataset(world, "training", backbone.patch_size_px)
    loader = Loader(dataset, _BATCH)
    layer = recipe.vit.sae_layer
    save_stats(
        files.stats, compute_stats(Residuals(backbone, layer, loader), sae, progress=progress)
    )


def _learning_scenes(recipe: Recipe, seed: int, progress: Progress) -> Scenes:
    with tempfile.TemporaryDirectory(prefix="semseg-demo-") as scratch:
        root = generate(Path(scratch) / "ade20k", recipe.n_learning, 0, seed, progress=progress)
        return load_scenes(root, "training", recipe.vit.patch_px)


def load_scenes(root: Path, split: str, patch_px: int) -> Scenes:
    """All scenes of a split through the tool's own preprocessing."""
    preprocessing = Preprocessing()
    images, labels = [], []
    for path in sorted((root / "images" / split).iterdir()):
        with Image.open(path) as picture:
            images.append(image_tensor(picture, preprocessing))
        with Image.open(root / "annotations" / split / f"{path.stem}.png") as mask:
            labels.append(label_tensor(mask, preprocessing))
    return Scenes(torch.stack(images), patch_shares(torch.stack(labels), patch_px))


def _scaled(residual_btd: Tensor, n_world: int) -> Tensor:
    """All patch vectors in the tool's scaling, with mean and norm of the world's own scenes."""
    own = residual_btd[:n_world].flatten(0, 1)
    mean = own.mean(0)
    norm = (own - mean).norm(dim=1).mean() / own.shape[1] ** 0.5
    return (residual_btd.flatten(0, 1) - mean) / norm


def _save_vit(model: Dinov2WithRegistersModel, folder: Path) -> None:
    """Writes a Hugging Face folder, with the preprocessing that the backbone was trained on."""
    logging.disable_progress_bar()
    model.save_pretrained(folder)
    prep = Preprocessing()
    described = {
        "image_processor_type": "BitImageProcessor",
        "do_resize": True,
        "size": {"height": prep.resize[0], "width": prep.resize[1]},
        "resample": int(Image.Resampling.BILINEAR),
        "do_center_crop": True,
        "crop_size": {"height": prep.crop[0], "width": prep.crop[1]},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(prep.mean),
        "image_std": list(prep.std),
        "do_convert_rgb": True,
    }
    text = json.dumps(described, indent=2) + "\n"
    (folder / "preprocessor_config.json").write_text(text, encoding="utf-8")

"""Small worlds in the real formats: a Hugging Face ViT, a saev file, a head, an ADE20K folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from whole_models import forward

from semseg_cli.data.loader import Loader
from semseg_cli.engine.counts import Counts
from semseg_cli.engine.edits import unscaled
from semseg_cli.experiment.session import Session, open_session
from semseg_cli.models import sae as saes
from semseg_cli.models.head import SegmentationHead, argmax_logits, save_head
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.models.sae import SparseAutoencoder, Threshold, TopK
from semseg_cli.models.vit import Backbone
from semseg_cli.runs.lookup_csv import Member
from semseg_cli.settings.inputs import Imgs, Setup
from semseg_cli.settings.reference import Quantitative

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
NAMES = ("wall", "building, edifice", "sky", "tree", "floor, flooring")
FIRST_NAMES = ("wall", "building", "sky", "tree", "floor")
Pair = tuple[np.ndarray, np.ndarray]  # RGB image [h, w, 3] and label ids [h, w], both uint8


@dataclass(frozen=True)
class World:
    """A folder with everything that an experiment needs."""

    folder: Path
    vit_layer: int
    stats: Path | None = None

    @property
    def data(self) -> Path:
        return self.folder / "ade20k"

    def inputs(self, **changes: Any) -> dict[str, Any]:
        """Settings that name this world's files."""
        imgs = Imgs(root=self.data, split=changes.pop("split", "validation"))
        named = {
            "vit_ckpt": str(self.folder / "vit"),
            "sae_ckpt": str(self.folder / "sae.pt"),
            "seg_ckpt": str(self.folder / "head.pt"),
            "vit_layer": self.vit_layer,
            "imgs": imgs,
            "batch_size": 4,
            "n_workers": 0,
            "device": "cpu",
            "min_patches": 1,
            "cache_dir": self.folder / "cache",
            "no_cache": True,  # tests of the cache say so
        }
        if self.stats is not None:
            named |= {"act_mean": str(self.stats), "act_norm": 2.0}
        return {**named, **changes}

    def setup(self, **changes: Any) -> Setup:
        return Setup(**self.inputs(**changes))

    def quantitative(self, **changes: Any) -> Quantitative:
        return Quantitative(**{"max_freq": 1.0, **self.inputs(**changes)})

    def session(self, **changes: Any) -> Session:
        """An open session whose statistics are complete."""
        session = open_session(self.setup(**changes))
        session.complete()
        return session


# --- parts ------------------------------------------------------------------------------------


def make_vit(*, registers: int = 0, seed: int = 0, **config: Any) -> Any:
    """A randomly initialised transformers model whose blocks all matter."""
    from transformers import (
        Dinov2Config,
        Dinov2Model,
        Dinov2WithRegistersConfig,
        Dinov2WithRegistersModel,
    )

    sizes = {
        "hidden_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "mlp_ratio": 2,
        "image_size": 224,
        "patch_size": 32,
    }
    torch.manual_seed(seed)
    if registers:
        sizes["num_register_tokens"] = registers
        model: Any = Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**{**sizes, **config}))
    else:
        model = Dinov2Model(Dinov2Config(**{**sizes, **config}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name and "lambda" not in name:
                parameter.normal_(0.0, 0.02 if "projection" in name else 0.2)
    return model.eval()


def make_sae(
    d_model: int = 24,
    d_sae: int = 40,
    nonlinearity: Threshold | TopK | None = None,
    seed: int = 0,
) -> SparseAutoencoder:
    """A random autoencoder with unit decoder rows; a bias keeps most latents quiet."""
    draw = torch.Generator().manual_seed(seed)
    w_dec = torch.nn.functional.normalize(torch.randn(d_sae, d_model, generator=draw), dim=1)
    b_enc = -torch.rand(d_sae, generator=draw)
    b_dec = torch.randn(d_model, generator=draw) * 0.1
    w_enc = w_dec.T.contiguous() + 0.05 * torch.randn(d_model, d_sae, generator=draw)
    return SparseAutoencoder(w_enc, b_enc, w_dec, b_dec, nonlinearity)


def make_head(d_model: int = 24, n_classes: int = 5, seed: int = 0) -> SegmentationHead:
    """A random linear head."""
    draw = torch.Generator().manual_seed(seed + 77)
    head = SegmentationHead(d_model, n_classes + 1)
    head.load_state_dict(
        {
            "weight": torch.randn(n_classes + 1, d_model, generator=draw),
            "bias": torch.randn(n_classes + 1, generator=draw) * 0.1,
        }
    )
    return head.eval().requires_grad_(False)


def write_dataset(
    root: Path, splits: Mapping[str, Sequence[Pair]], names: Sequence[str] | None = NAMES
) -> Path:
    """An ADE20K folder; without names no class file is written."""
    for split, pairs in splits.items():
        for part in ("images", "annotations"):
            (root / part / split).mkdir(parents=True, exist_ok=True)
        for i, (image, mask) in enumerate(pairs):
            for part, pixels in (("images", image), ("annotations", mask)):
                path = root / part / split / f"{split}_{i:04d}.png"
                Image.fromarray(pixels).save(path, compress_level=1)
    if names is not None:
        rows = [f"{i}\t0.1\t10\t2\t{name}" for i, name in enumerate(names, start=1)]
        text = "\n".join(["Idx\tRatio\tTrain\tVal\tName", *rows]) + "\n"
        (root / "objectInfo150.txt").write_text(text, encoding="utf-8")
    return root


def random_pairs(n: int, seed: int, n_classes: int = 5) -> list[Pair]:
    """Noisy images of coarse coloured cells; label 0 occurs, the last class never does."""
    rng = np.random.default_rng(seed)
    palette = np.random.default_rng(1).integers(0, 256, (n_classes + 1, 3))
    pairs = []
    for _ in range(n):
        cells = rng.integers(0, n_classes, (4, 4))
        height, width = rng.integers(40, 70, 2)
        rows, columns = np.arange(height) * 4 // height, np.arange(width) * 4 // width
        mask = cells[rows][:, columns].astype(np.uint8)
        noisy = palette[mask] + rng.normal(0, 30, (height, width, 3))
        pairs.append((noisy.clip(0, 255).astype(np.uint8), mask))
    return pairs


# --- a random world ---------------------------------------------------------------------------


def make_tiny_world(folder: Path, nonlinearity: Threshold | TopK | None = None) -> World:
    """Random weights and pictures: nothing is known about it, every number is a real one."""
    make_vit(registers=2, seed=3).save_pretrained(folder / "vit")
    saes.save(folder / "sae.pt", make_sae(nonlinearity=nonlinearity, seed=3))
    save_head(folder / "head.pt", make_head(seed=3))
    write_dataset(
        folder / "ade20k", {"training": random_pairs(7, 1), "validation": random_pairs(6, 2)}
    )
    return World(folder, vit_layer=2)


# --- the world with known answers ---------------------------------------------------------------

COLOURS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=np.uint8)
AMPLITUDES = torch.tensor([3.0, 4.0, 5.0, 6.0])
PLANTED = {1: 4, 2: 9, 3: 2, 4: 7}  # class id -> its latent
TWIN, MUTE = 13, PLANTED[3]  # of `split_sae`
KNOWN_D, KNOWN_S = 16, 15


def directions() -> Tensor:
    """Orthonormal rows [15, 16], all orthogonal to the ones vector: layer norm only scales them.

    Row `PLANTED[c]` is what class c's patches hold.
    """
    start = torch.randn(KNOWN_D, KNOWN_D, generator=torch.Generator().manual_seed(5))
    start[:, 0] = 1.0
    return torch.linalg.qr(start.double()).Q[:, 1:].T.float().contiguous()


def make_known_vit() -> Any:
    """Blocks do nothing (layer scale 0); a patch of class c's colour becomes its direction.

    The final norm does not blow up what rounding leaves of a patch without its direction.
    """
    from semseg_cli.data.preprocessing import Preprocessing

    model = make_vit(
        hidden_size=KNOWN_D,
        num_hidden_layers=2,
        num_attention_heads=2,
        patch_size=56,
        layerscale_value=0.0,
        layer_norm_eps=1e-4,
    )
    preprocessing = Preprocessing()
    mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
    seen = np.concatenate([(COLOURS / 255 - mean) / std, np.ones((4, 1))], axis=1)
    wanted = AMPLITUDES[:, None] * directions()[list(PLANTED.values())]
    solved = torch.from_numpy(np.linalg.solve(seen, wanted.double().numpy())).float()
    with torch.no_grad():
        projection = model.embeddings.patch_embeddings.projection
        projection.weight.copy_((solved[:3].T / 56**2)[:, :, None, None].expand(-1, -1, 56, 56))
        projection.bias.copy_(solved[3])
        model.embeddings.position_embeddings.zero_()
    return model


def known_pairs(n: int, seed: int) -> list[Pair]:
    """256 px images of 4 x 4 cells that lie exactly on the patches; classes 1 to 4, never 5."""
    rng = np.random.default_rng(seed)
    cell = ((np.arange(256) - 16) // 56).clip(0, 3)
    pairs = []
    for _ in range(n):
        classes = rng.integers(1, 5, (4, 4))
        classes[0] = [1, 2, 3, 4]
        mask = classes[cell][:, cell].astype(np.uint8)
        pairs.append((COLOURS[mask - 1], mask))
    return pairs


def known_sae() -> SparseAutoencoder:
    """The planted dictionary: one latent per direction, nothing else."""
    rows = directions()
    return SparseAutoencoder(
        rows.T.contiguous(),
        torch.zeros(KNOWN_S),
        rows,
        torch.zeros(KNOWN_D),
        Threshold(0.01),  # rounding is no activation
    )


def known_head() -> SegmentationHead:
    """Reads the planted directions; class 5 has none and wins where nothing else does."""
    head = SegmentationHead(KNOWN_D, 6)
    weight, bias = torch.zeros(6, KNOWN_D), torch.zeros(6)
    weight[0] = 100.0  # the null class would win everything
    bias[0], bias[5] = 100.0, 0.1
    for class_id, latent in PLANTED.items():
        weight[class_id] = directions()[latent]
    head.load_state_dict({"weight": weight, "bias": bias})
    return head


def split_sae() -> SparseAutoencoder:
    """Class 1 is shared by two latents, each half; class 3's latent writes nothing."""
    sae = known_sae()
    w_enc, w_dec = sae.W_enc.clone(), sae.W_dec.clone()
    w_enc[:, PLANTED[1]] *= 0.5
    w_enc[:, TWIN] = w_enc[:, PLANTED[1]]
    w_dec[TWIN] = w_dec[PLANTED[1]]
    w_dec[MUTE] = 0
    return SparseAutoencoder(w_enc, sae.b_enc, w_dec, sae.b_dec, Threshold(0.01))


def make_known_world(folder: Path, sae: SparseAutoencoder | None = None) -> World:
    """A world in which suppressing a class's latent flips that class and nothing else."""
    make_known_vit().save_pretrained(folder / "vit")
    saes.save(folder / "sae.pt", sae or known_sae())
    save_head(folder / "head.pt", known_head())
    write_dataset(
        folder / "ade20k", {"training": known_pairs(4, 1), "validation": known_pairs(3, 2)}
    )
    save_file({"act_mean": torch.zeros(KNOWN_D)}, folder / "stats.safetensors")
    return World(folder, vit_layer=1, stats=folder / "stats.safetensors")


def count_images(vit: Backbone, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """From now on, the number of images of each prefix pass."""
    seen: list[int] = []
    prefix = vit.prefix

    def counting(images: Tensor, layer: int, site: str = "resid-post") -> Tensor:
        seen.append(len(images))
        return prefix(images, layer, site)

    monkeypatch.setattr(vit, "prefix", counting)
    return seen


# --- slow, obvious versions ---------------------------------------------------------------------


def members(latents: Mapping[int, int | Sequence[int]]) -> dict[int, list[Member]]:
    """Class id -> group, from single latents or lists of them."""
    groups = {c: [found] if isinstance(found, int) else found for c, found in latents.items()}
    return {class_id: [Member(latent) for latent in group] for class_id, group in groups.items()}


def slow_set_latent(sae: SparseAutoencoder, x: Tensor, latent: int, value: float) -> Tensor:
    """Encode, set one latent, decode, and add the reconstruction error back; raw units."""
    z = sae.scale(x)
    f = sae.encode(z)
    error = z - sae.decode(f)
    f = f.clone()
    f[..., latent] = value
    moved = sae.decode(f) + error
    # Back in raw units. Clamped values would not come back: tests stay far below the clamp.
    return moved * sae.act_norm + sae.act_mean


@torch.inference_mode()
def slow_logits(pipeline: Pipeline, images: Tensor) -> Tensor:
    """Clean logits by the whole transformers model."""
    tokens = forward(pipeline.vit.model, images, any_size=False).last_hidden_state
    return pipeline.class_head(tokens[:, pipeline.vit.n_prefix_tokens :])


def slow_predict(pipeline: Pipeline, images: Tensor) -> Tensor:
    """Clean predictions by the whole transformers model."""
    return argmax_logits(slow_logits(pipeline, images))


def slow_predict_edited(
    pipeline: Pipeline, images: Tensor, latents_bt: Tensor, scale: float
) -> Tensor:
    """Predictions with one latent set per patch (-1: none)."""
    return argmax_logits(slow_logits_edited(pipeline, images, latents_bt, scale))


@torch.inference_mode()
def slow_logits_edited(
    pipeline: Pipeline, images: Tensor, latents_bt: Tensor, scale: float
) -> Tensor:
    """Logits with one latent set per patch (-1: none), by a hook on the whole model."""
    sae, vit = pipeline.sae, pipeline.vit

    def edit(_block: Any, _args: Any, tokens: Tensor) -> Tensor:
        tokens = tokens.clone()
        patches = tokens[:, vit.n_prefix_tokens :]
        for latent in latents_bt.unique().tolist():
            if latent >= 0:
                maximum = float(pipeline.latent_stats.top_values[latent])
                value = float(unscaled(scale, maximum))
                moved = slow_set_latent(sae, patches, latent, value)
                patches = torch.where((latents_bt == latent)[..., None], moved, patches)
        tokens[:, vit.n_prefix_tokens :] = patches
        return tokens

    handle = vit.blocks[pipeline.layer - 1].register_forward_hook(edit)
    try:
        return slow_logits(pipeline, images)
    finally:
        handle.remove()


def slow_class_counts(
    pipeline: Pipeline, loader: Loader, latents: Mapping[int, int], scale: float
) -> list[tuple[int, list[int]]]:
    """Class protocol by the book: (class id, [original, changed, others, changed others])."""
    totals = {class_id: [0, 0, 0, 0] for class_id in sorted(latents)}
    for batch in loader:
        clean = slow_predict(pipeline, batch.images_bchw)
        for class_id, latent in latents.items():
            every = torch.full_like(batch.labels_bt, latent)
            edited = slow_predict_edited(pipeline, batch.images_bchw, every, scale)
            pairs = zip(clean.flatten().tolist(), edited.flatten().tolist(), strict=True)
            for before, after in pairs:
                offset = 0 if before == class_id else 2
                totals[class_id][offset] += 1
                totals[class_id][offset + 1] += before != after
    return list(totals.items())


def totals_of(counts: Counts) -> list[tuple[int, list[int]]]:
    """The same form from the engine's counts."""
    sums = counts.per_image.sum(dim=0).tolist()
    return list(zip(counts.class_ids.tolist(), sums, strict=True))


def backbone(**kwargs: Any) -> Backbone:
    """A random backbone, not saved anywhere."""
    return Backbone(make_vit(**kwargs))

"""Random weights and generated images of a size, all in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.sizes import Size
from semseg_cli.data.batches import Batch, Sample
from semseg_cli.data.dataset import Dataset
from semseg_cli.data.label_map import LabelMap
from semseg_cli.data.loader import Loader
from semseg_cli.data.preprocessing import Preprocessing
from semseg_cli.models.head import SegmentationHead
from semseg_cli.models.memory_budget import make_budget
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.models.sae import SparseAutoencoder
from semseg_cli.models.sae.statistics import SaeStats
from semseg_cli.models.vit import Backbone
from semseg_cli.runs.lookup_csv import Member

MEASURED_IMAGES = 4  # for the statistics and biases of the autoencoder
LABEL_THRESHOLD = 0.9


@dataclass(frozen=True)
class Generated(Dataset):
    """A dataset whose preprocessed images are in memory; no file stands behind its names."""

    images_bchw: Tensor = field(default_factory=lambda: torch.empty(0))
    labels_bt: Tensor = field(default_factory=lambda: torch.empty(0))

    def __getitem__(self, position: int) -> Sample:
        labels_t = self.labels_bt[position]
        share_t = torch.ones(len(labels_t), dtype=torch.float64)
        index = self.indices[position]
        return Sample(self.images_bchw[position], labels_t, share_t, position, index)

    @property
    def contents(self) -> tuple[str, ...]:
        """What stands for the bytes of each image: its name, as no other dataset has it."""
        return self.names


@dataclass(frozen=True)
class World:
    """The frozen parts, and images whose patches are all clean, of `present` classes."""

    size: Size
    pipeline: Pipeline
    dataset: Dataset
    n_workers: int = 0

    @property
    def device(self) -> torch.device:
        """Where the parts are."""
        return self.pipeline.device

    @property
    def present(self) -> list[int]:
        """The classes that occur."""
        found = (set(self.dataset[i].labels_t.tolist()) for i in range(len(self.dataset)))
        return sorted(set[int]().union(*found) - {0})

    @property
    def loader(self) -> Loader:
        """The images as our side reads them."""
        is_cuda = self.device.type == "cuda"
        return Loader(self.dataset, self.size.batch_size, self.n_workers, pin_memory=is_cuda)

    @property
    def batches(self) -> list[Batch]:
        """The images as the other sides read them."""
        return list(self.loader)

    def groups(self, class_ids: Sequence[int]) -> Mapping[int, Sequence[Member]]:
        """A live latent for each of some classes."""
        live = torch.nonzero(self.pipeline.latent_stats.sparsity > 0).flatten().tolist()
        return {class_id: [Member(live[7 * class_id % len(live)])] for class_id in class_ids}

    def with_classes(self, n_present: int) -> "World":
        """The same generated images, of so many classes."""
        assert isinstance(self.dataset, Generated)
        labels_bt = make_labels(self.size, n_present)
        return replace(self, dataset=replace(self.dataset, labels_bt=labels_bt))


def make_world(
    size: Size, device: str = "cpu", dtype: torch.dtype = torch.float32, seed: int = 0
) -> World:
    """Everything that is measured; the same for the same size and seed."""
    torch.manual_seed(seed)
    dataset = make_dataset(size)
    vit = Backbone(make_vit(size).to(device, dtype), preprocessing=make_preprocessing(size))
    vit.budget = make_budget(None, torch.device(device))
    residual_nd = _residual(vit, size, dataset.images_bchw[:MEASURED_IMAGES].to(device))
    sae, stats = make_sae(size, residual_nd)
    sae.budget = vit.budget
    head = SegmentationHead(size.d_model, size.n_classes + 1).requires_grad_(False).to(device)
    pipeline = Pipeline(vit=vit, layer=size.layer, sae=sae, stats=stats, head=head)
    return World(size, pipeline, dataset)


def resized(world: World, **changes: Any) -> World:
    """The same ViT with another number of images, latents, or active latents."""
    size = replace(world.size, **changes)
    dataset = make_dataset(size)
    pipeline = world.pipeline
    images_bchw = dataset.images_bchw[:MEASURED_IMAGES].to(world.device)
    sae, stats = make_sae(size, _residual(pipeline.vit, size, images_bchw))
    sae.budget = pipeline.vit.budget
    return World(size, replace(pipeline, sae=sae, stats=stats), dataset)


def _residual(vit: Backbone, size: Size, images_bchw: Tensor) -> Tensor:
    tokens_bnd = vit.prefix(images_bchw, size.layer)
    return tokens_bnd[:, vit.n_prefix_tokens :].flatten(0, 1).float()


def make_vit(size: Size) -> Any:
    """A randomly initialised DINOv2 with registers."""
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    config = Dinov2WithRegistersConfig(
        hidden_size=size.d_model,
        num_hidden_layers=size.n_blocks,
        num_attention_heads=size.n_heads,
        num_register_tokens=size.n_registers,
        image_size=size.trained_px,
        patch_size=size.patch_px,
    )
    return Dinov2WithRegistersModel(config).eval()


def make_preprocessing(size: Size) -> Preprocessing:
    """DINOv2's, for images of this size."""
    return Preprocessing().sized((size.image_px, size.image_px))


@torch.inference_mode()
def make_sae(
    size: Size, residual_nd: Tensor, first_kd: Tensor | None = None
) -> tuple[SparseAutoencoder, SaeStats]:
    """Random unit directions, read and written, the first ones along `first_kd`; one bias for all,
    so that L0 is as the size says.

    The bias is a quantile of the pre-activations of these residuals, the statistics are theirs.
    """
    act_mean = residual_nd.mean(dim=0)
    act_norm = float((residual_nd - act_mean).norm(dim=1).mean()) / size.d_model**0.5
    drawn = torch.randn(size.d_sae, size.d_model)
    if first_kd is not None:
        drawn[: len(first_kd)] = first_kd
    w_dec = torch.nn.functional.normalize(drawn, dim=1).to(residual_nd.device)
    pre_ns = ((residual_nd - act_mean) / act_norm) @ w_dec.T
    n_active = size.l0 * len(residual_nd)
    bias = float(pre_ns.flatten().topk(n_active + 1).values[-2:].mean())  # on neither of the two
    b_enc = torch.full_like(w_dec[:, 0], -bias)
    sae = SparseAutoencoder(w_dec.T.contiguous(), b_enc, w_dec, torch.zeros_like(act_mean))
    f_ns = (pre_ns - bias).clamp(min=0)
    sparsity = (f_ns > 0).float().mean(dim=0).cpu()
    stats = SaeStats(act_mean.cpu(), act_norm, sparsity, f_ns.amax(dim=0).cpu())
    return sae.scaled(act_mean, act_norm), stats


def make_dataset(size: Size) -> Generated:
    """Images of coarse random cells with noise, `few` classes present."""
    draw = torch.Generator().manual_seed(1)
    cells = torch.randn(size.n_images, 3, 8, 8, generator=draw)
    coarse = torch.nn.functional.interpolate(cells, size.image_px)
    noise = torch.randn(coarse.shape, generator=draw)
    names = tuple(f"{size.name}-{i:05d}" for i in range(size.n_images))
    nowhere = tuple(Path(name) for name in names)
    return Generated(
        root=Path("generated"),
        title="generated",
        layout="generated",
        split="all",
        names=names,
        images=nowhere,
        masks=nowhere,
        indices=tuple(range(size.n_images)),
        labels=LabelMap(tuple(f"class {i}" for i in range(1, size.n_classes + 1))),
        patch_size_px=size.patch_px,
        preprocessing=make_preprocessing(size),
        images_bchw=coarse + 0.5 * noise,
        labels_bt=make_labels(size, size.few),
    )


def make_labels(size: Size, n_present: int) -> Tensor:
    """Patch labels [b, t] in which each of the classes 1..n_present occurs, equally often."""
    n = size.n_images * size.n_patches
    order = torch.randperm(n, generator=torch.Generator().manual_seed(2))
    return (order % n_present + 1).view(size.n_images, size.n_patches)

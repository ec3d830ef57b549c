"""python -m benchmarks whole: a whole run of as many classes and images as ADE20K has, and
`compare` over many such runs.

The network is tiny and of random weights: each class has a texture, the head calls a patch after
the nearest class mean, and a latent of the autoencoder reads each class's direction. What is
measured is all around the network, and how much of it `--other-images` spares. Processor seconds
and memory are those of whole commands.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.ade20k_folder import write_names, write_split
from benchmarks.many_runs import copy_runs, spent
from benchmarks.sizes import TINY, Size
from benchmarks.world import make_preprocessing, make_sae, make_vit
from semseg_cli.models import sae as saes
from semseg_cli.models.head import SegmentationHead, save_head
from semseg_cli.show.console import show
from semseg_cli.show.tables import Column, Table

MOST_MIB = 5.0  # of a report
MOST_SHARE = 1 / 6  # of the images of each class that run by default
N_OF_AN_IMAGE = 10  # classes: 7% of 150
CONTRAST, NOISE = 40.0, 10.0  # of textures, in grey levels
MEASURED_IMAGES = 100  # for class means and statistics
COLUMNS = (
    Column("what", "command", "text", elastic=True),
    Column("seconds", "processor\nseconds", "ratio"),
    Column("mib", "peak,\nMiB", "count"),
    Column("share", "images run\nper class", "ratio"),
    Column("report_mib", "report.html,\nMiB", "ratio"),
)


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser("python -m benchmarks whole", description=__doc__)
    made.add_argument("--classes", type=int, default=150)
    made.add_argument("--images", type=int, default=2000)
    made.add_argument("--lookup-images", type=int, default=400)
    made.add_argument("--runs", type=int, default=200)
    made.add_argument("--seed", type=int, default=0)
    return made


def whole(arguments: Sequence[str]) -> bool:
    """Measures and prints; whether reports and the share of images are as small as promised."""
    given = parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(folder, given)
        command = ("auto-feat", "--config", "large.toml", "--quiet")
        start = spent((*command, "--dry-run"), folder).seconds
        spent(command, folder)  # fills the cache
        rows: list[dict[str, Any]] = [
            {"what": f"--other-images {which}"}
            | vars(spent((*command, "--other-images", which), folder))
            | newest_run(folder)
            for which in ("all", "auto")
        ]
        copy_runs(folder / "mlflow.db", given.runs, given.runs)
        compare = {"compare": (), f"compare --last {given.runs}": ("--last", str(given.runs))}
        rows += [
            {"what": what} | vars(spent(("compare", *more), folder))
            for what, more in compare.items()
        ]
    title = f"{given.classes} classes, {given.images} images, then {given.runs} such runs"
    show(Table(title, COLUMNS, tuple(rows), (_note(rows, start),)), "table")
    is_small = all(row["report_mib"] <= MOST_MIB for row in rows[:2])
    return is_small and rows[1]["share"] <= MOST_SHARE


def _note(rows: Sequence[Mapping[str, Any]], start: float) -> str:
    every, sampled = (row["seconds"] for row in rows[:2])
    return (
        f"With a sample: {sampled / every:.2f} of the processor time, "
        f"{(sampled - start) / (every - start):.2f} without the {start:.1f} s that a start takes "
        f"(--dry-run), {rows[1]['share']:.2f} of the images of each class."
    )


def newest_run(folder: Path) -> dict[str, float]:
    """What the newest run says of itself, and the size of its page."""
    run = max((folder / "semseg-runs").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    return {
        "share": report["extra"].get("run_share", 1.0),
        "report_mib": (run / "report.html").stat().st_size / 2**20,
    }


def make_files(folder: Path, given: argparse.Namespace) -> None:
    """The dataset, the network, the head, the autoencoder, and the settings that name them."""
    size = replace(TINY, d_model=64, d_sae=600, l0=4, n_classes=given.classes)
    torch.manual_seed(given.seed)
    draw = np.random.default_rng(given.seed)
    side = size.patch_px
    textures = draw.normal(scale=CONTRAST, size=(given.classes + 1, side, side, 3))
    prepared = make_preprocessing(size)
    counts = {"training": given.lookup_images, "validation": given.images}
    for split, n_images in counts.items():
        write_split(folder / "data", split, *drawn(n_images, textures, draw), prepared)
    write_names(folder / "data", [f"class {i}" for i in range(1, given.classes + 1)])
    vit = make_vit(size)
    vit.save_pretrained(folder / "vit")
    write_readers(folder, size, vit, *drawn(MEASURED_IMAGES, textures, draw))
    settings = {
        "vit_ckpt": "vit", "vit_layer": size.layer, "image_size": size.image_px,
        "sae_ckpt": "sae.pt", "seg_ckpt": "head.pt", "imgs_root": "data", "max_freq": 0.1,
        "act_mean": "stats.safetensors", "act_norm": "stats.safetensors", "cache_dir": "cache",
        "min_patches": 10, "device": "cpu", "workers": 0,
    }  # fmt: skip
    (folder / "large.toml").write_text(tomli_w.dumps(settings), encoding="utf-8")


def drawn(
    n_images: int, textures: np.ndarray, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Images [b, h, w, 3] and the classes [b, g, g] of their patches; few classes in each."""
    grid, n_classes = TINY.image_px // TINY.patch_px, len(textures) - 1
    few = np.array([draw.permutation(n_classes)[:N_OF_AN_IMAGE] + 1 for _ in range(n_images)])
    which = draw.integers(few.shape[1], size=(n_images, grid * grid))
    classes_bgg = np.take_along_axis(few, which, axis=1).reshape(n_images, grid, grid)
    pieces = 127.5 + textures[classes_bgg].transpose(0, 1, 3, 2, 4, 5)
    pixels = pieces.reshape(n_images, TINY.image_px, TINY.image_px, 3)
    pixels = pixels + draw.normal(scale=NOISE, size=pixels.shape)
    return pixels.round().clip(0, 255).astype(np.uint8), classes_bgg


@torch.inference_mode()
def write_readers(
    folder: Path, size: Size, vit: Any, images: np.ndarray, classes_bgg: np.ndarray
) -> None:
    """A head that names the nearest class mean, and an autoencoder with a latent for each class."""
    prepared = make_preprocessing(size)
    mean, std = (torch.tensor(of) for of in (prepared.mean, prepared.std))
    scaled_bhwc = (torch.from_numpy(images) / 255 - mean) / std
    seen = vit(scaled_bhwc.permute(0, 3, 1, 2), output_hidden_states=True)
    classes_n = torch.from_numpy(classes_bgg).flatten()
    last_nd, residual_nd = (
        tokens[:, 1 + size.n_registers :].flatten(0, 1)
        for tokens in (seen.last_hidden_state, seen.hidden_states[size.layer])
    )
    means_cd = means(last_nd, classes_n, size.n_classes)
    head = SegmentationHead(size.d_model, size.n_classes + 1)
    head.weight.copy_(means_cd)
    head.bias.copy_(-(means_cd**2).sum(dim=1) / 2)
    save_head(folder / "head.pt", head)
    towards_cd = means(residual_nd, classes_n, size.n_classes)[1:] - residual_nd.mean(dim=0)
    sae, stats = make_sae(size, residual_nd, towards_cd)
    saes.save(folder / "sae.pt", sae)
    save_file(
        {"act_mean": stats.act_mean, "act_norm": torch.tensor(stats.act_norm)},
        folder / "stats.safetensors",
    )


def means(tokens_nd: Tensor, classes_n: Tensor, n_classes: int) -> Tensor:
    """The mean of each class's tokens, [n_classes + 1, d]; 0 where there are none."""
    member_cn = (classes_n == torch.arange(n_classes + 1)[:, None]).float()
    return member_cn @ tokens_nd / member_cn.sum(dim=1, keepdim=True).clamp(min=1)

"""A planted world as files, and as an experiment that is open."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
import torch
from safetensors.torch import save_file

from benchmarks.planted.dictionary import make_sae
from benchmarks.planted.images import write_images
from benchmarks.planted.network import LAYER, make_axes, make_head, make_preprocessing, make_vit
from benchmarks.planted.plan import Plan
from semseg_cli.experiment.session import Session, open_session
from semseg_cli.models import sae as saes
from semseg_cli.models.head import save_head
from semseg_cli.settings.inputs import Imgs, Setup

NAMED = (
    "vit_ckpt", "sae_ckpt", "seg_ckpt", "vit_layer", "image_size", "act_mean", "act_norm"
)  # fmt: skip
MAX_FREQ = 0.3  # classes and factors are no rarities in so few patches


@dataclass(frozen=True)
class PlantedWorld:
    """A folder with everything that an experiment needs, and what was planted there."""

    folder: Path
    plan: Plan

    def setup(self, **changes: Any) -> Setup:
        """Settings that name the world's files."""
        return Setup(
            **{
                "vit_ckpt": str(self.folder / "vit"),
                "sae_ckpt": str(self.folder / "sae.pt"),
                "seg_ckpt": str(self.folder / "head.pt"),
                "vit_layer": LAYER,
                "image_size": make_preprocessing(self.plan).crop[0],
                "imgs": Imgs(root=self.folder / "ade20k"),
                "act_mean": str(self.folder / "stats.safetensors"),
                "act_norm": 1.0,
                "cache_dir": self.folder / "cache",
                "device": "cpu",
                "n_workers": 0,
                **changes,
            }
        )

    def write_settings(self) -> None:
        """The same as a settings file, so that commands take the world by --config."""
        setup = self.setup()
        named = {name: getattr(setup, name) for name in NAMED}
        values = {**named, "imgs_root": str(setup.imgs.root), "max_freq": MAX_FREQ}
        (self.folder / "planted.toml").write_text(tomli_w.dumps(values), encoding="utf-8")

    def session(self, **changes: Any) -> Session:
        """An open experiment whose statistics are complete."""
        session = open_session(self.setup(**changes))
        session.complete()
        return session


def write_world(folder: Path, plan: Plan) -> PlantedWorld:
    """Makes everything from the plan and its seed."""
    axes = make_axes(plan)
    make_vit(plan, axes).save_pretrained(folder / "vit")
    saes.save(folder / "sae.pt", make_sae(plan, axes))
    save_head(folder / "head.pt", make_head(plan, axes))
    save_file({"act_mean": torch.zeros(plan.size.d_model)}, folder / "stats.safetensors")
    write_images(plan, folder / "ade20k")
    return PlantedWorld(folder, plan)

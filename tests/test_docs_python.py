"""The Python of README and docs/python.md runs, with demo objects in place of a user's."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from held import OwnSae
from PIL import Image
from torch import Tensor
from worlds import World

from semseg_cli.demo.scenes import make_scene
from semseg_cli.demo.seed import WORLD_SEED
from semseg_cli.demo.textures import CLASS_NAMES
from semseg_cli.demo.world import shipped_files
from semseg_cli.models.head import load_head

REPOSITORY = Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
N_IMAGES = {"training": 24, "validation": 4}


def blocks(page: str) -> list[str]:
    return BLOCK.findall((REPOSITORY / page).read_text("utf-8"))


def pairs(split: str) -> list[tuple[Image.Image, Image.Image]]:
    scenes = [make_scene(WORLD_SEED, split, i) for i in range(N_IMAGES[split])]
    return [(scene.image, scene.labels) for scene in scenes]


def to_tensor(picture: Image.Image) -> Tensor:
    pixels = torch.from_numpy(np.array(picture))
    return pixels.permute(2, 0, 1) if pixels.ndim == 3 else pixels


@pytest.fixture(scope="module")
def objects() -> dict[str, Any]:
    """What a user has before the page begins."""
    from transformers import AutoModel

    files = shipped_files()
    return {
        "torch": torch,
        "vit": AutoModel.from_pretrained(files.vit, dtype=torch.float32),
        "sae": OwnSae(World(files.folder, vit_layer=3)),
        "head": load_head(files.head),
        "names": CLASS_NAMES,
        "training_pairs": pairs("training"),
        "validation_pairs": pairs("validation"),
        "to_tensor": to_tensor,
    }


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_the_python_of_a_page_runs(
    page: str, objects: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Block after block in one namespace, as a reader would."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    space = dict(objects)
    for i, block in enumerate(blocks(page), start=1):
        exec(compile(block, f"{page}, block {i}", "exec"), space)
    assert len(space["result"])

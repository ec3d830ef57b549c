"""The reference's settings, as one flat object."""

from dataclasses import dataclass
from pathlib import Path

from semseg_cli.settings.base import option
from semseg_cli.settings.inputs import Setup
from semseg_cli.settings.latent_choice import LatentChoice


@dataclass(frozen=True, kw_only=True)
class Quantitative(Setup, LatentChoice):
    """The reference's settings: one flat object for `eval_*`, `get_latent_lookup` and `main`."""

    vit_layer: int = option(11, "Residual stream after this many blocks, from 1.", ge=1)
    scale: float = option(
        -2.0, "Intervention scale; random vectors likely need more.", ge=-1e6, le=1e6
    )
    other_images: int | str = option("all", "Images without the class that it is run on.")
    dump_to: Path = option(Path("semseg-runs"), "Folder that receives results.csv.")

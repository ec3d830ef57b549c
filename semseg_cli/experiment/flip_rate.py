"""By how much a fast precision of the ViT changes its clean predictions."""

import logging
from dataclasses import replace
from typing import Final

import torch

from semseg_cli.data.loader import Loader
from semseg_cli.experiment.parts import load_backbone
from semseg_cli.experiment.session import Session
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.progress import Progress, silent
from semseg_cli.ranks.collectives import all_sum

log = logging.getLogger("semseg_cli")
EXACT: Final = "float32"
FLIP_IMAGES = 32
FLIP_RATE = "flip_rate"  # the metric


def flip_metrics(session: Session, progress: Progress = silent) -> dict[str, float]:
    """`flip_rate`, where the ViT runs in a fast precision; said in the log, too."""
    dtype = session.setup.dtype
    if dtype == EXACT:
        return {}
    rate = flip_rate(session, progress)
    log.info("%s", flip_note(dtype, rate, len(session.dataset)))
    return {FLIP_RATE: rate}


def flip_rate(session: Session, progress: Progress = silent) -> float:
    """Share of the patches that have another clean class than in float32.

    On the first `FLIP_IMAGES` of the evaluated images; a second ViT is in memory meanwhile.
    """
    dataset, pipeline = session.dataset, session.pipeline
    few = dataset.subset(range(min(FLIP_IMAGES, len(dataset))))
    vit = load_backbone(replace(session.setup, dtype=EXACT), pipeline.device)
    return flipped_share(pipeline, replace(pipeline, vit=vit), session.loader(few), progress)


@torch.inference_mode()
def flipped_share(
    fast: Pipeline, exact: Pipeline, loader: Loader, progress: Progress = silent
) -> float:
    """Share of the patches of all images to which two pipelines give another clean class."""
    advance = progress("comparison with float32", len(loader.positions))
    counts = torch.zeros(2, dtype=torch.int64)  # patches that flipped, all patches
    both = zip(fast.residuals(loader), exact.residuals(loader), strict=True)
    for (batch, fast_bnd), (_, exact_bnd) in both:
        fast_bt, exact_bt = fast.predict(fast_bnd), exact.predict(exact_bnd)
        counts += torch.tensor([int((fast_bt != exact_bt).sum()), fast_bt.numel()])
        advance(len(batch))
    all_sum(counts)
    n_flipped, n_patches = counts.tolist()
    return n_flipped / n_patches


def flip_note(dtype: str, rate: float, n_images: int) -> str:
    """The flip rate in a sentence; `n_images` are evaluated."""
    n_compared = min(FLIP_IMAGES, n_images)
    images = f"{n_compared} image{'s' if n_compared != 1 else ''}"
    return (
        f"{dtype} changes the clean class of {100 * rate:.2g}% of patches against {EXACT} "
        f"({images})."
    )

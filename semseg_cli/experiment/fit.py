"""Whether the SAE and the head of a run fit its ViT and its images, tried on a few of these."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from semseg_cli.data.batches import Batch
from semseg_cli.data.dataset import even_subset
from semseg_cli.experiment.head_fit import confusion, doubt
from semseg_cli.experiment.named_inputs import MEASURED
from semseg_cli.experiment.place import Place
from semseg_cli.experiment.sae_fit import SCAN_IMAGES, advise, try_others
from semseg_cli.models.pipeline import Pipeline

TRIED_IMAGES = 8
SCALED = ", scaled by their own mean and norm"


@dataclass(frozen=True)
class Doubts:
    """What does not seem to fit, each in a sentence or two; empty where all is well."""

    sae: str = ""
    head: str = ""

    @property
    def sentences(self) -> list[str]:
        """Those that there are."""
        return [said for said in (self.sae, self.head) if said]


NO_DOUBTS = Doubts()


@torch.inference_mode()
def find_doubts(
    pipeline: Pipeline,
    given: Mapping[str, Tensor] | None,
    batches: Sequence[Batch],
    label_threshold: float,
    split: str,
    n_classes: int,
) -> Doubts:
    """What these images say against the autoencoder at its place, and against the head.

    Args:
        pipeline: has the parts; without a head none is tried.
        given: statistics that are known; input scaling that is not is measured on these images.
            None: the autoencoder is not used, and not tried.
        batches: the images; the autoencoder is tried on `SCAN_IMAGES` of them, spread evenly.
        label_threshold: share of a patch's pixels from which its label is clean.
        split: what the images are called.
        n_classes: of the dataset.
    """
    head, n_images = pipeline.head, sum(map(len, batches))
    of_head = None
    if head is not None:
        of_head = confusion(pipeline.vit, head, batches, label_threshold, n_classes)
    images_bchw = torch.cat([batch.images_bchw for batch in batches])
    few_bchw = images_bchw[even_subset(n_images, SCAN_IMAGES)]
    return Doubts(
        sae="" if given is None else _about_sae(pipeline, given, few_bchw, split),
        head="" if of_head is None else doubt(of_head, f"{n_images} {split} images"),
    )


def _about_sae(
    pipeline: Pipeline, given: Mapping[str, Tensor], images_bchw: Tensor, split: str
) -> str:
    place = Place(pipeline.layer, pipeline.site)
    used, best = try_others(pipeline.vit, pipeline.sae, images_bchw, place, given)
    advice = advise(used, best)
    if not advice:
        return ""
    return (
        f"The SAE may not fit: it explains {used.explained_variance:.3f} of the variance at "
        f"{place.site} of layer {place.layer} (patches of {len(images_bchw)} {split} images"
        f"{SCALED if used.scaling == MEASURED else ''}). {advice}"
    )

"""How well a head's predictions agree with the labels of clean patches."""

from collections.abc import Iterable

import torch
from jaxtyping import Int64
from torch import Tensor

from semseg_cli.data.batches import Batch
from semseg_cli.engine.segmentation import count_pixels
from semseg_cli.models.head import SegmentationHead, argmax_logits
from semseg_cli.models.vit import Backbone

SLIGHT = 0.2  # Cohen's kappa up to which agreement is called slight (Landis and Koch, 1977)
FAIR = 0.4  # and below which it is called fair: what is better with other class ids has to be more
GOOD = 0.5  # accuracy from which no head is doubted: few images may be of one class alone
LEAST_PATCHES = 20  # below which nothing is said
SHIFTS = {
    1: 'where 0 is the first class of the masks, say so (zero = "class" in dataset.toml, '
    "first_class=0 in Python)",
    -1: "where output 0 of the head is a class and not null, say so (has_null=False in Python)",
}


@torch.inference_mode()
def confusion(
    vit: Backbone,
    head: SegmentationHead,
    batches: Iterable[Batch],
    label_threshold: float,
    n_classes: int,
) -> Int64[Tensor, "c c"] | None:
    """Clean patches by label (row) and prediction (column); None where the head overflows."""
    found = torch.zeros(n_classes, n_classes, dtype=torch.int64)
    for batch in batches:
        tokens_bnd = vit.prefix(batch.images_bchw, vit.n_layers)
        logits_btc = head(vit.tail(tokens_bnd, vit.n_layers).float())
        if not bool(torch.isfinite(logits_btc).all()):
            return None
        is_clean = batch.share_bt >= label_threshold
        predicted_bt = argmax_logits(logits_btc).cpu()
        found += count_pixels(batch.labels_bt[is_clean], predicted_bt[is_clean], n_classes)
    return found


def kappa(confusion_cc: Int64[Tensor, "c c"], shift: int = 0) -> float:
    """Cohen's kappa (1960) of labels, each taken to be `shift` higher, and predictions.

    1 where all agree, 0 where as many do as the frequencies of both give by chance.
    """
    n_all = int(confusion_cc.sum())
    rows_c, columns_c = confusion_cc.sum(dim=1).double(), confusion_cc.sum(dim=0).double()
    chance = float(torch.outer(rows_c, columns_c).diagonal(shift).sum()) / n_all**2
    agree = int(confusion_cc.diagonal(shift).sum()) / n_all
    return 1.0 if chance == 1.0 else (agree - chance) / (1.0 - chance)


def doubt(confusion_cc: Int64[Tensor, "c c"], where: str) -> str:
    """What seems to be wrong with a head that hardly agrees with the labels, in a sentence.

    Empty where all is well, or where there are fewer than `LEAST_PATCHES` patches. `where` says
    which images they are of.
    """
    n_all = int(confusion_cc.sum())
    if n_all < LEAST_PATCHES or int(confusion_cc.trace()) >= GOOD * n_all:
        return ""
    own, shifted = kappa(confusion_cc), {by: kappa(confusion_cc, by) for by in SHIFTS}
    best = max(shifted, key=lambda by: shifted[by])
    is_shifted = shifted[best] > max(FAIR, own + SLIGHT) and _most_lie(confusion_cc, best)
    if own > SLIGHT and not is_shifted:
        return ""
    accuracy = int(confusion_cc.trace()) / n_all
    said = (
        f"The head hardly agrees with the labels (Cohen's kappa {own:.2f}, accuracy "
        f"{accuracy:.2f}, {n_all} clean patches of {where})"
    )
    if is_shifted:
        return (
            f"{said}, and would (kappa {shifted[best]:.2f}) were all class ids of the labels one "
            f"{'higher' if best > 0 else 'lower'}: {SHIFTS[best]}."
        )
    return (
        f"{said}: check that --seg-ckpt was trained on this ViT's final-norm patch tokens, with "
        "these class ids and null as output 0."
    )


def _most_lie(confusion_cc: Int64[Tensor, "c c"], shift: int) -> bool:
    """Whether most classes that occur, and several, are mostly taken for the one so far off."""
    modes = {c: int(row.argmax()) for c, row in enumerate(confusion_cc) if row.any()}
    n_there = sum(mode == c + shift for c, mode in modes.items())
    return n_there > max(1, len(modes) / 2)

"""Which latent detects which class: counting detections, and choosing by F1.

TP[c, k, l]: clean patches of class c on which latent l is above threshold k. A[k, l]: all clean
patches on which it is. F1 = 2 TP / (2 TP + FP + FN) = 2 TP / (A + N), over the WHOLE split.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from semseg_cli.data.loader import Loader
from semseg_cli.engine.blocks import BlockDetections, Sizes
from semseg_cli.engine.thresholds import Thresholds
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.models.sae.statistics import SaeStats
from semseg_cli.progress import Progress, silent
from semseg_cli.ranks.collectives import all_max, all_sum
from semseg_cli.runs.lookup_csv import LookupRow
from semseg_cli.runs.report import ratio
from semseg_cli.typed import typed

FIRES = 0.01  # share of a class's patches on which a latent that fires on the class is active
SCATTERED = 2**16  # active latents


class Detections:
    """Counts of clean patches: `n` [C + 1] per label, `passed` [C + 1, thresholds, S] those whose
    activation has that as the highest threshold passed.

    `occurs` [n_images, C + 1] says in which images a label has a clean patch. Label 0 is no class;
    its patches count as negatives. `most` is the largest activation in units of the thresholds.
    `blocks` counts candidates by blocks of images, where candidates are given.
    """

    def __init__(
        self,
        n_images: int,
        n_classes: int,
        d_sae: int,
        thresholds: Thresholds,
        device: torch.device | str = "cpu",
        candidates_s: Bool[Tensor, " s"] | None = None,
    ) -> None:
        self.occurs = torch.zeros(n_images, n_classes + 1, dtype=torch.bool)
        self.n = torch.zeros(n_classes + 1, dtype=torch.int64, device=device)
        shape = (n_classes + 1, len(thresholds.levels), d_sae)
        self.passed = torch.zeros(shape, dtype=torch.int64, device=device)
        self.thresholds = thresholds.to(device)
        self.levels = torch.tensor(thresholds.levels, device=device)
        self.most = torch.zeros(1, device=device)
        self.blocks: BlockDetections | None = None
        if candidates_s is not None:
            self.blocks = BlockDetections(n_images, Sizes(*shape), candidates_s.to(device))

    @typed
    def add(
        self,
        f_ns: Float[Tensor, "n s"],
        labels_n: Int64[Tensor, " n"],
        images_n: Int64[Tensor, " n"] | None = None,
    ) -> None:
        """Counts patches: scatters over the active latents, so many at once as caches hold.

        `images_n`, the patches' image positions, is needed where candidates are given.
        """
        n_labels, n_thresholds, d_sae = self.passed.shape
        self.n += torch.bincount(labels_n, minlength=n_labels)
        if self.blocks is not None and images_n is not None:
            self.blocks.add_patches(labels_n, images_n)
        flat, one = f_ns.reshape(-1), torch.ones_like(self.n[0])
        for found in torch.nonzero(flat)[:, 0].split(SCATTERED):
            values = self.thresholds.in_units(flat[found], found % d_sae)
            is_active = values > self.levels[0]  # some activations keep negative values
            active, values = found[is_active], values[is_active]
            self.most = torch.cat([self.most, values]).amax(dim=0, keepdim=True)
            rows = active // d_sae
            n_passed = torch.bucketize(values, self.levels)
            cells = (labels_n[rows] * n_thresholds + n_passed - 1 - rows) * d_sae + active
            self.passed.view(-1).index_add_(0, cells, one.expand_as(cells))
            if self.blocks is not None and images_n is not None:
                self.blocks.add(cells, images_n[rows])

    @property
    def tp(self) -> Int64[Tensor, "c k s"]:
        """Detected patches [C + 1, thresholds, S], of all latents."""
        return self.tp_of(torch.arange(self.passed.shape[2]))

    def tp_of(self, latents_l: Int64[Tensor, " l"]) -> Int64[Tensor, "c k l"]:
        """Detected patches of some latents: who passes a threshold passes all lower ones."""
        tp_ckl = self.passed[:, :, latents_l.to(self.passed.device)]
        for k in range(len(self.levels) - 2, -1, -1):
            tp_ckl[:, k] += tp_ckl[:, k + 1]
        return tp_ckl

    def add_ranks(self) -> None:
        """Adds the counts of the other ranks' images; then all ranks have the same."""
        all_sum(self.n, self.passed)
        all_max(self.occurs.view(torch.uint8), self.most)
        if self.blocks is not None:
            self.blocks.add_ranks()


@torch.inference_mode()
def count_detections(
    pipeline: Pipeline,
    loader: Loader,
    label_threshold: float,
    thresholds: Thresholds,
    progress: Progress = silent,
    candidates_s: Bool[Tensor, " s"] | None = None,
) -> Detections:
    """Detections over all clean patches of the images; only clean patches are encoded."""
    sae, dataset, device = pipeline.sae, loader.dataset, pipeline.device
    n_classes = len(dataset.class_names)
    detections = Detections(len(dataset), n_classes, sae.d_sae, thresholds, device, candidates_s)
    advance = progress("lookup", len(loader.positions))
    for batch, tokens_bnd in pipeline.residuals(loader):
        is_clean_bt = batch.share_bt >= label_threshold
        images_n = batch.positions_b[:, None].expand_as(is_clean_bt)[is_clean_bt]
        detections.occurs[images_n, batch.labels_bt[is_clean_bt]] = True
        is_clean_bt = is_clean_bt.to(device)
        labels_n = batch.labels_bt.to(device)[is_clean_bt]
        patches_nd = pipeline.patches(tokens_bnd)[is_clean_bt]
        rows = (patches_nd, labels_n, images_n.to(device))
        for part_nd, *part in zip(*(each.split(sae.chunk_rows) for each in rows), strict=True):
            detections.add(sae.encode(sae.scale(part_nd)), *part)
        advance(len(batch))
    detections.add_ranks()
    return detections


@dataclass(frozen=True)
class Scores:
    """F1 of one class for every candidate: the best over thresholds, and that threshold's index."""

    f1_s: np.ndarray
    threshold_s: np.ndarray


def best_over_thresholds(tp_ks: np.ndarray, active_ks: np.ndarray, n_class: int) -> Scores:
    """Per latent the best F1 over thresholds; ties go to the smaller threshold."""
    f1_ks = 2 * tp_ks / np.maximum(active_ks + n_class, 1)
    best_s = f1_ks.argmax(axis=0)  # the first maximum
    return Scores(f1_ks[best_s, np.arange(f1_ks.shape[1])], best_s)


def share_of_classes(tp_c: np.ndarray, n_c: np.ndarray) -> float:
    """Of the classes with clean patches, those where at least FIRES of them are detected."""
    return ratio(int(((tp_c >= FIRES * n_c) & (tp_c > 0)).sum()), int((n_c > 0).sum()))


def is_candidate(stats: SaeStats, max_freq: float) -> Bool[Tensor, " s"]:
    """Latents with a firing frequency in (0, max_freq)."""
    frequency_s = stats.sparsity.cpu()
    # In the statistics' own precision: 0.01 in float32 is a little less than 0.01.
    bound = torch.tensor(max_freq, dtype=frequency_s.dtype)
    return (frequency_s > 0) & (frequency_s < bound)


def rank_latents(
    detections: Detections,
    stats: SaeStats,
    class_names: Sequence[str],
    max_freq: float,
    top_k: int,
    n_chosen: int = 1,
    also: Mapping[int, Collection[int]] | None = None,
) -> list[LookupRow]:
    """The `top_k` best latents of each class by F1, the first `n_chosen` marked as chosen.

    Candidates have a firing frequency in (0, max_freq). Ties go to the smaller latent, then to the
    smaller threshold. A class without clean patches, or that no candidate detects, has no rows.

    Args:
        detections: counts over the lookup split.
        stats: firing frequency and maximum of each latent.
        class_names: names of the classes 1..C.
        max_freq: bound on the firing frequency.
        top_k: rows per class.
        n_chosen: rows per class that are marked as chosen.
        also: class id -> candidates that have a row whatever their rank.
    """
    candidates = np.flatnonzero(is_candidate(stats, max_freq).numpy())
    tp_cks = detections.tp_of(torch.from_numpy(candidates)).cpu().numpy()
    active_ks = tp_cks.sum(axis=0)
    n_c = detections.n.cpu().numpy()
    rows = []
    for class_id, n_class in enumerate(detections.n.tolist()):
        if class_id == 0 or n_class == 0 or not len(candidates):
            continue
        scores = best_over_thresholds(tp_cks[class_id], active_ks, n_class)
        order = np.argsort(-scores.f1_s, kind="stable")
        listed = np.arange(len(order)) < top_k
        listed &= scores.f1_s[order] > 0
        listed |= np.isin(candidates[order], list((also or {}).get(class_id, ())))
        for place in np.flatnonzero(listed):
            i = order[place]
            k = int(scores.threshold_s[i])
            counted = _Counted(int(tp_cks[class_id, k, i]), int(active_ks[k, i]), n_class)
            rows.append(
                LookupRow(
                    class_id=class_id,
                    class_name=class_names[class_id - 1],
                    rank=int(place) + 1,
                    latent=int(candidates[i]),
                    chosen=bool(place < n_chosen),
                    threshold=detections.thresholds.in_activations(k, int(candidates[i])),
                    threshold_share=detections.thresholds.share(k),
                    f1=float(scores.f1_s[i]),
                    precision=counted.precision,
                    recall=counted.recall,
                    iou=counted.iou,
                    n_patches=n_class,
                    frequency=float(stats.sparsity[candidates[i]]),
                    maximum=float(stats.top_values[candidates[i]]),
                    class_share=share_of_classes(tp_cks[1:, k, i], n_c[1:]),
                )
            )
    return rows


@dataclass(frozen=True)
class _Counted:
    """Detected patches of a class, all detected patches, and the patches of the class."""

    tp: int
    active: int
    n_class: int

    @property
    def precision(self) -> float:
        return ratio(self.tp, self.active)

    @property
    def recall(self) -> float:
        return ratio(self.tp, self.n_class)

    @property
    def iou(self) -> float:
        return ratio(self.tp, self.active + self.n_class - self.tp)

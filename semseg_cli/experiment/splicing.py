"""What the autoencoder's reconstruction does to the network by itself, as rows beside PCA's."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Int64
from torch import Tensor

from semseg_cli.data.loader import Loader
from semseg_cli.engine.null_saes import sampled_inputs
from semseg_cli.engine.splice import Predicted, Spliced, by_pca, by_sae, equal_rank, splice
from semseg_cli.experiment.session import Session
from semseg_cli.progress import Progress, silent
from semseg_cli.runs.inference import Interval, class_intervals, pooled_intervals
from semseg_cli.runs.interval_rows import Entries, entries
from semseg_cli.runs.report import ratio
from semseg_cli.runs.rows import Row

SAE, PCA = "SAE", "PCA"


@dataclass(frozen=True)
class Splicing:
    """One row per dictionary, the autoencoder first; and, with a head, one per class."""

    rows: list[Row]
    class_rows: list[Row]


def spliced(session: Session, progress: Progress = silent) -> Splicing:
    """The autoencoder and PCA of equal rank in place of the residual, over the lookup split.

    The statistics have to be complete. Of several ranks only the lead's rows have all images.
    """
    pipeline, dataset = session.pipeline, session.lookup_dataset
    rank, loader = equal_rank(pipeline), session.loader(dataset)
    axes = by_pca(sampled_inputs(pipeline, loader, progress), rank)
    found = splice(pipeline, loader, {SAE: by_sae(pipeline.sae), PCA: axes}, progress)
    ranks = {SAE: float(pipeline.latent_stats.sparsity.double().sum()), PCA: float(rank)}
    rows: list[Row] = [
        {"dictionary": name, "rank": ranks[name], **_row(one, loader)}
        for name, one in found.items()
    ]
    of_sae, of_pca = (found[name].predicted for name in (SAE, PCA))
    if of_sae is None or of_pca is None:
        return Splicing(rows, [])
    return Splicing(rows, class_rows(of_sae, of_pca, dataset.class_names))


def _row(found: Spliced, loader: Loader) -> Row:
    made: Row = {"explained_variance": round(found.explained_variance, 9)}
    if found.predicted is None:
        return made
    found.predicted.counts.gather_images(len(loader.dataset))
    before, after = found.predicted.segmented
    changed = pooled_intervals(found.predicted.counts.per_image.numpy())["target_change"]
    return {
        **made,
        **_kept_entries("unchanged", changed),
        "accuracy_before": before.accuracy,
        "accuracy_after": after.accuracy,
        "miou_before": before.miou,
        "miou_after": after.miou,
        "n_lost": len(found.predicted.lost),
    }


def class_rows(of_sae: Predicted, of_pca: Predicted, names: Sequence[str]) -> list[Row]:
    """One row per class that is predicted or labelled; counts per image have to be gathered."""
    changed = class_intervals(of_sae.counts.per_image.numpy())["target_change"]
    (before, after), (_, after_pca) = of_sae.segmented, of_pca.segmented
    rows: list[Row] = []
    pairs = zip(of_sae.n_kept.tolist(), of_pca.n_kept.tolist(), strict=True)
    for class_id, ((n, _), (_, n_kept_pca)) in enumerate(pairs, start=1):
        if not n and class_id not in before.ious:
            continue
        row: dict[str, Any] = {
            "class_id": class_id,
            "class_name": names[class_id - 1],
            "n_orig_patches": n,
        }
        if n:
            row |= _kept_entries("kept", changed[class_id - 1])
            row |= {"kept_pca": n_kept_pca / n, "lost": int(class_id in of_sae.lost)}
        if class_id in before.ious:
            row |= {
                "recall_before": _recall(of_sae.before, class_id),
                "recall_after": _recall(of_sae.after, class_id),
                "iou_before": before.ious[class_id],
                "iou_after": after.ious[class_id],
                "iou_after_pca": after_pca.ious[class_id],
            }
        rows.append(row)
    return rows


def _recall(confusion: Int64[Tensor, "c c"], class_id: int) -> float:
    of_label = confusion[class_id - 1]
    return ratio(int(of_label[class_id - 1]), int(of_label.sum()))


def _kept_entries(key: str, changed: Interval) -> Entries:
    """The entries of the share that does not change."""
    ends = (changed.value, changed.hi, changed.lo)
    value, lo, hi = (None if end is None else 1 - end for end in ends)
    return entries(key, replace(changed, value=value, lo=lo, hi=hi))

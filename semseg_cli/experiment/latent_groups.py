"""Each class's smallest group of latents, grown on the lookup split and judged on the other."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from semseg_cli.data.dataset import Dataset
from semseg_cli.engine.causal_groups import (
    Group,
    first_groups,
    grow_groups,
    judge_groups,
    kind_of,
)
from semseg_cli.engine.edited_batch import n_latents_held
from semseg_cli.engine.edits import Intervention
from semseg_cli.engine.halving import turns
from semseg_cli.engine.latent_edits import set_rows
from semseg_cli.experiment.samples import image_groups
from semseg_cli.experiment.session import Session
from semseg_cli.progress import Progress, silent
from semseg_cli.ranks.collectives import all_max
from semseg_cli.runs.inference import sum_groups
from semseg_cli.runs.interval_rows import class_entries
from semseg_cli.runs.lookup_csv import LookupRow, Member
from semseg_cli.runs.report import ratio


def latent_groups(
    session: Session,
    rows_at: Mapping[float, Sequence[LookupRow]],
    max_group: int,
    select_images: int,
    progress: Progress = silent,
) -> dict[float, list[dict[str, Any]]]:
    """Per scale the rows of groups.csv, one per latent, from rows whose edits were tried.

    Of several ranks only the lead's rows have all images.
    """
    dataset = session.lookup_dataset
    occurs = occurring(session, dataset)
    turns_of = {c: turns(occurs[:, c].contiguous(), select_images) for c in range(occurs.shape[1])}
    found = {}
    for scale, rows in rows_at.items():
        pools: dict[int, list[int]] = {}
        for row in rows:
            pools.setdefault(row.class_id, []).append(row.latent)
        grown = grow_groups(
            session.pipeline,
            first_groups(rows),
            pools,
            scale,
            turns_of.__getitem__,
            lambda positions, n_latents: session.loader(dataset.subset(positions), n_latents),
            max_group=max_group,
            progress=progress,
        )
        found[scale] = _judged(session, grown, scale, progress)
    return found


def occurring(session: Session, dataset: Dataset) -> Bool[Tensor, "n_images labels"]:
    """Which labels have a clean patch in which image."""
    found = torch.zeros(len(dataset), len(dataset.class_names) + 1, dtype=torch.bool)
    for batch in session.loader(dataset):
        is_clean_bt = batch.share_bt >= session.setup.label_threshold
        images_n = batch.positions_b[:, None].expand_as(is_clean_bt)[is_clean_bt]
        found[images_n, batch.labels_bt[is_clean_bt]] = True
    all_max(found.view(torch.uint8))
    return found


def _judged(
    session: Session, groups: Sequence[Group], scale: float, progress: Progress
) -> list[dict[str, Any]]:
    members = [(one.class_id, [Member(latent) for latent in one.smallest]) for one in groups]
    edit = set_rows(session.pipeline, "groups", scale, members)
    loader = session.loader(session.dataset, n_latents_held([Intervention((edit,))]))
    counts = judge_groups(session.pipeline, groups, scale, loader, progress)
    counts.gather_images(len(session.dataset))
    counts_bc4, names = counts.per_image.numpy(), session.dataset.class_names
    by_group = image_groups(session)
    units_bc4 = counts_bc4 if by_group is None else sum_groups(counts_bc4, by_group)
    rows = []
    for one, found, total in zip(
        groups, class_entries(units_bc4), counts_bc4.sum(axis=0).tolist(), strict=True
    ):
        n, n_changed, n_other, n_other_changed = total
        selectivity = ratio(n_changed, n) - ratio(n_other_changed, n_other)
        kind = kind_of(len(one.smallest), n, selectivity)
        for place, latent in enumerate(one.smallest, start=1):
            rows.append(
                {
                    "class_id": one.class_id,
                    "class_name": names[one.class_id - 1],
                    "kind": kind,
                    "place": place,
                    "latent": latent,
                    "chosen": int(kind != "absent"),
                    "target_choosing": one.targets[place - 1],
                    "other_choosing": one.others[place - 1],
                    "best_target_choosing": one.targets[-1],
                    "n_best": len(one.latents),
                    "n_orig_patches": n,
                    **found,
                }
            )
    return rows

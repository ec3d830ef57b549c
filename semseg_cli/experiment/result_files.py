"""The result files of a run folder."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from semseg_cli.data.dataset import Dataset
from semseg_cli.engine.measured import table_of
from semseg_cli.experiment.run import Outcome
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.models.sae.statistics import stats_bytes
from semseg_cli.runs.calibration import Evidence
from semseg_cli.runs.choice import chosen_rows
from semseg_cli.runs.folder import (
    CHANGES_FILE,
    CLASSES_FILE,
    DRAWS_FILE,
    LOOKUP_FILE,
    MATCHED_FILE,
    NULLS_FILE,
    PER_IMAGE_FILE,
    REPORT_FILE,
    STATS_FILE,
    RunFolder,
)
from semseg_cli.runs.inference import sum_groups
from semseg_cli.runs.interval_rows import class_entries
from semseg_cli.runs.per_image import COUNTED, GROUP, POOLED, WEIGHT
from semseg_cli.runs.rows import csv_text, parse_rows

OF_CHOICE = ("stability", "runner_up")


def write_stats(folder: RunFolder, pipeline: Pipeline) -> None:
    """stats.safetensors: the SAE statistics in use, where latents were used."""
    if pipeline.stats is not None:
        folder.write(STATS_FILE, stats_bytes(pipeline.stats, pipeline.layer, pipeline.site))


def write_outcome(folder: RunFolder, outcome: Outcome, dataset: Dataset) -> None:
    """All result files of one intervention."""
    folder.write_json(REPORT_FILE, outcome.report.to_dict())
    became = [result.became for result in outcome.report.class_results]
    names = [None if to is None else dataset.class_names[to - 1] for to in became]
    rows = [{**r, "became": name} for r, name in zip(class_rows(outcome), names, strict=True)]
    folder.write(CLASSES_FILE, csv_text(rows).encode())
    if outcome.lookup_csv is not None:
        folder.write(LOOKUP_FILE, outcome.lookup_csv.encode())
    folder.write(PER_IMAGE_FILE, per_image_frame(outcome, dataset).to_parquet())
    folder.write(CHANGES_FILE, change_frame(outcome, dataset).to_parquet())
    if len(outcome.intervention.draws) > 1:
        folder.write(DRAWS_FILE, csv_text(draw_rows(outcome)).encode())


def write_evidence(folder: RunFolder, evidence: Evidence, images: Sequence[str]) -> None:
    """nulls.parquet: the counts that claims rest on, a row per null and class; and what matched
    peers did together, a row per image and class."""
    folder.write(NULLS_FILE, evidence_frame(evidence).to_parquet())
    folder.write(MATCHED_FILE, matched_frame(evidence, images).to_parquet())


def matched_frame(evidence: Evidence, images: Sequence[str]) -> pd.DataFrame:
    """Counts of matched peers, summed over them, in the form of per_image.parquet: one row for each
    image that was sampled for a class."""
    rows_n, columns_n = np.nonzero(evidence.matched_bk4[..., 0])
    names = pd.Categorical([images[row] for row in rows_n.tolist()], categories=list(images))
    counts_n4 = evidence.matched_bk4[rows_n, columns_n]
    class_ids = np.array(evidence.class_ids, dtype=np.int64)[columns_n]
    counted = dict(zip(COUNTED, counts_n4.T, strict=True))
    return pd.DataFrame({"image": names, "class_id": class_ids, **counted})


def evidence_frame(evidence: Evidence) -> pd.DataFrame:
    """Counts of every null and class: `null` is class (the latents of class `of_class_id`), zero
    (the same at 0), peer, or matched (draw 0 is the class's own edit); `latent` is a peer's."""
    own, peers, matched = evidence.own_kc4, evidence.peers_rc4, evidence.matched_rk4
    every = range(1, len(evidence.class_names) + 1)
    of_class = np.repeat(evidence.class_ids, own.shape[1])
    parts = [
        _counted("class", own, every, of_class_id=of_class),
        _counted("zero", evidence.ablated_kc4, every, of_class_id=of_class),
        _counted("peer", peers, every, latent=np.repeat(evidence.peers, peers.shape[1])),
        _counted("matched", matched, evidence.class_ids),
    ]
    return pd.concat(parts, ignore_index=True)


def _counted(
    null: str, counts_nc4: np.ndarray, class_ids: Sequence[int], **columns: np.ndarray
) -> pd.DataFrame:
    n_draws, n_classes, _ = counts_nc4.shape
    return pd.DataFrame(
        {
            "null": null,
            "draw": np.repeat(np.arange(n_draws), n_classes),
            "class_id": np.tile(np.array(class_ids), n_draws),
            **{name: pd.array(values, dtype="Int64") for name, values in columns.items()},
            **dict(zip(COUNTED, counts_nc4.reshape(-1, 4).T, strict=True)),
        }
    )


def class_rows(outcome: Outcome) -> list[dict[str, Any]]:
    """One row per class, with its latent where it has one, and its intervals."""
    counts_bc4 = outcome.counts.weighted_bk4.numpy()
    units_bc4 = counts_bc4 if outcome.groups is None else sum_groups(counts_bc4, outcome.groups)
    unit = {} if outcome.groups is None else {"unit": "groups"}
    rows: list[dict[str, Any]] = [
        {**result.to_row(), **found, **unit}
        for result, found in zip(
            outcome.report.class_results, class_entries(units_bc4), strict=True
        )
    ]
    first = outcome.intervention.first
    latents = first.latents_by_class
    if latents and len(outcome.intervention.draws) == 1:
        named = {class_id: "+".join(map(str, group)) for class_id, group in latents.items()}
        told = _told_of_choice(outcome)
        pairs = [(row, named[row["class_id"]]) for row in rows]
        rows = [
            {**row, "latent": name, **told.get((row["class_id"], name), {})} for row, name in pairs
        ]
    return rows


def choice_rows(outcome: Outcome) -> list[dict[str, Any]]:
    """The rows of the lookup that a run used; none where it used none."""
    return parse_rows(outcome.lookup_csv) if outcome.lookup_csv else []


def _told_of_choice(outcome: Outcome) -> dict[tuple[int, str], dict[str, Any]]:
    """(class id, latent) -> how stable the choice of a latent that is set alone was."""
    return {
        (row["class_id"], str(row["latent"])): {name: row[name] for name in OF_CHOICE}
        for row in chosen_rows(choice_rows(outcome))
        if all(name in row for name in ("class_id", *OF_CHOICE))
    }


def per_image_frame(outcome: Outcome, dataset: Dataset) -> pd.DataFrame:
    """One row per image and class that was run: all that was counted and summed; where classes
    were run on a sample of the images without them, `weight` says how many each stands for."""
    class_ids = outcome.counts.class_ids.numpy()
    n_images, n_rows = len(dataset), len(class_ids)
    images = list(dataset.names)
    made = pd.DataFrame(
        {
            "image": pd.Categorical(np.repeat(images, n_rows), categories=images),
            "class_id": np.tile(class_ids, n_images),
            **{name: values.reshape(-1) for name, values in table_of(outcome.measured).items()},
            **({} if outcome.groups is None else {GROUP: np.repeat(outcome.groups, n_rows)}),
        }
    )
    weight_bk = outcome.counts.weight_bk
    if weight_bk is None:
        return made
    made[WEIGHT] = weight_bk.numpy().reshape(-1)
    return made[made[WEIGHT] > 0].reset_index(drop=True)


def draw_rows(outcome: Outcome) -> list[dict[str, int]]:
    """One row per draw and class, and one per draw for all classes together."""
    per_draw = outcome.counts.weighted_rk4.numpy()
    pooled = per_draw.sum(axis=1, keepdims=True)
    class_ids = [POOLED, *outcome.counts.class_ids.tolist()]
    return [
        {"draw": draw, "class_id": class_id, **dict(zip(COUNTED, counts.tolist(), strict=True))}
        for draw, by_class in enumerate(np.concatenate([pooled, per_draw], axis=1))
        for class_id, counts in zip(class_ids, by_class, strict=True)
    ]


def change_frame(outcome: Outcome, dataset: Dataset) -> pd.DataFrame:
    """One row per class and class that some of its patches went to."""
    counts, names = outcome.counts, dataset.class_names
    rows, columns = counts.matrix.nonzero(as_tuple=True)
    origin = [int(counts.class_ids[row]) for row in rows]
    target = (columns + 1).tolist()
    return pd.DataFrame(
        {
            "class_id": origin,
            "class_name": [names[i - 1] for i in origin],
            "new_class_id": target,
            "new_class_name": [names[i - 1] for i in target],
            "n_patches": counts.matrix[rows, columns].tolist(),
        }
    )

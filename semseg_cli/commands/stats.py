"""The statistics of an autoencoder on a dataset, as files that other runs take."""

import io
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from semseg_cli.commands.next_steps import print_where
from semseg_cli.commands.noted import notes_of_parts
from semseg_cli.commands.opening import open_parts, open_store, tell_plan
from semseg_cli.commands.recording import (
    Planned,
    dataset_meta,
    recorded,
    require_tracked,
    settings_of,
    shared_meta,
)
from semseg_cli.commands.replaced import keeping
from semseg_cli.commands.same_settings import require_same_settings
from semseg_cli.data.dataset import Dataset
from semseg_cli.experiment.dictionary_facts import numbers_of, summary_of
from semseg_cli.experiment.estimate import estimated, seconds_for_stats
from semseg_cli.experiment.place import stat_sources
from semseg_cli.experiment.result_files import write_stats
from semseg_cli.experiment.splicing import spliced
from semseg_cli.files import make_folder, make_room, write_atomic
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.models.sae.statistics import stats_bytes
from semseg_cli.ranks.ending import together
from semseg_cli.ranks.group import is_lead
from semseg_cli.runs.folder import METRICS_FILE, SPLICE_FILE, STATS_FILE, STATS_MADE_FILE
from semseg_cli.runs.rows import csv_text
from semseg_cli.settings.base import narrow
from semseg_cli.settings.command_line import argument, typed
from semseg_cli.settings.inputs import Setup, StatsSetup
from semseg_cli.settings.output import Recorded
from semseg_cli.settings.training import KeepStats
from semseg_cli.show import console
from semseg_cli.show.dictionary_tables import splice_table, spliced_class_table
from semseg_cli.show.run_tables import stats_table

NO_HEAD = "What the network makes of it takes a head: --seg-ckpt."
UNSCALED = (
    "Its input is not scaled, as its format has it: --act-mean measured and --act-norm measured do."
)
UNUSED = ("imgs_split",)  # of the options that name a dataset


@together()
def make_stats(base: StatsSetup, keep: KeepStats, output: Recorded) -> None:
    """Computes the statistics of an autoencoder on the lookup split, or takes them from the cache.

    They go into a run folder, and where `keep` says.
    """
    require_same_settings(base, output)
    store = open_store(output)
    if is_lead():
        _make_folders(keep)
    has_head = base.seg_ckpt is not None
    # Nothing is evaluated: one split serves for all.
    setup = narrow(base, Setup, imgs=replace(base.imgs, split=base.lookup_split))
    with console.progress_bars(quiet=output.quiet) as progress:
        session = open_parts(setup, output, progress, needs_head=has_head)
        dataset = session.lookup_dataset
        given = list(stat_sources(setup))
        if output.dry_run:
            tell_plan(
                [
                    f"images: {len(dataset)}; given: {', '.join(given) or 'nothing'}",
                    estimated(seconds_for_stats(session)).format(device=session.pipeline.device),
                ],
                is_all=True,
            )
            return
        datasets = [dataset_meta(dataset, "lookup")]
        if not is_lead():
            session.complete(progress)
            spliced(session, progress)
            return
        shared = shared_meta(session, output, datasets)
        planned = [_planned(session.settled(base), keep, output)]
        with recorded(planned, shared, output, store) as folders:
            said = notes_of_parts(session)
            folders[0].update(notes=said)
            session.complete(progress)
            stats = session.pipeline.latent_stats
            row = summary_of(session)
            digests = {**shared["digests"], "lookup": dataset.digest}
            whole = {"act_norm": stats.act_norm, "summary": row, "given": given, "digests": digests}
            whole["act_mean"] = stats.act_mean.tolist()
            splicing = spliced(session, progress)
            whole["splices"] = splicing.rows
            write_stats(folders[0], session.pipeline)
            folders[0].write_json(STATS_MADE_FILE, whole)
            folders[0].write_json(METRICS_FILE, numbers_of(row, splicing))
            if splicing.class_rows:
                folders[0].write(SPLICE_FILE, csv_text(splicing.class_rows).encode())
            save_copies(session.pipeline, keep, quiet=output.quiet)
    pipeline = session.pipeline
    notes = [f"Of the {dataset.split} split, {pipeline.site} of layer {pipeline.layer}."]
    notes += [f"Given, not computed: {', '.join(given)}."] if given else []
    notes += [UNSCALED] if session.given_stats.keys() - set(given) else []
    tables = [
        stats_table(row, [*said, *notes]),
        splice_table(splicing.rows, [_over(dataset) if has_head else NO_HEAD]),
        *([spliced_class_table(splicing.class_rows)] if splicing.class_rows else []),
    ]
    console.show_all(tables, output.format)
    require_tracked(folders)
    file = keep.save or folders[0].path / STATS_FILE
    print_where(folders, store, output, [f"Use:     {typed(*options_of(file))}"])


def _over(dataset: Dataset) -> str:
    """What the numbers of a reconstruction are over."""
    return (
        f"On {len(dataset)} images of the {dataset.split} split: accuracy and mIoU (mean over "
        "classes) over all labelled patches, each labelled as most of its pixels."
    )


def _make_folders(keep: KeepStats) -> None:
    """Makes the folders of the copies before anything is computed."""
    if keep.save is not None:
        make_room(keep.save, "--save")
    if keep.reference_names is not None:
        make_folder(keep.reference_names, "--reference-names")


def _planned(base: StatsSetup, keep: KeepStats, output: Recorded) -> Planned:
    meta = {
        "kind": "stats",
        "command": "stats",
        "method": "stats",
        "run_name": output.run_name or "stats",
    }
    return Planned(meta, settings_of(base, keep, without=UNUSED))


def save_copies(pipeline: Pipeline, keep: KeepStats, *, quiet: bool) -> None:
    """Writes the statistics where the settings say, beside the run folder."""
    stats = pipeline.latent_stats
    if keep.save is not None:
        with keeping(keep.save, quiet=quiet):
            write_atomic(keep.save, stats_bytes(stats, pipeline.layer, pipeline.site), "--save")
    if keep.reference_names is not None:
        for name, tensor in stats.to_tensors().items():
            path = keep.reference_names / f"{name}.pt"
            write_atomic(path, _to_pt(tensor), "--reference-names")


def _to_pt(tensor: Tensor) -> bytes:
    data = io.BytesIO()
    torch.save(tensor, data)
    return data.getvalue()


def options_of(file: Path) -> list[str]:
    """The option that takes all four statistics from one file."""
    return ["--stats", argument(file)]

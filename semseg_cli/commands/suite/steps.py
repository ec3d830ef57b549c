"""The steps of a suite: the choice of latents, then its methods, group by group."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from semseg_cli import tracking
from semseg_cli.commands.journals import identity_of, keeping, stopped_runs
from semseg_cli.commands.method_runs import datasets_of, named_classes, planned_runs, write_run
from semseg_cli.commands.noted import notes_of_parts
from semseg_cli.commands.recording import (
    Planned,
    dataset_meta,
    recorded,
    require_tracked,
    settings_of,
    shared_meta,
)
from semseg_cli.commands.reused_lookup import read_reused
from semseg_cli.commands.suite.work import TAG, Work
from semseg_cli.engine.latent_edits import Groups
from semseg_cli.engine.random_edits import other_classes
from semseg_cli.errors import NoLatents, SemsegError
from semseg_cli.experiment.choose_latents import check_method, choose_latents
from semseg_cli.experiment.dictionary_facts import facts_of
from semseg_cli.experiment.examples import add_examples
from semseg_cli.experiment.latent_groups import latent_groups
from semseg_cli.experiment.nulls import measure_nulls
from semseg_cli.experiment.result_files import write_evidence, write_stats
from semseg_cli.experiment.run import Outcome, run
from semseg_cli.experiment.samples import refuse_overlap
from semseg_cli.experiment.splicing import spliced
from semseg_cli.experiment.top_images import add_latents
from semseg_cli.progress import Progress
from semseg_cli.runs.calibration import calibrate, n_causal, n_judged
from semseg_cli.runs.claims import calibration_text
from semseg_cli.runs.folder import (
    CALIBRATION_FILE,
    GROUPS_FILE,
    LOOKUP_FILE,
    SPLICE_FILE,
    RunFolder,
)
from semseg_cli.runs.lookup_csv import Reused, lookup_text, read_lookup, read_next_best
from semseg_cli.runs.rows import csv_text
from semseg_cli.settings.controls import NextBest, OtherClass
from semseg_cli.settings.methods import AutoFeat, Method


def choose(work: Work, progress: Progress) -> RunFolder:
    """A run with the latents of every class, chosen once for all methods."""
    choice, session = work.suite.choose(), work.session
    datasets = [dataset_meta(session.lookup_dataset, "lookup")]
    meta = {
        "kind": "lookup",
        "command": choice.command,
        "method": f"lookup-{choice.select}",
        "scale": work.suite.at,
        "run_name": f"lookup {choice.select}",
    }
    planned = [Planned(meta, settings_of(work.setup, choice))]
    shared = shared_meta(session, work.output, datasets)
    with recorded(planned, shared, work.output, work.store) as folders:
        folders[0].update(notes=notes_of_parts(session))
        rows = choose_latents(session, choice, progress)[work.suite.at]
        folders[0].write(LOOKUP_FILE, lookup_text(rows).encode())
        write_stats(folders[0], session.pipeline)
        if choice.max_group is not None:
            n_most, at = choice.select_images, work.suite.at
            found = latent_groups(session, {at: rows}, choice.max_group, n_most, progress)
            folders[0].write(GROUPS_FILE, csv_text(found[at]).encode())
    require_tracked(folders)
    return folders[0]


def lookup_of(source: str, tracking_uri: str | None) -> Reused:
    """The latents that a suite uses, from a run of its own or the user's."""
    return read_reused(source, tracking_uri)


def upload_rest(done: Mapping[str, RunFolder], store: str) -> None:
    """Tracks the runs of a suite that did not track, or whose store failed."""
    for one in done.values():
        if not one.meta["uploaded"]:
            tracking.upload(one, store)


def impossible(
    work: Work, methods: Sequence[Method], reused: Mapping[str, Reused]
) -> dict[str, str]:
    """By command, why some of these methods cannot be run with the latents that there are."""
    found = {}
    names = work.session.dataset.class_names
    for method in methods:
        if not isinstance(method, NextBest | OtherClass):
            continue
        assert method.lookup is not None
        text = reused[method.lookup].text
        try:
            if isinstance(method, OtherClass):
                other_classes(_groups(work, text), work.setup.seed)
            elif not set(read_next_best(text, names)) & set(work.class_ids):
                found[method.command] = "No class has a second latent that detects it."
        except SemsegError as error:
            found[method.command] = str(error)
    return found


def _groups(work: Work, text: str, session: Any = None) -> Groups:
    sae = (session or work.session).pipeline.sae
    groups = read_lookup(text, work.session.dataset.class_names, sae.d_sae, "the suite")
    return {class_id: group for class_id, group in groups.items() if class_id in work.class_ids}


def run_group(
    work: Work, methods: Sequence[Method], reused: Mapping[str, Reused], progress: Progress
) -> tuple[list[RunFolder], dict[str, str]]:
    """Runs methods in one pass over the images; every run in its own folder.

    A null SAE may have no latent that detects anything: then it has no run, and the reason, by the
    name of its runs, is the second that comes back.
    """
    if not all(method.has_other_latents for method in methods):
        return _run_group(work, methods, reused, progress), {}
    try:
        return _run_group(work, methods, reused, progress), {}
    except NoLatents as error:
        return [], {method.run_name(is_manual=False): str(error) for method in methods}


def _run_group(
    work: Work, methods: Sequence[Method], reused: Mapping[str, Reused], progress: Progress
) -> list[RunFolder]:
    for method in methods:
        check_method(work.session, method, reused)
        refuse_overlap(work.session, method)
    setup = named_classes(work.session)
    planned = [one for method in methods for one in planned_runs(setup, method, reused)]
    owners = [method for method in methods for _ in method.scale]
    shared = {
        **shared_meta(work.session, work.output, datasets_of(work.session, methods, reused)),
        "protocol": work.setup.protocol,
    }
    identity = identity_of(work.session, planned, shared, reused)
    names = [one.meta["run_name"] for one in planned]
    stopped = stopped_runs(work.output.dump_to, TAG, work.key, names, identity)
    with (
        recorded(planned, shared, work.output, work.store, stopped, _go_on) as folders,
        keeping(folders, identity) as journal,
    ):
        outcomes = run(work.session, methods, reused, progress, journal)
        for folder, method, outcome in zip(folders, owners, outcomes, strict=True):
            made = _calibrated(work, folder, method, outcome, progress)
            write_run(folder, method, made)
            if _is_claim(work, method, outcome) and method.null_sae == "none":
                _add_pictures(work, folder, outcome)
    require_tracked(folders)
    return list(folders)


def _go_on(_folders: Sequence[RunFolder]) -> str:
    return "Type the same command again: the suite goes on where it was stopped."


def _calibrated(
    work: Work, folder: RunFolder, method: Method, outcome: Outcome, progress: Progress
) -> Outcome:
    """The outcome with how many classes it is claimed for, and what its SAE is by itself, where the
    latents are the class's own at the scale of claims; the evidence goes into the folder."""
    if not _is_claim(work, method, outcome):
        return outcome
    assert outcome.lookup_csv is not None
    latents = _groups(work, outcome.lookup_csv, outcome.session)
    evidence = measure_nulls(
        outcome.session, latents, work.suite.at, work.nulls, progress, method.common_length
    )
    standings = calibrate(evidence, work.setup.min_patches)
    folder.write(CALIBRATION_FILE, calibration_text(standings).encode())
    write_evidence(folder, evidence, outcome.session.dataset.names)
    splicing = spliced(outcome.session, progress)
    folder.write(SPLICE_FILE, csv_text(splicing.class_rows).encode())
    numbers = {"n_causal": float(n_causal(standings)), "n_judged": float(n_judged(standings))}
    numbers |= facts_of(outcome.session, splicing)
    report = replace(outcome.report, extra={**outcome.report.extra, **numbers})
    return replace(outcome, report=report)


def _is_claim(work: Work, method: Method, outcome: Outcome) -> bool:
    return isinstance(method, AutoFeat) and outcome.intervention.first.scale == work.suite.at


def _add_pictures(work: Work, folder: RunFolder, outcome: Outcome) -> None:
    """Pictures before and after, of the most and the least selective class; and of what each
    latent responds to."""
    if not work.output.no_plots:
        add_latents([folder], [outcome])
        add_examples(folder, outcome.session, outcome, max(1, work.output.examples))

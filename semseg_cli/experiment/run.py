"""What a command does: make edits, run them in one pass, report."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from semseg_cli.engine.counts import Counts
from semseg_cli.engine.dose_response import dose_metrics
from semseg_cli.engine.edited_batch import n_latents_held
from semseg_cli.engine.edits import Intervention, generator
from semseg_cli.engine.evaluate import evaluate
from semseg_cli.engine.manifold import Manifold, fit_manifold
from semseg_cli.engine.mean_differences import Differences, mean_differences
from semseg_cli.engine.measured import Measured, to_report
from semseg_cli.engine.methods import (
    Ingredients,
    make_interventions,
)
from semseg_cli.experiment.choose_latents import Chosen, is_manual, latents_of
from semseg_cli.experiment.flip_rate import flip_metrics
from semseg_cli.experiment.samples import image_groups, overlap
from semseg_cli.experiment.session import Session
from semseg_cli.progress import Progress, silent
from semseg_cli.ranks.group import is_lead
from semseg_cli.runs.lookup_csv import Reused
from semseg_cli.runs.report import Report
from semseg_cli.settings.methods import Method


@dataclass(frozen=True)
class Outcome:
    """One run's results: a method at one scale."""

    report: Report
    measured: Measured
    lookup_csv: str | None = None
    groups: Sequence[str] | None = None  # of the images

    @property
    def counts(self) -> Counts:
        """What was counted."""
        return self.measured.counts

    @property
    def intervention(self) -> Intervention:
        """What was done."""
        return self.measured.intervention


def shuffled(session: Session) -> Session:
    """The session with the rows of the decoder permuted: latents detect what they did, and write
    what others did."""
    sae = copy.deepcopy(session.pipeline.sae)
    order = torch.randperm(sae.d_sae, generator=generator(session.setup.seed, "shuffled", 0))
    sae.W_dec = sae.W_dec[order.to(sae.W_dec.device)]
    return replace(session, pipeline=replace(session.pipeline, sae=sae))


def prepare(
    session: Session, method: Method, reused: Mapping[str, Reused], progress: Progress = silent
) -> list[tuple[Intervention, str | None]]:
    """A method's interventions, one per scale, each with the lookup that it used as CSV."""
    if method.needs_statistics:
        session.complete(progress)
    if method.is_on_shuffled:
        session = shuffled(session)
    chosen: dict[float, Chosen] = {}
    if method.needs_latents:
        chosen = latents_of(session, method, reused, progress)
    ingredients = Ingredients(
        latents={scale: found.groups for scale, found in chosen.items()},
        class_ids=session.classes_of(session.dataset),
        seed=session.setup.seed,
        differences=_differences(session, method, progress),
        name=method.report_name(is_manual=is_manual(method, reused)),
    )
    made = make_interventions(method, session.pipeline, ingredients)
    tables = [chosen[scale].csv if chosen else None for scale in method.scale]
    return list(zip(made, tables, strict=True))


def _differences(session: Session, method: Method, progress: Progress) -> Differences | None:
    if not method.needs_differences:
        return None
    loader = session.loader(session.lookup_dataset)
    return mean_differences(session.pipeline, loader, session.setup.label_threshold, progress)


def _manifold(session: Session, progress: Progress) -> Manifold | None:
    dataset = session.clean_dataset
    if dataset is None:
        return None
    return fit_manifold(session.pipeline, session.loader(dataset), progress)


def _with_curves(reports: list[Report], n_scales: Sequence[int]) -> list[Report]:
    """The reports, those of a method with several scales with its dose-response metrics."""
    found, begin = [], 0
    for n in n_scales:
        of_method = reports[begin : begin + n]
        curve = dose_metrics(of_method)
        found += [replace(report, extra={**report.extra, **curve}) for report in of_method]
        begin += n
    return found


def _without_latent(session: Session, report: Report) -> list[str]:
    """The classes asked for that are not counted."""
    counted = {result.class_id for result in report.class_results}
    names = session.dataset.class_names
    return [names[i - 1] for i in session.classes_of(session.dataset) if i not in counted]


def run(
    session: Session,
    methods: Sequence[Method],
    reused: Mapping[str, Reused],
    progress: Progress = silent,
) -> list[Outcome]:
    """One outcome per method and scale, all from one pass over the evaluated images.

    `reused` has every lookup that the methods name. Of several ranks only the lead has outcomes.
    """
    setup, names = session.setup, session.dataset.class_names
    prepared = [pair for m in methods for pair in prepare(session, m, reused, progress)]
    flips = flip_metrics(session, progress)
    interventions = [intervention for intervention, _ in prepared]
    manifold = _manifold(session, progress)
    all_measured = evaluate(
        session.pipeline,
        interventions,
        session.loader(session.dataset, n_latents_held(interventions)),
        setup.protocol,
        n_classes=len(names),
        class_ids=session.classes_of(session.dataset),
        manifold=manifold,
        progress=progress,
        description=", ".join(method.command for method in methods),
    )
    for measured in all_measured:
        measured.gather_images(len(session.dataset))
    if not is_lead():
        return []
    groups = image_groups(session)
    n_overlap = max(len(overlap(session, method)) for method in methods)
    doubts = {"n_overlap": float(n_overlap)} if n_overlap else {}
    reports = [to_report(m, names, setup.protocol, setup.min_patches, groups) for m in all_measured]
    reports = [
        replace(
            report,
            extra={**report.extra, **flips, **doubts},
            no_latent=_without_latent(session, report),
        )
        for report in reports
    ]
    reports = _with_curves(reports, [len(method.scale) for method in methods])
    return [
        Outcome(report, measured, table, groups)
        for report, measured, (_, table) in zip(reports, all_measured, prepared, strict=True)
    ]

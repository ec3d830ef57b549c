"""What a command does: make edits, run them in one pass, report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float, Float64
from torch import Tensor

from semseg_cli.engine.counts import Counts
from semseg_cli.engine.dose_response import dose_metrics
from semseg_cli.engine.edited_batch import n_latents_held
from semseg_cli.engine.edits import Intervention
from semseg_cli.engine.evaluate import evaluate
from semseg_cli.engine.latent_edits import Groups, set_latents
from semseg_cli.engine.manifold import Manifold, fit_manifold
from semseg_cli.engine.mean_differences import Differences, mean_differences
from semseg_cli.engine.measured import Measured, to_report
from semseg_cli.engine.measures import measured_by
from semseg_cli.engine.methods import Ingredients, make_interventions
from semseg_cli.engine.other_images import image_weights, may_sample
from semseg_cli.engine.peers import predicted_patches
from semseg_cli.engine.pushes import mean_moves, mean_push
from semseg_cli.experiment.choose_latents import Chosen, check_method, is_manual, latents_of
from semseg_cli.experiment.flip_rate import flip_metrics
from semseg_cli.experiment.null_sae import on_null_sae
from semseg_cli.experiment.samples import image_groups, overlap
from semseg_cli.experiment.session import Session
from semseg_cli.progress import Progress, each_once, silent, stage
from semseg_cli.ranks.group import is_lead
from semseg_cli.runs.journal import Journal
from semseg_cli.runs.lookup_csv import Reused, read_next_best
from semseg_cli.runs.report import Report
from semseg_cli.settings.methods import AutoFeat, Method


@dataclass(frozen=True)
class Prepared:
    """A method at one scale, the lookup that it uses as CSV, and the session with its SAE."""

    intervention: Intervention
    lookup_csv: str | None
    session: Session


@dataclass(frozen=True)
class Outcome:
    """One run's results: a method at one scale. `session` has the SAE that it used."""

    report: Report
    measured: Measured
    session: Session
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


def prepare(
    session: Session,
    method: Method,
    reused: Mapping[str, Reused],
    progress: Progress = silent,
    journal: Journal | None = None,
) -> list[Prepared]:
    """A method's interventions, one per scale; `journal` as for `run`."""
    check_method(session, method, reused)
    if method.needs_statistics:
        session.complete(progress)
    session = on_null_sae(session, method.null_sae, progress)
    chosen: dict[float, Chosen] = {}
    if method.needs_latents:
        chosen = latents_of(session, method, reused, progress, journal)
    ingredients = Ingredients(
        latents={scale: found.groups for scale, found in chosen.items()},
        class_ids=session.classes_of(session.dataset),
        seed=session.setup.seed,
        differences=_differences(session, method, progress),
        name=method.called(is_manual=is_manual(method, reused)),
        next_best=_next_best(session, method, chosen),
    )
    if method.needs_pushes:
        ingredients = replace(ingredients, pushes=_pushes(session, ingredients, progress))
    made = make_interventions(method, session.pipeline, ingredients)
    tables = [chosen[scale].csv if chosen else None for scale in method.scale]
    return [Prepared(one, csv, session) for one, csv in zip(made, tables, strict=True)]


def _next_best(
    session: Session, method: Method, chosen: Mapping[float, Chosen]
) -> dict[float, Groups]:
    if not method.needs_next_best:
        return {}
    names = session.dataset.class_names
    return {scale: read_next_best(found.csv, names) for scale, found in chosen.items()}


def _pushes(
    session: Session, ingredients: Ingredients, progress: Progress
) -> dict[float, Float[Tensor, "k d"]]:
    """Per scale what the automatic edit of each class does on average."""
    edits = [
        set_latents(session.pipeline, AutoFeat.command, scale, ingredients.latents_at(scale))
        for scale in ingredients.latents
    ]
    loader = session.loader(session.lookup_dataset, n_latents_held([Intervention(tuple(edits))]))
    found = mean_moves(session.pipeline, edits, loader, session.setup.protocol, progress)
    return dict(zip(ingredients.latents, map(mean_push, found), strict=True))


def _differences(session: Session, method: Method, progress: Progress) -> Differences | None:
    if not method.needs_differences:
        return None
    loader = session.loader(session.lookup_dataset)
    threshold = session.setup.label_threshold
    return mean_differences(session.pipeline, loader, threshold, progress, method.contrast)


def _manifold(session: Session, progress: Progress) -> Manifold | None:
    dataset = session.clean_dataset
    if dataset is None:
        return None
    return fit_manifold(session.pipeline, session.loader(dataset), progress)


def _weights(
    session: Session, methods: Sequence[Method], progress: Progress
) -> Float64[Tensor, "n_images c"] | None:
    """How many images each one stands for, by class; None where every class is run on all."""
    setup, dataset = session.setup, session.dataset
    asked = setup.n_other_images
    is_by_class = setup.protocol == "class" and not all(method.is_shared for method in methods)
    if not (is_by_class and may_sample(len(dataset), asked)):
        return None
    loader, n_classes = session.loader(dataset), len(dataset.class_names)
    n_own_bc = predicted_patches(session.pipeline, loader, n_classes, progress)
    return image_weights(n_own_bc, dataset.indices, asked, setup.seed)


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
    journal: Journal | None = None,
) -> list[Outcome]:
    """One outcome per method and scale, all from one pass over the evaluated images.

    `reused` has every lookup that the methods name, `journal` what was chosen and counted before
    the run was stopped. Of several ranks only the lead has outcomes.
    """
    setup, names = session.setup, session.dataset.class_names
    with each_once():
        of_methods = [prepare(session, method, reused, progress, journal) for method in methods]
    prepared = [one for of_method in of_methods for one in of_method]
    flips = flip_metrics(session, progress)
    interventions = [one.intervention for one in prepared]
    manifold = _manifold(session, progress)
    all_measured = evaluate(
        session.pipeline,
        interventions,
        session.loader(session.dataset, n_latents_held(interventions)),
        setup.protocol,
        n_classes=len(names),
        class_ids=session.classes_of(session.dataset),
        weight_bc=_weights(session, methods, progress),
        manifold=manifold,
        journal=journal,
        progress=progress,
        description=", ".join(method.command for method in methods),
    )
    for measured in all_measured:
        measured.gather_images(len(session.dataset))
    if not is_lead():
        return []
    groups = image_groups(session)
    n_overlap = max(len(overlap(session, method)) for method in methods)
    told = {"n_overlap": float(n_overlap)} if n_overlap else {}
    told |= {} if groups is None else {"n_groups": float(len(set(groups)))}
    measures = [method.measure for method in methods for _ in method.scale]
    with stage("Computing intervals"):
        reports = [
            to_report(m, names, setup.protocol, setup.min_patches, groups) for m in all_measured
        ]
    reports = [
        replace(
            report,
            extra={**report.extra, **flips, **told, **measured_by(measure, m.counts, groups)},
            no_latent=_without_latent(session, report),
        )
        for report, m, measure in zip(reports, all_measured, measures, strict=True)
    ]
    reports = _with_curves(reports, [len(method.scale) for method in methods])
    return [
        Outcome(report, measured, one.session, one.lookup_csv, groups)
        for report, measured, one in zip(reports, all_measured, prepared, strict=True)
    ]

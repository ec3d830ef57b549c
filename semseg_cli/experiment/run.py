"""What a command does: choose latents, make edits, run them in one pass, report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from semseg_cli.engine.causal_choice import select_causal, wanted_images
from semseg_cli.engine.counts import Counts
from semseg_cli.engine.detections import count_detections, rank_latents, warn_of_left_out
from semseg_cli.engine.dose_response import dose_metrics
from semseg_cli.engine.edits import MAX_SCALE, Intervention
from semseg_cli.engine.evaluate import evaluate, n_latents_held, to_report
from semseg_cli.engine.latent_edits import Groups, set_latents
from semseg_cli.engine.mean_differences import Differences, mean_differences
from semseg_cli.engine.measures import measured_by
from semseg_cli.engine.methods import Ingredients, make_interventions
from semseg_cli.engine.pushes import mean_pushes
from semseg_cli.errors import SemsegError, UsageError
from semseg_cli.experiment.flip_rate import flip_metrics
from semseg_cli.experiment.null_sae import on_null_sae
from semseg_cli.experiment.session import Session
from semseg_cli.progress import Progress, silent
from semseg_cli.ranks.group import is_lead
from semseg_cli.runs.lookup_csv import (
    LookupRow,
    Reused,
    chosen_latents,
    lookup_text,
    read_lookup,
    read_runners_up,
)
from semseg_cli.runs.report import Report
from semseg_cli.settings.choosing import Choose
from semseg_cli.settings.methods import AutoFeat, MeanDiff, Method


@dataclass(frozen=True)
class Chosen:
    """Each class's latents at one scale, and the table that it comes from as CSV."""

    groups: Groups
    csv: str


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
    counts: Counts
    intervention: Intervention
    session: Session
    lookup_csv: str | None = None


def choose_latents(
    session: Session, choice: Choose | Method, progress: Progress = silent
) -> dict[float, list[LookupRow]]:
    """Per scale the candidate rows of every class to intervene on, the chosen ones marked.

    Raises:
        SemsegError: no class has a latent.
    """
    session.complete(progress)
    encoder, setup, dataset = session.encoder, session.setup, session.lookup_dataset
    wanted = set(session.classes_of(dataset))
    loader = session.loader(dataset)
    detections = count_detections(encoder, loader, setup.label_threshold, progress)
    names, n_chosen = dataset.class_names, choice.top_k_group
    top_k, stats = choice.n_listed, encoder.latent_stats
    ranked = rank_latents(detections, stats, names, choice.max_freq, top_k, n_chosen)
    warn_of_left_out(detections, stats, ranked, choice.max_freq)
    rows = [row for row in ranked if row.class_id in wanted]
    if not rows:
        raise SemsegError(
            "No class has a latent: none has clean patches in the lookup split that a latent with "
            f"firing frequency below {choice.max_freq:g} detects; try more --lookup-images, a "
            "larger --max-freq or a smaller --label-threshold."
        )
    if choice.select == "f1":
        return dict.fromkeys(choice.scale, rows)
    wanted_by_row = wanted_images(rows, detections.occurs, choice.select_images)
    used = wanted_by_row.any(dim=1)
    chosen = select_causal(
        session.pipeline,
        rows,
        sorted(set(choice.tried_at)),
        session.loader(dataset.subset(used.nonzero().flatten().tolist()), len(rows)),
        wanted_by_row[used],
        n_chosen=n_chosen,
        progress=progress,
    )
    return {at: chosen[tried] for at, tried in zip(choice.scale, choice.tried_at, strict=True)}


def latents_of(
    session: Session,
    method: Method,
    reused: Mapping[str, Reused],
    progress: Progress = silent,
) -> dict[float, Chosen]:
    """Per scale the latents that a method edits; reused ones where the settings name a lookup."""
    if method.lookup is not None:
        groups = reused_groups(session, method, reused)
        return dict.fromkeys(method.scale, Chosen(groups, reused[method.lookup].text))
    chosen = choose_latents(session, method, progress)
    return {
        scale: Chosen(chosen_latents(rows), lookup_text(rows)) for scale, rows in chosen.items()
    }


def check_method(session: Session, method: Method, reused: Mapping[str, Reused]) -> None:
    """Refuses a protocol or a lookup that does not fit, before a run begins.

    Raises:
        UsageError: the method means nothing under the protocol.
        SemsegError: the lookup does not fit.
    """
    if session.setup.protocol not in method.protocols:
        raise UsageError(
            f"{method.command} has no --protocol {session.setup.protocol}: there each patch gets "
            "the latent of its own label, and this method sets it on patches of other classes."
        )
    if method.needs_latents and method.lookup is not None:
        reused_groups(session, method, reused)


def reused_groups(session: Session, method: Method, reused: Mapping[str, Reused]) -> Groups:
    """The latents that a lookup names for each class.

    Raises:
        SemsegError: the lookup fits neither the dataset nor the SAE, or names nothing of use.
    """
    assert method.lookup is not None
    found = reused[method.lookup]
    names, d_sae = session.dataset.class_names, session.encoder.sae.d_sae
    groups = read_lookup(found.text, names, d_sae, method.lookup)
    _check_reused(groups, session.classes_of(session.dataset), method.scale)
    _check_same_sae(found, session.encoder.sae.digest)
    return groups


def _check_reused(groups: Groups, class_ids: Sequence[int], scales: Sequence[float]) -> None:
    if not set(groups) & set(class_ids):
        raise SemsegError("The lookup has a latent for none of the classes asked for by --class.")
    largest = max(abs(member.coefficient) for group in groups.values() for member in group)
    if largest * max(map(abs, scales)) > MAX_SCALE:
        raise SemsegError(
            f"A coefficient of the lookup, {largest:g}, times the scale is beyond {MAX_SCALE:g} "
            "times the latent's maximum: make one of them smaller."
        )


def _check_same_sae(reused: Reused, digest: str) -> None:
    if reused.sae_digest not in (None, digest):
        raise SemsegError(
            "The lookup was made with another SAE than --sae-ckpt: its latents mean nothing here; "
            "make one with `semseg-cli lookup`."
        )


def prepare(
    session: Session, method: Method, reused: Mapping[str, Reused], progress: Progress = silent
) -> list[Prepared]:
    """A method's interventions, one per scale."""
    check_method(session, method, reused)
    if method.needs_statistics:
        session.complete(progress)
    session = on_null_sae(session, method.null_sae, progress)
    chosen: dict[float, Chosen] = {}
    if method.needs_latents:
        chosen = latents_of(session, method, reused, progress)
    ingredients = Ingredients(
        latents={scale: found.groups for scale, found in chosen.items()},
        class_ids=session.classes_of(session.dataset),
        seed=session.setup.seed,
        differences=_differences(session, method, progress),
        name=method.report_name(is_manual=is_manual(method, reused)),
        runners_up=_runners_up(session, method, chosen),
    )
    if method.needs_pushes:
        ingredients = replace(ingredients, pushes=_pushes(session, ingredients, progress))
    made = make_interventions(method, session.pipeline, ingredients)
    tables = [chosen[scale].csv if chosen else None for scale in method.scale]
    return [Prepared(one, csv, session) for one, csv in zip(made, tables, strict=True)]


def _runners_up(
    session: Session, method: Method, chosen: Mapping[float, Chosen]
) -> dict[float, Groups]:
    if not method.needs_runners_up:
        return {}
    names = session.dataset.class_names
    return {scale: read_runners_up(found.csv, names) for scale, found in chosen.items()}


def _pushes(
    session: Session, ingredients: Ingredients, progress: Progress
) -> dict[float, Float[Tensor, "k d"]]:
    """Per scale what the automatic edit of each class does on average."""
    edits = [
        set_latents(session.pipeline, AutoFeat.name, scale, ingredients.latents_at(scale))
        for scale in ingredients.latents
    ]
    loader = session.loader(session.lookup_dataset, n_latents_held([Intervention(tuple(edits))]))
    found = mean_pushes(session.pipeline, edits, loader, session.setup.protocol, progress)
    return dict(zip(ingredients.latents, found, strict=True))


def is_manual(method: Method, reused: Mapping[str, Reused]) -> bool:
    """Whether a method's latents come from a table that no run made."""
    return method.lookup is not None and reused[method.lookup].is_manual


def _differences(session: Session, method: Method, progress: Progress) -> Differences | None:
    if not method.needs_differences:
        return None
    loader = session.loader(session.lookup_dataset)
    direction = method.direction if isinstance(method, MeanDiff) else "mean"
    threshold = session.setup.label_threshold
    return mean_differences(session.pipeline, loader, threshold, progress, direction)


def _with_curves(reports: list[Report], n_scales: Sequence[int]) -> list[Report]:
    """The reports, those of a method with several scales with its dose-response metrics."""
    found, begin = [], 0
    for n in n_scales:
        of_method = reports[begin : begin + n]
        curve = dose_metrics(of_method)
        found += [replace(report, extra={**report.extra, **curve}) for report in of_method]
        begin += n
    return found


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
    of_methods = [prepare(session, method, reused, progress) for method in methods]
    prepared = [one for of_method in of_methods for one in of_method]
    flips = flip_metrics(session, progress)
    interventions = [one.intervention for one in prepared]
    all_measured = evaluate(
        session.pipeline,
        interventions,
        session.loader(session.dataset, n_latents_held(interventions)),
        setup.protocol,
        n_classes=len(names),
        class_ids=session.classes_of(session.dataset),
        progress=progress,
        description=", ".join(method.command for method in methods),
    )
    for measured in all_measured:
        measured.counts.gather_images(len(session.dataset))
    if not is_lead():
        return []
    measures = [method.measure for method in methods for _ in method.scale]
    reports = [
        replace(report, extra={**report.extra, **flips, **measured_by(measure, m.counts)})
        for m, measure in zip(all_measured, measures, strict=True)
        for report in [to_report(m, names, setup.protocol, setup.min_patches)]
    ]
    reports = _with_curves(reports, [len(method.scale) for method in methods])
    return [
        Outcome(report, measured.counts, one.intervention, one.session, one.lookup_csv)
        for report, measured, one in zip(reports, all_measured, prepared, strict=True)
    ]

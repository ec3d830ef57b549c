"""What a command does: choose latents, make edits, run them in one pass, report."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from semseg_cli.engine.causal_choice import select_causal, wanted_images
from semseg_cli.engine.counts import Counts
from semseg_cli.engine.detections import count_detections, rank_latents, warn_of_left_out
from semseg_cli.engine.dose_response import dose_metrics
from semseg_cli.engine.edits import MAX_SCALE, Intervention, generator
from semseg_cli.engine.evaluate import evaluate, n_latents_held, to_report
from semseg_cli.engine.latent_edits import Groups
from semseg_cli.engine.mean_differences import Differences, mean_differences
from semseg_cli.engine.methods import Ingredients, make_interventions
from semseg_cli.errors import SemsegError
from semseg_cli.experiment.flip_rate import flip_metrics
from semseg_cli.experiment.session import Session
from semseg_cli.progress import Progress, silent
from semseg_cli.ranks.group import is_lead
from semseg_cli.runs.lookup_csv import LookupRow, Reused, chosen_latents, lookup_text, read_lookup
from semseg_cli.runs.report import Report
from semseg_cli.settings.choosing import Choose
from semseg_cli.settings.methods import Method


@dataclass(frozen=True)
class Chosen:
    """Each class's latents at one scale, and the table that it comes from as CSV."""

    groups: Groups
    csv: str


@dataclass(frozen=True)
class Outcome:
    """One run's results: a method at one scale."""

    report: Report
    counts: Counts
    intervention: Intervention
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
    top_k, stats = max(choice.top_k, n_chosen), encoder.latent_stats
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
    return select_causal(
        session.pipeline,
        rows,
        choice.scale,
        session.loader(dataset.subset(used.nonzero().flatten().tolist()), len(rows)),
        wanted_by_row[used],
        n_chosen=n_chosen,
        progress=progress,
    )


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


def check_reused(session: Session, method: Method, reused: Mapping[str, Reused]) -> None:
    """Refuses a lookup that does not fit, before a run begins."""
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


def shuffled(session: Session) -> Session:
    """The session with the rows of the decoder permuted: latents detect what they did, and write
    what others did."""
    sae = copy.deepcopy(session.encoder.sae)
    order = torch.randperm(sae.d_sae, generator=generator(session.setup.seed, "shuffled", 0))
    sae.W_dec = sae.W_dec[order.to(sae.W_dec.device)]
    return replace(session, encoder=replace(session.encoder, sae=sae))


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


def is_manual(method: Method, reused: Mapping[str, Reused]) -> bool:
    """Whether a method's latents come from a table that no run made."""
    return method.lookup is not None and reused[method.lookup].is_manual


def _differences(session: Session, method: Method, progress: Progress) -> Differences | None:
    if not method.needs_differences:
        return None
    loader = session.loader(session.lookup_dataset)
    return mean_differences(session.pipeline, loader, session.setup.label_threshold, progress)


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
    prepared = [pair for m in methods for pair in prepare(session, m, reused, progress)]
    flips = flip_metrics(session, progress)
    interventions = [intervention for intervention, _ in prepared]
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
    reports = [to_report(m, names, setup.protocol, setup.min_patches) for m in all_measured]
    reports = [replace(report, extra={**report.extra, **flips}) for report in reports]
    reports = _with_curves(reports, [len(method.scale) for method in methods])
    return [
        Outcome(report, measured.counts, intervention, table)
        for report, measured, (intervention, table) in zip(
            reports, all_measured, prepared, strict=True
        )
    ]

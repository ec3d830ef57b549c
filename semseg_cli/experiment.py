"""What a command does: choose latents, make edits, run them in one pass, report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from semseg_cli.causal import select_causal
from semseg_cli.config import AutoFeat, Choose, Method, RandVec
from semseg_cli.counts import Counts
from semseg_cli.errors import SemsegError
from semseg_cli.evaluate import evaluate, to_report
from semseg_cli.interventions import Edit, make_edits, needs_latents, needs_statistics
from semseg_cli.lookup import count_detections, rank_latents
from semseg_cli.lookup_table import LookupRow, chosen_latents, lookup_text, read_lookup
from semseg_cli.progress import Progress, silent
from semseg_cli.results import Report
from semseg_cli.session import Session


@dataclass(frozen=True)
class Latents:
    """Each class's latent at one scale, and the table that it comes from as CSV."""

    by_class: Mapping[int, int]
    csv: str


@dataclass(frozen=True)
class Outcome:
    """One run's results: a method at one scale."""

    report: Report
    counts: Counts
    edit: Edit
    lookup_csv: str | None = None


def choose_latents(
    session: Session, choice: Choose | AutoFeat | RandVec, progress: Progress = silent
) -> dict[float, list[LookupRow]]:
    """Per scale the candidate rows of every class to intervene on, the chosen one marked.

    Raises:
        SemsegError: no class has a latent.
    """
    session.complete(progress)
    pipeline, setup = session.pipeline, session.setup
    loader = session.loader(session.lookup_dataset)
    detections = count_detections(pipeline, loader, setup.label_threshold, progress)
    names = session.lookup_dataset.class_names
    ranked = rank_latents(detections, pipeline.latent_stats, names, choice.max_freq, choice.top_k)
    wanted = set(session.classes)
    rows = [row for row in ranked if row.class_id in wanted]
    if not rows:
        raise SemsegError(
            "No class has a latent: none has clean patches in the lookup split that a latent with "
            f"firing frequency below {choice.max_freq:g} detects; try more --lookup-images, a "
            "larger --max-freq or a smaller --label-threshold."
        )
    if choice.select == "f1":
        return dict.fromkeys(choice.scale, rows)
    return select_causal(
        pipeline,
        rows,
        choice.scale,
        loader,
        detections.occurs,
        n_most=choice.select_images,
        rows_per_pass=setup.batch_size,
        progress=progress,
    )


def latents_of(
    session: Session,
    method: AutoFeat | RandVec,
    reused: Mapping[str, str],
    progress: Progress = silent,
) -> dict[float, Latents]:
    """Per scale the latents that a method edits; reused ones where the settings name a lookup."""
    if method.lookup is not None:
        text = reused[method.lookup]
        names, d_sae = session.dataset.class_names, session.pipeline.sae.d_sae
        latents = read_lookup(text, names, d_sae, method.lookup)
        _require_any(latents, session.classes)
        return dict.fromkeys(method.scale, Latents(latents, text))
    chosen = choose_latents(session, method, progress)
    return {
        scale: Latents(chosen_latents(rows), lookup_text(rows)) for scale, rows in chosen.items()
    }


def _require_any(latents: Mapping[int, int], class_ids: Sequence[int]) -> None:
    if not set(latents) & set(class_ids):
        raise SemsegError("The lookup has a latent for none of the classes asked for by --class.")


def run(
    session: Session,
    methods: Sequence[Method],
    reused: Mapping[str, str],
    progress: Progress = silent,
) -> list[Outcome]:
    """One outcome per method and scale, all from one pass over the evaluated images.

    `reused` has the text of every lookup that the methods name.
    """
    setup = session.setup
    edits, tables = [], []
    for method in methods:
        latents: dict[float, Latents] = {}
        if needs_statistics(method):
            session.complete(progress)
        if needs_latents(method):
            latents = latents_of(session, method, reused, progress)
        by_scale = {scale: found.by_class for scale, found in latents.items()}
        edits += make_edits(method, session.pipeline, by_scale, session.classes, setup.seed)
        tables += [latents[s].csv if s in latents else None for s in method.scale]
    all_measured = evaluate(
        session.pipeline,
        edits,
        session.loader(session.dataset),
        setup.protocol,
        n_classes=len(session.dataset.class_names),
        class_ids=session.classes,
        rows_per_pass=setup.batch_size,
        progress=progress,
        description=", ".join(method.command for method in methods),
    )
    names = session.dataset.class_names
    return [
        Outcome(to_report(m, names, setup.protocol, setup.min_patches), m.counts, m.edit, table)
        for m, table in zip(all_measured, tables, strict=True)
    ]

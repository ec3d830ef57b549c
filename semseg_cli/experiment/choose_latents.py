"""Each class's latents: chosen on the lookup split, or taken from a lookup that fits."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from semseg_cli.engine.causal_choice import Drives, select_causal
from semseg_cli.engine.detections import (
    Detections,
    count_detections,
    is_candidate,
    rank_latents,
)
from semseg_cli.engine.edits import MAX_SCALE
from semseg_cli.engine.first_order import first_order_falls, gradient_images
from semseg_cli.engine.latent_edits import Groups
from semseg_cli.engine.stability import RIVALS, with_f1_stability
from semseg_cli.engine.thresholds import Thresholds, warn_of_small_maxima
from semseg_cli.engine.without_latent import Search, not_the_best, without_latent
from semseg_cli.errors import NoLatents, SemsegError, UsageError
from semseg_cli.experiment.matching import matched
from semseg_cli.experiment.session import Session
from semseg_cli.progress import Progress, silent
from semseg_cli.runs.journal import Journal
from semseg_cli.runs.lookup_csv import (
    LookupRow,
    Reused,
    lookup_text,
    read_lookup,
    with_coefficients,
)
from semseg_cli.settings.intervening import COMMON_LENGTH
from semseg_cli.settings.latent_choice import Choose
from semseg_cli.settings.methods import AutoFeat, Method

log = logging.getLogger("semseg_cli")


@dataclass(frozen=True)
class Chosen:
    """Each class's latents at one scale, and the table that it comes from as CSV."""

    groups: Groups
    csv: str


def choose_latents(
    session: Session, choice: Choose | Method, progress: Progress = silent
) -> dict[float, list[LookupRow]]:
    """Per scale the candidate rows of every class to intervene on, the chosen ones marked.

    Raises:
        NoLatents: no class has a latent.
    """
    session.complete(progress)
    pipeline, dataset = session.pipeline, session.lookup_dataset
    stats = pipeline.latent_stats
    detections = count_detections(
        pipeline,
        session.loader(dataset),
        session.setup.label_threshold,
        Thresholds.shares_of_maximum(choice.threshold, stats),
        progress,
        is_candidate(stats, choice.max_freq),
    )
    warn_of_small_maxima(float(detections.most))
    rows = _best_detectors(session, choice, detections)
    if not choice.tries_edits:
        return dict.fromkeys(choice.scale, rows)
    scales = sorted(set(choice.tried_at))
    rows_at = dict.fromkeys(scales, rows)
    if choice.select == "cause":
        rows_at = _with_drivers(session, choice, detections, rows, progress)
    chosen = select_causal(
        pipeline,
        rows_at,
        detections.occurs,
        lambda positions, n_latents: session.loader(dataset.subset(positions), n_latents),
        n_most=choice.select_images,
        n_chosen=choice.top_k_group,
        progress=progress,
    )
    return {at: chosen[tried] for at, tried in zip(choice.scale, choice.tried_at, strict=True)}


def _best_detectors(
    session: Session, choice: Choose | Method, detections: Detections
) -> list[LookupRow]:
    """The best rows of every class by F1, with how often each would be chosen again."""
    names, stats = session.lookup_dataset.class_names, session.pipeline.latent_stats
    search = _search(session, choice, detections)
    top_k, n_chosen = choice.n_listed, choice.top_k_group
    ranked = rank_latents(detections, stats, names, choice.max_freq, max(top_k, RIVALS), n_chosen)
    assert detections.blocks is not None
    every = [row for row in ranked if row.class_id in search.wanted]
    every = with_f1_stability(every, detections.blocks, n_chosen)
    rows = [row for row in every if row.rank <= top_k]
    unbounded = rank_latents(detections, stats, names, math.inf, top_k=1)
    unbounded = [row for row in unbounded if row.class_id in search.wanted]
    lacking = without_latent(search, rows, unbounded)
    if not rows:
        raise NoLatents(f"No class has a latent. {' '.join(lacking)}")
    for said in (*not_the_best(search, rows, unbounded), *lacking):
        log.warning("%s", said)
    return rows


def _search(session: Session, choice: Choose | Method, detections: Detections) -> Search:
    dataset = session.lookup_dataset
    return Search(
        detections=detections,
        class_names=dataset.class_names,
        wanted=frozenset(session.classes_of(dataset)),
        max_freq=choice.max_freq,
        label_threshold=session.setup.label_threshold,
        n_images=len(dataset),
        n_of_split=dataset.n_of_split - len(dataset.skipped),
        null_sae=session.null_sae,
    )


def _with_drivers(
    session: Session,
    choice: Choose | Method,
    detections: Detections,
    rows: Sequence[LookupRow],
    progress: Progress,
) -> dict[float, list[LookupRow]]:
    """Per scale the rows, and those of the latents that would change most to first order."""
    pipeline, dataset = session.pipeline, session.lookup_dataset
    stats = pipeline.latent_stats
    is_wanted = gradient_images(detections.occurs)
    used = torch.nonzero(is_wanted.any(dim=1)).flatten()
    loader = session.loader(dataset.subset(used.tolist()))
    falls = first_order_falls(pipeline, loader, is_wanted[used], progress)
    candidates_s = is_candidate(stats, choice.max_freq)
    drives_at = {
        scale: Drives.of(falls, scale, candidates_s) for scale in sorted(set(choice.tried_at))
    }
    class_ids = list(dict.fromkeys(row.class_id for row in rows))
    also = {
        c: {latent for drives in drives_at.values() for latent in drives.best(c, choice.top_cause)}
        for c in class_ids
    }
    names, n_listed = dataset.class_names, choice.n_listed
    every = rank_latents(detections, stats, names, choice.max_freq, n_listed, also=also)
    every = [row for row in every if row.class_id in class_ids]
    return {
        scale: [
            replace(row, drives=drives.place(row))
            for row in every
            if row.rank <= n_listed or row.latent in drives.best(row.class_id, choice.top_cause)
        ]
        for scale, drives in drives_at.items()
    }


def latents_of(
    session: Session,
    method: Method,
    reused: Mapping[str, Reused],
    progress: Progress = silent,
    journal: Journal | None = None,
) -> dict[float, Chosen]:
    """Per scale the latents that a method edits; reused ones where the settings name a lookup, and
    those of the journal where they were chosen before the run was stopped."""
    if method.lookup is not None:
        groups = reused_groups(session, method, reused)
        found = dict.fromkeys(method.scale, Chosen(groups, reused[method.lookup].text))
    else:

        def choose() -> str:
            chosen = choose_latents(session, method, progress)
            return json.dumps([(at, lookup_text(rows)) for at, rows in chosen.items()])

        names, d_sae = session.dataset.class_names, session.pipeline.sae.d_sae
        name = f"latents of {method.command}"
        tables = json.loads(journal.kept(name, choose) if journal else choose())
        found = {at: Chosen(read_lookup(csv, names, d_sae, "made here"), csv) for at, csv in tables}
    if (length := method.common_length) is None:
        return found
    return {at: _at_length(session, one, at, length, progress) for at, one in found.items()}


def _at_length(
    session: Session, chosen: Chosen, scale: float, length: float, progress: Progress
) -> Chosen:
    """The latents at values that make the edits of all classes so long, as far as can be."""
    names = session.dataset.class_names
    found = matched(session, scale, chosen.groups, length, session.setup.protocol, progress)
    if apart := found.apart(length):
        said = ", ".join(f"{names[c - 1]} {found.lengths[c]:.2f}" for c in apart)
        log.warning(
            "%s",
            f"No value was found at which the edit is {length:g} of the residual's length for "
            f"{said}: values lie between 0 and {MAX_SCALE:g} times the maximum, and the nearest is "
            "taken.",
        )
    return Chosen(found.groups, with_coefficients(chosen.csv, names, found.groups))


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
    if isinstance(method, AutoFeat) and method.match == "none" and method.length != COMMON_LENGTH:
        raise UsageError("--length is given without --match norm, which it is for.")
    if method.needs_latents and method.lookup is not None:
        reused_groups(session, method, reused)


def reused_groups(session: Session, method: Method, reused: Mapping[str, Reused]) -> Groups:
    """The latents that a lookup names for each class.

    Raises:
        SemsegError: the lookup fits neither the dataset nor the SAE, or names nothing of use.
    """
    assert method.lookup is not None
    found = reused[method.lookup]
    names, d_sae = session.dataset.class_names, session.pipeline.sae.d_sae
    groups = read_lookup(found.text, names, d_sae, method.lookup)
    _check_reused(groups, session.classes_of(session.dataset), method.scale)
    _check_same_sae(found, session.pipeline.sae.digest)
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


def is_manual(method: Method, reused: Mapping[str, Reused]) -> bool:
    """Whether a method's latents come from a table that no run made."""
    return method.lookup is not None and reused[method.lookup].is_manual

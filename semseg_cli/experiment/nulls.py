"""Runs what each class's latents have to stand above, and counts what it does."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from semseg_cli.data.dataset import Dataset
from semseg_cli.engine.counts import Counts
from semseg_cli.engine.edited_batch import n_latents_held
from semseg_cli.engine.edits import MAX_SCALE, Edit, Intervention
from semseg_cli.engine.evaluate import evaluate
from semseg_cli.engine.latent_edits import Groups
from semseg_cli.engine.peers import (
    class_edits,
    covering_images,
    matched_edits,
    peer_edits,
    peer_latents,
    predicted_patches,
    sampled_images,
)
from semseg_cli.experiment.matching import matched
from semseg_cli.experiment.session import Session
from semseg_cli.progress import Progress, silent
from semseg_cli.runs.calibration import Evidence
from semseg_cli.runs.inference.measured import MIN_IMAGES_OF_A_CLASS
from semseg_cli.runs.lookup_csv import Member
from semseg_cli.settings.suite import Nulls

log = logging.getLogger("semseg_cli")
AT_ONCE = 256  # draws of matched peers in memory


def measure_nulls(
    session: Session,
    latents: Groups,
    scale: float,
    nulls: Nulls,
    progress: Progress = silent,
    length: float | None = None,
) -> Evidence:
    """What the latents of every class, their peers and matched peers do, in the class protocol.

    Peers are set by the rule that the latents are: to the scale times their maximum, or where their
    edits have a `length`. For one process.

    Costs, in passes of one image through the rest of the network: peers and twice the classes, once
    for each image; and per class its matched peers and one, for each of its sampled images.
    """
    seed, pipeline, whole = session.setup.seed, session.pipeline, session.dataset
    class_ids = sorted(latents)
    n_own_bc = predicted_patches(pipeline, session.loader(whole), len(whole.class_names))
    shared = covering_images(
        n_own_bc, nulls.peer_images, session.setup.min_patches, MIN_IMAGES_OF_A_CLASS
    )
    peers = peer_latents(pipeline, latents, nulls.peers, seed)
    edits = [
        class_edits(pipeline, scale, latents),
        class_edits(pipeline, 0.0, latents),
        peer_edits(pipeline, scale, _by_rule(session, peers, scale, length, progress)),
    ]
    own, ablated, of_peers = _run(session, whole.subset(shared), edits, progress)
    own_bk = n_own_bc[:, torch.tensor(class_ids) - 1]
    wanted_bk = sampled_images(own_bk, class_ids, nulls.matched_images, seed)
    draws = matched_edits(pipeline, scale, latents, nulls.matched, seed)
    matched_rk4, matched_bk4 = _run_matched(session, draws, wanted_bk, progress)
    return Evidence(
        class_ids=tuple(class_ids),
        latents=tuple(tuple(one.latent for one in latents[c]) for c in class_ids),
        class_names=tuple(whole.class_names),
        n_images_c=(n_own_bc[shared] > 0).sum(dim=0).numpy(),
        own_kc4=own.per_draw.numpy(),
        ablated_kc4=ablated.per_draw.numpy(),
        peers=tuple(peers),
        peers_rc4=of_peers.per_draw.numpy(),
        matched_rk4=matched_rk4,
        n_sampled_k=wanted_bk.sum(dim=0).numpy(),
        n_peers=nulls.peers,
        matched_bk4=matched_bk4,
    )


def _by_rule(
    session: Session, peers: Sequence[int], scale: float, length: float | None, progress: Progress
) -> list[Member]:
    """The peers with the coefficients that they are set at."""
    members = [Member(latent) for latent in peers]
    if length is None:
        return members
    groups = {number: [member] for number, member in enumerate(members, start=1)}
    found = matched(session, scale, groups, length, "class", progress)
    if n_apart := len(found.apart(length)):
        log.warning(
            "%d of %d peers cannot be made %g of the residual's length: they are as near as "
            "values between 0 and %g times their maximum bring them.",
            n_apart, len(peers), length, MAX_SCALE,
        )  # fmt: skip
    return [member for group in found.groups.values() for member in group]


def _run(
    session: Session, dataset: Dataset, edits: Sequence[tuple[Edit, ...]], progress: Progress
) -> list[Counts]:
    """Edits of whole images, which count every class of the dataset."""
    interventions = [Intervention(draws) for draws in edits]
    measured = evaluate(
        session.pipeline,
        interventions,
        session.loader(dataset, n_latents_held(interventions)),
        n_classes=len(dataset.class_names),
        has_outcomes=False,
        progress=progress,
        description="peers",
    )
    return [one.counts for one in measured]


def _run_matched(
    session: Session,
    edits: Iterator[Edit],
    wanted_bk: Bool[Tensor, "n_images k"],
    progress: Progress,
) -> tuple[Int64[np.ndarray, "draws k 4"], Int64[np.ndarray, "n_images k 4"]]:
    """Counts of every draw, the first of which is the class's own; of all others by image.

    A part of them at a time, since each holds its own directions.
    """
    used_b = wanted_bk.any(dim=1)
    dataset = session.dataset.subset(torch.nonzero(used_b).flatten().tolist())
    own: tuple[Edit, ...] = (next(edits),)
    rest = tuple(islice(edits, AT_ONCE))
    found, by_image = [], np.zeros((*wanted_bk.shape, 4), dtype=np.int64)
    while own or rest:
        given = [
            Intervention(tuple(replace(edit, draw=i) for i, edit in enumerate(part)))
            for part in (own, rest)
            if part
        ]
        measured = evaluate(
            session.pipeline,
            given,
            session.loader(dataset, n_latents_held(given)),
            n_classes=len(dataset.class_names),
            is_wanted=[wanted_bk[used_b]] * len(given),
            progress=progress,
            description="matched peers",
        )
        found += [one.counts.per_draw.numpy() for one in measured]
        if rest:
            by_image[used_b.numpy()] += measured[-1].counts.per_image.numpy()
        own, rest = (), tuple(islice(edits, AT_ONCE))
    return np.concatenate(found), by_image

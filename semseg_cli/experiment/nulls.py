"""Runs what each class's latents have to stand above, and counts what it does."""

import numpy as np
import torch

from semseg_cli.engine.counts import Counts
from semseg_cli.engine.edited_batch import n_latents_held
from semseg_cli.engine.edits import Edit, Intervention
from semseg_cli.engine.evaluate import evaluate
from semseg_cli.engine.latent_edits import Groups
from semseg_cli.engine.peers import (
    class_edits,
    matched_edits,
    peer_edits,
    peer_latents,
    sampled_images,
)
from semseg_cli.experiment.session import Session
from semseg_cli.progress import Progress, silent
from semseg_cli.runs.calibration import Evidence
from semseg_cli.settings.suite import Nulls


def measure_nulls(
    session: Session, latents: Groups, scale: float, nulls: Nulls, progress: Progress = silent
) -> Evidence:
    """What the latents of every class, their peers and matched peers do, in the class protocol.

    Costs, in passes of one image through the rest of the network: peers and twice the classes, once
    for each image; and per class its matched peers and one, for each of its sampled images.
    """
    seed, pipeline, dataset = session.setup.seed, session.pipeline, session.dataset
    peers = peer_latents(pipeline, latents, nulls.peers, seed)
    own, ablated, of_peers = _run(
        session,
        [
            class_edits(pipeline, scale, latents),
            class_edits(pipeline, 0.0, latents),
            peer_edits(pipeline, scale, peers),
        ],
        progress,
    )
    class_ids = sorted(latents)
    n_own_bc = own.per_image[..., 0] // len(class_ids)
    wanted_bk = sampled_images(
        n_own_bc[:, torch.tensor(class_ids) - 1], class_ids, nulls.matched_images, seed
    )
    matched = _matched(session, latents, scale, nulls, wanted_bk, progress)
    return Evidence(
        class_ids=tuple(class_ids),
        latents=tuple(tuple(one.latent for one in latents[c]) for c in class_ids),
        class_names=tuple(dataset.class_names),
        n_images_c=(n_own_bc > 0).sum(dim=0).numpy(),
        own_kc4=own.per_draw.numpy(),
        ablated_kc4=ablated.per_draw.numpy(),
        peers=tuple(peers),
        peers_rc4=of_peers.per_draw.numpy(),
        matched_rk4=matched,
        n_sampled_k=wanted_bk.sum(dim=0).numpy(),
        n_peers=nulls.peers,
    )


def _run(session: Session, edits: list[tuple[Edit, ...]], progress: Progress) -> tuple[Counts, ...]:
    """Edits of whole images, which count every class of the dataset."""
    interventions = [Intervention(draws) for draws in edits if draws]
    measured = evaluate(
        session.pipeline,
        interventions,
        session.loader(session.dataset, n_latents_held(interventions)),
        n_classes=len(session.dataset.class_names),
        has_outcomes=False,
        progress=progress,
        description="peers",
    )
    for one in measured:
        one.gather_images(len(session.dataset))
    return tuple(one.counts for one in measured)


def _matched(
    session: Session,
    latents: Groups,
    scale: float,
    nulls: Nulls,
    wanted_bk: torch.Tensor,
    progress: Progress,
) -> np.ndarray:
    """Counts [1 + draws, classes, 4]; draw 0 is each class's own edit."""
    draws = matched_edits(session.pipeline, scale, latents, nulls.matched, session.setup.seed)
    used = wanted_bk.any(dim=1)
    dataset = session.dataset.subset(torch.nonzero(used).flatten().tolist())
    intervention = Intervention(draws)
    (measured,) = evaluate(
        session.pipeline,
        [intervention],
        session.loader(dataset, n_latents_held([intervention])),
        n_classes=len(dataset.class_names),
        is_wanted=wanted_bk[used],
        progress=progress,
        description="matched peers",
    )
    return measured.counts.per_draw.numpy()

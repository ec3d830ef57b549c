"""Edits that a class's latent has to stand above: what other latents do by the same rule.

A peer, and the latents of a class, are set in the whole image by one edit that serves every class.
A matched peer is one edit per class: along a random latent, as long as the class's own, patch by
patch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from semseg_cli.data.dataset import even_subset
from semseg_cli.data.loader import Loader
from semseg_cli.engine.edits import ALL_CLASSES, Edit, generator
from semseg_cli.engine.latent_edits import Groups, exchanged, set_latents
from semseg_cli.engine.random_edits import live_latents
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.progress import Progress, silent
from semseg_cli.ranks.collectives import all_sum
from semseg_cli.runs.lookup_csv import Member
from semseg_cli.typed import typed

PEER, MATCHED, CLASS = "peer", "matched-peer", "class-latents"


def peer_latents(pipeline: Pipeline, latents: Groups, n_peers: int, seed: int) -> list[int]:
    """Different live latents, drawn so that every class has `n_peers` that are none of its own.

    All live latents, where that is too few.
    """
    live = live_latents(pipeline)
    order = live[torch.randperm(len(live), generator=generator(seed, PEER, ALL_CLASSES))].tolist()
    n_most = 0
    for own in map(_ids, latents.values()):
        places = [place for place, latent in enumerate(order) if latent not in own]
        n_most = max(n_most, places[:n_peers][-1] + 1 if places else 0)
    return order[:n_most]


def peer_edits(pipeline: Pipeline, scale: float, peers: Sequence[Member]) -> tuple[Edit, ...]:
    """Each latent set to scale x coefficient x its maximum in the whole image, one draw each."""
    return tuple(
        replace(set_latents(pipeline, PEER, scale, {ALL_CLASSES: [peer]}), draw=draw)
        for draw, peer in enumerate(peers)
    )


def class_edits(pipeline: Pipeline, scale: float, latents: Groups) -> tuple[Edit, ...]:
    """Each class's latents set in the whole image, one draw each, by rising class id.

    What a class's own draw does to it is what the class protocol counts.
    """
    return tuple(
        replace(set_latents(pipeline, CLASS, scale, {ALL_CLASSES: latents[class_id]}), draw=draw)
        for draw, class_id in enumerate(sorted(latents))
    )


def matched_edits(
    pipeline: Pipeline, scale: float, latents: Groups, n_peers: int, seed: int
) -> Iterator[Edit]:
    """The own edit of every class, then as long ones along as many different live latents.

    As many as `n_peers`, or as there are for the class that has fewest; never one of its own.
    """
    live = live_latents(pipeline)
    orders = {c: _without(live, latents[c], seed, c) for c in latents}
    n_drawn = min([n_peers, *map(len, orders.values())])
    own = set_latents(pipeline, MATCHED, scale, latents)
    yield own
    for i in range(n_drawn):
        drawn = {class_id: [Member(order[i])] for class_id, order in orders.items()}
        edit = exchanged(pipeline, MATCHED, scale, latents, drawn)
        yield replace(edit, draw=1 + i)


def _without(live: Tensor, own: Sequence[Member], seed: int, class_id: int) -> list[int]:
    """The live latents but a class's own, in a random order that belongs to the class."""
    source = generator(seed, MATCHED, class_id)
    order = live[torch.randperm(len(live), generator=source)].tolist()
    return [latent for latent in order if latent not in _ids(own)]


def _ids(members: Sequence[Member]) -> set[int]:
    return {member.latent for member in members}


@typed
def sampled_images(
    n_own_bk: Int64[Tensor, "n_images k"], class_ids: Sequence[int], n_most: int, seed: int
) -> Bool[Tensor, "n_images k"]:
    """For each class at most `n_most` of the images that have patches of it, drawn at random."""
    wanted_bk = torch.zeros_like(n_own_bk, dtype=torch.bool)
    for row, class_id in enumerate(class_ids):
        having = torch.nonzero(n_own_bk[:, row]).flatten()
        source = generator(seed, "images-of-matched-peers", class_id)
        drawn = torch.randperm(len(having), generator=source)[:n_most]
        wanted_bk[having[drawn], row] = True
    return wanted_bk


@torch.inference_mode()
def predicted_patches(
    pipeline: Pipeline, loader: Loader, n_classes: int, progress: Progress = silent
) -> Int64[Tensor, "n_images c"]:
    """How many patches of each image are predicted as each class, before any edit.

    Of several ranks all have those of all images.
    """
    found = torch.zeros(len(loader.dataset), n_classes, dtype=torch.int64)
    advance = progress("clean predictions", len(loader.positions))
    for batch, tokens_bnd in pipeline.residuals(loader):
        classes_bt = pipeline.predict(tokens_bnd).classes_bt.cpu().long()
        found[batch.positions_b] = torch.stack(
            [torch.bincount(classes_t - 1, minlength=n_classes) for classes_t in classes_bt]
        )
        advance(len(batch))
    all_sum(found)
    return found


@typed
def covering_images(
    n_own_bc: Int64[Tensor, "n_images c"], n_wanted: int | None, least_patches: int, least: int
) -> list[int]:
    """So many images (None: all) in which as many classes as can be have patches enough.

    As long as a class lacks patches, or images that have some (`least`), the next image is one
    that has patches of most such classes; the rest are evenly spread.
    """
    n_images = len(n_own_bc)
    if n_wanted is None or n_wanted >= n_images:
        return list(range(n_images))
    has_bc, is_left_b = n_own_bc > 0, torch.ones(n_images, dtype=torch.bool)
    while int((~is_left_b).sum()) < n_wanted:
        taken_bc = n_own_bc[~is_left_b]
        is_short_c = (taken_bc.sum(dim=0) < least_patches) | ((taken_bc > 0).sum(dim=0) < least)
        gain_b = (has_bc & is_short_c).sum(dim=1) * is_left_b
        if not bool(gain_b.any()):
            break
        is_left_b[int(gain_b.argmax())] = False
    rest = torch.nonzero(is_left_b).flatten()
    is_left_b[rest[even_subset(len(rest), n_wanted - (n_images - len(rest)))]] = False
    return torch.nonzero(~is_left_b).flatten().tolist()

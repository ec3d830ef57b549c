"""python -m benchmarks cause: how often the causal rules find the latent that a full search finds.

Latents are chosen on some training images and judged on some validation images, both drawn by the
seed. The full search edits every candidate (or a sample of them) on all of the former.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semseg_cli.data.dataset import Dataset
from semseg_cli.engine.causal_choice import Drives
from semseg_cli.engine.detections import is_candidate
from semseg_cli.engine.edits import ALL_CLASSES, Intervention
from semseg_cli.engine.evaluate import evaluate
from semseg_cli.engine.first_order import first_order_falls, gradient_images
from semseg_cli.engine.halving import Candidate, Tried, try_out, turns
from semseg_cli.engine.latent_edits import set_rows
from semseg_cli.experiment.choose_latents import choose_latents
from semseg_cli.experiment.latent_groups import occurring
from semseg_cli.experiment.session import Session, open_session
from semseg_cli.quantitative import Quantitative, filled
from semseg_cli.runs.lookup_csv import Member
from semseg_cli.runs.rows import Row
from semseg_cli.settings.inputs import Imgs
from semseg_cli.settings.latent_choice import Choose
from semseg_cli.show.console import show
from semseg_cli.show.tables import Column, Table

LEAST_PATCHES = 50
AT_ONCE = 64  # edits per pass
COLUMNS = (
    Column("class", "class", "text", elastic=True),
    Column("n", "patches", "count"),
    Column("f1", "F1\nfirst", "ratio"),
    Column("f1_3", "best of\nF1's 3", "ratio"),
    Column("cause", "by\ncause", "ratio"),
    Column("full", "full\nsearch", "ratio"),
    Column("place", "place of\nfull's best", "count"),
    Column("same", "halving\n= whole", "text"),
)


def parser() -> argparse.ArgumentParser:
    """The options; without inputs it is the demo world."""
    made = argparse.ArgumentParser("python -m benchmarks cause", description=__doc__)
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--scale", type=float, default=-2.0)
    made.add_argument("--n-choosing", type=int, default=80)
    made.add_argument("--n-judging", type=int, default=60)
    made.add_argument("--sample", type=int, help="full search among the listed and so many others")
    made.add_argument("--max-freq", type=float, default=1.0)
    for name in ("vit-ckpt", "sae-ckpt", "seg-ckpt", "act-mean", "act-norm"):
        made.add_argument(f"--{name}")
    made.add_argument("--imgs-root", type=Path)
    made.add_argument("--vit-layer", type=int)
    return made


def open_inputs(given: argparse.Namespace) -> Session:
    """A session whose splits are the images drawn by the seed."""
    named: dict[str, Any] = {}
    for name in ("vit_ckpt", "sae_ckpt", "seg_ckpt", "act_mean", "act_norm", "vit_layer"):
        if getattr(given, name) is not None:
            named[name] = getattr(given, name)
    if given.imgs_root is not None:
        named["imgs"] = Imgs(root=given.imgs_root)
    session = open_session(filled(Quantitative(**named)))
    session.complete()
    draw = torch.Generator().manual_seed(given.seed)
    session.lookup_dataset = _some(session.lookup_dataset, given.n_choosing, draw)
    session.dataset = _some(session.dataset, given.n_judging, draw)
    return session


def _some(dataset: Dataset, n: int, draw: torch.Generator) -> Dataset:
    return dataset.subset(sorted(torch.randperm(len(dataset), generator=draw)[:n].tolist()))


def effects(
    session: Session, dataset: Dataset, latents: Sequence[int], scale: float
) -> tuple[Tensor, Tensor]:
    """Target minus other change [latents, classes], and the patches of each class."""
    found = []
    mask = torch.ones(len(dataset), 1, dtype=torch.bool)
    for part in torch.tensor(latents).split(AT_ONCE):
        rows = [[(ALL_CLASSES, [Member(latent)])] for latent in part.tolist()]
        edits = [set_rows(session.pipeline, "any", scale, row) for row in rows]
        measured = evaluate(
            session.pipeline,
            [Intervention((edit,)) for edit in edits],
            session.loader(dataset, len(edits)),
            n_classes=len(dataset.class_names),
            is_wanted=[mask] * len(edits),
        )
        found += [one.counts.per_draw[0].double() for one in measured]
    n, changed, n_other, other = torch.stack(found).unbind(dim=2)
    return changed / n.clamp(min=1) - other / n_other.clamp(min=1), n[0]


@dataclass(frozen=True)
class Halved:
    """Per class whether halving ends at the whole search's latent, and what it cost."""

    same: dict[int, bool]
    images: float  # per image of one evaluation
    seconds: float  # of processor time, likewise
    ranking: float  # of processor time by first order, likewise


def halved(session: Session, lists: dict[int, list[int]], scale: float, ranking: float) -> Halved:
    """The candidates halved, and all of them on all images."""
    dataset = session.lookup_dataset
    occurs = occurring(session, dataset)
    rows: list[Candidate] = [(c, [Member(at)]) for c, own in lists.items() for at in own]
    by_class = {c: turns(occurs[:, c].contiguous(), 200) for c in lists}

    def run(of_class: int | None, n_last: int) -> tuple[Tried, float]:
        kept = [row for row in rows if of_class is None or row[1] == [Member(lists[row[0]][0])]]
        begin = time.process_time()
        tried = try_out(
            session.pipeline,
            kept,
            {scale: range(len(kept))},
            torch.stack([by_class[c] for c, _ in kept], dim=1),
            lambda positions: session.loader(dataset.subset(positions), len(kept)),
            n_last=n_last,
        )
        return tried[scale], time.process_time() - begin

    whole, _ = run(None, len(rows))
    one, unit = run(1, 1)  # after the residuals are kept
    few, seconds = run(None, 2)
    same = {}
    for c in lists:
        own = [row for row, (class_id, _) in enumerate(rows) if class_id == c]
        last = [row for row in own if few.is_last[row]]
        same[c] = whole.best(own, 1) == few.best(last, 1)
    cost = float(few.n_images.sum()) / float(one.n_images.sum())
    return Halved(same, cost, seconds / unit, ranking / unit)


@dataclass(frozen=True)
class Found:
    """A row per class, what halving cost, how many latents the full search tried."""

    rows: tuple[Row, ...]
    halved: Halved
    n_latents: int


def cause(arguments: Sequence[str]) -> None:
    """Measures and prints."""
    given = parser().parse_args(arguments)
    found = measure(open_inputs(given), given)
    show(Table("Causes", COLUMNS, found.rows, notes=_notes(found, given)))


def measure(session: Session, given: argparse.Namespace, least: int = LEAST_PATCHES) -> Found:
    """How good the choices of latents on the lookup images are on the evaluated images."""
    choose = partial(Choose, max_freq=given.max_freq, scale=(given.scale,))
    detectors = choose_latents(session, choose(top_k=3))[given.scale]
    driven = choose_latents(session, choose(select="cause"))[given.scale]
    dataset, stats = session.lookup_dataset, session.pipeline.latent_stats
    wanted = gradient_images(occurring(session, dataset))
    begin = time.process_time()
    falls = first_order_falls(session.pipeline, session.loader(dataset), wanted)
    ranking = time.process_time() - begin
    candidates_s = is_candidate(stats, given.max_freq)
    places = Drives.of(falls, given.scale, candidates_s).places_cs
    pool = torch.nonzero(candidates_s).flatten()
    if given.sample is not None:
        draw = torch.Generator().manual_seed(given.seed)
        some = pool[torch.randperm(len(pool), generator=draw)[: given.sample]]
        top = torch.nonzero(((places > 0) & (places <= 16)).any(dim=0)).flatten()
        listed = torch.tensor([row.latent for row in [*detectors, *driven]])
        pool = torch.cat([some, top, listed]).unique()
    latents = pool.tolist()
    chosen_lc, _ = effects(session, dataset, latents, given.scale)
    judged_lc, n_c = effects(session, session.dataset, latents, given.scale)
    place_of = {latent: i for i, latent in enumerate(latents)}
    classes = [c for c in {row.class_id for row in driven} if n_c[c - 1] >= least]
    lists = {c: [row.latent for row in driven if row.class_id == c] for c in sorted(classes)}
    few = halved(session, lists, given.scale, ranking)
    rows = []
    for c in lists:
        judge = judged_lc[:, c - 1]
        by_f1 = [place_of[row.latent] for row in detectors if row.class_id == c]
        by_cause = next(place_of[row.latent] for row in driven if row.class_id == c and row.chosen)
        best = int(chosen_lc[:, c - 1].argmax())
        rows.append(
            {
                "class": dataset.class_names[c - 1],
                "n": int(n_c[c - 1]),
                "f1": float(judge[by_f1[0]]),
                "f1_3": float(judge[by_f1[int(chosen_lc[by_f1, c - 1].argmax())]]),
                "cause": float(judge[by_cause]),
                "full": float(judge[best]),
                "place": int(places[c - 1, latents[best]]),
                "same": "yes" if few.same[c] else "no",
            }
        )
    return Found(tuple(rows), few, len(latents))


def _notes(found: Found, given: argparse.Namespace) -> tuple[str, ...]:
    rows, few = found.rows, found.halved
    means = {
        key: float(np.mean([row[key] for row in rows])) for key in ("f1", "f1_3", "cause", "full")
    }
    better = sum(row["cause"] > row["f1_3"] for row in rows)
    worse = sum(row["cause"] < row["f1_3"] for row in rows)
    return (
        f"Target minus other change on {given.n_judging} images, chosen on {given.n_choosing}; "
        f"scale {given.scale:g}, seed {given.seed}, {found.n_latents} latents in the full search.",
        f"Means: F1 {means['f1']:.3f}, best of 3 {means['f1_3']:.3f}, cause {means['cause']:.3f}, "
        f"full {means['full']:.3f}. Cause is better than the best of 3 in {better}, worse in "
        f"{worse} of {len(rows)} classes.",
        f"Halving costs {few.images:.2f} evaluations of one latent per class in edited images, "
        f"{few.seconds:.2f} in processor time, the ranking {few.ranking:.2f}; it ends at the same "
        f"latent as all candidates on all images in {sum(few.same.values())} of {len(rows)}.",
    )

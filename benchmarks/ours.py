"""The engine's public functions, as the commands call them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.world import LABEL_THRESHOLD, World
from semseg_cli.engine.detections import Detections, count_detections, is_candidate, rank_latents
from semseg_cli.engine.edits import Edit, Intervention
from semseg_cli.engine.evaluate import evaluate
from semseg_cli.engine.latent_edits import Groups
from semseg_cli.engine.measured import Measured
from semseg_cli.engine.methods import Ingredients, make_interventions
from semseg_cli.engine.peers import peer_edits, peer_latents
from semseg_cli.engine.stability import RIVALS, with_f1_stability
from semseg_cli.engine.thresholds import SHARES, Thresholds
from semseg_cli.runs.lookup_csv import LookupRow, Member, chosen_latents
from semseg_cli.settings.controls import RandFeat, RandVec
from semseg_cli.settings.inputs import Protocol
from semseg_cli.settings.methods import AutoFeat, Method

METHODS: Mapping[str, Callable[..., Method]] = {
    "rand-vec": RandVec,
    "rand-feat": partial(RandFeat, match="none"),
    "auto-feat": AutoFeat,
}
SCALES = (-2.0, -3.0, -1.0, 1.0, 2.0)
SEED = 0


@dataclass(frozen=True)
class Looked:
    """Counts and the ranked latents of every class."""

    detections: Detections
    rows: list[LookupRow]


def lookup(world: World) -> Looked:
    """The lookup table of the world's images."""
    pipeline, names = world.pipeline, world.dataset.class_names
    stats, max_freq = pipeline.latent_stats, world.size.max_freq
    thresholds = Thresholds.shares_of_maximum(SHARES, stats)
    candidates_s = is_candidate(stats, max_freq)
    detections = count_detections(
        pipeline, world.loader, LABEL_THRESHOLD, thresholds, candidates_s=candidates_s
    )
    assert detections.blocks is not None
    rows = rank_latents(detections, stats, names, max_freq, RIVALS)
    rows = with_f1_stability(rows, detections.blocks, n_chosen=1)
    return Looked(detections, rows)


def interventions(
    world: World, methods: Sequence[str], scales: Sequence[float], groups: Groups
) -> list[Intervention]:
    """Every method at every scale, on the classes that have a latent."""
    every: dict[float, Mapping[int, Sequence[Member]]] = dict.fromkeys(scales, groups)
    ingredients = Ingredients(latents=every, class_ids=sorted(groups), seed=SEED)
    settings = [METHODS[name](scale=tuple(scales)) for name in methods]
    made = [make_interventions(method, world.pipeline, ingredients) for method in settings]
    return [one for of_method in made for one in of_method]


def run(
    world: World,
    methods: Sequence[str],
    scales: Sequence[float],
    protocol: Protocol,
    groups: Groups,
) -> list[Measured]:
    """The counts of every method and scale."""
    return evaluate(
        world.pipeline,
        interventions(world, methods, scales, groups),
        world.loader,
        protocol,
        n_classes=world.size.n_classes,
    )


def everything(world: World) -> list[Measured]:
    """Lookup, then three methods at five scales in the label protocol with what it found."""
    groups = chosen_latents(lookup(world).rows)
    return run(world, tuple(METHODS), SCALES, "label", groups)


def peers(world: World, n_peers: int) -> list[Measured]:
    """What random latents do to every class: one edit of the whole image each."""
    return evaluate(
        world.pipeline,
        [Intervention(edits_of_peers(world, n_peers))],
        world.loader,
        n_classes=world.size.n_classes,
        has_outcomes=False,
    )


def edits_of_peers(world: World, n_peers: int) -> tuple[Edit, ...]:
    """One edit per random latent; none of them is the first class's."""
    latents = peer_latents(world.pipeline, world.groups([1]), n_peers, SEED)
    return peer_edits(world.pipeline, SCALES[0], list(map(Member, latents)))

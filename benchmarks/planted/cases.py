"""What the suite measures of every class of a planted world, with the world's SAE or a null one."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.planted.plan import Role, Size, make_plan
from benchmarks.planted.world import MAX_FREQ, write_world
from semseg_cli.engine.edited_batch import n_latents_held
from semseg_cli.engine.evaluate import evaluate
from semseg_cli.engine.latent_edits import Groups
from semseg_cli.engine.methods import Ingredients, make_interventions
from semseg_cli.experiment.choose_latents import choose_latents
from semseg_cli.experiment.null_sae import on_null_sae
from semseg_cli.experiment.nulls import measure_nulls
from semseg_cli.experiment.session import Session
from semseg_cli.runs.calibration import Standing, alone, calibrate, decided
from semseg_cli.runs.lookup_csv import chosen_latents
from semseg_cli.settings.intervening import Control
from semseg_cli.settings.methods import Ablate, AutoFeat, Insert
from semseg_cli.settings.suite import Nulls

SCALE = -2.0
MATCHED_IMAGES = 5  # of each class
MIN_PATCHES = 10


@dataclass(frozen=True)
class Case:
    """One class and the latent that was chosen for it: what was planted, and what was measured."""

    seed: int
    control: Control
    class_name: str
    role: Role
    f1: float
    necessity: float
    sufficiency: float
    standing: Standing
    need_not_asked: Standing


def world_cases(seed: int, controls: tuple[Control, ...], size: Size | None = None) -> list[Case]:
    """All classes of a world that is made from the seed, with each of the dictionaries."""
    torch.set_num_threads(1)  # more only get in each other's way where the work is tiny
    plan = make_plan(seed, size)
    with tempfile.TemporaryDirectory() as folder:
        session = write_world(Path(folder), plan).session(seed=seed)
        return [
            case for control in controls for case in cases_of(session, control, plan.roles, seed)
        ]


def cases_of(session: Session, control: Control, roles: list[Role], seed: int) -> list[Case]:
    """The classes that have a latent of the world's SAE, or of a null one in its place."""
    session = on_null_sae(session, control)
    rows = choose_latents(session, AutoFeat(scale=(SCALE,), max_freq=MAX_FREQ))[SCALE]
    latents = chosen_latents(rows)
    f1 = {row.class_id: row.f1 for row in rows if row.chosen}
    enough = alone(len(latents))
    nulls = Nulls(peers=enough, matched=enough, matched_images=MATCHED_IMAGES)
    standings = calibrate(measure_nulls(session, latents, SCALE, nulls), MIN_PATCHES)
    need_not_asked = decided([replace(one, necessity=None) for one in standings])
    shares = needed_and_enough(session, latents)
    return [
        Case(
            seed, control, one.class_name, roles[one.class_id - 1], f1[one.class_id],
            *shares[one.class_id], one, other,
        )
        for one, other in zip(standings, need_not_asked, strict=True)
    ]  # fmt: skip


def needed_and_enough(session: Session, latents: Groups) -> dict[int, tuple[float, float]]:
    """Necessity and sufficiency of each class's latent; 0 over no patch."""
    pipeline, dataset = session.pipeline, session.dataset
    ingredients = Ingredients({0.0: latents, 1.0: latents}, sorted(latents), session.setup.seed)
    interventions = [
        intervention
        for method in (Ablate(), Insert())
        for intervention in make_interventions(method, pipeline, ingredients)
    ]
    ablated, inserted = evaluate(
        pipeline,
        interventions,
        session.loader(dataset, n_latents_held(interventions)),
        n_classes=len(dataset.class_names),
        has_outcomes=False,
    )
    own_k4, others_k4 = (one.counts.per_image.sum(dim=0).double() for one in (ablated, inserted))
    joined_k = inserted.counts.joined.sum(dim=0)
    needed_k = own_k4[:, 1] / own_k4[:, 0].clamp(min=1)
    enough_k = joined_k / others_k4[:, 2].clamp(min=1)
    pairs = zip(needed_k.tolist(), enough_k.tolist(), strict=True)
    return dict(zip(sorted(latents), pairs, strict=True))

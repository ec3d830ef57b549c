"""A planted world has the answers that it says, and the suite's rule finds them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from terminal import Terminal

from benchmarks.planted import command
from benchmarks.planted.cases import Case, cases_of, needed_and_enough
from benchmarks.planted.images import draw_classes, draw_factors, to_pixels
from benchmarks.planted.network import GREY, PIXELS, make_axes, make_patterns
from benchmarks.planted.plan import ROLES, TINY, Plan, make_plan, rng
from benchmarks.planted.rules import SUITE, best_threshold, checks, make_rules, role_rows
from benchmarks.planted.world import PlantedWorld, write_world
from semseg_cli.engine.edits import Intervention
from semseg_cli.engine.evaluate import evaluate
from semseg_cli.engine.latent_edits import set_latents
from semseg_cli.experiment.session import Session
from semseg_cli.runs.folder import CLASSES_FILE, GROUPS_FILE
from semseg_cli.runs.lookup_csv import Member
from semseg_cli.runs.rows import read_rows

SEED = 1


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> PlantedWorld:
    return write_world(tmp_path_factory.mktemp("planted"), make_plan(SEED, TINY))


@pytest.fixture(scope="module")
def session(world: PlantedWorld) -> Session:
    return world.session(seed=SEED)


@pytest.fixture(scope="module")
def cases(world: PlantedWorld, session: Session) -> list[Case]:
    return cases_of(session, "none", world.plan.roles, SEED)


def latent_of(plan: Plan, factor: int) -> int:
    """The latent that stands for a factor."""
    return next(i for i, one in enumerate(plan.latents) if factor in one.reads)


def first_of(plan: Plan, role: str) -> int:
    return 1 + plan.roles.index(role)  # type: ignore[arg-type]


def test_the_suite_s_rule_claims_the_drivers_and_nothing_else(cases: list[Case]) -> None:
    assert {case.role for case in cases} == set(ROLES)
    claimed = {case.class_name: case.standing.is_claimed for case in cases}
    assert claimed == {case.class_name: case.role == "driver" for case in cases}


def test_simpler_rules_claim_others_too(cases: list[Case]) -> None:
    rules = make_rules(cases)
    for name, fooled_by in (("F1 >= .5", "companion"), ("selectivity >= .5", "spiller")):
        assert all(rules[name](case) for case in cases if case.role in ("driver", fooled_by))


def test_ablation_and_insertion_know_the_roles(cases: list[Case]) -> None:
    of_role = {role: [case for case in cases if case.role == role] for role in ROLES}
    assert all(case.necessity > 0.7 and case.sufficiency > 0.7 for case in of_role["driver"])
    for role in ("companion", "none"):
        assert all(max(case.necessity, case.sufficiency) < 0.05 for case in of_role[role])
    assert all(case.necessity < 0.3 for case in of_role["split"])
    assert all(case.standing.target_change == 1.0 for case in of_role["spiller"])
    assert all((case.standing.spill or 0) > 0.5 for case in of_role["spiller"])


def test_both_latents_of_a_split_class_together_are_all_of_it(
    world: PlantedWorld, session: Session
) -> None:
    class_id = first_of(world.plan, "split")
    pair = [latent_of(world.plan, factor) for factor in world.plan.classes[class_id - 1].reads]
    alone = [needed_and_enough(session, {class_id: [Member(one)]})[class_id][0] for one in pair]
    together, _ = needed_and_enough(session, {class_id: [Member(one) for one in pair]})[class_id]
    assert max(alone) < 0.3 < 0.9 < together


def test_a_companion_s_latent_writes_what_no_class_reads(
    world: PlantedWorld, session: Session
) -> None:
    """Not even ten times its maximum changes its class; what the class reads does at once."""
    plan, axes = world.plan, make_axes(world.plan)
    class_id = first_of(plan, "companion")
    read, shown = plan.classes[class_id - 1].shows
    row_d = session.pipeline.sae.W_dec[latent_of(plan, shown)]
    reads_fd = axes.readers_fd
    assert abs(float(reads_fd[shown] @ row_d)) > 5 * abs(float(reads_fd[read] @ row_d))
    edit = set_latents(session.pipeline, "", -10.0, {class_id: [Member(latent_of(plan, shown))]})
    edits = [edit, replace(edit, directions_kgd=axes.factors_fd[read][None, None])]
    found = evaluate(
        session.pipeline,
        [Intervention((one,)) for one in edits],
        session.loader(session.dataset, 1),
        n_classes=len(plan.classes),
        has_outcomes=False,
    )
    changed = [one.counts.per_draw[0, 0, 1] / one.counts.per_draw[0, 0, 0] for one in found]
    assert changed[0] < 0.5 < 0.99 < changed[1]


def test_factors_are_read_off_the_pixels(session: Session, world: PlantedWorld) -> None:
    """What was drawn is what the residual stream holds, up to whole numbers of brightness."""
    plan = world.plan
    draw = rng(plan.seed, "validation")
    classes_bgg = draw_classes(plan, plan.size.n_validation, draw)
    factors_nf = draw_factors(plan, classes_bgg.reshape(-1), draw)
    readers_fd = make_axes(plan).readers_fd
    found, labels = [], []
    for batch, tokens_bnd in session.pipeline.residuals(session.loader(session.dataset)):
        found.append(session.pipeline.patches(tokens_bnd) @ readers_fd.T)
        labels.append(batch.labels_bt)
    assert torch.equal(torch.cat(labels).flatten(), torch.from_numpy(classes_bgg).flatten())
    error = (torch.cat(found).flatten(0, 1) - torch.from_numpy(factors_nf)).abs()
    assert float(error.median()) < 0.05
    assert float((error > 0.5).double().mean()) < 0.02  # brightness that was cut off


def test_pixels_hold_the_factors() -> None:
    plan = make_plan(3, TINY)
    factors_nf = np.zeros((plan.size.grid**2, len(plan.factors)))
    factors_nf[7, 2] = 4.0
    (image,) = to_pixels(plan, factors_nf)
    patch = image.reshape(5, 6, 2, 5, 6, 2, 3)[1, :, 0, 2, :, 0]
    found = make_patterns(plan) @ (patch.transpose(2, 0, 1).reshape(-1) - GREY) / PIXELS
    assert found[2] == pytest.approx(4.0, abs=0.1)
    assert np.abs(np.delete(found, 2)).max() < 0.1
    assert np.unique(image[:12, :12]).tolist() == [128]


def test_seeds_make_different_worlds_and_one_seed_the_same() -> None:
    plans = [make_plan(seed) for seed in range(20)]
    assert plans[4] == make_plan(4)
    assert len({tuple(plan.roles) for plan in plans}) > 10
    for plan in plans:
        assert set(plan.roles) == set(ROLES)
        assert plan.roles[-1] == "none"  # ground


# --- the benchmark sees what is wrong -------------------------------------------------------------


def test_a_broken_promise_is_seen(cases: list[Case]) -> None:
    nulls = [replace(case, control=null) for null in ("random", "pca", "shuffled")
             for case in cases if case.role != "driver"]  # fmt: skip
    assert all(check.is_kept for check in checks(cases, nulls))
    (claimed, *_) = [case for case in cases if case.role == "driver"]
    wrong: list[dict[str, Any]] = [
        {"cases": [replace(c, role="split") if c is claimed else c for c in cases]},
        {"cases": [*cases, *(replace(c, role="driver") for c in cases if c.role == "none")]},
        {"nulls": [*nulls, replace(claimed, control="pca")]},
    ]
    for change in wrong:
        assert not all(
            check.is_kept for check in checks(**{"cases": cases, "nulls": nulls} | change)
        )


def test_rows_count_what_each_rule_claims(cases: list[Case]) -> None:
    rows = {row["rule"]: row for row in role_rows(cases)}
    n = sum(case.role == "driver" for case in cases)
    assert rows[SUITE]["right"] == 1.0
    assert rows[SUITE]["driver"] == f"{n} of {n}"
    assert rows["F1 >= .5"]["right"] < 1.0


def test_the_threshold_in_hindsight_tells_most_apart(cases: list[Case]) -> None:
    first, second, third = cases[:3]
    made = [replace(first, role="driver", f1=0.9), replace(second, role="none", f1=0.8),
            replace(third, role="driver", f1=0.4)]  # fmt: skip
    assert best_threshold(made, lambda case: case.f1) == 0.4
    assert best_threshold(made[:2], lambda case: case.f1) == 0.9


def test_a_written_world_is_one_for_the_command_line(
    tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "make_plan", lambda seed: make_plan(seed, TINY))
    assert command.planted(["--seed", "1", "--write", str(tmp_path / "world")])
    config = tmp_path / "world" / "planted.toml"
    done = terminal.type("ablate", "--config", str(config), "--no-track", "--format", "json")
    assert done.code == 0, done.err
    (folder,) = terminal.runs()
    rows = {row["class_name"]: row for row in read_rows(folder / CLASSES_FILE)}
    assert rows["driver 1"]["target_change"] > 0.7
    assert rows["companion 1"]["target_change"] < 0.05


def test_the_suite_finds_a_split_class_split(world: PlantedWorld, terminal: Terminal) -> None:
    world.write_settings()
    wanted = ("--class", "split 1", "--class", "driver 1", "--class", "companion 1")
    few = ("--peers", "3", "--matched-peers", "3", "--images", "12", "--no-track", "--no-plots")
    done = terminal.type(
        "suite", "--config", str(world.folder / "planted.toml"), "--select", "cause", "--scale",
        "0", "--top-k", "5", *wanted, *few,
    )  # fmt: skip
    assert done.code == 0, done.err
    (lookup,) = (path for path in terminal.runs() if "lookup" in path.name)
    kinds = {row["class_name"]: row["kind"] for row in read_rows(lookup / GROUPS_FILE)}
    assert kinds == {"split 1": "split", "driver 1": "one", "companion 1": "absent"}
    assert "Groups of latents" in done.out

"""Which control a run is compared with: as an obvious search over all of them finds it."""

import random
from datetime import UTC, datetime
from pathlib import Path

import pytest

from semseg_cli.commands.compare.baselines import controls
from semseg_cli.commands.compare.dictionaries import dictionaries_apart
from semseg_cli.commands.compare.like_with_like import are_matched, unlike
from semseg_cli.tracking.tracked_run import TrackedRun


def random_run(number: int, draw: random.Random) -> TrackedRun:
    method = draw.choice(["auto-feat", "mean-diff", "rand-feat", "rand-vec"])
    names = ("evaluation", "vit", "head")
    digests = {f"semseg.digest.{name}": draw.choice("aab") for name in names}
    metrics = {
        "scale": draw.choice([-2.0, -4.0]),
        "edit_norm": draw.choice([1.0, 1.05, 2.0]),
        "edit_ratio": draw.choice([0.5, 0.7]),
        "target_std": 0.1,
    }
    params = {"vit_layer": draw.choice(["9", "11"]), "sae_ckpt": "sae", "control": "none"}
    params["class"] = draw.choice(["", "", "sky", "Sky", "sea, sky"])
    tags = {"semseg.method": method, "semseg.digest.sae": draw.choice("xy"), **digests}
    metrics.pop(draw.choice(["scale", "edit_norm", "edit_ratio", "none", "none"]), None)
    return TrackedRun(
        str(number), f"run {number}", "semseg", "FINISHED", datetime(2026, 1, 1, tzinfo=UTC),
        Path("none"), params, metrics, tags,
    )  # fmt: skip


def found_by_looking_at_all(run: TrackedRun, runs: list[TrackedRun]) -> TrackedRun:
    def distance(one: TrackedRun) -> tuple[int, bool, int, bool]:
        is_same_scale = one.metrics.get("scale") == run.metrics.get("scale")
        is_of_others = one.params["class"].lower() not in ("", run.params["class"].lower())
        n_unlike, n_dictionaries = len(unlike(run, one)), len(dictionaries_apart(run, one))
        return n_unlike, is_of_others, n_dictionaries, not is_same_scale

    latents = [one for one in runs if one.tag("method") == "rand-feat"]
    vectors = [one for one in runs if one.tag("method") == "rand-vec"]
    method = run.tag("method")
    possible = {"rand-feat": [], "rand-vec": latents}.get(method or "", latents + vectors)
    fitting = [one for one in possible if not unlike(run, one) and are_matched(run, one)]
    return min(fitting or latents or vectors, key=distance)


@pytest.mark.parametrize("seed", range(20))
def test_the_nearest_control_is_found(seed: int) -> None:
    draw = random.Random(seed)
    runs = [random_run(number, draw) for number in range(40)]
    _, found = controls(runs)
    assert {run.run_id: found[run.run_id].run_id for run in runs} == {
        run.run_id: found_by_looking_at_all(run, runs).run_id for run in runs
    }

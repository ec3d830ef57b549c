"""Edits of one length: against a slow search, on both sides of 0, where values end, in runs."""

import random
from collections.abc import Sequence
from typing import get_args

import pytest
import torch
from test_controls import outcomes, patches_of
from torch import Tensor
from worlds import World

from semseg_cli.engine.common_length import BOUND, Matched
from semseg_cli.engine.edits import MAX_SCALE
from semseg_cli.engine.latent_edits import Groups
from semseg_cli.experiment.matching import matched
from semseg_cli.experiment.session import Session
from semseg_cli.progress import silent
from semseg_cli.runs.lookup_csv import Member
from semseg_cli.settings.inputs import Protocol
from semseg_cli.settings.intervening import LengthMatch
from semseg_cli.settings.methods import AutoFeat

GROUPS: dict[int, list[Member]] = {1: [Member(3)], 2: [Member(8, 0.5), Member(9, -2.0)]}


def slow_length(session: Session, scale: float, x_nd: Tensor, group: Sequence[Member]) -> float:
    """Mean over patches of the edit's length by the residual's."""
    sae, top_values = session.pipeline.sae, session.pipeline.latent_stats.top_values
    acts = sae.encode(sae.scale(x_nd))
    changed = acts.clone()
    for one in group:
        changed[:, one.latent] = scale * one.coefficient * top_values[one.latent]
    moved_nd = (sae.decode(changed) - sae.decode(acts)) * sae.act_norm
    return float((moved_nd.norm(dim=1) / x_nd.norm(dim=1)).mean())


def at_length(session: Session, scale: float, groups: Groups, length: float) -> Matched:
    session.complete()
    return matched(session, scale, groups, length, session.setup.protocol, silent)


@pytest.mark.parametrize("protocol", ["class", "label"])
@pytest.mark.parametrize("scale", [-2.0, -0.5])
def test_every_class_s_edit_is_as_long_as_asked_for(
    tiny_world: World, scale: float, protocol: Protocol
) -> None:
    session = tiny_world.session(protocol=protocol)
    found = at_length(session, scale, GROUPS, 0.3)
    assert found.apart(0.3) == []
    x_nd, labels_n = patches_of(session)
    for class_id, group in found.groups.items():
        edited_nd = x_nd if protocol == "class" else x_nd[labels_n == class_id]
        slow = slow_length(session, scale, edited_nd, group)
        assert slow == pytest.approx(0.3, rel=0.01)
        assert found.lengths[class_id] == pytest.approx(slow, rel=1e-3)
    one, other = found.groups[2]
    assert other.coefficient / one.coefficient == pytest.approx(-4.0)
    assert found.groups[1][0].coefficient > 0


@pytest.mark.parametrize("seed", range(8))
def test_where_no_value_is_as_long_the_nearest_one_is_taken(tiny: Session, seed: int) -> None:
    """Against the best of a fine grid of values."""
    draw = random.Random(seed)
    scale, length = draw.choice([-4.0, -2.0, -0.5]), 10 ** draw.uniform(-2, 0.7)
    latents = draw.sample(range(tiny.pipeline.sae.d_sae), draw.randint(1, 3))
    groups = {1: [Member(latent) for latent in latents]}
    found = at_length(tiny, scale, groups, length)
    factor = found.groups[1][0].coefficient
    assert 0 <= factor <= MAX_SCALE / abs(scale)
    x_nd, _ = patches_of(tiny)
    grid = torch.linspace(0, BOUND / abs(scale), 41).tolist()
    lengths = [
        slow_length(tiny, scale, x_nd, [Member(latent, at) for latent in latents]) for at in grid
    ]
    nearest = min(abs(one - length) for one in lengths)
    assert abs(found.lengths[1] - length) <= max(nearest * 1.01, 0.011 * length)


def test_a_run_s_table_has_the_values_and_gives_the_same_run(tiny_world: World) -> None:
    session = tiny_world.session(split="training")
    (found,) = outcomes(session, AutoFeat(max_freq=1.0, match="norm", length=0.25))
    assert found.report.extra["edit_ratio"] == pytest.approx(0.25, rel=0.02)
    for result in found.report.class_results:
        assert result.outcomes["edit_ratio"] == pytest.approx(0.25, rel=0.02)
    assert found.lookup_csv is not None
    (again,) = outcomes(session, AutoFeat(lookup="made"), made=found.lookup_csv)
    assert again.report.extra["edit_ratio"] == found.report.extra["edit_ratio"]
    assert [r.n_changed_patches for r in again.report.class_results] == [
        r.n_changed_patches for r in found.report.class_results
    ]


def test_a_scale_of_its_own_maximum_makes_another_length(tiny_world: World) -> None:
    session = tiny_world.session(split="training")
    plain, same = (
        outcomes(session, AutoFeat(max_freq=1.0, scale=(-1.0,), match=match))[0].report.extra
        for match in get_args(LengthMatch)[::-1]
    )
    assert same["edit_ratio"] == pytest.approx(0.5, rel=0.02)
    assert abs(plain["edit_ratio"] - 0.5) > 0.05


def test_what_cannot_be_met_is_told(tiny_world: World, caplog: pytest.LogCaptureFixture) -> None:
    session = tiny_world.session(split="training")
    outcomes(session, AutoFeat(max_freq=1.0, match="norm", length=90.0))
    assert "No value was found at which the edit is 90 of the residual's length for" in caplog.text


def test_one_length_has_one_scale_and_a_sign() -> None:
    with pytest.raises(ValueError, match="scale is given several times: with match norm"):
        AutoFeat(match="norm", scale=(-1.0, -2.0))
    with pytest.raises(ValueError, match="scale is 0: with match norm latents are suppressed"):
        AutoFeat(match="norm", scale=(0.0,))

"""Null SAEs: never trained, shaped and firing like the given one, from the seed alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_controls import outcomes, patches_of
from worlds import World

from semseg_cli.engine import null_saes
from semseg_cli.engine.null_saes import NEVER, pca_sae, random_sae, sampled_inputs, thresholds
from semseg_cli.experiment.null_sae import on_null_sae
from semseg_cli.experiment.session import Session
from semseg_cli.settings.methods import AutoFeat

CONTROLS: list[Any] = ["pca", "random"]


def inputs_of(session: Session) -> torch.Tensor:
    return sampled_inputs(session.pipeline, session.loader(session.lookup_dataset))


def test_all_patches_are_sampled_where_there_is_room_and_even_ones_elsewhere(
    tiny: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    patches, _ = patches_of(tiny)
    every = tiny.pipeline.sae.scale(patches)
    torch.testing.assert_close(inputs_of(tiny), every)
    monkeypatch.setattr(null_saes, "N_SAMPLED", 10)
    chosen = [i * len(every) // 10 for i in range(10)]
    torch.testing.assert_close(inputs_of(tiny), every[chosen])


def test_a_threshold_lies_halfway_between_two_values() -> None:
    inputs = torch.tensor([[1.0], [2.0], [4.0], [8.0]])
    units, shares = torch.ones(5, 1), torch.tensor([0.25, 0.5, 0.001, 1.0, 0.0])
    assert thresholds(inputs, units, shares).tolist() == [6.0, 3.0, 6.0, 1.5, pytest.approx(NEVER)]
    assert thresholds(inputs, -units[:1], shares[:1]).tolist() == [-1.5]


@pytest.mark.parametrize("at_once", [1, 1000, 2**24])
def test_random_latents_fire_as_often_as_those_they_stand_for(
    tiny: Session, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(null_saes, "AT_ONCE", at_once)
    inputs = inputs_of(tiny)
    sae = random_sae(tiny.pipeline, inputs, seed=0)
    assert (sae.d_sae, sae.d_model) == (40, 24)
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(40))
    assert torch.equal(sae.W_enc, sae.W_dec.T)
    fires = (sae.encode(inputs) > 0).double().mean(dim=0)
    n = len(inputs)
    wanted = tiny.pipeline.latent_stats.sparsity.double()
    expected = torch.where(wanted > 0, wanted.clamp(1 / n, 1 - 1 / n), 0.0)
    torch.testing.assert_close(fires, expected, rtol=0.0, atol=0.51 / n)


def test_principal_latents_come_in_pairs_by_falling_variance(tiny: Session) -> None:
    inputs = inputs_of(tiny)
    sae = pca_sae(tiny.pipeline, inputs, seed=0)
    assert sae.d_sae == 40
    torch.testing.assert_close(sae.W_dec[::2], -sae.W_dec[1::2])
    axes = sae.W_dec[::2]
    torch.testing.assert_close(axes @ axes.T, torch.eye(20), rtol=0.0, atol=1e-5)
    variances = (inputs - inputs.mean(dim=0)) @ axes.T
    found = variances.square().mean(dim=0)
    largest = torch.linalg.svdvals((inputs - inputs.mean(dim=0)).double()).square() / len(inputs)
    torch.testing.assert_close(found.double(), largest[:20], rtol=1e-3, atol=1e-4)
    fires = (sae.encode(inputs) > 0).double().mean(dim=0).sort().values
    live = tiny.pipeline.latent_stats.sparsity
    live = live[live > 0].double().sort().values
    spread = live[torch.arange(40) * len(live) // 40]
    n = len(inputs)
    expected = spread.clamp(1 / n, 1 - 1 / n)
    torch.testing.assert_close(fires, expected, rtol=0.0, atol=0.51 / n)


def test_no_more_principal_latents_than_two_per_dimension(known_world: World) -> None:
    session = known_world.session()
    wide = torch.ones(200)
    stats = replace(session.pipeline.latent_stats, sparsity=wide * 0.1, top_values=wide)
    assert pca_sae(session.pipeline, inputs_of(session), 0).d_sae == 15
    bigger = replace(session.pipeline, sae=_widened(session, 200), stats=stats)
    assert pca_sae(bigger, inputs_of(session), 0).d_sae == 32


def _widened(session: Session, d_sae: int) -> Any:
    sae = session.pipeline.sae
    rows = torch.nn.functional.normalize(torch.randn(d_sae, sae.d_model), dim=1)
    return type(sae)(rows.T, torch.zeros(d_sae), rows, torch.zeros(sae.d_model))


@pytest.mark.parametrize("control", CONTROLS)
def test_a_null_sae_belongs_to_the_seed_and_has_its_own_statistics(
    tiny_world: World, control: Any
) -> None:
    first, again, other = (
        on_null_sae(tiny_world.session(seed=seed), control) for seed in (1, 1, 2)
    )
    assert first.pipeline.sae.digest == again.pipeline.sae.digest
    assert first.pipeline.sae.digest != other.pipeline.sae.digest
    stats, sae = first.pipeline.latent_stats, first.pipeline.sae
    acts = sae.encode(sae.scale(patches_of(first)[0]))
    torch.testing.assert_close(stats.top_values, acts.amax(dim=0))
    torch.testing.assert_close(stats.sparsity, (acts > 0).float().mean(dim=0))
    given = tiny_world.session().pipeline.latent_stats
    torch.testing.assert_close(stats.act_mean, given.act_mean)
    assert stats.act_norm == given.act_norm


@pytest.mark.parametrize("control", ["shuffled", *CONTROLS])
@pytest.mark.parametrize("protocol", ["class", "label"])
def test_latents_are_chosen_on_the_null_sae_as_on_the_real_one(
    tiny_world: World, control: Any, protocol: Any
) -> None:
    session = tiny_world.session(protocol=protocol)
    (control_run,) = outcomes(session, AutoFeat(control=control, max_freq=1.0))
    null = on_null_sae(session, control)
    (direct,) = outcomes(null, AutoFeat(max_freq=1.0))
    assert control_run.lookup_csv == direct.lookup_csv
    assert torch.equal(control_run.counts.per_image, direct.counts.per_image)
    assert control_run.session.pipeline.sae.digest == null.pipeline.sae.digest


def test_a_null_sae_leaves_the_session_as_it_was(tiny_world: World) -> None:
    session = tiny_world.session()
    digest, dataset = session.pipeline.sae.digest, session.dataset
    outcomes(session, AutoFeat(control="random", max_freq=1.0))
    assert session.pipeline.sae.digest == digest
    assert session.dataset is dataset


def test_latents_of_another_sae_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--control pca has latents of its own"):
        AutoFeat(control="pca", lookup=str(tmp_path))
    assert AutoFeat(control="shuffled", lookup=str(tmp_path)).lookup

"""The unit in which an autoencoder counts its latents moves neither tables nor effects."""

from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from worlds import World, make_sae

from semseg_cli.engine.detections import count_detections, rank_latents
from semseg_cli.engine.thresholds import Thresholds
from semseg_cli.experiment.choose_latents import choose_latents
from semseg_cli.experiment.run import run
from semseg_cli.experiment.session import Session
from semseg_cli.models.sae import SparseAutoencoder, Threshold, TopK
from semseg_cli.models.sae.nonlinearities import AbsTopK, Gated, GroupMax, JumpReLU, Nonlinearity
from semseg_cli.models.sae.pursuit import Pursuit
from semseg_cli.models.sae.token_norm import TOKEN_NORMS
from semseg_cli.runs.lookup_csv import LookupRow
from semseg_cli.settings.latent_choice import Choose
from semseg_cli.settings.methods import AutoFeat
from semseg_cli.show.run_tables import lookup_table
from semseg_cli.show.tables import render

N_LATENTS = 40
IN_ACTIVATIONS = ("threshold", "maximum")
SPREAD = torch.linspace(0.0, 0.4, N_LATENTS)
KINDS: dict[str, Nonlinearity] = {
    "relu": Threshold(),
    "batch top k": Threshold(0.3),
    "jump relu": JumpReLU(SPREAD),
    "gated": Gated(1.0 + SPREAD, -SPREAD),
    "top k": TopK(6),
    "top k of relu": TopK(6, relu=True),
    "top k of sizes": AbsTopK(6),
    "largest of each group": GroupMax(8),
}


def in_unit(activation: Nonlinearity, factor: float) -> Nonlinearity:
    """The nonlinearity of pre-activations that are `factor` times as large."""
    if isinstance(activation, Threshold):
        return Threshold(activation.value * factor)
    if isinstance(activation, JumpReLU):
        return JumpReLU(activation.threshold * factor)
    if isinstance(activation, Gated):
        return Gated(activation.gain, activation.shift * factor)
    return activation


def made(kind: str, token_norm: str, factor: float) -> SparseAutoencoder:
    """A random autoencoder whose latents are `factor` times as large; the function is the same."""
    sae = make_sae(d_sae=N_LATENTS, seed=5)
    return SparseAutoencoder(
        sae.W_enc * factor,
        sae.b_enc * factor,
        sae.W_dec / factor,
        sae.b_dec,
        in_unit(KINDS[kind], factor),
        token_norm=token_norm,
    )


def session_of(world: World, sae: SparseAutoencoder) -> Session:
    session = world.session()
    session.pipeline = replace(session.pipeline, sae=sae)
    return session


def without_units(rows: list[LookupRow]) -> list[dict[str, Any]]:
    return [{k: v for k, v in asdict(row).items() if k not in IN_ACTIVATIONS} for row in rows]


def test_every_nonlinearity_is_tried() -> None:
    # A pursuit encodes by its decoder alone: with another unit it is another function.
    tried = {type(each) for each in KINDS.values()} | {Pursuit}
    assert tried == set(Nonlinearity.__subclasses__())


@pytest.mark.parametrize(
    ("kind", "token_norm"),
    [(kind, "none") for kind in KINDS] + [("relu", norm) for norm in TOKEN_NORMS if norm != "none"],
)
@given(power=st.integers(-40, 40))
@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_table_is_the_same_in_any_power_of_two(
    tiny_world: World, kind: str, token_norm: str, power: int
) -> None:
    choice = Choose(max_freq=1.0, threshold=(0.0, 0.05, 0.3, 0.7))
    factor = 2.0**power
    (plain,), (other,) = (
        choose_latents(session_of(tiny_world, made(kind, token_norm, f)), choice).values()
        for f in (1.0, factor)
    )
    assert without_units(other) == without_units(plain)
    for name in IN_ACTIVATIONS:
        expected = [factor * getattr(row, name) for row in plain]
        assert [getattr(row, name) for row in other] == expected
    tables = [lookup_table([row.to_row() for row in rows]) for rows in (plain, other)]
    assert render(tables[0]) == render(tables[1])
    # Where thresholds above 0 win somewhere, their unit matters.
    assert kind != "relu" or len({row.threshold_share for row in plain}) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_effects_and_the_causal_choice_are_the_same_in_units_of_a_32nd(
    tiny_world: World, kind: str
) -> None:
    method = AutoFeat(max_freq=1.0, select="causal")
    sessions = [session_of(tiny_world, made(kind, "none", factor)) for factor in (1.0, 32.0)]
    (plain,), (other,) = (run(session, [method], {}) for session in sessions)
    assert other.report == plain.report
    assert torch.equal(other.counts.per_image, plain.counts.per_image)
    assert plain.counts.per_image[..., 1].sum() > 0


def test_absolute_thresholds_would_have_moved_it(tiny_world: World) -> None:
    """The units above matter: what the property says is false of plain activations."""

    found = []
    for factor in (1.0, 32.0):
        session = session_of(tiny_world, made("relu", "none", factor))
        session.complete()
        loader = session.loader(session.lookup_dataset)
        pipeline = session.pipeline
        counted = count_detections(pipeline, loader, 0.9, Thresholds.absolute())
        names = session.lookup_dataset.class_names
        rows = rank_latents(counted, pipeline.latent_stats, names, 1.0, top_k=1)
        found.append([(row.latent, row.f1) for row in rows])
    assert found[0] != found[1]

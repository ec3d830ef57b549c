"""Formats in a session: silent files are measured, formats with their own normalisation run."""

from pathlib import Path

import pytest
import torch
from sae_files import Weights, saelens, saev_1, write_saev
from worlds import World, make_sae, make_tiny_world

from semseg_cli.errors import SemsegError
from semseg_cli.experiment.session import open_session
from semseg_cli.models.sae import SparseAutoencoder
from semseg_cli.models.sae.model import WEIGHTS


def numpy_weights(sae: SparseAutoencoder) -> Weights:
    return {name: getattr(sae, name).numpy() for name in WEIGHTS}


@pytest.fixture
def silent_world(tmp_path: Path) -> World:
    """A tiny world whose SAE file has schema 1 and a commit that nobody knows."""
    world = make_tiny_world(tmp_path)
    made = make_sae(seed=3)
    write_saev(tmp_path, numpy_weights(made), saev_1("Relu"))
    return world


def test_a_session_measures_and_says_which_rule_it_took(
    silent_world: World, caplog: pytest.LogCaptureFixture
) -> None:
    session = open_session(silent_world.setup())
    said = caplog.text
    assert session.pipeline.sae.centres_input in (True, False)
    verb = "subtracted" if session.pipeline.sae.centres_input else "not subtracted"
    assert f"so it is {verb} (--sae-centre-input" in " ".join(said.split())
    assert "on 343 patches" in said  # 7 images of 49
    session.complete()
    assert session.pipeline.stats is not None


@pytest.mark.parametrize("told", ["yes", "no"])
def test_a_session_that_is_told_measures_nothing(
    silent_world: World, caplog: pytest.LogCaptureFixture, told: str
) -> None:
    session = open_session(silent_world.setup(sae_centre_input=told))
    assert session.pipeline.sae.centres_input is (told == "yes")
    assert not caplog.text


def test_the_two_rules_have_digests_of_their_own(silent_world: World) -> None:
    told = [open_session(silent_world.setup(sae_centre_input=rule)) for rule in ("yes", "no")]
    assert told[0].pipeline.sae.digest != told[1].pipeline.sae.digest


@pytest.fixture
def layer_norm_world(tmp_path: Path) -> World:
    """A tiny world whose SAE is a SAELens folder that normalises each token."""
    world = make_tiny_world(tmp_path)
    (tmp_path / "sae.pt").unlink()
    (tmp_path / "sae.pt").mkdir()
    write = saelens("b_enc", architecture="standard", normalize_activations="layer_norm")
    write(tmp_path / "sae.pt", numpy_weights(make_sae(seed=3)))
    return world


def test_a_format_with_its_own_normalisation_gets_no_scaling(layer_norm_world: World) -> None:
    session = layer_norm_world.session()
    stats, sae = session.pipeline.latent_stats, session.pipeline.sae
    assert (stats.act_norm, float(sae.act_norm)) == (1.0, 1.0)
    assert not sae.act_mean.any()
    assert (stats.top_values > 0).any()
    assert sae.token_scale(torch.randn(2, 3, sae.d_model)) is not None


def test_nothing_is_missing_where_only_the_scaling_is_not_given(layer_norm_world: World) -> None:
    stats = layer_norm_world.session().pipeline.latent_stats
    for name in ("sparsity", "top_values"):
        torch.save(getattr(stats, name), layer_norm_world.folder / f"{name}.pt")
    given = {
        name: str(layer_norm_world.folder / f"{name}.pt") for name in ("sparsity", "top_values")
    }
    assert not open_session(layer_norm_world.setup(**given)).is_missing_stats


def test_another_width_is_refused_before_any_image_is_read(layer_norm_world: World) -> None:
    write = saelens("b_enc", architecture="standard")
    write(layer_norm_world.folder / "sae.pt", numpy_weights(make_sae(d_model=12)))
    with pytest.raises(SemsegError, match="The SAE reads width 12, the ViT has width 24"):
        open_session(layer_norm_world.setup())

"""Parts: put together in one place, their input scaled by one rule."""

from dataclasses import replace

import pytest
import torch
from worlds import World, make_head, make_sae

from semseg_cli.engine.sae_statistics import compute_stats
from semseg_cli.errors import SemsegError
from semseg_cli.experiment.named_inputs import missing_inputs
from semseg_cli.experiment.parts import assemble, completed, load_backbone
from semseg_cli.experiment.session import Session
from semseg_cli.models.memory_budget import Budget
from semseg_cli.models.sae import SparseAutoencoder
from semseg_cli.models.sae.centring import decide_centring
from semseg_cli.models.sae.scaling import NORM_KINDS, ROOT_MEAN_SQUARE
from semseg_cli.settings.inputs import Imgs, Setup

CPU = torch.device("cpu")


def of_kind(kind: str) -> SparseAutoencoder:
    made = make_sae(seed=3)
    made.norm_kind = kind
    return made


@pytest.mark.parametrize("kind", NORM_KINDS)
@pytest.mark.parametrize("names", [(), ("act_mean",), ("act_norm",), ("act_mean", "act_norm")])
def test_a_trial_and_the_statistics_scale_alike(
    tiny: Session, kind: str, names: tuple[str, ...]
) -> None:
    both = {"act_mean": torch.linspace(-2, 2, 24), "act_norm": torch.tensor(3.0)}
    given = {name: both[name] for name in names}
    loader = tiny.loader(tiny.lookup_dataset)
    residuals = tiny.pipeline.residuals(loader)
    stats = compute_stats(residuals, of_kind(kind), dict(given))
    x_nd = torch.cat([tiny.pipeline.patches(tokens) for _, tokens in residuals]).flatten(0, 1)
    sae, sentence = decide_centring(of_kind(kind), given, x_nd)
    assert sentence == ""
    torch.testing.assert_close(sae.act_mean, stats.act_mean, atol=1e-5, rtol=1e-5)
    assert float(sae.act_norm) == pytest.approx(stats.act_norm, rel=1e-5)
    distances = (x_nd.double() - stats.act_mean).square().sum(dim=1)
    mean = distances.mean().sqrt() if kind == ROOT_MEAN_SQUARE else distances.sqrt().mean()
    expected = 3.0 if "act_norm" in names else float(mean) / 24**0.5
    assert float(sae.act_norm) == pytest.approx(expected, rel=1e-5)


def test_patches_that_are_all_the_same_have_the_norm_one() -> None:
    sae, _ = decide_centring(make_sae(), {}, torch.ones(5, 24))
    assert float(sae.act_norm) == 1.0
    assert not sae.scale(torch.ones(5, 24)).any()


def test_assembled_parts_share_the_budget_and_what_the_settings_say(tiny_world: World) -> None:
    setup = tiny_world.setup(memory_budget=0.5, no_cache=False)
    vit, sae, head = load_backbone(setup, CPU), make_sae(seed=3), make_head(seed=3)
    whole = assemble(setup, vit, sae, head)
    assert whole.sae.budget == vit.budget != Budget()
    assert (whole.layer, whole.head, whole.stats) == (setup.vit_layer, head, None)
    assert whole.cache is not None
    assert assemble(replace(setup, no_cache=True), vit, sae).cache is None


def test_a_pipeline_may_lack_a_head_until_it_has_to_classify(
    tiny_world: World, tiny: Session
) -> None:
    setup = tiny_world.setup()
    headless = assemble(setup, load_backbone(setup, CPU), make_sae(seed=3))
    assert headless.head is None
    loader = tiny.loader(tiny.lookup_dataset)
    done = completed(setup, headless, {}, lambda: loader)
    assert done.latent_stats.act_norm == tiny.pipeline.latent_stats.act_norm
    ((_, tokens_bnd), *_) = done.residuals(loader)
    with pytest.raises(AssertionError, match="without a head"):
        done.predict(tokens_bnd)


def test_parts_that_do_not_fit_are_not_put_together(tiny_world: World) -> None:
    setup = tiny_world.setup()
    vit, sae = load_backbone(setup, CPU), make_sae(seed=3)
    with pytest.raises(SemsegError, match="Layer 9 does not exist"):
        assemble(replace(setup, vit_layer=9), vit, sae)
    with pytest.raises(SemsegError, match="The SAE reads width 12"):
        assemble(setup, vit, make_sae(d_model=12))
    with pytest.raises(SemsegError, match="The head reads width 12"):
        assemble(setup, vit, sae, make_head(d_model=12))


def test_missing_inputs_are_options() -> None:
    setup = Setup(vit_ckpt="x", imgs=Imgs(root=None))
    assert missing_inputs(setup) == ["--sae-ckpt", "--seg-ckpt", "--imgs-root"]
    assert missing_inputs(setup, ["vit_ckpt"]) == []

"""Every family at every site: what is read and edited is what hooks find in the model."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from families import BLOCKS, VARIANTS
from torch import Tensor
from whole_models import whole as whole_model
from worlds import World, make_head, make_sae, slow_set_latent

from semseg_cli.engine.edits import unscaled
from semseg_cli.errors import SemsegError
from semseg_cli.experiment.choose_latents import choose_latents
from semseg_cli.experiment.run import run
from semseg_cli.experiment.session import Session
from semseg_cli.models.cache_folders import kept_entries, residuals_folder
from semseg_cli.models.head import argmax_logits
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.models.vit import Backbone
from semseg_cli.models.vit.sites import (
    ATTN_OUT,
    BRANCHES,
    INNER,
    MLP_OUT,
    NORM_OUT,
    RESID_MID,
    RESID_POST,
    RESID_PRE,
)
from semseg_cli.settings.inputs import VitSite
from semseg_cli.settings.methods import AutoFeat

SITES = [RESID_POST, NORM_OUT, MLP_OUT, RESID_MID, ATTN_OUT, RESID_PRE]
CASES = [(site, layer) for site in SITES for layer in (1, 3) if site != NORM_OUT or layer == 3]
Hook = Callable[[Tensor], Tensor]


@pytest.fixture(scope="module", params=VARIANTS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def vit(name: str) -> Backbone:
    """With factors of attention and MLP that matter."""
    family, make, _ = VARIANTS[name]
    vit = Backbone(make(seed=1), family)
    torch.manual_seed(2)
    for factor in factors(vit):
        factor.add_(0.5 * torch.randn_like(factor))
    return vit


def factors(vit: Backbone) -> list[Tensor]:
    parts = [vit.family.parts.factor_1, vit.family.parts.factor_2]
    found = [getattr(block, part) for block in vit.blocks for part in parts if part]
    return [one for part in found for one in (_tensors(part))]


def _tensors(part: Any) -> list[Tensor]:
    return list(part.parameters()) if isinstance(part, torch.nn.Module) else [part]


def images(height: int = 64, width: int = 64) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


@contextmanager
def hooked(name: str, vit: Backbone, site: str, layer: int, hook: Hook) -> Iterator[None]:
    """Lets a hook see and change all tokens at a site before the final norm, in a whole pass."""
    block = vit.blocks[layer - 1]
    attention, norm_2, mlp = (block.get_submodule(part) for part in BLOCKS[name])
    moved: list[Tensor] = []

    def of_input(_module: Any, args: Any) -> Any:
        return (hook(args[0]), *args[1:])

    def of_output(_module: Any, _args: Any, out: Any) -> Any:
        return (hook(out[0]), *out[1:]) if isinstance(out, tuple) else hook(out)

    def of_norm(_module: Any, args: Any) -> Any:
        moved.append(hook(args[0]) - args[0])
        return (args[0] + moved[-1], *args[1:])

    def past_mlp(_module: Any, _args: Any, out: Tensor) -> Tensor:
        return out + moved.pop()  # the stream runs around the norm and the MLP

    begin = {
        RESID_PRE: [lambda: block.register_forward_pre_hook(of_input)],
        ATTN_OUT: [lambda: attention.register_forward_hook(of_output)],
        RESID_MID: [
            lambda: norm_2.register_forward_pre_hook(of_norm),
            lambda: block.register_forward_hook(past_mlp),
        ],
        MLP_OUT: [lambda: mlp.register_forward_hook(of_output)],
        RESID_POST: [lambda: block.register_forward_hook(of_output)],
    }
    handles = [one() for one in begin[site]]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def whole(vit: Backbone, images_bchw: Tensor) -> Tensor:
    return whole_model(vit.model, images_bchw)


def seen_by_hooks(name: str, vit: Backbone, site: str, layer: int, pictures: Tensor) -> Tensor:
    if site == NORM_OUT:
        return whole(vit, pictures)
    seen: list[Tensor] = []

    def keep(tokens: Tensor) -> Tensor:
        seen.append(tokens.clone())
        return tokens

    with hooked(name, vit, site, layer, keep):
        whole(vit, pictures)
    (found,) = seen
    return found


def test_the_sites_are_the_choices_of_the_option_and_every_variant_names_its_modules() -> None:
    assert [one for one in get_args(VitSite) if one != "auto"] == SITES
    assert {*INNER} == {*BRANCHES, RESID_MID}
    assert BLOCKS.keys() - {"timm"} == VARIANTS.keys() - {"timm"}  # an extra


@pytest.mark.parametrize(("height", "width"), [(48, 96)])
@pytest.mark.parametrize(("site", "layer"), CASES)
def test_what_is_read_is_what_a_hook_sees(
    name: str, vit: Backbone, site: str, layer: int, height: int, width: int
) -> None:
    pictures = images(height, width)
    tokens = vit.prefix(pictures, layer, site)
    assert tokens.shape[-1] == vit.width(site) == (48 if site in BRANCHES else 24)
    expected = seen_by_hooks(name, vit, site, layer, pictures)[:, vit.n_prefix_tokens :]
    assert expected.std(dim=1).mean() > 1e-3
    torch.testing.assert_close(vit.patches(tokens), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("site", "layer"), CASES)
def test_an_untouched_site_leaves_the_model_as_it_is(vit: Backbone, site: str, layer: int) -> None:
    expected = whole(vit, images())[:, vit.n_prefix_tokens :]
    split = vit.tail(vit.prefix(images(), layer, site), layer, site=site)
    torch.testing.assert_close(split, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(48, 96)])
@pytest.mark.parametrize(("site", "layer"), CASES)
def test_an_edit_does_what_a_hook_in_the_whole_pass_does(
    name: str, vit: Backbone, site: str, layer: int, height: int, width: int
) -> None:
    pictures, n = images(height, width), vit.n_prefix_tokens
    n_patches = height * width // 256
    push = torch.randn(2, n_patches, 24, generator=torch.Generator().manual_seed(3))

    def edit(tokens: Tensor) -> Tensor:
        return torch.cat([tokens[:, :n], tokens[:, n:] + push], dim=1)

    if site == NORM_OUT:
        expected = edit(whole(vit, pictures))[:, n:]
    else:
        with hooked(name, vit, site, layer, edit):
            expected = whole(vit, pictures)[:, n:]
    tokens = vit.prefix(pictures, layer, site).clone()
    vit.patches(tokens).add_(push)
    found = vit.tail(tokens, layer, (height, width), site)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    clean = whole(vit, pictures)[:, n:]
    assert bool(((found - clean).norm(dim=-1) > 1e-3).all())


@pytest.mark.parametrize("site", SITES)
def test_one_pass_over_all_layers_gives_the_tokens_of_each(vit: Backbone, site: str) -> None:
    for layer, tokens in enumerate(vit.residuals(images(), site), start=1):
        if site != NORM_OUT or layer == 3:
            expected = vit.prefix(images(), layer, site)
            torch.testing.assert_close(tokens, expected, rtol=1e-5, atol=1e-5)
    assert layer == 3


@pytest.mark.parametrize(("site", "layer"), CASES)
def test_reading_leaves_no_hook_behind(vit: Backbone, site: str, layer: int) -> None:
    vit.prefix(images(), layer, site)
    for module in vit.model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


@pytest.mark.parametrize("site", SITES)
def test_the_pipeline_predicts_alike_from_every_site(vit: Backbone, site: str) -> None:
    head = make_head()
    pipeline = Pipeline(vit=vit, layer=3, sae=make_sae(), head=head, site=site)
    tokens = pipeline.residual(images())
    assert pipeline.patches(tokens).shape == (2, 16, 24)
    expected = head(whole(vit, images())[:, vit.n_prefix_tokens :])[..., 1:].argmax(dim=-1) + 1
    assert torch.equal(pipeline.predict(tokens).classes_bt, expected)
    assert pipeline.network.token_numbers == vit.network.n_tokens * tokens.shape[-1]


def test_the_final_norm_comes_after_the_last_layer_only(vit: Backbone) -> None:
    with pytest.raises(SemsegError, match="comes after the last layer, which is 3, not 2"):
        Pipeline(vit=vit, layer=2, sae=make_sae(), site=NORM_OUT)


def test_the_families_with_layer_scale_are_those_of_their_publishers(
    name: str, vit: Backbone
) -> None:
    has_factors = name.startswith(("dinov2", "dinov3", "beit", "timm"))
    assert len(factors(vit)) == (6 if has_factors else 0)


# --- the engine -----------------------------------------------------------------------------------


def slow_counts(session: Session, latents: Mapping[int, int], scale: float) -> list[list[int]]:
    """Class protocol by hooks: of each class [original, changed, others, changed others]."""
    pipeline = session.pipeline
    vit, sae = pipeline.vit, pipeline.sae
    totals = {class_id: [0, 0, 0, 0] for class_id in sorted(latents)}

    def classes(pictures: Tensor) -> Tensor:
        return argmax_logits(pipeline.class_head(whole(vit, pictures)[:, vit.n_prefix_tokens :]))

    for batch in session.loader(session.dataset):
        clean = classes(batch.images_bchw)
        for class_id, latent in latents.items():
            value = float(unscaled(scale, float(pipeline.latent_stats.top_values[latent])))

            def edit(tokens: Tensor, latent: int = latent, value: float = value) -> Tensor:
                before, patches = tokens.tensor_split([vit.n_prefix_tokens], dim=1)
                return torch.cat([before, slow_set_latent(sae, patches, latent, value)], dim=1)

            if pipeline.site == NORM_OUT:
                features = edit(whole(vit, batch.images_bchw))[:, vit.n_prefix_tokens :]
                edited = argmax_logits(pipeline.class_head(features))
            else:
                with hooked("dinov2", vit, pipeline.site, pipeline.layer, edit):
                    edited = classes(batch.images_bchw)
            for before, after in zip(clean.flatten(), edited.flatten(), strict=True):
                offset = 0 if before == class_id else 2
                totals[class_id][offset] += 1
                totals[class_id][offset + 1] += int(before != after)
    return list(totals.values())


@pytest.mark.parametrize("site", SITES)
def test_the_engine_counts_what_hooks_in_the_whole_model_count(
    tiny_world: World, tmp_path: Path, site: str
) -> None:
    """From statistics over the choice of latents to counts, with residuals kept and read again."""
    changes: dict[str, Any] = {
        "vit_site": site, "vit_layer": 3, "label_threshold": 0.2, "lookup_split": "validation",
        "cache_dir": tmp_path, "no_cache": False,
    }  # fmt: skip
    method = AutoFeat(max_freq=1.0, scale=(-10.0,))
    for _ in range(2):
        session = tiny_world.session(**changes)
        (rows,) = choose_latents(session, method).values()
        latents = {row.class_id: row.latent for row in rows if row.chosen}
        report = run(session, [method], {})[0].report
        assert [
            [row.n_orig_patches, row.n_changed_patches, row.n_other_patches, row.n_other_changed]
            for row in report.class_results
        ] == slow_counts(session, latents, -10.0)
    assert session.setup.vit_site == site
    (kept,) = {one.about["site"] for one in kept_entries(residuals_folder(tmp_path))}
    assert kept == site

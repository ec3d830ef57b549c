"""The first-order ranking: the slow gradients, and networks where first order is all there is."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from worlds import World, make_head, make_sae

from semseg_cli.engine.first_order import Falls, first_order_falls, gradient_images
from semseg_cli.engine.halving import selection_images
from semseg_cli.experiment.session import Session
from semseg_cli.models.head import argmax_logits, class_margins
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.models.sae import SparseAutoencoder, Threshold, TopK


def normalising_sae() -> SparseAutoencoder:
    made = make_sae(seed=3)
    weights = (made.W_enc, made.b_enc, made.W_dec, made.b_dec)
    return SparseAutoencoder(*weights, Threshold(), token_norm="layer_norm")


def pipeline_with(session: Session, sae: SparseAutoencoder) -> Pipeline:
    old = session.pipeline
    sae.scaled(old.sae.act_mean[: sae.d_model], float(old.sae.act_norm))
    maxima = torch.linspace(0.5, 2.0, sae.d_sae)
    stats = replace(old.latent_stats, top_values=maxima, sparsity=torch.full((sae.d_sae,), 0.1))
    return replace(old, sae=sae, stats=stats)


def every_label(session: Session) -> Tensor:
    n_labels = len(session.lookup_dataset.class_names) + 1
    return torch.ones(len(session.lookup_dataset), n_labels, dtype=torch.bool)


def half_way(pipeline: Pipeline, tokens_nd: Tensor, is_own: list[bool]) -> Tensor:
    """Each patch of the class moved half-way, one by one."""
    begin, moved = pipeline.vit.n_prefix_tokens, tokens_nd.clone()
    patches = tokens_nd[begin:]
    own = [patch for patch, is_of in zip(patches, is_own, strict=True) if is_of]
    others = [patch for patch, is_of in zip(patches, is_own, strict=True) if not is_of]
    for t, is_of in enumerate(is_own):
        if is_of and others:
            moved[begin + t] += 0.5 * (sum(others) / len(others) - sum(own) / len(own))
    return moved


def slow_fall(
    pipeline: Pipeline, images: Tensor, wanted_bl: Tensor, class_id: int, scale: float
) -> Tensor:
    """Per latent: one gradient per patch of the class, one dot product per patch of the image."""
    sae, total = pipeline.sae, torch.zeros(pipeline.sae.d_sae, dtype=torch.float64)
    for i in torch.nonzero(wanted_bl[:, class_id]).flatten().tolist():
        tokens = pipeline.residual(images[i][None]).clone()
        x = pipeline.patches(tokens)[0]
        clean = argmax_logits(pipeline.class_head(pipeline.vit.tail(tokens, pipeline.layer)))[0]
        is_own = (clean == class_id).tolist()
        shifted = half_way(pipeline, tokens[0], is_own)[None].requires_grad_()
        logits = pipeline.class_head(pipeline.vit.tail(shifted, pipeline.layer))
        others = [c for c in range(1, logits.shape[2]) if c != class_id]
        for t in torch.nonzero(clean == class_id).flatten().tolist():
            margin = logits[0, t, class_id] - logits[0, t, others].max()
            (grad,) = torch.autograd.grad(margin, shifted, retain_graph=True)
            for u, z in enumerate(sae.scale(x)):
                change = scale * pipeline.latent_stats.top_values - sae.encode(z)
                written = sae.b_dec + change[:, None] * sae.W_dec
                moved = sae.restore(written, z.expand(len(change), -1))
                moved = (moved - sae.restore(sae.b_dec[None], z[None])) * sae.act_norm
                total -= (moved @ grad[0, pipeline.vit.n_prefix_tokens + u]).double()
    return total


@pytest.mark.parametrize(
    "sae", [make_sae(seed=3), make_sae(nonlinearity=TopK(4), seed=3), normalising_sae()]
)
def test_falls_are_those_of_each_patch_by_itself(tiny: Session, sae: SparseAutoencoder) -> None:
    pipeline, dataset = pipeline_with(tiny, sae), tiny.lookup_dataset.subset([0, 3])
    wanted = torch.tensor([[True] * 6, [True, False, True, False, True, True]])
    falls = first_order_falls(pipeline, tiny.loader(dataset), wanted)
    images = torch.stack([dataset[i].image_chw for i in range(2)])
    for class_id, scale in enumerate((-2.0, 0.5, -2.0, 0.5, -2.0), start=1):
        found = scale * falls.at_max[class_id - 1] + falls.own[class_id - 1]
        slow = slow_fall(pipeline, images, wanted, class_id, scale)
        torch.testing.assert_close(found, slow, rtol=1e-3, atol=1e-3)
    assert int((falls.n > 0).sum()) >= 2


def test_batches_and_passes_do_not_change_falls(
    tiny: Session, tiny_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = first_order_falls(tiny.pipeline, tiny.loader(tiny.lookup_dataset), every_label(tiny))
    other = tiny_world.session(batch_size=3)
    monkeypatch.setattr(type(other.pipeline), "rows_per_pass", lambda *_, **__: 2)
    parts = first_order_falls(other.pipeline, other.loader(other.lookup_dataset), every_label(tiny))
    for name, values in vars(whole).items():
        torch.testing.assert_close(getattr(parts, name), values, rtol=1e-4, atol=1e-4)


# --- a network that is linear after the layer -----------------------------------------------------


@pytest.fixture
def linear(known: Session) -> Session:
    """Blocks do nothing, no norm, two classes: margins are linear in the residual."""
    known.pipeline.vit.model.layernorm = nn.Identity()
    sae = make_sae(d_model=16, d_sae=30, seed=1)
    sae.scaled(torch.zeros(16), 2.0)
    stats = replace(
        known.pipeline.latent_stats,
        top_values=torch.linspace(0.1, 1.0, 30),
        sparsity=torch.full((30,), 0.1),
    )
    head = make_head(16, n_classes=2, seed=4)
    known.pipeline = replace(known.pipeline, sae=sae, stats=stats, head=head)
    return known


def true_falls(session: Session, scale: float) -> tuple[Tensor, Tensor]:
    """By which share each class's margins fall [2, S] and its patches [2], edit by edit."""
    pipeline = session.pipeline
    images = torch.stack([session.lookup_dataset[i].image_chw for i in range(4)])
    tokens = pipeline.residual(images)
    clean = pipeline.predict(tokens)
    patches, begin = pipeline.patches(tokens), pipeline.vit.n_prefix_tokens
    f = pipeline.sae.encode(pipeline.sae.scale(patches))
    found = torch.zeros(2, pipeline.sae.d_sae)
    own = [clean.classes_bt == c for c in (1, 2)]
    for latent, maximum in enumerate(pipeline.latent_stats.top_values.tolist()):
        moved = tokens.clone()
        change = (scale * maximum - f[..., latent])[..., None]
        moved[:, begin:] += change * pipeline.sae.W_dec[latent] * pipeline.sae.act_norm
        after = pipeline.predict(moved, of_bt=clean.classes_bt).margins_bt
        for c, is_own in enumerate(own):
            before = clean.margins_bt[is_own].sum()
            found[c, latent] = (before - after[is_own].sum()) / before
    return found, torch.tensor([float(one.sum()) for one in own])


@pytest.mark.parametrize("scale", [-2.0, 1.0])
def test_where_the_rest_is_linear_the_ranking_is_that_of_true_edits(
    linear: Session, scale: float
) -> None:
    loader = linear.loader(linear.lookup_dataset)
    falls = first_order_falls(linear.pipeline, loader, every_label(linear))
    with torch.inference_mode():
        true, n = true_falls(linear, scale)
    assert falls.n.tolist() == [*n.tolist(), 0.0, 0.0, 0.0]
    assert (n > 0).all()
    torch.testing.assert_close(falls.relative(scale)[:2].float(), true, rtol=1e-3, atol=1e-4)
    brute = torch.stack([true[0] - true[1], true[1] - true[0]])
    assert torch.equal(falls.effects(scale)[:2].argsort(dim=1), brute.argsort(dim=1))


# --- small parts ----------------------------------------------------------------------------------


def test_other_classes_count_by_their_patches() -> None:
    falls = Falls(
        n=torch.tensor([10.0, 30.0, 10.0, 0.0]).double(),
        margins=torch.tensor([10.0, 60.0, 10.0, 0.0]).double(),
        at_max=torch.tensor([[5.0], [30.0], [-10.0], [0.0]]).double(),
        own=torch.zeros(4, 1).double(),
    )
    assert falls.relative(1.0).flatten().tolist() == [0.5, 0.5, -1.0, 0.0]
    expected = [0.5 - (15 - 10) / 40, 0.5 - (5 - 10) / 20, -1.0 - (5 + 15) / 40, -10 / 50]
    assert falls.effects(1.0).flatten().tolist() == pytest.approx(expected)


def test_images_of_gradients_have_the_class() -> None:
    occurs = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 1, 0], [1, 1, 1]]).bool()
    chosen = gradient_images(occurs, 2)
    assert chosen.long().tolist() == [[0, 1, 0], [0, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert not (chosen[:, 1] & ~selection_images(occurs[:, 1].contiguous(), 4)).any()


def test_margins_are_those_of_the_head() -> None:
    from semseg_cli.engine.first_order import _margins

    logits = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    classes = argmax_logits(logits)
    torch.testing.assert_close(_margins(logits, classes), class_margins(logits.clone(), classes))
    assert not _margins(logits[..., :2], torch.ones(2, 5).long()).any()

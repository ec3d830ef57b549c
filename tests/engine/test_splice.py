"""The reconstruction in place of the residual: hooks on the whole model, and known answers."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from worlds import PLANTED, make_sae, slow_predict

from semseg_cli.engine.null_saes import sampled_inputs
from semseg_cli.engine.splice import Predicted, by_pca, by_sae, equal_rank, splice
from semseg_cli.experiment.session import Session
from semseg_cli.experiment.splicing import spliced
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.models.sae import SparseAutoencoder, Threshold, TopK


def slow_spliced(pipeline: Pipeline, images: Tensor, rebuild: Callable[[Tensor], Tensor]) -> Tensor:
    """Predictions of the whole model, whose block hands on the reconstruction, patch by patch."""
    sae, begin = pipeline.sae, pipeline.vit.n_prefix_tokens

    def put(_block: Any, _args: Any, tokens: Tensor) -> Tensor:
        tokens = tokens.clone()
        for image in tokens:
            for t in range(begin, len(image)):
                z = (image[t] - sae.act_mean) / sae.act_norm
                image[t] = rebuild(z[None])[0] * sae.act_norm + sae.act_mean
        return tokens

    handle = pipeline.vit.blocks[pipeline.layer - 1].register_forward_hook(put)
    try:
        return slow_predict(pipeline, images)
    finally:
        handle.remove()


def normalising_sae() -> SparseAutoencoder:
    made = make_sae(seed=3)
    weights = (made.W_enc, made.b_enc, made.W_dec, made.b_dec)
    return SparseAutoencoder(*weights, Threshold(), token_norm="layer_norm")


@pytest.mark.parametrize(
    "sae", [make_sae(seed=3), make_sae(nonlinearity=TopK(9), seed=3), normalising_sae()]
)
def test_it_is_what_hooks_on_the_whole_model_do(tiny: Session, sae: SparseAutoencoder) -> None:
    old = tiny.pipeline
    sae.scaled(old.sae.act_mean, float(old.sae.act_norm))
    pipeline = replace(old, sae=sae)
    loader = tiny.loader(tiny.lookup_dataset)
    pca = by_pca(sampled_inputs(pipeline, loader), 5)
    found = splice(pipeline, loader, {"sae": by_sae(sae), "pca": pca})
    for name, rebuild in (("sae", lambda z: sae(z)[0]), ("pca", pca)):
        n, kept = torch.zeros(6), torch.zeros(6)
        confusions = torch.zeros(2, 5, 5, dtype=torch.int64)
        errors, inputs = [], []
        for batch in loader:
            clean = slow_predict(pipeline, batch.images_bchw)
            after = slow_spliced(pipeline, batch.images_bchw, rebuild)
            for label, one, two in zip(
                batch.labels_bt.flatten(), clean.flatten(), after.flatten(), strict=True
            ):
                n[one] += 1
                kept[one] += one == two
                if label:
                    confusions[0, label - 1, one - 1] += 1
                    confusions[1, label - 1, two - 1] += 1
            z = sae.scale(pipeline.patches(pipeline.residual(batch.images_bchw)).flatten(0, 1))
            inputs.append(z)
            errors.append((rebuild(z) - z).square().sum())
        predicted = found[name].predicted
        assert predicted is not None
        assert torch.equal(predicted.n_kept, torch.stack([n, kept], dim=1)[1:].long())
        assert torch.equal(predicted.before, confusions[0])
        assert torch.equal(predicted.after, confusions[1])
        assert predicted.unchanged == pytest.approx(float(kept.sum() / n.sum()))
        z = torch.cat(inputs)
        explained = 1 - torch.stack(errors).sum() / (z - z.mean(dim=0)).square().sum()
        assert found[name].explained_variance == pytest.approx(float(explained), abs=1e-4)


def test_more_axes_explain_more_and_all_explain_all(tiny: Session) -> None:
    loader = tiny.loader(tiny.lookup_dataset)
    inputs = sampled_inputs(tiny.pipeline, loader)
    found = splice(tiny.pipeline, loader, {str(k): by_pca(inputs, k) for k in (1, 4, 24)})
    shares = [one.explained_variance for one in found.values()]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0, abs=1e-4)
    whole = found["24"].predicted
    assert whole is not None
    assert whole.unchanged == 1.0
    assert whole.lost == []


def test_the_planted_dictionary_loses_nothing_and_one_without_a_latent_its_class(
    known: Session,
) -> None:
    (row, pca), classes = (vars(spliced(known))[name] for name in ("rows", "class_rows"))
    assert (row["explained_variance"], row["unchanged"], row["n_lost"]) == pytest.approx((1, 1, 0))
    assert row["accuracy_before"] == row["accuracy_after"] == 1.0
    assert (row["rank"], pca["rank"]) == (pytest.approx(1.0), 1.0)
    assert pca["unchanged"] < 1
    assert [one["kept"] for one in classes] == [1.0] * 4
    sae = known.pipeline.sae
    w_dec = sae.W_dec.clone()
    w_dec[PLANTED[3]] = 0
    made = SparseAutoencoder(sae.W_enc, sae.b_enc, w_dec, sae.b_dec, Threshold(0.01))
    made.scaled(sae.act_mean, float(sae.act_norm))
    known.pipeline = replace(known.pipeline, sae=made)
    without = spliced(known).class_rows
    assert [one["lost"] for one in without] == [0, 0, 1, 0]
    assert [one["kept"] for one in without] == [1.0, 1.0, 0.0, 1.0]
    assert without[2]["recall_after"] == without[2]["iou_after"] == 0.0


def test_without_a_head_only_the_reconstruction_is_measured(known: Session) -> None:
    whole = spliced(known)
    known.pipeline = replace(known.pipeline, head=None)
    found = spliced(known)
    assert found.class_rows == []
    for row, of_whole in zip(found.rows, whole.rows, strict=True):
        assert row == {key: of_whole[key] for key in ("dictionary", "rank", "explained_variance")}


def test_rank_is_between_one_and_the_width(tiny: Session) -> None:
    stats = tiny.pipeline.latent_stats
    for frequency, rank in ((0.0, 1), (0.1, 4), (1.0, 24)):
        every = torch.full_like(stats.sparsity, frequency)
        assert equal_rank(replace(tiny.pipeline, stats=replace(stats, sparsity=every))) == rank


def test_a_class_is_lost_where_less_than_half_is_kept() -> None:
    from semseg_cli.engine.counts import Counts

    counts = Counts([1, 2, 3], 1, 3)
    clean = torch.tensor([[1, 1, 1, 1, 2, 2]])
    counts.add_pair(torch.zeros(1).long(), clean, torch.tensor([[1, 1, 2, 2, 1, 3]]))
    none = torch.zeros(3, 3).long()
    found = Predicted(counts, none, none)
    assert found.n_kept.tolist() == [[4, 2], [2, 0], [0, 0]]
    assert found.lost == [2]
    assert found.unchanged == 2 / 6

"""The reference API: every name is there, and the functions agree with the engine."""

import csv
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from worlds import PLANTED, World, known_sae, make_sae

from semseg_cli import quantitative
from semseg_cli.data.loader import Loader
from semseg_cli.experiment.run import run
from semseg_cli.models.head import SegmentationHead, load_head
from semseg_cli.models.sae import load
from semseg_cli.quantitative import (
    Report,
    SparseAutoencoder,
    eval_auto_feat,
    eval_rand_feat,
    eval_rand_vec,
    get_latent_lookup,
    main,
    make_dataloader,
)
from semseg_cli.settings.controls import RandFeat, RandVec
from semseg_cli.settings.inputs import Imgs
from semseg_cli.settings.methods import AutoFeat
from semseg_cli.settings.reference import Quantitative

NAMES = [
    "ClassResults", "Report", "save", "argmax_logits", "compute_class_results", "get_patch_mask",
    "get_patch_i", "map_range", "unscaled", "register_hook", "get_latent_lookup", "eval_rand_vec",
    "eval_rand_feat", "eval_auto_feat", "main", "Quantitative", "SparseAutoencoder",
]  # fmt: skip
FIELDS = {
    "vit_family": "dinov2", "vit_layer": 11, "batch_size": 128, "scale": -2.0, "top_k": 3,
    "label_threshold": 0.9, "max_freq": 0.01, "seed": 42, "dump_to": Path("semseg-runs"),
    "sae_ckpt": None, "seg_ckpt": None, "top_values": None, "act_mean": None, "act_norm": None,
    "sparsity": None, "n_patches_per_img": None, "cls_token": None, "patch_size_px": None,
    "imgs": Imgs(), "n_workers": None, "device": "auto", "vit_ckpt": None,
}  # fmt: skip
REFERENCE = {
    RandVec: "random-vector",
    RandFeat: "random-feature",
    AutoFeat: "automatic-feature",
}
EVALS = [(eval_rand_vec, RandVec), (eval_rand_feat, RandFeat), (eval_auto_feat, AutoFeat)]


def parts(world: World, cfg: Quantitative) -> tuple[SparseAutoencoder, SegmentationHead, Loader]:
    return load(world.folder / "sae.pt"), load_head(world.folder / "head.pt"), make_dataloader(cfg)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_of_the_reference_is_there(name: str) -> None:
    assert callable(getattr(quantitative, name))
    assert name in quantitative.__all__


def test_every_setting_of_the_reference_is_there_with_its_default() -> None:
    cfg = Quantitative()
    assert {name: getattr(cfg, name) for name in FIELDS} == FIELDS
    with pytest.raises(dataclasses.FrozenInstanceError):
        cfg.seed = 1  # type: ignore[misc]


def test_the_autoencoder_has_the_references_attributes() -> None:
    sae = make_sae()
    assert sae.W_enc.shape == (sae.d_model, sae.d_sae) == (24, 40)
    assert sae.W_dec.shape == (40, 24)
    assert (sae.b_enc.shape, sae.b_dec.shape) == ((40,), (24,))
    x = torch.randn(2, 3, 24)
    x_hat, f_x, loss = sae(x)
    assert torch.equal(x_hat, sae.decode(sae.encode(x)))
    assert torch.equal(f_x, sae.encode(x))
    assert loss.ndim == 0


@pytest.mark.parametrize("protocol", ["class", "label"])
@pytest.mark.parametrize(("evaluate", "method"), EVALS)
def test_each_eval_gives_the_engines_report(
    tiny_world: World, evaluate: Any, method: Any, protocol: str
) -> None:
    cfg = tiny_world.quantitative(scale=-3.0, protocol=protocol)
    report = evaluate(cfg, *parts(tiny_world, cfg))
    assert isinstance(report, Report)
    assert (report.method, report.intervention_scale) == (REFERENCE[method], -3.0)
    more: dict[str, Any] = {"max_freq": 1.0}
    more |= {} if method is AutoFeat else {"match": "none"}
    session = tiny_world.session(protocol=protocol)
    (expected,) = run(session, [method(scale=(-3.0,), **more)], {})
    assert dataclasses.replace(report, method=method.command) == expected.report


def test_the_known_world_has_target_one_and_other_zero(known_world: World) -> None:
    cfg = known_world.quantitative()
    report = eval_auto_feat(cfg, *parts(known_world, cfg))
    assert (report.mean_target_change, report.mean_other_change) == (1.0, 0.0)


def test_the_lookup_has_an_entry_per_class_and_minus_one_for_absent_ones(
    known_world: World,
) -> None:
    cfg = known_world.quantitative()
    sae, _, loader = parts(known_world, cfg)
    lookup = get_latent_lookup(cfg, sae, loader)
    assert lookup.tolist() == [-1, *(PLANTED[c] for c in (1, 2, 3, 4)), -1]


def test_two_autoencoders_in_memory_do_not_share_cached_statistics(known_world: World) -> None:
    cfg = known_world.quantitative()
    _, _, loader = parts(known_world, cfg)
    first = get_latent_lookup(cfg, known_sae(), loader)
    turned = known_sae()
    turned.W_enc, turned.W_dec = turned.W_enc.flip(1), turned.W_dec.flip(0)
    second = get_latent_lookup(cfg, turned, loader)
    assert second[1:5].tolist() == [14 - latent for latent in first[1:5].tolist()]


def test_the_lookup_keeps_to_max_freq(known_world: World) -> None:
    cfg = known_world.quantitative(max_freq=1e-6)
    sae, _, loader = parts(known_world, cfg)
    assert get_latent_lookup(cfg, sae, loader).tolist() == [-1] * 6


def test_main_writes_a_row_per_method(tiny_world: World, tmp_path: Path) -> None:
    cfg = tiny_world.quantitative(dump_to=tmp_path / "deep" / "out")
    main(cfg)
    text = (tmp_path / "deep" / "out" / "results.csv").read_text()
    assert text.startswith("method,target_change,target_std,other_change,other_std\n")
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["method"] for row in rows] == [
        "random-vector", "random-feature", "automatic-feature",
    ]  # fmt: skip
    report = eval_auto_feat(cfg, *parts(tiny_world, cfg))
    assert float(rows[2]["target_change"]) == report.mean_target_change
    assert float(rows[2]["other_std"]) == report.other_change_std


def test_a_scale_out_of_range_is_refused_for_latents_and_not_for_vectors(
    tiny_world: World,
) -> None:
    cfg = tiny_world.quantitative(scale=40.0)
    made = parts(tiny_world, cfg)
    assert eval_rand_vec(cfg, *made).edit_norm == pytest.approx(40.0)
    for evaluate in (eval_rand_feat, eval_auto_feat):
        with pytest.raises(ValueError, match="scale is 40"):
            evaluate(cfg, *made)


@pytest.mark.parametrize("evaluate", [evaluate for evaluate, _ in EVALS])
def test_wrong_types_are_refused(tiny_world: World, evaluate: Any) -> None:
    cfg = tiny_world.quantitative()
    sae, clf, loader = parts(tiny_world, cfg)
    with pytest.raises(TypeCheckError):
        evaluate(cfg, clf, sae, loader)


def test_a_lookup_file_is_reused(known_world: World, tmp_path: Path) -> None:
    (tmp_path / "lookup.csv").write_text(f"class_id,latent\n3,{PLANTED[3]}\n")
    cfg = known_world.quantitative(lookup=str(tmp_path / "lookup.csv"))
    report = eval_auto_feat(cfg, *parts(known_world, cfg))
    assert [r.class_name for r in report.class_results] == ["sky"]
    assert (report.mean_target_change, report.mean_other_change) == (1.0, 0.0)

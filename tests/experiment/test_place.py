"""Where the SAE reads: options, else its files; contradictions, and what has to be measured."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from worlds import World, make_sae

from semseg_cli.errors import SemsegError
from semseg_cli.experiment.place import Place, place_of
from semseg_cli.models import sae as saes
from semseg_cli.models.sae import SparseAutoencoder
from semseg_cli.models.sae.norm_choice import choose_site
from semseg_cli.models.sae.scaling import ROOT_MEAN_SQUARE, measured_scaling
from semseg_cli.models.sae.statistics import place_in, stats_bytes
from semseg_cli.models.sae.trained_at import TrainedAt, of_block, of_hook
from semseg_cli.settings.inputs import Setup

SILENT = TrainedAt()
MLP = of_hook("blocks.4.hook_mlp_out")
PRE = of_hook("blocks.4.hook_resid_pre")
NORM = TrainedAt("USAE", sites=("norm-out",))
OPEN = of_block(-1, "VISAEBench", "resid-post", "norm-out")


@pytest.mark.parametrize(
    ("options", "trained", "layer", "site"),
    [
        ({"vit_layer": 3}, SILENT, 3, "resid-post"),
        ({"vit_site": "norm-out"}, SILENT, 12, "norm-out"),
        ({}, MLP, 5, "mlp-out"),
        ({"vit_layer": 5, "vit_site": "mlp-out"}, MLP, 5, "mlp-out"),
        ({}, PRE, 5, "resid-pre"),
        ({"vit_layer": 4}, PRE, 4, "resid-post"),  # the same place
        ({"vit_site": "resid-post"}, PRE, 4, "resid-post"),
        ({}, NORM, 12, "norm-out"),
        ({}, OPEN, 12, "resid-post"),
        ({"vit_site": "norm-out"}, OPEN, 12, "norm-out"),
    ],
)
def test_options_and_files_that_agree(
    options: dict[str, Any], trained: TrainedAt, layer: int, site: str
) -> None:
    assert place_of(Setup(**options), trained, 12) == Place(layer, site)


@pytest.mark.parametrize(
    ("options", "trained", "layer", "site", "words"),
    [
        ({"vit_layer": 6}, MLP, 6, "mlp-out", "(mlp-out of layer 5); your options win: it reads"),
        ({"vit_site": "resid-mid"}, MLP, 5, "resid-mid", "it reads resid-mid of layer 5."),
        ({"vit_layer": 6}, PRE, 6, "resid-pre", "(resid-pre of layer 5 or resid-post of layer 4)"),
        ({"vit_layer": 3}, OPEN, 3, "resid-post", "(resid-post of layer 12 or norm-out of layer"),
        (
            {},
            of_hook("blocks.4.mlp.hook_post"),
            5,
            "resid-post",
            "which is none of the sites (resid",
        ),
    ],
)
def test_a_contradiction_is_one_sentence_and_options_win(
    options: dict[str, Any], trained: TrainedAt, layer: int, site: str, words: str
) -> None:
    found = place_of(Setup(**options), trained, 12)
    (note,) = found.notes
    assert (found.layer, found.site) == (layer, site)
    assert words in note
    assert note.startswith(f"The SAE's file says {trained.said}")
    assert note.count(". ") == 0


@pytest.mark.parametrize("site", ["resid-post", "mlp-out"])
def test_a_layer_that_nobody_says_is_told(site: Any) -> None:
    place = place_of(Setup(vit_site=site), SILENT, 12)
    assert (place.layer, place.site) == (11, site)
    assert place.notes == (
        "Neither --vit-layer nor the SAE's file says at which layer it reads: 11 is taken.",
    )


def saved(folder: Path, sae: SparseAutoencoder, **config: Any) -> str:
    """In Prisma's form, which says where it was trained."""
    folder.mkdir()
    names = ("W_enc", "b_enc", "W_dec", "b_dec")
    torch.save({name: getattr(sae, name) for name in names}, folder / "weights.pt")
    written = {"architecture": "standard", "normalize_activations": None, **config}
    (folder / "config.json").write_text(json.dumps(written))
    return str(folder)


def test_a_session_reads_where_the_file_says_and_records_it(
    tiny_world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = saved(tmp_path / "sae", make_sae(), hook_point="blocks.1.hook_mlp_out")
    session = tiny_world.session(sae_ckpt=path, vit_layer=None)
    assert (session.pipeline.layer, session.pipeline.site) == (2, "mlp-out")
    assert (session.setup.vit_layer, session.setup.vit_site) == (2, "mlp-out")
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        session = tiny_world.session(sae_ckpt=path, vit_layer=1)
    assert (session.pipeline.layer, session.pipeline.site) == (1, "mlp-out")
    assert [record.message for record in caplog.records] == [
        "The SAE's file says blocks.1.hook_mlp_out (mlp-out of layer 2); your options win: it "
        "reads mlp-out of layer 1."
    ]


def test_an_sae_of_cls_tokens_is_refused_unless_it_is_allowed(
    tiny_world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = saved(tmp_path / "sae", make_sae(), cls_token_only=True)
    with pytest.raises(SemsegError, match="trained on CLS tokens alone, as its config says"):
        tiny_world.session(sae_ckpt=path)
    tiny_world.session(sae_ckpt=path, allow_cls_sae=True)
    tiny_world.session(allow_cls_sae=True)  # the file does not say it
    assert [record.message.split(":")[0] for record in caplog.records] == ["--allow-cls-sae"] * 2


# --- before or after the final norm ---------------------------------------------------------------


def half_blind(d: int = 24) -> SparseAutoencoder:
    """Reconstructs the first half of the dimensions exactly and knows nothing of the rest."""
    eye = torch.eye(d)[: d // 2]
    both = torch.cat([eye, -eye])
    return SparseAutoencoder(
        both.T, torch.zeros(d), both, torch.zeros(d), norm_kind=ROOT_MEAN_SQUARE
    )


def test_the_site_that_is_reconstructed_better_is_taken() -> None:
    x_nd = torch.randn(200, 24, generator=torch.Generator().manual_seed(0))
    keep = torch.cat([torch.ones(12), torch.zeros(12)])
    site, sentence = choose_site(half_blind(), {}, x_nd, lambda x: x * keep)
    assert site == "norm-out"
    assert "on 200 patches" in sentence
    assert "0.000 after it, so --vit-site is norm-out" in sentence
    site, sentence = choose_site(half_blind(), {}, x_nd * keep, lambda x: x + x_nd)
    assert site == "resid-post"
    sae = half_blind().scaled(torch.ones(24), 3.0)
    assert choose_site(sae, {}, x_nd, lambda x: x)[0] == "resid-post"  # a tie
    assert (float(sae.act_norm), float(sae.act_mean[0])) == (3.0, 1.0)


def visaebench(folder: Path, sae: SparseAutoencoder) -> str:
    folder.mkdir()
    state = {
        "encoder.weight": sae.W_enc.T.contiguous(), "encoder.bias": sae.b_enc,
        "decoder.weight": sae.W_dec,
    }  # fmt: skip
    torch.save(state, folder / "sae.pt")
    (folder / "config.json").write_text(json.dumps({"activation": "batchtopk", "threshold": 0.0}))
    return str(folder)


def test_visaebenchs_site_is_measured_and_said(
    tiny_world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = visaebench(tmp_path / "sae", half_blind())
    session = tiny_world.session(sae_ckpt=path, vit_layer=None)
    pipeline = session.pipeline
    assert pipeline.layer == pipeline.vit.n_layers == 3
    (record,) = caplog.records
    few = session.loader(session.lookup_dataset)
    patches = [pipeline.vit.prefix(batch.images_bchw, 3) for batch in few]
    tokens = torch.cat(patches)
    norm = pipeline.vit.family.final_norm(pipeline.vit.model)
    before = error(saes.load(path), pipeline.vit.patches(tokens))
    after = error(saes.load(path), pipeline.vit.patches(norm(tokens)))
    assert (
        pipeline.site == session.setup.vit_site == ("norm-out" if after < before else "resid-post")
    )
    assert f"is {before:.3f} before and {after:.3f} after it" in record.message


def error(sae: SparseAutoencoder, x_btd: Tensor) -> float:
    x_nd = x_btd.flatten(0, 1)
    sae.scaled(*measured_scaling(x_nd, ROOT_MEAN_SQUARE))
    z = sae.scale(x_nd)
    centred = z - z.mean(dim=0)
    return float((sae(z)[0] - z).square().sum() / centred.square().sum())


@pytest.mark.parametrize("site", ["resid-post", "norm-out"])
def test_a_named_site_is_not_measured(
    tiny_world: World, tmp_path: Path, site: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = visaebench(tmp_path / "sae", half_blind())
    session = tiny_world.session(sae_ckpt=path, vit_layer=None, vit_site=site)
    assert session.pipeline.site == site
    assert not caplog.records


def test_statistics_of_another_place_are_told(
    tiny_world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    session = tiny_world.session(vit_layer=2, vit_site="mlp-out")
    path = tmp_path / "stats.safetensors"
    path.write_bytes(stats_bytes(session.pipeline.latent_stats, 2, "mlp-out"))
    assert place_in(str(path)) == (2, "mlp-out")
    assert place_in(3.0) is place_in(None) is place_in(str(tmp_path / "no.safetensors")) is None
    tiny_world.session(vit_layer=2, vit_site="mlp-out", top_values=str(path))
    assert not caplog.records
    tiny_world.session(vit_layer=2, top_values=str(path))
    assert [record.message for record in caplog.records] == [
        "--top-values is of mlp-out of layer 2, as its file says, and the SAE reads resid-post of "
        "layer 2: leave it out to have it computed."
    ]
    caplog.clear()
    tiny_world.session(vit_layer=2, stats=str(path), act_norm=2.0)
    assert [record.message[:33] for record in caplog.records] == [
        "--stats is of mlp-out of layer 2,"
    ]

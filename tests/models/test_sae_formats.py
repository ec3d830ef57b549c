"""Every format: what is read computes what its own library computes; bad files say why."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sae_files import (
    CASES,
    SILENT,
    Case,
    D,
    S,
    b,
    checkpoint,
    dictionary_learning,
    linear,
    openai,
    overcomplete,
    pickled,
    prisma,
    saelens,
    save_pickled,
    tensors,
    tokens,
    weights,
    write_sparsify,
    write_visaebench,
)
from safetensors.torch import load_file, save_file
from torch import Tensor

from semseg_cli.errors import SemsegError
from semseg_cli.models import sae as saes
from semseg_cli.models.sae import FORMATS, SparseAutoencoder
from semseg_cli.models.sae.statistics import check_stats
from semseg_cli.models.sae.trained_at import TrainedAt
from semseg_cli.settings.inputs import SaeFormat


def load(case: Case, folder: Path, **options: Any) -> SparseAutoencoder:
    """The case's autoencoder, whose warnings `test_only_the_expected_warnings` checks."""
    path = case.write(folder, weights())
    return saes.load(path, **{**case.options, **options})


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SparseAutoencoder]:
    return {name: load(case, tmp_path_factory.mktemp("sae")) for name, case in CASES.items()}


# --- golden ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_latents_are_those_of_the_library_that_wrote_the_file(
    made: dict[str, SparseAutoencoder], name: str
) -> None:
    sae, x, w = made[name], tokens(), weights()
    expected = CASES[name].encode(x.astype(np.float64), w)
    assert 0.02 < (expected != 0).mean() < 0.98
    torch.testing.assert_close(
        sae.encode(torch.from_numpy(x)), torch.from_numpy(expected).float(), rtol=1e-4, atol=2e-5
    )


@pytest.mark.parametrize("name", CASES)
def test_reconstructions_are_those_of_the_library_that_wrote_the_file(
    made: dict[str, SparseAutoencoder], name: str
) -> None:
    sae, x, w, case = made[name], tokens(), weights(), CASES[name]
    expected = case.decode(case.encode(x.astype(np.float64), w), x.astype(np.float64), w)
    x_hat, f_x, _ = sae(torch.from_numpy(x))
    torch.testing.assert_close(x_hat, torch.from_numpy(expected).float(), rtol=1e-4, atol=5e-5)
    torch.testing.assert_close(
        sae.restore(sae.decode(f_x), torch.from_numpy(x)), x_hat, rtol=0, atol=0
    )


def test_a_relu_autoencoder_by_hand(tmp_path: Path) -> None:
    """(3, 1) - b_dec = (2, -1); pre = (2, -1, 2 - 2 + 0.5); f = (2, 0, 0.5); x' = f W + b_dec."""
    state = {
        "encoder.weight": torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 2.0]]),
        "encoder.bias": torch.tensor([0.0, 0.0, 0.5]),
        "W_dec": torch.tensor([[1.0, 0.0], [0.0, 1.0], [4.0, 6.0]]),
        "b_dec": torch.tensor([1.0, 2.0]),
    }
    save_file(state, tmp_path / "sae.safetensors")
    (tmp_path / "cfg.json").write_text(json.dumps({"k": 2, "d_in": 2}))
    sae = saes.load(tmp_path)
    f = sae.encode(torch.tensor([[3.0, 1.0]]))
    assert f.tolist() == [[2.0, 0.0, 0.5]]
    assert sae.decode(f).tolist() == [[5.0, 5.0]]


@pytest.mark.parametrize("name", CASES)
def test_each_is_recognised_as_its_format(tmp_path: Path, name: str) -> None:
    path = CASES[name].write(tmp_path, weights())
    source = saes.source.open_source(path)
    found = [format for format, known in FORMATS.items() if known.recognises(source)]
    assert found[:1] == [CASES[name].format]


@pytest.mark.parametrize("name", CASES)
def test_only_the_expected_warnings(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    case = CASES[name]
    saes.load(case.write(tmp_path, weights()), **case.options)
    said = caplog.messages
    assert len(said) == (case.warning is not None)
    assert case.warning is None or case.warning in said[0]


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.format != "saev"])
def test_the_weights_file_stands_for_its_folder(tmp_path: Path, name: str) -> None:
    folder = CASES[name].write(tmp_path, weights())
    (file,) = [p for p in folder.iterdir() if p.suffix != ".json"]
    x = torch.from_numpy(tokens())
    assert torch.equal(saes.load(file).encode(x), saes.load(folder).encode(x))


def test_a_folder_with_sae_pt_is_saev(tmp_path: Path) -> None:
    CASES["saev 5"].write(tmp_path, weights())
    assert saes.load(tmp_path).digest == saes.load(tmp_path / "sae.pt").digest


@pytest.mark.parametrize("name", CASES)
def test_half_precision_is_read_in_float32(tmp_path: Path, name: str) -> None:
    path = CASES[name].write(tmp_path, weights())
    for file in tmp_path.glob("*.safetensors"):
        save_file({k: v.half() for k, v in load_file(file).items()}, file)
    assert saes.load(path, **CASES[name].options).W_enc.dtype == torch.float32


def test_the_option_offers_every_format() -> None:
    assert set(get_args(SaeFormat)) == {"auto", *FORMATS}
    only_by_name = {"dictionary_learning_topk", "dictionary_learning_batchtopk"}
    assert {case.format for case in CASES.values()} == set(FORMATS) - only_by_name


# --- edits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
@settings(deadline=None, max_examples=15)
@given(
    latent=st.integers(0, S - 1),
    value=st.floats(-20, 20),
    seed=st.integers(0, 1000),
    norm=st.floats(0.2, 5),
)
def test_the_rank_one_edit_is_encode_edit_decode(
    made: dict[str, SparseAutoencoder],
    name: str,
    latent: int,
    value: float,
    seed: int,
    norm: float,
) -> None:
    x = torch.from_numpy(tokens(5, seed))
    sae = made[name].scaled(torch.linspace(-1, 1, D), norm)
    z = sae.scale(x)
    f = sae.encode(z)
    edited = f.clone()
    edited[:, latent] = value
    in_full = sae.restore(sae.decode(edited), z) - sae.restore(sae.decode(f), z)
    sae_k = torch.tensor([latent])
    coefficients = value - sae.columns(x, sae_k)
    scale = sae.token_scale(x)
    if scale is not None:
        coefficients = coefficients * scale[:, None]
    fast = coefficients * sae.directions(sae_k)
    sae.scaled(torch.zeros(D), 1.0)  # it is shared
    torch.testing.assert_close(fast, in_full * norm, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", CASES)
def test_the_edit_is_that_of_the_formulas(made: dict[str, SparseAutoencoder], name: str) -> None:
    sae, x, w, case = made[name], tokens(), weights(), CASES[name]
    x64 = x.astype(np.float64)
    f = case.encode(x64, w)
    edited = f.copy()
    edited[:, 4] = 3.0
    expected = case.decode(edited, x64, w) - case.decode(f, x64, w)
    k, raw = torch.tensor([4]), torch.from_numpy(x)
    scale = sae.token_scale(raw)
    size = torch.ones(len(x)) if scale is None else scale
    fast = (3.0 - sae.columns(raw, k)) * size[:, None] * sae.directions(k)
    torch.testing.assert_close(fast, torch.from_numpy(expected).float(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_columns_are_those_of_the_full_encoding(
    made: dict[str, SparseAutoencoder], name: str
) -> None:
    sae, x = made[name], torch.from_numpy(tokens())
    k = torch.tensor([11, 0, 4])
    torch.testing.assert_close(
        sae.columns(x, k), sae.encode(sae.scale(x))[:, k], rtol=1e-5, atol=1e-5
    )


def test_a_token_of_zeros_stays_finite(made: dict[str, SparseAutoencoder]) -> None:
    for sae in made.values():
        assert torch.isfinite(sae(torch.zeros(1, D))[0]).all()


# --- what belongs to the model --------------------------------------------------------------------


def test_only_saev_and_visaebench_need_statistics(
    made: dict[str, SparseAutoencoder],
) -> None:
    assert {name for name, sae in made.items() if sae.needs_scaling} == {
        name for name, case in CASES.items() if case.format in ("saev", "visaebench")
    }


def test_digests_tell_autoencoders_apart(made: dict[str, SparseAutoencoder]) -> None:
    same = {"saev 1 batch-top-k", "saev 1 relu", "saev 1 without an activation", "saev 3",
            "saev 4"}  # fmt: skip
    other = [sae.digest for name, sae in made.items() if name not in same]
    # These compute the same: both ways of saying top-k, ReLU and centred.
    aliases = [
        ("saev 1 known new commit", "saev 1 with an activation"),
        ("saev 1 known new commit", "saev 2"),
        ("saev legacy", "saev 1 relu, told"),
        ("saelens standard", "saelens flat"),
        ("saelens standard", "openai relu"),
        ("saelens standard", "patchsae"),
        ("saelens standard", "patchsae, a plain config"),
        ("saelens topk", "prisma, pickled"),
        ("saelens layer norm", "prisma, pickled, by default"),
        ("saelens gated", "dl GatedAutoEncoder"),
        ("saelens topk", "dl AutoEncoderTopK"),
        ("saelens topk", "sparsify"),
        ("saelens topk", "prisma top-k, no norm"),
        ("saelens layer norm", "prisma"),
        ("saelens not centred", "dl AutoEncoderNew"),
    ]
    for one, another in aliases:
        assert made[one].digest == made[another].digest, (one, another)
    assert len(set(other)) == len(other) - len(aliases)


@pytest.mark.parametrize("name", CASES)
def test_centring_can_be_told_and_undone(made: dict[str, SparseAutoencoder], name: str) -> None:
    sae, x = made[name], torch.from_numpy(tokens())
    there = sae.recentred(True)
    assert there.centres_input is True
    back = there.recentred(False)
    again = back.recentred(bool(sae.centres_input))
    torch.testing.assert_close(again.encode(x), sae.encode(x), rtol=1e-4, atol=1e-4)
    expected = made[name].recentred(False).encode(x)
    torch.testing.assert_close(back.encode(x), expected, rtol=1e-4, atol=1e-4)
    assert (sae.token_norm, sae.needs_scaling) == (again.token_norm, again.needs_scaling)


@pytest.mark.parametrize("name", ["saelens jumprelu", "saelens gated"])
def test_values_per_latent_move_with_the_weights(
    made: dict[str, SparseAutoencoder], name: str
) -> None:
    moved = made[name].recentred(False).to(torch.float64)
    assert {t.dtype for t in moved.nonlinearity.tensors().values()} == {torch.float64}


def test_firing_frequencies_and_hooks_are_kept(tmp_path: Path) -> None:
    folder = CASES["saelens standard"].write(tmp_path, weights())
    log10 = torch.tensor([-10.0, -2.0, -0.5] * 4)
    save_file({"sparsity": log10}, folder / "sparsity.safetensors")
    sae = saes.load(folder)
    assert sae.trained_at == TrainedAt("blocks.9.hook_resid_post", 9, ("resid-post",))
    expected = torch.tensor([0.0, 0.01, 10**-0.5] * 4)
    assert sae.firing_frequency is not None
    torch.testing.assert_close(sae.firing_frequency, expected)
    given = check_stats({"sparsity": log10}, D, S)
    torch.testing.assert_close(given["sparsity"], expected)


@pytest.mark.parametrize("name", CASES)
def test_what_saev_can_hold_is_saved_and_the_rest_refused(
    made: dict[str, SparseAutoencoder], tmp_path: Path, name: str
) -> None:
    sae, path, x = made[name], tmp_path / "saved.pt", torch.from_numpy(tokens())
    is_plain = sae.token_norm == "none" and not sae.nonlinearity.tensors()
    if not is_plain or getattr(sae.nonlinearity, "relu", False):
        with pytest.raises(SemsegError, match="keep the file in its own format"):
            saes.save(path, sae)
        return
    saes.save(path, sae)
    loaded = saes.load(path)
    assert torch.equal(loaded.encode(x), sae.encode(x))
    assert loaded.needs_scaling == sae.needs_scaling


# --- bad files ------------------------------------------------------------------------------------


def rewrite_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def without(path: Path, name: str) -> None:
    save_file({k: v for k, v in load_file(path).items() if k != name}, path)


def rename(path: Path, old: str, new: str) -> None:
    save_file({k.replace(old, new): v for k, v in load_file(path).items()}, path)


def with_tensor(path: Path, name: str, tensor: Tensor) -> None:
    save_file({**load_file(path), name: tensor}, path)


def bad_saelens(folder: Path, **cfg: Any) -> Path:
    return saelens("b_enc", **{"architecture": "standard", **cfg})(folder, weights())


def bad_sparsify(folder: Path, **cfg: Any) -> Path:
    write_sparsify(folder, weights())
    rewrite_json(folder / "cfg.json", **cfg)
    return folder


def repickle(path: Path, **changes: Any) -> None:
    torch.save({**torch.load(path, weights_only=True), **changes}, path)


def write_msae(folder: Path) -> Path:
    names = ("encoder", "decoder", "pre_bias", "latent_bias")
    torch.save({"model": {name: torch.zeros(1) for name in names}}, folder / "msae.pth")
    return folder


def write_step(folder: Path, state: dict[str, Tensor]) -> Path:
    torch.save(state, folder / "ae_100.pt")
    return folder


def write_model(folder: Path, name: str, **values: Any) -> Path:
    """A pickled model of overcomplete with nothing but a dictionary."""
    dictionary = pickled(
        "overcomplete.sae.dictionary", "DictionaryLayer", _modules={},
        _parameters={"_weights": torch.ones(S, D)}, _buffers={},
    )  # fmt: skip
    model = pickled(
        "overcomplete.sae.other", name, _modules={"dictionary": dictionary}, _parameters={},
        _buffers={}, training=True, **values,
    )  # fmt: skip
    save_pickled(model, folder / "model.pt", model, dictionary)
    return folder


def damaged(name: str, change: Any) -> Any:
    def write(folder: Path) -> Path:
        CASES[name].write(folder, weights())
        change(folder)
        return folder

    return write


NAN = torch.full((S,), float("nan"))
BAD: dict[str, tuple[Any, str]] = {
    "saelens: another architecture": (
        lambda folder: bad_saelens(folder, architecture="transcoder"),
        "is a transcoder: it predicts the output of a module",
    ),
    "saelens: temporal": (
        lambda folder: bad_saelens(folder, architecture="temporal"), "mixes the tokens",
    ),
    "saelens: unknown architecture": (
        lambda folder: bad_saelens(folder, architecture="other"),
        "has the architecture 'other': standard, topk, abstopk, jumprelu, gated, matching_pursuit",
    ),
    "saelens: whitening is missing": (
        lambda folder: bad_saelens(folder, normalize_activations="covariance_whitening"),
        "a matrix that is not in the folder",
    ),
    "saelens: pursuit without numbers": (
        damaged(
            "saelens standard",
            lambda f: rewrite_json(
                f / "cfg.json", architecture="matching_pursuit", max_iterations="many"
            ),
        ),
        "max_iterations 'many'",
    ),
    "saelens: unfolded norm": (
        lambda folder: bad_saelens(folder, normalize_activations="expected_average_only_in"),
        "fold_activation_norm_scaling_factor",
    ),
    "saelens: unfolded norm, old name": (
        lambda folder: bad_saelens(folder, normalize_activations=True),
        "expected_average_only_in",
    ),
    "saelens: another normalisation": (
        lambda folder: bad_saelens(folder, normalize_activations="l2"),
        "normalize_activations 'l2': none, constant_norm_rescale, layer_norm",
    ),
    "saelens: heads": (
        lambda folder: bad_saelens(folder, reshape_activations="hook_z"), "attention heads",
    ),
    "saelens: another activation": (
        lambda folder: bad_saelens(folder, activation_fn_str="tanh-relu"), "activation 'tanh-relu'",
    ),
    "saelens: topk without k": (
        lambda folder: bad_saelens(folder, architecture="topk"), "topk without a whole number k",
    ),
    "saelens: topk of too many": (
        lambda folder: bad_saelens(folder, architecture="topk", k=S + 1), "keeps 13 of 12 latents",
    ),
    "saelens: no threshold": (
        lambda folder: bad_saelens(folder, architecture="jumprelu"),
        "lacks threshold; it holds W_dec, W_enc, b_dec, b_enc",
    ),
    "saelens: unused factor": (
        damaged(
            "saelens standard",
            lambda f: with_tensor(f / "sae_weights.safetensors", "scaling_factor", torch.zeros(S)),
        ),
        "scaling_factor that cfg.json does not use",
    ),
    "saelens: no config": (
        damaged("saelens standard", lambda f: (f / "cfg.json").unlink()), "lacks cfg.json; it has",
    ),
    "saelens: config cut": (
        damaged("saelens standard", lambda f: (f / "cfg.json").write_text('{"d_in"')),
        "cfg.json cannot be read",
    ),
    "saelens: config is a list": (
        damaged("saelens standard", lambda f: (f / "cfg.json").write_text("[]")), "no JSON object",
    ),
    "saelens: NaN": (
        damaged(
            "saelens standard", lambda f: with_tensor(f / "sae_weights.safetensors", "b_enc", NAN)
        ),
        "b_enc holds NaN or infinite",
    ),
    "saelens: NaN in a threshold": (
        damaged(
            "saelens jumprelu",
            lambda f: with_tensor(f / "sae_weights.safetensors", "threshold", NAN),
        ),
        "threshold holds NaN or infinite",
    ),
    "saelens: one threshold": (
        damaged(
            "saelens jumprelu",
            lambda f: with_tensor(f / "sae_weights.safetensors", "threshold", torch.zeros(1)),
        ),
        r"threshold has shape \(1,\), expected \(12,\)",
    ),
    "saelens: widths differ": (
        damaged(
            "saelens standard",
            lambda f: with_tensor(f / "sae_weights.safetensors", "W_dec", torch.zeros(S, D + 1)),
        ),
        "W_dec has shape",
    ),
    "sparsify: transcoder": (
        lambda folder: bad_sparsify(folder, transcode=True), "is a transcoder",
    ),
    "sparsify: skip": (lambda f: bad_sparsify(f, skip_connection=True), "skip connection"),
    "sparsify: signed": (lambda f: bad_sparsify(f, signed=True), "negative ones"),
    "sparsify: groupmax": (
        lambda f: bad_sparsify(f, activation="groupmax"), "groups, into which 12 latents do not go",
    ),
    "sparsify: another activation": (
        lambda f: bad_sparsify(f, activation="relu"), "'relu': topk, groupmax",
    ),
    "sparsify: no k": (lambda f: bad_sparsify(f, k=None), "no whole number k"),
    "sparsify: no decoder": (
        damaged("sparsify", lambda f: without(f / "sae.safetensors", "W_dec")), "lacks W_dec",
    ),
    "dl: another class": (
        lambda folder: dictionary_learning("CrossCoder", linear)(folder, weights()),
        "dict_class 'CrossCoder' in config.json: AutoEncoder, AutoEncoderNew",
    ),
    "dl: no class": (
        damaged("dl AutoEncoder", lambda f: (f / "config.json").write_text("{}")),
        "dict_class None",
    ),
    "dl: mid-training backup": (
        lambda folder: dictionary_learning(
            "AutoEncoder", lambda w: {"ae": linear(w), "step": 5, "optimizer": {}}
        )(folder, weights()),
        "backup to resume training from",
    ),
    "dl: not tensors": (
        lambda folder: dictionary_learning("AutoEncoder", lambda w: {"a": 1})(folder, weights()),
        "something other than a plain state dict",
    ),
    "dl: missing bias": (
        lambda folder: dictionary_learning(
            "AutoEncoder", lambda w: linear(w, **{"encoder.bias": b(w, "b_enc")})
        )(folder, weights()),
        "lacks bias; it holds decoder.weight, encoder.bias, encoder.weight",
    ),
    "dl: NaN threshold": (
        lambda folder: dictionary_learning(
            "MatryoshkaBatchTopKSAE",
            lambda w: {
                **tensors(w, "W_enc", "b_enc", "W_dec", "b_dec"), "threshold": NAN[0].clone()
            },
        )(folder, weights()),
        "threshold is NaN",
    ),
    "prisma: transcoder": (
        lambda folder: prisma("b_enc", is_transcoder=True)(folder, weights()), "is a transcoder",
    ),
    "prisma: another architecture": (
        lambda folder: prisma("b_enc", architecture="topk")(folder, weights()), "'topk': standard",
    ),
    "overcomplete: archetypal": (
        damaged("overcomplete SAE", lambda f: rename(f / "sae.safetensors", "_weights", "Relax")),
        "or all of dictionary.C, dictionary.W, dictionary.Relax",
    ),
    "overcomplete: deep encoder": (
        lambda folder: overcomplete(more={"encoder.mlp_blocks.0.0.weight": torch.zeros(D, D)})(
            folder, weights()
        ),
        "no linear encoder",
    ),
    "overcomplete: layer norm": (
        lambda folder: overcomplete(more={"encoder.final_block.1.weight": torch.ones(S)})(
            folder, weights()
        ),
        "normalises all latents",
    ),
    "overcomplete: another normalisation": (
        lambda folder: overcomplete(normalization="l3")(folder, weights()), "normalization 'l3'",
    ),
    "overcomplete: top_k is no number": (
        lambda folder: overcomplete(top_k="a")(folder, weights()), "no whole number top_k",
    ),
    "overcomplete: both": (
        lambda folder: overcomplete(top_k=3, threshold=1.0)(folder, weights()), "give one of them",
    ),
    "visaebench: another activation": (
        damaged("visaebench", lambda f: rewrite_json(f / "config.json", activation="gelu")),
        "lacks W_enc, W_dec, b_dec; it holds decoder.bias",
    ),
    "visaebench: no k": (
        damaged("visaebench", lambda f: rewrite_json(f / "config.json", activation="topk", k=None)),
        "no whole number k in its config",
    ),
    "visaebench: threshold is no number": (
        damaged("visaebench", lambda f: rewrite_json(f / "config.json", threshold="high")),
        "threshold 'high', no number",
    ),
    "visaebench: no encoder": (
        damaged("visaebench", lambda f: torch.save({"a": torch.zeros(1)}, f / "sae.pt")),
        "lacks encoder.final_block.0.weight",
    ),
    "clipscope: no k": (
        damaged("clipscope", lambda f: repickle(f / "120013184.pt", k="many")), "no whole number k",
    ),
    "usae: no config": (
        damaged("usae", lambda f: (f / "config.json").unlink()), "needs its config beside it",
    ),
    "usae: another model's config": (
        damaged(
            "usae",
            lambda f: rewrite_json(
                f / "config.json", model_zoo={"A": {"checkpoint_path": "a"}, "B": {}}
            ),
        ),
        r"no model \(of A, B\) whose checkpoint_path ends in uni_ViT_checkpoint_1.pth",
    ),
    "usae: mean of another width": (
        damaged(
            "usae",
            lambda f: rewrite_json(
                f / "config.json", model_zoo={"A": {"model_mean": [1.0, 2.0], "model_std": 1.0}}
            ),
        ),
        "no readable model_mean: a number, or 6 of them",
    ),
    "openai: another activation": (
        lambda folder: openai("Tanh")(folder, weights()), "activation 'Tanh'",
    ),
    "openai: topk without k": (lambda folder: openai("TopK")(folder, weights()), "k None"),
    "patchsae: gated": (
        lambda folder: checkpoint("a.b", "ViTSAERunnerConfig", gated_sae=True)(folder, weights()),
        "is gated",
    ),
    "patchsae: no tensors": (
        damaged(
            "patchsae",
            lambda f: torch.save(
                {"config": {}, "state_dict": {"W_enc": {"a": 1}}}, f / "weights.pt"
            ),
        ),
        "something other than a plain state dict",
    ),
    "prisma: pickled transcoder": (
        lambda folder: checkpoint("vit_prisma.sae.config", "Config", is_transcoder=True)(
            folder, weights()
        ),
        "is a transcoder",
    ),
    "msae": (
        lambda folder: write_msae(folder), "MSAE: it reads CLIP's pooled image embedding",
    ),
    "dl: tensors of no class": (
        lambda folder: write_step(folder, {"weight": torch.zeros(1)}), "tell no class",
    ),
    "overcomplete: pickled, of another class": (
        lambda folder: write_model(folder, "QSAE"), "class 'QSAE': SAE, TopKSAE",
    ),
    "overcomplete: pickled, not trained": (
        lambda folder: write_model(folder, "BatchTopKSAE"), "it has no threshold",
    ),
    "overcomplete: pickled, without an encoder": (
        lambda folder: write_model(folder, "TopKSAE", top_k=3), "no linear encoder",
    ),
    "overcomplete: pursuit without k": (
        lambda folder: write_model(folder, "MpSAE"), "MpSAE without a whole number k",
    ),
    "overcomplete: no JSON": (
        damaged("overcomplete SAE", lambda f: (f / "sae.json").unlink()),
        "needs one file .json, it has nothing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    write, sentence = BAD[name]
    path = write(tmp_path)
    with pytest.raises(SemsegError, match=sentence) as caught:
        saes.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("n_left", [0, 1, 30, -40])
@pytest.mark.parametrize("name", CASES)
def test_a_cut_file_is_refused(tmp_path: Path, name: str, n_left: int) -> None:
    path = CASES[name].write(tmp_path, weights())
    (file,) = [p for p in tmp_path.iterdir() if p.suffix != ".json"]
    file.write_bytes(file.read_bytes()[:n_left])
    with pytest.raises(SemsegError) as caught:
        saes.load(path, format=CASES[name].format)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", ["prisma", "dl AutoEncoder"])
def test_nothing_is_unpickled(tmp_path: Path, name: str) -> None:
    path = CASES[name].write(tmp_path, weights())
    (file,) = [p for p in tmp_path.iterdir() if p.suffix == ".pt"]
    torch.save(torch.nn.Linear(1, 1), file)
    with pytest.raises(SemsegError, match=r"pickled torch.nn.modules.linear.Linear, not a state"):
        saes.load(path)


def test_an_unknown_file_lists_the_formats_and_the_keys_found(tmp_path: Path) -> None:
    torch.save({"enc": torch.zeros(2), "dec": torch.zeros(2)}, tmp_path / "model.pt")
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    (tmp_path / "hyperparameters.json").write_text('{"lr": 1}')
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(SemsegError, match="of no known format") as caught:
        saes.load(tmp_path)
    message = str(caught.value)
    assert all(f"{name}: {known.description}" in message for name, known in FORMATS.items())
    for found in ("model.pt (dec, enc)", "other.safetensors (weight)", "json (lr)", "notes.txt"):
        assert found in message
    with pytest.raises(SemsegError, match=r"found: hyperparameters.json \(lr\); model.pt \(dec"):
        saes.load(tmp_path / "model.pt")


def test_a_config_file_alone_is_no_saev_file(tmp_path: Path) -> None:
    CASES["saelens standard"].write(tmp_path, weights())
    with pytest.raises(SemsegError, match="of no known format"):
        saes.load(tmp_path / "cfg.json")


def test_autoencoders_of_cls_tokens_say_so(tmp_path: Path) -> None:
    prisma("b_enc", cls_token_only=True)(tmp_path, weights())
    assert saes.load(tmp_path).trained_at.cls_only


def test_old_fine_tuned_decoders_are_scaled(tmp_path: Path) -> None:
    folder = bad_saelens(tmp_path, finetuning_scaling_factor=True)
    plain = saes.load(folder).W_dec.clone()  # the file, which may be mapped, is written anew
    with_tensor(folder / "sae_weights.safetensors", "scaling_factor", torch.full((S,), 2.0))
    torch.testing.assert_close(saes.load(folder).W_dec, plain * 2)


def test_a_silent_header_warns_only_where_nobody_decides(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = CASES["saev 1 relu"].write(tmp_path, weights())
    assert saes.load(path).centres_input is None
    (said,) = caplog.messages
    assert re.search(SILENT, said)
    caplog.clear()
    assert saes.load_undecided(path).centres_input is None
    assert saes.load(path, centre_input="no").centres_input is False
    assert not caplog.messages


# --- the page -------------------------------------------------------------------------------------


def test_the_page_has_a_section_for_every_format() -> None:
    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text("utf-8")
    for name in FORMATS:
        assert f"\n## {name}\n" in page
        assert f"[`{name}`](#{name})" in page


def test_the_export_on_the_page_is_what_is_read(tmp_path: Path) -> None:
    """The code of the page runs on a module with overcomplete's names."""
    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text("utf-8")
    (code,) = [block for block in page.split("```") if "save_file(" in block]
    CASES["overcomplete TopKSAE"].write(tmp_path, weights())
    state = load_file(tmp_path / "sae.safetensors")
    (tmp_path / "sae.safetensors").unlink()
    expected = CASES["overcomplete TopKSAE"].encode(tokens(), weights())

    class Exported:
        def state_dict(self) -> dict[str, Tensor]:
            # parameters, one of them not contiguous
            return {
                k: v.T.contiguous().T.requires_grad_() if v.ndim > 1 else v
                for k, v in state.items()
            }

    exec(
        code.removeprefix("python").replace(
            '"sae.safetensors"', repr(str(tmp_path / "sae.safetensors"))
        ),
        {"sae": Exported()},
    )
    found = saes.load(tmp_path).encode(torch.from_numpy(tokens()))
    torch.testing.assert_close(found, torch.from_numpy(expected).float(), rtol=1e-4, atol=1e-4)


# --- hostile configs ------------------------------------------------------------------------------


def doubled(n: int = 60) -> list[Any]:
    """A list whose text is longer than any memory holds; a pickle of it is short."""
    found: list[Any] = [1]
    for _ in range(n):
        found = [found, found]
    return found


@pytest.mark.parametrize(
    "name", ["architecture", "activation_fn_str", "normalize_activations", "activation_fn_kwargs"]
)
def test_a_config_of_endless_text_is_left_out(tmp_path: Path, name: str) -> None:
    values: dict[str, Any] = {name: doubled()}
    write = checkpoint("vit_prisma.sae.config", "VisionModelSAERunnerConfig", **values)
    assert saes.load(write(tmp_path, weights())).d_sae == S  # by the defaults


def test_an_activation_of_endless_text_is_refused(tmp_path: Path) -> None:
    openai("TopK", k=doubled())(tmp_path, weights())
    with pytest.raises(SemsegError, match="no readable activation"):
        saes.load(tmp_path)


def test_a_yaml_of_endless_text_is_refused(tmp_path: Path) -> None:
    write_visaebench(tmp_path, weights())
    (tmp_path / "config.json").unlink()
    lines = ["a0: &a0 [1]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60))]
    (tmp_path / "config.yaml").write_text("\n".join([*lines, "activation: *a59"]))
    with pytest.raises(SemsegError, match="too large a one"):
        saes.load(tmp_path, format="visaebench")


def test_control_characters_in_names_are_not_printed(tmp_path: Path) -> None:
    torch.save({"W_enc\x1b[2J\n": torch.zeros(1)}, tmp_path / "model.pt")
    with pytest.raises(SemsegError) as caught:
        saes.load(tmp_path / "model.pt")
    assert str(caught.value).isprintable()

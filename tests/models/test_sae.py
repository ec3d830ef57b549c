"""Autoencoders: real saev files, there and back, single columns, and every bad file."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from worlds import make_sae

from semseg_cli.errors import SemsegError
from semseg_cli.models import sae as saes
from semseg_cli.models.memory_budget import Budget
from semseg_cli.models.sae import FORMATS, SparseAutoencoder, Threshold, TopK
from semseg_cli.models.sae.model import WEIGHTS

NONLINEARITIES = [Threshold(), Threshold(0.3), TopK(5)]
LATENTS = torch.tensor([0, 7, 39, 7])


def inputs(n: int = 50, d_model: int = 24, seed: int = 0) -> Tensor:
    return torch.randn(n, d_model, generator=torch.Generator().manual_seed(seed)) * 3


def scaled(nonlinearity: Threshold | TopK) -> SparseAutoencoder:
    return make_sae(nonlinearity=nonlinearity).scaled(inputs(1, seed=9)[0], 1.7)


# --- real files -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "nonlinearity"),
    [
        ("legacy_relu", Threshold),
        ("s5_head_relu", Threshold),
        ("s5_head_topk", TopK),
        ("s5_head_batchtopk", Threshold),
    ],
)
def test_saev_files_give_the_latents_and_reconstructions_of_saev(
    saev_samples: Path, name: str, nonlinearity: type
) -> None:
    sae = saes.load(saev_samples / f"{name}.pt")
    expected = np.load(saev_samples / f"{name}.npz")
    x, f_x = (torch.from_numpy(expected[key]) for key in ("x", "f_x"))
    x_hat = torch.from_numpy(expected["x_hat"])
    if x_hat.ndim == 3:  # newer files reconstruct with growing prefixes of latents
        x_hat = x_hat[:, -1]
    ours_hat, ours, loss = sae(x)
    torch.testing.assert_close(ours, f_x, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours_hat, x_hat, rtol=1e-5, atol=1e-5)
    assert isinstance(sae.nonlinearity, nonlinearity)
    assert (sae.d_model, sae.d_sae) == (32, 96)
    assert 0 < (f_x != 0).float().mean() < 1
    assert float(loss) == pytest.approx(float((x_hat - x).square().mean()), rel=1e-4)


def test_legacy_files_subtract_b_dec_before_encoding(tmp_path: Path) -> None:
    made = make_sae()
    state = {name: getattr(made, name) for name in WEIGHTS}
    path = tmp_path / "sae.pt"
    write(path, {"d_vit": 24, "exp_factor": 2}, state)
    x = inputs()
    expected = torch.relu((x - made.b_dec) @ made.W_enc + made.b_enc)
    torch.testing.assert_close(saes.load(path).encode(x), expected, rtol=1e-5, atol=1e-5)


# --- there and back -------------------------------------------------------------------------------


@pytest.mark.parametrize("nonlinearity", NONLINEARITIES, ids=repr)
def test_a_saved_autoencoder_loads_as_it_was(
    tmp_path: Path, nonlinearity: Threshold | TopK
) -> None:
    made, path = make_sae(nonlinearity=nonlinearity), tmp_path / "sae.pt"
    saes.save(path, made)
    loaded = saes.load(path)
    x = inputs()
    assert torch.equal(loaded.encode(x), made.encode(x))
    assert torch.equal(loaded.decode(made.encode(x)), made.decode(made.encode(x)))
    torch.testing.assert_close(
        torch.tensor(getattr(loaded.nonlinearity, "value", 0.0)),
        torch.tensor(getattr(nonlinearity, "value", 0.0)),
    )
    header = json.loads(path.read_bytes().partition(b"\n")[0])
    assert header["schema"] == 5
    assert (header["cfg"]["d_model"], header["cfg"]["d_sae"]) == (24, 40)


def test_files_of_equal_contents_have_equal_digests(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        saes.save(tmp_path / name, make_sae(seed=seed))
    a, b, c = (saes.load(tmp_path / name).digest for name in "abc")
    assert a == b != c


def test_autoencoders_made_in_memory_have_digests_of_their_own() -> None:
    made = [make_sae(), make_sae(seed=1), make_sae(nonlinearity=TopK(5))]
    assert len({sae.digest for sae in made}) == 3
    assert make_sae().digest == made[0].digest


# --- the model --------------------------------------------------------------------------------


def test_relu_and_threshold_and_topk_by_hand() -> None:
    pre = torch.tensor([[-1.0, 0.0, 0.5, 2.0]])
    assert Threshold()(pre).tolist() == [[0.0, 0.0, 0.5, 2.0]]
    assert Threshold(0.5)(pre).tolist() == [[0.0, 0.0, 0.0, 2.0]]
    assert Threshold(-3.0)(pre).tolist() == [[0.0, 0.0, 0.5, 2.0]]
    assert TopK(1)(pre).tolist() == [[0.0, 0.0, 0.0, 2.0]]
    assert TopK(2)(-pre).tolist() == [[1.0, 0.0, 0.0, 0.0]]


def test_the_input_is_clamped_symmetrically_then_scaled() -> None:
    sae = make_sae().scaled(torch.full((24,), 2.0), 4.0)
    x = torch.tensor([3e5, -3e5, -7.0]).repeat(8)
    expected = torch.tensor([(1e5 - 2) / 4, (-1e5 - 2) / 4, -9 / 4]).repeat(8)
    torch.testing.assert_close(sae.scale(x), expected)


@pytest.mark.parametrize("nonlinearity", NONLINEARITIES, ids=repr)
def test_columns_are_those_of_the_full_encoding(nonlinearity: Threshold | TopK) -> None:
    sae, x = scaled(nonlinearity), inputs(12).view(3, 4, 24)
    full = sae.encode(sae.scale(x))
    assert 0 < (full[..., LATENTS] != 0).float().mean() < 1
    torch.testing.assert_close(sae.columns(x, LATENTS), full[..., LATENTS], rtol=1e-5, atol=1e-6)
    assert sae.columns(x, LATENTS[:0]).shape == (3, 4, 0)


@pytest.mark.parametrize("nonlinearity", NONLINEARITIES, ids=repr)
def test_columns_do_not_depend_on_chunks(nonlinearity: Threshold | TopK) -> None:
    sae, x = scaled(nonlinearity), inputs(150)
    at_once = sae.columns(x, LATENTS)
    sae.budget = Budget(1)
    assert sae.chunk_rows == 1
    torch.testing.assert_close(sae.columns(x, LATENTS), at_once, rtol=1e-5, atol=1e-6)


def test_a_direction_is_what_one_unit_adds_to_the_raw_residual() -> None:
    sae = scaled(Threshold())
    f = sae.encode(sae.scale(inputs(1)))
    more = f.clone()
    more[:, 7] += 1
    moved = (sae.decode(more) - sae.decode(f)) * sae.act_norm
    torch.testing.assert_close(sae.directions(torch.tensor([7])), moved, rtol=1e-4, atol=1e-5)


def test_wrong_widths_are_refused_at_run_time() -> None:
    with pytest.raises((TypeError, RuntimeError)):
        make_sae().scaled(torch.zeros(24), "1")  # type: ignore[arg-type]
    with pytest.raises((TypeError, RuntimeError)):
        make_sae().encode(torch.zeros(3, 23))


# --- bad files ---------------------------------------------------------------------------------


def write(path: Path, header: Any, state: Any) -> None:
    with path.open("wb") as file:
        file.write(json.dumps(header).encode() + b"\n")
        torch.save(state, file)


def header(kind: Any = "Relu", params: Any = None, schema: int = 5) -> dict[str, Any]:
    activation = {"cls": kind, "params": {} if params is None else params}
    return {"schema": schema, "cfg": {"d_model": 24, "d_sae": 40, "activation": activation}}


def weights(**changes: Any) -> dict[str, Any]:
    made = make_sae()
    return {**{name: getattr(made, name) for name in WEIGHTS}, **changes}


BAD_NAN = torch.full((40,), float("nan"))
CASES: dict[str, tuple[Any, Any, str]] = {
    "NaN weights": (header(), weights(b_enc=BAD_NAN), "b_enc holds NaN or infinite"),
    "infinite weights": (header(), weights(b_enc=torch.full((40,), torch.inf)), "b_enc holds NaN"),
    "other schema": (header(schema=6), weights(), "schema 6"),
    "other activation": (header("Gated"), weights(), "activation 'Gated'"),
    "no activation": ({"schema": 5}, weights(), "no readable activation"),
    "activation of another shape": ({"schema": 5, "cfg": []}, weights(), "no readable activation"),
    "TopK without k": (header("TopK"), weights(), "no readable activation"),
    "TopK with a bad k": (header("TopK", {"top_k": "x"}), weights(), "no readable activation"),
    "TopK of more than there are": (header("TopK", {"top_k": 41}), weights(), "keeps 41 of 40"),
    "TopK of none": (header("TopK", {"top_k": 0}), weights(), "keeps 0 of 40"),
    "missing weights": (header(), {"W_enc": torch.zeros(24, 40)}, "lacks b_enc, W_dec, b_dec"),
    "transposed W_enc": (header(), weights(W_enc=torch.zeros(40, 24)), "expected"),
    "flat W_enc": (header(), weights(W_enc=torch.zeros(960)), "W_enc has shape"),
    "legacy with transposed W_enc": ({"d_vit": 24}, weights(W_enc=torch.zeros(40, 24)), "expected"),
    "legacy with long b_dec": ({"d_vit": 24}, weights(b_dec=torch.zeros(25)), "b_dec has shape"),
    "no tensors": (header(), {"W_enc": 3}, "something other than a plain state dict"),
    "a list": (header(), [torch.zeros(1)], "something other than a plain state dict"),
    "a pickled module": (
        header(),
        torch.nn.Linear(2, 2),
        "not a state dict of tensors; nothing in it was run",
    ),
    "a header that is no object": ([1], weights(), "no known format"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_file_is_refused_in_a_sentence(tmp_path: Path, case: str) -> None:
    head, state, sentence = CASES[case]
    write(tmp_path / "sae.pt", head, state)
    with pytest.raises(SemsegError, match=sentence):
        saes.load(tmp_path / "sae.pt")


@pytest.mark.parametrize("n_left", [0, 1, 40, 300, 2000, -1])
def test_a_file_that_is_cut_anywhere_is_refused(tmp_path: Path, n_left: int) -> None:
    path = tmp_path / "sae.pt"
    saes.save(path, make_sae())
    path.write_bytes(path.read_bytes()[:n_left])
    with pytest.raises(SemsegError, match=r"sae\.pt"):
        saes.load(path)


@pytest.mark.parametrize(
    "data", [b"", b"\x89PNG\r\n", pickle.dumps({"a": 1}), b"PK\x03\x04", b"\xff\xfe"]
)
def test_a_file_of_no_known_format_is_refused_with_the_known_ones(
    tmp_path: Path, data: bytes
) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(SemsegError, match="of no known format") as caught:
        saes.load(tmp_path / "x")
    assert all(name in str(caught.value) for name in FORMATS)


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n", b"\xff\n", b"[1]\n"])
@pytest.mark.parametrize("name", FORMATS)
def test_a_named_format_that_does_not_fit_is_refused(
    tmp_path: Path, name: str, data: bytes
) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(SemsegError):
        saes.load(tmp_path / "x", format=name)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SemsegError, match="check --sae-ckpt"):
        saes.load(tmp_path / "nowhere.pt")
    with pytest.raises(SemsegError, match="check --sae-ckpt"):
        saes.load(tmp_path)


def test_batch_topk_without_a_threshold_warns_and_is_relu(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "sae.pt", header("BatchTopK"), weights())
    sae = saes.load(tmp_path / "sae.pt")
    assert "no BatchTopK threshold" in caplog.text
    assert sae.nonlinearity == Threshold(0.0)

"""Heads: the reference's file, safetensors, folders of steps, and bad files."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from worlds import make_head

from semseg_cli.errors import SemsegError
from semseg_cli.models.head import argmax_logits, load_head, save_head


def write(path: Path, header: Any, state: Any) -> Path:
    with path.open("wb") as file:
        file.write(json.dumps(header).encode() + b"\n")
        torch.save(state, file)
    return path


def state(rows: int = 6, columns: int = 24, **changes: Any) -> dict[str, Any]:
    return {"weight": torch.ones(rows, columns), "bias": torch.zeros(rows), **changes}


SIZES = {"in_features": 24, "out_features": 6}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_saved_head_loads_as_it_was(tmp_path: Path, suffix: str) -> None:
    made, path = make_head(), tmp_path / f"head{suffix}"
    save_head(path, made)
    loaded = load_head(path)
    assert torch.equal(loaded.weight, made.weight)
    assert torch.equal(loaded.bias, made.bias)
    assert loaded.n_classes == 5
    assert not loaded.weight.requires_grad
    assert loaded.digest


def test_the_references_file_is_a_json_line_and_a_state_dict(tmp_path: Path) -> None:
    save_head(tmp_path / "head.pt", make_head())
    first, _, rest = (tmp_path / "head.pt").read_bytes().partition(b"\n")
    assert json.loads(first) == SIZES
    assert rest[:2] == b"PK"


def test_a_prefix_before_weight_and_bias_is_allowed(tmp_path: Path) -> None:
    made = make_head()
    named = {f"linear.{name}": tensor for name, tensor in made.state_dict().items()}
    assert torch.equal(load_head(write(tmp_path / "h.pt", SIZES, named)).weight, made.weight)


def test_a_folder_gives_the_numerically_largest_step(tmp_path: Path) -> None:
    for step in (9, 100, 20):
        save_head(tmp_path / f"lr_0.1_step{step}.pt", make_head(seed=step))
    (tmp_path / "lr_0.1_step999.txt").write_text("no head")
    (tmp_path / "notes.pt").write_text("no head")
    assert torch.equal(load_head(tmp_path).weight, make_head(seed=100).weight)


def test_a_folder_without_steps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SemsegError, match=r"holds no \*_step<n>\.pt"):
        load_head(tmp_path)


NAN = torch.full((6,), float("nan"))
CASES: dict[str, tuple[Any, Any, str]] = {
    "NaN": (SIZES, state(bias=NAN), "NaN"),
    "other names": (SIZES, {"kernel": torch.ones(6, 24), "bias": NAN}, "expected a weight and"),
    "more": (SIZES, state(extra=NAN), "expected a weight and"),
    "two layers": (
        SIZES,
        {f"{i}.{name}": t for i in (0, 1) for name, t in state().items()},
        "expected a weight and",
    ),
    "flat weight": (SIZES, state(weight=torch.ones(6)), "expected"),
    "short bias": (SIZES, state(bias=torch.ones(5)), "expected"),
    "no class": (SIZES, state(rows=1), "expected"),
    "other sizes": ({"in_features": 25, "out_features": 6}, state(), "the file is bad"),
    "no header": ([], state(), "no JSON object"),
    "a module": (SIZES, torch.nn.Linear(2, 2), "nothing in it was run"),
    "whole numbers": (
        SIZES,
        {**make_head().state_dict(), "weight": torch.ones(6, 24, dtype=torch.int32)},
        "weight holds int32 numbers, expected floating-point",
    ),
    "truth values": (
        SIZES,
        {**make_head().state_dict(), "weight": torch.ones(6, 24) > 0},
        "holds bool numbers",
    ),
    "complex": (
        SIZES,
        {**make_head().state_dict(), "weight": torch.ones(6, 24, dtype=torch.complex64)},
        "no readable tensors",
    ),
    "no tensors": (SIZES, {"weight": 1, "bias": 2}, "plain state dict"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_head_is_refused_in_a_sentence(tmp_path: Path, case: str) -> None:
    header, made, sentence = CASES[case]
    with pytest.raises(SemsegError, match=sentence):
        load_head(write(tmp_path / "head.pt", header, made))


@pytest.mark.parametrize("data", [b"", b"{", b'{"a": 1}\n', b"\x80\x02", b'{"a": 1}\nPK\x03\x04'])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_an_unreadable_head_is_refused(tmp_path: Path, data: bytes, suffix: str) -> None:
    path = tmp_path / f"head{suffix}"
    path.write_bytes(data)
    with pytest.raises(SemsegError):
        load_head(path)


def test_a_cut_head_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "head.pt"
    save_head(path, make_head())
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(SemsegError, match="no readable tensors"):
        load_head(path)


def test_a_safetensors_head_with_other_entries_is_refused(tmp_path: Path) -> None:
    save_file({"kernel": torch.ones(6, 24)}, tmp_path / "h.safetensors")
    with pytest.raises(SemsegError, match="expected a weight and a bias"):
        load_head(tmp_path / "h.safetensors")


def test_a_missing_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SemsegError, match="check --seg-ckpt"):
        load_head(tmp_path / "nowhere.pt")


@given(st.integers(0, 2**31), st.integers(1, 6))
def test_the_best_class_is_the_first_best_beyond_null(seed: int, n_classes: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, n_classes + 1, generator=draw)
    logits[..., 0] = 99.0
    for row, best in zip(logits.view(-1, n_classes + 1).tolist(), argmax_logits(logits).flatten(),
                         strict=True):  # fmt: skip
        assert int(best) == max(range(1, n_classes + 1), key=lambda c: row[c])

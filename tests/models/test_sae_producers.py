"""Files that the producers' own packages wrote, and the latents that these packages get from them.

`tests/producers/README.md` says how each was written.
"""

import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from semseg_cli.errors import SemsegError
from semseg_cli.models import sae as saes
from semseg_cli.models.sae.scaling import ROOT_MEAN_SQUARE

FOLDER = Path(__file__).parents[1] / "producers"
VALUES = load_file(FOLDER / "values.safetensors")
CASES = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())
FORMATS = {
    "clipscope": "clipscope",
    "dl": "dictionary_learning",
    "overcomplete": "overcomplete",
    "sae-for-vlm": "dictionary_learning",
    "saelens": "saelens",
    "sparsify": "sparsify",
    "usae": "usae",
    "visaebench": "visaebench",
}


def load(case: str) -> saes.SparseAutoencoder:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return saes.load(FOLDER / case)


@pytest.mark.parametrize("case", CASES)
def test_latents_and_reconstructions_are_the_packages_own(case: str) -> None:
    sae, x = load(case), VALUES["x"]
    expected = VALUES[f"{case}.f"]
    assert 0.02 < float((expected != 0).float().mean()) < 0.98
    torch.testing.assert_close(sae.encode(x), expected, rtol=1e-4, atol=1e-5)
    x_hat, _, _ = sae(x)
    torch.testing.assert_close(x_hat, VALUES[f"{case}.x_hat"], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("case", CASES)
def test_the_format_is_recognised(case: str) -> None:
    (expected,) = {name for prefix, name in FORMATS.items() if case.startswith(prefix)}
    assert saes.format_name(FOLDER / case) == expected


@pytest.mark.parametrize("case", CASES)
def test_the_weights_file_stands_for_its_folder(case: str) -> None:
    (file,) = [
        path
        for path in (FOLDER / case).rglob("*")
        if path.suffix in (".pt", ".pth", ".safetensors") and "whitening" not in path.name
    ]
    assert torch.equal(saes.load(file).encode(VALUES["x"]), load(case).encode(VALUES["x"]))


@pytest.mark.parametrize("case", CASES)
def test_columns_are_those_of_all_latents(case: str) -> None:
    sae, x = load(case), VALUES["x"]
    latents = torch.tensor([7, 0, 3])
    torch.testing.assert_close(sae.columns(x, latents), sae.encode(x)[:, latents])


@pytest.mark.parametrize("case", CASES)
def test_an_edit_of_one_latent_moves_the_reconstruction_by_its_direction(case: str) -> None:
    sae, x = load(case), VALUES["x"]
    f = sae.encode(sae.scale(x))
    edited = f.clone()
    edited[:, 3] = 2.0
    moved = sae.restore(sae.decode(edited), x) - sae.restore(sae.decode(f), x)
    scale = sae.token_scale(x)
    expected = (2.0 - f[:, 3:4]) * sae.directions(torch.tensor([3]))
    torch.testing.assert_close(moved, expected if scale is None else expected * scale[:, None])


@pytest.mark.parametrize("case", CASES)
def test_tokens_are_encoded_alone(case: str) -> None:
    """No latent depends on the other tokens of its batch, nor on the batch's shape."""
    sae, x = load(case), VALUES["x"]
    whole = sae.encode(x)
    torch.testing.assert_close(torch.cat([sae.encode(row[None]) for row in x]), whole)
    torch.testing.assert_close(sae.encode(x.view(2, 5, -1)), whole.view(2, 5, -1))


@pytest.mark.parametrize("case", CASES)
def test_only_visaebench_is_scaled_by_statistics_and_by_its_own_norm(case: str) -> None:
    sae = load(case)
    assert sae.needs_scaling == case.startswith("visaebench")
    assert not sae.needs_scaling or sae.norm_kind == ROOT_MEAN_SQUARE


@pytest.mark.parametrize(
    ("case", "format"),
    [
        ("dl-topk", "dictionary_learning_topk"),
        ("sae-for-vlm-batchtopk", "dictionary_learning_batchtopk"),
    ],
)
def test_a_class_can_be_named_where_the_config_is_missing(
    tmp_path: Path, case: str, format: str
) -> None:
    (file,) = (FOLDER / case).rglob("*.pt")
    copy = tmp_path / "a" / "ae_100000.pt"
    copy.parent.mkdir()
    copy.write_bytes(file.read_bytes())
    with pytest.raises(SemsegError, match="give --sae-format dictionary_learning_topk or"):
        saes.load(copy)
    found = saes.load(copy, format=format).encode(VALUES["x"])
    torch.testing.assert_close(found, VALUES[f"{case}.f"], rtol=1e-4, atol=1e-5)


def test_the_last_checkpoint_of_a_folder_is_taken(tmp_path: Path) -> None:
    folder = FOLDER / "sae-for-vlm-batchtopk"
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    (tmp_path / "checkpoints").mkdir()
    (file,) = folder.rglob("*.pt")
    (tmp_path / "checkpoints" / "ae_100000.pt").write_bytes(file.read_bytes())
    (tmp_path / "checkpoints" / "ae_5000.pt").write_bytes(b"damaged")
    assert torch.equal(saes.load(tmp_path).W_enc, saes.load(folder).W_enc)

"""Statistics: one pass against the formulas, kept values, the cache, and bad sources."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from worlds import World, count_images, make_sae

from semseg_cli.data.dataset import open_dataset
from semseg_cli.data.loader import Loader
from semseg_cli.engine.sae_statistics import cached_stats, check_space, compute_stats
from semseg_cli.errors import SemsegError
from semseg_cli.models.memory_budget import Budget
from semseg_cli.models.residuals import Residuals
from semseg_cli.models.sae import SparseAutoencoder, Threshold, TopK
from semseg_cli.models.sae.statistics import NAMES, SaeStats, check_stats, load_stat, save_stats
from semseg_cli.models.vit import Backbone, load_vit

LAYER = 2


@pytest.fixture(scope="module")
def vit(tiny_world: World) -> Backbone:
    return load_vit(str(tiny_world.folder / "vit"))


@pytest.fixture(scope="module")
def loader(tiny_world: World) -> Loader:
    return Loader(open_dataset(tiny_world.data, "training", 32), batch_size=3)


@pytest.fixture(scope="module")
def residuals(vit: Backbone, loader: Loader) -> Tensor:
    """All patch residuals [n, d] at once, in double precision."""
    parts = [vit.prefix(batch.images_bchw, LAYER) for batch in loader]
    tokens = torch.cat(parts)[:, vit.n_prefix_tokens :]
    return tokens.reshape(-1, vit.d_model).double()


def assert_same(ours: SaeStats, theirs: SaeStats) -> None:
    for name, tensor in ours.to_tensors().items():
        torch.testing.assert_close(tensor, theirs.to_tensors()[name], rtol=1e-5, atol=1e-6)


def by_formula(residuals: Tensor, sae: SparseAutoencoder, **given: Tensor) -> SaeStats:
    mean = given.get("act_mean", residuals.mean(dim=0)).double()
    norm = float(given.get("act_norm", (residuals - mean).norm(dim=1).mean() / 24**0.5))
    pre = (residuals - mean) / norm @ sae.W_enc.double() + sae.b_enc.double()
    f = sae.nonlinearity(pre)
    frequency, maximum = (f > 0).double().mean(dim=0), f.amax(dim=0).clamp(min=0)
    return SaeStats(mean.float(), norm, frequency.float(), maximum.float())


@pytest.mark.parametrize("nonlinearity", [Threshold(), Threshold(0.4), TopK(4)], ids=repr)
def test_one_pass_gives_the_formulas(
    vit: Backbone, loader: Loader, residuals: Tensor, nonlinearity: Threshold | TopK
) -> None:
    sae = make_sae(nonlinearity=nonlinearity, seed=3)
    stats = compute_stats(Residuals(vit, LAYER, loader), sae)
    assert_same(stats, by_formula(residuals, sae))
    assert torch.equal(stats.sparsity == 0, stats.top_values == 0)


def test_a_latent_that_never_fires_has_frequency_and_maximum_zero(
    vit: Backbone, loader: Loader
) -> None:
    sae = make_sae(seed=3)
    sae.b_enc[5] = -1e4
    stats = compute_stats(Residuals(vit, LAYER, loader), sae)
    assert (float(stats.sparsity[5]), float(stats.top_values[5])) == (0.0, 0.0)


@pytest.mark.parametrize(
    "names", [("act_mean",), ("act_norm",), ("act_mean", "act_norm"), ("sparsity", "top_values")]
)
def test_given_values_are_kept_and_the_rest_follows_from_them(
    vit: Backbone, loader: Loader, residuals: Tensor, names: tuple[str, ...]
) -> None:
    possible = {
        "act_mean": torch.linspace(-1, 1, 24),
        "act_norm": torch.tensor(2.5),
        "sparsity": torch.rand(40),
        "top_values": torch.rand(40),
    }
    given = {name: possible[name] for name in names}
    sae = make_sae(seed=3)
    found = compute_stats(Residuals(vit, LAYER, loader), sae, given).to_tensors()
    for name, value in given.items():
        assert torch.equal(found[name], value)
    expected = by_formula(residuals, sae, **given).to_tensors()
    for name in set(NAMES) - set(names):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 7])
def test_the_batch_size_does_not_matter(vit: Backbone, loader: Loader, batch_size: int) -> None:
    expected = compute_stats(Residuals(vit, LAYER, loader), make_sae())
    sae = make_sae()
    sae.budget = Budget(1)
    other = Loader(loader.dataset, batch_size)
    assert_same(compute_stats(Residuals(vit, LAYER, other), sae), expected)


def test_the_vit_runs_once_and_nothing_is_left_in_the_scratch_folder(
    vit: Backbone, loader: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_images = count_images(vit, monkeypatch)
    compute_stats(Residuals(vit, LAYER, loader), make_sae(), scratch=tmp_path / "scratch")
    assert n_images == [3, 3, 1]
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_disk_that_is_too_small_is_noticed_before_writing(tmp_path: Path) -> None:
    with pytest.raises(SemsegError, match=r"GiB free, .* are needed"):
        check_space(tmp_path, 2**60)


# --- the cache ------------------------------------------------------------------------------------


def cached(
    vit: Backbone, loader: Loader, cache: Path, sae: SparseAutoencoder | None = None, **given: Any
) -> SaeStats:
    return cached_stats(given, sae or make_sae(), lambda: Residuals(vit, LAYER, loader), cache)


def test_a_second_run_reads_the_cache_and_runs_no_image(
    vit: Backbone, loader: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cached(vit, loader, tmp_path)
    seen = count_images(vit, monkeypatch)
    second = cached(vit, loader, tmp_path)
    assert seen == []
    assert_same(first, second)


def test_complete_statistics_open_no_image_at_all(vit: Backbone, tmp_path: Path) -> None:
    given = {
        "act_mean": torch.zeros(24),
        "act_norm": torch.tensor(1.0),
        "sparsity": torch.zeros(40),
        "top_values": torch.zeros(40),
    }

    def no_images() -> Residuals:
        raise AssertionError("the images were opened")

    assert cached_stats(given, make_sae(), no_images, tmp_path).act_norm == 1.0


def test_other_inputs_have_another_cache_entry(
    vit: Backbone, loader: Loader, tmp_path: Path, tiny_world: World
) -> None:
    cached(vit, loader, tmp_path)
    cached(vit, loader, tmp_path, sae=make_sae(seed=8))
    cached(vit, loader, tmp_path, act_norm=torch.tensor(2.0))
    cached(vit, loader, tmp_path, act_norm=torch.tensor(3.0))
    other = Loader(open_dataset(tiny_world.data, "training", 32, n_images=2), 3)
    cached(vit, other, tmp_path)
    cached_stats({}, make_sae(), lambda: Residuals(vit, 1, loader), tmp_path)
    assert len(list((tmp_path / "stats").iterdir())) == 6


@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_bit_in_the_cache_is_noticed(
    vit: Backbone, loader: Loader, tmp_path: Path, name: str
) -> None:
    first = cached(vit, loader, tmp_path)
    (path,) = (tmp_path / "stats").iterdir()
    whole = path.read_bytes()
    values = load_file(path)[name].numpy().tobytes()
    at = whole.rindex(values)
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    assert_same(cached(vit, loader, tmp_path), first)
    assert path.read_bytes() == whole


def test_statistics_of_another_model_in_the_place_of_ours_are_noticed(
    vit: Backbone, loader: Loader, tmp_path: Path
) -> None:
    first = cached(vit, loader, tmp_path)
    (path,) = (tmp_path / "stats").iterdir()
    cached(vit, loader, tmp_path, sae=make_sae(seed=8))
    (other,) = set((tmp_path / "stats").iterdir()) - {path}
    shutil.copy(other, path)
    assert_same(cached(vit, loader, tmp_path), first)


def test_a_flipped_bit_in_given_statistics_is_told(tmp_path: Path) -> None:
    path = tmp_path / "stats.safetensors"
    save_stats(path, SaeStats(torch.ones(3), 1.0, torch.full((5,), 0.5), torch.ones(5)))
    assert load_stat("act_norm", str(path)) == 1.0
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(SemsegError, match=r"act_norm cannot be read: .* is damaged"):
        load_stat("act_norm", str(path))


@pytest.mark.parametrize("damage", ["cut", "empty", "entries", "shape", "nan"])
def test_a_damaged_cache_file_is_computed_again(
    vit: Backbone, loader: Loader, tmp_path: Path, damage: str
) -> None:
    first = cached(vit, loader, tmp_path)
    (path,) = (tmp_path / "stats").iterdir()
    whole = path.read_bytes()
    if damage == "cut":
        path.write_bytes(whole[:-100])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "entries":
        save_file({"act_mean": torch.zeros(24)}, path)
    elif damage == "shape":
        save_file({**first.to_tensors(), "sparsity": torch.zeros(3)}, path)
    else:
        save_file({**first.to_tensors(), "sparsity": torch.full((40,), torch.nan)}, path)
    assert_same(cached(vit, loader, tmp_path), first)
    assert path.read_bytes() == whole


def test_a_cache_folder_that_cannot_be_made_is_named(
    vit: Backbone, loader: Loader, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SemsegError, match="--cache-dir"):
        cached(vit, loader, tmp_path / "file")


# --- sources -------------------------------------------------------------------------------------


def test_statistics_round_trip(tmp_path: Path) -> None:
    made = SaeStats(torch.rand(24), 1.5, torch.rand(40), torch.rand(40))
    save_stats(tmp_path / "s.safetensors", made)
    path = str(tmp_path / "s.safetensors")
    found = {name: load_stat(name, path) for name in NAMES}
    assert all(torch.equal(found[name], tensor) for name, tensor in made.to_tensors().items())
    assert [p.name for p in tmp_path.iterdir()] == ["s.safetensors"]


def test_every_kind_of_source_is_read(tmp_path: Path) -> None:
    value = torch.tensor([1.0, 2.5])
    (tmp_path / "a.json").write_text(json.dumps({"act_mean": [1, 2.5], "act_norm": 3}))
    torch.save(value, tmp_path / "b.pt")
    torch.save({"act_mean": value.double()}, tmp_path / "c.pt")
    save_file({"act_mean": value.half()}, tmp_path / "d.safetensors")
    for name in ("a.json", "b.pt", "c.pt", "d.safetensors"):
        read = load_stat("act_mean", str(tmp_path / name))
        assert read.dtype == torch.float32
        assert read.tolist() == [1.0, 2.5]
    assert float(load_stat("act_norm", str(tmp_path / "a.json"))) == 3.0
    assert float(load_stat("act_norm", 2.0)) == float(load_stat("act_norm", "2.0")) == 2.0


def test_the_published_mean_and_norm_are_read() -> None:
    from worlds import SHARED

    path = SHARED / "dinov2_vitb14_reg_in1k_norm.json"
    if not path.is_file():
        pytest.skip(f"needs {path}")
    given = {name: load_stat(name, str(path)) for name in ("act_mean", "act_norm")}
    checked = check_stats(given, 768, 24576)
    assert checked["act_mean"].shape == (768,)
    assert float(checked["act_norm"]) == pytest.approx(2.0181241)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.json", b"{"),
        ("a.json", b'{"act_norm": 1}'),
        ("a.json", b"[1, 2]"),
        ("a.json", b'{"act_mean": [[1], [1, 2]]}'),
        ("a.json", b'{"act_mean": "wide"}'),
        ("a.json", b'{"act_mean": [1, NaN]}'),
        ("a.json", b"\xff\xfe"),
        ("a.safetensors", b"x"),
        ("a.pt", b""),
        ("a.pt", b"PK\x03\x04"),
        ("a.pt", b"\x80\x04K\x01."),
        ("a.npy", b"\x93NUMPY"),
    ],
)
def test_an_unreadable_source_is_refused(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SemsegError, match="The statistic act_mean"):
        load_stat("act_mean", str(tmp_path / name))


def test_a_cut_pt_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save(torch.rand(5000), path)
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(SemsegError, match="The statistic act_mean"):
        load_stat("act_mean", str(path))


def test_a_pickled_object_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pt")
    with pytest.raises(SemsegError, match="The statistic act_mean"):
        load_stat("act_mean", str(tmp_path / "a.pt"))


@pytest.mark.parametrize("source", ["nowhere.pt", "nowhere.json", "nowhere.safetensors", "folder"])
def test_a_missing_source_is_refused(tmp_path: Path, source: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(SemsegError, match="The statistic act_mean cannot be read"):
        load_stat("act_mean", str(tmp_path / source))


@pytest.mark.parametrize("source", ["nan", "inf", float("nan"), float("-inf")])
def test_a_number_that_is_not_finite_is_refused(source: float | str) -> None:
    with pytest.raises(SemsegError, match="NaN or infinite"):
        load_stat("act_norm", source)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"act_mean": torch.zeros(23)}, r"act_mean has shape \(23,\), expected \(24,\)"),
        ({"act_mean": torch.tensor(1.0)}, r"act_mean has shape \(\)"),
        ({"sparsity": torch.zeros(24)}, r"--sparsity against the SAE"),
        ({"top_values": torch.zeros(41)}, r"top_values has shape \(41,\).*--top-values"),
        ({"top_values": torch.zeros(41, 3)}, r"top_values has shape \(41,\)"),
        ({"act_norm": torch.tensor(0.0)}, "above 0"),
        ({"act_norm": torch.tensor(-1.0)}, "above 0"),
        ({"act_norm": torch.ones(2)}, "one number"),
    ],
)
def test_statistics_that_do_not_fit_are_refused(given: dict[str, Tensor], sentence: str) -> None:
    with pytest.raises(SemsegError, match=sentence):
        check_stats(given, 24, 40)


@pytest.mark.parametrize("shape", [(40,), (40, 1), (40, 3), (40, 2, 5)])
def test_top_values_are_reduced_to_their_maximum(shape: tuple[int, ...]) -> None:
    top = torch.rand(shape)
    reduced = check_stats({"top_values": top}, 24, 40)["top_values"]
    assert torch.equal(reduced, torch.stack([row.max() for row in top]))


# --- formats that bring their own normalisation ---------------------------------------------------


def own_norm() -> SparseAutoencoder:
    made = make_sae(seed=3)
    return SparseAutoencoder(
        made.W_enc, made.b_enc, made.W_dec, made.b_dec, token_norm="layer_norm", needs_scaling=False
    )


def test_an_autoencoder_with_its_own_normalisation_is_not_scaled(
    vit: Backbone, loader: Loader, residuals: Tensor
) -> None:
    sae = own_norm()
    stats = compute_stats(Residuals(vit, LAYER, loader), sae)
    assert stats.act_norm == 1.0
    assert not stats.act_mean.any()
    x = residuals.float()
    normed = (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1e-5)
    f = sae.nonlinearity(normed @ sae.W_enc + sae.b_enc)
    torch.testing.assert_close(stats.top_values, f.amax(dim=0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(stats.sparsity, (f > 0).float().mean(dim=0), rtol=0, atol=4e-3)


def test_a_given_scaling_is_kept_where_the_format_has_its_own(
    vit: Backbone, loader: Loader, tmp_path: Path
) -> None:
    given = {"act_norm": torch.tensor(3.0)}
    stats = cached_stats(given, own_norm(), lambda: Residuals(vit, LAYER, loader), tmp_path)
    assert (stats.act_norm, stats.act_mean.abs().sum()) == (3.0, 0.0)
    again = cached_stats({}, own_norm(), lambda: Residuals(vit, LAYER, loader), tmp_path)
    assert again.act_norm == 1.0

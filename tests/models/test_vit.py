"""The split network is the whole network, hooks touch patches only, bad folders get a sentence."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor
from worlds import World, backbone, make_vit

from semseg_cli.data.preprocessing import Preprocessing
from semseg_cli.errors import SemsegError
from semseg_cli.models.vit import ALIASES, FAMILIES, Backbone, load_vit, register_hook


@pytest.fixture(scope="module", params=[0, 4], ids=["plain", "registers"])
def vit(request: pytest.FixtureRequest) -> Backbone:
    return backbone(registers=request.param, seed=1)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def whole(vit: Backbone, images: Tensor) -> Tensor:
    """All tokens of the transformers model's own forward."""
    return vit.model(images).last_hidden_state


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_prefix_and_tail_are_the_whole_model(vit: Backbone, images: Tensor, layer: int) -> None:
    patches = whole(vit, images)[:, vit.n_prefix_tokens :]
    assert patches.std(dim=1).mean() > 0.1  # the patches differ: the comparison says something
    split = vit.tail(vit.prefix(images, layer), layer)
    torch.testing.assert_close(split, patches, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_the_prefix_is_the_models_own_hidden_state(
    vit: Backbone, images: Tensor, layer: int
) -> None:
    with torch.no_grad():
        hidden = vit.model(images, output_hidden_states=True).hidden_states[layer]
    torch.testing.assert_close(vit.prefix(images, layer), hidden, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(96, 96), (64, 160), (256, 224)])
def test_other_image_sizes_work(vit: Backbone, height: int, width: int) -> None:
    images = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(1))
    split = vit.tail(vit.prefix(images, 2), 2)
    assert split.shape[1] == (height // 32) * (width // 32)
    expected = whole(vit, images)[:, vit.n_prefix_tokens :]
    torch.testing.assert_close(split, expected, rtol=1e-5, atol=1e-5)


def test_sizes_are_read_from_the_model(vit: Backbone) -> None:
    n_registers = getattr(vit.model.config, "num_register_tokens", 0)
    assert vit.n_prefix_tokens == 1 + n_registers
    assert (vit.d_model, vit.n_layers, vit.patch_size_px) == (24, 3, 32)
    assert vit.n_patches_per_img == 49


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_a_hook_sees_the_patches_of_block_layer_minus_one_only(
    vit: Backbone, images: Tensor, layer: int
) -> None:
    clean, seen, after = vit.prefix(images, layer), [], []

    def hook(patches: Tensor) -> Tensor:
        seen.append(patches)
        return patches + 1.0

    handle = register_hook(vit, hook, layer, 49)
    spy = vit.blocks[layer - 1].register_forward_hook(lambda _m, _a, out: after.append(out))
    whole(vit, images)
    handle.remove()
    spy.remove()
    n = vit.n_prefix_tokens
    assert len(seen) == 1
    torch.testing.assert_close(seen[0], clean[:, n:], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(after[0][:, n:], clean[:, n:] + 1, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(after[0][:, :n], clean[:, :n], rtol=1e-5, atol=1e-5)


def test_layer_two_hooks_block_index_one(vit: Backbone, images: Tensor) -> None:
    with register_hook(vit, torch.zeros_like, 2, 49):
        assert not bool(vit.prefix(images, 1)[:, vit.n_prefix_tokens :].eq(0).all())
        assert bool(vit.prefix(images, 2)[:, vit.n_prefix_tokens :].eq(0).all())


def test_a_hook_leaves_cls_and_registers_bit_identical(vit: Backbone, images: Tensor) -> None:
    n = vit.n_prefix_tokens
    clean = vit.prefix(images, 2)
    with register_hook(vit, lambda patches: patches * 7, 2, 49):
        hooked = vit.prefix(images, 2)
    assert torch.equal(hooked[:, :n], clean[:, :n])
    assert torch.equal(hooked[:, n:], clean[:, n:] * 7)


def test_a_hook_is_off_after_remove_and_after_an_error(vit: Backbone, images: Tensor) -> None:
    clean = whole(vit, images)
    handle = register_hook(vit, torch.zeros_like, 1, 49)
    assert not torch.equal(whole(vit, images), clean)
    handle.remove()
    handle.remove()  # twice is harmless
    assert torch.equal(whole(vit, images), clean)
    with pytest.raises(RuntimeError, match="oops"), register_hook(vit, torch.zeros_like, 1, 49):
        raise RuntimeError("oops")
    assert torch.equal(whole(vit, images), clean)


@pytest.mark.parametrize("layer", [0, 4, -1])
def test_a_hook_on_a_layer_that_is_not_there_is_refused(vit: Backbone, layer: int) -> None:
    with pytest.raises(ValueError, match="layers 1 to 3"):
        register_hook(vit, torch.zeros_like, layer, 49)


@pytest.mark.parametrize("n_patches", [48, 50, 256])
def test_a_hook_with_the_wrong_number_of_patches_is_refused(
    vit: Backbone, images: Tensor, n_patches: int
) -> None:
    with (
        register_hook(vit, torch.zeros_like, 1, n_patches),
        pytest.raises(ValueError, match="49 patch tokens"),
    ):
        vit.prefix(images, 1)


def test_the_model_is_frozen(vit: Backbone, images: Tensor) -> None:
    assert not vit.model.training
    assert not any(parameter.requires_grad for parameter in vit.parameters())
    assert not vit.prefix(images, 1).requires_grad


# --- loading ------------------------------------------------------------------------------------


def test_a_saved_model_loads_with_equal_weights(tiny_world: World, images: Tensor) -> None:
    vit = load_vit(str(tiny_world.folder / "vit"))
    made = Backbone(make_vit(registers=2, seed=3))
    assert vit.digest == made.digest
    assert torch.equal(vit.prefix(images, 3), made.prefix(images, 3))
    assert vit.preprocessing == Preprocessing()


def test_the_digest_changes_with_the_weights() -> None:
    assert backbone(seed=1).digest != backbone(seed=2).digest


@pytest.fixture
def folder(tiny_world: World, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_world.folder / "vit", tmp_path / "vit"))


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_folders_own_normalisation_is_used(folder: Path) -> None:
    published = {"image_mean": [0.1, 0.2, 0.3], "image_std": [1.0, 2.0, 3.0], "size": 5}
    (folder / "preprocessor_config.json").write_text(json.dumps(published))
    preprocessing = load_vit(str(folder)).preprocessing
    assert (preprocessing.mean, preprocessing.std) == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
    assert preprocessing.crop == (224, 224)


def test_bad_folders_are_refused_in_a_sentence(folder: Path, tmp_path: Path) -> None:
    for missing in (str(tmp_path / "nowhere"), "./nowhere", str(folder / "config.json")):
        with pytest.raises(SemsegError, match="check --vit-ckpt"):
            load_vit(missing)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SemsegError, match=r"has no config\.json"):
        load_vit(str(tmp_path / "empty"))


def test_a_model_of_another_family_is_refused(folder: Path) -> None:
    change_config(folder, model_type="vit")
    with pytest.raises(SemsegError, match="is a 'vit' model, the family dinov2 has"):
        load_vit(str(folder))


def test_a_file_that_lacks_weights_is_refused(folder: Path) -> None:
    change_config(folder, num_hidden_layers=4)
    with pytest.raises(SemsegError, match=r"lacks the weights encoder\.layer\.3"):
        load_vit(str(folder))


def test_a_damaged_file_is_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(SemsegError, match="cannot be loaded"):
        load_vit(str(folder))
    weights.unlink()
    with pytest.raises(SemsegError, match="cannot be loaded"):
        load_vit(str(folder))
    (folder / "config.json").write_text("{")
    with pytest.raises(SemsegError, match=r"config\.json cannot be read \(no JSON"):
        load_vit(str(folder))


def test_the_reference_alias_is_the_hub_id() -> None:
    assert ALIASES["dinov2_vitb14_reg"] == "facebook/dinov2-with-registers-base"
    assert ALIASES["dinov2_vits14"] == "facebook/dinov2-small"


def test_every_family_names_its_model_types() -> None:
    for family in FAMILIES.values():
        assert family.model_types


def test_residuals_are_the_prefix_of_every_layer() -> None:
    vit, images = backbone(registers=2), torch.randn(2, 3, 224, 224)
    for layer, tokens in enumerate(vit.residuals(images), start=1):
        torch.testing.assert_close(tokens, vit.prefix(images, layer), rtol=0, atol=0)
    assert layer == vit.n_layers


@pytest.mark.parametrize("name", ["dinov2_vitb14_regg", "dinov2-vitb14-reg"])
def test_a_mistyped_alias_is_asked_about_and_not_looked_for_on_a_hub(name: str) -> None:
    with pytest.raises(SemsegError, match=r"did you mean dinov2_vitb14_reg\?$"):
        load_vit(name)

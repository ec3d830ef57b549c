"""Every family: the split network is transformers' own, edits touch patches only, folders load."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import huggingface_hub.constants
import pytest
import torch
from families import VARIANTS, make_dinov3, make_siglip, make_whole_clip, make_whole_siglip
from safetensors.torch import load_file, save_file
from torch import Tensor
from whole_models import forward
from whole_models import whole as whole_model
from worlds import World, make_head, make_sae, slow_class_counts

from semseg_cli.data.preprocessing import Preprocessing
from semseg_cli.errors import SemsegError
from semseg_cli.experiment.choose_latents import choose_latents
from semseg_cli.models import sae as saes
from semseg_cli.models.head import load_head
from semseg_cli.models.pipeline import Pipeline
from semseg_cli.models.vit import ALIASES, FAMILIES, Backbone, load_vit, register_hook
from semseg_cli.quantitative import eval_auto_feat, make_dataloader
from semseg_cli.settings.inputs import VitFamily
from semseg_cli.settings.methods import AutoFeat

LAYERS = [0, 1, 2, 3]
IMAGE_SIZES = [(64, 64), (128, 128), (48, 96), (96, 32), (70, 66)]


@pytest.fixture(scope="module", params=VARIANTS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def vit(name: str) -> Backbone:
    family, make, _ = VARIANTS[name]
    return Backbone(make(seed=1), family)


def images(height: int = 64, width: int = 64) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


def whole(vit: Backbone, images_bchw: Tensor) -> Tensor:
    return whole_model(vit.model, images_bchw)


def test_every_family_is_an_option_and_has_a_variant_here() -> None:
    assert set(get_args(VitFamily)) == set(FAMILIES)
    absent = set() if importlib.util.find_spec("timm") else {"timm"}  # an extra
    assert {family for family, _, _ in VARIANTS.values()} == set(FAMILIES) - absent


# --- the split network ----------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), IMAGE_SIZES)
@pytest.mark.parametrize("layer", LAYERS)
def test_prefix_and_tail_are_the_whole_model(
    vit: Backbone, layer: int, height: int, width: int
) -> None:
    pictures = images(height, width)
    patches = whole(vit, pictures)[:, vit.n_prefix_tokens :]
    assert patches.std(dim=1).mean() > 0.05  # the patches differ: the comparison says something
    assert patches.shape[1] == (height // 16) * (width // 16)
    split = vit.tail(vit.prefix(pictures, layer), layer, (height, width))
    torch.testing.assert_close(split, patches, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer", [1, 2])
def test_the_prefix_is_the_models_own_hidden_state(vit: Backbone, layer: int) -> None:
    if hasattr(vit.model, "timm_model"):
        pytest.skip("timm's hidden states are maps")
    hidden = forward(vit.model, images(), output_hidden_states=True).hidden_states[layer]
    torch.testing.assert_close(vit.prefix(images(), layer), hidden, rtol=1e-5, atol=1e-5)


def test_positions_matter(vit: Backbone) -> None:
    """Else a family whose position embeddings are lost would pass the tests above."""
    grey = torch.full((1, 3, 64, 64), 0.5)
    assert vit.tail(vit.prefix(grey, 0), 0).std(dim=1).max() > 1e-3


def test_at_the_models_own_size_no_option_is_needed(vit: Backbone) -> None:
    """`whole` interpolates positions; at this size that is the model's plain forward."""
    plain = forward(vit.model, images(), any_size=False).last_hidden_state
    # MAE's interpolates at its own size, too.
    torch.testing.assert_close(whole(vit, images()), plain, rtol=1e-5, atol=1e-5)


def test_tokens_before_the_patches_and_sizes_are_read_from_the_config(
    name: str, vit: Backbone
) -> None:
    assert vit.n_prefix_tokens == VARIANTS[name][2]
    assert vit.prefix(images(), 1).shape[1] == VARIANTS[name][2] + 16
    assert (vit.d_model, vit.n_layers, vit.patch_size_px) == (24, 3, 16)


def test_rotary_embeddings_of_another_size_are_refused() -> None:
    vit = Backbone(make_dinov3(), "dinov3")
    tokens = vit.prefix(images(48, 96), 1)
    with pytest.raises(ValueError, match="64 x 64 pixels have 16 patches, the tokens 18: give"):
        vit.tail(tokens, 1)
    turned = vit.tail(tokens, 1, (96, 48))
    assert not torch.allclose(turned, vit.tail(tokens, 1, (48, 96)), atol=1e-4)


def test_a_rest_beyond_the_last_whole_patch_changes_nothing(vit: Backbone) -> None:
    """As in SigLIP so400m-patch14-384, where 384 = 27 x 14 + 6."""
    pictures = images(70, 70)
    other = pictures.clone()
    other[:, :, 64:, :] = 9.0
    other[:, :, :, 64:] = -9.0
    assert torch.equal(vit.prefix(pictures, 2), vit.prefix(other, 2))


def test_two_equal_sides_are_one_and_others_are_refused() -> None:
    assert Backbone(make_siglip(patch_size=16), "siglip").patch_size_px == 16
    model = make_dinov3()
    model.config.patch_size = [16, 16]
    assert Backbone(model, "dinov3").patch_size_px == 16
    model.config.patch_size = [16, 8]
    with pytest.raises(ValueError, match=r"\[16, 8\] is no square"):
        Backbone(model, "dinov3")


# --- edits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_a_hook_touches_patches_only(vit: Backbone, layer: int) -> None:
    n = vit.n_prefix_tokens
    clean = vit.prefix(images(), layer)
    with register_hook(vit, lambda patches: patches * 7, layer, 16):
        hooked = vit.prefix(images(), layer)
    assert torch.equal(hooked[:, :n], clean[:, :n])
    assert torch.equal(hooked[:, n:], clean[:, n:] * 7)
    assert torch.equal(vit.prefix(images(), layer), clean)


@pytest.mark.parametrize("layer", [1, 2])
def test_an_empty_edit_changes_nothing_and_a_real_one_all_patches(
    vit: Backbone, layer: int
) -> None:
    clean = whole(vit, images())
    with register_hook(vit, lambda patches: patches + 0.0, layer, 16):
        assert torch.equal(whole(vit, images()), clean)
    with register_hook(vit, lambda patches: patches + torch.linspace(-3, 3, 24), layer, 16):
        moved = (whole(vit, images()) - clean)[:, vit.n_prefix_tokens :].norm(dim=-1)
    assert bool((moved > 1e-3).all())


def test_hooked_and_split_edits_agree(vit: Backbone) -> None:
    push = torch.linspace(-1, 1, 24)
    with register_hook(vit, lambda patches: patches + push, 2, 16):
        hooked = whole(vit, images())[:, vit.n_prefix_tokens :]
    tokens = vit.prefix(images(), 2).clone()
    tokens[:, vit.n_prefix_tokens :] += push
    torch.testing.assert_close(vit.tail(tokens, 2), hooked, rtol=1e-5, atol=1e-5)


def test_half_precision_runs(vit: Backbone, name: str) -> None:
    family, make, _ = VARIANTS[name]
    model: Any = make(seed=1)
    half = Backbone(model.to(torch.bfloat16), family)
    tokens = half.prefix(images(48, 96), 2)
    assert tokens.dtype == torch.bfloat16
    features = half.tail(tokens, 2, (48, 96))
    expected = vit.tail(vit.prefix(images(48, 96), 2), 2, (48, 96))
    assert (features.float() - expected).norm() < 0.1 * expected.norm()


def test_the_digest_knows_what_the_weights_do_not_show(name: str) -> None:
    family, make, _ = VARIANTS[name]
    one, same = (Backbone(make(seed=1), family).digest for _ in range(2))
    other = make(seed=1)
    other.config.layer_norm_eps = 1e-3
    assert one == same
    assert Backbone(other, family).digest != one


def test_the_engine_counts_what_edits_inside_the_whole_model_count(
    name: str, tiny_world: World, tmp_path: Path
) -> None:
    family, make, _ = VARIANTS[name]
    make(seed=4).save_pretrained(tmp_path / "vit")
    changes: dict[str, Any] = {
        "vit_family": family, "vit_ckpt": str(tmp_path / "vit"), "label_threshold": 0.2,
        "lookup_split": "validation", "cache_dir": tmp_path,
    }  # fmt: skip
    cfg = tiny_world.quantitative(scale=-10.0, **changes)
    sae, head = saes.load(str(cfg.sae_ckpt)), load_head(str(cfg.seg_ckpt))
    report = eval_auto_feat(cfg, sae, head, make_dataloader(cfg))
    session = tiny_world.session(**changes)
    (rows,) = choose_latents(session, AutoFeat(max_freq=1.0)).values()
    latents = {row.class_id: row.latent for row in rows if row.chosen}
    slow = slow_class_counts(session.pipeline, session.loader(session.dataset), latents, cfg.scale)
    assert [
        (row.class_id, [row.n_orig_patches, row.n_changed_patches, row.n_other_patches,
                        row.n_other_changed])
        for row in report.class_results
    ] == slow  # fmt: skip
    assert sum(counts[1] + counts[3] for _, counts in slow) > 0


# --- folders --------------------------------------------------------------------------------------


def test_a_saved_model_loads_with_equal_weights(name: str, tmp_path: Path) -> None:
    family, make, _ = VARIANTS[name]
    made = Backbone(make(seed=2), family)
    model: Any = made.model
    model.save_pretrained(tmp_path)
    vit = load_vit(str(tmp_path), family)
    assert vit.digest == made.digest
    assert vit.preprocessing == made.preprocessing == FAMILIES[family].preprocessing(model.config)
    assert torch.equal(vit.prefix(images(), 3), made.prefix(images(), 3))


@pytest.mark.parametrize(
    ("family", "make"), [("clip", make_whole_clip), ("siglip", make_whole_siglip)]
)
def test_of_a_model_that_reads_text_the_vision_half_is_taken(
    family: str, make: Any, tmp_path: Path
) -> None:
    model = make(seed=3)
    model.save_pretrained(tmp_path)
    vit = load_vit(str(tmp_path), family)
    with torch.no_grad():
        expected = model.vision_model(images()).last_hidden_state[:, vit.n_prefix_tokens :]
    torch.testing.assert_close(vit.tail(vit.prefix(images(), 2), 2), expected)
    assert not any("text" in key for key in vit.model.state_dict())


@pytest.mark.parametrize("other", FAMILIES)
def test_a_model_of_another_family_is_refused_with_the_right_one(
    name: str, other: str, tmp_path: Path
) -> None:
    family, make, _ = VARIANTS[name]
    if other == family:
        return
    make().save_pretrained(tmp_path)
    with pytest.raises(SemsegError, match=f"the family {other} has .*: use --vit-family {family}"):
        load_vit(str(tmp_path), other)


def drop_keys(path: Path, *keys: str) -> None:
    kept = {k: v for k, v in json.loads(path.read_text()).items() if k not in keys}
    path.write_text(json.dumps(kept))


def change_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_sizes(path: Path, **changes: int) -> None:
    """Other sizes in a config; timm's go to its own model."""
    args = json.loads(path.read_text()).get("model_args")
    if args is None:
        return change_json(path, **changes)
    theirs = {"num_hidden_layers": "depth", "hidden_size": "embed_dim"}
    return change_json(path, model_args={**args, **{theirs[k]: v for k, v in changes.items()}})


def test_a_file_that_lacks_weights_is_refused(name: str, tmp_path: Path) -> None:
    family, make, _ = VARIANTS[name]
    make().save_pretrained(tmp_path)
    change_sizes(tmp_path / "config.json", num_hidden_layers=4)
    with pytest.raises(
        SemsegError, match=r"lacks the weights .*(layers?|blocks)\.3\..*config\.json"
    ):
        load_vit(str(tmp_path), family)


def test_a_config_that_does_not_fit_the_weights_is_refused(name: str, tmp_path: Path) -> None:
    family, make, _ = VARIANTS[name]
    make().save_pretrained(tmp_path)
    change_sizes(tmp_path / "config.json", hidden_size=48)
    with pytest.raises(SemsegError, match=r"of shape .*24.*config\.json asks for .*48"):
        load_vit(str(tmp_path), family)


def test_weights_that_a_config_leaves_out_are_refused(name: str, tmp_path: Path) -> None:
    """A block fewer gives other numbers from the same file, without an error of transformers."""
    family, make, _ = VARIANTS[name]
    make().save_pretrained(tmp_path)
    n_layers = json.loads((tmp_path / "config.json").read_text())["num_hidden_layers"]
    change_json(tmp_path / "config.json", num_hidden_layers=n_layers - 1)
    drop_keys(tmp_path / "config.json", "stage_names", "out_features", "out_indices", "layer_types")
    with pytest.raises(SemsegError, match=r"has the weights .*layers?\..*change the result"):
        load_vit(str(tmp_path), family)


def test_register_tokens_that_a_config_does_not_know_are_refused(tmp_path: Path) -> None:
    _, make, _ = VARIANTS["dinov2-registers"]
    make().save_pretrained(tmp_path)
    change_json(tmp_path / "config.json", model_type="dinov2", architectures=["Dinov2Model"])
    with pytest.raises(SemsegError, match=r"has the weights embeddings\.register_tokens, which"):
        load_vit(str(tmp_path), "dinov2")


def test_parts_that_play_no_role_are_named(tmp_path: Path) -> None:
    family, make, _ = VARIANTS["dinov2"]
    make().save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors") | {"classifier.weight": torch.ones(2, 2)}
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert load_vit(str(tmp_path), family).unused == ("classifier.weight",)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_hidden_layers", 10**9), ("num_hidden_layers", -1), ("num_hidden_layers", "4"),
        ("hidden_size", 10**9), ("num_register_tokens", 10**10), ("num_attention_heads", 0),
        ("num_attention_heads", 5), ("hidden_dropout_prob", float("nan")), ("patch_size", [14, 0]),
        ("layer_norm_eps", float("inf")), ("image_size", True),
    ],
)  # fmt: skip
def test_a_config_of_no_model_is_refused_before_one_is_built(
    key: str, value: object, tmp_path: Path
) -> None:
    family, make, _ = VARIANTS["dinov2"]
    make().save_pretrained(tmp_path)
    change_json(tmp_path / "config.json", **{key: value})
    with pytest.raises(SemsegError, match=r"config\.json has "):
        load_vit(str(tmp_path), family)


def test_a_folder_with_an_adapter_is_refused(tmp_path: Path) -> None:
    family, make, _ = VARIANTS["dinov2"]
    make().save_pretrained(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(SemsegError, match=r"holds an adapter .*merge it"):
        load_vit(str(tmp_path), family)


def test_weights_that_are_no_numbers_are_named_with_their_place(tmp_path: Path) -> None:
    family, make, _ = VARIANTS["dinov2"]
    make().save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state["layernorm.weight"][3] = float("nan")
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SemsegError, match=r"in layernorm\.weight \(1 of 24, the first at \[3\]"):
        load_vit(str(tmp_path), family)


def test_an_overflow_is_told_with_its_layer_and_precision() -> None:
    vit = Backbone(VARIANTS["dinov2"][1](), "dinov2")
    block: Any = vit.blocks[1]
    with torch.no_grad():
        block.mlp.fc2.bias.fill_(float("inf"))
    vit.prefix(images(), 1)
    with pytest.raises(SemsegError, match="NaN or infinite numbers after layer 2 in float32"):
        vit.prefix(images(), 2)


def test_plain_tensors_in_a_torch_file_load_and_anything_else_in_it_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older repositories have pytorch_model.bin only; it is read with weights_only=True."""
    monkeypatch.setenv("DISABLE_SAFETENSORS_CONVERSION", "1")
    family, make, _ = VARIANTS[name]
    model = make()
    model.save_pretrained(tmp_path)
    whole = load_vit(str(tmp_path), family)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    assert load_vit(str(tmp_path), family).digest == whole.digest
    torch.save({**model.state_dict(), "more": Unpickled()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(SemsegError, match="cannot be loaded") as caught:
        load_vit(str(tmp_path), family)
    assert "hold more than tensors, which is not run" in str(caught.value)
    assert "weights_only" not in str(caught.value)  # torch's advice to trust the file
    assert not Unpickled.was_made
    (tmp_path / "model.safetensors").write_bytes(bytes(range(200)) * 9)
    with pytest.raises(SemsegError, match="its weights are cut, or no safetensors file"):
        load_vit(str(tmp_path), family)


class Unpickled:
    """An object that says when it is made from a file."""

    was_made = False

    def __setstate__(self, state: object) -> None:
        Unpickled.was_made = True

    def __getstate__(self) -> dict[str, int]:
        return {"x": 1}


def test_an_alias_of_another_family_is_refused_before_anything_loads() -> None:
    for alias in ALIASES:
        owner = next(name for name, family in FAMILIES.items() if alias in family.aliases)
        other = next(name for name in FAMILIES if name != owner)
        with pytest.raises(SemsegError, match=f"is of the family {owner}, not {other}"):
            load_vit(alias, other)


def test_aliases_are_hub_ids() -> None:
    assert ALIASES["dinov3_vitb16"] == "facebook/dinov3-vitb16-pretrain-lvd1689m"
    assert ALIASES["ViT-B/16"] == "openai/clip-vit-base-patch16"
    assert len(ALIASES) == sum(len(family.aliases) for family in FAMILIES.values())


def test_a_hub_id_loads_from_the_cache_offline_with_its_own_preprocessing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "models--someone--clip-tiny"
    snapshot = repository / "snapshots" / ("0" * 40)
    model = make_whole_clip(seed=3)
    model.save_pretrained(snapshot)
    (snapshot / "preprocessor_config.json").write_text(json.dumps(CLIP_FILE))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    # What the hub's client makes of its variables when it loads.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    vit = load_vit("someone/clip-tiny", "clip")
    assert vit.digest == Backbone(model.vision_model, "clip").digest
    assert vit.preprocessing.mean[0] == 0.1
    with pytest.raises(SemsegError, match=r"ViT someone/else cannot be loaded \(.*give an alias"):
        load_vit("someone/else", "clip")


# --- other image sizes ----------------------------------------------------------------------------


def test_another_image_size_is_taken_and_the_whole_chain_runs(name: str, tmp_path: Path) -> None:
    family, make, _ = VARIANTS[name]
    make(seed=2).save_pretrained(tmp_path)
    vit = load_vit(str(tmp_path), family, image_size=(48, 96))
    assert vit.preprocessing.crop == (48, 96)
    assert vit.n_patches_per_img == 18
    pipeline = Pipeline(vit=vit, layer=2, sae=make_sae(), head=make_head())
    predicted = pipeline.predict(pipeline.residual(images(48, 96))).classes_bt
    assert predicted.shape == (2, 18)
    expected = pipeline.class_head(whole(vit, images(48, 96))[:, vit.n_prefix_tokens :])
    assert torch.equal(predicted, expected[..., 1:].argmax(dim=-1) + 1)


def test_an_image_size_without_whole_patches_is_refused(tmp_path: Path) -> None:
    make_siglip().save_pretrained(tmp_path)
    with pytest.raises(SemsegError, match=r"70x64 .* 16 pixels: try --image-size 64x64"):
        load_vit(str(tmp_path), "siglip", image_size=(70, 64))


def test_the_checkpoints_own_size_needs_no_whole_patches(tmp_path: Path) -> None:
    make_siglip(image_size=70).save_pretrained(tmp_path)
    vit = load_vit(str(tmp_path), "siglip", image_size=(70, 70))
    assert (vit.preprocessing.crop, vit.n_patches_per_img) == ((70, 70), 16)
    model: Any = vit.model
    plain = model(images(70, 70)).last_hidden_state
    torch.testing.assert_close(vit.tail(vit.prefix(images(70, 70), 1), 1), plain)


# --- the checkpoint's own preprocessing -----------------------------------------------------------

CLIP_FILE = {
    "crop_size": 56, "do_center_crop": True, "do_normalize": True, "do_resize": True,
    "image_mean": [0.1, 0.2, 0.3], "image_std": [1.0, 2.0, 3.0], "resample": 2, "size": 64,
}  # fmt: skip


def test_a_preprocessor_file_beside_the_weights_counts(name: str, tmp_path: Path) -> None:
    family, make, _ = VARIANTS[name]
    make().save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(CLIP_FILE))
    found = load_vit(str(tmp_path), family).preprocessing
    assert (found.mean, found.std) == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
    if family == "dinov2":  # its geometry is fixed
        assert found == replace(Preprocessing(), mean=found.mean, std=found.std)
    else:
        assert (found.resize, found.crop) == ((64, 64), (56, 56))
        keeps_aspect = FAMILIES[family].preprocessing(make().config).keeps_aspect
        assert found.keeps_aspect == keeps_aspect  # what a bare number means


def test_a_processor_file_counts_where_it_describes_images(tmp_path: Path) -> None:
    make_siglip().save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(CLIP_FILE))
    (tmp_path / "processor_config.json").write_text('{"processor_class": "SiglipProcessor"}')
    assert load_vit(str(tmp_path), "siglip").preprocessing.mean == (0.1, 0.2, 0.3)
    nested = {"image_processor": {**CLIP_FILE, "image_mean": [0.4, 0.4, 0.4]}}
    (tmp_path / "processor_config.json").write_text(json.dumps(nested))
    assert load_vit(str(tmp_path), "siglip").preprocessing.mean == (0.4, 0.4, 0.4)


@pytest.mark.parametrize(
    "text",
    [
        "{", "[1]", '{"size": {"longest_edge": 3}}', '{"size": "big"}', '{"resample": 17}',
        '{"do_resize": false}', '{"crop_size": 99, "do_center_crop": true}',
        '{"image_mean": [1, 2]}', '{"image_std": 0}', '{"rescale_factor": 0}',
        '{"image_mean": ["a", "b", "c"]}',
    ],
)  # fmt: skip
def test_a_preprocessor_file_that_cannot_be_followed_is_refused(text: str, tmp_path: Path) -> None:
    make_siglip().save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(SemsegError, match=r"preprocessor_config\.json cannot be (used|read) \("):
        load_vit(str(tmp_path), "siglip")

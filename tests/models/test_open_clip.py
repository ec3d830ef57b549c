"""open_clip's files as transformers' model; and models that are refused by name."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from families import make_clip
from safetensors.torch import save_file
from torch import Tensor

from semseg_cli.errors import SemsegError
from semseg_cli.models.vit import Backbone, load_vit

VISION = {"layers": 3, "width": 24, "head_width": 8, "mlp_ratio": 2.0, "patch_size": 16}
IMAGES = {"mean": [0.1, 0.2, 0.3], "std": [1, 2, 3], "interpolation": "bilinear"}


def theirs(model: Any) -> dict[str, Tensor]:
    """transformers' weights as open_clip stores them, written out name by name."""
    inner = getattr(model, "vision_model", model)
    own = {
        "class_embedding": inner.embeddings.class_embedding,
        "positional_embedding": inner.embeddings.position_embedding.weight,
        "conv1.weight": inner.embeddings.patch_embedding.weight,
        "proj": torch.zeros(24, 8),
    }
    for name, norm in (("ln_pre", inner.pre_layrnorm), ("ln_post", inner.post_layernorm)):
        own |= {f"{name}.weight": norm.weight, f"{name}.bias": norm.bias}
    for number, layer in enumerate(inner.encoder.layers):
        attn, block = layer.self_attn, f"transformer.resblocks.{number}"
        fused = [attn.q_proj, attn.k_proj, attn.v_proj]
        own[f"{block}.attn.in_proj_weight"] = torch.cat([one.weight for one in fused])
        own[f"{block}.attn.in_proj_bias"] = torch.cat([one.bias for one in fused])
        for name, part in {
            "attn.out_proj": attn.out_proj, "ln_1": layer.layer_norm1, "ln_2": layer.layer_norm2,
            "mlp.c_fc": layer.mlp.fc1, "mlp.c_proj": layer.mlp.fc2,
        }.items():  # fmt: skip
            own |= {f"{block}.{name}.weight": part.weight, f"{block}.{name}.bias": part.bias}
    visual = {f"visual.{name}": value.detach().clone() for name, value in own.items()}
    return {
        **visual,
        "logit_scale": torch.zeros(()),
        "transformer.resblocks.0.ln_1.bias": own["proj"],
    }


def write(folder: Path, model: Any, suffix: str = "safetensors", **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    vision = {**VISION, "image_size": 64, **changes.pop("vision", {})}
    images = {**IMAGES, **changes.pop("images", {})}
    whole = {"model_cfg": {"vision_cfg": vision, **changes}, "preprocess_cfg": images}
    (folder / "open_clip_config.json").write_text(json.dumps(whole))
    if suffix == "bin":
        torch.save(theirs(model), folder / "open_clip_pytorch_model.bin")
    else:
        save_file(theirs(model), folder / "open_clip_model.safetensors")
    return folder


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_the_network_is_the_same(tmp_path: Path, suffix: str, quick: bool) -> None:
    model = make_clip(seed=1, hidden_act="quick_gelu" if quick else "gelu")
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    vit = load_vit(str(write(tmp_path, model, suffix, quick_gelu=quick)), "clip")
    config: Any = vit.model.config
    assert config.hidden_act == ("quick_gelu" if quick else "gelu")
    expected = Backbone(model, "clip")
    for layer in (0, 1, 3):
        assert torch.equal(vit.prefix(images, layer), expected.prefix(images, layer))
    assert (vit.preprocessing.mean, vit.preprocessing.crop) == ((0.1, 0.2, 0.3), (64, 64))


def test_images_are_stretched_where_the_config_says_so(tmp_path: Path) -> None:
    for mode, keeps_aspect in {"squash": False, "shortest": True}.items():
        folder = write(tmp_path, make_clip(), images={"resize_mode": mode})
        assert load_vit(str(folder), "clip").preprocessing.keeps_aspect == keeps_aspect
    folder = write(tmp_path, make_clip(), images={"resize_mode": "longest"})
    with pytest.raises(
        SemsegError, match=r"cannot be used .*'longest': expected shortest or squash"
    ):
        load_vit(str(folder), "clip")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"timm_model_name": "vit_base"}, "no plain vision transformer .timm_model_name"),
        ({"ls_init_value": 1.0}, "no plain vision transformer .ls_init_value"),
        ({"no_ln_pre": True}, "no plain vision transformer .no_ln_pre"),
        ({"pos_embed_type": "sin_cos_2d"}, "no plain vision transformer .layers or pos_embed"),
        ({"layers": [1, 2, 3, 4]}, "no plain vision transformer .layers"),
        ({"layers": 4}, r"lacks the weights .*encoder\.layers\.3\."),
        ({"width": 48}, "has other sizes than its open_clip_config.json says"),
    ],
)
def test_what_is_no_plain_transformer_or_does_not_fit_is_refused(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    folder = write(tmp_path, make_clip(), vision=change)
    with pytest.raises(SemsegError, match=words):
        load_vit(str(folder), "clip")


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (write(tmp_path, make_clip()) / "open_clip_model.safetensors").unlink()
    with pytest.raises(SemsegError, match=r"has open_clip_config\.json and none of"):
        load_vit(str(tmp_path), "clip")


# --- refused by name ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "sam"}, "is a SAM model: its tokens are no one list"),
        ({"model_type": "sam2_vision_model"}, "is a SAM model"),
        ({"model_type": "radio"}, "is a RADIO model: it has several summary tokens"),
        ({"architectures": ["RADIOModel"], "auto_map": {"AutoModel": "m.M"}}, "is a RADIO model"),
        ({"model_type": "odd", "auto_map": {"AutoModel": "m.M"}}, "code of its own repository"),
    ],
)
def test_models_of_other_kinds_get_a_sentence(
    tmp_path: Path, config: dict[str, Any], words: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(SemsegError, match=words):
        load_vit(str(tmp_path), "vit")


@pytest.mark.skipif(importlib.util.find_spec("timm") is not None, reason="timm is installed")
def test_without_timm_its_models_get_a_sentence(tmp_path: Path) -> None:
    config = {"architecture": "vit_tiny_patch16_224", "pretrained_cfg": {"mean": [0.5] * 3}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(SemsegError, match=r"needs the package timm: pip install 'semseg-cli\[timm"):
        load_vit(str(tmp_path), "timm")


# --- what publishers evaluate with ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "mean", "expected"),
    [
        ("vit", [0.5, 0.5, 0.5], ((64, 64), (64, 64), False)),
        ("vit", [0.485, 0.456, 0.406], ((73, 73), (64, 64), True)),
        ("deit", [0.485, 0.456, 0.406], ((73, 73), (64, 64), True)),
        ("vit_mae", [0.485, 0.456, 0.406], ((73, 73), (64, 64), True)),
        ("beit", [0.5, 0.5, 0.5], ((73, 73), (64, 64), True)),
    ],
)
def test_hub_files_that_name_a_size_only_mean_their_publishers_geometry(
    tmp_path: Path, family: str, mean: list[float], expected: Any
) -> None:
    from families import VARIANTS

    VARIANTS[family][1]().save_pretrained(tmp_path)
    file = {"size": 64, "image_mean": mean, "image_std": [0.5] * 3, "do_resize": True}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(file))
    found = load_vit(str(tmp_path), family).preprocessing
    assert (found.resize, found.crop, found.keeps_aspect) == expected
    assert list(found.mean) == mean

"""Preprocessing: transformers' own image processors are the judge, masks follow the images."""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from families import make_clip, make_dinov3, make_siglip
from PIL import Image
from torch import Tensor

from semseg_cli.data.patch_labels import patch_pixels
from semseg_cli.data.preprocessing import (
    Preprocessing,
    fitted,
    from_published,
    image_tensor,
    label_tensor,
)
from semseg_cli.errors import SemsegError
from semseg_cli.models.vit import FAMILIES

SHAPES = [(90, 131), (131, 90), (100, 100), (37, 300), (70, 71)]  # height, width


def picture(height: int, width: int) -> Image.Image:
    """Coarse noise under fine noise: both sampling and aliasing show."""
    draw = np.random.default_rng(height * 1000 + width)
    coarse = draw.integers(0, 256, (6, 9, 3), dtype=np.uint8)
    big = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    noisy = big + draw.normal(0, 20, big.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def clip_processor(**changes: Any) -> Any:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    return CLIPImageProcessorPil(**changes)


def siglip_processor(**changes: Any) -> Any:
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    return SiglipImageProcessorPil(**changes)


def bit_processor(**changes: Any) -> Any:
    """What the hub's DINOv2 folders name."""
    from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

    return BitImageProcessorPil(**changes)


def as_published(processor: Any) -> dict[str, Any]:
    """What `preprocessor_config.json` holds for a processor."""
    return json.loads(processor.to_json_string())


def judged(processor: Any, image: Image.Image) -> Tensor:
    return torch.as_tensor(np.asarray(processor(images=image)["pixel_values"][0]))


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_clips_published_preprocessing_is_its_processors(height: int, width: int) -> None:
    """Exactly the same pixels; 1e-6 is for the order of two divisions."""
    image = picture(height, width)
    ours = FAMILIES["clip"].preprocessing(make_clip(image_size=224).config)
    expected = judged(clip_processor(), image)
    torch.testing.assert_close(image_tensor(image, ours), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_siglips_published_preprocessing_is_its_processors(height: int, width: int) -> None:
    image = picture(height, width)
    ours = FAMILIES["siglip"].preprocessing(make_siglip(image_size=224).config)
    expected = judged(siglip_processor(), image)
    torch.testing.assert_close(image_tensor(image, ours), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_dinov3s_published_preprocessing_is_a_stretch_with_antialiasing(
    height: int, width: int
) -> None:
    """Its processor resizes floats (torchvision); ours resizes bytes and rounds: half a level."""
    image = picture(height, width)
    ours = FAMILIES["dinov3"].preprocessing(make_dinov3(image_size=224).config)
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float() / 255
    small = torch.nn.functional.interpolate(
        pixels, size=(224, 224), mode="bilinear", antialias=True, align_corners=False
    )[0]
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    tolerance = 1.5 / 255 / 0.224  # PIL rounds after each of its two passes
    torch.testing.assert_close(
        image_tensor(image, ours), (small - mean) / std, rtol=0, atol=tolerance
    )


PROCESSORS = {"clip": clip_processor, "siglip": siglip_processor}
MODELS = {"clip": make_clip, "dinov3": make_dinov3, "siglip": make_siglip}
PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    "another size": ("clip", {"size": {"shortest_edge": 50}, "crop_size": 44}),
    "wide crop": (
        "clip", {"size": {"shortest_edge": 64}, "crop_size": {"height": 32, "width": 60}},
    ),
    "stretched": ("clip", {"size": {"height": 60, "width": 70}, "crop_size": 48}),
    "bilinear": ("clip", {"resample": 2, "size": 40, "crop_size": 40}),
    "lanczos": ("clip", {"resample": 1, "size": 40, "crop_size": 33}),
    "other mean": ("clip", {"image_mean": [0.1, 0.2, 0.3], "size": 40, "crop_size": 32}),
    "not normalised": ("clip", {"do_normalize": False, "size": 40, "crop_size": 32}),
    "not scaled": ("clip", {"do_rescale": False, "size": 40, "crop_size": 32}),
    "siglip 384": ("siglip", {"size": {"height": 384, "width": 384}}),
    "siglip 2": ("siglip", {"resample": 2}),
    "wide": ("siglip", {"size": {"height": 32, "width": 64}}),
    "cropped": ("siglip", {"do_center_crop": True, "crop_size": 100}),
    "other scale": ("siglip", {"rescale_factor": 1 / 127.5}),
}  # fmt: skip


@pytest.mark.parametrize(("family", "changes"), PUBLISHED.values(), ids=PUBLISHED.keys())
@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_a_checkpoints_file_gives_what_its_processor_does(
    family: str, changes: dict[str, Any], height: int, width: int
) -> None:
    image, processor = picture(height, width), PROCESSORS[family](**changes)
    default = FAMILIES[family].preprocessing(MODELS[family]().config)
    ours = from_published(as_published(processor), default, only_normalisation=False)
    expected = judged(processor, image).float()
    torch.testing.assert_close(image_tensor(image, ours), expected, rtol=1e-6, atol=1e-6)


def test_of_dinov2s_file_only_the_normalisation_counts() -> None:
    published = as_published(bit_processor(image_mean=[0.1, 0.2, 0.3], size=99, crop_size=98))
    made = from_published(published, Preprocessing(), only_normalisation=True)
    assert made == Preprocessing(mean=(0.1, 0.2, 0.3), std=made.std)


def test_an_old_file_that_says_little_leaves_the_rest_to_the_family() -> None:
    default = FAMILIES["clip"].preprocessing(make_clip().config)
    assert from_published({}, default, only_normalisation=False) == default
    cropped = from_published({"size": 80, "crop_size": 64}, default, only_normalisation=False)
    assert (cropped.resize, cropped.crop, cropped.keeps_aspect) == ((80, 80), (64, 64), True)


def test_the_shorter_side_without_a_crop_is_cropped_square() -> None:
    default = FAMILIES["siglip"].preprocessing(make_siglip().config)
    made = from_published({"size": {"shortest_edge": 48}}, default, only_normalisation=False)
    assert image_tensor(picture(90, 131), made).shape == (3, 48, 48)


# --- masks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("height", "width"), [(90, 131), (131, 90), (64, 64)])
def test_masks_get_the_geometry_of_their_images(family: str, height: int, width: int) -> None:
    """Two halves in two colours: an image pixel's colour and its label agree off the border."""
    cfg = {"input_size": [3, 64, 64], "crop_pct": 0.9, "mean": [0.5] * 3, "std": [0.5] * 3}
    config = SimpleNamespace(image_size=64, pretrained_cfg=cfg)  # all that any family reads
    preprocessing = FAMILIES[family].preprocessing(config).sized((48, 64))
    for cut in (np.s_[:, : width // 3], np.s_[: 2 * height // 3, :]):
        mask = np.ones((height, width), dtype=np.uint8)
        mask[cut] = 2
        image = Image.fromarray((mask[..., None] == 2) * np.full(3, 255, np.uint8))
        labels = label_tensor(Image.fromarray(mask), preprocessing)
        values = image_tensor(image, preprocessing)[0]
        assert labels.shape == values.shape == (48, 64)
        assert set(labels.unique().tolist()) == {1, 2}
        is_bright = values > (values.max() + values.min()) / 2
        assert (is_bright != (labels == 2)).float().mean() < 0.03


def test_patches_of_a_size_with_a_rest_leave_it_out() -> None:
    labels = torch.arange(35, dtype=torch.uint8).reshape(5, 7)
    assert patch_pixels(labels, 3).tolist() == [
        [0, 1, 2, 7, 8, 9, 14, 15, 16], [3, 4, 5, 10, 11, 12, 17, 18, 19],
    ]  # fmt: skip


# --- sizes ----------------------------------------------------------------------------------------


def test_another_size_keeps_the_share_of_the_crop() -> None:
    made = Preprocessing().sized((448, 224))
    assert (made.resize, made.crop) == ((512, 256), (448, 224))
    assert Preprocessing().sized((224, 224)) == Preprocessing()


def test_no_size_or_the_same_size_changes_nothing() -> None:
    for size in (None, (224, 224)):
        assert fitted(Preprocessing(), size, 14) == Preprocessing()


@pytest.mark.parametrize(
    ("size", "hint"), [((225, 224), "224x224"), ((5, 448), "14x448"), ((500, 333), "504x336")]
)
def test_a_size_without_whole_patches_is_refused_with_a_near_one(
    size: tuple[int, int], hint: str
) -> None:
    with pytest.raises(SemsegError, match=f"14 pixels: try --image-size {hint}"):
        fitted(Preprocessing(), size, 14)

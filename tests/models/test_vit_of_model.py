"""A transformers model in memory: its family, preprocessing, the vision part of a larger one."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from worlds import make_vit

from semseg_cli.errors import SemsegError
from semseg_cli.models.vit import Backbone, load_vit
from semseg_cli.models.vit.of_model import as_it_was, backbone_of

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 16}


def classifier() -> Any:
    from transformers import Dinov2Config, Dinov2ForImageClassification

    return Dinov2ForImageClassification(Dinov2Config(**SMALL, image_size=224, mlp_ratio=2))


def clip() -> Any:
    from transformers import CLIPConfig, CLIPModel

    config = CLIPConfig(
        vision_config={**SMALL, "image_size": 32, "intermediate_size": 16},
        text_config={
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "vocab_size": 8,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
    )
    return CLIPModel(config)


@pytest.mark.parametrize(
    ("make", "part", "family"),
    [(classifier, "dinov2", "dinov2"), (clip, "vision_model", "clip")],
)
def test_the_vision_part_of_a_larger_model_is_used(make: Any, part: str, family: str) -> None:
    model = make()
    found = backbone_of(model)
    alone = Backbone(getattr(model, part), family)
    assert found.model is getattr(model, part)
    assert found.preprocessing == alone.preprocessing
    images = torch.randn(2, 3, *found.preprocessing.crop)
    assert torch.equal(found.prefix(images, 1), alone.prefix(images, 1))


def test_a_model_from_a_folder_sees_what_its_file_says(tmp_path: Path) -> None:
    from transformers import AutoModel

    make_vit().save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.1, 0.2, 0.3]}')
    model = AutoModel.from_pretrained(tmp_path, dtype=torch.float32)
    found, file = backbone_of(model), load_vit(str(tmp_path))
    assert found.preprocessing == file.preprocessing
    assert found.preprocessing.mean == (0.1, 0.2, 0.3)
    assert found.digest == file.digest
    assert backbone_of(model, image_size=(64, 96)).grid == (2, 3)


def test_a_model_whose_folder_is_gone_sees_the_usual(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = make_vit()
    model.config._name_or_path = str(tmp_path / "gone")
    with caplog.at_level(logging.WARNING, "semseg_cli"):
        assert backbone_of(model).preprocessing == Backbone(model).preprocessing
    assert "give its image processor as processor=" in caplog.text


class Processor:
    """As transformers' image processors: what it does, as a dictionary."""

    def __init__(self, **values: Any) -> None:
        self.values = values

    def to_dict(self) -> dict[str, Any]:
        return self.values


def test_an_image_processor_says_what_a_model_sees() -> None:
    found = backbone_of(clip(), Processor(size=40, crop_size=32, image_std=[0.5, 0.5, 0.5]))
    assert found.preprocessing.std == (0.5, 0.5, 0.5)
    assert found.preprocessing.resize == (40, 40)
    with pytest.raises(SemsegError, match="The image processor Processor cannot be used"):
        backbone_of(clip(), Processor(do_resize=False))


def test_no_model_of_a_known_family_is_told() -> None:
    with pytest.raises(SemsegError, match="The ViT in memory is a 'Linear' model"):
        backbone_of(torch.nn.Linear(2, 2))


def test_a_model_is_as_it_was_also_after_an_error() -> None:
    model = make_vit().train()
    frozen = next(model.parameters()).requires_grad_(False)

    def fail() -> None:
        with as_it_was(model):
            backbone_of(model)
            assert not model.training
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert all(part.training for part in model.modules())
    assert [p.requires_grad for p in model.parameters()].count(False) == 1
    assert not frozen.requires_grad

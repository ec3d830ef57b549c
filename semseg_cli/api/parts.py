"""The objects that a user holds, and the names that settings give them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from semseg_cli.api.tables import text_of
from semseg_cli.data.held import Data
from semseg_cli.errors import UsageError
from semseg_cli.experiment.given import Given
from semseg_cli.models.head import SegmentationHead, head_of
from semseg_cli.models.vit.of_model import as_it_was, backbone_of
from semseg_cli.settings.base import to_size

NAMES = {"vit": "vit_ckpt", "sae": "sae_ckpt", "head": "seg_ckpt", "data": "imgs_root"}


@dataclass(frozen=True)
class Parts:
    """Paths and objects, as `run` takes them; None is left to the settings."""

    vit: str | Path | nn.Module | None = None
    sae: str | Path | nn.Module | None = None
    head: str | Path | nn.Module | None = None
    data: str | Path | Data | None = None
    processor: Any = None
    has_null: bool = True

    @property
    def options(self) -> dict[str, str]:
        """The options that name these parts; what is in memory by its class."""
        parts = {name: getattr(self, name) for name in NAMES}
        return {
            NAMES[name]: str(part) if isinstance(part, str | Path) else text_of(part)
            for name, part in parts.items()
            if part is not None
        }


def merged(parts: Parts, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with those of the parts.

    Raises:
        UsageError: a part is named twice, or is no path and no such object.
    """
    kinds = {"vit": nn.Module, "sae": nn.Module, "head": nn.Module, "data": Data}
    for name, kind in kinds.items():
        part = getattr(parts, name)
        if part is not None and not isinstance(part, str | Path | kind):
            said = "Data(class_names, training=..., validation=...)"
            wanted = said if kind is Data else "an nn.Module"
            raise UsageError(f"{name} is a {type(part).__name__}: give a path or {wanted}")
    if twice := sorted(parts.options.keys() & options.keys()):
        name = next(name for name, key in NAMES.items() if key == twice[0])
        raise UsageError(f"{twice[0]} and {name} are both given: they are the same, take one")
    if isinstance(parts.vit, nn.Module):
        options = {**options, **_of_model(parts.vit, options)}
    if isinstance(parts.data, Data):
        _check_data(parts.data, options)
    return {**options, **parts.options}


def _of_model(vit: nn.Module, options: Mapping[str, Any]) -> dict[str, str]:
    """A model in memory is used in its own precision, and where it is."""
    first = next(vit.parameters(), None)
    if first is None:
        raise UsageError(f"The ViT {type(vit).__name__} has no parameters: give a model")
    own = {"device": first.device.type, "dtype": str(first.dtype).removeprefix("torch.")}
    for name, value in own.items():
        if options.get(name) not in (None, "auto", value):
            raise UsageError(
                f"{name} is {options[name]!r}, and the ViT in memory has {value}: move it by "
                f"vit.to(...), or leave {name} out"
            )
    return own


def _check_data(data: Data, options: Mapping[str, Any]) -> None:
    for name in ("background", "skip_bad", "data_format"):
        if options.get(name) not in (None, False, "auto"):
            raise UsageError(f"{name} is about files: Data(first_class=..., ignored=...) says it")


@contextmanager
def given(parts: Parts, image_size: int | str | None) -> Iterator[Given]:
    """Runs a block with what is in memory; the ViT is afterwards as it was."""
    head = _head(parts)
    sae = parts.sae if isinstance(parts.sae, nn.Module) else None
    data = parts.data if isinstance(parts.data, Data) else None
    if not isinstance(parts.vit, nn.Module):
        if parts.processor is not None:
            raise UsageError("processor is given: it goes with a vit in memory, leave it out")
        yield Given(None, sae, head, data)
        return
    with as_it_was(parts.vit):
        size = to_size("image_size", image_size)
        yield Given(backbone_of(parts.vit, parts.processor, size), sae, head, data)


def _head(parts: Parts) -> SegmentationHead | None:
    if not isinstance(parts.head, nn.Module):
        if not parts.has_null:
            raise UsageError("has_null is about a head in memory: files have output 0 for null")
        return None
    if isinstance(parts.head, SegmentationHead) and parts.head.digest:
        return parts.head  # as a file has it
    head = head_of(parts.head, has_null=parts.has_null)
    n_classes = len(parts.data.labels.class_names) if isinstance(parts.data, Data) else None
    if parts.has_null and head.out_features == n_classes:
        raise UsageError(
            f"The head has {n_classes} outputs for {n_classes} classes: give has_null=False where "
            "output 0 is the first class, not null"
        )
    return head

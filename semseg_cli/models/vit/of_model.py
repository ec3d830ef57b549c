"""A transformers model that a user has loaded already, as a backbone."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from semseg_cli.data.preprocessing import Preprocessing, Size, fitted
from semseg_cli.errors import SemsegError
from semseg_cli.models.vit.backbone import Backbone
from semseg_cli.models.vit.families import FAMILIES, Family
from semseg_cli.models.vit.geometry import to_side
from semseg_cli.models.vit.processor import followed, preprocessing_of

log = logging.getLogger("semseg_cli")
INSIDE = ("vision_model", "base_model")  # where a larger model may keep its vision part


def backbone_of(
    model: nn.Module, processor: Any = None, image_size: Size | None = None
) -> Backbone:
    """The model itself, in its precision and where it is, split as the commands do it.

    Args:
        model: a transformers model of a known family, or one that has such a model in it.
        processor: its image processor; else the one beside the weights that it was loaded from,
            else the family's usual preprocessing.
        image_size: height and width that it is to see, instead of its own.

    Raises:
        SemsegError: it is of no known family, has forward hooks, or its preprocessing cannot be
            used.
    """
    vision, family = _known(model)
    if hooked := _hooked(vision):
        raise SemsegError(
            f"The ViT {type(model).__name__} has forward hooks ({hooked}), which change what it "
            "computes: remove them, edits are made here."
        )
    row, config = FAMILIES[family], vision.config
    preprocessing = _preprocessing(row, config, processor)
    return Backbone(vision, family, fitted(preprocessing, image_size, to_side(config.patch_size)))


def _known(model: nn.Module) -> tuple[Any, str]:
    """The vision model, and the family that its config names."""
    inside = [getattr(model, name, None) for name in INSIDE]
    for one in (*inside[:1], model, *inside[1:]):
        kind = getattr(getattr(one, "config", None), "model_type", None)
        families = [name for name, row in FAMILIES.items() if kind in row.model_types]
        if one is not None and families and _has_blocks(one, FAMILIES[families[0]]):
            return one, families[0]
    kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    types = ", ".join(one for row in FAMILIES.values() for one in row.model_types)
    raise SemsegError(
        f"The ViT in memory is a {kind!r} model: give a transformers model of one of the kinds "
        f"{types}."
    )


def _has_blocks(model: Any, family: Family) -> bool:
    try:
        return len(family.blocks(model)) > 0
    except AttributeError:
        return False


def _hooked(model: nn.Module) -> str:
    """The first part with a forward hook; empty where there is none."""
    for name, part in model.named_modules():
        if part._forward_hooks or part._forward_pre_hooks:
            return name or "itself"
    return ""


def _preprocessing(row: Family, config: Any, processor: Any) -> Preprocessing:
    if processor is not None:
        try:
            return followed(dict(processor.to_dict()), row, config, row.preprocessing(config))
        except (AttributeError, TypeError, ValueError, ArithmeticError) as error:
            raise SemsegError(
                f"The image processor {type(processor).__name__} cannot be used ({error}): give "
                "one with one resize and one centre crop, or none."
            ) from error
    source = str(getattr(config, "_name_or_path", "") or "")
    if not source:
        return row.preprocessing(config)
    try:
        return preprocessing_of(source, row, config)
    except (OSError, ValueError) as error:  # a folder that is gone, a hub that is not reached
        log.warning(
            "The preprocessing of %s is not found (%s): the usual one of its family is used; give "
            "its image processor as processor= if it has another.",
            source, (str(error) or type(error).__name__).splitlines()[0],
        )  # fmt: skip
        return row.preprocessing(config)


@contextmanager
def as_it_was(model: nn.Module) -> Iterator[None]:
    """Runs a block that freezes a user's model; afterwards it trains, or not, as before."""
    parts = [(part, part.training) for part in model.modules()]
    parameters = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        yield
    finally:
        for part, training in parts:
            part.training = training
        for parameter, needs_gradient in parameters:
            parameter.requires_grad_(needs_gradient)

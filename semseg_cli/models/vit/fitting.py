"""Whether a checkpoint's weights are those that its config asks for: all, and no others."""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from semseg_cli.errors import FileError
from semseg_cli.models.weight_files import bad_place

# Parts of a vision model that play no part in the residual stream of whole images.
IDLE = ("embeddings.mask_token",)


def check_weights(ckpt: str, model: Any, info: Mapping[str, Any]) -> tuple[str, ...]:
    """The parts of the file that the model does not use, and that change nothing.

    Raises:
        FileError: weights are missing, of another shape, of NaN or infinite numbers, or not used
            though the residual stream would be another with them.
    """
    for name, in_file, by_config in sorted(info.get("mismatched_keys") or ()):
        raise FileError(
            f"The ViT {ckpt} has {name} of shape {tuple(in_file)}, its config.json asks for "
            f"{tuple(by_config)}: they do not belong together."
        )
    if lacking := sorted(info["missing_keys"]):
        raise FileError(
            f"The ViT {ckpt} lacks the weights {lacking[0]}{_more(lacking)}: the file does not "
            "fit its config.json."
        )
    for name, tensor in model.state_dict().items():
        if place := bad_place(tensor):
            raise FileError(
                f"The ViT {ckpt} holds NaN or infinite weights in {name} ({place}, as "
                f"{str(tensor.dtype).removeprefix('torch.')}): the file is bad, or needs another "
                "--dtype."
            )
    unused = sorted(info["unexpected_keys"])
    own = {name for name, _ in model.named_children()}
    if dropped := [name for name in unused if _counts(name, own, model.base_model_prefix)]:
        raise FileError(
            f"The ViT {ckpt} has the weights {dropped[0]}{_more(dropped)}, which its config.json "
            "does not use, though they change the result: correct the config."
        )
    parts = Counter(".".join(name.split(".")[:2]) for name in unused)
    return tuple(sorted(parts))


def _counts(name: str, own: Collection[str], prefix: str) -> bool:
    """Whether a weight belongs to a part that the model has and uses."""
    for whole in (name, name.removeprefix(f"{prefix}.")):  # which may be a part's name, too
        inside = whole.removeprefix("vision_model.")
        if inside.split(".")[0] in own and not inside.startswith(IDLE):
            return True
    return False


def _more(names: Collection[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""

"""Dataset folders in known layouts: one module each, recognised by content or named."""

from pathlib import Path

from semseg_cli.data.layouts import (
    ade20k,
    cityscapes,
    coco_stuff,
    parquet,
    pascal_context,
    toml_layout,
    voc2012,
)
from semseg_cli.data.layouts.layout import Entry, Found, Layout
from semseg_cli.errors import SemsegError

__all__ = ["LAYOUTS", "Entry", "Found", "Layout", "check_layout", "find_layout", "read_split"]

# The first one that recognises a root takes it: COCO-Stuff has the folders of ADE20K too, and
# Pascal Context those of VOC.
LAYOUTS: tuple[Layout, ...] = (
    toml_layout.LAYOUT,
    cityscapes.LAYOUT,
    pascal_context.LAYOUT,
    voc2012.LAYOUT,
    coco_stuff.LAYOUT,
    ade20k.LAYOUT,
    parquet.LAYOUT,
)


def find_layout(root: Path, data_format: str = "auto") -> Layout:
    """The layout of a root: the named one, or the first that recognises it.

    Raises:
        SemsegError: the root does not exist or is in no such layout; says where one seems to be.
    """
    if not root.exists():
        raise SemsegError(f"The dataset folder {root} does not exist: check --imgs-root.")
    layouts = [layout for layout in LAYOUTS if data_format in ("auto", layout.name)]
    found = _recognised(root, layouts)
    if found is not None:
        return found
    lacks = ", ".join(f"no {layout.needs} ({layout.name})" for layout in reversed(layouts))
    inside = sorted(root.iterdir()) if root.is_dir() else []
    near = [*(d for d in inside if d.is_dir()), *root.absolute().parents[:3]]
    meant = [place for place in near if _recognised(place, layouts)]
    hint = f"did you mean {meant[0]}?" if meant else "check --imgs-root and --data-format."
    raise SemsegError(f"The dataset folder {root} has {lacks}: {hint}")


def _recognised(root: Path, layouts: list[Layout]) -> Layout | None:
    return next((layout for layout in layouts if layout.is_at(root)), None)


def check_layout(root: Path, split: str, data_format: str = "auto") -> tuple[Layout, str]:
    """The layout of a root, and its own name of a split.

    Raises:
        SemsegError: the root is in no such layout, or has no such split.
    """
    layout = find_layout(root, data_format)
    own = layout.splits(root).get(split, split)
    layout.check_split(root, own)
    return layout, own


def read_split(
    root: Path, split: str, data_format: str = "auto", n_classes: int | None = None
) -> Found:
    """The files and labels of a split.

    Raises:
        SemsegError: the layout is wrong, the split missing or empty, or a class file unreadable.
    """
    layout, own = check_layout(root, split, data_format)
    found = layout.read(root, own, n_classes)
    if not found.entries:
        raise SemsegError(f"The split {split!r} of {root} holds no images: check --imgs-split.")
    return found


def setting_of(layout: Layout, root: Path, split: str) -> str:
    """The settings' name of a split that the layout calls otherwise: one name per split."""
    return next((name for name, own in layout.splits(root).items() if own == split), split)

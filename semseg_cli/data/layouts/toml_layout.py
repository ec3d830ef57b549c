"""Any folder, through a small TOML file: globs for images and masks, and what the numbers mean."""

import glob
from pathlib import Path

from semseg_cli.data.label_map import LabelMap
from semseg_cli.data.layouts.layout import (
    Found,
    Layout,
    by_name,
    check_names,
    id_names,
    is_hidden,
    pair,
    read_lines,
    require_split,
)
from semseg_cli.data.layouts.toml_description import (
    FILE_NAME,
    ZERO,
    Description,
    find_file,
    read_description,
)
from semseg_cli.errors import SemsegError

SPLIT = "{split}"
WHOLE = "all"  # the only split of a dataset whose image glob names none


def _is_at(root: Path) -> bool:
    return (
        not find_file(root).is_dir()
        and find_file(root).exists()
        and find_file(root).suffix == ".toml"
    )


def _title(root: Path) -> str:
    path = find_file(root).absolute()
    return read_description(path).name or path.parent.name


def _check_split(root: Path, split: str) -> None:
    path = find_file(root)
    said = read_description(path)
    if SPLIT not in said.images:
        require_split(path, split, [WHOLE])
    elif not _matches(path.parent, said.images, split, said.image_suffix):
        raise SemsegError(
            f"{path} has no images of the split {split!r} ({said.images}): check the glob, its "
            "[splits], --imgs-split and --lookup-split."
        )


def _read(root: Path, split: str, n_classes: int | None) -> Found:
    path = find_file(root)
    said = read_description(path)
    images = _matches(path.parent, said.images, split, said.image_suffix)
    masks = _matches(path.parent, said.masks, split, said.mask_suffix)
    if SPLIT not in said.masks:  # those of all splits lie together
        masks = {name: mask for name, mask in masks.items() if name in images}
    return Found(
        entries=pair(images, masks),
        labels=_labels(path, said, _class_names(path, said, n_classes)),
        rule=f"what the wildcards of {said.images} and {said.masks} match must agree but for "
        "image_suffix, mask_suffix and the file type",
    )


def _matches(folder: Path, pattern: str, split: str, suffix: str) -> dict[str, Path]:
    """Name -> file. A name is what the glob's wildcards cover, without suffix and file type."""
    parts = Path(pattern).parts
    n_fixed = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    fixed = folder.joinpath(*(part.replace(SPLIT, split) for part in parts[:n_fixed]))
    rest = "/".join(part.replace(SPLIT, glob.escape(split)) for part in parts[n_fixed:])
    files = sorted(path for path in fixed.glob(rest) if not path.is_dir())
    named = ((path.relative_to(fixed).with_suffix("").as_posix(), path) for path in files)
    return by_name(
        (name.removesuffix(suffix), path)
        for name, path in named
        if name.endswith(suffix) and not is_hidden(path, fixed)
    )


def _class_names(path: Path, said: Description, n_classes: int | None) -> tuple[str, ...]:
    if isinstance(said.classes, list):
        return check_names(said.classes, path)
    if said.classes is not None:
        file = path.parent / said.classes
        return check_names(read_lines(file, "expected one class name per line"), file)
    if n_classes is None:
        raise SemsegError(f"{path} has no classes: give a list of names or the name of a file.")
    return id_names(n_classes)


def _labels(path: Path, said: Description, names: tuple[str, ...]) -> LabelMap:
    offset = said.offset + (said.zero == ZERO[1])
    taken = [n for n in said.void if 1 <= n + offset <= len(names)]
    if taken:
        raise SemsegError(
            f"{path} ignores {taken[0]}, which is also the class {names[taken[0] + offset - 1]!r}: "
            "check ignore, zero, offset and classes."
        )
    return LabelMap(names, offset, said.ignored, source=path.name)


LAYOUT = Layout(
    name="toml",
    needs=FILE_NAME,
    is_at=_is_at,
    splits=lambda root: read_description(find_file(root)).splits,
    check_split=_check_split,
    read=_read,
    title=_title,
)

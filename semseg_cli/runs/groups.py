"""Which images belong together: those of a drive, a patient, a scene, which were sampled as one."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from semseg_cli.errors import UsageError
from semseg_cli.readers import read_csv

BY_PREFIX = "^[^_-]+"
MIN_PER_GROUP = 3  # images on average, for names to show groups
ALIKE = 0.35  # of the distance of any two images: consecutive ones so near are nearly identical


def group_names(images: Sequence[str], group_by: str) -> list[str]:
    """The group of every image.

    `group_by` is a regular expression, whose first group (else the whole match) names the group, or
    `FILE.csv:COLUMN`, where the first column of the file has the images.

    Raises:
        UsageError: it is neither, or has no group for some image.
    """
    path, is_file, column = group_by.rpartition(".csv:")
    found = (
        _by_column(images, Path(f"{path}.csv"), column) if is_file else _by_name(images, group_by)
    )
    if left := [image for image in images if image not in found]:
        raise UsageError(
            f"--group-by {group_by!r} has no group for {len(left)} of {len(images)} images "
            f"({', '.join(left[:3])}): every image needs one"
        )
    return [found[image] for image in images]


def _by_name(images: Sequence[str], pattern: str) -> dict[str, str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"--group-by {pattern!r} is no regular expression ({error}): give one that fits image "
            f"names, such as {BY_PREFIX!r}, or FILE.csv:COLUMN"
        ) from error
    matches = {image: compiled.search(image) for image in images}
    return {
        image: match[1] if compiled.groups else match[0]
        for image, match in matches.items()
        if match is not None and (not compiled.groups or match[1] is not None)
    }


def _by_column(images: Sequence[str], path: Path, column: str) -> Mapping[str, str]:
    rows = read_csv(path, f"--group-by: {path}", "give a CSV file of images and their groups")
    names = list(rows[0]) if rows else []
    if column not in names:
        raise UsageError(
            f"--group-by: {path} has no column {column!r}: it has {', '.join(names) or 'no rows'}"
        )
    return {row[names[0]]: row[column] for row in rows if row[column]}


def suggestion(images: Sequence[str], patches_bc: np.ndarray | None = None) -> str | None:
    """Why the images are not independent, as far as names and contents show it, and what to do.

    `patches_bc` is how many patches of each class every image has.
    """
    groups = obvious_groups(images)
    if groups:
        largest, size = groups.most_common(1)[0]
        return (
            f"Names show {len(groups)} groups of images ({largest}...: {size}), which may be "
            f"alike: --group-by '{BY_PREFIX}' takes each as one."
        )
    if patches_bc is not None and is_sequence(patches_bc):
        return (
            "Consecutive images are nearly identical, so intervals are too narrow: --group-by "
            "takes those of one drive, patient or scene as one, by a pattern that finds it in "
            f"their {_names(images)}, or by FILE.csv:COLUMN."
        )
    return None


def sampling_notes(
    images: Sequence[str], groups: Sequence[str] | None, patches_bc: np.ndarray
) -> list[str]:
    """That images are grouped, or should be, in a line; none where neither is so."""
    if groups is not None:
        from semseg_cli.runs.inference.answers import MIN_IMAGES  # scipy takes a while

        n = len(set(groups))
        few = (
            f" An interval takes {MIN_IMAGES}: {_remedy_of_few(images, n)}"
            if n < MIN_IMAGES
            else ""
        )
        noun = "group of images, taken" if n == 1 else "groups of images, each taken"
        return [f"{n} {noun} as one sample (--group-by).{few}"]
    found = suggestion(images, patches_bc)
    return [] if found is None else [found]


def _remedy_of_few(images: Sequence[str], n_groups: int) -> str:
    """What finds more groups in the names, or in a file."""
    names = _names(images)
    if len(obvious_groups(images)) > n_groups:
        return f"--group-by '{BY_PREFIX}' finds more in {names}."
    return f"give a pattern that tells more apart by {names}, or FILE.csv:COLUMN."


def _names(images: Sequence[str]) -> str:
    """What a pattern has to find something in."""
    return f"names ({images[0]}, ..., {images[-1]})"


def _beginning(image: str) -> str:
    return image.replace("-", "_").split("_")[0]


def obvious_groups(images: Sequence[str]) -> Counter[str]:
    """How many images each beginning of a name has; none where they tell no groups.

    Beginnings end at the first `_` or `-`. Numbers alone (a year, an id) tell nothing.
    """
    found = Counter(_beginning(image) for image in images)
    is_plain = all("_" not in image and "-" not in image for image in images)
    has_letters = any(not name.isdigit() for name in found)
    is_grouped = 2 <= len(found) <= len(images) / MIN_PER_GROUP
    return found if is_grouped and has_letters and not is_plain else Counter()


def is_sequence(patches_bc: np.ndarray) -> bool:
    """Whether consecutive images have nearly the same numbers of patches of each class."""
    if len(patches_bc) < 10:
        return False
    near = np.abs(np.diff(patches_bc, axis=0)).sum(axis=1).mean()
    order = np.random.default_rng(0).permutation(len(patches_bc))
    far = np.abs(np.diff(patches_bc[order], axis=0)).sum(axis=1).mean()
    return bool(far > 0 and near < ALIKE * far)
